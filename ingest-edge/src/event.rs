//! A conversion event: from its JSON to the record of the `events` log.
//!
//! Every fault of an event is reported at once, with its JSON pointer. What is read is written into
//! one buffer, of which each record is a slice; nothing else outlives the body.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use schemas::fault::Fault;
use schemas::hash;
use schemas::id::{CampaignId, ConversionEventId, GigId, LinkId};
use schemas::money::Currency;
use schemas::partition::Scope;
use schemas::proto;
use schemas::time::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::click::ClickKey;
use crate::fields::{At, Faults, Fields};
use crate::metadata::Metadata;
use crate::tape::{Kind, Value};

/// Lines of an order in one event.
pub const ITEMS_MAX: usize = 100;
/// Bytes of an idempotency key.
pub const IDEMPOTENCY_KEY_MAX: usize = 255;
/// Bytes of an event type.
pub const EVENT_TYPE_MAX: usize = 100;
/// Amounts and quantities, minor units: what every JSON reader holds exactly (RFC 7493, 2^53 - 1),
/// and small enough that sums of a thousand events fit 64 bits.
pub const AMOUNT_MAX: i64 = (1 << 53) - 1;
/// How far an event or a click may lie in the future, milliseconds: room for clocks that differ.
pub const FUTURE_MAX_MS: i64 = 5 * 60 * 1000;

const EVENT: [&str; 15] = [
    "eventType",
    "idempotencyKey",
    "campaignId",
    "gigId",
    "attributionCode",
    "attributionLinkId",
    "clickId",
    "occurredAt",
    "externalRef",
    "amount",
    "currency",
    "quantity",
    "customer",
    "items",
    "metadata",
];
const CUSTOMER: [&str; 4] = ["id", "email", "country", "status"];
const ITEM: [&str; 4] = ["sku", "category", "amount", "quantity"];

/// An event that may go on the log.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) id: ConversionEventId,
    pub(crate) idempotency_key: String,
    /// Of the client's own body: the same for the same event sent alone or in a batch.
    pub(crate) fingerprint: [u8; 16],
    /// An encoded `proto::Record`.
    pub(crate) record: Bytes,
}

/// An event that may not.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Where it could be read.
    pub(crate) idempotency_key: Option<String>,
    /// At least one.
    pub(crate) faults: Vec<Fault>,
}

/// Reads the events of one request.
pub(crate) struct EventReader<'k> {
    scope: Scope,
    organization: Bytes,
    now: Timestamp,
    click_key: &'k ClickKey,
    canonical: Vec<u8>,
    compact: Vec<u8>,
    records: BytesMut,
}

impl<'k> EventReader<'k> {
    /// A reader of events of `scope` that are accepted at `now`.
    pub(crate) fn new(scope: Scope, now: Timestamp, click_key: &'k ClickKey) -> Self {
        Self {
            scope,
            organization: scope.organization.to_proto(),
            now,
            click_key,
            canonical: Vec::new(),
            compact: Vec::new(),
            records: BytesMut::new(),
        }
    }

    /// Reads one event.
    pub(crate) fn read(&mut self, value: Value<'_, '_>) -> Result<Accepted, Refused> {
        let mut faults = Faults::default();
        let fields = Fields::of(value, &EVENT, At::Root, &mut faults);
        let event = self.event(&fields, &mut faults);
        if faults.is_empty() {
            Ok(self.accept(event))
        } else {
            let key = Some(event.idempotency_key).filter(|key| !key.is_empty());
            Err(Refused { idempotency_key: key, faults: faults.into_vec() })
        }
    }

    fn accept(&mut self, mut event: proto::ConversionEvent) -> Accepted {
        let id = hash::event_id(self.scope, &event.idempotency_key);
        let fingerprint = fingerprint(&self.canonical);
        event.event_id = id.to_proto();
        event.fingerprint = Bytes::copy_from_slice(&fingerprint);
        let mut record = proto::Record {
            organization: self.organization.clone(),
            mode: proto::Mode::from(self.scope.mode).into(),
            accepted_at_ms: self.now.as_ms(),
            body: Some(proto::record::Body::Conversion(event)),
        };
        self.records.reserve(record.encoded_len());
        // The room was reserved, so it cannot run out.
        let _ = record.encode(&mut self.records);
        let idempotency_key = match &mut record.body {
            Some(proto::record::Body::Conversion(event)) => {
                std::mem::take(&mut event.idempotency_key)
            }
            _ => String::new(),
        };
        Accepted { id, idempotency_key, fingerprint, record: self.records.split().freeze() }
    }

