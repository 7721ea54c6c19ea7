//! The documents of the catalog, as they are stored (JSON) and, less what is secret, shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{
    AktvatorId, ApiKeyId, CampaignId, EndpointId, GigId, LinkId, OrganizationId, TopUpId,
};
use crate::money::{Currency, Money};
use crate::partition::Mode;
use crate::time::Timestamp;

/// The customer; owner of keys, campaigns and wallet. Not bound to a mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Organization {
    /// Root of everything.
    pub id: OrganizationId,
    /// 1 to 200 bytes.
    pub name: String,
    /// Up to 2,000 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// An https URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub website: Option<String>,
    /// Of the wallet and of every rulebook.
    pub currency: Currency,
    /// Set by the operator; absent means the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Rises with every change.
    pub version: u64,
}

/// Rate limits of an organization's keys, each key by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Events per second on ingest.
    pub ingest_per_second: u32,
    /// Events at once on ingest.
    pub ingest_burst: u32,
    /// Requests per second on everything else.
    pub requests_per_second: u32,
    /// Requests at once on everything else.
    pub requests_burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ingest_per_second: 1_000,
            ingest_burst: 2_000,
            requests_per_second: 100,
            requests_burst: 200,
        }
    }
}

/// An API key as stored; the token itself is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Not the token.
    pub id: ApiKeyId,
    /// Whose.
    pub organization_id: OrganizationId,
    /// Live or test.
    pub mode: Mode,
    /// 1 to 100 bytes.
    pub name: String,
    /// What it may do: `campaigns:read`, `events:ingest`, ..., or `*`.
    pub scopes: Vec<String>,
    /// The first characters of the token, `ak_live_` and four more.
    pub prefix: String,
    /// The last four characters of the token.
    pub last4: String,
    /// Lower-case hex of the token's SHA-256. Never shown.
    pub sha256: String,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Since when it is refused for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Rises with every change.
    pub version: u64,
}

/// A campaign's life: `draft`, `active`, `paused` and back, `ended`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CampaignStatus {
    /// Not yet rewarding.
    Draft,
    /// Rewarding.
    Active,
    /// Not rewarding for now.
    Paused,
    /// Never rewarding again.
    Ended,
}

impl CampaignStatus {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Ended => "ended",
        }
    }

    /// Where it may go from here.
    pub const fn next(self) -> &'static [Self] {
        match self {
            Self::Draft => &[Self::Active],
            Self::Active => &[Self::Paused, Self::Ended],
            Self::Paused => &[Self::Active, Self::Ended],
            Self::Ended => &[],
        }
    }
}

/// Container with status and rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Campaign {
    /// Its id.
    pub id: CampaignId,
    /// Whose.
    pub organization_id: OrganizationId,
    /// Live or test.
    pub mode: Mode,
    /// 1 to 200 bytes.
    pub name: String,
    /// Up to 2,000 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where in its life it is.
    pub status: CampaignStatus,
    /// Removed as a draft: not shown, and never again anything else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(ignore)]
    pub deleted: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Rises with every change.
    pub version: u64,
}

/// A gig's life: `draft`, `published`, `paused` and back, `closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GigStatus {
    /// Not yet open.
    Draft,
    /// Open.
    Published,
    /// Closed for now.
    Paused,
    /// Closed for good.
    Closed,
}

impl GigStatus {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Paused => "paused",
            Self::Closed => "closed",
        }
    }

    /// Where it may go from here.
    pub const fn next(self) -> &'static [Self] {
        match self {
            Self::Draft => &[Self::Published],
            Self::Published => &[Self::Paused, Self::Closed],
            Self::Paused => &[Self::Published, Self::Closed],
            Self::Closed => &[],
        }
    }
}

