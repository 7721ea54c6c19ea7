//! The invariant checker: whatever was done to an installation, this is what its public API must say in the
//! end of a [`Workload`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::node::eventually;
use crate::workload::{
    FUNDS, LARGE, LARGE_MAX, LARGE_REWARD, Purchase, SMALL, SMALL_REWARD, Workload,
};

/// What the events came to.
struct Decided {
    /// Decision codes by event id.
    codes: BTreeMap<String, String>,
    /// Cents of all purchases, and of all rewards.
    revenue: i64,
    rewarded: i64,
}

/// Waits until everything acknowledged is decided, then compares all that can be asked for with what
/// was sent. Panics at the first difference.
pub(crate) fn check(workload: &Workload) {
    let decided = decisions(workload);
    let rewards = rewards(workload, &decided);
    wallet(workload, &decided);
    performance(workload, &decided, rewards);
    notices(workload, &decided, rewards);
    let sent = workload.sent().len();
    println!("{} of {sent} events sent are decided, {rewards} rewards", decided.codes.len());
}

/// A1 and D1: every acknowledged event is decided, each once, and nothing that was not sent; C1: what large
/// purchases earn ends at its cap.
fn decisions(workload: &Workload) -> Decided {
    let sent = workload.sent().clone();
    assert!(sent.values().any(|purchase| purchase.is_acknowledged), "nothing was taken in");
    let events = eventually("a decision for every acknowledged event", || {
        let events = workload.shop.pages("/events")?;
        let listed: BTreeSet<_> = events.iter().map(|e| text(e, "idempotencyKey")).collect();
        let mut acknowledged = sent.iter().filter(|(_, purchase)| purchase.is_acknowledged);
        acknowledged.all(|(key, _)| listed.contains(key.as_str())).then_some(events)
    });
    let (mut keys, mut codes, mut revenue) = (BTreeSet::new(), BTreeMap::new(), 0);
    let mut tally = BTreeMap::<_, i64>::new();
    for event in &events {
        let key = text(event, "idempotencyKey");
        assert!(keys.insert(key), "listed twice: {event}");
        let Some(Purchase { amount, .. }) = sent.get(key) else { panic!("never sent: {event}") };
        assert_eq!(event["amount"], *amount, "{event}");
        let code = text(&event["decision"], "code");
        assert!(
            codes.insert(text(event, "eventId").to_owned(), code.to_owned()).is_none(),
            "{event}"
        );
        *tally.entry((*amount, code)).or_default() += 1;
        revenue += amount;
    }
    let of = |amount| tally.iter().filter(|((a, _), _)| *a == amount).map(|(_, n)| n).sum::<i64>();
    let (small, large) = (of(SMALL), of(LARGE));
    let whole = large.min(LARGE_MAX / LARGE_REWARD);
    let mut expected = BTreeMap::from([
        ((SMALL, "rewarded"), small),
        ((LARGE, "rewarded"), whole),
        ((LARGE, "clipped"), (large - whole).min(1)),
        ((LARGE, "cap_exceeded"), (large - whole - 1).max(0)),
    ]);
    expected.retain(|_, n| *n > 0);
    assert_eq!(tally, expected);
    let rewarded = small * SMALL_REWARD + (large * LARGE_REWARD).min(LARGE_MAX);
    Decided { codes, revenue, rewarded }
}

/// One reward for each event that earned one; how many there are.
fn rewards(workload: &Workload, decided: &Decided) -> usize {
    let rewards = workload.shop.pages("/rewards").expect("rewards");
    let (mut ids, mut events, mut sum) = (BTreeSet::new(), BTreeSet::new(), 0);
    for reward in &rewards {
        assert!(
            ids.insert(text(reward, "id")) && events.insert(text(reward, "eventId")),
            "{reward}"
        );
        assert_eq!(reward["status"], "pending", "{reward}");
        sum += reward["amount"].as_i64().expect("an amount");
    }
    let earned =
        decided.codes.iter().filter(|(_, code)| ["rewarded", "clipped"].contains(&&***code));
    assert_eq!(events, earned.map(|(id, _)| id.as_str()).collect());
    assert_eq!(sum, decided.rewarded);
    rewards.len()
}

