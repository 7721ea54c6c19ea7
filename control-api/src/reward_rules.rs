//! `/campaigns/:id/reward-rules`: the rulebook in its versions. A version never changes; a new one
//! takes effect mid-stream, in the order of the log.

use std::str::FromStr;

use engine::rulebook::Rulebook;
use http::Method;
use schemas::entity::{Organization, RulebookVersion};
use schemas::fault::{ApiError, Fault};
use schemas::id::{CampaignId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, record::Body};
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::catalog::Kind;

use crate::ControlParts;
use crate::call::{Call, Reply};
use crate::campaigns;
use crate::config::{CHANGE_TRIES_MAX, RULEBOOK_LEN_MAX};
use crate::page::{Listing, PAGE};
use crate::query::PageAsked;
use crate::route::{Access, Answer, Route};
use crate::stored::{CreateError, Stored, Within};

/// Bytes of a change note.
const NOTE_LEN_MAX: usize = 500;

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const RULES: &str = "/campaigns/{id}/reward-rules";
    const VERSIONS: &str = "/campaigns/{id}/reward-rules/versions";
    const VERSION: &str = "/campaigns/{id}/reward-rules/versions/{version}";
    let (read, write) = (Access::Key("rules:read"), Access::Key("rules:write"));
    vec![
        Route::new(Method::GET, RULES, "getRewardRules", read, get)
            .summary("Fetch the newest version of the campaign's reward rules.")
            .gives::<RulebookVersion>(200),
        Route::new(Method::PUT, RULES, "putRewardRules", write, put)
            .summary("Put a new version of the reward rules; running events are not interrupted.")
            .body_len_max(RULEBOOK_LEN_MAX)
            .takes::<NewRewardRules>()
            .gives::<RulebookVersion>(200),
        Route::new(Method::GET, VERSIONS, "listRewardRulesVersions", read, list)
            .summary("List the versions of the reward rules, newest first.")
            .query(PAGE)
            .gives_page::<RulebookVersion>(),
        Route::new(Method::GET, VERSION, "getRewardRulesVersion", read, version)
            .summary("Fetch one version of the reward rules.")
            .gives::<RulebookVersion>(200),
    ]
}

/// A rulebook, and with it when and why it takes effect.
#[derive(Debug, utoipa::ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "read member by member; this is its shape for the document")]
struct NewRewardRules {
    /// From which `acceptedAt` on it is in force; at once when absent.
    effective_from: Option<Timestamp>,
    /// Why, up to 500 bytes.
    change_note: Option<String>,
    /// ISO 4217: that of the organization.
    currency: String,
    /// IANA name: where days and months begin.
    timezone: Option<String>,
    /// `first_match`.
    combine: Option<String>,
    /// How conversions find their aktvator.
    #[schema(value_type = Option<Object>)]
    attribution: Option<Value>,
    /// When the wallet reserves, and what happens when it cannot.
    #[schema(value_type = Option<Object>)]
    funding: Option<Value>,
    /// How often the same customer can be rewarded for.
    #[schema(value_type = Option<Object>)]
    uniqueness: Option<Value>,
    /// Limits over all rules.
    #[schema(value_type = Option<Vec<Object>>)]
    caps: Option<Value>,
    /// What is rewarded, and how.
    #[schema(value_type = Vec<Object>)]
    rules: Value,
}

/// A version as the catalog keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredRulebook {
    organization_id: OrganizationId,
    mode: Mode,
    #[serde(flatten)]
    version: RulebookVersion,
}

impl Stored for StoredRulebook {
    const KIND: Kind = Kind::Rulebook;
    const NOUN: &'static str = "version of the reward rules";

    fn id(&self) -> String {
        VersionId { campaign: self.version.campaign_id, version: self.version.version }.to_string()
    }
    fn parent(&self) -> Option<String> {
        Some(self.version.campaign_id.to_string())
    }
    fn scope(&self) -> Option<Scope> {
        Some(Scope { organization: self.organization_id, mode: self.mode })
    }
    /// Of the document, which never changes.
    fn version(&self) -> u64 {
        1
    }
    fn set_version(&mut self, _: u64) {}
    fn created_at(&self) -> Timestamp {
        self.version.created_at
    }
    fn command(&self) -> Option<Body> {
        Some(Body::Rulebook(proto::RulebookState {
            campaign_id: self.version.campaign_id.to_proto(),
            version: self.version.version,
            effective_from_ms: self.version.effective_from.as_ms(),
            json: self.version.rulebook.to_string().into(),
        }))
    }
}

/// What a version is called in the catalog and in cursors: sorts by version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct VersionId {
    campaign: CampaignId,
    version: u64,
}

