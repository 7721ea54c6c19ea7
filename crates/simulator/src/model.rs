//! What should come of a log: a naive reading of the rules, one record after another, with no batch, no
//! store, no plan and none of the engine's code.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use schemas::hash;
use schemas::id::{ConversionEventId, OrganizationId, RewardId};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, ConversionEvent, Record, record::Body};
use schemas::time::Timestamp;
use serde_json::Value;

/// Any id, as its bytes.
type Id = Vec<u8>;
const DAY_MS: i64 = 86_400_000;
/// A click may seem to come so much after the event it brought.
const CLOCKS_DIFFER_MS: i64 = 5 * 60 * 1_000;

/// What the outside is told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Decided { event: ConversionEventId, code: String, reward: Option<Reward>, repeat: bool },
    Credited { amount: i64, available: i64 },
    Released { reward: RewardId, amount: i64 },
    CampaignCreated(Id),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reward {
    pub(crate) id: RewardId,
    pub(crate) amount: i64,
    pub(crate) held: bool,
}

/// Figures of one campaign, as `/performance` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) clicks: i64,
    pub(crate) conversions: i64,
    pub(crate) revenue: i64,
    pub(crate) rewards: i64,
    pub(crate) reward_amount: i64,
}

/// One organization in one mode.
#[derive(Default)]
pub(crate) struct Books {
    /// Id to version, status and action type, of whatever the catalog commands.
    states: BTreeMap<Id, (u64, String)>,
    gigs: BTreeMap<Id, BTreeMap<Id, (u64, String, String)>>,
    rulebooks: BTreeMap<Id, BTreeMap<u64, (i64, Value)>>,
    /// Link id or code to version, campaign, aktvator.
    keys: BTreeMap<Id, (u64, Id, Id)>,
    fingerprints: BTreeMap<ConversionEventId, Id>,
    counters: BTreeMap<String, i64>,
    uniques: BTreeSet<String>,
    credits: BTreeSet<Id>,
    pub(crate) available: i64,
    pub(crate) reserved: i64,
    holds: VecDeque<(RewardId, i64)>,
    holds_begin: u64,
    pub(crate) sums: BTreeMap<Id, Sums>,
}

/// The whole fold.
pub(crate) struct Model {
    pub(crate) books: BTreeMap<Scope, Books>,
    /// Held rewards released by one record.
    pub(crate) holds_per_step: usize,
}

impl Model {
    pub(crate) fn new(holds_per_step: u32) -> Self {
        Self { books: BTreeMap::new(), holds_per_step: holds_per_step as usize }
    }

    /// What `record` tells the outside; nothing where it is not a record.
    pub(crate) fn fold(&mut self, record: &Record) -> Vec<Told> {
        let Some(organization) = OrganizationId::from_proto(&record.organization) else {
            return Vec::new();
        };
        let mode = if record.mode() == proto::Mode::Live { Mode::Live } else { Mode::Test };
        let scope = Scope { organization, mode };
        let steps = self.holds_per_step;
        let books = self.books.entry(scope).or_default();
        match record.body.as_ref() {
            Some(Body::Conversion(event)) => vec![books.event(event, record.accepted_at_ms)],
            Some(Body::WalletCredit(credit)) => books.credit(credit, steps),
            Some(Body::ReleaseHolds(release)) if release.hold_first == books.holds_begin => {
                books.release(steps)
            }
            Some(Body::Campaign(c)) => books.campaign(c),
            Some(body) => {
                books.command(body);
                Vec::new()
            }
            None => Vec::new(),
        }
    }
}

impl Books {
    /// The amount of the reward that is released next.
    pub(crate) fn first_held(&self) -> Option<i64> {
        self.holds.front().map(|(_, amount)| *amount)
    }

    fn campaign(&mut self, c: &proto::CampaignState) -> Vec<Told> {
        let first = !self.states.contains_key(&c.id.to_vec());
        self.state(&c.id, c.version, &c.status);
        if first { vec![Told::CampaignCreated(c.id.to_vec())] } else { Vec::new() }
    }

    fn state(&mut self, id: &[u8], version: u64, status: &str) {
        let state = self.states.entry(id.to_vec()).or_default();
        if version > state.0 {
            *state = (version, status.to_owned());
        }
    }

