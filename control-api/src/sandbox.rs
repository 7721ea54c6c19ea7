//! The embedded payment provider: a page with a button that credits the wallet. On loopback only.

use engine::decision::CommandCode;
use http::{HeaderValue, Method, header};
use schemas::entity::{TopUp, TopUpStatus};
use schemas::fault::ApiError;
use schemas::id::TopUpId;
use schemas::partition::Scope;
use schemas::proto::{self, record::Body};

use crate::call::{Call, Reply};
use crate::error;
use crate::route::{Access, Answer, Replay, Route, parameter};
use crate::stored::{Edit, Stored as _, Within, decode};
use crate::wallet::{credited, expires_at};

const HTML: &str = "text/html; charset=utf-8";
const PAID: &str = "<p>Paid. The wallet is credited.</p>";
const TO_PAY: &str = "<form method=\"post\"><button type=\"submit\">Pay</button></form>\
    <p>This is a sandbox: no money moves.</p>";

/// The operations.
pub(crate) fn routes() -> Vec<Route> {
    const PAGE: &str = "/sandbox/payments/{topupId}";
    let token = [parameter("token", "As it stands in the payment URL.")];
    vec![
        Route::new(Method::GET, PAGE, "showSandboxPayment", Access::Open, show)
            .summary("The sandbox's payment page.")
            .query(&token)
            .gives_content(HTML),
        Route::new(Method::POST, PAGE, "paySandboxPayment", Access::Open, pay)
            .summary("Press the button of the payment page: credits the wallet, once.")
            .query(&token)
            .replay(Replay::Ignored)
            .gives_content(HTML)
            .also_answers(202, "Paid; the wallet is credited in a moment."),
    ]
}

async fn show(mut call: Call) -> Answer {
    let top_up = asked(&mut call).await?;
    let text = if is_credited(&call, &top_up).await? { PAID } else { TO_PAY };
    Ok(page(200, &top_up, text))
}

async fn pay(mut call: Call) -> Answer {
    let top_up = asked(&mut call).await?;
    let scope = top_up.scope().ok_or_else(ApiError::internal)?;
    if is_credited(&call, &top_up).await? {
        mark_credited(&call, scope, &top_up).await?;
        return Ok(page(200, &top_up, PAID));
    }
    if expires_at(&top_up) <= call.now {
        return Err(ApiError::conflict("topup_expired", "This top-up can no longer be paid."));
    }
    match credit(&call, scope, &top_up).await? {
        None => {
            let text = "<p>Payment received. The wallet is credited in a moment.</p>";
            Ok(page(202, &top_up, text))
        }
        Some(decision) if decision.code == CommandCode::Applied.as_str() => {
            mark_credited(&call, scope, &top_up).await?;
            Ok(page(200, &top_up, PAID))
        }
        Some(decision) => {
            let message = format!("The wallet refused the credit: {}.", decision.code);
            Err(ApiError::conflict("credit_refused", message))
        }
    }
}

/// Is the top-up in the wallet?
async fn is_credited(call: &Call, top_up: &TopUp) -> Result<bool, ApiError> {
    let scope = top_up.scope().ok_or_else(ApiError::internal)?;
    let credited = credited(&call.parts, scope, std::slice::from_ref(top_up)).await?;
    Ok(credited.first().is_some_and(|is_credited| *is_credited))
}

/// The top-up in the path, for who has its token. A wrong token reads as a missing top-up.
async fn asked(call: &mut Call) -> Result<TopUp, ApiError> {
    let missing = || ApiError::not_found(TopUp::NOUN);
    call.query.finish()?;
    let id: TopUpId = call.id("topupId", TopUp::NOUN)?;
    let wanted = call.parts.payment_token(id).await?;
    let given = call.query.text("token").unwrap_or_default();
    if !same(wanted.as_bytes(), given.as_bytes()) {
        return Err(missing());
    }
    let found = call.parts.catalog.get(TopUp::KIND, &id.to_string()).await;
    decode(&found.map_err(|e| error::storage(&e))?.ok_or_else(missing)?)
}

/// Are they the same? Takes as long wherever they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Appends the credit and waits for the fold's decision; `None` where it takes longer. Its id is
/// the top-up's, so a repeat changes nothing.
async fn credit(
    call: &Call,
    scope: Scope,
    top_up: &TopUp,
) -> Result<Option<proto::CommandRow>, ApiError> {
    let body = Body::WalletCredit(proto::WalletCredit {
        command_id: top_up.id.to_proto(),
        amount: top_up.money.amount,
        currency: top_up.money.currency.to_string(),
        provider: "sandbox".to_owned(),
        provider_ref: top_up.id.to_string(),
    });
    call.parts.decide(scope, call.now, top_up.id.to_u128(), body).await
}

async fn mark_credited(call: &Call, scope: Scope, top_up: &TopUp) -> Result<(), ApiError> {
    let edit = |top_up: &mut TopUp| {
        if top_up.status == TopUpStatus::Credited {
            return Ok(Edit::Keep);
        }
        top_up.status = TopUpStatus::Credited;
        Ok(Edit::Store(Vec::new()))
    };
    let id = top_up.id.to_string();
    call.parts.update(call.now, Within::Scope(scope), &id, edit).await.map(drop)
}

/// What is shown holds ids, numbers and our own words: nothing a client wrote.
fn page(status: u16, top_up: &TopUp, body: &str) -> Reply {
    let TopUp { id, money, .. } = top_up;
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Top-up {id}</title>\
         <h1>Top-up</h1><p>{money}</p>{body}</html>"
    );
    let mut reply = Reply::bytes(status, HTML, html.into());
    reply.headers.push((
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_compare_whole() {
        assert!(same(b"abc", b"abc"));
        for other in ["", "ab", "abd", "xbc", "abcd"] {
            assert!(!same(b"abc", other.as_bytes()), "{other}");
        }
    }
}