/// One rewarded action inside a campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gig {
    /// Its id.
    pub id: GigId,
    /// Whose.
    pub organization_id: OrganizationId,
    /// Live or test.
    pub mode: Mode,
    /// Its campaign.
    pub campaign_id: CampaignId,
    /// 1 to 200 bytes.
    pub title: String,
    /// What `eventType` must equal.
    pub action_type: String,
    /// Where in its life it is.
    pub status: GigStatus,
    /// Removed as a draft: not shown, and never again anything else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(ignore)]
    pub deleted: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Rises with every change.
    pub version: u64,
}

/// May an aktvator earn?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AktvatorStatus {
    /// Yes.
    Approved,
    /// Not yet.
    Pending,
    /// No longer.
    Banned,
}

impl AktvatorStatus {
    /// As in JSON, and as rules see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Pending => "pending",
            Self::Banned => "banned",
        }
    }
}

/// The person who earns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Aktvator {
    /// Their id.
    pub id: AktvatorId,
    /// Whose network they are in.
    pub organization_id: OrganizationId,
    /// Live or test.
    pub mode: Mode,
    /// 1 to 200 bytes.
    pub name: String,
    /// The organization's own id of them; unique in (organization, mode).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// ISO 3166-1 alpha-2, upper case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// A name rules may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Names rules may ask for.
    #[serde(default)]
    pub tags: Vec<String>,
    /// May they earn?
    pub status: AktvatorStatus,
    /// When they joined.
    pub created_at: Timestamp,
    /// Rises with every change.
    pub version: u64,
}

/// A link that redirects, and the code in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Its id.
    pub id: LinkId,
    /// Whose.
    pub organization_id: OrganizationId,
    /// Live or test.
    pub mode: Mode,
    /// Its campaign.
    pub campaign_id: CampaignId,
    /// Who earns by it.
    pub aktvator_id: AktvatorId,
    /// Where the customer is sent.
    pub target_url: String,
    /// Upper case; never given out again.
    pub code: String,
    /// No longer shown; still attributes.
    pub archived: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Rises with every change.
    pub version: u64,
}

/// A code that a customer types.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Code {
    /// Upper case; never given out again.
    pub code: String,
    /// Whose.
    pub organization_id: OrganizationId,
    /// Live or test.
    pub mode: Mode,
    /// Its campaign.
    pub campaign_id: CampaignId,
    /// Who earns by it.
    pub aktvator_id: AktvatorId,
    /// The link that carries it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_id: Option<LinkId>,
    /// No longer shown; still attributes.
    pub archived: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Rises with every change.
    pub version: u64,
}

/// One version of a campaign's rulebook, with the JSON that was put.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RulebookVersion {
    /// Whose rules.
    pub campaign_id: CampaignId,
    /// From 1, dense.
    pub version: u64,
    /// From which `acceptedAt` on it is in force.
    pub effective_from: Timestamp,
    /// Why it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_note: Option<String>,
    /// The rulebook, as validated.
    #[schema(value_type = Object)]
    pub rulebook: serde_json::Value,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A registered webhook URL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose.
    pub organization_id: OrganizationId,
    /// Live or test.
    pub mode: Mode,
    /// 1 to 100 bytes.
    pub name: String,
    /// https and public; loopback only where the installation allows it.
    pub target_url: String,
    /// Notice types, or `*`.
    pub subscribed_events: Vec<String>,
    /// Does it get anything?
    pub active: bool,
    /// `whsec_` and base64 of 32 bytes. Shown once.
    pub secret: String,
    /// Removed for good: not shown, and never active again.
    #[serde(default)]
    pub deleted: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Rises with every change.
    pub version: u64,
}

/// Where a top-up is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TopUpStatus {
    /// Waiting for the payment provider.
    Pending,
    /// In the wallet.
    Credited,
}

/// Money on its way into the wallet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopUp {
    /// Also the id of the command that credits it.
    pub id: TopUpId,
    /// Whose wallet.
    pub organization_id: OrganizationId,
    /// Live or test.
    pub mode: Mode,
    /// How much.
    pub money: Money,
    /// Where it is.
    pub status: TopUpStatus,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Rises with every change.
    pub version: u64,
}
