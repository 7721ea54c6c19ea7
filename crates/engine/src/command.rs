//! Commands: what the catalog says is so, and what the fold itself decides about money and claims.

use bytes::Bytes;
use schemas::id::{CampaignId, ConversionEventId, LinkId, RewardId};
use schemas::partition::Scope;
use schemas::proto::{self, LedgerKind, outcome, record};

use crate::claim;
use crate::decision::CommandCode;
use crate::entry::{Body, Entry, RulebookChange};
use crate::fold::Fold;
use crate::key::{BLOCK_LEN, Key};
use crate::life::{PENDING, become_, left};
use crate::lookup::Unfetched;
use crate::row::Row;
use crate::wallet;

impl Fold {
    /// Catalog commands carry the entity's full state, so a version that is not higher than the known
    /// one changes nothing.
    pub(crate) fn command(&mut self, entry: &Entry) -> Result<(), Unfetched> {
        let scope = entry.scope;
        match &entry.body {
            Body::Campaign(id, state) => self.campaign(entry, *id, state),
            Body::Gig(campaign, state) => self.gig(Key::Gigs(scope, *campaign), state),
            Body::Rulebook(change) => self.rulebook(scope, change),
            Body::Aktvator(id, state) => {
                let key = Key::Aktvator(scope, *id);
                let known = self.look().aktvator(key.clone())?;
                let is_newer = known.is_none_or(|known| state.version > known.version);
                self.ready()?;
                if is_newer {
                    self.put(key, Some(Row::Aktvator(state.clone())));
                }
                Ok(())
            }
            Body::Link(id, state) => self.link(scope, *id, state),
            Body::Code(state) => {
                let code = self.newer_code(scope, state.clone())?;
                self.ready()?;
                self.put_code(code);
                Ok(())
            }
            Body::WalletCredit(id, credit) => self.wallet_credit(entry, *id, credit),
            Body::MoveReward(id, command) => self.move_reward(entry, *id, command),
            Body::ReverseEvent(id, command) => self.reverse(entry, *id, command),
            Body::CreatePayout(id, command) => self.create_payout(entry, *id, command),
            Body::MovePayout(id, command) => self.move_payout(entry, *id, command),
            Body::WalletDebit(id, debit) => self.wallet_debit(entry, *id, debit),
            Body::SubmitAttempt(id, attempt) => self.submit_attempt(entry, *id, attempt),
            Body::RejectAttempt(id, command) => self.reject_attempt(entry, *id, command),
            Body::Mature(mature) => self.mature(entry, mature),
            Body::ReleaseHolds(release) => self.release_holds(entry, release),
            Body::ExpireClaims(expire) => self.expire_claims(scope, expire),
            Body::Tick | Body::Conversion(_) => self.ready(),
        }
    }

    fn campaign(
        &mut self,
        entry: &Entry,
        id: CampaignId,
        state: &proto::CampaignState,
    ) -> Result<(), Unfetched> {
        let key = Key::Campaign(entry.scope, id);
        let opened = self.open(entry.scope).map(drop);
        let known = self.look().campaign(key.clone())?.map(|known| known.version);
        opened?;
        self.ready()?;
        if known.is_some_and(|known| state.version <= known) {
            return Ok(());
        }
        self.put(key, Some(Row::Campaign(state.clone())));
        if known.is_none() {
            let created =
                proto::CampaignCreated { campaign_id: state.id.clone(), name: state.name.clone() };
            self.outcome(entry, outcome::Body::CampaignCreated(created));
        }
        Ok(())
    }

    fn gig(&mut self, key: Key, state: &proto::GigState) -> Result<(), Unfetched> {
        let mut gigs = self.look().gigs(key.clone())?.cloned().unwrap_or_default();
        self.ready()?;
        match gigs.binary_search_by(|gig| gig.id.cmp(&state.id)) {
            Ok(at) if state.version <= gigs[at].version => return Ok(()),
            Ok(at) => gigs[at] = state.clone(),
            Err(at) => gigs.insert(at, state.clone()),
        }
        self.put(key, Some(Row::Gigs(gigs)));
        Ok(())
    }

