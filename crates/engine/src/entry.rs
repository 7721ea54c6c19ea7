//! Records of the `events` log as the fold takes them: decoded, with their ids checked.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message;
use schemas::hash::hash128;
use schemas::id::{AktvatorId, CampaignId, ConversionEventId, GigId, LinkId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, record};
use serde_json::Value;

use crate::key::{Key, NOBODY};
use crate::rulebook::Rulebook;

/// By how much clocks of partners, browsers and the edge may differ: an event may claim to have
/// happened this long after its `acceptedAt` (the edge refuses more), and a click this long after the
/// event it brought.
pub(crate) const CLOCK_SKEW_MAX_MS: i64 = 5 * 60 * 1_000;

/// One record of the `events` log.
#[derive(Debug)]
pub struct Entry {
    /// Where it stands on the partition's log.
    pub offset: u64,
    /// The very bytes of the log.
    pub bytes: Bytes,
    /// Whose record it is.
    pub scope: Scope,
    /// When the edge or the owner stamped it, in milliseconds since the epoch.
    pub accepted_at_ms: i64,
    /// Certainly no earlier claim on its idempotency key stands in what was decided before this write set:
    /// then none is looked for.
    pub is_new: bool,
    /// What it says.
    pub body: Body,
}

/// What a record says. Ids have been checked to be ids.
#[derive(Debug)]
pub enum Body {
    /// The organization's backend pushed an event.
    Conversion(Box<Conversion>),
    /// The full state of a campaign.
    Campaign(CampaignId, proto::CampaignState),
    /// The full state of a gig, and its campaign.
    Gig(CampaignId, proto::GigState),
    /// A new version of a campaign's rulebook.
    Rulebook(RulebookChange),
    /// The full state of an aktvator.
    Aktvator(AktvatorId, proto::AktvatorState),
    /// The full state of a link.
    Link(LinkId, proto::LinkState),
    /// The full state of a code.
    Code(proto::CodeState),
    /// Money came in; the number is the command's id.
    WalletCredit(u128, proto::WalletCredit),
    /// Someone decides about a reward; the number is the command's id.
    MoveReward(u128, proto::MoveReward),
    /// Approved rewards are to be paid out; the number is the command's id.
    CreatePayout(u128, proto::CreatePayout),
    /// Someone decides about a payout; the number is the command's id.
    MovePayout(u128, proto::MovePayout),
    /// Money is taken back; the number is the command's id.
    WalletDebit(u128, proto::WalletDebit),
    /// Work is shown; the number is the attempt's id.
    SubmitAttempt(u128, proto::SubmitAttempt),
    /// It is refused; the number is the command's id.
    RejectAttempt(u128, proto::RejectAttempt),
    /// An event is taken back; the number is the command's id.
    ReverseEvent(u128, proto::ReverseEvent),
    /// The holding period of rewards is over.
    Mature(proto::Mature),
    /// Go on releasing held rewards.
    ReleaseHolds(proto::ReleaseHolds),
    /// Forget old claims that led to no reward.
    ExpireClaims(proto::ExpireClaims),
    /// Only time has passed.
    Tick,
}

/// A new version of a campaign's rulebook, compiled.
#[derive(Debug)]
pub struct RulebookChange {
    /// Whose rules.
    pub campaign: CampaignId,
    /// From 1.
    pub version: u64,
    /// The first `acceptedAt` it is in force for, in milliseconds since the epoch.
    pub effective_from_ms: i64,
    /// The rules.
    pub rulebook: Arc<Rulebook>,
}

/// A conversion event with its ids as ids.
#[derive(Debug)]
pub struct Conversion {
    /// Of (organization, mode, idempotency key).
    pub id: ConversionEventId,
    /// As the client named it.
    pub campaign: Option<CampaignId>,
    /// As the client named it.
    pub gig: Option<GigId>,
    /// As the client named it.
    pub link: Option<LinkId>,
    /// The link of the signed click id, and when it was clicked (milliseconds since the epoch).
    pub click: Option<(LinkId, i64)>,
    /// As the client named it, upper case.
    pub code: Option<Arc<str>>,
    /// Of the event that verifies an action attempt: who earns.
    pub attempt: Option<AktvatorId>,
    /// When it happened, by default when it was accepted (milliseconds since the epoch).
    pub occurred_at_ms: i64,
    /// Everything else.
    pub event: proto::ConversionEvent,
    metadata: OnceLock<Value>,
    customer: OnceLock<u128>,
}

