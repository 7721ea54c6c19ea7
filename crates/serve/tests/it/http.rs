//! The accept loop: answers, deadlines, panics, drain.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use serve::http::{Limits, Listener, Peer, serve};
use serve::{Body, Shutdown, body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
/// Longer than anything here takes; a wait that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server whose paths do what they are called.
struct Running {
    addr: SocketAddr,
    shutdown: Shutdown,
    ended: JoinHandle<()>,
}

fn start(limits: Limits) -> Running {
    let listener = Listener::bind("test", ([127, 0, 0, 1], 0).into(), None).unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let ended = tokio::spawn(serve(listener, limits, shutdown.clone(), answer));
    Running { addr, shutdown, ended }
}

fn quick() -> Limits {
    Limits {
        header_timeout: Duration::from_millis(500),
        idle_timeout: Duration::from_millis(1_000),
        request_timeout: Duration::from_millis(1_500),
        drain_timeout: Duration::from_millis(1_500),
        ..Limits::default()
    }
}

async fn answer(request: Request<Incoming>, peer: Peer) -> Response<Body> {
    match request.uri().path() {
        "/panic" => panic!("on purpose"),
        "/slow" => sleep(Duration::from_millis(600)).await,
        "/stuck" => std::future::pending().await,
        "/read" => {
            let read = body::read(request.into_body(), 10, Duration::from_millis(700)).await;
            return match read {
                Ok(bytes) => Response::new(body::full(bytes)),
                Err(error) => Response::new(body::full(error.to_string())),
            };
        }
        _ => {}
    }
    Response::new(body::full(format!("tls={}", peer.tls)))
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends `text` on a connection of its own and returns all that comes until it is closed.
    async fn say(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        until_closed(&mut stream).await
    }
}

async fn until_closed(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("closed in time");
    // A reset is an end as well.
    let _ = read;
    String::from_utf8(all).unwrap()
}

async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = String::new();
    let mut piece = [0; 1_024];
    while !all.ends_with(end) {
        let n = timeout(PATIENCE, stream.read(&mut piece)).await.expect("in time").unwrap();
        assert!(n > 0, "closed after {all:?}");
        all.push_str(std::str::from_utf8(&piece[..n]).unwrap());
    }
    all
}

#[tokio::test]
async fn answers_one_after_the_other_and_pipelined() {
    let server = start(quick());
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(GET.as_bytes()).await.unwrap();
        assert!(until(&mut stream, "tls=false").await.starts_with("HTTP/1.1 200"));
    }
    stream.write_all(GET.repeat(20).as_bytes()).await.unwrap();
    let mut all = String::new();
    while all.matches("tls=false").count() < 20 {
        all.push_str(&until(&mut stream, "tls=false").await);
    }
}

#[tokio::test]
async fn a_panic_costs_one_request_and_not_the_connection() {
    // Writing a backtrace may take longer than a quick limit.
    let server = start(Limits::default());
    let mut stream = server.connect().await;
    stream.write_all(b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = until(&mut stream, "}").await;
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains(r#""statusCode":500"#));
    stream.write_all(GET.as_bytes()).await.unwrap();
    until(&mut stream, "tls=false").await;
}

#[tokio::test]
async fn half_sent_requests_end() {
    let server = start(quick());
    let half_head = server.say("GET / HTTP/1.1\r\nhost:");
    let half_body = server.say("POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc");
    let unread_body = server.say("POST /stuck HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc");
    let silent = server.say("");
    let mut kept = server.connect().await;
    kept.write_all(GET.as_bytes()).await.unwrap();
    let (half_head, half_body, unread_body, silent, kept) =
        tokio::join!(half_head, half_body, unread_body, silent, until_closed(&mut kept));
    assert!(half_head.starts_with("HTTP/1.1 408"), "{half_head}");
    let (head, json) = half_head.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", json.len())), "{head}\n{json}");
    assert!(half_body.contains("did not arrive within 0.7 s"), "{half_body}");
    assert_eq!(unread_body, "", "closed, as there is nobody to answer");
    assert_eq!(silent, "");
    assert!(kept.ends_with("tls=false"), "{kept}");
}

#[tokio::test]
async fn dripping_heads_get_no_more_time() {
    let server = start(quick());
    let mut stream = server.connect().await;
    let mut sent = 0;
    for byte in GET.repeat(20).replace("\r\n\r\n", "").bytes() {
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        sent += 1;
        sleep(Duration::from_millis(50)).await;
    }
    assert!(sent < 40, "{sent} bytes went out");
}

#[tokio::test]
async fn what_is_not_http_or_too_large_is_refused() {
    let server = start(quick());
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(70 << 10));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(70));
    let cases = [
        ("not http\r\n\r\n", "HTTP/1.1 400"),
        ("G@T / HTTP/1.1\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/1.1\r\nho st: x\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/3.7\r\nhost: x\r\n\r\n", "HTTP/1.1 400"),
        (long.as_str(), "HTTP/1.1 431"),
        (many.as_str(), "HTTP/1.1 431"),
        (
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            "HTTP/1.1 400",
        ),
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", "HTTP/1.1 400"),
    ];
    for (text, status) in cases {
        let answer = server.say(text).await;
        assert!(
            answer.starts_with(status),
            "{status}: {answer} to {}",
            &text[..text.len().min(80)]
        );
    }
}

