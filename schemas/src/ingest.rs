//! What the ingest endpoints take and answer, as the API's document shows it.
//!
//! The edge reads events off a tape and writes answers by hand; these types are the shape of both.
//! Unknown members are refused everywhere but in `metadata`.

use serde::Serialize;
use utoipa::ToSchema;

use crate::fault::Fault;
use crate::id::{CampaignId, ConversionEventId, GigId, LinkId};
use crate::money::Currency;
use crate::time::Timestamp;
use crate::view::DecisionView;

/// A conversion: something that a customer did, and what may lead to who brought them. One of
/// `campaignId`, `attributionLinkId`, `clickId` and `attributionCode` is required.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngestEvent {
    /// What happened: the `actionType` of a published gig, 1 to 100 bytes.
    #[schema(min_length = 1, max_length = 100, example = "customer.signup")]
    pub event_type: String,
    /// What you call the event, 1 to 255 bytes: with the same one it is the same event.
    #[schema(min_length = 1, max_length = 255, example = "order_9988776655")]
    pub idempotency_key: String,
    /// Its campaign; that of the attribution when absent.
    pub campaign_id: Option<CampaignId>,
    /// Its gig; found by `eventType` when absent.
    pub gig_id: Option<GigId>,
    /// A code the customer gave, 1 to 64 bytes, in either case.
    #[schema(min_length = 1, max_length = 64)]
    pub attribution_code: Option<String>,
    /// The link the customer came by.
    pub attribution_link_id: Option<LinkId>,
    /// What the redirect put into the target as `akt_id`, 1 to 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    pub click_id: Option<String>,
    /// When it happened; when it was accepted, if absent. At most 5 minutes in the future.
    pub occurred_at: Option<Timestamp>,
    /// Your own reference, 1 to 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    pub external_ref: Option<String>,
    /// Minor units.
    #[schema(minimum = 0, maximum = 9007199254740991i64)]
    pub amount: Option<i64>,
    /// ISO 4217: that of the rulebook, or nothing is rewarded.
    pub currency: Option<Currency>,
    /// How many.
    #[schema(minimum = 0, maximum = 9007199254740991i64)]
    pub quantity: Option<i64>,
    /// Who did it.
    pub customer: Option<IngestCustomer>,
    /// The lines of the order, at most 100.
    #[schema(max_items = 100)]
    pub items: Option<Vec<IngestItem>>,
    /// Anything rules may ask for: at most 16 KiB and 4 levels deep. `customerId` and `email` stand in
    /// for those of `customer`.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Value>,
}

/// The customer of an event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngestCustomer {
    /// Your own id, 1 to 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    pub id: Option<String>,
    /// Kept as the SHA-256 of its lower case only; at most 320 bytes.
    #[schema(min_length = 1, max_length = 320)]
    pub email: Option<String>,
    /// ISO 3166-1 alpha-2.
    #[schema(min_length = 2, max_length = 2, example = "US")]
    pub country: Option<String>,
    /// What rules may ask for, like `new`; 1 to 100 bytes.
    #[schema(min_length = 1, max_length = 100)]
    pub status: Option<String>,
}

/// A line of an order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngestItem {
    /// 1 to 100 bytes.
    #[schema(min_length = 1, max_length = 100)]
    pub sku: Option<String>,
    /// 1 to 100 bytes.
    #[schema(min_length = 1, max_length = 100)]
    pub category: Option<String>,
    /// Minor units.
    #[schema(minimum = 0, maximum = 9007199254740991i64)]
    pub amount: Option<i64>,
    /// How many.
    #[schema(minimum = 0, maximum = 9007199254740991i64)]
    pub quantity: Option<i64>,
}

/// The event is durably on the log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngestReceived {
    /// `true`.
    pub received: bool,
    /// The same for the same `idempotencyKey`.
    pub event_id: ConversionEventId,
    /// `queued`, or what became of it within `?wait`: `evaluated`, `duplicate`, `conflict`, `rejected`.
    pub status: String,
    /// Where the answer waited for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionView>,
}

/// Up to 1,000 events: a JSON array, or one JSON object per line (`application/x-ndjson`).
#[derive(Debug, Serialize, ToSchema)]
pub struct IngestBatch(pub Vec<IngestEvent>);

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct IngestBatchReceived {
    /// One for each event, in their order.
    pub results: Vec<IngestResult>,
}

/// What became of one event of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngestResult {
    /// Its place in the batch, from 0.
    pub index: u64,
    /// Where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Unless it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<ConversionEventId>,
    /// `queued`, `rejected`, or what became of it within `?wait`.
    pub status: String,
    /// Where the answer waited for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionView>,
    /// What is wrong with it, where it was rejected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}
