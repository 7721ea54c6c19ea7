//! What must hold for every log: random commands and events over a small world.

use std::collections::{BTreeMap, BTreeSet};

use engine::simulation::Simulation;
use engine::{Entry, Key, Row, Rulebook};
use proptest::prelude::*;
use schemas::hash::event_id;
use schemas::id::{AktvatorId, PayoutId};
use schemas::proto::outcome::Body as Outcome;
use schemas::proto::record::Body;
use schemas::proto::reverse_event::Event;
use schemas::proto::{self, Account, PayoutAction, RewardAction};
use serde_json::{Value, json};

use crate::script::{Script, event, ms, with_defaults};
use crate::world::{self, CAMPAIGN, SCOPE, World, conversion};

/// What all rewards of the campaign may come to, in every version of the rules below.
const TOTAL_MAX: i64 = 3_000;
/// What an aktvator may earn in a calendar month of New York.
const MONTH_MAX: i64 = 700;

#[derive(Clone, Debug)]
enum Step {
    Event {
        key: u8,
        fields: Vec<String>,
    },
    Credit {
        id: u8,
        amount: i64,
    },
    Rules(usize),
    Campaign(bool),
    Aktvator(bool),
    Wait(i64),
    /// So many days later what is due by then, as far as rewards are listed up to here.
    Mature(i64),
    Move {
        key: u8,
        action: RewardAction,
    },
    /// Of an aktvator.
    Payout {
        aktvator: u128,
        minimum: i64,
    },
    /// Of the last payout, or one before it.
    MovePayout {
        back: usize,
        action: PayoutAction,
    },
    Debit(i64),
    Reverse {
        key: u8,
        amount: Option<i64>,
        reason: &'static str,
    },
}

/// Places in the list of rewards that are looked at.
const PLACES: u64 = 60;
const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

fn step() -> impl Strategy<Value = Step> {
    let fields = (
        0..2_000i64,
        prop::sample::select(vec!["AAA", "BBB", "CCC", "XXX", "L40"]),
        prop::option::of(0..3u8),
        prop::option::of(prop::sample::select(vec!["USD", "USD", "USD", "EUR"])),
        0..40u32,
    );
    let event = (any::<u8>(), fields).prop_map(|(key, (amount, code, customer, currency, day))| {
        let mut fields = vec![format!("amount={amount}"), format!("code={code}")];
        fields.extend(customer.map(|id| format!("customer=c{id}")));
        fields.extend(currency.map(|currency| format!("currency={currency}")));
        let at = ms("2026-03-10T03:30:00Z") - i64::from(day) * 43_200_000;
        fields.push(format!("at={}", schemas::time::Timestamp::from_ms(at)));
        Step::Event { key, fields }
    });
    prop_oneof![
        12 => event,
        2 => (any::<u8>(), -5..600i64).prop_map(|(id, amount)| Step::Credit { id, amount }),
        1 => (0..rules().len()).prop_map(Step::Rules),
        1 => any::<bool>().prop_map(Step::Campaign),
        1 => any::<bool>().prop_map(Step::Aktvator),
        1 => (-5_000..5_000i64).prop_map(Step::Wait),
        1 => (0..2i64).prop_map(Step::Mature),
        2 => (30..32u128, 0..60i64).prop_map(|(aktvator, minimum)| Step::Payout { aktvator, minimum }),
        3 => (0..3usize, payout_action()).prop_map(|(back, action)| Step::MovePayout { back, action }),
        1 => (0..400i64).prop_map(Step::Debit),
        2 => (any::<u8>(), action()).prop_map(|(key, action)| Step::Move { key, action }),
        2 => (any::<u8>(), prop::option::of(1..900i64), prop::sample::select(vec!["refund", "fraud"]))
            .prop_map(|(key, amount, reason)| Step::Reverse { key, amount, reason }),
    ]
}

fn action() -> impl Strategy<Value = RewardAction> {
    prop::sample::select(vec![
        RewardAction::Approve,
        RewardAction::Reject,
        RewardAction::Hold,
        RewardAction::Release,
    ])
}

fn payout_action() -> impl Strategy<Value = PayoutAction> {
    prop::sample::select(vec![
        PayoutAction::Approve,
        PayoutAction::Process,
        PayoutAction::Pay,
        PayoutAction::Pay,
        PayoutAction::Fail,
        PayoutAction::Retry,
        PayoutAction::Cancel,
    ])
}

