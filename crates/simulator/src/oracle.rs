//! When all work is done: what the disk holds against what should have come of the log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use engine::Key;
use jiff::tz::TimeZone;
use prost::Message;
use schemas::id::{CampaignId, ConversionEventId, OrganizationId, PayoutId, RewardId};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, EventRow, Outcome, Record, outcome};
use schemas::time::Timestamp;
use storage::analytics::{BUCKET_MS, Granularity, PerformanceQuery};
use storage::log::{ReadLimit, Topic};
use storage::{EventLog, StateStore};

use crate::cast::START_MS;
use crate::invariant::{Checked, Invariant, Violation, ensure};
use crate::life::shard;
use crate::model::{Model, Reward, Sums, TakenBack, Told};
use crate::world::{HOLDS_PER_STEP, PARTITIONS, World};
use crate::{caps, ledger, notices, replay};

/// Longer than any run.
const YEAR_MS: i64 = 365 * 86_400_000;

/// What the disk holds, read once.
pub(crate) struct Found {
    pub(crate) log: EventLog,
    pub(crate) state: StateStore,
    /// By partition: offset and bytes.
    pub(crate) events: BTreeMap<u16, Vec<(u64, Bytes)>>,
    pub(crate) outcomes: BTreeMap<u16, Vec<Outcome>>,
}

/// Checks everything; gives the decisions by code.
pub(crate) async fn check(world: &mut World) -> Result<BTreeMap<String, u64>, Violation> {
    let found = read(world).await?;
    let mut model = Model::new(HOLDS_PER_STEP);
    for partition in 0..PARTITIONS {
        outcomes_are_the_models(&found, partition, &mut model)?;
        damage_is_kept(&found, partition).await?;
    }
    let codes = decided_once(&found)?;
    everything_queued_is_decided(world, &found).await?;
    for tenant in &world.tenants {
        let books = model.books.get(&tenant.scope);
        ledger::balances(&found, tenant.scope, books).await?;
        caps::hold(&found, tenant.scope).await?;
    }
    figures(world, &found, &model).await?;
    notices::all_told(world, &found).await?;
    replay::gives_the_same(&found).await?;
    digest(world, &found).await?;
    Ok(codes)
}

async fn read(world: &World) -> Result<Found, Violation> {
    let (log, state) = world.stores.look();
    let (mut events, mut outcomes) = (BTreeMap::new(), BTreeMap::new());
    for partition in 0..PARTITIONS {
        events.insert(partition, records(&log, Topic::Events, partition).await?);
        let records = records(&log, Topic::Outcomes, partition).await?;
        let decoded = records.into_iter().map(|(_, bytes)| Outcome::decode(bytes));
        outcomes.insert(partition, decoded.collect::<Result<_, _>>().map_err(unreadable)?);
    }
    Ok(Found { log, state, events, outcomes })
}

async fn records(
    log: &EventLog,
    topic: Topic,
    partition: u16,
) -> Result<Vec<(u64, Bytes)>, Violation> {
    let limit = ReadLimit { records: usize::MAX, bytes: usize::MAX };
    let records = log.read(topic, partition, 0, limit).await.map_err(unreadable)?;
    Ok(records.into_iter().map(|record| (record.offset, record.bytes)).collect())
}

pub(crate) fn unreadable(error: impl std::fmt::Display) -> Violation {
    Violation::new(Invariant::Model, format!("the disk cannot be read: {error}"))
}

/// The outcomes of a partition are those of the model over its log, in the same order.
fn outcomes_are_the_models(found: &Found, partition: u16, model: &mut Model) -> Checked {
    let mut expected = Vec::new();
    for (offset, bytes) in &found.events[&partition] {
        let Ok(record) = Record::decode(bytes.clone()) else { continue };
        expected.extend(model.fold(partition, &record).into_iter().map(|told| (*offset, told)));
    }
    let outcomes = &found.outcomes[&partition];
    for (sequence, ((offset, expected), outcome)) in expected.iter().zip(outcomes).enumerate() {
        let got = told(outcome);
        ensure(got.as_ref() == Some(expected), Invariant::Model, || {
            format!(
                "partition {partition}, outcome {sequence} of record {offset}: {got:?}, \
                 the model says {expected:?}"
            )
        })?;
    }
    ensure(expected.len() == outcomes.len(), Invariant::Model, || {
        let (got, expected) = (outcomes.len(), expected.len());
        format!("partition {partition}: {got} outcomes, the model says {expected}")
    })
}

