//! Catalog documents as types: found within a scope, changed with their commands.
//!
//! A foreign organization's document, or one of the other mode, reads as if it were not there.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use schemas::entity::{Aktvator, ApiKey, Campaign, Code, Endpoint, Gig, Link, Organization, TopUp};
use schemas::fault::ApiError;
use schemas::id::OrganizationId;
use schemas::partition::{Mode, Scope};
use schemas::proto::{self, record::Body};
use schemas::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use storage::catalog::{CatalogError, Change, Document, Expected, Kind};

use crate::ControlParts;
use crate::config::{CHANGE_TRIES_MAX, COMMAND_WAIT_MS};
use crate::error;

/// A type that is kept in the catalog.
pub(crate) trait Stored: Serialize + DeserializeOwned + Clone + Send + Sync {
    /// What it is kept as.
    const KIND: Kind;
    /// What messages call it.
    const NOUN: &'static str;

    fn id(&self) -> String;
    fn parent(&self) -> Option<String>;
    /// `None` for an organization, which is in both modes.
    fn scope(&self) -> Option<Scope>;
    /// Whose it is.
    fn owner(&self) -> Option<OrganizationId> {
        self.scope().map(|scope| scope.organization)
    }
    fn version(&self) -> u64;
    fn set_version(&mut self, version: u64);
    fn created_at(&self) -> Timestamp;
    /// Was it removed? What was reads as if it had never been.
    fn is_deleted(&self) -> bool {
        false
    }
    /// What the fold must hear when it changes.
    fn command(&self) -> Option<Body>;
}

/// Where a document is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Within {
    /// Of this organization in this mode.
    Scope(Scope),
    /// Of this organization, in any mode.
    Organization(OrganizationId),
}

impl Within {
    fn holds(self, document: &Document) -> bool {
        match self {
            Self::Scope(scope) => {
                document.organization == Some(scope.organization)
                    && document.mode == Some(scope.mode)
            }
            Self::Organization(id) => document.organization == Some(id),
        }
    }
}

impl ControlParts {
    /// The `T` with this id.
    ///
    /// # Errors
    /// 404 where there is none here.
    pub(crate) async fn find<T: Stored>(&self, within: Within, id: &str) -> Result<T, ApiError> {
        let found = self.catalog.get(T::KIND, id).await.map_err(|e| error::storage(&e))?;
        let document = found.filter(|document| within.holds(document));
        let missing = || ApiError::not_found(T::NOUN);
        let found: T = decode(&document.ok_or_else(missing)?)?;
        if found.is_deleted() { Err(missing()) } else { Ok(found) }
    }

    /// Stores a new `T` that claims `uniques`, and waits a while until the fold will hear of it.
    ///
    /// # Errors
    /// [`CreateError::Taken`] where another document has one of the names.
    pub(crate) async fn create<T: Stored>(
        &self,
        now: Timestamp,
        new: &T,
        uniques: Vec<String>,
    ) -> Result<(), CreateError> {
        let change = self.change(now, new, Expected::Absent, uniques)?;
        match self.catalog.apply(vec![change]).await {
            Ok(commands) => {
                self.logged(&commands).await;
                Ok(())
            }
            Err(CatalogError::Taken { name }) => Err(CreateError::Taken(name)),
            Err(CatalogError::Stale) => Err(CreateError::Exists),
            Err(CatalogError::Storage(e)) => Err(CreateError::Api(error::storage(&e))),
        }
    }

    /// Reads the `T` with this id, lets `edit` change it, and stores it with the next version; again
    /// from the start where another change came between. `edit` answers whether there is anything
    /// to store, and which names it claims.
    ///
    /// # Errors
    /// 404, what `edit` says, 409 `conflict` where others keep coming between, 409 `taken` where a
    /// name is another's.
    pub(crate) async fn update<T: Stored>(
        &self,
        now: Timestamp,
        within: Within,
        id: &str,
        mut edit: impl FnMut(&mut T) -> Result<Edit, ApiError> + Send,
    ) -> Result<T, ApiError> {
        for _ in 0..CHANGE_TRIES_MAX {
            let mut document: T = self.find(within, id).await?;
            let before = document.version();
            let Edit::Store(uniques) = edit(&mut document)? else { return Ok(document) };
            document.set_version(before + 1);
            let change = self.change(now, &document, Expected::Version(before), uniques)?;
            match self.catalog.apply(vec![change]).await {
                Ok(commands) => {
                    self.logged(&commands).await;
                    return Ok(document);
                }
                Err(CatalogError::Stale) => {}
                Err(CatalogError::Taken { .. }) => return Err(taken(T::NOUN)),
                Err(CatalogError::Storage(e)) => return Err(error::storage(&e)),
            }
        }
        Err(ApiError::conflict("conflict", "Others keep changing it. Read it and try again."))
    }