/// All have the two caps, so that their limits hold over the whole log.
fn rules() -> Vec<Value> {
    let caps = json!([
        {"key": "total", "scope": "campaign", "metric": "amount", "limit": TOTAL_MAX},
        {"key": "month", "scope": "aktvator", "metric": "amount", "limit": MONTH_MAX,
            "period": "month"},
        {"key": "few", "scope": "customer", "metric": "count", "limit": 9, "onExceed": "reject"},
        {"key": "pace", "scope": "aktvator_customer", "metric": "amount", "limit": 300, "period": "rolling:4d"}
    ]);
    let percent =
        json!({"key": "p", "hold": {}, "reward": {"type": "percent", "bps": 1_250, "min": 3}});
    let flat = json!({"key": "f", "priority": 1, "hold": {"days": 1}, "reward": {"type": "flat", "amount": 40},
        "when": {"field": "event.amount", "op": "gte", "value": 900}});
    let tiered = json!({"key": "t", "reward": {"type": "tiered", "metric": "aktvator.revenue",
        "period": "week", "retroactive": true, "tiers": [
            {"from": 0, "reward": {"type": "percent", "bps": 500}},
            {"from": 2_000, "reward": {"type": "percent", "bps": 1_000}},
            {"from": 5_000, "reward": {"type": "flat", "amount": 200}}]}});
    let graduated = json!({"key": "g", "when": {"field": "customer.conversions", "op": "lt", "value": 4},
        "reward": {"type": "tiered", "mode": "graduated", "metric": "aktvator.revenue",
        "period": "rolling:5d", "tiers": [
            {"from": 0, "reward": {"type": "percent", "bps": 300}},
            {"from": 1_500, "reward": {"type": "percent", "bps": 1_700}}]}});
    let series = json!({"key": "s", "recurring": {"maxCount": 3, "lockTerms": true},
        "uniqueness": {"scope": ["event"]}, "reward": {"type": "flat", "amount": 9}});
    let rolling = json!({"scope": ["customer", "rule"], "window": "rolling:3d"});
    let once = json!({"scope": ["customer", "rule"], "window": "day"});
    [
        json!({"rules": [percent]}),
        json!({"rules": [flat, percent]}),
        json!({"rules": [flat, percent], "uniqueness": once}),
        json!({"rules": [tiered], "attribution": {"customerBinding": "first_conversion"}}),
        json!({"combine": "sum", "rules": [tiered, flat, series], "uniqueness": rolling,
            "attribution": {"customerBinding": "last_touch"}}),
        json!({"combine": "best", "rules": [graduated, percent, flat], "funding": {"onInsufficient": "reject"}}),
    ]
    .into_iter()
    .map(|mut rulebook| {
        rulebook["timezone"] = json!("America/New_York");
        rulebook["caps"] = caps.clone();
        with_defaults(rulebook)
    })
    .collect()
}

/// The log of `steps`, not yet decided.
fn world(steps: &[Step]) -> World {
    let mut world = Script::new().world;
    let mut now_ms = ms("2026-03-10T12:00:00Z");
    let rules = rules();
    world.append(now_ms, world::rulebook(1, now_ms, &rules[0]));
    let mut payouts = Vec::new();
    for (version, step) in (2..).zip(steps) {
        let body = match step {
            Step::Event { key, fields } => {
                let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                conversion(&format!("e{key}"), event(&fields))
            }
            Step::Credit { id, amount } => world::credit(u128::from(*id), *amount, "USD"),
            Step::Rules(which) => world::rulebook(version, now_ms, &rules[*which]),
            Step::Campaign(on) => {
                world::campaign(CAMPAIGN, version, if *on { "active" } else { "paused" })
            }
            Step::Aktvator(on) => {
                world::aktvator(30, version, if *on { "approved" } else { "banned" })
            }
            Step::Wait(by_ms) => {
                now_ms += by_ms;
                Body::Tick(proto::Tick {})
            }
            Step::Mature(days) => {
                now_ms += days * DAY_MS;
                for hour in due_hours(now_ms) {
                    let positions = (0..PLACES).collect();
                    world.append(now_ms, Body::Mature(proto::Mature { hour, positions }));
                }
                continue;
            }
            Step::Move { key, action } => Body::MoveReward(proto::MoveReward {
                command_id: u128::from(version).to_be_bytes().to_vec().into(),
                reward_id: reward_of(*key),
                action: (*action).into(),
                reason: String::new(),
            }),
            Step::Payout { .. } | Step::MovePayout { .. } | Step::Debit(_) => {
                payment(step, version, now_ms, &mut payouts)
            }
            Step::Reverse { key, amount, reason } => {
                let event = event_id(SCOPE, &format!("e{key}"));
                Body::ReverseEvent(proto::ReverseEvent {
                    command_id: (u128::from(version) << 64).to_be_bytes().to_vec().into(),
                    event: Some(Event::EventId(event.to_proto())),
                    amount: *amount,
                    reason: (*reason).to_owned(),
                    ..Default::default()
                })
            }
        };
        world.append(now_ms, body);
    }
    world
}

