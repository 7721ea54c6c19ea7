//! One line of a case table: steps, then what they must show.
//!
//! `rules {...} ; credit 1 500 ; event e1 code=AAA amount=100 => applied, rewarded 10`
//!
//! The world has an active campaign (10) and a draft one (11); gigs 20 (`buy`, published) and 21 (`join`,
//! paused); aktvators 30 and 31 (approved; 31 has no tags) and 32 (banned); codes AAA, BBB, CCC of them, and ZZZ of
//! campaign 11; links 40 and 41 (codes L40, L41) of 30 and 31. Steps and what they show:
//! - `rules JSON`, `rules@TIME JSON`: the next version, in force from now or TIME. Nothing.
//! - `event KEY name=value...`: its code, detail, amount and whether it is held.
//! - `events KEY[=CENTS]...`: events decided as one batch, a tenth of 100 CENTS each: their codes.
//! - `index POSITION`: the keys an index row of events lists, `-` for an empty place.
//! - `credit ID AMOUNT [CURRENCY]`: the command's code, and how many rewards it released.
//! - `wallet`: available/reserved/held, and payable if there is any. `count`: the number of rewards.
//! - `payout AKTVATOR [min=N] [until=TIME] [as=N]`: the command's code, and what goes out and settles debt. It is named
//!   by how many there were, or N. `payout-approve N`, `payout-process`, `payout-pay`, `payout-fail`, `payout-retry`, `payout-cancel`: the
//!   command's code, and the payout's status.
//! - `attempt N AKTVATOR`: work is submitted for gig 20. `verify N [amount=CENTS]`: its event's code, detail and rewards, and its
//!   status. `refuse N`: the command's code, and its status.
//! - `debit ID AMOUNT`: a provider takes money back: the command's code, and available and receivable.
//! - `account AKTVATOR`: reserved/payable/processing/paid/clawback. `statement AKTVATOR`: what each line changes.
//! - `approve KEY`, `reject`, `hold`, `release`: of the first reward of an event: the command's code, and what is left of
//!   it and its status.
//! - `reverse KEY [amount=N] [quantity=N] [reason=R] [as=NAME] [ref=REF]`: the command's code, and the same of all rewards.
//!   Its command is named by the others, or NAME.
//! - `rewards KEY`: what is left of each reward of an event, and its status. `mature`: what is due by now. Nothing.
//! - `campaign STATUS`, `gig ID TYPE STATUS`, `aktvator ID STATUS`, `link ID AKTVATOR`: Nothing.
//! - `now TIME`: records are accepted then. `tick`: a tick. `expire POSITION`: claims. Nothing.

mod paying;

use engine::{Key, Row};
use schemas::id::{CampaignId, GigId, LinkId};
use schemas::proto::{self, RewardAction, record::Body, reverse_event::Event};
use schemas::time::Timestamp;
use serde_json::{Value, json};

use crate::world::{self, CAMPAIGN, SCOPE, World, conversion};

pub(crate) const DRAFT: CampaignId = CampaignId::from_u128(11);
/// Records are accepted at this time until `now` says otherwise.
pub(crate) const START: &str = "2026-03-10T12:00:00Z";

pub(crate) struct Script {
    pub(crate) world: World,
    now_ms: i64,
    rulebook_version: u64,
    versions: u64,
    payouts: u128,
    /// Idempotency keys of events so far.
    keys: Vec<String>,
}

impl Script {
    pub(crate) fn new() -> Self {
        let now_ms = ms(START);
        let mut world = World::default();
        world.settings.holds_per_step = 2;
        for body in [
            world::campaign(CAMPAIGN, 1, "active"),
            world::campaign(DRAFT, 1, "draft"),
            world::gig(20, 1, "buy", "published"),
            world::gig(21, 1, "join", "paused"),
            world::aktvator(30, 1, "approved"),
            world::aktvator(31, 1, "approved"),
            world::aktvator(32, 1, "banned"),
            world::code("AAA", 1, CAMPAIGN, 30),
            world::code("BBB", 1, CAMPAIGN, 31),
            world::code("CCC", 1, CAMPAIGN, 32),
            world::code("ZZZ", 1, DRAFT, 30),
            world::link(40, 1, CAMPAIGN, 30, "L40"),
            world::link(41, 1, CAMPAIGN, 31, "l41"),
        ] {
            world.append(now_ms, body);
        }
        Self { world, now_ms, rulebook_version: 0, versions: 1, payouts: 0, keys: Vec::new() }
    }