    fn change<T: Stored>(
        &self,
        now: Timestamp,
        document: &T,
        expected: Expected,
        uniques: Vec<String>,
    ) -> Result<Change, ApiError> {
        let json = serde_json::to_string(document).map_err(|e| error::unreadable(T::NOUN, &e))?;
        let command = document.scope().zip(document.command());
        let command = command.map(|(scope, body)| self.command(scope, now, body));
        Ok(Change {
            document: Document {
                kind: T::KIND,
                organization: document.owner(),
                mode: document.scope().map(|scope| scope.mode),
                id: document.id(),
                parent: document.parent(),
                version: document.version(),
                created_at: document.created_at(),
                json,
            },
            expected,
            uniques,
            command,
        })
    }

    /// A record of `events`, and the partition it goes to.
    pub(crate) fn command(&self, scope: Scope, now: Timestamp, body: Body) -> (u16, Bytes) {
        let record = proto::Record {
            organization: scope.organization.to_proto(),
            mode: proto::Mode::from(scope.mode).into(),
            accepted_at_ms: now.as_ms(),
            body: Some(body),
        };
        (scope.partition(self.log.partitions()), record.encode_to_vec().into())
    }

    /// Waits until these commands are in the log. Where that takes too long, [`watched`] says so: the
    /// change is stored all the same, and its command follows.
    async fn logged(&self, commands: &[u64]) {
        if commands.is_empty() {
            return;
        }
        let wait = Duration::from_millis(COMMAND_WAIT_MS);
        match tokio::time::timeout(wait, self.catalog.outbox_cleared(commands)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::warn!(%error, "outbox cannot be watched"),
            Err(_) => tracing::warn!("command is not in the log yet"),
        }
        // Outside of `watched` nobody asks.
        let _ = OVERDUE.try_with(|overdue| overdue.set(true));
    }
}

tokio::task_local! {
    /// Has the work under way stored a change whose command is not in the log yet?
    static OVERDUE: Cell<bool>;
}

/// Does `work`, and says whether a change it stored still waits for the log.
pub(crate) async fn watched<T>(work: impl Future<Output = T>) -> (T, bool) {
    let work = async { (work.await, OVERDUE.with(Cell::get)) };
    OVERDUE.scope(Cell::new(false), work).await
}

/// The answer to a change that still waits for the log.
pub(crate) fn overdue() -> ApiError {
    ApiError::unavailable(
        "The change is stored and will be applied; the event log is out of reach for now.",
    )
}

/// What [`ControlParts::update`] does after an edit.
pub(crate) enum Edit {
    /// Nothing: it is as wanted already.
    Keep,
    /// Stores it, claiming these names.
    Store(Vec<String>),
}

/// Why nothing was created.
#[derive(Debug)]
pub(crate) enum CreateError {
    /// Another document has the name.
    Taken(String),
    /// There is a document with this id.
    Exists,
    /// Anything else.
    Api(ApiError),
}

impl From<ApiError> for CreateError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl CreateError {
    /// As an answer: 409 for a name that is taken.
    pub(crate) fn into_api(self, noun: &str) -> ApiError {
        match self {
            Self::Taken(_) | Self::Exists => taken(noun),
            Self::Api(error) => error,
        }
    }
}

fn taken(noun: &str) -> ApiError {
    ApiError::conflict("taken", format!("Another {noun} has this name already."))
}

