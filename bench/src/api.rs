//! Sets a campaign up through the public API.

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::{Method, Request};

/// The API at one address, as one caller.
pub(crate) struct Api {
    agent: Agent,
    url: String,
    authorization: String,
}

impl Api {
    /// Calls `http://address` with `token` as its bearer.
    pub(crate) fn new(address: &str, token: &str) -> Self {
        Self {
            agent: Agent::config_builder().http_status_as_error(false).build().into(),
            url: format!("http://{address}"),
            authorization: format!("Bearer {token}"),
        }
    }

    /// Sends `body` and reads the JSON of a 2xx.
    pub(crate) fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value, String> {
        let what = format!("{method} {path}");
        let builder = Request::builder()
            .method(method.clone())
            .uri(format!("{}{path}", self.url))
            .header("authorization", &self.authorization);
        let answer = if method == Method::GET {
            self.agent.run(builder.body(()).map_err(|e| format!("{what}: {e}"))?)
        } else {
            let builder = builder.header("content-type", "application/json");
            self.agent.run(builder.body(body.to_string()).map_err(|e| format!("{what}: {e}"))?)
        };
        let mut answer = answer.map_err(|e| format!("{what}: {e}"))?;
        let text = answer.body_mut().read_to_string().map_err(|e| format!("{what}: {e}"))?;
        if !answer.status().is_success() {
            return Err(format!("{what}: {}: {text}", answer.status()));
        }
        serde_json::from_str(&text).map_err(|e| format!("{what}: {e} in {text}"))
    }

    /// `GET path`.
    pub(crate) fn get(&self, path: &str) -> Result<Value, String> {
        self.call(Method::GET, path, &Value::Null)
    }

    /// `POST path`.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.call(Method::POST, path, body)
    }

    fn submit(&self, url: &str) -> Result<(), String> {
        let answer = self.agent.post(url).send_form([("pay", "yes")]);
        let answer = answer.map_err(|e| format!("POST {url}: {e}"))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(format!("POST {url}: {}", answer.status()))
        }
    }
}

/// What a scenario needs of its organization.
pub(crate) struct Organization {
    /// `org_...`
    pub(crate) id: String,
    /// A live key with every scope.
    pub(crate) key: String,
    /// The API as that key.
    pub(crate) api: Api,
}

/// A new organization without binding rate limits, its wallet holding `funds` cents.
pub(crate) fn organization(
    address: &str,
    operator_token: &str,
    funds: i64,
) -> Result<Organization, String> {
    let operator = Api::new(address, operator_token);
    let made = operator.post("/organizations", &json!({"name": "Bench"}))?;
    let id = text(&made, "id")?;
    let wide = 10_000_000;
    let limits = json!({
        "ingestPerSecond": wide, "ingestBurst": wide,
        "requestsPerSecond": wide, "requestsBurst": wide,
    });
    operator.call(Method::PUT, &format!("/organizations/{id}/limits"), &limits)?;
    let keys = format!("/organizations/{id}/api-keys");
    let made = operator.post(&keys, &json!({"name": "Bench", "mode": "live", "scopes": ["*"]}))?;
    let key = text(&made, "token")?;
    let api = Api::new(address, &key);
    let top_up = api.post(
        &format!("/organizations/{id}/wallet/topup"),
        &json!({"amount": funds, "currency": "USD"}),
    )?;
    api.submit(&text(&top_up, "paymentUrl")?)?;
    Ok(Organization { id, key, api })
}

/// An active campaign with one published gig for `customer.purchase` and `rulebook`.
pub(crate) fn campaign(api: &Api, rulebook: &Value) -> Result<String, String> {
    let campaign = text(&api.post("/campaigns", &json!({"name": "Bench"}))?, "id")?;
    let gig = json!({
        "campaignId": campaign, "title": "Purchase", "actionType": "customer.purchase",
    });
    let gig = text(&api.post("/gigs", &gig)?, "id")?;
    api.call(Method::PATCH, &format!("/gigs/{gig}/status/published"), &json!({}))?;
    api.call(Method::PUT, &format!("/campaigns/{campaign}/reward-rules"), rulebook)?;
    api.call(Method::PATCH, &format!("/campaigns/{campaign}/status/active"), &json!({}))?;
    Ok(campaign)
}

/// An aktvator with a link of the campaign: its id and its code.
pub(crate) fn aktvator(api: &Api, campaign: &str, name: &str) -> Result<(String, String), String> {
    let aktvator = text(&api.post("/aktvators", &json!({"name": name}))?, "id")?;
    let link = json!({
        "campaignId": campaign, "aktvatorId": aktvator, "targetUrl": "https://example.com/",
    });
    let code = text(&api.post("/attribution/links", &link)?, "code")?;
    Ok((aktvator, code))
}

/// Member `name` of `value`, which must be a string.
pub(crate) fn text(value: &Value, name: &str) -> Result<String, String> {
    value[name].as_str().map(str::to_owned).ok_or_else(|| format!("no `{name}` in {value}"))
}
