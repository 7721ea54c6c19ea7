//! Which claims, uniqueness slots and counters certainly do not exist, so that an event never seen
//! before needs no read.
//!
//! On take-over nothing is known and every key is read. A scan of the committed rows runs behind, and
//! what is decided meanwhile is noted as it happens; once the scan has reached the end the filter
//! knows every key there is and is switched on. Keys that are deleted later stay in it, which costs
//! a read and nothing else.

use std::hash::Hasher;
use std::time::Duration;

use bytes::Bytes;
use engine::Key;
use engine::calendar::{Bucket, Period};
use engine::key::Slot;
use rustc_hash::FxHasher;
use schemas::id::{CampaignId, ConversionEventId, OrganizationId};
use schemas::partition::{Mode, Scope};
use storage::state::{KeyRange, Shard, StateStore};
use tokio::sync::mpsc;

use crate::filter::Filter;
use crate::running::Running;

/// Rows read in one step of the scan.
const PAGE_ROWS: usize = 2_000;
/// Pages on their way from the scan to the owner.
const PAGES_QUEUED_MAX: usize = 4;
/// The wait before a page that could not be read is read again.
const PAGE_RETRY: Duration = Duration::from_secs(1);
/// Bytes of a key before its kind: organization and mode.
const SCOPE_LEN: usize = 17;

/// The filter, and how far it is.
#[derive(Debug)]
pub(crate) struct Claims {
    filter: Filter,
    bytes_max: usize,
    kinds: Kinds,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Rows that were there before are still being read.
    Rebuilding { pages: mpsc::Receiver<Page>, _scan: Running },
    /// Every key there is was added.
    On,
    /// More keys than the bound allows: every key is read.
    Off,
}

#[derive(Debug)]
enum Page {
    Hashes(Vec<u64>),
    End,
}

impl Claims {
    /// Knows nothing yet, and starts to read what is committed in `shard`.
    pub(crate) fn rebuild(state: StateStore, shard: Shard, bytes_max: usize) -> Self {
        let (sender, pages) = mpsc::channel(PAGES_QUEUED_MAX);
        let scan = Running::spawn("claim-scan", scan(state, shard, sender));
        let state = State::Rebuilding { pages, _scan: scan };
        Self { filter: Filter::default(), bytes_max, kinds: Kinds::new(), state }
    }

    /// True where no row of this key was ever written, committed or not.
    pub(crate) fn rule_out(&self, key: &Key) -> bool {
        matches!(self.state, State::On)
            && hash_of(key).is_some_and(|hash| !self.filter.may_contain(hash))
    }

    /// A decision writes this key.
    pub(crate) fn note(&mut self, key: &[u8]) {
        if let Some(hash) = hash_of_bytes(key, &self.kinds) {
            self.add(hash);
        }
    }

    /// Takes in what the scan has read so far.
    pub(crate) fn absorb(&mut self) {
        while let State::Rebuilding { pages, .. } = &mut self.state {
            match pages.try_recv() {
                Ok(page) => self.take(page),
                Err(_) => return,
            }
        }
    }

    /// Waits for the scan's next page and takes it in; for ever where there is no scan.
    pub(crate) async fn absorb_next(&mut self) {
        let State::Rebuilding { pages, .. } = &mut self.state else {
            return std::future::pending().await;
        };
        match pages.recv().await {
            Some(page) => self.take(page),
            None => self.switch_off(),
        }
    }

    /// Bytes the filter takes.
    pub(crate) fn bytes(&self) -> usize {
        self.filter.bytes()
    }

    fn take(&mut self, page: Page) {
        match page {
            Page::Hashes(hashes) => hashes.into_iter().for_each(|hash| self.add(hash)),
            Page::End if matches!(self.state, State::Rebuilding { .. }) => self.state = State::On,
            Page::End => {}
        }
    }

    fn add(&mut self, hash: u64) {
        // A counter is written again and again, and must not fill the filter with itself.
        if matches!(self.state, State::Off) || self.filter.may_contain(hash) {
            return;
        }
        self.filter.add(hash);
        if self.filter.bytes() > self.bytes_max {
            tracing::warn!(bytes_max = self.bytes_max, "claim filter is full, reading every key");
            self.switch_off();
        }
    }

    fn switch_off(&mut self) {
        self.filter = Filter::default();
        self.state = State::Off;
    }
}

/// Reads every row the filter is about, and says when it has reached the end.
async fn scan(state: StateStore, shard: Shard, pages: mpsc::Sender<Page>) {
    let kinds = Kinds::new();
    let mut from = Some(Bytes::new());
    while let Some(start) = from {
        let range = KeyRange { from: start.clone(), to: end_of_keys() };
        let rows = match state.scan(shard, range, false, PAGE_ROWS).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "claim scan failed, trying again");
                tokio::time::sleep(PAGE_RETRY).await;
                from = Some(start);
                continue;
            }
        };
        from = rows.last().and_then(|(key, _)| after(key, &kinds.all));
        let hashes = rows.iter().filter_map(|(key, _)| hash_of_bytes(key, &kinds)).collect();
        if pages.send(Page::Hashes(hashes)).await.is_err() {
            return;
        }
    }
    // The owner may be gone, and then nobody waits for the end.
    let _ = pages.send(Page::End).await;
}