    fn command(&mut self, body: &Body) {
        match body {
            Body::Aktvator(a) => self.state(&a.id, a.version, &a.status),
            Body::Gig(g) => {
                let gigs = self.gigs.entry(g.campaign_id.to_vec()).or_default();
                let gig = gigs.entry(g.id.to_vec()).or_default();
                if g.version > gig.0 {
                    *gig = (g.version, g.status.clone(), g.action_type.clone());
                }
            }
            Body::Rulebook(r) => {
                let versions = self.rulebooks.entry(r.campaign_id.to_vec()).or_default();
                let json = serde_json::from_slice(&r.json).unwrap_or_default();
                versions.entry(r.version).or_insert((r.effective_from_ms, json));
            }
            Body::Link(l) => {
                self.key(&l.id, l.version, &l.campaign_id, &l.aktvator_id);
                self.key(l.code.as_bytes(), l.version, &l.campaign_id, &l.aktvator_id);
            }
            Body::Code(c) => self.key(c.code.as_bytes(), c.version, &c.campaign_id, &c.aktvator_id),
            _ => {}
        }
    }

    fn key(&mut self, key: &[u8], version: u64, campaign: &[u8], aktvator: &[u8]) {
        let known = self.keys.entry(key.to_vec()).or_default();
        if version > known.0 {
            *known = (version, campaign.to_vec(), aktvator.to_vec());
        }
    }

    fn event(&mut self, event: &ConversionEvent, accepted_ms: i64) -> Told {
        let id = ConversionEventId::from_proto(&event.event_id).expect("the edge writes ids");
        let repeat = self.fingerprints.get(&id).map(|first| first[..] == event.fingerprint[..]);
        if let Some(same) = repeat {
            let code = if same { "duplicate" } else { "idempotency_conflict" }.to_owned();
            return Told::Decided { event: id, code, reward: None, repeat: true };
        }
        self.fingerprints.insert(id, event.fingerprint.to_vec());
        let (code, reward) = match self.judge(event, accepted_ms, id) {
            Ok((code, reward)) => (code, Some(reward)),
            Err(code) => (code, None),
        };
        Told::Decided { event: id, code: code.to_owned(), reward, repeat: false }
    }

    /// The code and the reward, or the code of why there is none.
    fn judge(
        &mut self,
        event: &ConversionEvent,
        accepted_ms: i64,
        id: ConversionEventId,
    ) -> Result<(&'static str, Reward), &'static str> {
        let named = |key: Option<&[u8]>| key.map(|key| self.keys.get(key).cloned());
        let link = named(event.attribution_link_id.as_deref());
        let click = named(event.click.as_ref().map(|click| &click.link_id[..]));
        let code = event.attribution_code.as_ref().map(|code| code.to_uppercase());
        let code = named(code.as_ref().map(String::as_bytes));
        let first = [&link, &click, &code].into_iter().flatten().flatten().next();
        let campaign = event.campaign_id.as_ref().map(|id| id.to_vec());
        let campaign =
            campaign.or(first.map(|found| found.1.clone())).ok_or("unknown_attribution")?;
        let (_, status) = self.states.get(&campaign).ok_or("campaign_not_active")?;
        ensure(status == "active", "campaign_not_active")?;
        let gigs: Vec<_> =
            self.gigs.get(&campaign).into_iter().flatten().map(|gig| gig.1).collect();
        let gigs: Vec<_> = gigs.into_iter().filter(|gig| gig.2 == event.event_type).collect();
        ensure(!gigs.is_empty(), "event_type_mismatch")?;
        ensure(gigs.iter().any(|gig| gig.1 == "published"), "gig_closed")?;
        let versions = self.rulebooks.get(&campaign).into_iter().flatten().rev();
        let in_force = versions.map(|version| version.1).find(|(from, _)| *from <= accepted_ms);
        let rules = in_force.ok_or("conditions_not_met")?.1.clone();
        let occurred_ms = event.occurred_at_ms.unwrap_or(accepted_ms);
        let terms = &rules["attribution"];
        let late_ms = terms["lateEventMaxDays"].as_i64().unwrap_or_default() * DAY_MS;
        ensure(accepted_ms - occurred_ms <= late_ms, "late_event")?;
        let here = |named: Option<Option<(u64, Id, Id)>>, failures: &mut Vec<&'static str>| {
            let found = named?.filter(|found| found.1 == campaign);
            failures.extend(found.is_none().then_some("unknown_attribution"));
            found.map(|found| found.2)
        };
        let mut failures = Vec::new();
        let link = here(link, &mut failures);
        let mut click = here(click, &mut failures);
        let look_back_ms = terms["lookbackDays"].as_i64().unwrap_or_default() * DAY_MS;
        let clicked_ms = event.click.as_ref().map_or(0, |click| click.clicked_at_ms);
        let click_age_ms = occurred_ms - clicked_ms;
        if click.is_some() && !(-CLOCKS_DIFFER_MS..=look_back_ms).contains(&click_age_ms) {
            failures.push("attribution_expired");
            click = None;
        }
        let code = here(code, &mut failures);
        if let (Some(link), Some(code)) = (&link, &code) {
            ensure(link == code, "attribution_conflict")?;
        }
        // Every rulebook drawn says that a code beats a click.
        let found = link.or(code).or(click);
        let aktvator = found.ok_or(*failures.first().unwrap_or(&"unknown_attribution"))?;
        self.conversion(&campaign, event);
        let approved = self.states.get(&aktvator).is_some_and(|state| state.1 == "approved");
        ensure(approved, "not_eligible")?;
        self.rules(event, &rules, &campaign, &aktvator, occurred_ms, id)
    }

