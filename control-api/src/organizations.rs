//! `/organizations`: the operator makes them and sets their limits; their keys read and describe
//! them.

use http::Method;
use schemas::entity::{Limits, Organization};
use schemas::fault::ApiError;
use schemas::id::OrganizationId;
use schemas::input::Fields;
use schemas::money::Currency;
use utoipa::ToSchema;

use crate::Config;
use crate::call::{Call, Input, Reply};
use crate::fields::{self, Patch};
use crate::route::{Access, Answer, Route};
use crate::stored::{CreateError, Edit, Stored as _, Within};

/// Bytes of a name.
const NAME_LEN_MAX: usize = 200;
/// Bytes of a description.
const DESCRIPTION_LEN_MAX: usize = 2_000;
/// Requests or events a second, and at once.
const RATE_MAX: i64 = 10_000_000;

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::POST, "/organizations", "createOrganization", Access::Operator, create)
            .summary("Create an organization.")
            .takes::<NewOrganization>()
            .gives::<Organization>(201),
        Route::new(
            Method::GET,
            "/organizations/{id}",
            "getOrganization",
            Access::KeyOrOperator("organization:read"),
            get,
        )
        .summary("Fetch organization details.")
        .gives::<Organization>(200),
        Route::new(
            Method::PATCH,
            "/organizations/{id}",
            "updateOrganization",
            Access::KeyOrOperator("organization:write"),
            update,
        )
        .summary("Update name, description, website.")
        .takes::<OrganizationChanges>()
        .gives::<Organization>(200),
        Route::new(
            Method::PUT,
            "/organizations/{id}/limits",
            "putOrganizationLimits",
            Access::Operator,
            put_limits,
        )
        .summary("Set the rate limits of the organization's keys.")
        .takes::<Limits>()
        .gives::<Organization>(200),
    ]
}

/// A new organization.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewOrganization {
    /// 1 to 200 bytes.
    name: String,
    /// Up to 2,000 bytes.
    description: Option<String>,
    /// An https URL.
    website: Option<String>,
    /// Of the wallet and of every rulebook; USD when absent. Cannot be changed.
    #[schema(value_type = Option<Currency>)]
    currency: Currency,
}

impl Input for NewOrganization {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let name = fields::name(fields, "name", NAME_LEN_MAX);
        let description = fields::text(fields, "description", DESCRIPTION_LEN_MAX);
        let website = fields::optional_page(fields, "website");
        let currency = fields.optional_parsed("currency").unwrap_or(Currency::USD);
        Some(Self { name: name?, description, website, currency })
    }
}

/// What may change. `null` takes a description or website away.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct OrganizationChanges {
    /// 1 to 200 bytes.
    name: Option<String>,
    /// Up to 2,000 bytes.
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    /// An https URL.
    #[schema(value_type = Option<String>)]
    website: Patch<String>,
}

impl Input for OrganizationChanges {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        Some(Self {
            name: fields::optional_name(fields, "name", NAME_LEN_MAX),
            description: fields::patch(fields, "description", |fields| {
                fields::text(fields, "description", DESCRIPTION_LEN_MAX)
            }),
            website: fields::patch(fields, "website", |fields| {
                fields::optional_page(fields, "website")
            }),
        })
    }
}

impl Input for Limits {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let mut rate =
            |name| fields.integer(name, 1..=RATE_MAX).and_then(|rate| u32::try_from(rate).ok());
        let ingest_per_second = rate("ingestPerSecond");
        let ingest_burst = rate("ingestBurst");
        let requests_per_second = rate("requestsPerSecond");
        let requests_burst = rate("requestsBurst");
        Some(Self {
            ingest_per_second: ingest_per_second?,
            ingest_burst: ingest_burst?,
            requests_per_second: requests_per_second?,
            requests_burst: requests_burst?,
        })
    }
}

async fn create(mut call: Call) -> Answer {
    let NewOrganization { name, description, website, currency } = call.input()?;
    let organization = Organization {
        id: OrganizationId::new(call.now.as_ms(), call.parts.random.bits()),
        name,
        description,
        website,
        currency,
        limits: None,
        created_at: call.now,
        version: 1,
    };
    let created = call.parts.create(call.now, &organization, Vec::new()).await;
    created.map_err(|e: CreateError| e.into_api(Organization::NOUN))?;
    Ok(Reply::json(201, &organization)?.version(organization.version))
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let organization = own(&call).await?;
    Ok(Reply::json(200, &organization)?.version(organization.version))
}

async fn update(mut call: Call) -> Answer {
    let id = call.organization()?;
    let OrganizationChanges { name, description, website } = call.input()?;
    change(&call, id, move |organization| {
        if let Some(name) = name.clone() {
            organization.name = name;
        }
        description.clone().apply(&mut organization.description);
        website.clone().apply(&mut organization.website);
    })
    .await
}

async fn put_limits(mut call: Call) -> Answer {
    let id = call.organization()?;
    let limits: Limits = call.input()?;
    change(&call, id, move |organization| organization.limits = Some(limits)).await
}

async fn change(
    call: &Call,
    id: OrganizationId,
    edit: impl Fn(&mut Organization) + Send + Sync,
) -> Answer {
    let within = Within::Organization(id);
    let stored = call
        .parts
        .update(call.now, within, &id.to_string(), |organization: &mut Organization| {
            call.if_match(organization.version)?;
            edit(organization);
            Ok(Edit::Store(Vec::new()))
        })
        .await?;
    Ok(Reply::json(200, &stored)?.version(stored.version))
}

/// The organization in the path.
///
/// # Errors
/// 404 where it is foreign or missing.
pub(crate) async fn own(call: &Call) -> Result<Organization, ApiError> {
    let id = call.organization()?;
    call.parts.find(Within::Organization(id), &id.to_string()).await
}