/// Where to read on after `last`: what the filter is not about is jumped over.
fn after(last: &[u8], kinds: &[u8]) -> Option<Bytes> {
    if last.len() <= SCOPE_LEN {
        return Some([last, &[0]].concat().into());
    }
    let (scope, kind) = (&last[..SCOPE_LEN], last[SCOPE_LEN]);
    match kinds.iter().find(|wanted| **wanted >= kind) {
        Some(wanted) if *wanted == kind => Some([last, &[0]].concat().into()),
        Some(wanted) => Some([scope, &[*wanted]].concat().into()),
        None => successor(scope),
    }
}

/// The first key after all that begin with `prefix`; `None` where there is none.
pub(crate) fn successor(prefix: &[u8]) -> Option<Bytes> {
    let cut = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut next = prefix[..=cut].to_vec();
    next[cut] += 1;
    Some(next.into())
}

/// Above every key: an organization's bytes are never all ones.
pub(crate) fn end_of_keys() -> Bytes {
    Bytes::from_static(&[u8::MAX; SCOPE_LEN + 1])
}

/// The kinds of row that new events ask for and mostly do not find, as bytes of a key.
#[derive(Debug)]
struct Kinds {
    event: u8,
    /// Ascending.
    all: Vec<u8>,
}

impl Kinds {
    fn new() -> Self {
        let scope = Scope { organization: OrganizationId::from_u128(0), mode: Mode::Live };
        let bucket = Bucket { period: Period::Lifetime, index: 0 };
        let slot = Slot { campaign: CampaignId::from_u128(0), of: 0, bucket, subject: 0 };
        let kind = |key: Key| key.encode()[SCOPE_LEN];
        let event = kind(Key::Event(scope, ConversionEventId::from_u128(0)));
        let mut all = vec![event, kind(Key::Counter(scope, slot)), kind(Key::Unique(scope, slot))];
        all.sort_unstable();
        Self { event, all }
    }
}

/// What the filter remembers of a key, if it is about such keys.
fn hash_of(key: &Key) -> Option<u64> {
    match key {
        Key::Event(_, id) => Some(mix(&id.to_bytes())),
        Key::Counter(..) | Key::Unique(..) => Some(mix(&key.encode())),
        _ => None,
    }
}

/// The same of an encoded key. Event ids are hashes of their scope already.
fn hash_of_bytes(key: &[u8], kinds: &Kinds) -> Option<u64> {
    let (head, id) = key.split_at_checked(SCOPE_LEN + 1)?;
    match head[SCOPE_LEN] {
        kind if kind == kinds.event => Some(mix(id)),
        kind if kinds.all.contains(&kind) => Some(mix(key)),
        _ => None,
    }
}

/// Spreads the hash over all 64 bits: SplitMix64's finalizer (Steele, Lea, Flood 2014).
fn mix(bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    let mut z = hasher.finish();
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::id::RewardId;

    fn scope() -> Scope {
        Scope { organization: OrganizationId::from_u128(7), mode: Mode::Test }
    }

    #[test]
    fn a_key_and_its_bytes_hash_alike() {
        let kinds = Kinds::new();
        let event = Key::Event(scope(), ConversionEventId::from_u128(1 << 90 | 5));
        let bucket = Bucket { period: Period::Month, index: -3 };
        let slot = Slot { campaign: CampaignId::from_u128(4), of: 5, bucket, subject: 6 };
        for key in [event, Key::Counter(scope(), slot), Key::Unique(scope(), slot)] {
            assert!(hash_of(&key).is_some());
            assert_eq!(hash_of(&key), hash_of_bytes(&key.encode(), &kinds));
        }
        let reward = Key::Reward(scope(), RewardId::from_u128(1));
        assert_eq!(hash_of(&reward), None);
        assert_eq!(hash_of_bytes(&reward.encode(), &kinds), None);
    }

    #[test]
    fn the_scan_goes_on_behind_what_it_read() {
        let kinds = [3, 9];
        let key = |kind: u8| [&[1; SCOPE_LEN][..], &[kind, 5]].concat();
        let expected = |kind: u8| Some(Bytes::from([&[1; SCOPE_LEN][..], &[kind]].concat()));
        assert_eq!(after(&key(3), &kinds), Some([&key(3)[..], &[0]].concat().into()));
        assert_eq!(after(&key(1), &kinds), expected(3));
        assert_eq!(after(&key(4), &kinds), expected(9));
        let mut next_scope = [1; SCOPE_LEN].to_vec();
        next_scope[SCOPE_LEN - 1] = 2;
        assert_eq!(after(&key(10), &kinds), Some(next_scope.into()));
        assert_eq!(successor(&[u8::MAX; 3]), None);
        assert_eq!(successor(&[4, u8::MAX]), Some(Bytes::from_static(&[5])));
    }
}
