//! Who is next: a lane per endpoint, taken in turn, so that nobody waits for another's receiver.
//! Pure.
//!
//! A lane keeps the first due deliveries of its endpoint in memory, at most twice [`WINDOW_MAX`];
//! the rest stays in the store and is read in pages. What it keeps is exactly what is pending at or
//! before `loaded_to`, so nothing is passed over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use schemas::delivery_key::{self, DeliveryKey};
use schemas::id::{DeliveryId, EndpointId};
use schemas::partition::Scope;

use crate::expand::Due;

/// Deliveries that a lane keeps in memory.
pub const WINDOW_MAX: usize = 256;
/// Below this many a lane that has more in the store asks for a page.
const WINDOW_LOW: usize = 64;

/// An endpoint and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneId {
    /// Whose.
    pub scope: Scope,
    /// Which endpoint.
    pub endpoint: EndpointId,
}

impl LaneId {
    /// The lane that a delivery belongs to.
    pub fn of(key: &DeliveryKey) -> Self {
        Self { scope: key.scope, endpoint: key.endpoint }
    }
}

/// What an attempt says of how much its receiver takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// It answered as it should: one more at once.
    Ease,
    /// Neither.
    Keep,
    /// It is slow, away or says it is too much: half as many at once.
    Back,
}

/// A page that a lane asks for: up to [`WINDOW_MAX`] due keys of the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWanted {
    /// For whom.
    pub lane: LaneId,
    /// First key of the range.
    pub from: Bytes,
    /// End of the range, exclusive.
    pub to: Bytes,
}

/// What the store has, in the order of the due keys: (due, made, delivery).
type Slot = (i64, i64, DeliveryId);

/// Every lane of one partition.
#[derive(Debug)]
pub struct Lanes {
    lanes: BTreeMap<LaneId, Lane>,
    /// Lanes that have something due and may send, in turn.
    ring: VecDeque<LaneId>,
    /// When the other lanes that may send have something due.
    wakes: BTreeSet<(i64, LaneId)>,
    /// Lanes that want a page.
    hungry: BTreeSet<LaneId>,
    in_flight_max: usize,
}

#[derive(Debug)]
struct Lane {
    window: BTreeSet<Slot>,
    /// The last due key that `window` reaches; meaningless where the store has no more.
    loaded_to: Option<Slot>,
    /// There may be pending deliveries after `loaded_to` in the store.
    more: bool,
    /// A page is being read.
    loading: bool,
    /// The first delivery left to the store while a page was being read, which may have missed it.
    missed: Option<Slot>,
    /// Being attempted, or attempted and the result not yet durable.
    busy: BTreeSet<DeliveryId>,
    in_flight: usize,
    limit: usize,
    in_ring: bool,
    wake: Option<i64>,
}

impl Lanes {
    /// No lane yet; each will send at most `in_flight_max` deliveries at once.
    pub fn new(in_flight_max: usize) -> Self {
        Self {
            lanes: BTreeMap::new(),
            ring: VecDeque::new(),
            wakes: BTreeSet::new(),
            hungry: BTreeSet::new(),
            in_flight_max: in_flight_max.max(1),
        }
    }

    /// The store has pending deliveries of this lane: the first page is wanted.
    pub fn found(&mut self, id: LaneId) {
        self.lane(id).more = true;
        self.place(id);
    }

    /// A pending delivery is durable: new, or to be tried again.
    pub fn offer(&mut self, due: Due) {
        let id = LaneId::of(&due.key);
        let lane = self.lane(id);
        lane.busy.remove(&due.key.delivery);
        lane.offer((due.at_ms, due.key.created_at_ms, due.key.delivery));
        self.place(id);
    }

    /// A delivery is finished, durably.
    pub fn release(&mut self, key: &DeliveryKey) {
        let id = LaneId::of(key);
        self.lane(id).busy.remove(&key.delivery);
        self.place(id);
        self.drop_if_idle(id);
    }

    /// The attempt of a delivery ended. It stays out of sight until [`Lanes::offer`] or
    /// [`Lanes::release`].
    pub fn attempted(&mut self, key: &DeliveryKey, pressure: Pressure) {
        let id = LaneId::of(key);
        let max = self.in_flight_max;
        let lane = self.lane(id);
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane.limit = match pressure {
            Pressure::Ease => (lane.limit + 1).min(max),
            Pressure::Keep => lane.limit,
            Pressure::Back => (lane.limit / 2).max(1),
        };
        self.place(id);
    }

