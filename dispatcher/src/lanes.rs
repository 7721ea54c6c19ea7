//! Who is next: a lane per endpoint, taken in turn, so that nobody waits for another's receiver.
//! Pure.
//!
//! A lane keeps the first due deliveries of its endpoint in memory, at most twice [`WINDOW_MAX`];
//! the rest stays in the store and is read in pages. What it keeps is exactly what is pending at or
//! before `loaded_to`, so nothing is passed over.

#[cfg(test)]
mod model;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use schemas::delivery_key::{self, DeliveryKey};
use schemas::id::{DeliveryId, EndpointId};
use schemas::partition::Scope;

use crate::expand::Due;

/// Deliveries that a lane keeps in memory. Few under test, so that the model meets every edge.
pub const WINDOW_MAX: usize = if cfg!(test) { 8 } else { 256 };
/// Below this many a lane that has more in the store asks for a page.
const WINDOW_LOW: usize = WINDOW_MAX / 2;

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
                // It can be in the page where the machine's clock was set back meanwhile.
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