    fn event<'i>(
        &mut self,
        fields: &Fields<'_, 'i, '_, 15>,
        faults: &mut Faults,
    ) -> proto::ConversionEvent {
        self.canonical.clear();
        fields.canonical(&mut self.canonical);
        for name in ["eventType", "idempotencyKey"] {
            fields.require(name, faults);
        }
        require_attribution(fields, faults);
        let customer = fields.get("customer");
        let customer = customer.map(|value| self.customer(value, faults)).unwrap_or_default();
        let items = fields.get("items").map(|value| self.items(value, faults));
        let metadata = fields.get("metadata").map(|value| self.metadata(value, faults));
        let id = |id: Option<[u8; 16]>| id.map(|id| Bytes::copy_from_slice(&id));
        let owned = |text: Option<&'i str>| text.map(str::to_owned);
        proto::ConversionEvent {
            event_id: Bytes::new(),
            aktvator_id: None,
            fingerprint: Bytes::new(),
            event_type: owned(fields.text("eventType", 1..=EVENT_TYPE_MAX, faults))
                .unwrap_or_default(),
            idempotency_key: owned(fields.text("idempotencyKey", 1..=IDEMPOTENCY_KEY_MAX, faults))
                .unwrap_or_default(),
            campaign_id: id(fields.parsed("campaignId", faults).map(CampaignId::to_bytes)),
            gig_id: id(fields.parsed("gigId", faults).map(GigId::to_bytes)),
            attribution_code: fields
                .text("attributionCode", 1..=CODE_MAX, faults)
                .map(str::to_ascii_uppercase),
            attribution_link_id: id(fields
                .parsed("attributionLinkId", faults)
                .map(LinkId::to_bytes)),
            click: self.click(fields, faults),
            occurred_at_ms: self.occurred_at(fields, faults),
            external_ref: owned(fields.text("externalRef", 1..=REFERENCE_MAX, faults)),
            amount: fields.integer("amount", 0..=AMOUNT_MAX, faults),
            currency: fields.parsed("currency", faults).map(|c: Currency| c.as_str().to_owned()),
            quantity: fields.integer("quantity", 0..=AMOUNT_MAX, faults),
            customer: customer.known(metadata.as_ref(), faults),
            items: items.unwrap_or_default(),
            metadata: metadata.map_or_else(Bytes::new, |metadata| {
                Bytes::copy_from_slice(&metadata.redacted(&self.compact))
            }),
        }
    }

    fn click(
        &self,
        fields: &Fields<'_, '_, '_, 15>,
        faults: &mut Faults,
    ) -> Option<proto::ClickToken> {
        let at = At::Member(&At::Root, "clickId");
        let text = fields.text("clickId", 1..=REFERENCE_MAX, faults)?;
        let Some(click) = self.click_key.verify(text) else {
            faults.note(at, "invalid_format", "is not a click id that we signed");
            return None;
        };
        if self.is_future(click.at) {
            faults.note(at, "event_in_future", "must not lie more than 5 minutes in the future");
        }
        Some(proto::ClickToken { link_id: click.link.to_proto(), clicked_at_ms: click.at.as_ms() })
    }

    fn occurred_at(&self, fields: &Fields<'_, '_, '_, 15>, faults: &mut Faults) -> Option<i64> {
        let at: Timestamp = fields.parsed("occurredAt", faults)?;
        if self.is_future(at) {
            let message = "must not lie more than 5 minutes in the future";
            faults.note(At::Member(&At::Root, "occurredAt"), "event_in_future", message);
        }
        Some(at.as_ms())
    }

    fn is_future(&self, at: Timestamp) -> bool {
        at.as_ms() > self.now.as_ms().saturating_add(FUTURE_MAX_MS)
    }

    fn customer<'i>(&mut self, value: Value<'_, 'i>, faults: &mut Faults) -> Customer<'i> {
        let at = At::Member(&At::Root, "customer");
        let fields = Fields::of(value, &CUSTOMER, at, faults);
        self.canonical.push(b'c');
        fields.canonical(&mut self.canonical);
        let country = fields.text("country", 2..=2, faults);
        if country.is_some_and(|c| !c.bytes().all(|b| b.is_ascii_alphabetic())) {
            let message = "must be two letters of ISO 3166-1, like US";
            faults.note(At::Member(&at, "country"), "invalid_format", message);
        }
        let email = fields.text("email", 1..=EMAIL_MAX, faults);
        Customer {
            given: true,
            id: fields.text("id", 1..=REFERENCE_MAX, faults),
            email_hash: email.and_then(|email| email_hash(email, At::Member(&at, "email"), faults)),
            has_email: fields.get("email").is_some(),
            country: country.map(str::to_ascii_uppercase),
            status: fields.text("status", 1..=NAME_MAX, faults),
        }
    }

    fn items(&mut self, value: Value<'_, '_>, faults: &mut Faults) -> Vec<proto::Item> {
        let at = At::Member(&At::Root, "items");
        let Kind::Array(children) = value.kind() else {
            faults.note(at, "wrong_type", "must be an array");
            return Vec::new();
        };
        if children.len() > ITEMS_MAX {
            faults.note(at, "out_of_range", format!("must have at most {ITEMS_MAX} items"));
            return Vec::new();
        }
        let items = children.elements().enumerate();
        items.map(|(i, value)| self.item(value, At::Element(&at, i), faults)).collect()
    }

    fn item(&mut self, value: Value<'_, '_>, at: At<'_>, faults: &mut Faults) -> proto::Item {
        let fields = Fields::of(value, &ITEM, at, faults);
        self.canonical.push(b'l');
        fields.canonical(&mut self.canonical);
        proto::Item {
            sku: fields.text("sku", 1..=NAME_MAX, faults).map(str::to_owned),
            category: fields.text("category", 1..=NAME_MAX, faults).map(str::to_owned),
            amount: fields.integer("amount", 0..=AMOUNT_MAX, faults),
            quantity: fields.integer("quantity", 0..=AMOUNT_MAX, faults),
        }
    }

    fn metadata<'i>(&mut self, value: Value<'_, 'i>, faults: &mut Faults) -> Metadata<'i> {
        self.compact.clear();
        let at = At::Member(&At::Root, "metadata");
        let metadata = Metadata::read(value, at, &mut self.compact, faults);
        self.canonical.push(b'm');
        self.canonical.extend_from_slice(&self.compact);
        metadata
    }
}

