//! `/campaigns/:id/reward-rules/simulate`: what a rulebook would have made of events, beside what the one in
//! force would have. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::key::{IndexKind, Key};
use engine::simulation::{Simulation, Tally, Totals};
use engine::{Entry, Rulebook};
use http::Method;
use prost::Message;
use schemas::entity::Organization;
use schemas::fault::{ApiError, Fault};
use schemas::hash::event_id;
use schemas::id::{CampaignId, ConversionEventId, LinkId};
use schemas::input::Fields;
use schemas::partition::Scope;
use schemas::proto::{self, record};
use schemas::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use storage::state::Group;
use utoipa::ToSchema;

use crate::call::{Call, Reply};
use crate::config::RULEBOOK_LEN_MAX;
use crate::route::{Access, Answer, Replay, Route};
use crate::rulebook_version::{compile, latest};
use crate::stored::Within;
use crate::{ControlParts, campaigns, error, fold};

/// Sample events of one call.
const SAMPLES_MAX: usize = 1_000;
/// Accepted events of one call: the last ones.
const EVENTS_MAX: usize = 100_000;
/// How far back they go.
const DAYS_MAX: i64 = 365;
const DAY_MS: i64 = 86_400_000;
/// Events read and decided at once.
const STEP: usize = 1_000;
/// Rows of the list of events read at once.
const BLOCKS: usize = 256;
/// Minor units, or how many.
const FIGURE_MAX: i64 = (1 << 53) - 1;

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const PATH: &str = "/campaigns/{id}/reward-rules/simulate";
    vec![
        Route::new(Method::POST, PATH, "simulateRewardRules", Access::Key("rules:read"), simulate)
            .summary("Try reward rules on sample events, or on those accepted in the last days. Writes nothing.")
            .replay(Replay::Ignored)
            .body_len_max(2 * RULEBOOK_LEN_MAX)
            .takes::<Asked>()
            .gives::<Simulated>(200),
    ]
}

/// What to try on what: `events` or `lastDays`.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "read member by member; this is its shape for the document")]
struct Asked {
    /// The reward rules to try, as a PUT would take them, without `effectiveFrom` and `changeNote`.
    #[schema(value_type = Object)]
    rulebook: Value,
    /// Up to 1,000, in the order of their time.
    events: Option<Vec<Sample>>,
    /// The events of the campaign accepted in so many days, 1 to 365; of more than 100,000 the last ones.
    last_days: Option<i64>,
}

/// An event that might come.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "read member by member; this is its shape for the document")]
struct Sample {
    /// The `actionType` of a gig.
    event_type: String,
    /// Whose code was given; this or a link is required.
    attribution_code: Option<String>,
    /// By whose link the customer came.
    attribution_link_id: Option<LinkId>,
    /// When it happens, and is accepted; now when absent.
    occurred_at: Option<Timestamp>,
    /// Minor units.
    amount: Option<i64>,
    /// ISO 4217.
    currency: Option<String>,
    /// How many.
    quantity: Option<i64>,
    /// Your id of the customer.
    customer_id: Option<String>,
    /// ISO 3166-1 alpha-2.
    customer_country: Option<String>,
    /// What rules may ask for.
    customer_status: Option<String>,
    /// Anything rules may ask for.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// What would have come of the events.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Simulated {
    /// How many were tried.
    events: u64,
    /// There were more: these are the last ones.
    truncated: bool,
    /// `true`: both begin with empty counters and a full wallet, so that caps, tiers and uniqueness know only these
    /// events.
    starts_from_empty_counters: bool,
    /// Of the rules that were sent.
    candidate: Outcome,
    /// Of the newest rules of the campaign, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<Outcome>,
    /// Rule by rule, by key.
    rules: Vec<RuleOutcome>,
}

/// What came of all events.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// Rewards made.
    rewards: u64,
    /// What they come to, minor units.
    amount: i64,
    /// ISO 4217.
    currency: String,
    /// Events by decision code.
    #[schema(value_type = Object)]
    by_code: BTreeMap<String, u64>,
}

/// What came of one rule.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RuleOutcome {
    /// The rule.
    rule_key: String,
    /// In the rules that were sent.
    candidate: Sum,
    /// In the newest rules of the campaign.
    active: Sum,
    /// The first less the second, minor units.
    difference: i64,
}

/// Rewards and what they come to.
#[derive(Debug, Serialize, ToSchema)]
struct Sum {
    /// How many.
    rewards: u64,
    /// Minor units.
    amount: i64,
}

impl Sum {
    fn of(tally: Option<&Tally>) -> Self {
        let Tally { rewards, amount } = tally.copied().unwrap_or_default();
        Self { rewards, amount }
    }
}

impl Outcome {
    fn of(totals: &Totals, rulebook: &Rulebook) -> Self {
        Self {
            rewards: totals.all.rewards,
            amount: totals.all.amount,
            currency: rulebook.currency().to_string(),
            by_code: totals.by_code.clone(),
        }
    }
}