    /// The first rule that matches, by priority; of those that do not, the one that came furthest.
    fn rules(
        &mut self,
        event: &ConversionEvent,
        rulebook: &Value,
        campaign: &Id,
        aktvator: &Id,
        at_ms: i64,
        id: ConversionEventId,
    ) -> Result<(&'static str, Reward), &'static str> {
        let customer = event.customer.as_ref().and_then(|customer| customer.id.clone());
        let mut refusal = (0, "conditions_not_met");
        let mut rules: Vec<&Value> = list(&rulebook["rules"]);
        rules.sort_by_key(|rule| rule["priority"].as_i64());
        for rule in rules {
            if !list(&rule["on"]["eventTypes"]).contains(&&Value::from(&event.event_type[..])) {
                continue;
            }
            let caps = [list(&rule["caps"]), list(&rulebook["caps"])].concat();
            if customer.is_none() && caps.iter().any(|cap| cap["scope"] == "customer") {
                refusal = refusal.max((1, "not_eligible"));
                continue;
            }
            // The only condition drawn: the amount is at least so much.
            if let Some(least) = rule["when"]["value"].as_i64()
                && event.amount.is_none_or(|amount| amount < least)
            {
                refusal = refusal.max((2, "conditions_not_met"));
                continue;
            }
            let slot = format!("{campaign:?} {} {customer:?}", rule["key"]);
            let unique = rule.get("uniqueness").is_some() && customer.is_some();
            if unique && self.uniques.contains(&slot) {
                refusal = refusal.max((3, "already_rewarded"));
                continue;
            }
            let amount = amount(&rule["reward"], event)?;
            let counters =
                caps.iter().map(|cap| counter(cap, campaign, aktvator, &customer, at_ms));
            let counters: Vec<Option<String>> = counters.collect();
            let paid = self.capped(&caps, &counters, amount).ok_or("cap_exceeded")?;
            for (cap, counter) in caps.iter().zip(counters) {
                let step = if cap["metric"] == "amount" { paid } else { 1 };
                if let Some(counter) = counter {
                    *self.counters.entry(counter).or_default() += step;
                }
            }
            self.uniques.extend(unique.then_some(slot));
            let rule_key = rule["key"].as_str().unwrap_or_default();
            let reward = self.fund(hash::reward_id(id, rule_key), paid);
            let sums = self.sums.entry(campaign.clone()).or_default();
            sums.rewards += 1;
            sums.reward_amount += paid;
            return Ok((if paid < amount { "clipped" } else { "rewarded" }, reward));
        }
        Err(refusal.1)
    }

    /// What all caps together leave of `amount`; nothing where one refuses.
    fn capped(&self, caps: &[&Value], counters: &[Option<String>], amount: i64) -> Option<i64> {
        let rooms: Vec<i64> = caps
            .iter()
            .zip(counters)
            .map(|(cap, counter)| {
                let used = counter.as_ref().and_then(|counter| self.counters.get(counter));
                let left = (cap["limit"].as_i64().unwrap_or_default() - used.unwrap_or(&0)).max(0);
                if cap["metric"] == "amount" || left == 0 { left } else { i64::MAX }
            })
            .collect();
        let clipping = caps.iter().zip(&rooms).filter(|(cap, _)| cap["onExceed"] == "clip");
        let paid = clipping.map(|(_, room)| *room).fold(amount, i64::min);
        (paid > 0 && rooms.iter().all(|room| *room >= paid)).then_some(paid)
    }

    /// Out of the wallet, or at the end of those that wait.
    fn fund(&mut self, id: RewardId, amount: i64) -> Reward {
        let held = !self.holds.is_empty() || self.available < amount;
        if held {
            self.holds.push_back((id, amount));
        } else {
            self.reserve(amount);
        }
        Reward { id, amount, held }
    }

    fn reserve(&mut self, amount: i64) {
        self.available -= amount;
        self.reserved += amount;
    }

    fn credit(&mut self, credit: &proto::WalletCredit, steps: usize) -> Vec<Told> {
        if !self.credits.insert(credit.command_id.to_vec()) {
            return Vec::new();
        }
        self.available += credit.amount;
        let mut told = vec![Told::Credited { amount: credit.amount, available: self.available }];
        told.extend(self.release(steps));
        told
    }

    /// First in, first out, as far as the money goes, at most `steps`.
    fn release(&mut self, steps: usize) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some((reward, amount)) = self.holds.front().copied()
            && told.len() < steps
            && amount <= self.available
        {
            self.holds.pop_front();
            self.holds_begin += 1;
            self.reserve(amount);
            told.push(Told::Released { reward, amount });
        }
        told
    }

