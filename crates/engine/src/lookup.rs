//! Looking rows up, with one code for both phases: while planning, what is not known is noted as wanted
//! and the way stops there; while deciding, everything is known.

use rustc_hash::FxHashSet;
use schemas::proto;

use crate::decision::Code;
use crate::key::Key;
use crate::row::Row;
use crate::snapshot::Snapshot;

/// Reads a snapshot for one phase.
pub(crate) struct Lookup<'a, 'w> {
    known: &'a Snapshot,
    /// `None` while deciding.
    wanted: Option<&'w mut Wanted>,
}

/// Keys to fetch, each once.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) keys: Vec<Key>,
    /// Was a key not known since this was last reset?
    pub(crate) missed: bool,
    seen: FxHashSet<Key>,
}

/// Why the way to a reward ends here.
pub(crate) enum Stop {
    /// A row must be fetched first; it has been noted. Only while planning.
    Unfetched,
    /// The event gets no reward, for this reason and detail.
    Refused(Code, &'static str),
}

impl<'a, 'w> Lookup<'a, 'w> {
    pub(crate) fn planning(known: &'a Snapshot, wanted: &'w mut Wanted) -> Self {
        Self { known, wanted: Some(wanted) }
    }

    pub(crate) fn deciding(known: &'a Snapshot) -> Self {
        Self { known, wanted: None }
    }

    /// The row under `key`; `None` where there is none.
    pub(crate) fn row(&mut self, key: Key) -> Result<Option<&'a Row>, Stop> {
        match (self.known.get(&key), &mut self.wanted) {
            (Some(row), _) => Ok(row.map(AsRef::as_ref)),
            (None, Some(wanted)) => {
                wanted.add(key);
                Err(Stop::Unfetched)
            }
            // Going on as if the row were absent could pay twice.
            (None, None) => panic!("decide needs {key:?}, which plan did not want"),
        }
    }
}

impl Wanted {
    fn add(&mut self, key: Key) {
        self.missed = true;
        if self.seen.insert(key.clone()) {
            self.keys.push(key);
        }
    }
}

macro_rules! typed {
    ($($name:ident: $variant:ident => $row:ty;)*) => {
        impl<'a> Lookup<'a, '_> {$(
            pub(crate) fn $name(&mut self, key: Key) -> Result<Option<&'a $row>, Stop> {
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
    unique: Unique => proto::UniqueRow;
    command: Command => proto::CommandRow;
    wallet: Wallet => proto::WalletRow;
    hold: Hold => proto::HoldRow;
    index: Index => proto::IndexRow;
    continuations: Continuations => Vec<proto::Record>;
}
