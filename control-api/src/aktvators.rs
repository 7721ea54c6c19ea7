//! `/aktvators`: the people who earn.

use http::Method;
use schemas::entity::{Aktvator, AktvatorStatus};
use schemas::fault::ApiError;
use schemas::id::AktvatorId;
use schemas::input::Fields;
use schemas::partition::Scope;
use utoipa::ToSchema;

use crate::Config;
use crate::call::{Call, Input, Reply};
use crate::fields::{self, Patch};
use crate::page::{self, Listing, PAGE};
use crate::query::Filter;
use crate::route::{Access, Answer, Route, parameter};
use crate::stored::{CreateError, Edit, Stored as _, Within};

/// Bytes of a name.
const NAME_LEN_MAX: usize = 200;
/// Bytes of the organization's own id.
const EXTERNAL_ID_LEN_MAX: usize = 200;
/// Bytes of a group's or tag's name.
const TAG_LEN_MAX: usize = 64;
/// Tags of one aktvator.
const TAGS_MAX: usize = 50;

const STATUSES: &[(&str, AktvatorStatus)] = &[
    ("approved", AktvatorStatus::Approved),
    ("pending", AktvatorStatus::Pending),
    ("banned", AktvatorStatus::Banned),
];

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const ONE: &str = "/aktvators/{id}";
    let (read, write) = (Access::Key("aktvators:read"), Access::Key("aktvators:write"));
    vec![
        Route::new(Method::GET, "/aktvators", "listAktvators", read, list)
            .summary("List the aktvators of your network.")
            .query(PAGE)
            .query(&[
                parameter("status", "approved, pending, banned."),
                parameter("externalId", "Your own id of them."),
                parameter("group", "The group's name."),
                parameter("country", "ISO 3166-1 alpha-2."),
            ])
            .gives_page::<Aktvator>(),
        Route::new(Method::POST, "/aktvators", "createAktvator", write, create)
            .summary("Enrol an aktvator.")
            .takes::<NewAktvator>()
            .gives::<Aktvator>(201),
        Route::new(Method::GET, ONE, "getAktvator", read, get)
            .summary("Fetch a single aktvator.")
            .gives::<Aktvator>(200),
        Route::new(Method::PATCH, ONE, "updateAktvator", write, update)
            .summary("Change what rules may ask of an aktvator.")
            .takes::<AktvatorChanges>()
            .gives::<Aktvator>(200),
    ]
}

/// A new aktvator.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewAktvator {
    /// 1 to 200 bytes.
    name: String,
    /// Your own id of them, 1 to 200 bytes; unique.
    external_id: Option<String>,
    /// ISO 3166-1 alpha-2.
    country: Option<String>,
    /// A name rules may ask for, 1 to 64 bytes.
    group: Option<String>,
    /// Up to 50 names rules may ask for, each 1 to 64 bytes.
    #[schema(value_type = Option<Vec<String>>)]
    tags: Vec<String>,
    /// May they earn? `approved` when absent.
    #[schema(value_type = Option<AktvatorStatus>)]
    status: AktvatorStatus,
}

impl Input for NewAktvator {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let name = fields::name(fields, "name", NAME_LEN_MAX);
        let external_id = fields::optional_name(fields, "externalId", EXTERNAL_ID_LEN_MAX);
        let country = fields::country(fields, "country");
        let group = fields::optional_name(fields, "group", TAG_LEN_MAX);
        let tags = tags(fields).unwrap_or_default();
        let status = fields.optional_choice("status", STATUSES).unwrap_or(AktvatorStatus::Approved);
        Some(Self { name: name?, external_id, country, group, tags, status })
    }
}

fn tags(fields: &mut Fields<'_, '_>) -> Option<Vec<String>> {
    let texts = fields.optional_texts("tags", 0..=TAGS_MAX, 1..=TAG_LEN_MAX)?;
    let mut tags: Vec<String> = texts.into_iter().map(str::to_owned).collect();
    tags.sort_unstable();
    tags.dedup();
    Some(tags)
}

