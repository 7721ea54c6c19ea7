//! What should come of a log: a naive reading of the rules, one record after another, with no batch, no
//! store, no plan and none of the engine's code.

mod life;
mod payout;
mod pricing;

use std::collections::{BTreeMap, VecDeque};

use schemas::id::{ConversionEventId, OrganizationId, PayoutId, RewardId};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, ConversionEvent, Record, record::Body};
use serde_json::Value;

/// Any id, as its bytes.
type Id = Vec<u8>;
const DAY_MS: i64 = 86_400_000;
/// A click may seem to come so much after the event it brought.
const CLOCKS_DIFFER_MS: i64 = 5 * 60 * 1_000;

/// What the outside is told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Decided { event: ConversionEventId, code: String, rewards: Vec<Reward>, repeat: bool },
    Credited { amount: i64, available: i64 },
    Released { reward: RewardId, amount: i64, status: String },
    CampaignCreated(Id),
    Moved { reward: RewardId, amount: i64, status: String },
    Payout { id: PayoutId, amount: i64, netted: i64, rewards: usize, status: String },
    Debited { amount: i64, available: i64, receivable: i64 },
    Reversed { event: ConversionEventId, whole: bool, revenue: i64, rewards: Vec<TakenBack> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reward {
    pub(crate) id: RewardId,
    pub(crate) amount: i64,
    pub(crate) status: String,
}

/// What is taken back of a reward, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TakenBack {
    pub(crate) id: RewardId,
    pub(crate) back: i64,
    pub(crate) left: i64,
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
    events: BTreeMap<ConversionEventId, Known>,
    /// By the name of what is counted, and for rolling windows by day.
    counters: BTreeMap<(String, Option<i64>), i64>,
    /// Which reward has the slot.
    uniques: BTreeMap<String, RewardId>,
    /// Commands that are decided, and (false) reversals that wait for their event.
    commands: BTreeMap<Id, bool>,
    pub(crate) available: i64,
    pub(crate) reserved: i64,
    pub(crate) payable: i64,
    pub(crate) processing: i64,
    /// What payouts have brought to aktvators.
    pub(crate) out: i64,
    /// What an aktvator owes back.
    pub(crate) debts: BTreeMap<Id, i64>,
    pub(crate) receivable: i64,
    /// What providers have brought, and not taken back.
    came_in: i64,
    payouts: Vec<payout::Payout>,
    approvals: u64,
    /// Places of rewards in `owed`; `None` where nobody waits any more.
    holds: VecDeque<Option<usize>>,
    holds_begin: u64,
    /// In the order in which they were made.
    owed: Vec<Owed>,
    pub(crate) sums: BTreeMap<Id, Sums>,
}

/// An event that was decided.
struct Known {
    fingerprint: Id,
    amount: Option<i64>,
    campaign: Option<Id>,
    /// Was it judged by the rules?
    counts: bool,
    /// What it added to metrics of tiers: name and day, and how much; of revenue it is `true`.
    metrics: Vec<(String, Option<i64>, i64, bool)>,
    /// Places in `owed`.
    rewards: Vec<usize>,
    reversed: i64,
    is_gone: bool,
}

/// A reward that was made.
struct Owed {
    id: RewardId,
    amount: i64,
    back: i64,
    /// What is owed back since it went into a payout.
    clawed: i64,
    aktvator: Id,
    /// Its last approval: which, and when.
    approved: (u64, i64),
    status: &'static str,
    /// It is held for a second look, not for funds.
    in_review: bool,
    needs_approval: bool,
    available_at_ms: i64,
    is_flat: bool,
    /// A part of the event takes all of it.
    goes_whole: bool,
    /// What it took of caps: the name, the day, and how much; of money it is `true`.
    caps: Vec<(String, Option<i64>, i64, bool)>,
    slot: Option<String>,
    campaign: Id,
}

/// The whole fold.
pub(crate) struct Model {
    pub(crate) books: BTreeMap<Scope, Books>,
    /// Held rewards released by one record.
    pub(crate) holds_per_step: usize,
    /// Fold time by partition.
    now_ms: BTreeMap<u16, i64>,
}

impl Model {
    pub(crate) fn new(holds_per_step: u32) -> Self {
        Self {
            books: BTreeMap::new(),
            holds_per_step: holds_per_step as usize,
            now_ms: BTreeMap::new(),
        }
    }

