//! State rows: what stands under each [`Key`], and their bytes.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use schemas::proto;

use crate::key::Key;
use crate::rulebook::Rulebook;

/// What stands under a [`Key`].
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// Under [`Key::Campaign`].
    Campaign(proto::CampaignState),
    /// Under [`Key::Gigs`]: by id.
    Gigs(Vec<proto::GigState>),
    /// Under [`Key::Rulebooks`]: by version.
    Rulebooks(Vec<proto::RulebookVersion>),
    /// Under [`Key::Rulebook`]. Decoding compiles the rulebook, so keep it.
    Rulebook(Arc<Rulebook>),
    /// Under [`Key::Aktvator`].
    Aktvator(proto::AktvatorState),
    /// Under [`Key::Link`].
    Link(proto::LinkState),
    /// Under [`Key::Code`].
    Code(proto::CodeState),
    /// Under [`Key::Event`]. Boxed, so that a counter does not take the room of an event.
    Event(Box<proto::EventRow>),
    /// Under [`Key::Reward`].
    Reward(Box<proto::RewardRow>),
    /// Under [`Key::Counter`]: minor units of the rulebook's currency, or a count.
    Counter(i64),
    /// Under [`Key::Days`].
    Days(proto::DaysRow),
    /// Under [`Key::Tier`].
    Tier(proto::TierRow),
    /// Under [`Key::Recurring`].
    Recurring(proto::RecurringRow),
    /// Under [`Key::Binding`].
    Binding(proto::BindingRow),
    /// Under [`Key::External`].
    External(proto::ExternalRow),
    /// Under [`Key::Orphans`].
    Orphans(proto::OrphansRow),
    /// Under [`Key::Due`].
    Due(proto::DueRow),
    /// Under [`Key::Unique`].
    Unique(proto::UniqueRow),
    /// Under [`Key::Command`].
    Command(proto::CommandRow),
    /// Under [`Key::Wallet`].
    Wallet(proto::WalletRow),
    /// Under [`Key::Hold`].
    Hold(proto::HoldRow),
    /// Under [`Key::Lists`].
    Lists(proto::ListsRow),
    /// Under [`Key::EventIndex`], [`Key::RewardIndex`], [`Key::PayoutIndex`] and [`Key::AttemptIndex`].
    Index(proto::IndexRow),
    /// Under [`Key::Ledger`].
    Ledger(proto::LedgerRow),
    /// Under [`Key::Balance`].
    Balance(proto::BalanceRow),
    /// Under [`Key::Statement`].
    Statement(proto::StatementRow),
    /// Under [`Key::Payout`].
    Payout(Box<proto::PayoutRow>),
    /// Under [`Key::Attempt`].
    Attempt(Box<proto::AttemptRow>),
    /// Under [`Key::Continuations`].
    Continuations(Vec<proto::Record>),
}

/// The bytes under a key are not a row of its kind that this binary understands.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// Not the Protobuf message that belongs there.
    #[error("the row is not a {kind} message")]
    Malformed {
        /// What should have been there.
        kind: &'static str,
        /// Why it is not.
        source: prost::DecodeError,
    },
    /// A rulebook in a grammar that a newer binary wrote.
    #[error("the rulebook uses a grammar that this binary does not know")]
    UnknownRulebook,
}

