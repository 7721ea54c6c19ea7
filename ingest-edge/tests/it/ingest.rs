//! `POST /events/ingest` and `/events/ingest/batch`.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{Empty, Full, StreamBody};
use hyper::body::Frame;
use ingest_edge::Edge;
use schemas::hash;
use serde_json::json;
use storage::Kind;
use storage::fault::{Action, Op, Step};

use crate::world::{Answer, EVENT, NOW, World, scope};

#[tokio::test]
async fn an_event_is_answered_once_it_is_on_the_log() {
    let world = World::new().await;
    for uri in ["/events/ingest", "/v1/events/ingest"] {
        let answer = world.send(uri, EVENT).await;
        let id = hash::event_id(scope(), "k1");
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.code(), "");
        assert_eq!(
            answer.body,
            format!(r#"{{"received":true,"eventId":"{id}","status":"queued"}}"#)
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    let stored = world.conversions().await;
    assert_eq!(stored.len(), 2, "the repeat is the evaluator's to judge");
    assert_eq!(stored[0], stored[1]);
    assert_eq!(stored[0].idempotency_key, "k1");
}

#[tokio::test]
async fn every_answer_tells_the_rate() {
    let world = World::new().await;
    let left = |answer: &Answer| {
        assert!(
            answer.header("ratelimit").is_some() && answer.header("ratelimit-policy").is_some()
        );
        assert_eq!(answer.header("x-ratelimit-limit"), Some("2000"));
        answer.header("x-ratelimit-remaining").and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let array = format!("[{EVENT},{EVENT},null]");
    let sent: [(&str, &str, u16, u32); 6] = [
        ("/events/ingest", EVENT, 202, 1_999),
        ("/events/ingest", "{}", 400, 1_998),
        ("/events/ingest?wait=x", EVENT, 400, 1_997),
        ("/events/ingest/batch", &array, 207, 1_994),
        ("/events/ingest/batch", "[", 400, 1_993),
        ("/events/ingest/batch", "[]", 400, 1_992),
    ];
    for (uri, body, status, remaining) in sent {
        let answer = world.send(uri, body.to_owned()).await;
        assert_eq!((answer.status, left(&answer)), (status, remaining), "{uri} {body}");
    }
}

#[tokio::test]
async fn too_many_events_wait() {
    let world = World::new().await;
    let batch = format!("[{}{EVENT}]", format!("{EVENT},").repeat(999));
    for _ in 0..2 {
        assert_eq!(world.send("/events/ingest/batch", batch.clone()).await.status, 202);
    }
    for (uri, body) in
        [("/events/ingest", EVENT), ("/events/ingest", "{}"), ("/events/ingest?x", "")]
    {
        let answer = world.send(uri, body).await;
        assert_eq!((answer.status, answer.code()), (429, "rate_limited".to_owned()), "{body}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"));
    }
    assert_eq!(world.conversions().await.len(), 2_000);
    world.clock.advance(1_000);
    assert_eq!(world.send("/events/ingest", EVENT).await.status, 202);
}

#[tokio::test]
async fn who_may_not() {
    let world = World::new().await;
    let bearer = |token: &str| format!("Bearer {token}");
    let unknown = access::Token::generate(schemas::partition::Mode::Live, [9; 32]);
    let cases = [
        (None, 401, "unauthorized"),
        (Some("Basic eA==".to_owned()), 401, "unauthorized"),
        (Some("Bearer ak_live_x".to_owned()), 401, "unauthorized"),
        (Some(bearer(&unknown)), 401, "unauthorized"),
        (Some(bearer(&world.reader)), 403, "insufficient_scope"),
        (Some(bearer(&world.operator)), 403, "organization_key_required"),
    ];
    for (authorization, status, code) in cases {
        let mut request = Request::post("/events/ingest");
        if let Some(authorization) = &authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(Full::new(Bytes::from_static(EVENT.as_bytes()))).expect("ok");
        let answer = Answer::of(world.edge.handle(request).await).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{authorization:?}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
        assert_eq!(answer.header("x-ratelimit-limit").is_some(), status == 403);
    }
    assert!(world.conversions().await.is_empty());
}

#[tokio::test]
async fn what_is_no_ingest_request() {
    let world = World::new().await;
    let get = Request::get("/events/ingest").body(Empty::<Bytes>::new()).expect("ok");
    assert!(Edge::takes(&get));
    let answer = Answer::of(world.edge.handle(get).await).await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(answer.header("allow"), Some("POST"));

    let other = Request::post("/events").body(Empty::<Bytes>::new()).expect("ok");
    assert!(!Edge::takes(&other));
    assert_eq!(Answer::of(world.edge.handle(other).await).await.status, 404);

    let cases: [(&str, &str, &str, u16, &str); 6] = [
        ("/events/ingest", "content-type", "text/plain", 415, "unsupported_media_type"),
        ("/events/ingest", "content-type", "application/x-ndjson", 415, "unsupported_media_type"),
        ("/events/ingest", "content-encoding", "gzip", 415, "unsupported_media_type"),
        ("/events/ingest", "content-length", "65537", 413, "payload_too_large"),
        ("/events/ingest/batch", "content-length", "1048577", 413, "payload_too_large"),
        ("/events/ingest?dryRun=true", "accept", "*/*", 400, "validation_failed"),
    ];
    for (uri, name, value, status, code) in cases {
        let mut request =
            world.post(uri).body(Full::new(Bytes::from_static(EVENT.as_bytes()))).expect("ok");
        request.headers_mut().insert(name, value.parse().expect("ok"));
        let answer = Answer::of(world.edge.handle(request).await).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{uri} {name}: {value}"
        );
    }
    assert!(world.conversions().await.is_empty());
}

#[tokio::test]
async fn all_faults_of_an_event_at_once() {
    let world = World::new().await;
    let answer = world.send("/events/ingest", r#"{"amount":1.5,"x":1,"eventType":7}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "validation_failed"));
    let json = answer.json();
    let mut faults: Vec<_> = json["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|fault| (fault["path"].as_str().expect("path"), fault["code"].as_str().expect("code")))
        .collect();
    faults.sort_unstable();
    let want = [
        ("/amount", "wrong_type"),
        ("/campaignId", "required"),
        ("/eventType", "wrong_type"),
        ("/idempotencyKey", "required"),
        ("/x", "unknown_field"),
    ];
    assert_eq!(faults, want);
    assert!(world.conversions().await.is_empty());
}

#[tokio::test]
async fn a_batch_is_taken_item_by_item() {
    let world = World::new().await;
    let second = EVENT.replace("k1", "k\\\"2");
    let broken = EVENT.replace("ABC123\"", "ABC123\",\"amount\":\"x\"");
    let id = |key: &str| hash::event_id(scope(), key).to_string();
    let stored = |index: usize, key: &str| json!({"index": index, "idempotencyKey": key, "eventId": id(key), "status": "queued"});
    let fault =
        json!({"path": "/amount", "code": "wrong_type", "message": "must be a whole number"});
    let rejected =
        json!({"index": 1, "idempotencyKey": "k1", "status": "rejected", "errors": [fault]});

    let all = world.send("/events/ingest/batch", format!("[{EVENT},{second}]")).await;
    assert_eq!((all.status, all.code().as_str()), (202, ""));
    assert_eq!(all.json(), json!({"results": [stored(0, "k1"), stored(1, "k\"2")]}));

    for body in [format!("[{EVENT},{broken},{second}]"), format!("{EVENT}\n{broken}\r\n\n{second}")]
    {
        let mixed = world.send("/events/ingest/batch", body).await;
        assert_eq!(mixed.status, 207);
        assert_eq!(
            mixed.json(),
            json!({"results": [stored(0, "k1"), rejected, stored(2, "k\"2")]})
        );
    }

    let none = world.send("/events/ingest/batch", format!("[null,{broken}]")).await;
    assert_eq!((none.status, none.code().as_str()), (400, "validation_failed"));
    assert_eq!(none.json()["results"][1], rejected);
    assert_eq!(none.json()["results"][0]["errors"][0]["code"], "wrong_type");

    assert_eq!(world.conversions().await.len(), 6);
    assert_eq!(world.faults.reached(Op::Append, Step::Before), 3, "one append per request");
}

#[tokio::test]
async fn a_body_may_come_in_pieces() {
    let world = World::new().await;
    for at in 0..=EVENT.len() {
        let (head, tail) = EVENT.split_at(at);
        let frames = [head, tail].map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let request = world.post("/events/ingest").body(body).expect("ok");
        let answer = Answer::of(world.edge.handle(request).await).await;
        assert_eq!(answer.status, 202, "split at {at}");
    }
    let stored = world.conversions().await;
    assert!(stored.iter().all(|event| *event == stored[0]));
}

#[tokio::test]
async fn a_stream_that_grows_too_long_is_refused() {
    let world = World::new().await;
    let piece = Bytes::from(vec![b' '; 1024]);
    for (uri, pieces) in [("/events/ingest", 65), ("/events/ingest/batch", 1_025)] {
        let frames = (0..pieces).map(|_| Ok::<_, Infallible>(Frame::data(piece.clone())));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let answer =
            Answer::of(world.edge.handle(world.post(uri).body(body).expect("ok")).await).await;
        assert_eq!((answer.status, answer.code().as_str()), (413, "payload_too_large"), "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_or_never_comes() {
    let world = World::new().await;
    let half = || Ok(Frame::data(Bytes::from_static(&EVENT.as_bytes()[..9])));
    let broken = [half(), Err(std::io::Error::other("reset"))];
    let broken = StreamBody::new(futures_util::stream::iter(broken));
    let answer =
        Answer::of(world.edge.handle(world.post("/events/ingest").body(broken).expect("ok")).await)
            .await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "incomplete_body"));

    let never =
        StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let started = tokio::time::Instant::now();
    let answer =
        Answer::of(world.edge.handle(world.post("/events/ingest").body(never).expect("ok")).await)
            .await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    assert_eq!(started.elapsed(), Duration::from_secs(15));
}

#[tokio::test]
async fn what_the_log_did_not_take_is_not_acknowledged() {
    let world = World::new().await;
    let cases = [
        (Step::Before, Kind::Full, 503, "unavailable", false),
        (Step::Before, Kind::Unavailable, 503, "unavailable", false),
        (Step::Written, Kind::Unavailable, 503, "unavailable", false),
        (Step::Answer, Kind::Unavailable, 503, "unavailable", true),
        (Step::Before, Kind::Corrupt, 500, "internal", false),
    ];
    for (step, kind, status, code, stored) in cases {
        for (uri, body) in
            [("/events/ingest", EVENT.to_owned()), ("/events/ingest/batch", format!("[{EVENT}]"))]
        {
            let before = world.conversions().await.len();
            world.faults.at(Op::Append, step, 1, Action::Fail(kind));
            let answer = world.send(uri, body).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (status, code),
                "{step:?} {kind:?}"
            );
            assert_eq!(answer.header("retry-after").is_some(), status == 503);
            let message = answer.json()["message"].as_str().expect("text").to_owned();
            let uncertain = matches!(step, Step::Written | Step::Answer);
            assert_eq!(message.contains("safe to send it again"), uncertain, "{message}");
            assert_eq!(world.conversions().await.len() - before, usize::from(stored));
        }
    }
    assert_eq!(world.send("/events/ingest", EVENT).await.status, 202);
}

#[tokio::test]
async fn acceptance_is_when_the_body_is_there() {
    let world = World::new().await;
    world.clock.advance(7);
    world.send("/events/ingest", EVENT).await;
    let records = world.records(storage::Topic::Events).await;
    let record: schemas::proto::Record = prost::Message::decode(records[0].clone()).expect("ok");
    assert_eq!(record.accepted_at_ms, NOW + 7);
}
