//! A small client of the public API, for `quickstart`.

use serde_json::Value;
use ureq::Agent;

/// The API at one address, as one caller.
pub(crate) struct Api {
    agent: Agent,
    url: String,
    authorization: String,
}

impl Api {
    /// Calls `url` with `token` as its bearer.
    pub(crate) fn new(url: &str, token: &str) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).build();
        Self {
            agent: config.into(),
            url: url.trim_end_matches('/').to_owned(),
            authorization: format!("Bearer {token}"),
        }
    }

    /// `POST path` with a JSON body.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.send(ureq::http::Method::POST, path, body)
    }

    /// `PUT path` with a JSON body.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.send(ureq::http::Method::PUT, path, body)
    }

    /// `PATCH path` with a JSON body.
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.send(ureq::http::Method::PATCH, path, body)
    }

    /// Submits the form behind `url`, an absolute address, as a browser would.
    pub(crate) fn submit(&self, url: &str) -> Result<(), String> {
        let answer = self.agent.post(url).send_form([("pay", "yes")]);
        let answer = answer.map_err(|e| format!("POST {url}: {e}"))?;
        if !answer.status().is_success() {
            return Err(format!("POST {url}: the server answered {}", answer.status()));
        }
        Ok(())
    }

    fn send(&self, method: ureq::http::Method, path: &str, body: &Value) -> Result<Value, String> {
        let request = ureq::http::Request::builder()
            .method(method.clone())
            .uri(format!("{}{path}", self.url))
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .body(body.to_string())
            .map_err(|e| format!("{method} {path}: {e}"))?;
        let mut answer = self.agent.run(request).map_err(|e| {
            format!("{method} {}{path}: {e}; is `aktvator serve` running there?", self.url)
        })?;
        let text =
            answer.body_mut().read_to_string().map_err(|e| format!("{method} {path}: {e}"))?;
        if !answer.status().is_success() {
            return Err(format!(
                "{method} {path}: the server answered {}: {text}",
                answer.status()
            ));
        }
        serde_json::from_str(&text).map_err(|e| format!("{method} {path}: {e} in {text}"))
    }
}