impl Row {
    /// The bytes of the row; the same row always has the same bytes.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Rulebook(rulebook) => rulebook.source(),
            _ => {
                let mut bytes = Vec::new();
                self.encode_to(&mut bytes);
                Bytes::from(bytes)
            }
        }
    }

    /// Adds the bytes of the row.
    pub(crate) fn encode_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Campaign(row) => add(row, bytes),
            Self::Gigs(gigs) => add(&proto::GigsRow { gigs: gigs.clone() }, bytes),
            Self::Rulebooks(versions) => {
                add(&proto::RulebooksRow { versions: versions.clone() }, bytes);
            }
            Self::Rulebook(rulebook) => bytes.extend_from_slice(&rulebook.source()),
            Self::Aktvator(row) => add(row, bytes),
            Self::Link(row) => add(row, bytes),
            Self::Code(row) => add(row, bytes),
            Self::Event(row) => add(&**row, bytes),
            Self::Reward(row) => add(&**row, bytes),
            Self::Counter(value) => add(&proto::CounterRow { value: *value }, bytes),
            Self::Days(row) => add(row, bytes),
            Self::Tier(row) => add(row, bytes),
            Self::Recurring(row) => add(row, bytes),
            Self::Binding(row) => add(row, bytes),
            Self::External(row) => add(row, bytes),
            Self::Orphans(row) => add(row, bytes),
            Self::Due(row) => add(row, bytes),
            Self::Unique(row) => add(row, bytes),
            Self::Command(row) => add(row, bytes),
            Self::Wallet(row) => add(row, bytes),
            Self::Hold(row) => add(row, bytes),
            Self::Lists(row) => add(row, bytes),
            Self::Index(row) => add(row, bytes),
            Self::Ledger(row) => add(row, bytes),
            Self::Balance(row) => add(row, bytes),
            Self::Statement(row) => add(row, bytes),
            Self::Payout(row) => add(&**row, bytes),
            Self::Attempt(row) => add(&**row, bytes),
            Self::Continuations(records) => {
                add(&proto::ContinuationsRow { records: records.clone() }, bytes);
            }
        }
    }

    /// The row whose bytes stand under `key`.
    ///
    /// # Errors
    /// [`RowError`] where they are not a row of that kind; the partition must halt.
    pub fn decode(key: &Key, bytes: Bytes) -> Result<Self, RowError> {
        Ok(match key {
            Key::Campaign(..) => Self::Campaign(message("campaign", bytes)?),
            Key::Gigs(..) => Self::Gigs(message::<proto::GigsRow>("gigs", bytes)?.gigs),
            Key::Rulebooks(..) => {
                Self::Rulebooks(message::<proto::RulebooksRow>("rulebooks", bytes)?.versions)
            }
            Key::Rulebook(..) => {
                let rulebook = Rulebook::compile(bytes).map_err(|_| RowError::UnknownRulebook)?;
                Self::Rulebook(Arc::new(rulebook))
            }
            Key::Aktvator(..) => Self::Aktvator(message("aktvator", bytes)?),
            Key::Link(..) => Self::Link(message("link", bytes)?),
            Key::Code(..) => Self::Code(message("code", bytes)?),
            Key::Event(..) => Self::Event(Box::new(message("event", bytes)?)),
            Key::Reward(..) => Self::Reward(Box::new(message("reward", bytes)?)),
            Key::Counter(..) => {
                Self::Counter(message::<proto::CounterRow>("counter", bytes)?.value)
            }
            Key::Days(..) => Self::Days(message("days", bytes)?),
            Key::Tier(..) => Self::Tier(message("tier", bytes)?),
            Key::Recurring(..) => Self::Recurring(message("recurring", bytes)?),
            Key::Binding(..) => Self::Binding(message("binding", bytes)?),
            Key::External(..) => Self::External(message("external", bytes)?),
            Key::Orphans(..) => Self::Orphans(message("orphans", bytes)?),
            Key::Due(..) => Self::Due(message("due", bytes)?),
            Key::Unique(..) => Self::Unique(message("unique", bytes)?),
            Key::Command(..) => Self::Command(message("command", bytes)?),
            Key::Wallet(..) => Self::Wallet(message("wallet", bytes)?),
            Key::Hold(..) => Self::Hold(message("hold", bytes)?),
            Key::Lists(..) => Self::Lists(message("lists", bytes)?),
            Key::EventIndex(..)
            | Key::RewardIndex(..)
            | Key::PayoutIndex(..)
            | Key::AttemptIndex(..) => Self::Index(message("index", bytes)?),
            Key::Ledger(..) => Self::Ledger(message("ledger", bytes)?),
            Key::Balance(..) => Self::Balance(message("balance", bytes)?),
            Key::Statement(..) => Self::Statement(message("statement", bytes)?),
            Key::Attempt(..) => Self::Attempt(Box::new(message("attempt", bytes)?)),
            Key::Payout(..) => Self::Payout(Box::new(message("payout", bytes)?)),
            Key::Continuations => Self::Continuations(
                message::<proto::ContinuationsRow>("continuations", bytes)?.records,
            ),
        })
    }
}

fn add(message: &impl Message, bytes: &mut Vec<u8>) {
    bytes.reserve(message.encoded_len());
    message.encode_raw(bytes);
}

fn message<M: Message + Default>(kind: &'static str, bytes: Bytes) -> Result<M, RowError> {
    M::decode(bytes).map_err(|source| RowError::Malformed { kind, source })
}
