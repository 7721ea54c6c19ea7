//! What the fold knows of the state: rows as they were fetched and as it has decided since, and what of
//! that the store may not have yet.
//!
//! Most rows are asked for again and kept as they are. Events and rewards are written once and hardly
//! asked for, so they become bytes at once and are known by nothing but their id.

use std::cell::Cell;
use std::collections::VecDeque;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::key::Key;
use crate::row::Row;

/// The bytes of a key and of the row to put under it, or (`None`) to delete there.
pub type Write = (Bytes, Option<Bytes>);

/// Rows by key. A key that is not in it has not been looked at.
#[derive(Debug, Default)]
pub(crate) struct Known {
    slots: FxHashMap<Key, usize>,
    rows: Vec<Slot>,
    /// Places of `rows` that hold nothing.
    free: Vec<usize>,
    /// Places of rows that changed since the last [`Known::take`].
    changed: Vec<usize>,
    written: Written,
    /// Write sets that are not known to be in the store, oldest first.
    on_the_way: VecDeque<OnTheWay>,
    /// Write sets taken.
    sets: u64,
    /// Of these, how many are in the store.
    committed: u64,
}

#[derive(Debug)]
struct Slot {
    key: Key,
    /// `None`: there is no such row.
    row: Option<Row>,
    /// The last write set that changed it, from 1; 0 if none did.
    set: u64,
    /// Asked for since the last [`Known::shrink`].
    asked: Cell<bool>,
}

/// The bytes of a write set in the making: of rows that are written once, and at last of all others.
#[derive(Debug, Default)]
struct Written {
    bytes: Vec<u8>,
    ends: Vec<Span>,
    /// Places in `ends` by what [`once`] says.
    by_id: FxHashMap<u128, usize>,
}

/// Where a key's bytes begin and end, and behind them its row's, unless it is deleted.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    key_end: usize,
    row_end: Option<usize>,
}

/// What one write set has of rows that are written once.
#[derive(Debug)]
struct OnTheWay {
    set: u64,
    rows: usize,
    once: Vec<Write>,
    by_id: FxHashMap<u128, usize>,
}

/// The id of a row that is written once, or seldom again: ids of events and rewards and what stands for external
/// references are hashes, and do not meet.
fn once(key: &Key) -> Option<u128> {
    match key {
        Key::Event(_, id) => Some(id.to_u128()),
        Key::Reward(_, id) => Some(id.to_u128()),
        Key::External(scope, id) => {
            let whose = scope.organization.to_u128().rotate_left(1) ^ scope.mode as u128;
            Some(id.wrapping_add(whose))
        }
        _ => None,
    }
}

impl Known {
    /// What the store has under `key`.
    pub(crate) fn learn(&mut self, key: Key, row: Option<Row>) {
        self.set(key, row, 0);
    }

    /// The row under `key`; the outer `None` where it must be fetched or recalled first.
    pub(crate) fn get(&self, key: &Key) -> Option<Option<&Row>> {
        let slot = &self.rows[*self.slots.get(key)?];
        slot.asked.set(true);
        Some(slot.row.as_ref())
    }

    /// Has the write set in the making a row of the event with this id?
    pub(crate) fn has_written(&self, event: u128) -> bool {
        self.written.by_id.contains_key(&event)
    }

    /// Makes the row of `key` known if it was written and is not in the store yet.
    pub(crate) fn recall(&mut self, key: &Key) -> bool {
        let Some(id) = once(key) else { return false };
        // An id says whose row it is only together with the key: someone else may ask for it.
        let name = key.encode();
        let on_the_way = || self.on_the_way.iter().rev().find_map(|set| set.row(id, &name));
        let Some(row) = self.written.row(id, &name).or_else(on_the_way) else { return false };
        let row = row.map(|bytes| Row::decode(key, bytes)).transpose();
        self.learn(key.clone(), row.expect("what was written can be read"));
        true
    }

    /// Decided: `row` stands under `key` from now on.
    pub(crate) fn put(&mut self, key: Key, row: Option<Row>) {
        if let Some(id) = once(&key) {
            self.written.put(Some(id), &key, row.as_ref());
            if let Some(place) = self.slots.get(&key) {
                self.rows[*place].row = row;
            }
            return;
        }
        let set = self.sets + 1;
        let before = self.slots.get(&key).map_or(0, |place| self.rows[*place].set);
        let place = self.set(key, row, set);
        if before != set {
            self.changed.push(place);
        }
    }

