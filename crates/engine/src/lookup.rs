//! Looking rows up. A row that is not known is noted, so that it is fetched and the record that needs it
//! decided then.

use rustc_hash::FxHashSet;
use schemas::proto;

use crate::decision::Code;
use crate::entry::{Conversion, Entry};
use crate::key::Key;
use crate::known::Known;
use crate::row::Row;

/// Reads what is known.
pub(crate) struct Lookup<'a, 'm> {
    known: &'a Known,
    missed: &'m mut Missed,
}

/// Keys to fetch, each once.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    pub(crate) keys: Vec<Key>,
    seen: FxHashSet<Key>,
}

/// A row must be fetched first, and has been noted; or another one says that it is there, and it is not.
#[derive(Debug)]
pub(crate) struct Unfetched;

/// Why the way to a reward ends here.
pub(crate) enum Stop {
    /// As [`Unfetched`].
    Unfetched,
    /// The event gets no reward, for this reason and detail.
    Refused(Code, &'static str),
}

impl From<Unfetched> for Stop {
    fn from(_: Unfetched) -> Self {
        Self::Unfetched
    }
}

impl<'a, 'm> Lookup<'a, 'm> {
    pub(crate) fn new(known: &'a Known, missed: &'m mut Missed) -> Self {
        Self { known, missed }
    }

    /// The row under `key`; `None` where there is none.
    pub(crate) fn row(&mut self, key: Key) -> Result<Option<&'a Row>, Unfetched> {
        self.known.get(&key).ok_or_else(|| self.missed.add(key))
    }

    /// Asks for rows that will be looked up together.
    pub(crate) fn ask(&mut self, keys: impl IntoIterator<Item = Key>) {
        keys.into_iter().for_each(|key| drop(self.row(key)));
    }

    /// An earlier claim on the event's idempotency key.
    pub(crate) fn claim(
        &mut self,
        entry: &Entry,
        event: &Conversion,
    ) -> Result<Option<&'a proto::EventRow>, Unfetched> {
        if entry.is_new && !self.known.has_written(event.id.to_u128()) {
            return Ok(None);
        }
        Ok(self.event(Key::Event(entry.scope, event.id))?.map(AsRef::as_ref))
    }
}

impl Missed {
    fn add(&mut self, key: Key) -> Unfetched {
        if self.seen.insert(key.clone()) {
            self.keys.push(key);
        }
        Unfetched
    }

    /// What was noted since the last call.
    pub(crate) fn take(&mut self) -> Vec<Key> {
        self.seen.clear();
        std::mem::take(&mut self.keys)
    }
}

macro_rules! typed {
    ($($name:ident: $variant:ident => $row:ty;)*) => {
        impl<'a> Lookup<'a, '_> {$(
            pub(crate) fn $name(&mut self, key: Key) -> Result<Option<&'a $row>, Unfetched> {
                Ok(self.row(key)?.and_then(|row| match row {
                    Row::$variant(row) => Some(row),
                    _ => None,
                }))
            }
        )*}
    };
}

typed! {
    campaign: Campaign => proto::CampaignState;
    gigs: Gigs => Vec<proto::GigState>;
    rulebooks: Rulebooks => Vec<proto::RulebookVersion>;
    rulebook: Rulebook => std::sync::Arc<crate::rulebook::Rulebook>;
    aktvator: Aktvator => proto::AktvatorState;
    link: Link => proto::LinkState;
    code: Code => proto::CodeState;
    event: Event => Box<proto::EventRow>;
    reward: Reward => Box<proto::RewardRow>;
    counter: Counter => i64;
    recurring: Recurring => proto::RecurringRow;
    binding: Binding => proto::BindingRow;
    external: External => proto::ExternalRow;
    orphans: Orphans => proto::OrphansRow;
    due: Due => proto::DueRow;
    command: Command => proto::CommandRow;
    wallet: Wallet => proto::WalletRow;
    hold: Hold => proto::HoldRow;
    lists: Lists => proto::ListsRow;
    index: Index => proto::IndexRow;
    ledger: Ledger => proto::LedgerRow;
    balance: Balance => proto::BalanceRow;
    statement: Statement => proto::StatementRow;
    attempt: Attempt => Box<proto::AttemptRow>;
    payout: Payout => Box<proto::PayoutRow>;
    continuations: Continuations => Vec<proto::Record>;
}