/// The command of a payout or a debit; `payouts` are the versions of those asked for so far.
fn payment(step: &Step, version: u64, now_ms: i64, payouts: &mut Vec<u64>) -> Body {
    let command_id = u128::from(version).to_be_bytes().to_vec().into();
    match step {
        Step::Payout { aktvator, minimum } => {
            payouts.push(version);
            Body::CreatePayout(proto::CreatePayout {
                command_id: payout_id(version),
                aktvator_id: AktvatorId::from_u128(*aktvator).to_proto(),
                cutoff_ms: now_ms - 1_000,
                minimum: *minimum,
            })
        }
        Step::MovePayout { back, action } => {
            let nth = payouts.len().saturating_sub(1 + *back);
            Body::MovePayout(proto::MovePayout {
                command_id,
                payout_id: payout_id(payouts.get(nth).copied().unwrap_or(0)),
                action: (*action).into(),
                ..Default::default()
            })
        }
        Step::Debit(amount) => Body::WalletDebit(proto::WalletDebit {
            command_id,
            amount: *amount,
            currency: "USD".into(),
            reason: String::new(),
        }),
        _ => unreachable!("no payment"),
    }
}

fn payout_id(version: u64) -> bytes::Bytes {
    (u128::from(version) << 96).to_be_bytes().to_vec().into()
}

/// Everything in this world is accepted about noon.
fn due_hours(now_ms: i64) -> impl Iterator<Item = u64> {
    let days = (0..3).map(move |days| now_ms - days * DAY_MS);
    days.flat_map(|day| (-1..2).map(move |hour| (day / HOUR_MS + hour) as u64))
}

/// The reward that one of the rules makes of an event.
fn reward_of(key: u8) -> bytes::Bytes {
    let rule = ["p", "f", "t", "g", "s"][usize::from(key) % 5];
    schemas::hash::reward_id(event_id(SCOPE, &format!("e{}", key / 5)), rule).to_proto()
}

fn ran(mut world: World, batch_max: usize) -> World {
    world.run(batch_max);
    world
}

fn check_money(world: &World) -> Result<(), TestCaseError> {
    let mut accounts: BTreeMap<i32, i64> = BTreeMap::new();
    for transaction in world.ledger() {
        prop_assert_eq!(transaction.entries.iter().map(|entry| entry.amount).sum::<i64>(), 0);
        for entry in transaction.entries {
            *accounts.entry(entry.account).or_default() += entry.amount;
        }
    }
    let balance = |account: Account| accounts.get(&account.into()).copied().unwrap_or(0);
    let wallet = world.wallet();
    prop_assert_eq!(wallet.external, balance(Account::External));
    prop_assert_eq!(wallet.available, balance(Account::WalletAvailable));
    prop_assert_eq!(wallet.reserved, balance(Account::WalletReserved));
    prop_assert_eq!(wallet.payable, balance(Account::AktvatorPayable));
    prop_assert_eq!(wallet.processing, balance(Account::PayoutProcessing));
    prop_assert_eq!(wallet.paid, balance(Account::Paid));
    prop_assert_eq!(wallet.clawback, balance(Account::Clawback));
    prop_assert_eq!(wallet.receivable, balance(Account::Receivable));
    prop_assert!(wallet.processing >= 0 && wallet.clawback >= 0 && wallet.receivable <= 0);
    prop_assert!(wallet.receivable == 0 || wallet.available == 0);
    check_accounts(world, &wallet)?;
    prop_assert!(wallet.reserved >= 0 && wallet.payable >= 0 && wallet.held >= 0);
    prop_assert!(wallet.available >= 0 && wallet.external <= 0);
    let rows = world.all(&Key::Hold(SCOPE, 0)).into_iter();
    let holds: Vec<i64> = rows
        .filter_map(|row| if let Row::Hold(hold) = row { Some(hold.amount) } else { None })
        .collect();
    prop_assert_eq!(wallet.held, holds.iter().sum::<i64>());
    prop_assert_eq!(wallet.hold_next - wallet.hold_first, holds.len() as u64);
    let payable = holds.first().is_some_and(|first| wallet.available >= *first);
    prop_assert!(!payable, "the first of the queue could have been released");
    prop_assert_eq!(world.row(&Key::Continuations), None);
    Ok(())
}