/// The rulebook to try, and what to try it on.
struct Trial {
    rulebook: Arc<Rulebook>,
    samples: Option<Vec<proto::Record>>,
    days: i64,
}

async fn simulate(mut call: Call) -> Answer {
    call.query.finish()?;
    let scope = call.scope()?;
    let campaign = campaigns::own(&call).await?.id;
    let trial = asked(&call, scope, campaign).await?;
    let newest = latest(&call.parts, scope, campaign).await?;
    let active = newest.map(|version| compile(&version.rulebook)).transpose()?.map(Arc::new);
    let mut tried = vec![Simulation::new(scope, campaign, trial.rulebook.clone())];
    tried.extend(active.clone().map(|rulebook| Simulation::new(scope, campaign, rulebook)));
    let mut truncated = false;
    match trial.samples {
        Some(samples) => try_records(&call.parts, scope, &mut tried, samples).await?,
        None => {
            call.parts.caught_up(scope).await?;
            let since_ms = call.now.as_ms().saturating_sub(trial.days * DAY_MS);
            let (ids, more) = accepted(&call.parts, scope, since_ms).await?;
            truncated = more;
            for ids in ids.chunks(STEP) {
                let records = records(&call.parts, scope, campaign, ids, since_ms).await?;
                try_records(&call.parts, scope, &mut tried, records).await?;
            }
        }
    }
    let totals: Vec<&Totals> = tried.iter().map(Simulation::totals).collect();
    let rules = rules(totals[0], totals.get(1).copied());
    let active =
        totals.get(1).zip(active.as_ref()).map(|(totals, rulebook)| Outcome::of(totals, rulebook));
    Reply::json(
        200,
        &Simulated {
            events: totals[0].events,
            truncated,
            starts_from_empty_counters: true,
            candidate: Outcome::of(totals[0], &trial.rulebook),
            active,
            rules,
        },
    )
}

fn rules(candidate: &Totals, active: Option<&Totals>) -> Vec<RuleOutcome> {
    let none = Totals::default();
    let active = active.unwrap_or(&none);
    let keys: BTreeSet<&String> = candidate.by_rule.keys().chain(active.by_rule.keys()).collect();
    let of = |key: &String| {
        let [candidate, active] =
            [candidate, active].map(|totals| Sum::of(totals.by_rule.get(key)));
        let difference = candidate.amount - active.amount;
        RuleOutcome { rule_key: key.clone(), candidate, active, difference }
    };
    keys.into_iter().map(of).collect()
}

/// The body, checked as a whole.
async fn asked(call: &Call, scope: Scope, campaign: CampaignId) -> Result<Trial, ApiError> {
    let within = Within::Organization(scope.organization);
    let id = scope.organization.to_string();
    let organization: Organization = call.parts.find(within, &id).await?;
    let body = call.json()?;
    let mut faults = Vec::new();
    let mut fields = Fields::of(&body, "", &mut faults);
    let rulebook = fields.required("rulebook");
    let days = fields.optional_integer("lastDays", 1..=DAYS_MAX);
    let events = fields.optional_array("events", 1..=SAMPLES_MAX);
    if days.is_some() == events.is_some() && !fields.has_faults_at("events") {
        fields.fault("events", "required", "give events, or lastDays");
    }
    let samples = events.map(|events| {
        let read = |(index, (path, event))| {
            let key = format!("sample {index}");
            sample(fields.faults(), (scope, campaign), (key, path), event, call.now)
        };
        events.into_iter().enumerate().filter_map(read).collect::<Vec<_>>()
    });
    fields.finish();
    if let Some(Err(wrong)) = rulebook.map(|json| Rulebook::parse(json, organization.currency)) {
        let within = |fault: Fault| Fault { path: format!("/rulebook{}", fault.path), ..fault };
        faults.extend(wrong.into_iter().map(within));
    }
    match rulebook {
        Some(rulebook) if faults.is_empty() => {
            Ok(Trial { rulebook: Arc::new(compile(rulebook)?), samples, days: days.unwrap_or(1) })
        }
        _ => Err(ApiError::validation(faults)),
    }
}