/// Bytes of an attribution code.
const CODE_MAX: usize = 64;
/// Bytes of the client's own ids and references.
const REFERENCE_MAX: usize = 255;
/// Bytes of the names rules ask for.
const NAME_MAX: usize = 100;
/// Bytes of an e-mail address (RFC 5321: 64 before the `@`, 255 after).
const EMAIL_MAX: usize = 320;

/// The customer as given, before what metadata says.
#[derive(Default)]
struct Customer<'i> {
    given: bool,
    id: Option<&'i str>,
    has_email: bool,
    email_hash: Option<Bytes>,
    country: Option<String>,
    status: Option<&'i str>,
}

impl Customer<'_> {
    /// With what it lacks taken from metadata; `None` when nothing is known.
    fn known(
        self,
        metadata: Option<&Metadata<'_>>,
        faults: &mut Faults,
    ) -> Option<proto::Customer> {
        let id = match self.id {
            Some(id) => Some(id.to_owned()),
            None => metadata.and_then(|metadata| fallback_id(metadata, faults)),
        };
        let email = metadata.and_then(|metadata| metadata.email).filter(|_| !self.has_email);
        let at = At::Member(&METADATA, "email");
        let email_hash =
            self.email_hash.or_else(|| email.and_then(|email| email_hash(email, at, faults)));
        let known = self.given || id.is_some() || email_hash.is_some();
        known.then(|| proto::Customer {
            id,
            email_hash,
            country: self.country,
            status: self.status.map(str::to_owned),
        })
    }
}

const METADATA: At<'static> = At::Member(&At::Root, "metadata");

fn fallback_id(metadata: &Metadata<'_>, faults: &mut Faults) -> Option<String> {
    let id = metadata.customer_id.as_ref()?;
    if !(1..=REFERENCE_MAX).contains(&id.len()) {
        let message = format!("must have 1 to {REFERENCE_MAX} bytes");
        faults.note(At::Member(&METADATA, "customerId"), "out_of_range", message);
    }
    Some(id.clone().into_owned())
}

/// SHA-256 of the address, trimmed and in lower case; the address itself is not kept.
fn email_hash(email: &str, at: At<'_>, faults: &mut Faults) -> Option<Bytes> {
    let normal = email.trim().to_lowercase();
    let plausible = normal.len() <= EMAIL_MAX
        && !normal.contains(|c: char| c.is_whitespace() || c.is_control())
        && normal.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && !host.contains('@')
        });
    if !plausible {
        faults.note(at, "invalid_format", "must be an e-mail address");
        return None;
    }
    Some(Bytes::copy_from_slice(&Sha256::digest(normal)))
}

fn require_attribution(fields: &Fields<'_, '_, '_, 15>, faults: &mut Faults) {
    let keys = ["campaignId", "attributionCode", "attributionLinkId", "clickId"];
    if keys.iter().all(|name| fields.get(name).is_none()) {
        let message =
            "is required, unless attributionCode, attributionLinkId or clickId implies it";
        faults.note(At::Member(&At::Root, "campaignId"), "required", message);
    }
}

/// The first 16 bytes of SHA-256 over the canonical form, behind a tag of its version.
fn fingerprint(canonical: &[u8]) -> [u8; 16] {
    let digest = Sha256::new().chain_update(b"fingerprint 1").chain_update(canonical).finalize();
    let mut head = [0; 16];
    head.copy_from_slice(&digest[..16]);
    head
}

#[cfg(test)]
mod tests;
