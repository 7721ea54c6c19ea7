//! `/campaigns/:id/reward-rules`: the rulebook in its versions. A version never changes; a new one
//! takes effect mid-stream, in the order of the log.

use engine::rulebook::Rulebook;
use http::Method;
use schemas::entity::{Organization, RulebookVersion};
use schemas::fault::{ApiError, Fault};
use schemas::id::CampaignId;
use schemas::time::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::call::{Call, Reply};
use crate::campaigns;
use crate::config::{CHANGE_TRIES_MAX, RULEBOOK_LEN_MAX};
use crate::page::{Listing, PAGE};
use crate::route::{Access, Answer, Replay, Route};
use crate::rulebook_version::{
    Overtaken, Standing, StoredRulebook, VersionId, compile, latest, overtaken,
};
use crate::stored::{CreateError, Stored as _, Within};

/// Bytes of a change note.
const NOTE_LEN_MAX: usize = 500;

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const RULES: &str = "/campaigns/{id}/reward-rules";
    const VERSIONS: &str = "/campaigns/{id}/reward-rules/versions";
    const VERSION: &str = "/campaigns/{id}/reward-rules/versions/{version}";
    const VALIDATE: &str = "/campaigns/{id}/reward-rules/validate";
    let (read, write) = (Access::Key("rules:read"), Access::Key("rules:write"));
    vec![
        Route::new(Method::GET, RULES, "getRewardRules", read, get)
            .summary("Fetch the newest version of the campaign's reward rules.")
            .gives::<RewardRules>(200),
        Route::new(Method::PUT, RULES, "putRewardRules", write, put)
            .if_match()
            .summary("Put a new version of the reward rules; running events are not interrupted.")
            .body_len_max(RULEBOOK_LEN_MAX)
            .takes::<NewRewardRules>()
            .gives::<RewardRules>(200),
        Route::new(Method::GET, VERSIONS, "listRewardRulesVersions", read, list)
            .summary("List the versions of the reward rules, newest first.")
            .query(PAGE)
            .gives_page::<RewardRules>(),
        Route::new(Method::POST, VALIDATE, "validateRewardRules", read, validate)
            .summary("Check reward rules as a PUT would, and store nothing.")
            .replay(Replay::Ignored)
            .body_len_max(RULEBOOK_LEN_MAX)
            .takes::<NewRewardRules>()
            .gives::<Valid>(200),
        Route::new(Method::GET, VERSION, "getRewardRulesVersion", read, version)
            .summary("Fetch one version of the reward rules.")
            .gives::<RewardRules>(200),
    ]
}

/// A rulebook, and with it when and why it takes effect. What [`RewardRules`] has besides may stand in
/// it, so that what was read can be put back: `campaignId` must be the campaign's own, `id`, `version`,
/// `status` and `createdAt` mean nothing.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "read member by member; this is its shape for the document")]
struct NewRewardRules {
    /// From which `acceptedAt` on it is in force; at once when absent.
    effective_from: Option<Timestamp>,
    /// Why, up to 500 bytes.
    change_note: Option<String>,
    #[schema(inline)]
    #[serde(flatten)]
    rulebook: RulebookMembers,
}

/// What a rulebook says.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "read member by member; this is its shape for the document")]
struct RulebookMembers {
    /// ISO 4217: that of the organization.
    currency: String,
    /// IANA name of 1 to 64 bytes, like `America/New_York`: where days and months begin.
    timezone: String,
    /// `first_match`.
    combine: Option<String>,
    /// How conversions find their aktvator.
    #[schema(value_type = Option<Object>)]
    attribution: Option<Value>,
    /// `{"policy": "reject"}`, also when absent: events in another currency are not rewarded.
    #[schema(value_type = Option<Object>)]
    fx: Option<Value>,
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

/// One version of a campaign's reward rules.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "written member by member; this is its shape for the document")]
struct RewardRules {
    /// Whose rules.
    campaign_id: CampaignId,
    /// From 1, dense.
    version: u64,
    /// `active` is the one in force now.
    status: Standing,
    /// From which `acceptedAt` on it is in force.
    effective_from: Timestamp,
    /// Why it was made.
    change_note: Option<String>,
    /// When it was made.
    created_at: Timestamp,
    #[schema(inline)]
    #[serde(flatten)]
    rulebook: RulebookMembers,
}

/// The rules could be put.
#[derive(Debug, Serialize, ToSchema)]
struct Valid {
    /// `true`: what is wrong is answered 400.
    valid: bool,
    /// What is valid and hardly meant.
    warnings: Vec<Warning>,
}

/// Something that is valid and hardly meant.
#[derive(Debug, Serialize, ToSchema)]
struct Warning {
    /// JSON pointer into the body.
    path: String,
    /// `unreachable_rule`, `cap_below_reward`, or `cap_removed`: its counter is not continued under another key.
    code: String,
    /// For people.
    message: String,
}

/// A version as [`RewardRules`]: the rulebook as it was put, and what is known of it.
fn shown(version: RulebookVersion, status: Standing) -> Value {
    let mut members = match version.rulebook {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    let known = [
        ("campaignId", serde_json::to_value(version.campaign_id)),
        ("version", serde_json::to_value(version.version)),
        ("status", serde_json::to_value(status)),
        ("effectiveFrom", serde_json::to_value(version.effective_from)),
        ("createdAt", serde_json::to_value(version.created_at)),
    ];
    for (name, value) in known {
        members.insert(name.to_owned(), value.unwrap_or_default());
    }
    if let Some(note) = version.change_note {
        members.insert("changeNote".to_owned(), note.into());
    }
    Value::Object(members)
}

fn answer(call: &Call, version: RulebookVersion, overtaken: Overtaken) -> Answer {
    let (number, from) = (version.version, version.effective_from);
    let status = overtaken.standing(from, call.now);
    Ok(Reply::json(200, &shown(version, status))?.version(number))
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let campaign = campaigns::own(&call).await?;
    let version = latest(&call.parts, call.scope()?, campaign.id).await?;
    let version = version.ok_or_else(|| ApiError::not_found("reward rules"))?;
    answer(&call, version, Overtaken::default())
}

async fn put(mut call: Call) -> Answer {
    call.query.finish()?;
    let scope = call.scope()?;
    let campaign = campaigns::own(&call).await?;
    let put = asked(&call, campaign.id).await?;
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
            Ok(()) => return answer(&call, stored.version, Overtaken::default()),
            Err(CreateError::Api(error)) => return Err(error),
            Err(CreateError::Exists | CreateError::Taken(_)) => {}
        }
    }
    Err(ApiError::conflict("conflict", "Others keep changing the rules. Read them and try again."))
}

