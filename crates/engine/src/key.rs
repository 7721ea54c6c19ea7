//! Names of state rows: what they are, and their bytes.
//!
//! A key is the scope (17 bytes), one byte of kind, and the rest big-endian, so that everything of
//! one organization and mode stands together and rows of one kind sort by what names them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use schemas::id::{
    ActionAttemptId, AktvatorId, CampaignId, ConversionEventId, LinkId, OrganizationId, PayoutId,
    RewardId,
};
use schemas::partition::{Mode, Scope};

use crate::calendar::Bucket;

/// The name of one state row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A campaign as its last command says.
    Campaign(Scope, CampaignId),
    /// All gigs of a campaign.
    Gigs(Scope, CampaignId),
    /// Which rulebook versions a campaign has.
    Rulebooks(Scope, CampaignId),
    /// One version of a campaign's rulebook; its row never changes.
    Rulebook(Scope, CampaignId, u64),
    /// An aktvator as the last command says.
    Aktvator(Scope, AktvatorId),
    /// A link as its last command says.
    Link(Scope, LinkId),
    /// A code, upper case.
    Code(Scope, Arc<str>),
    /// The claim on an idempotency key, the event and its decision.
    Event(Scope, ConversionEventId),
    /// A reward.
    Reward(Scope, RewardId),
    /// How much of a cap is used, or what a metric stands at.
    Counter(Scope, Slot),
    /// The same by day, for a rolling window.
    Days(Scope, Slot),
    /// Sums over the conversions of a rule with retroactive tiers.
    Tier(Scope, Slot),
    /// What a recurring rule has given.
    Recurring(Scope, Slot),
    /// To whom a customer (its hash) is bound.
    Binding(Scope, CampaignId, u128),
    /// Which reward holds a uniqueness slot.
    Unique(Scope, Slot),
    /// What became of a fold command, by its id.
    Command(Scope, u128),
    /// Balances, and the ends of the queue of held rewards.
    Wallet(Scope),
    /// One place in the queue of held rewards.
    Hold(Scope, u64),
    /// How long the scope's lists are.
    Lists(Scope),
    /// One block of the list of events, by the position of its first place.
    EventIndex(Scope, u64),
    /// One block of the list of rewards, by the position of its first place.
    RewardIndex(Scope, u64),
    /// One block of the list of ledger transactions, by the position of its first place.
    Ledger(Scope, u64),
    /// What the owner of the partition must append; one per partition.
    Continuations,
    /// Which event has an external reference (its hash).
    External(Scope, u128),
    /// Reversals that wait for an event, by its id or the hash of its external reference.
    Orphans(Scope, u128),
    /// What of the ledger is an aktvator's.
    Balance(Scope, AktvatorId),
    /// One block of an aktvator's statement, by the position of its first line.
    Statement(Scope, AktvatorId, u64),
    /// A payout.
    Payout(Scope, PayoutId),
    /// One block of the list of payouts, by the position of its first place.
    PayoutIndex(Scope, u64),
    /// An action attempt.
    Attempt(Scope, ActionAttemptId),
    /// One block of the list of action attempts, by the position of its first place.
    AttemptIndex(Scope, u64),
    /// What becomes due in an hour since the epoch, by place. All of a partition stand together, so that its owner
    /// finds what is due first.
    Due(Scope, u64, u64),
}

/// What a counter or a uniqueness slot is of. Its bytes sort by campaign, meaning and bucket, so
/// that what a closed bucket left behind is one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Whose rulebook.
    pub campaign: CampaignId,
    /// Hash of what is counted: a cap's key, scope and metric, or a uniqueness rule.
    pub of: u128,
    /// The calendar bucket.
    pub bucket: Bucket,
    /// Within which it is counted: 0 for the campaign, an id, or the hash of a customer's.
    pub subject: u128,
}

