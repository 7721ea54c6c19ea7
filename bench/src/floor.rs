//! The floor: a bare hyper handler that parses the same event body and stores nothing.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Options of `bench floor`.
#[derive(clap::Args)]
pub(crate) struct Floor {
    /// Where to answer; the address is printed once it does.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
}

/// The fields of an event that a handler would look at.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    event_type: String,
    campaign_id: String,
    idempotency_key: String,
    attribution_code: String,
    amount: i64,
    currency: String,
}

/// Answers until the process is ended.
pub(crate) fn run(options: &Floor) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    runtime.block_on(serve(options)).map_err(|e| e.to_string())
}

async fn serve(options: &Floor) -> std::io::Result<()> {
    let listener = TcpListener::bind(&options.listen).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            let _ = connection.await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let mut body = body.map(Vec::from).unwrap_or_default();
    let parsed = simd_json::serde::from_slice::<Event>(&mut body);
    let ok = parsed.is_ok_and(|e| {
        e.amount >= 0
            && ![
                &e.event_type,
                &e.campaign_id,
                &e.idempotency_key,
                &e.attribution_code,
                &e.currency,
            ]
            .iter()
            .any(|field| field.is_empty())
    });
    let text = Bytes::from_static(br#"{"received":true,"eventId":"evt_","status":"queued"}"#);
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = hyper::StatusCode::from_u16(if ok { 202 } else { 400 })
        .unwrap_or(hyper::StatusCode::BAD_REQUEST);
    Ok(response)
}
