//! N1: every notice is delivered or exhausted, its attempts numbered from 1 without a gap and each of
//! them really made.

use std::collections::{BTreeMap, BTreeSet};

use schemas::entity::Endpoint;
use schemas::id::DeliveryId;
use schemas::proto::{DeliveryRow, Outcome, outcome};
use storage::catalog::{Kind, ListFilter, Page};

use crate::deliveries;
use crate::invariant::{Checked, Invariant, Violation, ensure};
use crate::oracle::{Found, unreadable};
use crate::world::{PARTITIONS, World};

/// Organization, mode, endpoint and type of a notice on its way.
type Told = (Vec<u8>, bool, Vec<u8>, &'static str);

/// Checks all deliveries against the outcomes and against what receivers were sent.
pub(crate) async fn all_told(world: &World, found: &Found) -> Checked {
    let endpoints = endpoints(world).await?;
    let mut expected: BTreeMap<Told, usize> = BTreeMap::new();
    for outcome in found.outcomes.values().flatten() {
        for kind in types(outcome) {
            for told in wanting(&endpoints, outcome, kind) {
                *expected.entry(told).or_default() += 1;
            }
        }
    }
    let sent = world.receivers.scripts.iter().flat_map(dispatcher::transport::Scripted::sent);
    let sent: BTreeSet<(DeliveryId, u32)> =
        sent.map(|request| (request.delivery, request.attempt)).collect();
    let mut got: BTreeMap<Told, usize> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        for row in deliveries::all(&found.state, partition).await.map_err(unreadable)? {
            attempts(&row, &sent)?;
            world.book.note(line(&row));
            *got.entry(told(&row)?).or_default() += 1;
        }
    }
    ensure(got == expected, Invariant::N1, || {
        let missing: Vec<_> = expected.iter().filter(|(k, v)| got.get(k) != Some(v)).collect();
        let extra: Vec<_> = got.iter().filter(|(k, v)| expected.get(k) != Some(v)).collect();
        format!("deliveries expected {missing:?}, found {extra:?}")
    })
}

async fn endpoints(world: &World) -> Result<Vec<Endpoint>, Violation> {
    let page = Page { limit: usize::MAX >> 1, ..Page::default() };
    let documents = world.catalog.list(Kind::Endpoint, ListFilter::default(), page).await;
    let documents = documents.map_err(unreadable)?.into_iter();
    documents.map(|d| serde_json::from_str(&d.json).map_err(unreadable)).collect()
}

/// The types of notice that an outcome causes.
fn types(outcome: &Outcome) -> Vec<&'static str> {
    match &outcome.body {
        Some(outcome::Body::EventDecided(e)) if e.repeat || e.aktvator_id.is_none() => Vec::new(),
        Some(outcome::Body::EventDecided(e)) if e.rewards.is_empty() => {
            vec!["action_attempt.rejected"]
        }
        Some(outcome::Body::EventDecided(e)) => {
            let rewards = e.rewards.iter().map(|_| "reward.created");
            ["action_attempt.verified"].into_iter().chain(rewards).collect()
        }
        Some(outcome::Body::WalletCredited(_)) => vec!["wallet.credited"],
        Some(outcome::Body::RewardReleased(_)) => vec!["reward.released"],
        Some(outcome::Body::RewardMoved(moved)) => vec![match moved.status.as_str() {
            "approved" => "reward.approved",
            "held" => "reward.held",
            "rejected" => "reward.rejected",
            "processing" => "reward.processing",
            "paid" => "reward.paid",
            "clawed_back" => "reward.clawed_back",
            _ => "reward.released",
        }],
        Some(outcome::Body::EventReversed(e)) if e.aktvator_id.is_none() => Vec::new(),
        Some(outcome::Body::EventReversed(e)) => {
            let rewards = e.rewards.iter().map(|reward| match reward.clawed_back {
                true => "reward.clawed_back",
                false => "reward.reversed",
            });
            ["event.reversed"].into_iter().chain(rewards).collect()
        }
        Some(outcome::Body::PayoutMoved(moved)) => vec![match moved.status.as_str() {
            "draft" => "payout.created",
            "approved" => "payout.approved",
            "processing" => "payout.processing",
            "paid" => "payout.paid",
            "failed" => "payout.failed",
            _ => "payout.canceled",
        }],
        Some(outcome::Body::AttemptMoved(moved)) => vec![match moved.status.as_str() {
            "submitted" => "action_attempt.submitted",
            _ => "action_attempt.rejected",
        }],
        Some(outcome::Body::WalletDebited(_)) => vec!["wallet.debited"],
        Some(outcome::Body::CampaignCreated(_)) => vec!["campaign.created"],
        None => Vec::new(),
    }
}

fn wanting<'a>(
    endpoints: &'a [Endpoint],
    outcome: &'a Outcome,
    kind: &'static str,
) -> impl Iterator<Item = Told> + 'a {
    let live = outcome.mode == 1;
    let of = move |endpoint: &&Endpoint| {
        endpoint.organization_id.to_bytes() == outcome.organization[..]
            && (endpoint.mode == schemas::partition::Mode::Live) == live
            && endpoint.subscribed_events.iter().any(|name| name == "*" || name == kind)
    };
    let told = move |endpoint: &Endpoint| {
        (outcome.organization.to_vec(), live, endpoint.id.to_bytes().to_vec(), kind)
    };
    endpoints.iter().filter(of).map(told)
}

fn told(row: &DeliveryRow) -> Result<Told, Violation> {
    let known = schemas::notice::NoticeType::ALL.iter().map(|known| known.as_str());
    let kind = known.into_iter().find(|known| *known == row.notice_type);
    let kind = kind.ok_or_else(|| Violation::new(Invariant::N1, format!("type of {row:?}")))?;
    Ok((row.organization.to_vec(), row.mode == 1, row.endpoint_id.to_vec(), kind))
}

fn attempts(row: &DeliveryRow, sent: &BTreeSet<(DeliveryId, u32)>) -> Checked {
    let complain = |what: &str| format!("{what}: {}", line(row));
    let id = DeliveryId::from_proto(&row.id);
    let id = id.ok_or_else(|| Violation::new(Invariant::N1, complain("no id")))?;
    let numbered = row.attempts.iter().zip(1..).all(|(attempt, n)| attempt.number == n);
    ensure(numbered, Invariant::N1, || complain("attempts have a gap"))?;
    let made = row.attempts.iter().all(|attempt| sent.contains(&(id, attempt.number)));
    ensure(made, Invariant::N1, || complain("an attempt was not made"))?;
    let last = row.attempts.last().map_or("", |attempt| attempt.result.as_str());
    let finished = match row.status.as_str() {
        "delivered" => last == "delivered",
        "exhausted" => last != "delivered" && row.attempts.len() > 1,
        _ => false,
    };
    ensure(finished, Invariant::N1, || complain("not delivered and not exhausted"))
}

fn line(row: &DeliveryRow) -> String {
    let attempts =
        row.attempts.iter().map(|a| format!("{}@{} {}", a.number, a.started_at_ms, a.result));
    let attempts: Vec<String> = attempts.collect();
    format!("delivery {:?} {} {}: {attempts:?}", row.id, row.notice_type, row.status)
}