impl std::fmt::Display for VersionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:020}", self.campaign, self.version)
    }
}

impl FromStr for VersionId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once(':').filter(|(_, version)| version.len() == 20);
        let read = parts.and_then(|(campaign, version)| {
            Some(Self { campaign: campaign.parse().ok()?, version: version.parse().ok()? })
        });
        read.ok_or("must be the cursor of a page of versions")
    }
}

/// The newest version, if there is one.
pub(crate) async fn latest(
    parts: &ControlParts,
    scope: Scope,
    campaign: CampaignId,
) -> Result<Option<RulebookVersion>, ApiError> {
    let asked = PageAsked { limit: 1, after: None, before: None };
    let parent = Some(campaign.to_string());
    let page: Listing<StoredRulebook> =
        parts.page(Within::Scope(scope), parent, Vec::new(), asked).await?;
    Ok(page.data.into_iter().next().map(|stored| stored.version))
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let campaign = campaigns::own(&call).await?;
    let version = latest(&call.parts, call.scope()?, campaign.id).await?;
    let version = version.ok_or_else(|| ApiError::not_found("reward rules"))?;
    Ok(Reply::json(200, &version)?.version(version.version))
}

async fn put(mut call: Call) -> Answer {
    call.query.finish()?;
    let scope = call.scope()?;
    let campaign = campaigns::own(&call).await?;
    let id = scope.organization.to_string();
    let organization: Organization =
        call.parts.find(Within::Organization(scope.organization), &id).await?;
    let put = read(call.json()?, &organization)?;
    for _ in 0..CHANGE_TRIES_MAX {
        let before = latest(&call.parts, scope, campaign.id).await?;
        let number = before.as_ref().map_or(0, |version| version.version);
        call.if_match(number)?;
        let stored = StoredRulebook {
            organization_id: scope.organization,
            mode: scope.mode,
            version: RulebookVersion {
                campaign_id: campaign.id,
                version: number + 1,
                effective_from: put.effective_from.unwrap_or(call.now),
                change_note: put.change_note.clone(),
                rulebook: put.rulebook.clone(),
                // Never before the last one, so that lists by age are lists by version.
                created_at: before.map_or(call.now, |version| version.created_at.max(call.now)),
            },
        };
        match call.parts.create(call.now, &stored, Vec::new()).await {
            Ok(()) => return Ok(Reply::json(200, &stored.version)?.version(number + 1)),
            Err(CreateError::Api(error)) => return Err(error),
            Err(CreateError::Exists | CreateError::Taken(_)) => {}
        }
    }
    Err(ApiError::conflict("conflict", "Others keep changing the rules. Read them and try again."))
}

/// What was put.
struct Put {
    effective_from: Option<Timestamp>,
    change_note: Option<String>,
    rulebook: Value,
}

/// Takes the two members that are not the rulebook's own off the body, and checks the rest.
fn read(mut body: Value, organization: &Organization) -> Result<Put, ApiError> {
    let mut faults = Vec::new();
    let mut taken = Value::Object(serde_json::Map::new());
    if let (Some(from), Some(to)) = (body.as_object_mut(), taken.as_object_mut()) {
        for name in ["effectiveFrom", "changeNote"] {
            if let Some(value) = from.remove(name) {
                to.insert(name.to_owned(), value);
            }
        }
    }
    let mut fields = schemas::input::Fields::of(&taken, "", &mut faults);
    let effective_from = fields.optional_parsed("effectiveFrom");
    let change_note = crate::fields::text(&mut fields, "changeNote", NOTE_LEN_MAX);
    fields.finish();
    if let Err(wrong) = Rulebook::parse(&body, organization.currency) {
        faults.extend::<Vec<Fault>>(wrong);
    }
    if !faults.is_empty() {
        return Err(ApiError::validation(faults));
    }
    Ok(Put { effective_from, change_note, rulebook: body })
}

async fn list(mut call: Call) -> Answer {
    let campaign = campaigns::own(&call).await?;
    let asked = call.query.page_of::<VersionId>()?;
    let within = Within::Scope(call.scope()?);
    let parent = Some(campaign.id.to_string());
    let page: Listing<StoredRulebook> = call.parts.page(within, parent, Vec::new(), asked).await?;
    Reply::json(200, &page.map(|stored| stored.version))
}

async fn version(mut call: Call) -> Answer {
    call.query.finish()?;
    let campaign = campaigns::own(&call).await?;
    let version = call.id("version", StoredRulebook::NOUN)?;
    let id = VersionId { campaign: campaign.id, version }.to_string();
    let stored: StoredRulebook = call.parts.find(Within::Scope(call.scope()?), &id).await?;
    Ok(Reply::json(200, &stored.version)?.version(version))
}