    /// A version that a higher one precedes in time can never be in force, and is dropped. One that can no
    /// longer be is off the list; its row stays, for those whose terms it locked.
    fn rulebook(&mut self, scope: Scope, change: &RulebookChange) -> Result<(), Unfetched> {
        let key = Key::Rulebooks(scope, change.campaign);
        let versions = self.look().rulebooks(key.clone())?.cloned().unwrap_or_default();
        self.ready()?;
        let at = match versions.binary_search_by_key(&change.version, |known| known.version) {
            Ok(_) => return Ok(()),
            Err(at) => at,
        };
        let starts_first =
            |known: &proto::RulebookVersion| known.effective_from_ms <= change.effective_from_ms;
        if versions[at..].iter().any(starts_first) {
            return Ok(());
        }
        let dead =
            |known: &proto::RulebookVersion| known.effective_from_ms >= change.effective_from_ms;
        let (lower, higher) = versions.split_at(at);
        let mut kept: Vec<_> = lower.iter().filter(|known| !dead(known)).cloned().collect();
        kept.push(proto::RulebookVersion {
            version: change.version,
            effective_from_ms: change.effective_from_ms,
        });
        kept.extend_from_slice(higher);
        let row_key = Key::Rulebook(scope, change.campaign, change.version);
        self.put(row_key, Some(Row::Rulebook(change.rulebook.clone())));
        self.put(key, Some(Row::Rulebooks(kept)));
        Ok(())
    }

    fn link(
        &mut self,
        scope: Scope,
        id: LinkId,
        state: &proto::LinkState,
    ) -> Result<(), Unfetched> {
        let key = Key::Link(scope, id);
        let known = self.look().link(key.clone()).map(|row| row.map(|known| known.version));
        let code = proto::CodeState {
            code: state.code.clone(),
            version: state.version,
            campaign_id: state.campaign_id.clone(),
            aktvator_id: state.aktvator_id.clone(),
            link_id: Some(state.id.clone()),
            archived: state.archived,
        };
        let code = self.newer_code(scope, code)?;
        let known = known?;
        self.ready()?;
        if known.is_none_or(|known| state.version > known) {
            self.put(key, Some(Row::Link(state.clone())));
            self.put_code(code);
        }
        Ok(())
    }

    /// The code's row, if `state` is newer than the known one.
    fn newer_code(
        &mut self,
        scope: Scope,
        mut state: proto::CodeState,
    ) -> Result<Option<(Key, proto::CodeState)>, Unfetched> {
        state.code.make_ascii_uppercase();
        let key = Key::Code(scope, state.code.as_str().into());
        let known = self.look().code(key.clone())?;
        Ok(known.is_none_or(|known| state.version > known.version).then_some((key, state)))
    }

    fn put_code(&mut self, code: Option<(Key, proto::CodeState)>) {
        if let Some((key, state)) = code {
            self.put(key, Some(Row::Code(state)));
        }
    }

    /// Decided once per command id; a repeat changes nothing.
    fn wallet_credit(
        &mut self,
        entry: &Entry,
        id: u128,
        credit: &proto::WalletCredit,
    ) -> Result<(), Unfetched> {
        let known = self.look().command(Key::Command(entry.scope, id)).map(|row| row.is_some());
        let mut wallet = match &self.open(entry.scope)?.wallet {
            Some(wallet) => wallet.clone(),
            None => wallet::empty(&credit.currency),
        };
        let credited = wallet::credit(&mut wallet, credit);
        let release = self.due(entry.scope, &wallet);
        let (is_repeat, release) = (known?, release?);
        self.ready()?;
        if is_repeat {
            return Ok(());
        }
        let code = credited.as_ref().err().copied().unwrap_or(CommandCode::Applied);
        self.decide_command(entry, id, code, &Bytes::new());
        if code != CommandCode::Applied {
            return Ok(());
        }
        let told = proto::WalletCredited {
            command_id: credit.command_id.clone(),
            amount: credit.amount,
            currency: credit.currency.clone(),
            available_after: wallet.available,
        };
        let top_up = top_up(credit, credited.unwrap_or_default(), self.now_ms);
        let books = self.books();
        *books.wallet_mut(&credit.currency) = wallet;
        books.enter(top_up);
        self.outcome(entry, outcome::Body::WalletCredited(told));
        self.release(entry, release);
        Ok(())
    }

