//! Which endpoints an organization has, read from the catalog and kept until the catalog changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use schemas::entity::Endpoint;
use schemas::id::EndpointId;
use schemas::partition::Scope;
use storage::catalog::{
    CatalogError, Change, Document, Expected, FieldFilter, Kind, ListFilter, Page,
};
use storage::{Catalog, Error};

/// Scopes whose endpoints are kept; with one more, all are forgotten and read again.
const SCOPES_MAX: usize = 10_000;
/// What one read of the catalog returns: far more endpoints than registration permits an
/// organization to have at once in one mode.
const ENDPOINTS_MAX: usize = 1_000;
/// How often a change of an endpoint is tried again because someone else changed it.
const DISABLE_TRIES: usize = 3;

/// The endpoints of one scope as of one revision of the catalog.
type Kept = (u64, Arc<Vec<Endpoint>>);

/// Endpoints by scope. An endpoint that was registered before a look-up begins is in its answer.
pub(crate) struct Endpoints {
    catalog: Catalog,
    kept: Mutex<BTreeMap<Scope, Kept>>,
}

impl Endpoints {
    /// Nothing kept yet.
    pub(crate) fn new(catalog: Catalog) -> Self {
        Self { catalog, kept: Mutex::default() }
    }

    /// Every endpoint of `scope` that is not deleted, also those that are not active.
    pub(crate) async fn of(&self, scope: Scope) -> Result<Arc<Vec<Endpoint>>, Error> {
        let revision = self.catalog.revision(Kind::Endpoint);
        if let Some(endpoints) = self.kept_at(scope, revision) {
            return Ok(endpoints);
        }
        let endpoints = Arc::new(self.read(scope).await?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= SCOPES_MAX {
            kept.clear();
        }
        kept.insert(scope, (revision, endpoints.clone()));
        Ok(endpoints)
    }

    /// Makes an endpoint get nothing any more. No error where it is not there.
    pub(crate) async fn disable(&self, endpoint: EndpointId) -> Result<(), CatalogError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_disable(endpoint).await {
                Err(CatalogError::Stale) if tries < DISABLE_TRIES => {}
                done => return done,
            }
        }
    }

    fn kept_at(&self, scope: Scope, revision: u64) -> Option<Arc<Vec<Endpoint>>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&scope).filter(|(at, _)| *at == revision).map(|(_, endpoints)| endpoints.clone())
    }

    async fn read(&self, scope: Scope) -> Result<Vec<Endpoint>, Error> {
        // Left out by the catalog: those deleted over the years must not fill the page.
        let not_deleted = FieldFilter {
            field: "deleted".to_owned(),
            values: vec!["true".to_owned()],
            exclude: true,
        };
        let filter = ListFilter {
            organization: Some(scope.organization),
            mode: Some(scope.mode),
            fields: vec![not_deleted],
            ..ListFilter::default()
        };
        let page = Page { limit: ENDPOINTS_MAX, ..Page::default() };
        let documents = self.catalog.list(Kind::Endpoint, filter, page).await?;
        Ok(documents.iter().filter_map(parse).collect())
    }

    async fn try_disable(&self, endpoint: EndpointId) -> Result<(), CatalogError> {
        let found = self.catalog.get(Kind::Endpoint, &endpoint.to_string()).await?;
        let Some((document, parsed)) = found.and_then(|d| parse(&d).map(|e| (d, e))) else {
            return Ok(());
        };
        if !parsed.active {
            return Ok(());
        }
        let expected = Expected::Version(document.version);
        let version = document.version + 1;
        let disabled = Endpoint { active: false, version, ..parsed };
        let json = serde_json::to_string(&disabled).expect("an endpoint is always JSON");
        let document = Document { version, json, ..document };
        self.catalog
            .apply(vec![Change { document, expected, uniques: Vec::new(), command: None }])
            .await
            .map(|_| ())
    }
}

/// A document that cannot be read is left out: it must not stop the others.
fn parse(document: &Document) -> Option<Endpoint> {
    serde_json::from_str(&document.json)
        .inspect_err(|error| {
            tracing::error!(endpoint = document.id, %error, "endpoint cannot be read");
        })
        .ok()
}
