//! The first phase: which records are decided together, and which rows that may touch.

use schemas::id::{ConversionEventId, LinkId};
use schemas::proto;

use crate::claim::{self, Standing};
use crate::decide::Settings;
use crate::entry::{Body, Conversion, Entry};
use crate::judge;
use crate::key::Key;
use crate::lookup::{Lookup, Stop, Wanted};
use crate::resolve::{Trail, resolve};
use crate::snapshot::Snapshot;

/// How many of `entries` are decided together: a run of conversions, a run of catalog commands and
/// ticks, or a single record that moves money or forgets claims. 0 only where there are none.
pub fn batch_len(entries: &[Entry]) -> usize {
    let Some(first) = entries.first().map(kind) else { return 0 };
    match first {
        Kind::Alone => 1,
        _ => entries.iter().take_while(|entry| kind(entry) == first).count(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Conversion,
    Catalog,
    Alone,
}

fn kind(entry: &Entry) -> Kind {
    match entry.body {
        Body::Conversion(_) => Kind::Conversion,
        Body::Campaign(..)
        | Body::Gig(..)
        | Body::Rulebook(_)
        | Body::Aktvator(..)
        | Body::Link(..)
        | Body::Code(_)
        | Body::Tick => Kind::Catalog,
        Body::WalletCredit(..) | Body::ReleaseHolds(_) | Body::ExpireClaims(_) => Kind::Alone,
    }
}

/// Finds out which keys [`decide`](crate::decide::decide) may touch.
#[derive(Debug)]
pub struct Plan<'e> {
    settings: &'e Settings,
    /// Entries of which some key may not be known yet.
    unfinished: Vec<&'e Entry>,
}

impl<'e> Plan<'e> {
    /// Of a batch as [`batch_len`] cuts it.
    pub fn new(settings: &'e Settings, entries: &'e [Entry]) -> Self {
        Self { settings, unfinished: entries.iter().collect() }
    }

    /// The keys that are wanted and that `known` lacks, each once. Put what stands under them into
    /// `known` and ask again, until it wants nothing: which row is needed may depend on another, and
    /// after four fetches at most all are there. Nothing that is known may be forgotten meanwhile.
    pub fn wants(&mut self, known: &Snapshot) -> Vec<Key> {
        let mut wanted = Wanted::default();
        self.unfinished.retain(|entry| {
            wanted.missed = false;
            // Where the way ends does not matter here; what it lacked has been noted.
            let _ = plan_entry(self.settings, entry, &mut Lookup::planning(known, &mut wanted));
            wanted.missed
        });
        wanted.keys
    }
}

fn plan_entry<'a>(
    settings: &Settings,
    entry: &'a Entry,
    look: &mut Lookup<'a, '_>,
) -> Result<(), Stop> {
    let scope = entry.scope;
    match &entry.body {
        Body::Conversion(event) => return plan_conversion(settings, entry, event, look),
        Body::Campaign(id, _) => drop(look.row(Key::Campaign(scope, *id))?),
        Body::Gig(campaign, _) => drop(look.row(Key::Gigs(scope, *campaign))?),
        Body::Rulebook(change) => drop(look.row(Key::Rulebooks(scope, change.campaign))?),
        Body::Aktvator(id, _) => drop(look.row(Key::Aktvator(scope, *id))?),
        Body::Link(id, link) => return plan_link(entry, *id, link, look),
        Body::Code(code) => drop(look.row(Key::Code(scope, code.code.to_ascii_uppercase()))?),
        Body::WalletCredit(id, _) => {
            let done = look.row(Key::Command(scope, *id));
            let holds = plan_holds(settings, entry, look);
            return done.and(holds);
        }
        Body::ReleaseHolds(_) => return plan_holds(settings, entry, look),
        Body::ExpireClaims(expire) => {
            let index = look.index(Key::EventIndex(scope, expire.index_offset))?;
            for id in index.iter().flat_map(|index| &index.ids) {
                if let Some(id) = ConversionEventId::from_proto(id) {
                    let _ = look.row(Key::Event(scope, id));
                }
            }
        }
        Body::Tick => {}
    }
    Ok(())
}

fn plan_conversion<'a>(
    settings: &Settings,
    entry: &Entry,
    event: &'a Conversion,
    look: &mut Lookup<'a, '_>,
) -> Result<(), Stop> {
    let claimed = look.event(Key::Event(entry.scope, event.id));
    if let Ok(Some(row)) = claimed
        && !matches!(claim::standing(row, entry, event, settings), Standing::New)
    {
        return Ok(());
    }
    let _ = look.row(Key::Wallet(entry.scope));
    let facts = resolve(look, entry, event, &mut Trail::default())?;
    judge::plan(look, &facts);
    Ok(())
}

fn plan_link(
    entry: &Entry,
    id: LinkId,
    link: &proto::LinkState,
    look: &mut Lookup<'_, '_>,
) -> Result<(), Stop> {
    let row = look.row(Key::Link(entry.scope, id));
    look.row(Key::Code(entry.scope, link.code.to_ascii_uppercase()))?;
    row.map(drop)
}

/// The first of the queue, and their rewards.
fn plan_holds(settings: &Settings, entry: &Entry, look: &mut Lookup<'_, '_>) -> Result<(), Stop> {
    let scope = entry.scope;
    let continuations = look.row(Key::Continuations);
    let Some(wallet) = look.wallet(Key::Wallet(scope))? else { return continuations.map(drop) };
    let step = u64::from(settings.step());
    let end = wallet.hold_next.min(wallet.hold_first.saturating_add(step));
    for place in wallet.hold_first..end {
        if let Ok(Some(hold)) = look.hold(Key::Hold(scope, place))
            && let Some(id) = schemas::id::RewardId::from_proto(&hold.reward_id)
        {
            let _ = look.row(Key::Reward(scope, id));
        }
    }
    continuations.map(drop)
}