    /// Runs the steps, and answers what they show.
    pub(crate) fn run(&mut self, steps: &str) -> String {
        let shown: Vec<String> =
            steps.split(" ; ").filter_map(|step| self.step(step.trim())).collect();
        shown.join(", ")
    }

    fn step(&mut self, step: &str) -> Option<String> {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        self.versions += 1;
        let body = match (verb, words.as_slice()) {
            ("event", [key, fields @ ..]) => return Some(self.event(key, fields)),
            ("events", keys) => return Some(self.events(keys)),
            ("index", [position]) => return Some(self.index(position)),
            ("credit", [id, amount, currency @ ..]) => {
                return Some(self.credit(number(id), amount, currency.first().unwrap_or(&"USD")));
            }
            ("wallet", _) => return Some(self.wallet()),
            ("approve", [key]) => return Some(self.act(RewardAction::Approve, key)),
            ("reject", [key]) => return Some(self.act(RewardAction::Reject, key)),
            ("hold", [key]) => return Some(self.act(RewardAction::Hold, key)),
            ("release", [key]) => return Some(self.act(RewardAction::Release, key)),
            ("payout", [aktvator, fields @ ..]) => {
                return Some(self.payout(number(aktvator), fields));
            }
            (_, [name]) if verb.starts_with("payout-") => {
                return Some(self.move_payout(verb, number(name)));
            }
            ("attempt", [id, aktvator]) => return Some(self.attempt(number(id), number(aktvator))),
            ("verify", [id, fields @ ..]) => return Some(self.verify(number(id), fields)),
            ("refuse", [id]) => return Some(self.refuse(number(id))),
            ("debit", [id, amount]) => return Some(self.debit(number(id), amount)),
            ("account", [aktvator]) => return Some(self.account(number(aktvator))),
            ("statement", [aktvator]) => return Some(self.statement(number(aktvator))),
            ("reverse", [key, fields @ ..]) => return Some(self.reverse(key, fields)),
            ("rewards", [key]) => return Some(self.rewards(key)),
            ("mature", []) => {
                self.world.mature(self.now_ms);
                self.world.run(usize::MAX);
                return None;
            }
            ("count", _) => {
                return Some(self.world.rewards().len().to_string());
            }
            ("now", [time]) => {
                self.now_ms = ms(time);
                return None;
            }
            ("campaign", [status]) => world::campaign(CAMPAIGN, self.versions, status),
            ("gig", [id, kind, status]) => world::gig(number(id), self.versions, kind, status),
            ("aktvator", [id, status]) => world::aktvator(number(id), self.versions, status),
            ("link", [id, aktvator]) => {
                world::link(number(id), self.versions, CAMPAIGN, number(aktvator), "L")
            }
            ("tick", _) => Body::Tick(proto::Tick {}),
            ("expire", [position]) => Body::ExpireClaims(proto::ExpireClaims {
                index_position: position.parse().expect("a position"),
                retention_ms: self.world.settings.claim_retention_ms,
            }),
            _ if verb.starts_with("rules") => self.rules(verb, rest),
            _ => panic!("no such step: {step}"),
        };
        self.world.append(self.now_ms, body);
        self.world.run(usize::MAX);
        None
    }

    fn rules(&mut self, verb: &str, text: &str) -> Body {
        let from_ms = verb.strip_prefix("rules@").map_or(self.now_ms, ms);
        let given: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        self.rulebook_version += 1;
        world::rulebook(self.rulebook_version, from_ms, &with_defaults(given))
    }