#[tokio::test]
async fn bodies_are_read_within_bounds() {
    let server = start(quick());
    let close = "connection: close\r\n";
    for (rest, want) in [
        ("content-length: 4\r\n\r\nabcd", "abcd"),
        ("transfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", "abcde"),
        ("content-length: 11\r\n\r\nabcdefghijk", "longer than 10 bytes"),
        ("transfer-encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n0\r\n\r\n", "longer than 10 bytes"),
    ] {
        let answer = server.say(&format!("POST /read HTTP/1.1\r\nhost: x\r\n{close}{rest}")).await;
        assert!(answer.ends_with(want), "{rest}: {answer}");
    }
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_takes_nothing_new() {
    let server = start(quick());
    let mut slow = server.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut idle = server.connect().await;
    idle.write_all(GET.as_bytes()).await.unwrap();
    until(&mut idle, "tls=false").await;
    let mut silent = server.connect().await;
    sleep(Duration::from_millis(100)).await;

    server.shutdown.request();
    assert_eq!(until_closed(&mut idle).await, "");
    assert_eq!(until_closed(&mut silent).await, "");
    assert!(TcpStream::connect(server.addr).await.is_err(), "no longer listening");
    assert!(!server.ended.is_finished());
    let answer = until_closed(&mut slow).await;
    assert!(answer.ends_with("tls=false") && answer.contains("connection: close"), "{answer}");
    timeout(Duration::from_millis(500), server.ended).await.expect("ended at once").unwrap();
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let limits = Limits { request_timeout: PATIENCE, ..quick() };
    let server = start(limits);
    let mut stuck = server.connect().await;
    stuck.write_all(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    server.shutdown.request();
    timeout(limits.drain_timeout * 2, server.ended).await.expect("in time").unwrap();
    assert_eq!(until_closed(&mut stuck).await, "");
}

#[tokio::test]
async fn a_full_house_makes_room_from_the_idle() {
    let server = start(Limits { connections_max: 8, idle_timeout: PATIENCE, ..quick() });
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(server.connect().await);
    }
    let answer = server.say("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("tls=false"), "{answer}");
}

#[tokio::test]
async fn eight_thousand_idle_connections_are_nothing() {
    let open_files = serve::process::raise_open_files().unwrap().unwrap_or(u64::MAX);
    let count = if open_files > 17_000 { 8_000 } else { usize::try_from(open_files / 3).unwrap() };
    let server = start(Limits::default());
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        idle.push(server.connect().await);
    }
    let mut stream = server.connect().await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    timeout(Duration::from_secs(2), until(&mut stream, "tls=false")).await.expect("at once");
    server.shutdown.request();
    timeout(Duration::from_secs(5), server.ended).await.expect("idle ones end at once").unwrap();
}
