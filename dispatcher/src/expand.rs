//! From notices to deliveries: one for every active endpoint that subscribed to the type. Pure.

use schemas::delivery_key::DeliveryKey;
use schemas::entity::Endpoint;

use crate::notice::Notice;
use crate::rows::{self, Writes};

/// A new pending delivery: where its row is, and when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When its next attempt is due, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Which delivery.
    pub key: DeliveryKey,
}

/// Adds to `writes` what makes the deliveries of `notices` to `endpoints`, and to `dues` when they
/// are due, which is at `now_ms`.
///
/// A payload that nobody subscribed to is not rendered.
pub fn expand(
    notices: &[Notice],
    endpoints: &[Endpoint],
    now_ms: i64,
    writes: &mut Writes,
    dues: &mut Vec<Due>,
) {
    for notice in notices {
        let wants = |e: &&Endpoint| e.active && notice.kind.is_wanted_by(&e.subscribed_events);
        let mut wanting = endpoints.iter().filter(wants).peekable();
        if wanting.peek().is_none() {
            continue;
        }
        let payload = notice.payload();
        for endpoint in wanting {
            let (key, row) = rows::pending(notice, payload.clone(), endpoint.id, now_ms);
            rows::insert(&key, &row, writes);
            dues.push(Due { at_ms: row.due_at_ms, key });
        }
    }
}