/// Places of one block of a list: every block but the last is full. Blocks are of one size, so that a
/// list has the same rows however the log was cut into batches.
pub const BLOCK_LEN: u64 = 64;

/// Lines of one block of a statement: every block but the last is full.
pub const LINES: u64 = 16;

/// What lists read: rows named by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexKind {
    /// [`Key::EventIndex`].
    Events,
    /// [`Key::RewardIndex`].
    Rewards,
    /// [`Key::Ledger`].
    Ledger,
    /// [`Key::PayoutIndex`].
    Payouts,
    /// [`Key::AttemptIndex`].
    Attempts,
}

/// The longest fixed part of a key: scope, kind and a [`Slot`].
const FIXED_MAX: usize = 17 + 1 + 16 + 16 + 5 + 16;

impl Key {
    /// The bytes that name the row in the state store.
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(FIXED_MAX);
        self.encode_to(&mut bytes);
        Bytes::from(bytes)
    }

    /// Adds the bytes that name the row.
    pub(crate) fn encode_to(&self, bytes: &mut Vec<u8>) {
        if let Self::Due(scope, hour, place) = self {
            bytes.extend_from_slice(&NOBODY.to_bytes());
            bytes.push(kind::DUE);
            bytes.extend_from_slice(&hour.to_be_bytes());
            bytes.extend_from_slice(&scope.to_bytes());
            bytes.extend_from_slice(&place.to_be_bytes());
            return;
        }
        bytes.extend_from_slice(&self.scope().to_bytes());
        bytes.push(self.kind());
        match self {
            Self::Campaign(_, id) | Self::Gigs(_, id) | Self::Rulebooks(_, id) => {
                bytes.extend_from_slice(&id.to_bytes());
            }
            Self::Rulebook(_, id, version) => {
                bytes.extend_from_slice(&id.to_bytes());
                bytes.extend_from_slice(&version.to_be_bytes());
            }
            Self::Aktvator(_, id) | Self::Balance(_, id) => {
                bytes.extend_from_slice(&id.to_bytes());
            }
            Self::Statement(_, id, position) => {
                bytes.extend_from_slice(&id.to_bytes());
                bytes.extend_from_slice(&position.to_be_bytes());
            }
            Self::Payout(_, id) => bytes.extend_from_slice(&id.to_bytes()),
            Self::Attempt(_, id) => bytes.extend_from_slice(&id.to_bytes()),
            Self::Link(_, id) => bytes.extend_from_slice(&id.to_bytes()),
            Self::Code(_, code) => bytes.extend_from_slice(code.as_bytes()),
            Self::Event(_, id) => bytes.extend_from_slice(&id.to_bytes()),
            Self::Reward(_, id) => bytes.extend_from_slice(&id.to_bytes()),
            Self::Counter(_, slot)
            | Self::Days(_, slot)
            | Self::Tier(_, slot)
            | Self::Recurring(_, slot)
            | Self::Unique(_, slot) => slot.encode(bytes),
            Self::Binding(_, campaign, customer) => {
                bytes.extend_from_slice(&campaign.to_bytes());
                bytes.extend_from_slice(&customer.to_be_bytes());
            }
            Self::Command(_, id) => bytes.extend_from_slice(&id.to_be_bytes()),
            Self::External(_, id) | Self::Orphans(_, id) => {
                bytes.extend_from_slice(&id.to_be_bytes());
            }
            Self::Wallet(_) | Self::Lists(_) | Self::Continuations | Self::Due(..) => {}
            Self::Hold(_, place) => bytes.extend_from_slice(&place.to_be_bytes()),
            Self::EventIndex(_, position)
            | Self::RewardIndex(_, position)
            | Self::PayoutIndex(_, position)
            | Self::AttemptIndex(_, position)
            | Self::Ledger(_, position) => {
                bytes.extend_from_slice(&position.to_be_bytes());
            }
        }
    }

    /// The block of an index whose first place has this position.
    pub const fn index(kind: IndexKind, scope: Scope, position: u64) -> Self {
        match kind {
            IndexKind::Events => Self::EventIndex(scope, position),
            IndexKind::Rewards => Self::RewardIndex(scope, position),
            IndexKind::Ledger => Self::Ledger(scope, position),
            IndexKind::Payouts => Self::PayoutIndex(scope, position),
            IndexKind::Attempts => Self::AttemptIndex(scope, position),
        }
    }

    /// From inclusive, to exclusive: every row of an index, oldest first.
    pub fn index_range(scope: Scope, kind: IndexKind) -> (Bytes, Bytes) {
        let first = Self::index(kind, scope, 0);
        (first.encode(), after_kind(scope, first.kind()))
    }

    /// From inclusive, to exclusive: every balance of a scope, by aktvator, after the one given.
    pub fn balances_after(scope: Scope, after: Option<AktvatorId>) -> (Bytes, Bytes) {
        let mut from = Self::Balance(scope, after.unwrap_or(AktvatorId::from_u128(0))).encode();
        if after.is_some() {
            from = [&from[..], &[0]].concat().into();
        }
        (from, after_kind(scope, kind::BALANCE))
    }

    /// Whose balance stands under a key of these bytes; `None` for any other key.
    pub fn balance_of(key: &[u8]) -> Option<AktvatorId> {
        let (head, id) = key.split_last_chunk::<16>()?;
        let is_balance = head.len() == 18 && head.last() == Some(&kind::BALANCE);
        is_balance.then(|| AktvatorId::from_u128(u128::from_be_bytes(*id)))
    }

    /// The position in the bytes of an index row's key; `None` for any other key.
    pub fn index_position(key: &[u8]) -> Option<u64> {
        let (head, position) = key.split_last_chunk::<8>()?;
        let kind = *head.get(17)?;
        let is_index =
            head.len() == 18 && (kind::EVENT_INDEX..=kind::ATTEMPT_INDEX).contains(&kind);
        is_index.then(|| u64::from_be_bytes(*position))
    }

    /// From inclusive, to exclusive: what is due before the hour after this one, of the whole partition.
    pub fn due_range(hour: u64) -> (Bytes, Bytes) {
        let mut from = NOBODY.to_bytes().to_vec();
        from.push(kind::DUE);
        let mut to = from.clone();
        to.extend_from_slice(&hour.saturating_add(1).to_be_bytes());
        (Bytes::from(from), Bytes::from(to))
    }

    /// The hour, the scope and the place in the bytes of a [`Key::Due`]; `None` for any other key.
    pub fn due_parts(key: &[u8]) -> Option<(Scope, u64, u64)> {
        let prefix = NOBODY.to_bytes();
        let rest = key.strip_prefix(&prefix[..])?.strip_prefix(&[kind::DUE])?;
        let (hour, rest) = rest.split_first_chunk::<8>()?;
        let (scope, place) = rest.split_first_chunk::<17>()?;
        let place = place.try_into().ok()?;
        let scope = Scope::from_bytes(scope)?;
        Some((scope, u64::from_be_bytes(*hour), u64::from_be_bytes(place)))
    }

    /// Whose row stands under a key of these bytes.
    pub fn scope_of(key: &[u8]) -> Option<Scope> {
        let due = Self::due_parts(key).map(|(scope, _, _)| scope);
        due.or_else(|| key.first_chunk().and_then(Scope::from_bytes))
    }

    /// Whose row it is; [`Key::Continuations`] belongs to nobody and stands at the scope of zero.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Campaign(scope, _)
            | Self::Gigs(scope, _)
            | Self::Rulebooks(scope, _)
            | Self::Rulebook(scope, _, _)
            | Self::Aktvator(scope, _)
            | Self::Link(scope, _)
            | Self::Code(scope, _)
            | Self::Event(scope, _)
            | Self::Reward(scope, _)
            | Self::Counter(scope, _)
            | Self::Days(scope, _)
            | Self::Tier(scope, _)
            | Self::Recurring(scope, _)
            | Self::Binding(scope, _, _)
            | Self::External(scope, _)
            | Self::Orphans(scope, _)
            | Self::Due(scope, _, _)
            | Self::Balance(scope, _)
            | Self::Statement(scope, _, _)
            | Self::Payout(scope, _)
            | Self::PayoutIndex(scope, _)
            | Self::Attempt(scope, _)
            | Self::AttemptIndex(scope, _)
            | Self::Unique(scope, _)
            | Self::Command(scope, _)
            | Self::Wallet(scope)
            | Self::Lists(scope)
            | Self::Hold(scope, _)
            | Self::EventIndex(scope, _)
            | Self::RewardIndex(scope, _)
            | Self::Ledger(scope, _) => *scope,
            Self::Continuations => NOBODY,
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Campaign(..) => kind::CAMPAIGN,
            Self::Gigs(..) => kind::GIGS,
            Self::Rulebooks(..) => kind::RULEBOOKS,
            Self::Rulebook(..) => kind::RULEBOOK,
            Self::Aktvator(..) => kind::AKTVATOR,
            Self::Link(..) => kind::LINK,
            Self::Code(..) => kind::CODE,
            Self::Event(..) => kind::EVENT,
            Self::Reward(..) => kind::REWARD,
            Self::Counter(..) => kind::COUNTER,
            Self::Days(..) => kind::DAYS,
            Self::Tier(..) => kind::TIER,
            Self::Recurring(..) => kind::RECURRING,
            Self::Binding(..) => kind::BINDING,
            Self::Unique(..) => kind::UNIQUE,
            Self::Command(..) => kind::COMMAND,
            Self::Wallet(..) => kind::WALLET,
            Self::Hold(..) => kind::HOLD,
            Self::Lists(..) => kind::LISTS,
            Self::EventIndex(..) => kind::EVENT_INDEX,
            Self::RewardIndex(..) => kind::REWARD_INDEX,
            Self::Ledger(..) => kind::LEDGER,
            Self::Continuations => kind::CONTINUATIONS,
            Self::External(..) => kind::EXTERNAL,
            Self::Orphans(..) => kind::ORPHANS,
            Self::Balance(..) => kind::BALANCE,
            Self::Statement(..) => kind::STATEMENT,
            Self::Payout(..) => kind::PAYOUT,
            Self::PayoutIndex(..) => kind::PAYOUT_INDEX,
            Self::Attempt(..) => kind::ATTEMPT,
            Self::AttemptIndex(..) => kind::ATTEMPT_INDEX,
            Self::Due(..) => kind::DUE,
        }
    }
}

