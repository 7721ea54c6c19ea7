//! Versions of a rulebook as the catalog keeps them, and which of them is in force when.

use engine::Rulebook;
use std::str::FromStr;

use schemas::entity::RulebookVersion;
use schemas::fault::ApiError;
use schemas::id::{CampaignId, OrganizationId};
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, record::Body};
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use storage::catalog::Kind;
use utoipa::ToSchema;

use crate::ControlParts;
use crate::page::Listing;
use crate::query::PageAsked;
use crate::stored::{Stored, Within};

/// Versions of one read while walking down from the newest.
const WALK_PAGE: usize = 10;

/// A version as the catalog keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredRulebook {
    pub(crate) organization_id: OrganizationId,
    pub(crate) mode: Mode,
    #[serde(flatten)]
    pub(crate) version: RulebookVersion,
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
pub(crate) struct VersionId {
    pub(crate) campaign: CampaignId,
    pub(crate) version: u64,
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

/// Where a version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// In force now.
    Active,
    /// Will be in force.
    Scheduled,
    /// Will never be in force again, or never was.
    Superseded,
}

/// From when on a version is overtaken by a newer one: the earliest `effectiveFrom` of all of those.
/// `None` while there is no newer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overtaken(Option<Timestamp>);

impl Overtaken {
    /// The standing at `now` of a version that takes effect at `from`: in force is the newest version
    /// that has taken effect.
    pub(crate) fn standing(self, from: Timestamp, now: Timestamp) -> Standing {
        match self.0 {
            Some(overtaken) if overtaken <= from.max(now) => Standing::Superseded,
            _ if from <= now => Standing::Active,
            _ => Standing::Scheduled,
        }
    }

    /// What it is for the next older version.
    pub(crate) fn by(self, from: Timestamp) -> Self {
        Self(Some(self.0.map_or(from, |overtaken| overtaken.min(from))))
    }
}

/// Compiles a rulebook that was checked before.
///
/// # Errors
/// 400 where it is none.
pub(crate) fn compile(rulebook: &serde_json::Value) -> Result<Rulebook, ApiError> {
    Rulebook::compile(rulebook.to_string().into()).map_err(ApiError::validation)
}

/// The newest version, if there is one.
///
/// # Errors
/// 503 where the catalog does not answer.
pub(crate) async fn latest(
    parts: &ControlParts,
    scope: Scope,
    campaign: CampaignId,
) -> Result<Option<RulebookVersion>, ApiError> {
    let page = page(parts, scope, campaign, 1, None).await?;
    Ok(page.data.into_iter().next().map(|stored| stored.version))
}

/// Is there a version in force at `now`?
pub(crate) enum Readiness {
    /// Yes.
    InForce,
    /// Only later.
    Scheduled,
    /// There is no version at all.
    None,
}

/// How ready the rules of a campaign are at `now`.
///
/// # Errors
/// 503 where the catalog does not answer.
pub(crate) async fn readiness(
    parts: &ControlParts,
    scope: Scope,
    campaign: CampaignId,
    now: Timestamp,
) -> Result<Readiness, ApiError> {
    let overtaken = overtaken(parts, scope, campaign, 0, now).await?;
    Ok(match overtaken.0 {
        Some(from) if from <= now => Readiness::InForce,
        Some(_) => Readiness::Scheduled,
        None => Readiness::None,
    })
}

/// What has overtaken `version`, as far as it matters at `now`: walks down from the newest version
/// until there is one in force, which supersedes all below.
///
/// # Errors
/// 503 where the catalog does not answer.
pub(crate) async fn overtaken(
    parts: &ControlParts,
    scope: Scope,
    campaign: CampaignId,
    version: u64,
    now: Timestamp,
) -> Result<Overtaken, ApiError> {
    let (mut overtaken, mut after) = (Overtaken::default(), None);
    loop {
        let page = page(parts, scope, campaign, WALK_PAGE, after).await?;
        for StoredRulebook { version: newer, .. } in page.data {
            if newer.version <= version || overtaken.0.is_some_and(|from| from <= now) {
                return Ok(overtaken);
            }
            overtaken = overtaken.by(newer.effective_from);
        }
        after = page.next_cursor;
        if after.is_none() {
            return Ok(overtaken);
        }
    }
}

async fn page(
    parts: &ControlParts,
    scope: Scope,
    campaign: CampaignId,
    limit: usize,
    after: Option<String>,
) -> Result<Listing<StoredRulebook>, ApiError> {
    let asked = PageAsked { limit, after, before: None };
    parts.page(Within::Scope(scope), Some(campaign.to_string()), Vec::new(), asked).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_has_taken_effect_is_in_force() {
        use Standing::{Active, Scheduled, Superseded};
        // When each takes effect, from the newest down; now is 10.
        let cases: [(&[i64], &[Standing]); 7] = [
            (&[10], &[Active]),
            (&[11], &[Scheduled]),
            (&[5, 9], &[Active, Superseded]),
            (&[20, 5, 1], &[Scheduled, Active, Superseded]),
            (&[5, 20], &[Active, Superseded]),
            (&[20, 30, 5], &[Scheduled, Superseded, Active]),
            (&[30, 20, 5], &[Scheduled, Scheduled, Active]),
        ];
        for (starts, want) in cases {
            let mut overtaken = Overtaken::default();
            for (from, want) in starts.iter().map(|ms| Timestamp::from_ms(*ms)).zip(want) {
                let standing = overtaken.standing(from, Timestamp::from_ms(10));
                assert_eq!(standing, *want, "{from:?} of {starts:?}");
                overtaken = overtaken.by(from);
            }
        }
    }
}