/// The accounts of all aktvators are what the wallet has, statements tell how they came about, and what went out is
/// what payouts say.
fn check_accounts(world: &World, wallet: &proto::WalletRow) -> Result<(), TestCaseError> {
    let mut sums = proto::BalanceRow::default();
    for id in (30..33).map(AktvatorId::from_u128) {
        let Some(Row::Balance(row)) = world.row(&Key::Balance(SCOPE, id)) else { continue };
        sums.reserved += row.reserved;
        sums.payable += row.payable;
        sums.processing += row.processing;
        sums.paid += row.paid;
        sums.clawback += row.clawback;
        let lines = world.statement(id);
        prop_assert_eq!(lines.len() as u64, row.lines);
        let mut balance = 0;
        for line in lines {
            balance += line.amount;
            prop_assert_eq!(line.balance, balance);
        }
        prop_assert_eq!(balance, row.payable - row.clawback);
    }
    let found = (sums.reserved, sums.payable, sums.processing, sums.paid, sums.clawback);
    let want = (wallet.reserved, wallet.payable, wallet.processing, wallet.paid, wallet.clawback);
    prop_assert_eq!(found, want);
    let rows = world.all(&Key::Payout(SCOPE, PayoutId::from_u128(0))).into_iter();
    let payouts = rows.filter_map(|row| if let Row::Payout(row) = row { Some(row) } else { None });
    let (mut processing, mut out) = (0, 0);
    for payout in payouts {
        match payout.status.as_str() {
            "paid" => out += payout.amount - payout.netted,
            "canceled" => {}
            _ => processing += payout.amount,
        }
        prop_assert!((0..=payout.amount).contains(&payout.netted), "{payout:?}");
    }
    prop_assert_eq!(processing, wallet.processing);
    prop_assert_eq!(out, wallet.paid + wallet.clawback);
    Ok(())
}

fn check_rewards(world: &World) -> Result<(), TestCaseError> {
    let zone = jiff::tz::TimeZone::get("America/New_York").expect("bundled");
    let mut months: BTreeMap<_, i64> = BTreeMap::new();
    let (mut total, mut reserved, mut payable, mut held) = (0, 0, 0, 0);
    let mut processing = 0;
    for reward in world.rewards() {
        let at = jiff::Timestamp::from_millisecond(reward.occurred_at_ms).expect("in range");
        let date = zone.to_datetime(at).date();
        let month = (reward.aktvator_id.clone(), date.year(), date.month());
        let owed = reward.amount - reward.reversed_amount;
        let left = owed - reward.clawed_back_amount;
        prop_assert!((0..=reward.amount).contains(&left), "{reward:?}");
        match (reward.status.as_str(), reward.held_reason.as_deref()) {
            ("rejected", _) => continue,
            ("pending", None) | ("held", Some("review")) => reserved += left,
            ("approved", None) => payable += owed,
            ("processing", None) => processing += owed,
            ("paid", None) => {}
            ("clawed_back", None) => prop_assert_eq!(left, 0),
            ("held", Some("insufficient_funds")) => held += left,
            ("reversed", None) => prop_assert_eq!(left, 0),
            other => prop_assert!(false, "{:?}", other),
        }
        *months.entry(month).or_default() += left;
        total += left;
    }
    prop_assert!(total <= TOTAL_MAX, "{total}");
    prop_assert!(months.values().all(|sum| *sum <= MONTH_MAX), "{months:?}");
    let wallet = world.wallet();
    let found = (wallet.reserved, wallet.payable, wallet.held, wallet.processing);
    prop_assert_eq!((reserved, payable, held, processing), found);
    Ok(())
}

