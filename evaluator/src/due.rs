//! Says what has become due: holding periods of rewards, and reversals whose event did not come.

use std::collections::BTreeMap;

use engine::Key;
use schemas::proto::{self, Mature, Record, record::Body};
use storage::error::Error;
use storage::state::{KeyRange, Shard};

use crate::commit::append;
use crate::partition::Context;

/// Rows looked at in one pass; what is left comes with the next.
const ROWS_MAX: usize = 1_000;
/// Places in one record.
const PLACES_MAX: usize = 100;
const HOUR_MS: i64 = 3_600_000;

/// Appends commands for what is due in hours that have begun. What was appended before and is not decided
/// yet may be appended again: a repeat does nothing.
pub(crate) async fn mature(context: &Context, shard: Shard) -> Result<(), Error> {
    let now_ms = context.clock.now_ms();
    let Ok(hour) = u64::try_from(now_ms / HOUR_MS) else { return Ok(()) };
    let (from, to) = Key::due_range(hour);
    let rows = context.state.scan(shard, KeyRange { from, to }, false, ROWS_MAX).await?;
    let mut places = BTreeMap::<_, Vec<u64>>::new();
    for (scope, hour, place) in rows.iter().filter_map(|(key, _)| Key::due_parts(key)) {
        places.entry((scope, hour)).or_default().push(place);
    }
    let mut commands = Vec::new();
    for ((scope, hour), places) in places {
        commands.extend(places.chunks(PLACES_MAX).map(|positions| Record {
            organization: scope.organization.to_proto(),
            mode: proto::Mode::from(scope.mode).into(),
            accepted_at_ms: now_ms,
            body: Some(Body::Mature(Mature { hour, positions: positions.to_vec() })),
        }));
    }
    append(&context.log, shard, commands.into_iter()).await
}
