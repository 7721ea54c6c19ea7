//! Action attempts: work that an aktvator shows, for someone to verify. A verified one is a conversion event of the
//! same id and runs through the same rules, which have the last word.

use bytes::Bytes;
use schemas::id::ActionAttemptId;
use schemas::proto::{self, outcome};

use crate::decision::CommandCode;
use crate::entry::{Conversion, Entry};
use crate::fold::Fold;
use crate::key::Key;
use crate::life::step;
use crate::lookup::Unfetched;
use crate::row::Row;

pub(crate) const SUBMITTED: &str = "submitted";
const VERIFIED: &str = "verified";
const REFUSED: &str = "rejected";

impl Fold {
    /// Decided once per attempt; a repeat changes nothing.
    pub(crate) fn submit_attempt(
        &mut self,
        entry: &Entry,
        id: u128,
        attempt: &proto::SubmitAttempt,
    ) -> Result<(), Unfetched> {
        let key = Key::Attempt(entry.scope, ActionAttemptId::from_u128(id));
        let opened = self.open(entry.scope).map(drop);
        let is_repeat = self.look().attempt(key.clone())?.is_some();
        opened?;
        self.ready()?;
        if is_repeat {
            return Ok(());
        }
        let mut row = Box::new(proto::AttemptRow {
            id: attempt.attempt_id.clone(),
            campaign_id: attempt.campaign_id.clone(),
            gig_id: attempt.gig_id.clone(),
            aktvator_id: attempt.aktvator_id.clone(),
            proof: attempt.proof.clone(),
            position: self.books().list_attempt(attempt.attempt_id.clone(), entry.accepted_at_ms),
            ..Default::default()
        });
        self.become_attempt(&mut row, SUBMITTED, "");
        self.tell_attempt(entry, &row, "");
        self.put(key, Some(Row::Attempt(row)));
        Ok(())
    }

    /// Decided once per command id; a repeat changes nothing.
    pub(crate) fn reject_attempt(
        &mut self,
        entry: &Entry,
        id: u128,
        command: &proto::RejectAttempt,
    ) -> Result<(), Unfetched> {
        let scope = entry.scope;
        let opened = self.open(scope).map(drop);
        let known = self.look().command(Key::Command(scope, id)).map(|row| row.is_some());
        let attempt = ActionAttemptId::from_proto(&command.attempt_id);
        let row = match attempt {
            Some(attempt) => self.look().attempt(Key::Attempt(scope, attempt))?.cloned(),
            None => None,
        };
        let is_repeat = known?;
        opened?;
        self.ready()?;
        if is_repeat {
            return Ok(());
        }
        let code = match &row {
            None => CommandCode::UnknownAttempt,
            Some(row) if row.status != SUBMITTED => CommandCode::InvalidTransition,
            Some(_) => CommandCode::Applied,
        };
        self.decide_command(entry, id, code, &Bytes::new());
        let (Some(mut row), Some(attempt)) = (row, attempt) else { return Ok(()) };
        if code == CommandCode::Applied {
            row.reason.clone_from(&command.reason);
            self.become_attempt(&mut row, REFUSED, &command.note);
            self.tell_attempt(entry, &row, &command.reason);
            self.put(Key::Attempt(scope, attempt), Some(Row::Attempt(row)));
        }
        Ok(())
    }

    /// The attempt that this event verifies; `None` for any other event.
    pub(crate) fn attempt_of(
        &mut self,
        entry: &Entry,
        event: &Conversion,
    ) -> Result<Option<(Key, Box<proto::AttemptRow>)>, Unfetched> {
        if event.attempt.is_none() {
            return Ok(None);
        }
        let id = ActionAttemptId::from_u128(event.id.to_u128());
        let key = Key::Attempt(entry.scope, id);
        Ok(self.look().attempt(key.clone())?.cloned().map(|row| (key, row)))
    }

    /// It is what the rules say of it.
    pub(crate) fn verified(
        &mut self,
        (key, mut row): (Key, Box<proto::AttemptRow>),
        code: &str,
        is_rewarded: bool,
    ) {
        if row.status != SUBMITTED {
            return;
        }
        if !is_rewarded {
            code.clone_into(&mut row.reason);
        }
        self.become_attempt(&mut row, if is_rewarded { VERIFIED } else { REFUSED }, code);
        self.put(key, Some(Row::Attempt(row)));
    }

    fn become_attempt(&mut self, row: &mut proto::AttemptRow, status: &str, reason: &str) {
        row.status = status.to_owned();
        row.moves.push(step(status, reason, self.now_ms));
    }

    fn tell_attempt(&mut self, entry: &Entry, row: &proto::AttemptRow, code: &str) {
        let moved = proto::AttemptMoved {
            attempt_id: row.id.clone(),
            campaign_id: row.campaign_id.clone(),
            gig_id: row.gig_id.clone(),
            aktvator_id: row.aktvator_id.clone(),
            status: row.status.clone(),
            code: code.to_owned(),
        };
        self.outcome(entry, outcome::Body::AttemptMoved(moved));
    }
}
