//! Where a code leads: looked up in the catalog, kept while nothing of the kind changes.

use std::sync::Arc;

use moka::sync::Cache;
use schemas::entity::{Campaign, CampaignStatus, Code, Link};
use schemas::id::LinkId;
use schemas::partition::Scope;
use schemas::proto;
use schemas::time::Timestamp;
use storage::Catalog;
use storage::catalog::{Document, Kind};

/// Where a link leads, and what a click through it is.
#[derive(Debug)]
pub(crate) struct Target {
    /// As stored.
    pub(crate) url: String,
    pub(crate) link: LinkId,
    pub(crate) scope: Scope,
    /// Is the campaign active?
    pub(crate) counts: bool,
    /// All but time and trigger.
    click: proto::Click,
}

impl Target {
    /// A click through the link.
    pub(crate) fn click(&self, at: Timestamp, trigger: &str) -> proto::Click {
        proto::Click {
            clicked_at_ms: at.as_ms(),
            trigger: trigger.to_owned(),
            ..self.click.clone()
        }
    }
}

/// Why a code's target is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookUpError {
    /// The catalog could not be read.
    #[error("the catalog could not be read")]
    Storage(#[from] storage::Error),
    /// A document is not what its kind says.
    #[error("a document of the catalog could not be read")]
    Document(#[from] serde_json::Error),
}

/// The codes and their targets, in front of the catalog.
pub(crate) struct Targets {
    catalog: Catalog,
    cache: Cache<String, Found>,
}

/// What was found, and at which revision of the catalog.
#[derive(Clone)]
struct Found {
    revision: u64,
    target: Option<Arc<Target>>,
}

impl Targets {
    /// Keeps up to `capacity` codes in memory, those that lead nowhere included.
    pub(crate) fn new(catalog: Catalog, capacity: u64) -> Self {
        Self { catalog, cache: Cache::new(capacity) }
    }

    /// Where `code`, upper case, leads; `None` where it is no link's.
    ///
    /// # Errors
    /// [`LookUpError`]; nothing is kept then.
    pub(crate) async fn of(&self, code: &str) -> Result<Option<Arc<Target>>, LookUpError> {
        // Read before the documents: what is cached under an older number is out of date.
        let revision = self.revision();
        if let Some(found) = self.cache.get(code).filter(|found| found.revision == revision) {
            return Ok(found.target);
        }
        let target = self.look_up(code).await?.map(Arc::new);
        self.cache.insert(code.to_owned(), Found { revision, target: target.clone() });
        Ok(target)
    }

    /// Rises with any change of what a target is made of.
    fn revision(&self) -> u64 {
        let kinds = [Kind::Code, Kind::Link, Kind::Campaign];
        kinds.into_iter().map(|kind| self.catalog.revision(kind)).sum()
    }

    async fn look_up(&self, code: &str) -> Result<Option<Target>, LookUpError> {
        let Some(holder) = self.catalog.named(&format!("code:{code}")).await? else {
            return Ok(None);
        };
        let Some(link) = self.link(holder).await? else { return Ok(None) };
        let campaign = self.catalog.get(Kind::Campaign, &link.campaign_id.to_string()).await?;
        let Some(campaign) = campaign else { return Ok(None) };
        let campaign: Campaign = serde_json::from_str(&campaign.json)?;
        Ok(Some(target(link, &campaign)))
    }

    /// The link behind the document that holds a code: the link itself, or the code's. A code by itself
    /// has none.
    async fn link(&self, holder: Document) -> Result<Option<Link>, LookUpError> {
        let link = match holder.kind {
            Kind::Link => Some(holder),
            Kind::Code => {
                let code: Code = serde_json::from_str(&holder.json)?;
                match code.link_id {
                    Some(id) => self.catalog.get(Kind::Link, &id.to_string()).await?,
                    None => None,
                }
            }
            _ => None,
        };
        Ok(link.map(|link| serde_json::from_str(&link.json)).transpose()?)
    }
}

fn target(link: Link, campaign: &Campaign) -> Target {
    let scope = Scope { organization: link.organization_id, mode: link.mode };
    Target {
        click: proto::Click {
            organization: link.organization_id.to_proto(),
            mode: proto::Mode::from(link.mode).into(),
            clicked_at_ms: 0,
            link_id: link.id.to_proto(),
            campaign_id: link.campaign_id.to_proto(),
            aktvator_id: link.aktvator_id.to_proto(),
            code: link.code,
            trigger: String::new(),
        },
        url: link.target_url,
        link: link.id,
        scope,
        counts: campaign.status == CampaignStatus::Active,
    }
}