/// What may change. `null` takes a value away.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct AktvatorChanges {
    /// 1 to 200 bytes.
    name: Option<String>,
    /// Set once; a second, other value is refused.
    external_id: Option<String>,
    /// ISO 3166-1 alpha-2.
    #[schema(value_type = Option<String>)]
    country: Patch<String>,
    /// A name rules may ask for.
    #[schema(value_type = Option<String>)]
    group: Patch<String>,
    /// All of them.
    tags: Option<Vec<String>>,
    /// May they earn?
    status: Option<AktvatorStatus>,
}

impl Input for AktvatorChanges {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        Some(Self {
            name: fields::optional_name(fields, "name", NAME_LEN_MAX),
            external_id: fields::optional_name(fields, "externalId", EXTERNAL_ID_LEN_MAX),
            country: fields::patch(fields, "country", |fields| fields::country(fields, "country")),
            group: fields::patch(fields, "group", |fields| {
                fields::optional_name(fields, "group", TAG_LEN_MAX)
            }),
            tags: tags(fields),
            status: fields.optional_choice("status", STATUSES),
        })
    }
}

impl AktvatorChanges {
    fn apply(&self, aktvator: &mut Aktvator) -> Result<(), ApiError> {
        if let Some(external_id) = &self.external_id {
            if aktvator.external_id.as_ref().is_some_and(|own| own != external_id) {
                let message = "The aktvator has another externalId already; it stays for good.";
                return Err(ApiError::conflict("external_id_set", message));
            }
            aktvator.external_id = Some(external_id.clone());
        }
        if let Some(name) = &self.name {
            aktvator.name.clone_from(name);
        }
        self.country.clone().apply(&mut aktvator.country);
        self.group.clone().apply(&mut aktvator.group);
        if let Some(tags) = &self.tags {
            aktvator.tags.clone_from(tags);
        }
        aktvator.status = self.status.unwrap_or(aktvator.status);
        Ok(())
    }
}

async fn list(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let mut filter = |name| -> Option<Filter<String>> { call.query.filter(name) };
    let fields = [
        page::field("status", filter("status")),
        page::field("externalId", filter("externalId")),
        page::field("group", filter("group")),
        page::field("country", filter("country")),
    ];
    let asked = call.query.page_of::<AktvatorId>()?;
    let fields = fields.into_iter().flatten().collect();
    let page: Listing<Aktvator> =
        call.parts.page(Within::Scope(scope), None, fields, asked).await?;
    Reply::json(200, &page)
}

async fn create(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let new: NewAktvator = call.input()?;
    let aktvator = Aktvator {
        id: AktvatorId::new(call.now.as_ms(), call.parts.random.bits()),
        organization_id: scope.organization,
        mode: scope.mode,
        name: new.name,
        external_id: new.external_id,
        country: new.country,
        group: new.group,
        tags: new.tags,
        status: new.status,
        created_at: call.now,
        version: 1,
    };
    let names = external_name(scope, &aktvator);
    match call.parts.create(call.now, &aktvator, names).await {
        Ok(()) => Ok(Reply::json(201, &aktvator)?.version(aktvator.version)),
        Err(CreateError::Taken(_)) => {
            let message = "Another aktvator has this externalId.";
            Err(ApiError::conflict("taken", message))
        }
        Err(error) => Err(error.into_api(Aktvator::NOUN)),
    }
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    let id: AktvatorId = call.id("id", Aktvator::NOUN)?;
    let within = Within::Scope(call.scope()?);
    let aktvator: Aktvator = call.parts.find(within, &id.to_string()).await?;
    Ok(Reply::json(200, &aktvator)?.version(aktvator.version))
}

async fn update(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let id: AktvatorId = call.id("id", Aktvator::NOUN)?;
    let changes: AktvatorChanges = call.input()?;
    let edit = |aktvator: &mut Aktvator| {
        call.if_match(aktvator.version)?;
        changes.apply(aktvator)?;
        Ok(Edit::Store(external_name(scope, aktvator)))
    };
    let stored = call.parts.update(call.now, Within::Scope(scope), &id.to_string(), edit).await?;
    Ok(Reply::json(200, &stored)?.version(stored.version))
}

/// The unique name of an aktvator's `externalId`.
fn external_name(scope: Scope, aktvator: &Aktvator) -> Vec<String> {
    aktvator.external_id.iter().map(|id| format!("external:{scope}:{id}")).collect()
}