/// The first bytes behind every row of one kind.
fn after_kind(scope: Scope, kind: u8) -> Bytes {
    let mut end = scope.to_bytes().to_vec();
    end.push(kind + 1);
    Bytes::from(end)
}

/// A few numbers instead of every byte: ids are random or hashes, so their low halves tell keys apart,
/// and looking rows up is most of what deciding does.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let scope = self.scope();
        let whose = scope.organization.to_u128() as u64;
        state.write_u64(whose ^ (u64::from(self.kind()) << 56) ^ (scope.mode as u64));
        match self {
            Self::Campaign(_, id) | Self::Gigs(_, id) | Self::Rulebooks(_, id) => {
                state.write_u64(id.to_u128() as u64);
            }
            Self::Rulebook(_, id, version) => {
                state.write_u64((id.to_u128() as u64).wrapping_add(*version));
            }
            Self::Aktvator(_, id) | Self::Balance(_, id) => state.write_u64(id.to_u128() as u64),
            Self::Statement(_, id, position) => {
                state.write_u64((id.to_u128() as u64).wrapping_add(*position));
            }
            Self::Payout(_, id) => state.write_u64(id.to_u128() as u64),
            Self::Attempt(_, id) => state.write_u64(id.to_u128() as u64),
            Self::Link(_, id) => state.write_u64(id.to_u128() as u64),
            Self::Code(_, code) => state.write(code.as_bytes()),
            Self::Event(_, id) => state.write_u64(id.to_u128() as u64),
            Self::Reward(_, id) => state.write_u64(id.to_u128() as u64),
            Self::Binding(_, campaign, customer) => {
                state.write_u64(campaign.to_u128() as u64 ^ *customer as u64);
            }
            Self::Counter(_, slot)
            | Self::Days(_, slot)
            | Self::Tier(_, slot)
            | Self::Recurring(_, slot)
            | Self::Unique(_, slot) => {
                state.write_u64(slot.of as u64 ^ slot.campaign.to_u128() as u64);
                state.write_u64(slot.subject as u64 ^ ((slot.bucket.index as u64) << 32));
            }
            Self::Command(_, id) | Self::External(_, id) | Self::Orphans(_, id) => {
                state.write_u64(*id as u64);
            }
            Self::Due(_, hour, place) => state.write_u64(hour.wrapping_mul(1 << 32) ^ *place),
            Self::Hold(_, number)
            | Self::EventIndex(_, number)
            | Self::RewardIndex(_, number)
            | Self::PayoutIndex(_, number)
            | Self::AttemptIndex(_, number)
            | Self::Ledger(_, number) => state.write_u64(*number),
            Self::Wallet(_) | Self::Lists(_) | Self::Continuations => {}
        }
    }
}

