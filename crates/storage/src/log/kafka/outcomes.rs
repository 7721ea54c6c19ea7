//! Outcomes have numbers of their own: where they stand among Kafka's offsets.
//!
//! The first record of a number stands behind the first record of the number before (see
//! [`super::publish`]); further records of it are repeats, which may stand anywhere behind. So the
//! first record of a number is never nearer to the oldest record than the difference of their
//! numbers, and from there it is as far as there are repeats in between.

use super::Shared;
use super::place::{Place, Surveyed};
use crate::log::Bounds;
use crate::{Error, Kind};

/// Newest records among which the highest number is looked for. Repeats come in runs as long as
/// what one owner had not yet marked as published; what lies behind a longer run is seen when it is
/// read, or when something asks for a number beyond.
const TAIL_RECORDS: u64 = 1_000;

impl Shared {
    /// Bounds of a partition of outcomes, in their numbers. Blocks.
    pub(super) fn survey(&self, place: &Place) -> Result<(u64, u64), Error> {
        let (low, high) = self.probe.watermarks(place)?;
        let known = *place.surveyed();
        let mut first = known.first.filter(|(offset, _)| *offset == low);
        if first.is_none() && low < high {
            let seen = self.probe.one(place, low)?;
            first = seen.map(|seen| (seen.offset, seen.number));
        }
        let tail = known.to.max(high.saturating_sub(TAIL_RECORDS)).max(low);
        self.probe.scan(place, tail..high, |seen| {
            place.extent.end.raise(seen.number + 1);
            true
        })?;
        if let Some((_, number)) = first {
            place.extent.start.raise(number);
        }
        let mut surveyed = place.surveyed();
        *surveyed = Surveyed { to: surveyed.to.max(high), first };
        Ok((low, high))
    }

    /// Looks at every record for the highest number. Blocks, for as long as it takes.
    fn survey_all(&self, place: &Place, low: u64, high: u64) -> Result<(), Error> {
        self.probe.scan(place, low..high, |seen| {
            place.extent.end.raise(seen.number + 1);
            true
        })
    }

    /// Kafka's offset to read the outcome `from` at. Blocks.
    pub(super) fn locate(&self, place: &Place, from: u64) -> Result<u64, Error> {
        let out_of_range = || Err(Error::determinate("read", Kind::OutOfRange));
        let (low, high) = self.survey(place)?;
        if from > place.extent.end.get() {
            self.survey_all(place, low, high)?;
        }
        let end = place.extent.end.get();
        let first = place.surveyed().first;
        if from > end || first.map_or(from < end, |(_, number)| from < number) {
            return out_of_range();
        }
        if from == end {
            return Ok(high);
        }
        let nearest = first.map_or(high, |(offset, number)| offset + (from - number));
        Ok(if nearest < high { nearest } else { low })
    }

    /// Kafka's offset of the first record of an outcome that is there. Blocks.
    pub(super) fn offset_of(&self, place: &Place, number: u64) -> Result<Option<u64>, Error> {
        let (_, high) = self.survey(place)?;
        let start = self.locate(place, number)?;
        let mut found = None;
        self.probe.scan(place, start..high, |seen| {
            if seen.number == number {
                found = Some(seen.offset);
            }
            seen.number < number
        })?;
        Ok(found)
    }

    /// The number the next outcome gets, looked for with all care if it seems to be below `expected`.
    pub(super) async fn end_of_outcomes(
        self: &std::sync::Arc<Self>,
        place: &std::sync::Arc<Place>,
        expected: u64,
    ) -> Result<u64, Error> {
        let (shared, place) = (self.clone(), place.clone());
        super::blocking("bounds", move || {
            let (low, high) = shared.survey(&place)?;
            if place.extent.end.get() < expected {
                shared.survey_all(&place, low, high)?;
            }
            Ok(place.extent.end.get())
        })
        .await
    }

    /// Bounds in the port's offsets. Blocks.
    pub(super) fn bounds_of(&self, place: &Place, identity: u64) -> Result<Bounds, Error> {
        if place.topic == crate::Topic::Outcomes {
            self.survey(place)?;
            let (start, end) = (place.extent.start.get(), place.extent.end.get());
            return Ok(Bounds { identity, start, end });
        }
        let (start, end) = self.probe.watermarks(place)?;
        place.extent.start.raise(start);
        place.extent.end.raise(end);
        Ok(Bounds { identity, start, end })
    }
}
