//! One partition of one topic as this process knows it: its bounds, and who reads it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::cursor::Cursor;
use crate::Topic;
use crate::marks::Extent;

/// Readers of one partition that keep a position of their own; more of them wait for each other.
/// Each is one client of the brokers for all partitions: the fold or the two that tell outcomes,
/// and one to spare.
pub(super) const LANES: usize = 3;

/// A partition.
pub(super) struct Place {
    pub(super) topic: Topic,
    /// The Kafka topic's name.
    pub(super) name: Arc<str>,
    pub(super) number: u16,
    /// What is known to be there, in the port's offsets; never lowered.
    pub(super) extent: Extent,
    /// Of outcomes: what the bounds above were made from.
    pub(super) surveyed: Mutex<Surveyed>,
    readers: Arc<Semaphore>,
    slots: Mutex<Slots>,
}

/// Which of Kafka's offsets were looked at.
#[derive(Clone, Copy, Default)]
pub(super) struct Surveyed {
    /// Every record below this was looked at, or is older than what a survey looks at.
    pub(super) to: u64,
    /// The oldest record that was looked at, and its number.
    pub(super) first: Option<(u64, u64)>,
}

#[derive(Default)]
struct Slots {
    of_lane: [Slot; LANES],
    uses: u64,
}

#[derive(Default)]
struct Slot {
    /// None when there never was one, or it is held.
    cursor: Option<Cursor>,
    is_held: bool,
    /// Not used since the last round of [`Place::rest`].
    is_idle: bool,
    last_use: u64,
}

impl Place {
    pub(super) fn new(topic: Topic, name: Arc<str>, number: u16) -> Self {
        Self {
            topic,
            name,
            number,
            extent: Extent::default(),
            surveyed: Mutex::default(),
            readers: Arc::new(Semaphore::new(LANES)),
            slots: Mutex::default(),
        }
    }

    /// The number as Kafka has it.
    pub(super) fn partition(&self) -> i32 {
        i32::from(self.number)
    }

    /// The cursor that stands at `from`; else the one that was used least lately, to be moved.
    pub(super) async fn hold(self: &Arc<Self>, from: u64) -> Held {
        // The semaphore is never closed.
        let permit = self.readers.clone().acquire_owned().await.ok();
        let mut slots = self.slots();
        slots.uses += 1;
        let uses = slots.uses;
        let stands = |slot: &Slot| slot.cursor.as_ref().is_some_and(|c| c.next() == Some(from));
        let free = |(_, slot): &(usize, &Slot)| !slot.is_held;
        let numbered = || slots.of_lane.iter().enumerate().filter(free);
        let at = numbered().find(|(_, slot)| stands(slot));
        let lane = at.or_else(|| numbered().min_by_key(|(_, slot)| slot.last_use));
        let lane = lane.map_or(0, |(lane, _)| lane);
        let slot = &mut slots.of_lane[lane];
        slot.is_held = true;
        slot.is_idle = false;
        slot.last_use = uses;
        let cursor = slot.cursor.take();
        drop(slots);
        Held { place: self.clone(), lane, cursor, _permit: permit }
    }

    /// Whether a free cursor stands at `from`.
    pub(super) fn stands_at(&self, from: u64) -> bool {
        let slots = self.slots();
        slots.of_lane.iter().any(|s| s.cursor.as_ref().is_some_and(|c| c.next() == Some(from)))
    }

    /// Gives up cursors that nobody has used since the last call, with what was read ahead for them.
    /// Blocks for a moment.
    pub(super) fn rest(&self) {
        for slot in self.slots().of_lane.iter_mut().filter(|slot| !slot.is_held) {
            if std::mem::replace(&mut slot.is_idle, true) {
                slot.cursor = None;
            }
        }
    }

    pub(super) fn surveyed(&self) -> MutexGuard<'_, Surveyed> {
        self.surveyed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cursor in use by one reader, given back when dropped.
pub(super) struct Held {
    pub(super) place: Arc<Place>,
    pub(super) lane: usize,
    pub(super) cursor: Option<Cursor>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut slots = self.place.slots();
        let slot = &mut slots.of_lane[self.lane];
        slot.is_held = false;
        slot.cursor = self.cursor.take();
    }
}
