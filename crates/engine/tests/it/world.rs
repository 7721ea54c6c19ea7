//! A store in memory and the evaluator's loop over it, cut into batches at will.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use engine::key::LINES;
use engine::{Entry, Fold, Key, Row, Settings, Verdict};
use prost::Message;
use schemas::hash::event_id;
use schemas::id::{AktvatorId, CampaignId, GigId, LinkId, OrganizationId, RewardId};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, record::Body};

/// Rounds of fetching until a record can be decided, at most.
const FETCHES_MAX: usize = 8;

/// Bytes of a key up to its kind.
const KIND_LEN: usize = 18;

/// More records than any test has.
const RECORDS_MAX: usize = 100_000;

pub(crate) const SCOPE: Scope =
    Scope { organization: OrganizationId::from_u128(1), mode: Mode::Test };

/// A log, the rows that its fold has written so far, and the outcomes.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) log: Vec<Bytes>,
    pub(crate) next: usize,
    pub(crate) fold_time_ms: i64,
    /// By encoded key.
    pub(crate) rows: BTreeMap<Bytes, Bytes>,
    /// Keys of all rows that were ever written, as the owner's filter has them.
    claims: BTreeSet<Bytes>,
    pub(crate) outcomes: Vec<proto::Outcome>,
}

impl World {
    pub(crate) fn append(&mut self, accepted_at_ms: i64, body: Body) {
        self.append_record(&record(accepted_at_ms, body));
    }

    pub(crate) fn append_record(&mut self, record: &proto::Record) {
        self.log.push(record.encode_to_vec().into());
    }

    /// Decides all of the log, at most `batch_max` records in one write set.
    pub(crate) fn run(&mut self, batch_max: usize) {
        while self.next < self.log.len() {
            assert!(self.next < RECORDS_MAX, "continuations do not come to an end");
            self.step(batch_max);
        }
    }

    /// The same by one owner who keeps what he knows, and whose write sets are in the store `lag` later.
    pub(crate) fn run_warm(&mut self, batch_max: usize, lag: usize) {
        let mut fold = Fold::new(self.settings, self.fold_time_ms);
        let mut on_the_way = VecDeque::new();
        let mut sets = 0;
        while self.next < self.log.len() {
            on_the_way.push_back(self.decide(&mut fold, batch_max));
            while on_the_way.len() > lag || self.next == self.log.len() {
                let Some(verdict) = on_the_way.pop_front() else { break };
                sets += 1;
                self.commit(&verdict);
                fold.committed(sets);
                fold.shrink();
            }
        }
    }

    pub(crate) fn step(&mut self, batch_max: usize) -> Verdict {
        let mut fold = Fold::new(self.settings, self.fold_time_ms);
        let verdict = self.decide(&mut fold, batch_max);
        self.commit(&verdict);
        verdict
    }

    fn decide(&mut self, fold: &mut Fold, batch_max: usize) -> Verdict {
        let end = self.log.len().min(self.next.saturating_add(batch_max));
        let mut entries: Vec<Entry> = (self.next..end)
            .map(|at| Entry::decode(at as u64, self.log[at].clone()).expect("decodable"))
            .collect();
        for entry in &mut entries {
            entry.is_new = entry.claim().is_some_and(|key| !self.claims.contains(&key.encode()));
        }
        let (mut rest, mut fetches) = (&entries[..], 0);
        loop {
            let decided = fold.decide(rest);
            if decided == rest.len() {
                break;
            }
            (rest, fetches) = (&rest[decided..], if decided > 0 { 0 } else { fetches });
            assert!(fetches < FETCHES_MAX, "too many fetches for one record");
            fetches += 1;
            let wanted = fold.wants(rest);
            assert!(
                decided > 0 || !wanted.is_empty(),
                "offset {} waits for nothing",
                rest[0].offset
            );
            for key in wanted {
                assert!(fold.get(&key).is_none(), "{key:?} is known");
                fold.learn(key.clone(), self.row(&key));
            }
        }
        self.next = end;
        let verdict = fold.take();
        self.claims.extend(verdict.writes.iter().map(|(key, _)| key.clone()));
        verdict
    }