    fn conversion(&mut self, campaign: &Id, event: &ConversionEvent) {
        let sums = self.sums.entry(campaign.clone()).or_default();
        sums.conversions += 1;
        sums.revenue += event.amount.unwrap_or(0);
    }
}

fn ensure(holds: bool, code: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(code) }
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

/// What a reward comes to before caps.
fn amount(reward: &Value, event: &ConversionEvent) -> Result<i64, &'static str> {
    if let Some(flat) = reward["amount"].as_i64() {
        return Ok(flat);
    }
    let of = event.amount.filter(|amount| *amount >= 0).ok_or("amount_missing")?;
    let product = of * reward["bps"].as_i64().unwrap_or_default();
    let (whole, rest) = (product / 10_000, product % 10_000);
    let up = rest > 5_000 || (rest == 5_000 && whole % 2 == 1);
    let amount = whole + i64::from(up);
    let amount = amount.max(reward["min"].as_i64().unwrap_or(0));
    let amount = amount.min(reward["max"].as_i64().unwrap_or(i64::MAX));
    if amount == 0 { Err("zero_amount") } else { Ok(amount) }
}

/// The name of what a cap counts; nothing for a cap per customer where there is none.
fn counter(
    cap: &Value,
    campaign: &Id,
    aktvator: &Id,
    customer: &Option<String>,
    at_ms: i64,
) -> Option<String> {
    let of = match cap["scope"].as_str() {
        Some("aktvator") => format!("{aktvator:?}"),
        Some("customer") => customer.clone()?,
        _ => String::new(),
    };
    let bucket = bucket(cap["period"].as_str().unwrap_or_default(), at_ms);
    Some(format!("{campaign:?} {} {} {bucket} {of}", cap["key"], cap["metric"]))
}

/// The local day or month, in UTC, or nothing for ever.
fn bucket(period: &str, at_ms: i64) -> String {
    let text = Timestamp::from_ms(at_ms).to_string();
    match period {
        "day" => text[..10].to_owned(),
        "month" => text[..7].to_owned(),
        _ => String::new(),
    }
}