impl Slot {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.campaign.to_bytes());
        bytes.extend_from_slice(&self.of.to_be_bytes());
        bytes.extend_from_slice(&self.bucket.to_bytes());
        bytes.extend_from_slice(&self.subject.to_be_bytes());
    }
}

/// Stands in for a scope where a row or a record belongs to the partition as a whole.
pub(crate) const NOBODY: Scope =
    Scope { organization: OrganizationId::from_u128(0), mode: Mode::Live };

/// The byte of each kind: stable for ever, append-only.
mod kind {
    pub(super) const CAMPAIGN: u8 = 1;
    pub(super) const GIGS: u8 = 2;
    pub(super) const RULEBOOKS: u8 = 3;
    pub(super) const RULEBOOK: u8 = 4;
    pub(super) const AKTVATOR: u8 = 5;
    pub(super) const LINK: u8 = 6;
    pub(super) const CODE: u8 = 7;
    pub(super) const EVENT: u8 = 16;
    pub(super) const REWARD: u8 = 17;
    pub(super) const COUNTER: u8 = 18;
    pub(super) const UNIQUE: u8 = 19;
    pub(super) const COMMAND: u8 = 20;
    pub(super) const WALLET: u8 = 21;
    pub(super) const HOLD: u8 = 22;
    pub(super) const LISTS: u8 = 23;
    pub(super) const DAYS: u8 = 24;
    pub(super) const TIER: u8 = 25;
    pub(super) const RECURRING: u8 = 26;
    pub(super) const BINDING: u8 = 27;
    pub(super) const EXTERNAL: u8 = 28;
    pub(super) const ORPHANS: u8 = 29;
    pub(super) const BALANCE: u8 = 30;
    pub(super) const STATEMENT: u8 = 31;
    pub(super) const EVENT_INDEX: u8 = 32;
    pub(super) const REWARD_INDEX: u8 = 33;
    pub(super) const LEDGER: u8 = 34;
    pub(super) const PAYOUT_INDEX: u8 = 35;
    pub(super) const PAYOUT: u8 = 36;
    pub(super) const ATTEMPT_INDEX: u8 = 37;
    pub(super) const ATTEMPT: u8 = 38;
    pub(super) const CONTINUATIONS: u8 = 48;
    pub(super) const DUE: u8 = 49;
}