/// The type in a document.
///
/// # Errors
/// 500 where it is not what this version writes.
pub(crate) fn decode<T: Stored>(document: &Document) -> Result<T, ApiError> {
    serde_json::from_str(&document.json).map_err(|e| error::unreadable(T::NOUN, &e))
}

fn scope_of(organization: OrganizationId, mode: Mode) -> Option<Scope> {
    Some(Scope { organization, mode })
}

macro_rules! stored {
    ($name:ident, $kind:ident, $noun:literal, $id:ident, $parent:expr, $command:expr
        $(, $deleted:ident)?) => {
        impl Stored for $name {
            const KIND: Kind = Kind::$kind;
            const NOUN: &'static str = $noun;

            fn id(&self) -> String {
                self.$id.to_string()
            }
            fn parent(&self) -> Option<String> {
                let parent: fn(&Self) -> Option<String> = $parent;
                parent(self)
            }
            fn scope(&self) -> Option<Scope> {
                scope_of(self.organization_id, self.mode)
            }
            fn version(&self) -> u64 {
                self.version
            }
            fn set_version(&mut self, version: u64) {
                self.version = version;
            }
            fn created_at(&self) -> Timestamp {
                self.created_at
            }
            $(fn is_deleted(&self) -> bool {
                self.$deleted
            })?
            fn command(&self) -> Option<Body> {
                let command: fn(&Self) -> Option<Body> = $command;
                command(self)
            }
        }
    };
}

stored!(ApiKey, ApiKey, "API key", id, |_| None, |_| None);
stored!(Endpoint, Endpoint, "webhook endpoint", id, |_| None, |_| None, deleted);
stored!(TopUp, TopUp, "top-up", id, |_| None, |_| None);
stored!(
    Campaign,
    Campaign,
    "campaign",
    id,
    |_| None,
    |c| {
        Some(Body::Campaign(proto::CampaignState {
            id: c.id.to_proto(),
            version: c.version,
            status: c.status.as_str().to_owned(),
            name: c.name.clone(),
        }))
    },
    deleted
);
stored!(
    Gig,
    Gig,
    "gig",
    id,
    |g| Some(g.campaign_id.to_string()),
    |g| {
        Some(Body::Gig(proto::GigState {
            id: g.id.to_proto(),
            version: g.version,
            campaign_id: g.campaign_id.to_proto(),
            action_type: g.action_type.clone(),
            status: g.status.as_str().to_owned(),
        }))
    },
    deleted
);
stored!(Aktvator, Aktvator, "aktvator", id, |_| None, |a| {
    Some(Body::Aktvator(proto::AktvatorState {
        id: a.id.to_proto(),
        version: a.version,
        status: a.status.as_str().to_owned(),
        country: a.country.clone(),
        group: a.group.clone(),
        tags: a.tags.clone(),
        joined_at_ms: a.created_at.as_ms(),
    }))
});
stored!(Link, Link, "link", id, |l| Some(l.campaign_id.to_string()), |l| {
    Some(Body::Link(proto::LinkState {
        id: l.id.to_proto(),
        version: l.version,
        campaign_id: l.campaign_id.to_proto(),
        aktvator_id: l.aktvator_id.to_proto(),
        code: l.code.clone(),
        archived: l.archived,
    }))
});
stored!(Code, Code, "code", code, |c| Some(c.campaign_id.to_string()), |c| {
    Some(Body::Code(proto::CodeState {
        code: c.code.clone(),
        version: c.version,
        campaign_id: c.campaign_id.to_proto(),
        aktvator_id: c.aktvator_id.to_proto(),
        link_id: c.link_id.map(|id| id.to_proto()),
        archived: c.archived,
    }))
});

impl Stored for Organization {
    const KIND: Kind = Kind::Organization;
    const NOUN: &'static str = "organization";

    fn id(&self) -> String {
        self.id.to_string()
    }
    fn parent(&self) -> Option<String> {
        None
    }
    fn scope(&self) -> Option<Scope> {
        None
    }
    fn owner(&self) -> Option<OrganizationId> {
        Some(self.id)
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn set_version(&mut self, version: u64) {
        self.version = version;
    }
    fn created_at(&self) -> Timestamp {
        self.created_at
    }
    fn command(&self) -> Option<Body> {
        None
    }
}