    /// Decided once per command id; a repeat changes nothing.
    fn wallet_debit(
        &mut self,
        entry: &Entry,
        id: u128,
        debit: &proto::WalletDebit,
    ) -> Result<(), Unfetched> {
        let known = self.look().command(Key::Command(entry.scope, id)).map(|row| row.is_some());
        let mut wallet = match &self.open(entry.scope)?.wallet {
            Some(wallet) => wallet.clone(),
            None => wallet::empty(&debit.currency),
        };
        let is_repeat = known?;
        self.ready()?;
        if is_repeat {
            return Ok(());
        }
        let debited = wallet::debit(&mut wallet, debit);
        let code = debited.as_ref().err().copied().unwrap_or(CommandCode::Applied);
        self.decide_command(entry, id, code, &Bytes::new());
        let Ok(entries) = debited else { return Ok(()) };
        let told = proto::WalletDebited {
            command_id: debit.command_id.clone(),
            amount: debit.amount,
            currency: debit.currency.clone(),
            available_after: wallet.available,
            receivable_after: -wallet.receivable,
            reason: debit.reason.clone(),
        };
        let transaction = proto::LedgerTransaction {
            id: debit.command_id.clone(),
            kind: LedgerKind::Debit.into(),
            at_ms: self.now_ms,
            currency: debit.currency.clone(),
            entries,
            ..Default::default()
        };
        let books = self.books();
        *books.wallet_mut(&debit.currency) = wallet;
        books.enter(transaction);
        self.outcome(entry, outcome::Body::WalletDebited(told));
        Ok(())
    }

    fn release_holds(
        &mut self,
        entry: &Entry,
        release: &proto::ReleaseHolds,
    ) -> Result<(), Unfetched> {
        let wallet = self.open(entry.scope)?.wallet.clone();
        let due = wallet.filter(|wallet| wallet.hold_first == release.hold_first);
        let release = match &due {
            Some(wallet) => Some(self.due(entry.scope, wallet)?),
            None => None,
        };
        self.ready()?;
        if let Some(release) = release {
            self.release(entry, release);
        }
        Ok(())
    }

    /// What one step may release of the queue as `wallet` has it, first in, first out.
    fn due(&mut self, scope: Scope, wallet: &proto::WalletRow) -> Result<Release, Unfetched> {
        let step = u64::from(self.settings.step());
        let end = wallet.hold_next.min(wallet.hold_first.saturating_add(step));
        let mut look = self.look();
        let continuations = look.continuations(Key::Continuations);
        let holds: Vec<_> =
            (wallet.hold_first..end).map(|place| look.hold(Key::Hold(scope, place))).collect();
        let rewards: Vec<_> = holds
            .into_iter()
            .map(|hold| {
                // Every place of the queue has its row, and that its reward, unless it waits no more.
                let hold = hold?.ok_or(Unfetched)?;
                let Some(id) = RewardId::from_proto(&hold.reward_id) else { return Ok(None) };
                let key = Key::Reward(scope, id);
                Ok(Some((key.clone(), look.reward(key)?.ok_or(Unfetched)?.clone())))
            })
            .collect();
        let rewards: Vec<Option<(Key, Box<proto::RewardRow>)>> =
            rewards.into_iter().collect::<Result<_, Unfetched>>()?;
        let continuations = continuations.map(|row| row.cloned());
        let accounts = rewards.iter().flatten();
        let accounts: Vec<_> =
            accounts.map(|(_, reward)| self.ask_account(scope, &reward.aktvator_id)).collect();
        accounts.into_iter().collect::<Result<(), Unfetched>>()?;
        Ok(Release { rewards, continuations: continuations?.unwrap_or_default() })
    }

    /// Releases the first of the queue, as many as the balance allows.
    fn release(&mut self, entry: &Entry, release: Release) {
        let Release { rewards, continuations } = release;
        let asked = rewards.len();
        let mut released = 0;
        for reward in rewards {
            let wallet = self.books().wallet_mut("");
            let place = wallet.hold_first;
            let amount = reward.as_ref().map_or(0, |(_, reward)| left(reward));
            if !wallet::release(wallet, amount) {
                break;
            }
            self.put(Key::Hold(entry.scope, place), None);
            if let Some((key, reward)) = reward {
                self.released(entry, key, reward);
            }
            released += 1;
        }
        let wallet = self.books().wallet_mut("");
        let more = released == asked && wallet::is_queued(wallet);
        let next = more.then_some(proto::ReleaseHolds { hold_first: wallet.hold_first });
        self.continue_with(entry, continuations, next);
    }

