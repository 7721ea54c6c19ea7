//! `aktvator quickstart`: sets up an organization that is ready for its first event, through the
//! public API alone, and prints what to paste.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::api::Api;
use crate::operator;

/// Options of `aktvator quickstart`.
#[derive(clap::Args, Debug)]
pub(crate) struct Quickstart {
    /// Where the server answers.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The server's data directory, for its operator token.
    #[arg(long, default_value = "./aktvator-data", conflicts_with = "token")]
    data_dir: PathBuf,
    /// The operator token itself.
    #[arg(long)]
    token: Option<String>,
    /// Where the webhook endpoint sends to; `aktvator listen` answers at the default.
    #[arg(long, default_value = "http://127.0.0.1:9700/webhooks")]
    webhook_url: String,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people, with lines to paste.
    Text,
    /// The names alone.
    Json,
}

/// What was set up.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct SetUp {
    organization_id: String,
    api_key: String,
    campaign_id: String,
    gig_id: String,
    aktvator_id: String,
    code: String,
    link_id: String,
    short_url: String,
    webhook_endpoint_id: String,
    webhook_secret: String,
}

/// Sets up and prints.
///
/// # Errors
/// What was being done, and what the server answered.
pub(crate) fn run(options: &Quickstart) -> Result<(), String> {
    let token = match &options.token {
        Some(token) => token.clone(),
        None => operator::read(&operator::path(&options.data_dir)).map_err(|e| {
            format!(
                "{e}; start `aktvator serve` first, or say where it runs: --data-dir or --token"
            )
        })?,
    };
    let set_up = set_up(&options.url, &token, &options.webhook_url)?;
    match options.format {
        Format::Json => println!("{}", serde_json::to_string(&set_up).map_err(|e| e.to_string())?),
        Format::Text => print!("{}", text(&options.url, &set_up)),
    }
    Ok(())
}

fn set_up(url: &str, operator_token: &str, webhook_url: &str) -> Result<SetUp, String> {
    let operator = Api::new(url, operator_token);
    let organization = operator.post("/organizations", &json!({"name": "Quickstart"}))?;
    let organization_id = string(&organization, "id")?;
    let keys = format!("/organizations/{organization_id}/api-keys");
    let key =
        operator.post(&keys, &json!({"name": "Quickstart", "mode": "live", "scopes": ["*"]}))?;
    let api_key = string(&key, "token")?;

    let api = Api::new(url, &api_key);
    fund(&api, &organization_id)?;
    let (campaign_id, gig_id) = campaign(&api)?;
    let aktvator = api.post("/aktvators", &json!({"name": "First aktvator", "country": "US"}))?;
    let aktvator_id = string(&aktvator, "id")?;
    let link = api.post(
        "/attribution/links",
        &json!({
            "campaignId": campaign_id,
            "aktvatorId": aktvator_id,
            "targetUrl": "https://example.com/signup",
        }),
    )?;
    let endpoint = api.post(
        &format!("/organizations/{organization_id}/webhook-endpoints"),
        &json!({"name": "Quickstart", "targetUrl": webhook_url, "subscribedEvents": ["*"]}),
    )?;
    Ok(SetUp {
        code: string(&link, "code")?,
        link_id: string(&link, "id")?,
        short_url: string(&link, "shortUrl")?,
        webhook_endpoint_id: string(&endpoint, "id")?,
        webhook_secret: string(&endpoint, "secret")?,
        organization_id,
        api_key,
        campaign_id,
        gig_id,
        aktvator_id,
    })
}

/// Tops the wallet up with 10,000.00 by pressing the sandbox's button.
fn fund(api: &Api, organization_id: &str) -> Result<(), String> {
    let top_up = api.post(
        &format!("/organizations/{organization_id}/wallet/topup"),
        &json!({"amount": 1_000_000, "currency": "USD"}),
    )?;
    api.submit(&string(&top_up, "paymentUrl")?)
}

/// An active campaign with a published gig: a fifth of each purchase, at most 500.00 a month for
/// one aktvator.
fn campaign(api: &Api) -> Result<(String, String), String> {
    let campaign = api.post("/campaigns", &json!({"name": "Quickstart"}))?;
    let campaign_id = string(&campaign, "id")?;
    let gig = api.post(
        "/gigs",
        &json!({
            "campaignId": campaign_id,
            "title": "Buy something",
            "actionType": "customer.purchase",
        }),
    )?;
    let gig_id = string(&gig, "id")?;
    api.patch(&format!("/gigs/{gig_id}/status/published"), &json!({}))?;
    api.put(&format!("/campaigns/{campaign_id}/reward-rules"), &rulebook())?;
    api.patch(&format!("/campaigns/{campaign_id}/status/active"), &json!({}))?;
    Ok((campaign_id, gig_id))
}

fn rulebook() -> Value {
    json!({
        "currency": "USD",
        "timezone": "UTC",
        "rules": [{
            "key": "purchase",
            "name": "A fifth of each purchase",
            "priority": 10,
            "on": {"eventTypes": ["customer.purchase"]},
            "eligibility": {"all": [{"field": "aktvator.status", "op": "eq", "value": "approved"}]},
            "reward": {"type": "percent", "bps": 2000, "of": "event.amount"},
            "caps": [{
                "key": "per_aktvator_month", "scope": "aktvator", "metric": "amount",
                "limit": 50_000, "period": "month", "onExceed": "clip",
            }],
        }],
    })
}

fn text(url: &str, s: &SetUp) -> String {
    let SetUp { organization_id, api_key, campaign_id, code, short_url, .. } = s;
    format!(
        r#"Organization {organization_id} is ready: a funded wallet, an active campaign that pays a fifth
of each purchase, and an aktvator with the code {code} and the link {short_url}.
The webhook secret is {secret}

# a purchase with the code; waits up to two seconds for its decision
curl -sw '\n' '{url}/events/ingest?wait=2000' \
  -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' \
  -d '{{"eventType":"customer.purchase","campaignId":"{campaign_id}","attributionCode":"{code}","idempotencyKey":"order_1","amount":4900,"currency":"USD"}}'

# the aktvator's link: redirects with a signed click id, and counts a click
curl -so /dev/null -w '%{{http_code}} to %{{redirect_url}}\n' {short_url}

# what became of it; figures follow within a second
sleep 1
curl -sw '\n' '{url}/rewards' -H 'Authorization: Bearer {api_key}'
curl -sw '\n' '{url}/organizations/{organization_id}/wallet' -H 'Authorization: Bearer {api_key}'
curl -sw '\n' '{url}/campaigns/{campaign_id}/performance' -H 'Authorization: Bearer {api_key}'
curl -sw '\n' '{url}/organizations/{organization_id}/webhook-endpoints/{endpoint}/deliveries' \
  -H 'Authorization: Bearer {api_key}'
"#,
        secret = s.webhook_secret,
        endpoint = s.webhook_endpoint_id,
    )
}

fn string(value: &Value, name: &str) -> Result<String, String> {
    value[name]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("the answer has no `{name}`: {value}"))
}