    fn event(&mut self, key: &str, fields: &[&str]) -> String {
        self.keys.push(key.to_owned());
        self.world.append(self.now_ms, conversion(key, event(fields)));
        self.world.run(usize::MAX);
        let decided = self.world.outcomes.iter().rev().find_map(|outcome| match &outcome.body {
            Some(proto::outcome::Body::EventDecided(decided)) => Some(decided),
            _ => None,
        });
        let decided = decided.expect("an event has an outcome");
        let decision = self.world.decision(key).expect("decided");
        let mut shown = decided.code.clone();
        if !decided.repeat && !decision.detail.is_empty() {
            shown = format!("{shown}:{}", decision.detail);
        }
        for reward in &decided.rewards {
            let status = match reward.status.as_str() {
                "pending" => String::new(),
                other => format!(" {other}"),
            };
            shown = format!("{shown} {}{status}", reward.amount);
        }
        shown
    }

    fn events(&mut self, keys: &[&str]) -> String {
        for key in keys {
            let (key, amount) = key.split_once('=').unwrap_or((key, ""));
            let amount = (!amount.is_empty()).then(|| format!("amount={amount}00"));
            let fields: Vec<&str> = amount.iter().map(String::as_str).collect();
            self.keys.push(key.to_owned());
            self.world.append(self.now_ms, conversion(key, event(&fields)));
        }
        let before = self.world.outcomes.len();
        self.world.run(usize::MAX);
        let decided = self.world.outcomes[before..].iter().map(|outcome| match &outcome.body {
            Some(proto::outcome::Body::EventDecided(decided)) => decided.code.as_str(),
            _ => panic!("an event has an outcome"),
        });
        decided.collect::<Vec<_>>().join(" ")
    }

