//! A store in memory and the evaluator's loop over it, cut into batches at will.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use engine::{Entry, Key, Plan, Row, Settings, Snapshot, Verdict};
use prost::Message;
use schemas::hash::event_id;
use schemas::id::{AktvatorId, CampaignId, GigId, LinkId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, record::Body};

/// The plan may ask this often; one more call must want nothing.
const FETCHES_MAX: usize = 4;

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
    pub(crate) rows: BTreeMap<Bytes, (Key, Bytes)>,
    pub(crate) outcomes: Vec<proto::Outcome>,
}

impl World {
    pub(crate) fn append(&mut self, accepted_at_ms: i64, body: Body) {
        self.append_record(&record(accepted_at_ms, body));
    }

    pub(crate) fn append_record(&mut self, record: &proto::Record) {
        self.log.push(record.encode_to_vec().into());
    }

    /// Decides all of the log, at most `batch_max` records at a time.
    pub(crate) fn run(&mut self, batch_max: usize) {
        while self.next < self.log.len() {
            assert!(self.next < RECORDS_MAX, "continuations do not come to an end");
            self.step(batch_max);
        }
    }

    pub(crate) fn step(&mut self, batch_max: usize) -> Verdict {
        let end = self.log.len().min(self.next.saturating_add(batch_max));
        let entries: Vec<Entry> = (self.next..end)
            .map(|at| Entry::decode(at as u64, self.log[at].clone()).expect("decodable"))
            .collect();
        let entries = &entries[..engine::batch_len(&entries)];
        let mut snapshot = self.fetch(entries);
        let verdict = engine::decide(&self.settings, self.fold_time_ms, entries, &mut snapshot);
        self.next += entries.len();
        self.commit(&verdict);
        verdict
    }

    fn fetch(&self, entries: &[Entry]) -> Snapshot {
        let mut snapshot = Snapshot::new();
        let mut plan = Plan::new(&self.settings, entries);
        for round in 0.. {
            let want = plan.wants(&snapshot);
            if want.is_empty() {
                return snapshot;
            }
            assert!(round < FETCHES_MAX, "a fifth fetch, of {want:?}");
            for key in want {
                assert!(!snapshot.contains(&key), "{key:?} is known");
                let row = self.row(&key).map(Arc::new);
                snapshot.insert(key, row);
            }
        }
        unreachable!("the loop returns")
    }

    fn commit(&mut self, verdict: &Verdict) {
        let keys: BTreeSet<&Key> = verdict.writes.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), verdict.writes.len(), "one per key");
        let single =
            verdict.writes.iter().map(|(key, row)| (key.encode(), row.as_deref().map(Row::encode)));
        assert_eq!(engine::row::encode(&verdict.writes), single.collect::<Vec<_>>());
        for (key, row) in &verdict.writes {
            match row {
                Some(row) => drop(self.rows.insert(key.encode(), (key.clone(), row.encode()))),
                None => drop(self.rows.remove(&key.encode())),
            }
        }
        self.fold_time_ms = verdict.fold_time_ms;
        self.outcomes.extend(verdict.outcomes.iter().cloned());
        for record in &verdict.appends {
            self.append_record(record);
        }
    }

    pub(crate) fn row(&self, key: &Key) -> Option<Row> {
        let (_, bytes) = self.rows.get(&key.encode())?;
        Some(Row::decode(key, bytes.clone()).expect("a row"))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Key, Row)> {
        self.rows.values().map(|(key, bytes)| {
            (key, Row::decode(key, bytes.clone()).expect("a row of its own kind"))
        })
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

    /// Everything but the rows that group by batch.
    pub(crate) fn ungrouped(&self) -> Vec<(&Key, &Bytes)> {
        let grouped =
            |key: &Key| matches!(key, Key::EventIndex(..) | Key::RewardIndex(..) | Key::Ledger(..));
        let rows = self.rows.values().filter(|(key, _)| !grouped(key));
        rows.map(|(key, bytes)| (key, bytes)).collect()
    }

    /// Ids and transactions of all lists, in order, whichever rows they are grouped in.
    pub(crate) fn lists(&self) -> (Vec<Bytes>, Vec<Bytes>, Vec<proto::LedgerTransaction>) {
        let (mut events, mut rewards, mut ledger) = (Vec::new(), Vec::new(), Vec::new());
        for (key, row) in self.all() {
            match (key, row) {
                (Key::EventIndex(..), Row::Index(index)) => events.extend(index.ids),
                (Key::RewardIndex(..), Row::Index(index)) => rewards.extend(index.ids),
                (Key::Ledger(..), Row::Ledger(row)) => ledger.extend(row.transactions),
                _ => {}
            }
        }
        (events, rewards, ledger)
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