    /// The delivery to attempt next, from the next lane in turn.
    pub fn pop(&mut self, now_ms: i64) -> Option<Due> {
        self.wake_up(now_ms);
        let id = self.ring.pop_front()?;
        let lane = self.lane(id);
        lane.in_ring = false;
        let (at_ms, created_at_ms, delivery) = lane.window.pop_first()?;
        lane.busy.insert(delivery);
        lane.in_flight += 1;
        self.place(id);
        self.wake_up(now_ms);
        let LaneId { scope, endpoint } = id;
        Some(Due { at_ms, key: DeliveryKey { scope, endpoint, created_at_ms, delivery } })
    }

    /// Is there something to attempt now?
    pub fn is_ready(&mut self, now_ms: i64) -> bool {
        self.wake_up(now_ms);
        !self.ring.is_empty()
    }

    /// When the next lane has something due, in milliseconds since the epoch.
    pub fn next_wake_ms(&self) -> Option<i64> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// The lanes that want a page; each is then waited for until [`Lanes::load`].
    pub fn pages_wanted(&mut self, most: usize) -> Vec<PageWanted> {
        let mut pages = Vec::new();
        while let Some(id) = self.hungry.pop_first() {
            let lane = self.lane(id);
            lane.loading = true;
            lane.missed = None;
            pages.push(lane.page(id));
            if pages.len() == most {
                break;
            }
        }
        pages
    }

    /// The answer to a wanted page: what was found, in order, and whether the range ends there.
    pub fn load(&mut self, page: &PageWanted, found: &[Due], complete: bool) {
        let lane = self.lane(page.lane);
        lane.loading = false;
        // Where the window has been cut meanwhile, the page begins too late.
        if lane.page(page.lane) == *page {
            let slots = found.iter().map(|d| (d.at_ms, d.key.created_at_ms, d.key.delivery));
            for slot in slots.filter(|slot| lane.missed.is_none_or(|missed| *slot < missed)) {
                lane.loaded_to = Some(slot);
                if !lane.busy.contains(&slot.2) {
                    lane.window.insert(slot);
                }
            }
            lane.more = !complete || lane.missed.is_some();
        }
        self.place(page.lane);
        self.drop_if_idle(page.lane);
    }

    /// The deliveries in memory, and since when the longest due one is (milliseconds since the
    /// epoch).
    pub fn backlog(&self) -> (usize, Option<i64>) {
        let waiting = self.lanes.values().map(|lane| lane.window.len() + lane.in_flight).sum();
        let oldest = self.lanes.values().filter_map(|lane| lane.window.first()).map(|s| s.0).min();
        (waiting, oldest)
    }

    fn lane(&mut self, id: LaneId) -> &mut Lane {
        let limit = self.in_flight_max;
        self.lanes.entry(id).or_insert_with(|| Lane::new(limit))
    }

    /// Puts a lane where it belongs after a change: among the wakes if it may send and is not in
    /// the ring, among the hungry if it runs low and the store has more.
    fn place(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.more && !lane.loading && lane.window.len() < WINDOW_LOW {
            self.hungry.insert(id);
        }
        if let Some(at) = lane.wake.take() {
            self.wakes.remove(&(at, id));
        }
        let next = lane.window.first().filter(|_| lane.in_flight < lane.limit);
        match next {
            Some((at, ..)) if !lane.in_ring => {
                lane.wake = Some(*at);
                self.wakes.insert((*at, id));
            }
            Some(_) => {}
            None if lane.in_ring => {
                lane.in_ring = false;
                self.ring.retain(|other| *other != id);
            }
            None => {}
        }
    }

    /// Moves lanes that have become due to the end of the ring.
    fn wake_up(&mut self, now_ms: i64) {
        while let Some((at, id)) = self.wakes.first().copied().filter(|(at, _)| *at <= now_ms) {
            self.wakes.remove(&(at, id));
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.wake = None;
                lane.in_ring = true;
                self.ring.push_back(id);
            }
        }
    }

    fn drop_if_idle(&mut self, id: LaneId) {
        let idle = |lane: &Lane| {
            lane.window.is_empty() && lane.busy.is_empty() && !lane.more && !lane.loading
        };
        if self.lanes.get(&id).is_some_and(idle) {
            self.lanes.remove(&id);
        }
    }
}

