//! The floor: a bare hyper handler that parses the same event body and stores nothing, or with a
//! broker named, hands the body to Kafka and waits until all replicas have it.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::net::TcpListener;

/// Options of `bench floor`.
#[derive(clap::Args)]
pub(crate) struct Floor {
    /// Where to answer; the address is printed once it does.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// A broker, `host:port`; without it nothing is stored.
    #[arg(long, requires = "topic")]
    kafka: Option<String>,
    /// The topic to store in; made if it is missing.
    #[arg(long, requires = "kafka")]
    topic: Option<String>,
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

async fn serve(options: &Floor) -> Result<(), Box<dyn Error>> {
    let store = match (&options.kafka, &options.topic) {
        (Some(brokers), Some(topic)) => Some(Store::open(brokers, topic).await?),
        _ => None,
    };
    let listener = TcpListener::bind(&options.listen).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let store = store.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, store.clone()));
            let connection = hyper::server::conn::http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), answer);
            let _ = connection.await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    store: Option<Store>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_default();
    let status = match (is_event(&body), store) {
        (false, _) => StatusCode::BAD_REQUEST,
        (true, None) => StatusCode::ACCEPTED,
        (true, Some(store)) => store.put(&body).await,
    };
    let text = Bytes::from_static(br#"{"received":true,"eventId":"evt_","status":"queued"}"#);
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    Ok(response)
}

fn is_event(body: &[u8]) -> bool {
    simd_json::serde::from_slice::<Event>(&mut body.to_vec()).is_ok_and(|e| {
        let texts =
            [e.event_type, e.campaign_id, e.idempotency_key, e.attribution_code, e.currency];
        e.amount >= 0 && texts.iter().all(|text| !text.is_empty())
    })
}

/// A topic, and an idempotent producer as Aktvator's is set.
#[derive(Clone)]
struct Store {
    producer: FutureProducer,
    topic: Arc<str>,
}

impl Store {
    async fn open(brokers: &str, topic: &str) -> Result<Self, KafkaError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        let admin: AdminClient<_> = config.create()?;
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        // One that is there already is as good.
        admin.create_topics([&new], &AdminOptions::new()).await?;
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("compression.type", "lz4");
        Ok(Self { producer: config.create()?, topic: topic.into() })
    }

    async fn put(&self, body: &[u8]) -> StatusCode {
        let record = FutureRecord::<(), [u8]>::to(&self.topic).payload(body);
        match self.producer.send(record, Duration::ZERO).await {
            Ok(_) => StatusCode::ACCEPTED,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// As many as Aktvator is measured with.
const PARTITIONS: i32 = 4;
