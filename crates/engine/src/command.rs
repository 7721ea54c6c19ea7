//! Commands: what the catalog says is so, and what the fold itself decides about money and claims.

use std::ops::RangeInclusive;

use rustc_hash::FxHashSet;
use schemas::id::{CampaignId, ConversionEventId, LinkId, RewardId};
use schemas::partition::Scope;
use schemas::proto::{self, LedgerKind, outcome, record};

use crate::claim;
use crate::decide::{Fold, reward_transaction};
use crate::decision::CommandCode;
use crate::entry::{Body, Entry, RulebookChange};
use crate::key::Key;
use crate::lookup::Lookup;
use crate::row::Row;
use crate::wallet;

impl Fold<'_> {
    /// Catalog commands carry the entity's full state, so a version that is not higher than the known
    /// one changes nothing.
    pub(crate) fn command(&mut self, entry: &Entry) {
        let scope = entry.scope;
        match &entry.body {
            Body::Campaign(id, state) => self.campaign(entry, *id, state),
            Body::Gig(campaign, state) => self.gig(Key::Gigs(scope, *campaign), state),
            Body::Rulebook(change) => self.rulebook(scope, change),
            Body::Aktvator(id, state) => {
                let key = Key::Aktvator(scope, *id);
                let known = self.look().aktvator(key.clone()).ok().flatten();
                if known.is_none_or(|known| state.version > known.version) {
                    self.snapshot.put(key, Some(Row::Aktvator(state.clone())));
                }
            }
            Body::Link(id, state) => self.link(scope, *id, state),
            Body::Code(state) => self.code(scope, state.clone()),
            Body::WalletCredit(id, credit) => self.wallet_credit(entry, *id, credit),
            Body::ReleaseHolds(release) => self.release_holds(entry, release),
            Body::ExpireClaims(expire) => self.expire_claims(scope, expire),
            Body::Tick | Body::Conversion(_) => {}
        }
    }

    fn look(&self) -> Lookup<'_, 'static> {
        Lookup::deciding(self.snapshot)
    }

    fn campaign(&mut self, entry: &Entry, id: CampaignId, state: &proto::CampaignState) {
        let key = Key::Campaign(entry.scope, id);
        let known = self.look().campaign(key.clone()).ok().flatten().map(|known| known.version);
        if known.is_some_and(|known| state.version <= known) {
            return;
        }
        self.snapshot.put(key, Some(Row::Campaign(state.clone())));
        if known.is_none() {
            let created =
                proto::CampaignCreated { campaign_id: state.id.clone(), name: state.name.clone() };
            self.outcome(entry, outcome::Body::CampaignCreated(created));
        }
    }

    fn gig(&mut self, key: Key, state: &proto::GigState) {
        let known = self.look().gigs(key.clone()).ok().flatten();
        let mut gigs = known.cloned().unwrap_or_default();
        match gigs.binary_search_by(|gig| gig.id.cmp(&state.id)) {
            Ok(at) if state.version <= gigs[at].version => return,
            Ok(at) => gigs[at] = state.clone(),
            Err(at) => gigs.insert(at, state.clone()),
        }
        self.snapshot.put(key, Some(Row::Gigs(gigs)));
    }

    /// A version that a higher one precedes in time can never be in force, and is dropped.
    fn rulebook(&mut self, scope: Scope, change: &RulebookChange) {
        let key = Key::Rulebooks(scope, change.campaign);
        let known = self.look().rulebooks(key.clone()).ok().flatten();
        let versions = known.cloned().unwrap_or_default();
        let at = match versions.binary_search_by_key(&change.version, |known| known.version) {
            Ok(_) => return,
            Err(at) => at,
        };
        let starts_first =
            |known: &proto::RulebookVersion| known.effective_from_ms <= change.effective_from_ms;
        if versions[at..].iter().any(starts_first) {
            return;
        }
        let dead =
            |known: &proto::RulebookVersion| known.effective_from_ms >= change.effective_from_ms;
        let (lower, higher) = versions.split_at(at);
        let (dropped, mut kept): (Vec<_>, Vec<_>) =
            lower.iter().cloned().partition(|known| dead(known));
        kept.push(proto::RulebookVersion {
            version: change.version,
            effective_from_ms: change.effective_from_ms,
        });
        kept.extend_from_slice(higher);
        for known in dropped {
            let key = Key::Rulebook(scope, change.campaign, known.version);
            self.snapshot.put(key, None);
        }
        let row_key = Key::Rulebook(scope, change.campaign, change.version);
        self.snapshot.put(row_key, Some(Row::Rulebook(change.rulebook.clone())));
        self.snapshot.put(key, Some(Row::Rulebooks(kept)));
    }

    fn link(&mut self, scope: Scope, id: LinkId, state: &proto::LinkState) {
        let key = Key::Link(scope, id);
        let known = self.look().link(key.clone()).ok().flatten();
        if known.is_some_and(|known| state.version <= known.version) {
            return;
        }
        self.snapshot.put(key, Some(Row::Link(state.clone())));
        let code = proto::CodeState {
            code: state.code.clone(),
            version: state.version,
            campaign_id: state.campaign_id.clone(),
            aktvator_id: state.aktvator_id.clone(),
            link_id: Some(state.id.clone()),
            archived: state.archived,
        };
        self.code(scope, code);
    }

    fn code(&mut self, scope: Scope, mut state: proto::CodeState) {
        state.code.make_ascii_uppercase();
        let key = Key::Code(scope, state.code.clone());
        let known = self.look().code(key.clone()).ok().flatten();
        if known.is_none_or(|known| state.version > known.version) {
            self.snapshot.put(key, Some(Row::Code(state)));
        }
    }

    /// Decided once per command id; a repeat changes nothing.
    fn wallet_credit(&mut self, entry: &Entry, id: u128, credit: &proto::WalletCredit) {
        let key = Key::Command(entry.scope, id);
        if self.look().command(key.clone()).ok().flatten().is_some() {
            return;
        }
        let mut wallet = self.wallet(entry.scope, &credit.currency);
        let code = match wallet::credit(&mut wallet, credit) {
            Ok(()) => CommandCode::Applied,
            Err(code) => code,
        };
        let row = proto::CommandRow {
            code: code.as_str().to_owned(),
            detail: String::new(),
            decided_at_ms: self.now_ms,
        };
        self.snapshot.put(key, Some(Row::Command(row)));
        if code != CommandCode::Applied {
            return;
        }
        let credited = proto::WalletCredited {
            command_id: credit.command_id.clone(),
            amount: credit.amount,
            currency: credit.currency.clone(),
            available_after: wallet.available,
        };
        self.snapshot.put(Key::Wallet(entry.scope), Some(Row::Wallet(wallet)));
        self.book(entry, top_up(credit, self.now_ms));
        self.outcome(entry, outcome::Body::WalletCredited(credited));
        self.release(entry);
    }

    fn release_holds(&mut self, entry: &Entry, release: &proto::ReleaseHolds) {
        let wallet = self.look().wallet(Key::Wallet(entry.scope)).ok().flatten();
        if wallet.is_some_and(|wallet| wallet.hold_first == release.hold_first) {
            self.release(entry);
        }
    }

    /// Releases the first of the queue, as many as one step and the balance allow.
    fn release(&mut self, entry: &Entry) {
        let scope = entry.scope;
        let mut wallet = self.wallet(scope, "");
        let mut left = self.settings.step();
        while left > 0 && wallet.hold_first < wallet.hold_next {
            let key = Key::Hold(scope, wallet.hold_first);
            let hold = self.look().hold(key.clone()).ok().flatten().cloned();
            let hold = hold.expect("every place of the queue has its row");
            if !wallet::release(&mut wallet, hold.amount) {
                break;
            }
            self.snapshot.put(key, None);
            self.released(entry, &hold);
            left -= 1;
        }
        let more = left == 0 && wallet.hold_first < wallet.hold_next;
        let next = more.then_some(proto::ReleaseHolds { hold_first: wallet.hold_first });
        self.snapshot.put(Key::Wallet(scope), Some(Row::Wallet(wallet)));
        self.continue_with(entry, next);
    }

    fn released(&mut self, entry: &Entry, hold: &proto::HoldRow) {
        let id = RewardId::from_proto(&hold.reward_id).expect("a hold names its reward");
        let key = Key::Reward(entry.scope, id);
        let reward = self.look().reward(key.clone()).ok().flatten().cloned();
        let mut reward = reward.expect("a held reward has its row");
        reward.status = "pending".to_owned();
        reward.held_reason = None;
        reward.moves.push(proto::RewardMove {
            status: "pending".to_owned(),
            at_ms: self.now_ms,
            reason: "funds_released".to_owned(),
        });
        self.book(entry, reward_transaction(LedgerKind::Release, &reward, self.now_ms));
        let released = proto::RewardReleased {
            reward_id: reward.id.clone(),
            campaign_id: reward.campaign_id.clone(),
            aktvator_id: reward.aktvator_id.clone(),
            amount: reward.amount,
            currency: reward.currency.clone(),
        };
        self.outcome(entry, outcome::Body::RewardReleased(released));
        self.snapshot.put(key, Some(Row::Reward(reward)));
    }

    /// There is one release under way per scope: `next` takes the place of the one before.
    fn continue_with(&mut self, entry: &Entry, next: Option<proto::ReleaseHolds>) {
        let organization = entry.scope.organization.to_proto();
        let mode = i32::from(proto::Mode::from(entry.scope.mode));
        let known = self.look().continuations(Key::Continuations).ok().flatten();
        let mut records = known.cloned().unwrap_or_default();
        let before = records.len();
        records.retain(|known| (&known.organization, known.mode) != (&organization, mode));
        if records.len() == before && next.is_none() {
            return;
        }
        if let Some(release) = next {
            let record = proto::Record {
                organization,
                mode,
                accepted_at_ms: self.now_ms,
                body: Some(record::Body::ReleaseHolds(release)),
            };
            records.push(record.clone());
            self.appends.push(record);
        }
        let row = (!records.is_empty()).then_some(Row::Continuations(records));
        self.snapshot.put(Key::Continuations, row);
    }

    /// Forgets the expired claims that an index row lists. Their places stay, empty, since places are
    /// what pages of lists go on from; a row of empty places goes.
    fn expire_claims(&mut self, scope: Scope, expire: &proto::ExpireClaims) {
        let key = Key::EventIndex(scope, expire.index_offset);
        let Some(index) = self.look().index(key.clone()).ok().flatten().cloned() else { return };
        let mut kept = index.clone();
        let offsets = expire.index_offset..=index.last_offset;
        let mut listed = FxHashSet::default();
        // From the end: of a key that the row lists twice the last place is its own.
        for place in kept.ids.iter_mut().rev() {
            let Some(id) = ConversionEventId::from_proto(place) else { continue };
            if !listed.insert(id) || !self.keeps(scope, id, &offsets, expire.retention_ms) {
                place.clear();
            }
        }
        if kept != index {
            let row = kept.ids.iter().any(|id| !id.is_empty()).then_some(Row::Index(kept));
            self.snapshot.put(key, row);
        }
    }

    /// Does the index row of these `offsets` go on listing the event? Its claim is forgotten if it is
    /// old enough; one whose key was used again is listed by another row.
    fn keeps(
        &mut self,
        scope: Scope,
        id: ConversionEventId,
        offsets: &RangeInclusive<u64>,
        retention_ms: i64,
    ) -> bool {
        let key = Key::Event(scope, id);
        let Some(row) = self.look().event(key.clone()).ok().flatten() else { return false };
        if !offsets.contains(&row.offset) {
            return false;
        }
        let forgotten = claim::is_forgettable(row, self.now_ms, retention_ms);
        if forgotten {
            self.snapshot.put(key, None);
        }
        !forgotten
    }
}

/// Named by the command that caused it.
fn top_up(credit: &proto::WalletCredit, at_ms: i64) -> proto::LedgerTransaction {
    proto::LedgerTransaction {
        id: credit.command_id.clone(),
        kind: LedgerKind::Topup.into(),
        at_ms,
        currency: credit.currency.clone(),
        entries: wallet::entries(LedgerKind::Topup, credit.amount),
        reward_id: None,
        command_id: Some(credit.command_id.clone()),
    }
}
