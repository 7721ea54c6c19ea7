//! Receivers that do not behave, over real sockets on this machine.

use std::net::SocketAddr;
use std::time::Duration;

use dispatcher::Transport;
use dispatcher::config::Config;
use dispatcher::transport::WebhookRequest;
use schemas::proto::DeliveryRow;
use serve::Clock;
use serve::config::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::world::{World, scope};

/// What a receiver does with a connection once it has read the head of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// Says this and closes.
    Says(&'static str),
    /// Says nothing.
    Silent,
    /// Says the first bytes of an answer, one every 50 ms.
    Drips,
    /// Says this, then bytes without end.
    Floods(&'static str),
    /// Says this, then nothing.
    Stalls(&'static str),
    /// Resets the connection.
    Resets,
    /// Sends `100 Continue` without end.
    Continues,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A receiver, and the heads of the requests it got.
async fn receiver(
    manner: impl Fn(usize) -> Manner + Send + 'static,
) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, heard) = mpsc::channel(64);
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            tokio::spawn(behave(stream, manner(number), tell.clone()));
        }
    });
    (address, heard)
}

async fn behave(mut stream: TcpStream, manner: Manner, tell: mpsc::Sender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"}") {
        let mut more = [0; 4_096];
        match stream.read(&mut more).await {
            Ok(count) if count > 0 => head.extend_from_slice(&more[..count]),
            _ => return,
        }
    }
    tell.send(String::from_utf8_lossy(&head).into_owned()).await.ok();
    let junk = [b'x'; 8_192];
    match manner {
        Manner::Says(text) => stream.write_all(text.as_bytes()).await.unwrap_or_default(),
        Manner::Silent => tokio::time::sleep(Duration::from_secs(60)).await,
        Manner::Drips => {
            for byte in OK.bytes().cycle() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
        Manner::Floods(text) => {
            stream.write_all(text.as_bytes()).await.unwrap_or_default();
            while stream.write_all(&junk).await.is_ok() {}
        }
        Manner::Stalls(text) => {
            stream.write_all(text.as_bytes()).await.unwrap_or_default();
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Manner::Resets => drop(stream.set_zero_linger()),
        Manner::Continues => {
            while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

fn world() -> World {
    let mut world = World::new();
    world.clock = Clock::system();
    world.config = Config {
        attempt_timeout: Span::from_ms(700),
        connect_timeout: Span::from_ms(500),
        ..world.config
    };
    world
}

/// The one delivery to `url` after its first attempt, and how long that took.
async fn first_attempt(world: &World, url: &str) -> (DeliveryRow, Duration) {
    let id = world.endpoint(scope(5), url, &["*"]).await;
    let running = world.start(Transport::network(&world.config));
    world.campaigns(scope(5), 1).await;
    let row = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let rows = world.deliveries(scope(5), id).await;
            match rows.into_iter().find(|row| !row.attempts.is_empty()) {
                Some(row) => return row,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    let row = row.await.expect("an attempt is made and ends");
    running.stop().await;
    let took = u64::try_from(row.attempts[0].duration_ms).expect("no negative time");
    (row, Duration::from_millis(took))
}

#[tokio::test]
async fn each_misbehaviour_has_its_result_in_bounded_time() {
    let cases = [
        (Manner::Says(OK), "delivered", "ok"),
        (Manner::Silent, "timeout", ""),
        (Manner::Drips, "timeout", ""),
        (Manner::Floods("HTTP/1.1 200 OK\r\n\r\n"), "delivered", "xxxx"),
        (Manner::Floods("HTTP/1.1 500 No\r\n\r\n"), "http_status", "xxxx"),
        (Manner::Floods("HTTP/1.1 200 OK\r\nx: "), "protocol", ""),
        (Manner::Floods("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n"), "delivered", "xxxx"),
        (Manner::Stalls("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), "delivered", "half"),
        (Manner::Stalls("HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\nhalf"), "http_status", "half"),
        (Manner::Stalls("HTTP/1.1 200 O"), "timeout", ""),
        (
            Manner::Says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
            "delivered",
            "",
        ),
        (
            Manner::Says(
                "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
            ),
            "redirect",
            "",
        ),
        (Manner::Says("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"), "gone", ""),
        (
            Manner::Says("HTTP/1.1 503 Busy\r\nretry-after: inf\r\ncontent-length: 0\r\n\r\n"),
            "overload",
            "",
        ),
        (
            Manner::Says(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            ),
            "http_status",
            "",
        ),
        (Manner::Says("SSH-2.0-OpenSSH_9.9\r\n"), "protocol", ""),
        (Manner::Says(""), "reset", ""),
        (Manner::Resets, "reset", ""),
        (Manner::Continues, "timeout", ""),
    ];
    futures_util::future::join_all(cases.map(|(manner, want, body)| one(manner, want, body))).await;
}

async fn one(manner: Manner, want: &str, body: &str) {
    let (address, mut heard) = receiver(move |_| manner).await;
    let (row, took) = first_attempt(&world(), &format!("http://{address}/hook?a=b")).await;
    let attempt = &row.attempts[0];
    assert_eq!(attempt.result, want, "{manner:?}");
    assert!(attempt.response_head.starts_with(body), "{manner:?}: {}", attempt.response_head);
    assert!(attempt.response_head.len() <= 4_096, "{manner:?}");
    assert!(took < Duration::from_secs(5), "{manner:?} took {took:?}");
    heard.recv().await.expect("a request");
    assert!(heard.try_recv().is_err(), "{manner:?}: one request for one attempt");
}

#[tokio::test]
async fn the_request_on_the_wire() {
    let (address, mut heard) = receiver(|_| Manner::Says(OK)).await;
    let (row, _) = first_attempt(&world(), &format!("http://{address}/hook?a=b")).await;
    let request = heard.recv().await.expect("a request");
    let (head, body) = request.split_once("\r\n\r\n").expect("head and body");
    assert_eq!(body.as_bytes(), &row.payload[..]);
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("POST /hook?a=b HTTP/1.1"));
    let headers: std::collections::BTreeMap<&str, &str> =
        lines.map(|line| line.split_once(": ").expect("a header")).collect();
    let delivery = schemas::id::DeliveryId::from_proto(&row.id).expect("an id").to_string();
    let notice = schemas::id::NoticeId::from_proto(&row.notice_id).expect("an id").to_string();
    let (host, length) = (address.to_string(), body.len().to_string());
    for (name, want) in [
        ("host", host.as_str()),
        ("content-type", "application/json"),
        ("content-length", length.as_str()),
        ("user-agent", "Aktvator-Webhooks/1 (+https://aktvator.com/docs/webhooks)"),
        ("accept", "*/*"),
        ("accept-encoding", "identity"),
        ("webhook-id", notice.as_str()),
        ("aktvator-delivery", delivery.as_str()),
        ("aktvator-attempt", "1"),
    ] {
        assert_eq!(headers.get(name), Some(&want), "{name}");
    }
    let timestamp: i64 = headers["webhook-timestamp"].parse().expect("seconds");
    assert_eq!(timestamp, row.attempts[0].started_at_ms / 1_000);
    let secret = dispatcher::sign::Secret::parse(crate::world::SECRET).expect("a secret");
    let signed = secret.sign(&notice, timestamp, body.as_bytes());
    assert_eq!(headers["webhook-signature"], signed);
    assert_eq!(headers.len(), 11, "and nothing else: {headers:?}");
}

#[tokio::test]
async fn nobody_there_and_the_wrong_protocol() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = closed.local_addr().expect("an address");
    drop(closed);
    let (row, _) = first_attempt(&world(), &format!("http://{address}/")).await;
    assert_eq!(row.attempts[0].result, "connect");
    let (address, _heard) = receiver(|_| Manner::Says("not TLS")).await;
    let (row, _) = first_attempt(&world(), &format!("https://{address}/")).await;
    assert!(["tls", "timeout"].contains(&row.attempts[0].result.as_str()), "{:?}", row.attempts[0]);
}

#[tokio::test]
async fn a_target_that_is_not_public_is_not_connected_to() {
    let (address, mut heard) = receiver(|_| Manner::Says(OK)).await;
    let mut world = world();
    world.config.allow_loopback_targets = false;
    for url in [
        format!("https://localhost:{}/", address.port()),
        format!("https://{address}/"),
        format!("http://{address}/"),
        format!("https://10.0.0.1:{}/", address.port()),
    ] {
        let (row, _) = first_attempt(&world, &url).await;
        let attempt = &row.attempts[0];
        assert_eq!((attempt.result.as_str(), row.status.as_str()), ("blocked_target", "pending"));
        assert!(attempt.response_head.is_empty() && attempt.status_code.is_none());
    }
    assert!(heard.try_recv().is_err());
    // The connector judges by itself: a name may come to mean an address inside.
    let request = WebhookRequest {
        target: schemas::target::webhook(&format!("http://localhost:{}/", address.port()), true)
            .expect("a target"),
        id: "evt_1".into(),
        timestamp_s: 1,
        signature: "v1,x".into(),
        delivery: schemas::id::DeliveryId::from_u128(1),
        attempt: 1,
        body: "{}".into(),
    };
    let answer = Transport::network(&world.config).send(request).await;
    assert_eq!(answer, Err(dispatcher::attempt::NoAnswer::BlockedTarget));
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn a_silent_receiver_does_not_delay_another() {
    let (silent, _silent_heard) = receiver(|_| Manner::Silent).await;
    let (well, _heard) = receiver(|_| Manner::Says(OK)).await;
    let mut world = world();
    world.config.attempt_timeout = Span::from_secs(3);
    world.endpoint(scope(5), &format!("http://{silent}/"), &["*"]).await;
    let id = world.endpoint(scope(5), &format!("http://{well}/"), &["*"]).await;
    let running = world.start(Transport::network(&world.config));
    world.campaigns(scope(5), 40).await;
    let rows = tokio::time::timeout(Duration::from_secs(2), world.settled(scope(5), id, 40)).await;
    assert_eq!(rows.expect("long before the silent one times out").len(), 40);
    running.stop().await;
}

#[tokio::test]
async fn a_failure_and_then_success() {
    let (address, mut heard) = receiver(|number| match number {
        0 => Manner::Says("HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\noops"),
        _ => Manner::Says(OK),
    })
    .await;
    let world = world();
    let id = world.endpoint(scope(5), &format!("http://{address}/"), &["*"]).await;
    let running = world.start(Transport::network(&world.config));
    world.campaigns(scope(5), 1).await;
    let rows = world.settled(scope(5), id, 1).await;
    running.stop().await;
    let results: Vec<_> = rows[0].attempts.iter().map(|a| (a.number, a.result.as_str())).collect();
    assert_eq!(results, [(1, "http_status"), (2, "delivered")]);
    assert_eq!(rows[0].attempts[0].response_head, "oops");
    let first = heard.recv().await.expect("a request");
    let second = heard.recv().await.expect("a request");
    let body = |request: &str| request.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    assert_eq!(body(&first), body(&second), "the same bytes");
    assert!(second.contains("aktvator-attempt: 2\r\n"));
}