/// A sample as the edge would have put it on the log.
fn sample(
    faults: &mut Vec<Fault>,
    (scope, campaign): (Scope, CampaignId),
    (key, path): (String, String),
    event: &Value,
    now: Timestamp,
) -> Option<proto::Record> {
    let mut fields = Fields::of(event, path, faults);
    let event_type = fields.text("eventType", 1..=100).map(str::to_owned);
    let code = fields.optional_text("attributionCode", 1..=64).map(str::to_owned);
    let link: Option<LinkId> = fields.optional_parsed("attributionLinkId");
    if code.is_none() && link.is_none() {
        fields.fault("attributionCode", "required", "give a code, or a link");
    }
    let at: Timestamp = fields.optional_parsed("occurredAt").unwrap_or(now);
    let amount = fields.optional_integer("amount", 0..=FIGURE_MAX);
    let currency: Option<schemas::money::Currency> = fields.optional_parsed("currency");
    let quantity = fields.optional_integer("quantity", 0..=FIGURE_MAX);
    let customer = proto::Customer {
        id: fields.optional_text("customerId", 1..=255).map(str::to_owned),
        country: fields.optional_text("customerCountry", 2..=2).map(str::to_owned),
        status: fields.optional_text("customerStatus", 1..=100).map(str::to_owned),
        email_hash: None,
    };
    let metadata = fields.optional("metadata").filter(|value| value.is_object());
    fields.finish();
    let body = proto::ConversionEvent {
        event_id: event_id(scope, &key).to_proto(),
        idempotency_key: key,
        event_type: event_type?,
        campaign_id: Some(campaign.to_proto()),
        attribution_code: code.map(|code| code.to_uppercase()),
        attribution_link_id: link.map(|link| link.to_proto()),
        occurred_at_ms: Some(at.as_ms()),
        amount,
        currency: currency.map(|currency| currency.to_string()),
        quantity,
        customer: Some(customer),
        metadata: metadata.map(|value| value.to_string().into()).unwrap_or_default(),
        ..Default::default()
    };
    Some(proto::Record {
        organization: scope.organization.to_proto(),
        mode: proto::Mode::from(scope.mode).into(),
        accepted_at_ms: at.as_ms(),
        body: Some(record::Body::Conversion(body)),
    })
}

/// The ids of the last events accepted since then, oldest first, and whether there are more.
async fn accepted(
    parts: &ControlParts,
    scope: Scope,
    since_ms: i64,
) -> Result<(Vec<ConversionEventId>, bool), ApiError> {
    let shard = parts.shard(Group::Evaluator, scope);
    let (from, mut to) = Key::index_range(scope, IndexKind::Events);
    let mut ids = Vec::new();
    loop {
        let rows = parts.scan(shard, (from.clone(), to.clone()), true, BLOCKS).await?;
        let is_last = rows.len() < BLOCKS;
        for (key, row) in rows {
            let block: proto::IndexRow = fold::read(row)?;
            if block.last_accepted_at_ms < since_ms {
                ids.reverse();
                return Ok((ids, false));
            }
            ids.extend(block.ids.iter().rev().filter_map(|id| ConversionEventId::from_proto(id)));
            to = key;
        }
        if ids.len() >= EVENTS_MAX || is_last {
            let truncated = ids.len() > EVENTS_MAX || !is_last;
            ids.truncate(EVENTS_MAX);
            ids.reverse();
            return Ok((ids, truncated));
        }
    }
}

/// The records of those events that are of the campaign.
async fn records(
    parts: &ControlParts,
    scope: Scope,
    campaign: CampaignId,
    ids: &[ConversionEventId],
    since_ms: i64,
) -> Result<Vec<proto::Record>, ApiError> {
    let keys: Vec<Key> = ids.iter().map(|id| Key::Event(scope, *id)).collect();
    let rows: Vec<Option<proto::EventRow>> = parts.rows(scope, &keys).await?;
    let campaign = campaign.to_proto();
    let is_its = |row: &proto::EventRow| {
        let of = row.decision.as_ref().and_then(|decision| decision.campaign_id.as_ref());
        of == Some(&campaign) && row.accepted_at_ms >= since_ms
    };
    let rows = rows.into_iter().flatten().filter(is_its);
    let record = |row: proto::EventRow| proto::Record::decode(row.record);
    let records: Result<Vec<_>, _> = rows.map(record).collect();
    records.map_err(|e| error::unreadable("event", &e))
}

/// Decides records with every rulebook under trial.
async fn try_records(
    parts: &ControlParts,
    scope: Scope,
    tried: &mut [Simulation],
    records: Vec<proto::Record>,
) -> Result<(), ApiError> {
    let entry = |record: proto::Record| {
        let entry = Entry::decode(0, record.encode_to_vec().into());
        entry.map(|entry| Entry { is_new: true, ..entry })
    };
    let entries: Result<Vec<Entry>, _> = records.into_iter().map(entry).collect();
    let entries = entries.map_err(|e| error::unreadable("event", &e))?;
    for simulation in tried {
        loop {
            let wanted = simulation.wants(&entries);
            if wanted.is_empty() {
                break;
            }
            let rows = parts.typed_rows(scope, &wanted).await?;
            wanted.into_iter().zip(rows).for_each(|(key, row)| simulation.learn(key, row));
        }
        simulation.decide(&entries);
        // Others are to be answered meanwhile.
        tokio::task::yield_now().await;
    }
    Ok(())
}
