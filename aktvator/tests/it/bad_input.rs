//! Hostile and broken input over raw connections: a clear error or a bounded wait, and the next
//! client is served as if nothing had been.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::node::{Node, Organization};

/// Sends raw bytes and reads until the other side is done: status and body.
fn raw(node: &Node, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(node.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    // A server that refuses early may close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

fn post(shop: &Organization, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n{headers}\r\n",
        shop.name("apiKey")
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn json_post(shop: &Organization, path: &str, body: &[u8]) -> Vec<u8> {
    let headers = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    post(shop, path, &headers, body)
}

/// The codes of an error body, its own first.
fn codes(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body:?}"));
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let all = std::iter::once(&body).chain(&errors).filter_map(|v| v["code"].as_str());
    assert!(body["message"].is_string() && body["statusCode"].is_u64(), "{body}");
    all.map(str::to_owned).collect()
}

#[test]
fn bodies_that_are_not_events() {
    let node = Node::start();
    let shop = node.organization();
    let event = shop.purchase("k", 100).to_string();
    let deep = format!("{{\"metadata\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let large = format!("{{\"metadata\":{{\"x\":\"{}\"}}}}", "x".repeat(70_000));
    let with = |member: &str| format!("{},{member}}}", &event[..event.len() - 1]);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("empty", b"".to_vec(), 400),
        ("cut off", event.as_bytes()[..event.len() - 1].to_vec(), 400),
        ("too deep", deep.into_bytes(), 413),
        ("too large", large.into_bytes(), 413),
        ("wrong type", with(r#""quantity":"two""#).into_bytes(), 400),
        ("a fraction", with(r#""quantity":1.5"#).into_bytes(), 400),
        ("unknown field", with(r#""sparkle":true"#).into_bytes(), 400),
        ("duplicate key", with(r#""amount":100"#).into_bytes(), 400),
        ("duplicate in metadata", with(r#""metadata":{"a":1,"a":2}"#).into_bytes(), 400),
        ("NUL", with(r#""externalRef":"\u0000""#).into_bytes(), 400),
        ("huge number", with(r#""quantity":99999999999999999999999999"#).into_bytes(), 400),
        ("huge exponent", with(r#""quantity":1e400"#).into_bytes(), 400),
        ("trailing garbage", format!("{event}x").into_bytes(), 400),
        ("invalid UTF-8", [event.as_bytes(), b"\xff"].concat(), 400),
        ("UTF-8 in a string", with("\"externalRef\":\"\u{1}\"").into_bytes(), 400),
        ("an array", b"[]".to_vec(), 400),
        ("a number", b"1".to_vec(), 400),
    ];
    for (what, body, status) in cases {
        let (got, answer) = raw(&node, &json_post(&shop, "/events/ingest", &body));
        // A body over the limit is refused before its depth is known.
        assert!(got == status || (what == "too deep" && got == 400), "{what}: {got} {answer}");
        assert!(!codes(&answer).is_empty(), "{what}");
    }
    let two = with(r#""quantity":"two","sparkle":true"#);
    let (_, answer) = raw(&node, &json_post(&shop, "/events/ingest", two.as_bytes()));
    assert_eq!(codes(&answer).len(), 3, "all faults at once: {answer}");
    assert_eq!(shop.decide(&shop.purchase("after", 100))["decision"]["code"], "rewarded");
}

#[test]
fn requests_that_are_not_http() {
    let node = Node::start();
    let shop = node.organization();
    let event = shop.purchase("k", 100).to_string();
    let length = event.len();
    let both = format!(
        "content-type: application/json\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n"
    );
    let two = format!(
        "content-type: application/json\r\ncontent-length: {length}\r\ncontent-length: 5\r\n"
    );
    let chunked = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("garbage", b"\x16\x03\x01\x02\x00garbage\r\n\r\n".to_vec()),
        ("two lengths", post(&shop, "/events/ingest", &two, event.as_bytes())),
        ("bad chunk size", post(&shop, "/events/ingest", chunked, b"zz\r\n{}\r\n0\r\n\r\n")),
        ("negative length", post(&shop, "/events/ingest", "content-length: -1\r\n", b"")),
        (
            "gzip",
            post(
                &shop,
                "/events/ingest",
                &format!(
                    "content-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n"
                ),
                event.as_bytes(),
            ),
        ),
        (
            "text/plain",
            post(
                &shop,
                "/events/ingest",
                &format!("content-type: text/plain\r\ncontent-length: {length}\r\n"),
                event.as_bytes(),
            ),
        ),
    ];
    for (what, request) in cases {
        let (status, answer) = raw(&node, &request);
        assert!((400..500).contains(&status) || status == 0, "{what}: {status} {answer}");
    }
    // Length and chunks together are refused, or read as chunks and the connection closed: what follows
    // is never a second request.
    let hidden = shop.purchase("smuggled", 100).to_string();
    let hidden = json_post(&shop, "/events/ingest", hidden.as_bytes());
    let smuggled = [format!("{:x}\r\n{event}\r\n0\r\n\r\n", length).as_bytes(), &hidden].concat();
    let outer = post(&shop, "/events/ingest", &both, &smuggled);
    let kept_alive =
        String::from_utf8(outer).expect("text").replacen("connection: close\r\n", "", 1);
    let (status, answer) = raw(&node, kept_alive.as_bytes());
    let listed = shop.get("/events?idempotencyKey=smuggled")["data"].clone();
    assert!(status == 202 || status == 400, "{status} {answer}");
    assert_eq!(listed, json!([]), "what follows was read as a request");
    assert!(!answer.contains("HTTP/1.1"), "a second answer: {answer}");

    let body = format!("{:x}\r\n{event}\r\n0\r\n\r\n", length);
    let (status, answer) = raw(&node, &post(&shop, "/events/ingest", chunked, body.as_bytes()));
    assert_eq!(status, 202, "chunks are fine: {answer}");
}

#[test]
fn batches_answer_for_each_item() {
    let node = Node::start();
    let shop = node.organization();
    let good = shop.purchase("a", 100);
    let mut bad = shop.purchase("b", 100);
    bad["amount"] = json!("100");
    let (status, body) = shop.post("/events/ingest/batch", &json!([good, bad, good]));
    assert_eq!(status, 207, "{body}");
    let results = body["results"].as_array().expect("results");
    let statuses: Vec<_> = results.iter().map(|r| r["status"].as_str().unwrap_or("")).collect();
    assert_eq!(statuses, ["queued", "rejected", "queued"]);
    assert_eq!(results[1]["errors"][0]["code"], "wrong_type");
    assert_eq!(results[0]["eventId"], results[2]["eventId"]);

    let lines = format!("{}\n{}\n", good, shop.purchase("c", 5));
    let headers =
        format!("content-type: application/x-ndjson\r\ncontent-length: {}\r\n", lines.len());
    let (status, body) =
        raw(&node, &post(&shop, "/events/ingest/batch", &headers, lines.as_bytes()));
    assert_eq!(status, 202, "{body}");

    let many: Vec<_> = (0..1_001).map(|i| shop.purchase(&format!("m{i}"), 1)).collect();
    let (status, body) = shop.post("/events/ingest/batch", &json!(many));
    assert!(status == 413 || status == 400, "{status} {body}");
    let (status, body) = shop.post("/events/ingest/batch", &json!([bad]));
    assert_eq!(status, 400, "{body}");
    let (status, body) = shop.post("/events/ingest/batch", &json!([]));
    assert_eq!(status, 400, "{body}");
}

#[test]
fn half_sent_requests_and_idle_connections_hold_nobody_up() {
    let node = Node::start();
    let shop = node.organization();
    let halves: Vec<_> = (0..200)
        .map(|i| {
            let mut stream = TcpStream::connect(node.address()).expect("a connection");
            let request =
                json_post(&shop, "/events/ingest", shop.purchase("half", 1).to_string().as_bytes());
            let cut = (i * 7) % (request.len() - 1) + 1;
            stream.write_all(&request[..cut]).expect("a part is sent");
            stream
        })
        .collect();
    let mut idle = Vec::with_capacity(8_000);
    while idle.len() < 8_000 {
        idle.push(TcpStream::connect(node.address()).expect("a connection"));
    }
    for i in 0..20 {
        let answer = shop.decide(&shop.purchase(&format!("busy_{i}"), 100));
        assert_eq!(answer["decision"]["code"], "rewarded");
    }
    drop((halves, idle));
    assert_eq!(shop.decide(&shop.purchase("after", 100))["decision"]["code"], "rewarded");
}