    fn released(&mut self, entry: &Entry, key: Key, mut reward: Box<proto::RewardRow>) {
        self.enter(LedgerKind::Release, &reward, left(&reward));
        reward.held_reason = None;
        reward.hold_place = None;
        become_(&mut reward, PENDING, "funds_released", self.now_ms);
        self.approve_if_due(&mut reward, "funds_released");
        let released = proto::RewardReleased {
            reward_id: reward.id.clone(),
            campaign_id: reward.campaign_id.clone(),
            aktvator_id: reward.aktvator_id.clone(),
            amount: left(&reward),
            currency: reward.currency.clone(),
            status: reward.status.clone(),
        };
        self.outcome(entry, outcome::Body::RewardReleased(released));
        self.put(key, Some(Row::Reward(reward)));
    }

    /// There is one release under way per scope: `next` takes the place of the one before.
    pub(crate) fn continue_with(
        &mut self,
        entry: &Entry,
        mut records: Vec<proto::Record>,
        next: Option<proto::ReleaseHolds>,
    ) {
        let organization = self.books().organization.clone();
        let mode = i32::from(proto::Mode::from(entry.scope.mode));
        let before = records.len();
        records.retain(|known| {
            !matches!(known.body, Some(record::Body::ReleaseHolds(_)))
                || (&known.organization, known.mode) != (&organization, mode)
        });
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
        self.put(Key::Continuations, row);
    }

    /// Forgets the expired claims that an index row lists. Their places stay, empty, since places are
    /// what pages of lists go on from; a full row of empty places goes.
    fn expire_claims(
        &mut self,
        scope: Scope,
        expire: &proto::ExpireClaims,
    ) -> Result<(), Unfetched> {
        self.close_all();
        let key = Key::EventIndex(scope, expire.index_position);
        let Some(index) = self.look().index(key.clone())?.cloned() else { return self.ready() };
        let places: Vec<_> = (expire.index_position..)
            .zip(&index.ids)
            .map(|(position, id)| self.place(scope, position, id, expire.retention_ms))
            .collect();
        let places = places.into_iter().collect::<Result<Vec<_>, Unfetched>>()?;
        self.ready()?;
        let mut kept = index;
        let mut changed = false;
        for (id, place) in kept.ids.iter_mut().zip(places) {
            if let Place::Forgettable(claim) = &place {
                self.put(claim.clone(), None);
            }
            if !id.is_empty() && !matches!(place, Place::Kept) {
                id.clear();
                changed = true;
            }
        }
        if changed {
            let is_open = (kept.ids.len() as u64) < BLOCK_LEN;
            let stays = is_open || kept.ids.iter().any(|id| !id.is_empty());
            self.put(key, stays.then_some(Row::Index(kept)));
        }
        Ok(())
    }

    /// What is to become of one place of the list of events.
    fn place(
        &mut self,
        scope: Scope,
        position: u64,
        id: &[u8],
        retention_ms: i64,
    ) -> Result<Place, Unfetched> {
        let Some(id) = ConversionEventId::from_proto(id) else { return Ok(Place::Vacant) };
        let (key, now_ms) = (Key::Event(scope, id), self.now_ms);
        Ok(match self.look().event(key.clone())? {
            Some(row) if row.position == position => {
                match claim::is_forgettable(row, now_ms, retention_ms) {
                    true => Place::Forgettable(key),
                    false => Place::Kept,
                }
            }
            _ => Place::Vacant,
        })
    }
}

/// Rewards that wait, with their keys, and the partition's continuations.
struct Release {
    /// `None` where nobody waits any more.
    rewards: Vec<Option<(Key, Box<proto::RewardRow>)>>,
    continuations: Vec<proto::Record>,
}

/// A place in the list of events.
enum Place {
    /// Its event stays.
    Kept,
    /// Its event is forgotten already, or its key was used again and stands at another place.
    Vacant,
    /// The claim under this key is old enough.
    Forgettable(Key),
}

/// Named by the command that caused it.
fn top_up(
    credit: &proto::WalletCredit,
    entries: Vec<proto::LedgerEntry>,
    at_ms: i64,
) -> proto::LedgerTransaction {
    proto::LedgerTransaction {
        id: credit.command_id.clone(),
        kind: LedgerKind::Topup.into(),
        at_ms,
        currency: credit.currency.clone(),
        entries,
        command_id: Some(credit.command_id.clone()),
        ..Default::default()
    }
}