/// An outcome in the model's words.
fn told(outcome: &Outcome) -> Option<Told> {
    Some(match outcome.body.as_ref()? {
        outcome::Body::EventDecided(decided) => {
            let reward = |reward: &proto::RewardCreated| {
                let id = RewardId::from_proto(&reward.reward_id)?;
                Some(Reward { id, amount: reward.amount, status: reward.status.clone() })
            };
            Told::Decided {
                event: ConversionEventId::from_proto(&decided.event_id)?,
                code: decided.code.clone(),
                rewards: decided.rewards.iter().map(reward).collect::<Option<_>>()?,
                repeat: decided.repeat,
            }
        }
        outcome::Body::WalletCredited(credited) => {
            Told::Credited { amount: credited.amount, available: credited.available_after }
        }
        outcome::Body::RewardReleased(released) => Told::Released {
            reward: RewardId::from_proto(&released.reward_id)?,
            amount: released.amount,
            status: released.status.clone(),
        },
        outcome::Body::CampaignCreated(created) => {
            Told::CampaignCreated(created.campaign_id.to_vec())
        }
        outcome::Body::RewardMoved(moved) => Told::Moved {
            reward: RewardId::from_proto(&moved.reward_id)?,
            amount: moved.amount,
            status: moved.status.clone(),
        },
        outcome::Body::PayoutMoved(moved) => Told::Payout {
            id: PayoutId::from_proto(&moved.payout_id)?,
            amount: moved.amount,
            netted: moved.netted,
            rewards: moved.rewards as usize,
            status: moved.status.clone(),
        },
        outcome::Body::WalletDebited(debited) => Told::Debited {
            amount: debited.amount,
            available: debited.available_after,
            receivable: debited.receivable_after,
        },
        // No attempt is drawn.
        outcome::Body::AttemptMoved(_) => return None,
        outcome::Body::EventReversed(reversed) => {
            let back = |reward: &proto::RewardReversed| {
                let id = RewardId::from_proto(&reward.reward_id)?;
                Some(TakenBack { id, back: reward.amount, left: reward.left })
            };
            Told::Reversed {
                event: ConversionEventId::from_proto(&reversed.event_id)?,
                whole: reversed.whole,
                revenue: reversed.revenue,
                rewards: reversed.rewards.iter().map(back).collect::<Option<_>>()?,
            }
        }
    })
}

/// What cannot be decoded stands in the dead letters, and nothing else does.
async fn damage_is_kept(found: &Found, partition: u16) -> Checked {
    let damaged = found.events[&partition].iter();
    let damaged = damaged.filter(|(_, bytes)| Record::decode(bytes.clone()).is_err());
    let damaged: BTreeSet<_> = damaged.map(|(offset, bytes)| (*offset, bytes.clone())).collect();
    let letters = records(&found.log, Topic::DeadLetters, partition).await?;
    let letters = letters.into_iter().map(|(_, bytes)| proto::DeadLetter::decode(bytes));
    let letters: Vec<proto::DeadLetter> = letters.collect::<Result<_, _>>().map_err(unreadable)?;
    let letters = letters.into_iter().map(|letter| (letter.offset, letter.bytes)).collect();
    ensure(damaged == letters, Invariant::A1, || {
        format!("partition {partition}: damaged {damaged:?}, dead letters {letters:?}")
    })
}

/// Every event has one decision that is not a repeat (D1). Decisions by code, and payouts by status.
fn decided_once(found: &Found) -> Result<BTreeMap<String, u64>, Violation> {
    let mut codes = BTreeMap::new();
    let mut firsts = BTreeSet::new();
    for outcome in found.outcomes.values().flatten() {
        if let Some(outcome::Body::PayoutMoved(payout)) = &outcome.body {
            *codes.entry(format!("payout.{}", payout.status)).or_default() += 1;
        }
        let Some(outcome::Body::EventDecided(decided)) = &outcome.body else { continue };
        *codes.entry(decided.code.clone()).or_default() += 1;
        let key = (outcome.organization.clone(), outcome.mode, decided.event_id.clone());
        ensure(decided.repeat || firsts.insert(key), Invariant::D1, || {
            format!("event {:?} is decided twice", decided.event_id)
        })?;
    }
    Ok(codes)
}