    /// What `record`, the next of its partition, tells the outside; nothing where it is not a record.
    pub(crate) fn fold(&mut self, partition: u16, record: &Record) -> Vec<Told> {
        let now_ms = self.now_ms.entry(partition).or_insert(i64::MIN);
        *now_ms = record.accepted_at_ms.max(*now_ms);
        let now_ms = *now_ms;
        let Some(organization) = OrganizationId::from_proto(&record.organization) else {
            return Vec::new();
        };
        let mode = if record.mode() == proto::Mode::Live { Mode::Live } else { Mode::Test };
        let scope = Scope { organization, mode };
        let steps = self.holds_per_step;
        let books = self.books.entry(scope).or_default();
        match record.body.as_ref() {
            Some(Body::Conversion(event)) => {
                vec![books.event(event, record.accepted_at_ms, now_ms)]
            }
            Some(Body::WalletCredit(credit)) => books.credit(credit, steps, now_ms),
            Some(Body::ReleaseHolds(release)) if release.hold_first == books.holds_begin => {
                books.release(steps, now_ms)
            }
            Some(Body::MoveReward(command)) => books.move_reward(command, now_ms),
            Some(Body::ReverseEvent(command)) => books.reverse(command),
            Some(Body::CreatePayout(command)) => books.create_payout(command, now_ms),
            Some(Body::MovePayout(command)) => books.move_payout(command, now_ms),
            Some(Body::WalletDebit(debit)) => books.debit(debit),
            Some(Body::Mature(mature)) => books.mature(mature, now_ms),
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
        self.holds.front().map(|place| place.map_or(0, |place| self.owed[place].left()))
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

    fn event(&mut self, event: &ConversionEvent, accepted_ms: i64, now_ms: i64) -> Told {
        let id = ConversionEventId::from_proto(&event.event_id).expect("the edge writes ids");
        let repeat =
            self.events.get(&id).map(|first| first.fingerprint[..] == event.fingerprint[..]);
        if let Some(same) = repeat {
            let code = if same { "duplicate" } else { "idempotency_conflict" }.to_owned();
            return Told::Decided { event: id, code, rewards: Vec::new(), repeat: true };
        }
        let known = Known {
            fingerprint: event.fingerprint.to_vec(),
            amount: event.amount,
            campaign: None,
            counts: false,
            metrics: Vec::new(),
            rewards: Vec::new(),
            reversed: 0,
            is_gone: false,
        };
        self.events.insert(id, known);
        let code = self.judge(event, (accepted_ms, now_ms), id).unwrap_or_else(|code| code);
        let rewards =
            self.events[&id].rewards.iter().map(|place| self.owed[*place].told()).collect();
        Told::Decided { event: id, code: code.to_owned(), rewards, repeat: false }
    }

    /// The code; an error is of an event that the rules are not asked about.
    fn judge(
        &mut self,
        event: &ConversionEvent,
        (accepted_ms, now_ms): (i64, i64),
        id: ConversionEventId,
    ) -> Result<&'static str, &'static str> {
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
        let known = self.events.get_mut(&id).expect("it was put there");
        (known.campaign, known.counts) = (Some(campaign.clone()), true);
        let sums = self.sums.entry(campaign.clone()).or_default();
        sums.conversions += 1;
        sums.revenue += event.amount.unwrap_or(0);
        let approved = self.states.get(&aktvator).is_some_and(|state| state.1 == "approved");
        ensure(approved, "not_eligible")?;
        let customer = event.customer.as_ref().and_then(|customer| customer.id.clone());
        let case = pricing::Case {
            event,
            id,
            campaign,
            aktvator,
            customer,
            at_ms: occurred_ms,
            accepted_ms,
            now_ms,
        };
        Ok(self.rules(&case, &rules))
    }

    fn credit(&mut self, credit: &proto::WalletCredit, steps: usize, now_ms: i64) -> Vec<Told> {
        if self.commands.insert(credit.command_id.to_vec(), true).is_some() {
            return Vec::new();
        }
        self.came_in += credit.amount;
        self.gain(credit.amount);
        let mut told = vec![Told::Credited { amount: credit.amount, available: self.available }];
        told.extend(self.release(steps, now_ms));
        told
    }
}

fn ensure(holds: bool, code: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(code) }
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}