fn is_repeat(outcome: &proto::Outcome) -> bool {
    matches!(&outcome.body, Some(Outcome::EventDecided(decided)) if decided.repeat)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn money_and_caps(steps in prop::collection::vec(step(), 0..160)) {
        let world = ran(world(&steps), usize::MAX);
        check_money(&world)?;
        check_rewards(&world)?;
    }

    /// However the log is cut, whatever the owner knows, and however far behind the store is.
    #[test]
    fn batches_and_replay(
        steps in prop::collection::vec(step(), 0..80),
        batch_max in 2..9usize,
        lag in 0..4usize,
    ) {
        let log = world(&steps);
        let single = ran(log.clone(), 1);
        let batched = ran(log.clone(), batch_max);
        let mut warm = log;
        warm.run_warm(batch_max, lag);
        for other in [batched, warm] {
            prop_assert_eq!(&single.rows, &other.rows);
            prop_assert_eq!(&single.outcomes, &other.outcomes);
            prop_assert_eq!(&single.log, &other.log);
        }
    }

    #[test]
    fn repeats_change_nothing(steps in prop::collection::vec(step(), 0..80)) {
        let once = ran(world(&steps), usize::MAX);
        let mut twice = once.clone();
        let log = once.log.clone();
        let repeated = log.iter().filter(|bytes| {
            let entry = engine::Entry::decode(0, (*bytes).clone()).expect("decodable");
            // By then more may be due.
            !matches!(entry.body, engine::entry::Body::Tick | engine::entry::Body::Mature(_))
        });
        twice.log.extend(repeated.cloned());
        twice.run(7);
        prop_assert_eq!(&once.rows, &twice.rows);
        prop_assert!(twice.outcomes[once.outcomes.len()..].iter().all(is_repeat));
    }

    /// What is decided before a change of rules does not depend on it.
    #[test]
    fn a_change_reaches_only_what_follows(
        steps in prop::collection::vec(step(), 0..60),
        at in 0..60usize,
    ) {
        let at = at.min(steps.len());
        let before = ran(world(&steps[..at]), 5);
        let mut changed = steps.clone();
        changed.insert(at, Step::Rules(1));
        let after = ran(world(&changed), 5);
        prop_assert_eq!(&after.outcomes[..count(&before)], &before.outcomes[..count(&before)]);
    }

    /// Trying a rulebook on events comes to what deciding them comes to.
    #[test]
    fn a_trial_is_what_would_have_been(
        steps in prop::collection::vec(step(), 0..90),
        which in 0..rules().len(),
    ) {
        let is_event = |step: &Step| matches!(step, Step::Event { .. } | Step::Wait(_));
        let steps: Vec<Step> = steps.into_iter().filter(is_event).collect();
        let mut decided = Script::new().world;
        decided.append(ms("2026-03-10T12:00:00Z"), world::rulebook(1, 0, &rules()[which]));
        decided.append(ms("2026-03-10T12:00:00Z"), world::credit(1, 1 << 50, "USD"));
        decided.run(1);
        let catalog = decided.clone();
        let log = world(&steps).log;
        let entries = log.iter().map(|bytes| Entry::decode(0, bytes.clone()).expect("a record"));
        let mut seen = BTreeSet::new();
        let is_first = |entry: &Entry| entry.claim().is_some_and(|claim| seen.insert(claim));
        let entries: Vec<Entry> =
            entries.filter(is_first).map(|entry| Entry { is_new: true, ..entry }).collect();
        decided.log.extend(entries.iter().map(|entry| entry.bytes.clone()));
        decided.run(1);
        let made = decided.rewards();
        let amount = made.iter().map(|reward| reward.amount).sum::<i64>();
        let tried = tried(&catalog, &rules()[which], &entries);
        let all = tried.totals().all;
        prop_assert_eq!((all.rewards, all.amount), (made.len() as u64, amount));
        prop_assert_eq!(tried.totals().events, entries.len() as u64);
    }
}

/// Outcomes of a log up to the first that may be of a continuation, which was appended behind it.
fn count(world: &World) -> usize {
    let may_continue = |outcome: &proto::Outcome| {
        matches!(outcome.body, Some(Outcome::RewardReleased(_) | Outcome::EventReversed(_)))
    };
    world.outcomes.iter().position(may_continue).unwrap_or(world.outcomes.len())
}

/// What comes of trying a rulebook on events.
fn tried(catalog: &World, rulebook: &Value, entries: &[Entry]) -> Simulation {
    let json = serde_json::to_vec(rulebook).expect("json");
    let rulebook = Rulebook::compile(json.into()).expect("valid");
    let mut tried = Simulation::new(SCOPE, CAMPAIGN, std::sync::Arc::new(rulebook));
    loop {
        let wanted = tried.wants(entries);
        if wanted.is_empty() {
            break;
        }
        wanted.into_iter().for_each(|key| tried.learn(key.clone(), catalog.row(&key)));
    }
    tried.decide(entries);
    tried
}
