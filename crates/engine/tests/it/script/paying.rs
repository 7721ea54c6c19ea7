//! Steps about payouts, balances, and work that is verified.

use engine::{Key, Row};
use schemas::id::{ActionAttemptId, AktvatorId, GigId, PayoutId};
use schemas::proto::{self, PayoutAction, record::Body};

use super::{Script, event, ms, number};
use crate::world::{CAMPAIGN, SCOPE};

impl Script {
    pub(super) fn payout(&mut self, aktvator: u128, fields: &[&str]) -> String {
        self.payouts += 1;
        let mut id = self.payouts;
        let mut command = proto::CreatePayout {
            aktvator_id: AktvatorId::from_u128(aktvator).to_proto(),
            cutoff_ms: self.now_ms,
            ..Default::default()
        };
        for field in fields {
            match field.split_once('=').expect("name=value") {
                ("min", value) => command.minimum = value.parse().expect("an amount"),
                ("until", value) => command.cutoff_ms = ms(value),
                ("as", value) => id = number(value),
                _ => panic!("no such field: {field}"),
            }
        }
        let id = id << 96;
        command.command_id = id.to_be_bytes().to_vec().into();
        self.world.append(self.now_ms, Body::CreatePayout(command));
        self.world.run(usize::MAX);
        let code = self.code(id);
        match self.world.row(&Key::Payout(SCOPE, PayoutId::from_u128(id))) {
            Some(Row::Payout(row)) => {
                format!("{code} {}/{}", row.amount - row.netted, row.netted)
            }
            _ => code,
        }
    }

    pub(super) fn move_payout(&mut self, verb: &str, name: u128) -> String {
        let id = u128::from(self.versions) << 64;
        let payout = PayoutId::from_u128(name << 96);
        let command = proto::MovePayout {
            command_id: id.to_be_bytes().to_vec().into(),
            payout_id: payout.to_proto(),
            action: match verb {
                "payout-approve" => PayoutAction::Approve,
                "payout-process" => PayoutAction::Process,
                "payout-pay" => PayoutAction::Pay,
                "payout-fail" => PayoutAction::Fail,
                "payout-retry" => PayoutAction::Retry,
                "payout-cancel" => PayoutAction::Cancel,
                _ => panic!("no such step: {verb}"),
            }
            .into(),
            ..Default::default()
        };
        self.world.append(self.now_ms, Body::MovePayout(command));
        self.world.run(usize::MAX);
        let code = self.code(id);
        match self.world.row(&Key::Payout(SCOPE, payout)) {
            Some(Row::Payout(row)) => format!("{code} {}", row.status),
            _ => code,
        }
    }

    pub(super) fn attempt(&mut self, id: u128, aktvator: u128) -> String {
        let submit = proto::SubmitAttempt {
            attempt_id: attempt_id(id).to_proto(),
            campaign_id: CAMPAIGN.to_proto(),
            gig_id: GigId::from_u128(20).to_proto(),
            aktvator_id: AktvatorId::from_u128(aktvator).to_proto(),
            proof: "{}".into(),
        };
        self.world.append(self.now_ms, Body::SubmitAttempt(submit));
        self.world.run(usize::MAX);
        self.attempt_status(id)
    }

    pub(super) fn verify(&mut self, id: u128, fields: &[&str]) -> String {
        let event = proto::ConversionEvent {
            event_id: attempt_id(id).to_proto(),
            idempotency_key: format!("attempt {id}"),
            fingerprint: fields.join(" ").into_bytes().into(),
            gig_id: Some(GigId::from_u128(20).to_proto()),
            aktvator_id: match self.world.row(&Key::Attempt(SCOPE, attempt_id(id))) {
                Some(Row::Attempt(row)) => Some(row.aktvator_id),
                _ => Some(AktvatorId::from_u128(30).to_proto()),
            },
            attribution_code: None,
            ..self::event(fields)
        };
        self.world.append(self.now_ms, Body::Conversion(event));
        self.world.run(usize::MAX);
        let Some(proto::outcome::Body::EventDecided(decided)) =
            self.world.outcomes.last().and_then(|outcome| outcome.body.as_ref())
        else {
            panic!("an event has an outcome")
        };
        let mut shown = decided.code.clone();
        for reward in &decided.rewards {
            shown = format!("{shown} {}", reward.amount);
        }
        format!("{shown} {}", self.attempt_status(id))
    }

    pub(super) fn refuse(&mut self, id: u128) -> String {
        let command = u128::from(self.versions) << 64;
        let refuse = proto::RejectAttempt {
            command_id: command.to_be_bytes().to_vec().into(),
            attempt_id: attempt_id(id).to_proto(),
            reason: "off_brief".into(),
            note: String::new(),
        };
        self.world.append(self.now_ms, Body::RejectAttempt(refuse));
        self.world.run(usize::MAX);
        format!("{} {}", self.code(command), self.attempt_status(id))
    }

    fn attempt_status(&self, id: u128) -> String {
        match self.world.row(&Key::Attempt(SCOPE, attempt_id(id))) {
            Some(Row::Attempt(row)) if row.reason.is_empty() => row.status,
            Some(Row::Attempt(row)) => format!("{}:{}", row.status, row.reason),
            _ => "none".to_owned(),
        }
    }

    pub(super) fn debit(&mut self, id: u128, amount: &str) -> String {
        let command = proto::WalletDebit {
            command_id: id.to_be_bytes().to_vec().into(),
            amount: amount.parse().expect("an amount"),
            currency: "USD".into(),
            reason: "chargeback".into(),
        };
        self.world.append(self.now_ms, Body::WalletDebit(command));
        self.world.run(usize::MAX);
        let wallet = self.world.wallet();
        format!("{} {}/{}", self.code(id), wallet.available, -wallet.receivable)
    }

    pub(super) fn account(&self, aktvator: u128) -> String {
        let row = match self.world.row(&Key::Balance(SCOPE, AktvatorId::from_u128(aktvator))) {
            Some(Row::Balance(row)) => row,
            _ => proto::BalanceRow::default(),
        };
        let proto::BalanceRow { reserved, payable, processing, paid, clawback, .. } = row;
        format!("{reserved}/{payable}/{processing}/{paid}/{clawback}")
    }

    pub(super) fn statement(&self, aktvator: u128) -> String {
        let lines = self.world.statement(AktvatorId::from_u128(aktvator));
        let shown = lines.iter().map(|line| {
            let kind = line.kind().as_str_name().trim_start_matches("LEDGER_KIND_");
            format!("{} {:+}", kind.to_lowercase(), line.amount)
        });
        shown.collect::<Vec<_>>().join(" ")
    }
}

fn attempt_id(number: u128) -> ActionAttemptId {
    ActionAttemptId::from_u128(number << 100)
}
