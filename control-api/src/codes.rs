//! `/attribution/codes`: codes that customers type, with a link or without.

use http::Method;
use schemas::entity::{Aktvator, Campaign, Code, Link};
use schemas::fault::ApiError;
use schemas::id::{AktvatorId, CampaignId, OrganizationId};
use schemas::input::Fields;
use schemas::partition::Mode;
use storage::catalog::Kind;
use utoipa::ToSchema;

use crate::Config;
use crate::ControlParts;
use crate::call::{Call, Input, Reply};
use crate::error;
use crate::page::{self, Listing, PAGE};
use crate::query::Filter;
use crate::route::{Access, Answer, Route, parameter};
use crate::stored::{CreateError, Edit, Stored as _, Within, decode};

/// Characters of a generated code.
const GENERATED_LEN: usize = 8;
/// How many generated codes are tried before giving up: each is one of 31^8.
pub(crate) const GENERATE_TRIES_MAX: usize = 8;
/// Letters and digits that cannot be taken for one another: no 0, O, 1, I, L.
const ALPHABET: &[u8; 31] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const LIST: &str = "/attribution/codes";
    const ONE: &str = "/attribution/codes/{code}";
    let (read, write) = (Access::Key("links:read"), Access::Key("links:write"));
    vec![
        Route::new(Method::GET, LIST, "listCodes", read, list)
            .summary("List codes that have no link; those of links are listed with them.")
            .query(PAGE)
            .query(&[
                parameter("campaignId", "Only those of this campaign."),
                parameter("aktvatorId", "Only those of this aktvator."),
                parameter("archived", "true or false."),
            ])
            .gives_page::<Code>(),
        Route::new(Method::POST, LIST, "createCode", write, create)
            .summary("Create a code for an aktvator.")
            .takes::<NewCode>()
            .gives::<Code>(201),
        Route::new(Method::GET, ONE, "getCode", read, get)
            .summary("Fetch a single code, also one of a link.")
            .gives::<Code>(200),
        Route::new(Method::DELETE, ONE, "archiveCode", write, archive)
            .summary("Archive a code. It still attributes, and is never given out again.")
            .gives::<Code>(200),
    ]
}

/// A new code.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
struct NewCode {
    /// Its campaign.
    campaign_id: CampaignId,
    /// Who earns by it.
    aktvator_id: AktvatorId,
    /// 3 to 32 letters and digits, unique everywhere, in either case; generated when absent.
    code: Option<String>,
}

impl Input for NewCode {
    fn read(fields: &mut Fields<'_, '_>, _: &Config) -> Option<Self> {
        let campaign_id = fields.parsed("campaignId");
        let aktvator_id = fields.parsed("aktvatorId");
        let code = custom(fields);
        fields.unsupported("maxUses");
        fields.unsupported("expiresAt");
        Some(Self { campaign_id: campaign_id?, aktvator_id: aktvator_id?, code })
    }
}

/// A code the caller chose, upper case.
pub(crate) fn custom(fields: &mut Fields<'_, '_>) -> Option<String> {
    let text = fields.optional_text("code", 0..=64)?;
    if (3..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Some(text.to_ascii_uppercase());
    }
    fields.fault("code", "invalid_format", "must be 3 to 32 letters and digits");
    None
}

/// A new code of [`GENERATED_LEN`] characters. The alphabet's 31 do not divide 256, so bytes past
/// the last whole 31 are passed over.
pub(crate) fn generate(random: &crate::Random) -> String {
    let mut code = String::with_capacity(GENERATED_LEN);
    while code.len() < GENERATED_LEN {
        let letters = random.bytes().into_iter().filter(|byte| *byte < 248);
        let letters = letters.map(|byte| char::from(ALPHABET[usize::from(byte % 31)]));
        code.extend(letters.take(GENERATED_LEN - code.len()));
    }
    code
}

/// The unique name of a code.
pub(crate) fn unique(code: &str) -> String {
    format!("code:{code}")
}

/// 409 for a code that somebody has.
pub(crate) fn taken() -> ApiError {
    ApiError::conflict("code_taken", "This code is taken.")
}