/// Every event that was answered "queued" has its row, with a decision (A1).
async fn everything_queued_is_decided(world: &World, found: &Found) -> Checked {
    let queued = world.book.open().queued.clone();
    for (scope, id) in queued {
        let row = event(found, scope, id).await?;
        let decided = row.is_some_and(|row| row.decision.is_some());
        ensure(decided, Invariant::A1, || format!("{id} of {scope} is queued and not decided"))?;
    }
    Ok(())
}

/// The row of an event.
pub(crate) async fn event(
    found: &Found,
    scope: Scope,
    id: ConversionEventId,
) -> Result<Option<EventRow>, Violation> {
    let shard = shard(scope.partition(PARTITIONS));
    let rows = found.state.get(shard, &[Key::Event(scope, id).encode()]).await;
    let row = rows.map_err(unreadable)?.into_iter().flatten().next();
    row.map(EventRow::decode).transpose().map_err(unreadable)
}

/// What `/performance` adds up is what the model and the clicks come to.
async fn figures(world: &World, found: &Found, model: &Model) -> Checked {
    let mut clicks: BTreeMap<(Scope, Vec<u8>), i64> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        for (_, bytes) in records(&found.log, Topic::Clicks, partition).await? {
            let click = proto::Click::decode(bytes).map_err(unreadable)?;
            let Some(organization) = OrganizationId::from_proto(&click.organization) else {
                continue;
            };
            let live = click.mode() == proto::Mode::Live;
            let mode = if live { Mode::Live } else { Mode::Test };
            let key = (Scope { organization, mode }, click.campaign_id.to_vec());
            *clicks.entry(key).or_default() += 1;
        }
    }
    for tenant in &world.tenants {
        for campaign in &tenant.campaigns {
            let id = campaign.id.to_bytes().to_vec();
            let books = model.books.get(&tenant.scope);
            let expected = books.and_then(|books| books.sums.get(&id)).copied();
            let clicks = clicks.get(&(tenant.scope, id)).copied().unwrap_or_default();
            let expected = Sums { clicks, ..expected.unwrap_or_default() };
            let got = performance(world, tenant.scope, campaign.id).await?;
            ensure(got == expected, Invariant::Model, || {
                format!("figures of {}: {got:?}, the model says {expected:?}", campaign.id)
            })?;
        }
    }
    Ok(())
}

async fn performance(world: &World, scope: Scope, campaign: CampaignId) -> Result<Sums, Violation> {
    let aligned = |ms: i64| Timestamp::from_ms(ms - ms.rem_euclid(BUCKET_MS));
    let query = PerformanceQuery {
        scope,
        campaign,
        from: aligned(START_MS - YEAR_MS),
        to: aligned(START_MS + YEAR_MS),
        granularity: Granularity::None,
        timezone: TimeZone::UTC,
        group_by: Vec::new(),
        limit: 1,
    };
    let totals = world.figures().performance(&query).await.map_err(unreadable)?.totals;
    Ok(Sums {
        clicks: totals.clicks,
        conversions: totals.conversions,
        revenue: totals.revenue,
        rewards: totals.rewards,
        reward_amount: totals.reward_amount,
    })
}

/// The end of the trace: what the disk holds, shortly. Whatever differs between two runs of a seed
/// shows here.
async fn digest(world: &World, found: &Found) -> Checked {
    for partition in 0..PARTITIONS {
        let events: Vec<&[u8]> =
            found.events[&partition].iter().map(|(_, bytes)| &bytes[..]).collect();
        let outcomes: Vec<Vec<u8>> =
            found.outcomes[&partition].iter().map(Message::encode_to_vec).collect();
        let outcomes: Vec<&[u8]> = outcomes.iter().map(Vec::as_slice).collect();
        let rows = replay::rows(&found.state, partition).await?;
        let rows: Vec<&[u8]> = rows.iter().flat_map(|(k, v)| [&k[..], &v[..]]).collect();
        let of = |parts: &[&[u8]]| schemas::hash::hash128("digest", parts);
        world.book.note(format!(
            "partition {partition}: {} events {:x}, {} outcomes {:x}, {} rows {:x}",
            events.len(),
            of(&events),
            outcomes.len(),
            of(&outcomes),
            rows.len() / 2,
            of(&rows),
        ));
    }
    Ok(())
}