    fn commit(&mut self, verdict: &Verdict) {
        let keys: BTreeSet<&Bytes> = verdict.writes.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), verdict.writes.len(), "one per key");
        for (key, row) in &verdict.writes {
            match row {
                Some(row) => drop(self.rows.insert(key.clone(), row.clone())),
                None => drop(self.rows.remove(key)),
            }
        }
        self.fold_time_ms = verdict.fold_time_ms;
        self.outcomes.extend(verdict.outcomes.iter().cloned());
        for record in &verdict.appends {
            self.append_record(record);
        }
    }

    pub(crate) fn row(&self, key: &Key) -> Option<Row> {
        let bytes = self.rows.get(&key.encode())?;
        Some(Row::decode(key, bytes.clone()).expect("a row"))
    }

    /// Every row of one kind, that of `example`.
    pub(crate) fn all(&self, example: &Key) -> Vec<Row> {
        let kind = &example.encode()[..KIND_LEN];
        let rows = self.rows.iter().filter(|(key, _)| key.starts_with(kind));
        rows.map(|(_, bytes)| Row::decode(example, bytes.clone()).expect("a row of its kind"))
            .collect()
    }

    pub(crate) fn rewards(&self) -> Vec<proto::RewardRow> {
        let rows = self.all(&Key::Reward(SCOPE, RewardId::from_u128(0)));
        rows.into_iter()
            .filter_map(|row| if let Row::Reward(row) = row { Some(*row) } else { None })
            .collect()
    }

    /// The rewards of an event, in the order in which its rules made them.
    pub(crate) fn rewards_of(&self, idempotency_key: &str) -> Vec<proto::RewardRow> {
        let rules = self.decision(idempotency_key).unwrap_or_default().rules;
        let ids = rules.iter().filter_map(|rule| RewardId::from_proto(rule.reward_id.as_deref()?));
        let rows = ids.filter_map(|id| self.row(&Key::Reward(SCOPE, id)));
        rows.filter_map(|row| if let Row::Reward(row) = row { Some(*row) } else { None }).collect()
    }

    /// Appends what the owner does when hours are over.
    pub(crate) fn mature(&mut self, now_ms: i64) {
        let (from, to) = Key::due_range(u64::try_from(now_ms / 3_600_000).expect("after 1970"));
        let due: Vec<_> = self.rows.range(from..to).map(|(key, _)| key.clone()).collect();
        for key in due {
            let (_, hour, place) = Key::due_parts(&key).expect("a key of what is due");
            let mature = proto::Mature { hour, positions: vec![place] };
            self.append(now_ms, Body::Mature(mature));
        }
    }

    pub(crate) fn wallet(&self) -> proto::WalletRow {
        match self.row(&Key::Wallet(SCOPE)) {
            Some(Row::Wallet(wallet)) => wallet,
            _ => proto::WalletRow::default(),
        }
    }

    pub(crate) fn decision(&self, idempotency_key: &str) -> Option<proto::Decision> {
        match self.row(&Key::Event(SCOPE, event_id(SCOPE, idempotency_key))) {
            Some(Row::Event(row)) => row.decision,
            _ => None,
        }
    }

    /// All lines of an aktvator's statement, in order.
    pub(crate) fn statement(&self, aktvator: AktvatorId) -> Vec<proto::StatementLine> {
        let mut lines = Vec::new();
        for position in (0..).step_by(LINES as usize) {
            match self.row(&Key::Statement(SCOPE, aktvator, position)) {
                Some(Row::Statement(row)) => lines.extend(row.lines),
                _ => break,
            }
        }
        lines
    }

    /// All ledger transactions, in order.
    pub(crate) fn ledger(&self) -> Vec<proto::LedgerTransaction> {
        let rows = self.all(&Key::Ledger(SCOPE, 0)).into_iter();
        rows.flat_map(|row| if let Row::Ledger(row) = row { row.transactions } else { Vec::new() })
            .collect()
    }
}

pub(crate) fn record(accepted_at_ms: i64, body: Body) -> proto::Record {
    proto::Record {
        organization: SCOPE.organization.to_proto(),
        mode: proto::Mode::from(SCOPE.mode).into(),
        accepted_at_ms,
        body: Some(body),
    }
}

pub(crate) const CAMPAIGN: CampaignId = CampaignId::from_u128(10);

pub(crate) fn campaign(id: CampaignId, version: u64, status: &str) -> Body {
    Body::Campaign(proto::CampaignState {
        id: id.to_proto(),
        version,
        status: status.into(),
        name: "Spring".into(),
    })
}

pub(crate) fn gig(id: u128, version: u64, action_type: &str, status: &str) -> Body {
    Body::Gig(proto::GigState {
        id: GigId::from_u128(id).to_proto(),
        version,
        campaign_id: CAMPAIGN.to_proto(),
        action_type: action_type.into(),
        status: status.into(),
    })
}

pub(crate) fn aktvator(id: u128, version: u64, status: &str) -> Body {
    Body::Aktvator(proto::AktvatorState {
        id: AktvatorId::from_u128(id).to_proto(),
        version,
        status: status.into(),
        country: Some("US".into()),
        group: Some("gold".into()),
        tags: if id == 31 { Vec::new() } else { vec!["vip".into(), "eu".into()] },
        joined_at_ms: 0,
    })
}

pub(crate) fn link(id: u128, version: u64, of: CampaignId, aktvator: u128, code: &str) -> Body {
    Body::Link(proto::LinkState {
        id: LinkId::from_u128(id).to_proto(),
        version,
        campaign_id: of.to_proto(),
        aktvator_id: AktvatorId::from_u128(aktvator).to_proto(),
        code: code.into(),
        archived: version > 1,
    })
}

pub(crate) fn code(code: &str, version: u64, of: CampaignId, aktvator: u128) -> Body {
    Body::Code(proto::CodeState {
        code: code.into(),
        version,
        campaign_id: of.to_proto(),
        aktvator_id: AktvatorId::from_u128(aktvator).to_proto(),
        link_id: None,
        archived: version > 1,
    })
}

pub(crate) fn rulebook(version: u64, effective_from_ms: i64, json: &serde_json::Value) -> Body {
    Body::Rulebook(proto::RulebookState {
        campaign_id: CAMPAIGN.to_proto(),
        version,
        effective_from_ms,
        json: serde_json::to_vec(json).expect("json").into(),
    })
}

pub(crate) fn credit(id: u128, amount: i64, currency: &str) -> Body {
    Body::WalletCredit(proto::WalletCredit {
        command_id: Bytes::copy_from_slice(&id.to_be_bytes()),
        amount,
        currency: currency.into(),
        provider: "sandbox".into(),
        provider_ref: String::new(),
    })
}

/// An event of `idempotency_key`; its fingerprint is that of everything else it says.
pub(crate) fn conversion(idempotency_key: &str, mut event: proto::ConversionEvent) -> Body {
    event.fingerprint =
        schemas::hash::hash128("test", &[&event.encode_to_vec()]).to_be_bytes().to_vec().into();
    event.event_id = event_id(SCOPE, idempotency_key).to_proto();
    event.idempotency_key = idempotency_key.into();
    Body::Conversion(event)
}