impl Lane {
    fn new(limit: usize) -> Self {
        Self {
            window: BTreeSet::new(),
            loaded_to: None,
            more: false,
            loading: false,
            missed: None,
            busy: BTreeSet::new(),
            in_flight: 0,
            limit,
            in_ring: false,
            wake: None,
        }
    }

    fn offer(&mut self, slot: Slot) {
        if self.more && self.loaded_to.is_none_or(|end| slot > end) {
            self.missed = Some(self.missed.map_or(slot, |missed| missed.min(slot)));
            return;
        }
        self.window.insert(slot);
        if self.window.len() <= 2 * WINDOW_MAX {
            return;
        }
        while self.window.len() > WINDOW_MAX {
            self.window.pop_last();
        }
        self.loaded_to = self.window.last().copied();
        self.more = true;
    }

    /// What comes after the window in the store.
    fn page(&self, id: LaneId) -> PageWanted {
        let (start, to) = delivery_key::due_of(id.scope, id.endpoint);
        let from = self.loaded_to.map_or(start, |slot| after(id, slot));
        PageWanted { lane: id, from, to }
    }
}

/// The first key after that of `slot`.
fn after(id: LaneId, (at, created_at_ms, delivery): Slot) -> Bytes {
    let LaneId { scope, endpoint } = id;
    let key = DeliveryKey { scope, endpoint, created_at_ms, delivery };
    [&delivery_key::due(at, &key)[..], &[0]].concat().into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use schemas::id::OrganizationId;
    use schemas::partition::Mode;

    use super::*;

    const IN_FLIGHT_MAX: usize = 4;

    /// A store of due keys, and an owner that is as slow as the actions make it.
    struct Model {
        lanes: Lanes,
        due: BTreeSet<Bytes>,
        /// Attempts so far, of those not finished.
        unfinished: HashMap<DeliveryId, u32>,
        under_way: Vec<Due>,
        pages: Vec<(PageWanted, Vec<Due>, bool)>,
        made: u128,
        now_ms: i64,
    }

    #[derive(Clone, Debug)]
    enum Act {
        Make { lane: u128, count: usize },
        Pop(usize),
        End { which: usize, retry_in_ms: Option<i64>, pressure: u8 },
        Read,
        Load(usize),
        Pass(i64),
    }

    impl Model {
        fn new() -> Self {
            Self {
                lanes: Lanes::new(IN_FLIGHT_MAX),
                due: BTreeSet::new(),
                unfinished: HashMap::new(),
                under_way: Vec::new(),
                pages: Vec::new(),
                made: 0,
                now_ms: 1,
            }
        }

        fn act(&mut self, act: Act) {
            match act {
                Act::Make { lane, count } => (0..count).for_each(|_| self.make(lane)),
                Act::Pop(count) => (0..count).for_each(|_| self.pop()),
                Act::End { which, retry_in_ms, pressure } => {
                    if !self.under_way.is_empty() {
                        let due = self.under_way.swap_remove(which % self.under_way.len());
                        let pressures = [Pressure::Ease, Pressure::Keep, Pressure::Back];
                        self.end(due, retry_in_ms, pressures[usize::from(pressure % 3)]);
                    }
                }
                Act::Read => self.read(),
                Act::Load(which) => {
                    if !self.pages.is_empty() {
                        let which = which % self.pages.len();
                        let (page, found, complete) = self.pages.swap_remove(which);
                        self.lanes.load(&page, &found, complete);
                    }
                }
                Act::Pass(ms) => self.now_ms += ms,
            }
        }

        fn make(&mut self, lane: u128) {
            self.made += 1;
            let key = DeliveryKey {
                scope: Scope { organization: OrganizationId::from_u128(1), mode: Mode::Live },
                endpoint: EndpointId::from_u128(lane),
                created_at_ms: self.now_ms,
                delivery: DeliveryId::from_u128(self.made),
            };
            self.unfinished.insert(key.delivery, 0);
            self.due.insert(delivery_key::due(self.now_ms, &key));
            self.lanes.offer(Due { at_ms: self.now_ms, key });
        }

        fn pop(&mut self) {
            let Some(due) = self.lanes.pop(self.now_ms) else { return };
            assert!(due.at_ms <= self.now_ms, "not before it is due");
            // What a page read too early still had: the owner sees it in the row.
            if !self.due.contains(&delivery_key::due(due.at_ms, &due.key)) {
                self.lanes.attempted(&due.key, Pressure::Keep);
                self.lanes.release(&due.key);
                return;
            }
            assert!(self.under_way.iter().all(|d| d.key.delivery != due.key.delivery), "once");
            *self.unfinished.get_mut(&due.key.delivery).expect("not finished") += 1;
            self.under_way.push(due);
            let same = self.under_way.iter().filter(|d| d.key.endpoint == due.key.endpoint);
            assert!(same.count() <= IN_FLIGHT_MAX);
        }

        fn end(&mut self, due: Due, retry_in_ms: Option<i64>, pressure: Pressure) {
            self.lanes.attempted(&due.key, pressure);
            self.due.remove(&delivery_key::due(due.at_ms, &due.key));
            match retry_in_ms {
                Some(ms) => {
                    let at_ms = self.now_ms + ms;
                    self.due.insert(delivery_key::due(at_ms, &due.key));
                    self.lanes.offer(Due { at_ms, ..due });
                }
                None => {
                    self.unfinished.remove(&due.key.delivery);
                    self.lanes.release(&due.key);
                }
            }
        }

        fn read(&mut self) {
            for page in self.lanes.pages_wanted(2) {
                let range = self.due.range(page.from.clone()..page.to.clone()).take(WINDOW_MAX);
                let found: Vec<Due> = range
                    .filter_map(|key| delivery_key::decode_due(key))
                    .map(|(at_ms, key)| Due { at_ms, key })
                    .collect();
                let complete = found.len() < WINDOW_MAX;
                self.pages.push((page, found, complete));
            }
        }

        /// Lets everything succeed until nothing happens any more.
        fn finish(&mut self) {
            for _ in 0..100_000 {
                self.read();
                self.act(Act::Load(0));
                self.pop();
                self.act(Act::End { which: 0, retry_in_ms: None, pressure: 0 });
                if self.unfinished.is_empty() && self.pages.is_empty() {
                    return;
                }
                if let Some(wake) = self.lanes.next_wake_ms() {
                    self.now_ms = self.now_ms.max(wake);
                }
            }
        }
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            2 => (1..4u128, prop_oneof![1..5usize, 200..400usize])
                .prop_map(|(lane, count)| Act::Make { lane, count }),
            3 => (1..40usize).prop_map(Act::Pop),
            6 => (any::<usize>(), proptest::option::of(0..50_000i64), any::<u8>())
                .prop_map(|(which, retry_in_ms, pressure)| Act::End { which, retry_in_ms, pressure }),
            2 => Just(Act::Read),
            2 => any::<usize>().prop_map(Act::Load),
            2 => (0..20_000i64).prop_map(Act::Pass),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the order of things, nothing is lost, attempted twice at once, or before it is
        /// due; and memory stays bounded.
        #[test]
        fn everything_is_attempted_until_it_is_finished(
            acts in proptest::collection::vec(act(), 1..80),
        ) {
            let mut model = Model::new();
            for act in acts {
                model.act(act);
                let lanes = model.lanes.lanes.len();
                prop_assert!(model.lanes.backlog().0 <= lanes * (3 * WINDOW_MAX + IN_FLIGHT_MAX));
            }
            model.finish();
            prop_assert!(model.unfinished.is_empty(), "{} are lost", model.unfinished.len());
            prop_assert!(model.lanes.lanes.is_empty(), "idle lanes are dropped");
        }
    }

    #[test]
    fn lanes_take_turns() {
        let mut model = Model::new();
        model.make(1);
        (0..3).for_each(|_| model.make(2));
        (0..2).for_each(|_| model.make(3));
        let next = |model: &mut Model| model.lanes.pop(1).map(|due| due.key.endpoint.to_u128());
        let order: Vec<u128> = std::iter::from_fn(|| next(&mut model)).collect();
        assert_eq!(order, [1, 2, 3, 2, 3, 2]);
    }

    #[test]
    fn a_restart_finds_what_is_pending() {
        let mut model = Model::new();
        (0..1_000).for_each(|_| model.make(1));
        let (_, key) = delivery_key::decode_due(model.due.first().expect("made")).expect("a key");
        model.lanes = Lanes::new(IN_FLIGHT_MAX);
        model.lanes.found(LaneId::of(&key));
        model.finish();
        assert!(model.unfinished.is_empty());
    }
}
