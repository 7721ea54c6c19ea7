//! The lanes against a model of the store, in any order of things.

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
    let retry = prop_oneof![
        2 => Just(None),
        1 => (0..200i64).prop_map(Some),
        1 => (10_000..50_000i64).prop_map(Some),
    ];
    prop_oneof![
        2 => (1..3u128, prop_oneof![3 => 1..3usize, 1 => 10..30usize])
            .prop_map(|(lane, count)| Act::Make { lane, count }),
        3 => (1..6usize).prop_map(Act::Pop),
        9 => (any::<usize>(), retry, any::<u8>())
            .prop_map(|(which, retry_in_ms, pressure)| Act::End { which, retry_in_ms, pressure }),
        2 => Just(Act::Read),
        2 => any::<usize>().prop_map(Act::Load),
        1 => prop_oneof![3 => 0..200i64, 1 => 0..20_000i64].prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the order of things, nothing is lost, attempted twice at once, or before it is
    /// due; and memory stays bounded.
    #[test]
    fn everything_is_attempted_until_it_is_finished(
        acts in proptest::collection::vec(act(), 1..400),
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

/// While a page was read the window was cut: taking the page would pass over what was cut off.
#[test]
fn a_page_that_begins_after_the_cut_is_not_taken() {
    let scope = Scope { organization: OrganizationId::from_u128(1), mode: Mode::Live };
    let due = |at_ms: i64| {
        let delivery = DeliveryId::from_u128(at_ms.unsigned_abs().into());
        let endpoint = EndpointId::from_u128(1);
        Due { at_ms, key: DeliveryKey { scope, endpoint, created_at_ms: 1, delivery } }
    };
    let mut lanes = Lanes::new(100);
    lanes.found(LaneId::of(&due(1).key));
    let first = lanes.pages_wanted(1).remove(0);
    lanes.load(&first, &[due(10_000)], false);
    let second = lanes.pages_wanted(1).remove(0);
    // With the last of them the window is cut, and none is left to the store after it.
    (1..=16).for_each(|at_ms| lanes.offer(due(at_ms)));
    lanes.load(&second, &[due(10_001)], true);
    let popped: Vec<i64> = std::iter::from_fn(|| lanes.pop(20_000)).map(|d| d.at_ms).collect();
    let kept = popped.len();
    assert!((1..16).contains(&kept), "cut");
    assert_eq!(
        popped,
        (1..).take(kept).collect::<Vec<_>>(),
        "the first due, and nothing after the cut"
    );
    let third = lanes.pages_wanted(1).remove(0);
    assert!(third.from < delivery_key::due(popped[kept - 1] + 1, &due(popped[kept - 1] + 1).key));
}