async fn validate(mut call: Call) -> Answer {
    call.query.finish()?;
    let campaign = campaigns::own(&call).await?;
    let put = asked(&call, campaign.id).await?;
    let before = latest(&call.parts, call.scope()?, campaign.id).await?;
    let warnings = warnings(&put.rulebook, before.as_ref())?;
    Reply::json(200, &Valid { valid: true, warnings })
}

/// What is hardly meant in a rulebook, also beside the one before it.
fn warnings(rulebook: &Value, before: Option<&RulebookVersion>) -> Result<Vec<Warning>, ApiError> {
    let compiled = compile(rulebook)?;
    let rules = rulebook["rules"].as_array();
    let place =
        |key: &str| rules.and_then(|rules| rules.iter().position(|rule| rule["key"] == key));
    let mut warnings: Vec<Warning> = engine::lint::lint(&compiled)
        .into_iter()
        .map(|Fault { path, code, message }| {
            let path = format!("/rules/{}", place(&path).unwrap_or_default());
            Warning { path, code: code.into_owned(), message }
        })
        .collect();
    if let Some(before) = before {
        let before = compile(&before.rulebook)?;
        let kept = compiled.cap_keys();
        let gone = before.cap_keys().into_iter().filter(|key| !kept.contains(key));
        warnings.extend(gone.map(|key| Warning {
            path: "/caps".to_owned(),
            code: "cap_removed".to_owned(),
            message: format!("cap `{key}` is gone; under another key it counts from zero"),
        }));
    }
    Ok(warnings)
}

/// What was put.
struct Put {
    effective_from: Option<Timestamp>,
    change_note: Option<String>,
    rulebook: Value,
}

/// Members that a rulebook has in answers and that only the server writes.
const SERVER_OWNED: [&str; 4] = ["id", "version", "status", "createdAt"];

/// The body, checked as a whole.
///
/// # Errors
/// 400 with every fault.
async fn asked(call: &Call, campaign: CampaignId) -> Result<Put, ApiError> {
    let organization = call.scope()?.organization;
    let within = Within::Organization(organization);
    let organization: Organization = call.parts.find(within, &organization.to_string()).await?;
    read(call.json()?, campaign, &organization)
}

/// Takes the members that are not the rulebook's own off the body, and checks the rest.
fn read(
    mut body: Value,
    campaign: CampaignId,
    organization: &Organization,
) -> Result<Put, ApiError> {
    let mut faults = Vec::new();
    let mut taken = Value::Object(Map::new());
    if let (Some(from), Some(to)) = (body.as_object_mut(), taken.as_object_mut()) {
        SERVER_OWNED.iter().for_each(|name| drop(from.remove(*name)));
        for name in ["effectiveFrom", "changeNote", "campaignId"] {
            if let Some(value) = from.remove(name) {
                to.insert(name.to_owned(), value);
            }
        }
    }
    let mut fields = schemas::input::Fields::of(&taken, "", &mut faults);
    let effective_from = fields.optional_parsed("effectiveFrom");
    let change_note = crate::fields::text(&mut fields, "changeNote", NOTE_LEN_MAX);
    let named: Option<CampaignId> = fields.optional_parsed("campaignId");
    if named.is_some_and(|named| named != campaign) {
        fields.fault("campaignId", "invalid_choice", "is not the campaign in the path");
    }
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
    let scope = call.scope()?;
    let parent = Some(campaign.id.to_string());
    let page: Listing<StoredRulebook> =
        call.parts.page(Within::Scope(scope), parent, Vec::new(), asked).await?;
    let newest = page.data.first().map_or(0, |stored| stored.version.version);
    let mut overtaken = overtaken(&call.parts, scope, campaign.id, newest, call.now).await?;
    let page = page.map(|StoredRulebook { version, .. }| {
        let status = overtaken.standing(version.effective_from, call.now);
        overtaken = overtaken.by(version.effective_from);
        shown(version, status)
    });
    Reply::json(200, &page)
}

async fn version(mut call: Call) -> Answer {
    call.query.finish()?;
    let campaign = campaigns::own(&call).await?;
    let version = call.id("version", StoredRulebook::NOUN)?;
    let id = VersionId { campaign: campaign.id, version }.to_string();
    let scope = call.scope()?;
    let stored: StoredRulebook = call.parts.find(Within::Scope(scope), &id).await?;
    let overtaken = overtaken(&call.parts, scope, campaign.id, version, call.now).await?;
    answer(&call, stored.version, overtaken)
}