impl ControlParts {
    /// Checks that campaign and aktvator are there.
    ///
    /// # Errors
    /// 404 that names the one that is not.
    pub(crate) async fn check_owner(
        &self,
        within: Within,
        campaign: CampaignId,
        aktvator: AktvatorId,
    ) -> Result<(), ApiError> {
        let _: Campaign = self.find(within, &campaign.to_string()).await?;
        let _: Aktvator = self.find(within, &aktvator.to_string()).await?;
        Ok(())
    }
}

async fn list(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let campaign: Option<Filter<CampaignId>> = call.query.filter("campaignId");
    let aktvator: Option<Filter<AktvatorId>> = call.query.filter("aktvatorId");
    let archived: Option<Filter<bool>> = call.query.filter("archived");
    let asked = call.query.page_of::<String>()?;
    let fields = [
        page::field("campaignId", campaign),
        page::field("aktvatorId", aktvator),
        page::field("archived", archived),
    ];
    let fields = fields.into_iter().flatten().collect();
    let page: Listing<Code> = call.parts.page(Within::Scope(scope), None, fields, asked).await?;
    Reply::json(200, &page)
}

async fn create(mut call: Call) -> Answer {
    let scope = call.scope()?;
    let NewCode { campaign_id, aktvator_id, code } = call.input()?;
    call.parts.check_owner(Within::Scope(scope), campaign_id, aktvator_id).await?;
    for _ in 0..GENERATE_TRIES_MAX {
        let text = code.clone().unwrap_or_else(|| generate(&call.parts.random));
        let new = Code {
            code: text,
            organization_id: scope.organization,
            mode: scope.mode,
            campaign_id,
            aktvator_id,
            link_id: None,
            archived: false,
            created_at: call.now,
            version: 1,
        };
        match call.parts.create(call.now, &new, vec![unique(&new.code)]).await {
            Ok(()) => return Reply::json(201, &new),
            Err(CreateError::Api(error)) => return Err(error),
            Err(CreateError::Taken(_) | CreateError::Exists) if code.is_some() => {
                return Err(taken());
            }
            Err(CreateError::Taken(_) | CreateError::Exists) => {}
        }
    }
    Err(ApiError::unavailable("No free code was found. Send the request again."))
}

async fn get(mut call: Call) -> Answer {
    call.query.finish()?;
    Reply::json(200, &own(&call).await?)
}

async fn archive(mut call: Call) -> Answer {
    call.query.finish()?;
    let code = own(&call).await?;
    if code.link_id.is_some() {
        let message = "This code belongs to a link; archive the link.";
        return Err(ApiError::conflict("code_of_link", message));
    }
    let edit = |code: &mut Code| {
        if code.archived {
            return Ok(Edit::Keep);
        }
        code.archived = true;
        Ok(Edit::Store(Vec::new()))
    };
    let within = Within::Scope(call.scope()?);
    Reply::json(200, &call.parts.update(call.now, within, &code.code, edit).await?)
}

/// The code in the path, whichever document has it.
async fn own(call: &Call) -> Result<Code, ApiError> {
    let scope = call.scope()?;
    let missing = || ApiError::not_found(Code::NOUN);
    let name = unique(&call.param("code").to_ascii_uppercase());
    let found = call.parts.catalog.named(&name).await.map_err(|e| error::storage(&e))?;
    let document = found.ok_or_else(missing)?;
    let owner: (Option<OrganizationId>, Option<Mode>) = (document.organization, document.mode);
    if owner != (Some(scope.organization), Some(scope.mode)) {
        return Err(missing());
    }
    match document.kind {
        Kind::Code => decode(&document),
        Kind::Link => decode::<Link>(&document).map(of_link),
        _ => Err(missing()),
    }
}

/// The code of a link.
fn of_link(link: Link) -> Code {
    Code {
        code: link.code,
        organization_id: link.organization_id,
        mode: link.mode,
        campaign_id: link.campaign_id,
        aktvator_id: link.aktvator_id,
        link_id: Some(link.id),
        archived: link.archived,
        created_at: link.created_at,
        version: link.version,
    }
}