    /// Decided: what stands under `key`, which has been looked up, or `new` where nothing does, is about to
    /// change. Not for rows that are written once.
    pub(crate) fn change(&mut self, key: Key, new: impl FnOnce() -> Row) -> &mut Row {
        debug_assert!(self.slots.contains_key(&key), "changed {key:?}, which nobody has looked up");
        let set = self.sets + 1;
        let place = match self.slots.get(&key) {
            Some(place) => *place,
            None => self.set(key, None, 0),
        };
        let slot = &mut self.rows[place];
        if slot.set != set {
            slot.set = set;
            self.changed.push(place);
        }
        slot.row.get_or_insert_with(new)
    }

    /// Ends a write set: everything put since the last call, each key once.
    pub(crate) fn take(&mut self) -> Vec<Write> {
        self.sets += 1;
        let once = self.written.ends.len();
        for place in self.changed.drain(..) {
            let Slot { key, row, .. } = &self.rows[place];
            self.written.put(None, key, row.as_ref());
        }
        let by_id = std::mem::take(&mut self.written.by_id);
        let writes = self.written.cut();
        let (set, rows, once) = (self.sets, writes.len(), writes[..once].to_vec());
        self.on_the_way.push_back(OnTheWay { set, rows, once, by_id });
        writes
    }

    /// The first `sets` write sets are in the store.
    pub(crate) fn committed(&mut self, sets: u64) {
        self.committed = self.committed.max(sets);
        while self.on_the_way.pop_front_if(|on_the_way| on_the_way.set <= sets).is_some() {}
    }

    /// Forgets what is in the store and was not asked for since the last call.
    pub(crate) fn shrink(&mut self) {
        let Self { slots, rows, free, committed, .. } = self;
        slots.retain(|_, place| {
            let slot = &rows[*place];
            let stays = slot.set > *committed || slot.asked.replace(false);
            if !stays {
                rows[*place].row = None;
                free.push(*place);
            }
            stays
        });
    }

    /// Rows that are not known to be in the store, and rows kept as more than bytes.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.on_the_way.iter().map(|set| set.rows).sum(), self.slots.len())
    }

    fn set(&mut self, key: Key, row: Option<Row>, set: u64) -> usize {
        if let Some(place) = self.slots.get(&key) {
            let slot = &mut self.rows[*place];
            (slot.row, slot.set) = (row, set);
            return *place;
        }
        let slot = Slot { key: key.clone(), row, set, asked: Cell::new(true) };
        let place = match self.free.pop() {
            Some(place) => {
                self.rows[place] = slot;
                place
            }
            None => {
                self.rows.push(slot);
                self.rows.len() - 1
            }
        };
        self.slots.insert(key, place);
        place
    }
}

impl Written {
    fn put(&mut self, id: Option<u128>, key: &Key, row: Option<&Row>) {
        let start = self.bytes.len();
        key.encode_to(&mut self.bytes);
        let key_end = self.bytes.len();
        let row_end = row.map(|row| {
            row.encode_to(&mut self.bytes);
            self.bytes.len()
        });
        let span = Span { start, key_end, row_end };
        let Some(id) = id else { return self.ends.push(span) };
        let known = self.by_id.insert(id, self.ends.len());
        match known.filter(|place| self.name(*place) == &self.bytes[start..key_end]) {
            Some(place) => {
                self.by_id.insert(id, place);
                self.ends[place] = span;
            }
            None => self.ends.push(span),
        }
    }

    /// The key's bytes of what stands at this place.
    fn name(&self, place: usize) -> &[u8] {
        let Span { start, key_end, .. } = self.ends[place];
        &self.bytes[start..key_end]
    }

    fn row(&self, id: u128, name: &[u8]) -> Option<Option<Bytes>> {
        let place = *self.by_id.get(&id)?;
        let Span { key_end, row_end, .. } = self.ends[place];
        let row = row_end.map(|row_end| Bytes::copy_from_slice(&self.bytes[key_end..row_end]));
        (self.name(place) == name).then_some(row)
    }

    /// All of it, cut from one buffer.
    fn cut(&mut self) -> Vec<Write> {
        let room = self.bytes.len();
        let all = Bytes::from(std::mem::replace(&mut self.bytes, Vec::with_capacity(room)));
        let cut = |Span { start, key_end, row_end }| {
            (all.slice(start..key_end), row_end.map(|row_end| all.slice(key_end..row_end)))
        };
        self.ends.drain(..).map(cut).collect()
    }
}

impl OnTheWay {
    fn row(&self, id: u128, name: &[u8]) -> Option<Option<Bytes>> {
        let (key, row) = &self.once[*self.by_id.get(&id)?];
        (key == name).then(|| row.clone())
    }
}