/// L1: the wallet is what was paid in less the rewards, and so is the sum of its ledger, in which each
/// transaction balances.
fn wallet(workload: &Workload, decided: &Decided) {
    let path = format!("/organizations/{}/wallet", workload.shop.name("organizationId"));
    let wallet = workload.shop.get(&path);
    let now = |name: &str| wallet[name].as_i64().expect("cents");
    let expected = (FUNDS, FUNDS - decided.rewarded, decided.rewarded);
    assert_eq!((now("balance"), now("available"), now("reserved")), expected, "{wallet}");
    let mut accounts = BTreeMap::<_, i64>::new();
    let transactions = workload.shop.pages(&format!("{path}/transactions")).expect("a ledger");
    for transaction in &transactions {
        let mut sum = 0;
        for entry in transaction["entries"].as_array().expect("entries") {
            let amount = entry["amount"].as_i64().expect("cents");
            *accounts.entry(text(entry, "account")).or_default() += amount;
            sum += amount;
        }
        assert_eq!(sum, 0, "{transaction}");
    }
    let expected =
        [("external", -FUNDS), ("wallet_available", expected.1), ("wallet_reserved", expected.2)];
    assert_eq!(accounts, BTreeMap::from(expected));
}

/// `/performance` counts every event and reward once.
fn performance(workload: &Workload, decided: &Decided, rewards: usize) {
    let path = format!("/campaigns/{}/performance", workload.shop.name("campaignId"));
    let conversions = decided.codes.len();
    let totals = eventually("all conversions in /performance", || {
        let report = workload.shop.try_get(&path)?;
        let counted = report["totals"]["conversions"].as_u64().expect("a number");
        assert!(counted <= conversions as u64, "counted twice: {report}");
        (counted == conversions as u64).then(|| report["totals"].clone())
    });
    let expected = json!({
        "clicks": 0, "conversions": conversions, "revenue": decided.revenue,
        "rewards": rewards, "rewardAmount": decided.rewarded,
    });
    assert_eq!(totals, expected);
}

/// N1: each event and each reward is told in one notice, the same under the same id however often it comes.
fn notices(workload: &Workload, decided: &Decided, rewards: usize) {
    let expected = decided.codes.len() + rewards;
    let told = eventually("all notices", || {
        let told = told(workload);
        assert!(told.len() <= expected, "{} notices, {expected} expected", told.len());
        (told.len() == expected).then_some(told)
    });
    for (id, code) in &decided.codes {
        let is_rewarded = ["rewarded", "clipped"].contains(&code.as_str());
        let attempt = if is_rewarded { "verified" } else { "rejected" };
        assert!(told.contains(&(format!("action_attempt.{attempt}"), id.clone())), "{id} {code}");
        assert_eq!(told.contains(&("reward.created".to_owned(), id.clone())), is_rewarded, "{id}");
    }
}

/// Type and event of each notice about one.
fn told(workload: &Workload) -> BTreeSet<(String, String)> {
    let mut bodies = BTreeMap::new();
    for notice in workload.receiver.received() {
        let id = notice.header("webhook-id").to_owned();
        let body = bodies.entry(id).or_insert_with(|| notice.body.clone());
        assert_eq!(*body, notice.body, "one id, two notices");
    }
    let mut told = BTreeSet::new();
    for body in bodies.values() {
        let notice: Value = serde_json::from_slice(body).expect("JSON");
        let Some(event) = notice["data"]["eventId"].as_str() else { continue };
        let about = (text(&notice, "type").to_owned(), event.to_owned());
        assert!(told.insert(about), "told under two ids: {notice}");
    }
    told
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {value}"))
}