/// Why bytes of the log are not an [`Entry`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Broken bytes: they go to the dead letters, and the partition goes on.
    #[error("the record is malformed: {0}")]
    Malformed(&'static str),
    /// A kind or grammar that a newer binary wrote: the partition halts.
    #[error("the record is of an unknown kind or version: {0}")]
    Unknown(&'static str),
}

use Undecodable::{Malformed, Unknown};

impl Entry {
    /// The record at `offset` of the log.
    ///
    /// # Errors
    /// [`Undecodable`] says whether to go on without it or to halt.
    pub fn decode(offset: u64, bytes: Bytes) -> Result<Self, Undecodable> {
        let record =
            proto::Record::decode(bytes.clone()).map_err(|_| Malformed("not a Record message"))?;
        let body = record.body.ok_or(Unknown("body"))?;
        let scope = match body {
            record::Body::Tick(_) => NOBODY,
            _ => scope(&record.organization, record.mode)?,
        };
        let body = Body::of(body, record.accepted_at_ms)?;
        Ok(Self {
            offset,
            bytes,
            scope,
            accepted_at_ms: record.accepted_at_ms,
            is_new: false,
            body,
        })
    }

    /// Under which an earlier claim on the same idempotency key would stand.
    pub fn claim(&self) -> Option<Key> {
        match &self.body {
            Body::Conversion(event) => Some(Key::Event(self.scope, event.id)),
            _ => None,
        }
    }
}

fn scope(organization: &Bytes, mode: i32) -> Result<Scope, Undecodable> {
    let organization = OrganizationId::from_proto(organization).ok_or(Malformed("organization"))?;
    let mode = match proto::Mode::try_from(mode) {
        Ok(proto::Mode::Live) => Mode::Live,
        Ok(proto::Mode::Test) => Mode::Test,
        Ok(proto::Mode::Unspecified) => return Err(Malformed("mode")),
        Err(_) => return Err(Unknown("mode")),
    };
    Ok(Scope { organization, mode })
}

impl Body {
    fn of(body: record::Body, accepted_at_ms: i64) -> Result<Self, Undecodable> {
        Ok(match body {
            record::Body::Conversion(event) => {
                Self::Conversion(Box::new(Conversion::of(event, accepted_at_ms)?))
            }
            record::Body::Campaign(state) => {
                Self::Campaign(id(&state.id, "campaign id", CampaignId::from_proto)?, state)
            }
            record::Body::Gig(state) => {
                id(&state.id, "gig id", GigId::from_proto)?;
                Self::Gig(id(&state.campaign_id, "campaign id", CampaignId::from_proto)?, state)
            }
            record::Body::Rulebook(state) => Self::Rulebook(RulebookChange::of(state)?),
            record::Body::Aktvator(state) => {
                Self::Aktvator(id(&state.id, "aktvator id", AktvatorId::from_proto)?, state)
            }
            record::Body::Link(state) => {
                id(&state.campaign_id, "campaign id", CampaignId::from_proto)?;
                id(&state.aktvator_id, "aktvator id", AktvatorId::from_proto)?;
                Self::Link(id(&state.id, "link id", LinkId::from_proto)?, state)
            }
            record::Body::Code(state) => {
                id(&state.campaign_id, "campaign id", CampaignId::from_proto)?;
                id(&state.aktvator_id, "aktvator id", AktvatorId::from_proto)?;
                optional_id(&state.link_id, "link id", LinkId::from_proto)?;
                Self::Code(state)
            }
            record::Body::Mature(mature) => Self::Mature(mature),
            record::Body::ReleaseHolds(release) => Self::ReleaseHolds(release),
            record::Body::ExpireClaims(expire) => Self::ExpireClaims(expire),
            record::Body::Tick(_) => Self::Tick,
            body => Self::of_command(body)?,
        })
    }

    /// Commands about money and work, which carry an id.
    fn of_command(body: record::Body) -> Result<Self, Undecodable> {
        Ok(match body {
            record::Body::WalletCredit(credit) => {
                Self::WalletCredit(command_id(&credit.command_id)?, credit)
            }
            record::Body::MoveReward(command) => {
                if let Err(_) | Ok(proto::RewardAction::Unspecified) =
                    proto::RewardAction::try_from(command.action)
                {
                    return Err(Unknown("reward action"));
                }
                Self::MoveReward(command_id(&command.command_id)?, command)
            }
            record::Body::ReverseEvent(command) => {
                if command.event.is_none() {
                    return Err(Unknown("event to reverse"));
                }
                Self::ReverseEvent(command_id(&command.command_id)?, command)
            }
            record::Body::CreatePayout(command) => {
                id(&command.aktvator_id, "aktvator id", AktvatorId::from_proto)?;
                Self::CreatePayout(command_id(&command.command_id)?, command)
            }
            record::Body::MovePayout(command) => {
                if let Err(_) | Ok(proto::PayoutAction::Unspecified) =
                    proto::PayoutAction::try_from(command.action)
                {
                    return Err(Unknown("payout action"));
                }
                Self::MovePayout(command_id(&command.command_id)?, command)
            }
            record::Body::WalletDebit(debit) => {
                Self::WalletDebit(command_id(&debit.command_id)?, debit)
            }
            record::Body::SubmitAttempt(attempt) => {
                id(&attempt.aktvator_id, "aktvator id", AktvatorId::from_proto)?;
                id(&attempt.campaign_id, "campaign id", CampaignId::from_proto)?;
                id(&attempt.gig_id, "gig id", GigId::from_proto)?;
                Self::SubmitAttempt(command_id(&attempt.attempt_id)?, attempt)
            }
            record::Body::RejectAttempt(command) => {
                Self::RejectAttempt(command_id(&command.command_id)?, command)
            }
            _ => return Err(Unknown("body")),
        })
    }
}

impl RulebookChange {
    fn of(state: proto::RulebookState) -> Result<Self, Undecodable> {
        let campaign = id(&state.campaign_id, "campaign id", CampaignId::from_proto)?;
        // Control-api has validated it; what cannot be read here a newer binary can.
        let rulebook = Rulebook::compile(state.json).map_err(|_| Unknown("rulebook"))?;
        Ok(Self {
            campaign,
            version: state.version,
            effective_from_ms: state.effective_from_ms,
            rulebook: Arc::new(rulebook),
        })
    }
}

impl Conversion {
    fn of(event: proto::ConversionEvent, accepted_at_ms: i64) -> Result<Self, Undecodable> {
        let click = match &event.click {
            Some(click) => {
                Some((id(&click.link_id, "clicked link", LinkId::from_proto)?, click.clicked_at_ms))
            }
            None => None,
        };
        Ok(Self {
            id: id(&event.event_id, "event id", ConversionEventId::from_proto)?,
            campaign: optional_id(&event.campaign_id, "campaign id", CampaignId::from_proto)?,
            gig: optional_id(&event.gig_id, "gig id", GigId::from_proto)?,
            link: optional_id(&event.attribution_link_id, "link id", LinkId::from_proto)?,
            click,
            attempt: optional_id(&event.aktvator_id, "aktvator id", AktvatorId::from_proto)?,
            code: event.attribution_code.as_ref().map(|code| code.to_ascii_uppercase().into()),
            occurred_at_ms: event.occurred_at_ms.unwrap_or(accepted_at_ms),
            event,
            metadata: OnceLock::new(),
            customer: OnceLock::new(),
        })
    }

    /// The metadata, read when a rule first asks; null where there is none or it is not JSON.
    pub(crate) fn metadata(&self) -> &Value {
        self.metadata
            .get_or_init(|| serde_json::from_slice(&self.event.metadata).unwrap_or(Value::Null))
    }

    /// The hash that stands for the customer in counters and uniqueness slots; `None` where the event
    /// names no customer.
    pub(crate) fn customer(&self) -> Option<u128> {
        let id = self.event.customer.as_ref()?.id.as_ref()?;
        Some(*self.customer.get_or_init(|| customer_of(id)))
    }
}

/// What stands for the organization's id of a customer.
pub(crate) fn customer_of(id: &str) -> u128 {
    hash128("customer", &[id.as_bytes()])
}

fn command_id(bytes: &Bytes) -> Result<u128, Undecodable> {
    let id = <[u8; 16]>::try_from(bytes.as_ref()).map_err(|_| Malformed("command id"))?;
    Ok(u128::from_be_bytes(id))
}

fn id<T>(
    bytes: &Bytes,
    what: &'static str,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<T, Undecodable> {
    read(bytes).ok_or(Malformed(what))
}

fn optional_id<T>(
    bytes: &Option<Bytes>,
    what: &'static str,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, Undecodable> {
    bytes.as_ref().map(|bytes| id(bytes, what, read)).transpose()
}