    fn index(&self, position: &str) -> String {
        let position = position.parse().expect("a position");
        let Some(Row::Index(index)) = self.world.row(&Key::EventIndex(SCOPE, position)) else {
            return "none".to_owned();
        };
        let name = |id: &bytes::Bytes| {
            let is_its = |key: &&String| schemas::hash::event_id(SCOPE, key).to_proto() == *id;
            self.keys.iter().find(is_its).map_or("-", String::as_str)
        };
        index.ids.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    fn credit(&mut self, id: u128, amount: &str, currency: &str) -> String {
        let before = self.released();
        let amount = amount.parse().expect("an amount");
        self.world.append(self.now_ms, world::credit(id, amount, currency));
        self.world.run(usize::MAX);
        format!("{} {}", self.code(id), self.released() - before)
    }

    fn released(&self) -> usize {
        let is_release = |outcome: &&proto::Outcome| {
            matches!(outcome.body, Some(proto::outcome::Body::RewardReleased(_)))
        };
        self.world.outcomes.iter().filter(is_release).count()
    }

    fn wallet(&self) -> String {
        let wallet = self.world.wallet();
        let payable = match wallet.payable {
            0 => String::new(),
            payable => format!("/{payable}"),
        };
        format!("{}/{}/{}{payable}", wallet.available, wallet.reserved, wallet.held)
    }

    fn act(&mut self, action: RewardAction, key: &str) -> String {
        let first = self.world.rewards_of(key).first().map(|reward| reward.id.clone());
        let id = u128::from(self.versions) << 64;
        let command = proto::MoveReward {
            command_id: id.to_be_bytes().to_vec().into(),
            reward_id: first.unwrap_or_default(),
            action: action.into(),
            reason: "seen".into(),
        };
        self.world.append(self.now_ms, Body::MoveReward(command));
        self.world.run(usize::MAX);
        self.decided(id, key)
    }

    fn reverse(&mut self, key: &str, fields: &[&str]) -> String {
        let mut command = proto::ReverseEvent {
            event: Some(Event::EventId(schemas::hash::event_id(SCOPE, key).to_proto())),
            reason: "refund".into(),
            ..Default::default()
        };
        let mut name = fields.join(" ");
        for field in fields {
            match field.split_once('=').expect("name=value") {
                ("amount", value) => command.amount = Some(value.parse().expect("an amount")),
                ("quantity", value) => command.quantity = Some(value.parse().expect("a quantity")),
                ("reason", value) => command.reason = value.into(),
                ("ref", value) => command.event = Some(Event::ExternalRef(value.into())),
                ("as", value) => name = value.into(),
                _ => panic!("no such field: {field}"),
            }
        }
        let id = engine::reversal_id(key, &name);
        command.command_id = id.to_be_bytes().to_vec().into();
        self.world.append(self.now_ms, Body::ReverseEvent(command));
        self.world.run(usize::MAX);
        self.decided(id, key)
    }

    fn code(&self, command: u128) -> String {
        let Some(Row::Command(row)) = self.world.row(&Key::Command(SCOPE, command)) else {
            panic!("a command has a row")
        };
        row.code
    }

    fn decided(&self, command: u128, key: &str) -> String {
        format!("{} {}", self.code(command), self.rewards(key)).trim_end().to_owned()
    }

    fn rewards(&self, key: &str) -> String {
        let rewards = self.world.rewards_of(key);
        let shown = rewards.iter().map(|r| {
            format!("{} {}", r.amount - r.reversed_amount - r.clawed_back_amount, r.status)
        });
        shown.collect::<Vec<_>>().join(" ")
    }
}

/// A rulebook needs a currency and a zone; every rule a key and a reward.
pub(crate) fn with_defaults(mut given: Value) -> Value {
    let rulebook = given.as_object_mut().expect("an object");
    rulebook.entry("currency").or_insert(json!("USD"));
    rulebook.entry("timezone").or_insert(json!("UTC"));
    rulebook.entry("rules").or_insert(json!([{}]));
    for rule in rulebook["rules"].as_array_mut().expect("an array") {
        let rule = rule.as_object_mut().expect("an object");
        rule.entry("key").or_insert(json!("r"));
        rule.entry("reward").or_insert(json!({"type": "percent", "bps": 1000}));
    }
    given
}

/// By default a `buy` by code AAA in campaign 10.
pub(crate) fn event(fields: &[&str]) -> proto::ConversionEvent {
    let mut event = proto::ConversionEvent {
        event_type: "buy".into(),
        campaign_id: Some(CAMPAIGN.to_proto()),
        attribution_code: Some("AAA".into()),
        currency: Some("USD".into()),
        ..Default::default()
    };
    for field in fields {
        let (name, value) = field.split_once('=').expect("name=value");
        set(&mut event, name, value);
    }
    event
}

fn set(event: &mut proto::ConversionEvent, name: &str, value: &str) {
    let given = !value.is_empty();
    let link = |text: &str| LinkId::from_u128(number(text)).to_proto();
    let text = || given.then(|| value.to_owned());
    let customer = event.customer.get_or_insert_default();
    match name {
        "type" => event.event_type = value.into(),
        "campaign" => {
            event.campaign_id = given.then(|| CampaignId::from_u128(number(value)).to_proto());
        }
        "gig" => event.gig_id = Some(GigId::from_u128(number(value)).to_proto()),
        "code" => event.attribution_code = text(),
        "link" => event.attribution_link_id = Some(link(value)),
        "click" => {
            let (id, at) = value.split_once('@').expect("LINK@TIME");
            let click = proto::ClickToken { link_id: link(id), clicked_at_ms: ms(at) };
            event.click = Some(click);
        }
        "at" => event.occurred_at_ms = Some(ms(value)),
        "ref" => event.external_ref = text(),
        "amount" => event.amount = Some(value.parse().expect("an amount")),
        "currency" => event.currency = text(),
        "quantity" => event.quantity = Some(value.parse().expect("a quantity")),
        "customer" => customer.id = text(),
        "country" => customer.country = text(),
        "status" => customer.status = text(),
        "items" => event.items = items(value),
        "metadata" => event.metadata = value.as_bytes().to_vec().into(),
        _ => panic!("no such field: {name}"),
    }
}

/// `SKU:CATEGORY:AMOUNT:QUANTITY` of each, with commas between; what is empty is missing.
fn items(text: &str) -> Vec<proto::Item> {
    let item = |text: &str| {
        let mut parts = text.split(':').map(|part| (!part.is_empty()).then(|| part.to_owned()));
        let mut next = || parts.next().flatten();
        let (sku, category) = (next(), next());
        let mut figure = || next().map(|part| part.parse().expect("a number"));
        proto::Item { sku, category, amount: figure(), quantity: figure() }
    };
    text.split(',').map(item).collect()
}

fn number(text: &str) -> u128 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

pub(crate) fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap_or_else(|_| panic!("{text} is no time")).as_ms()
}
