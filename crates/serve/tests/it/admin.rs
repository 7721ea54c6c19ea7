//! The operator's listener, over a socket.

use std::time::Duration;

use serve::admin::{self, Admin};
use serve::http::Listener;
use serve::{Health, Shutdown, telemetry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn tells_health_metrics_and_version() {
    let health = Health::new();
    let log = health.register("log");
    let metrics = telemetry::install_metrics("1.2.3", "abc").unwrap();
    let again = telemetry::install_metrics("1.2.3", "abc");
    assert!(again.is_err(), "one recorder per process");
    let listener = Listener::bind("admin", ([127, 0, 0, 1], 0).into(), None).unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let admin = Admin { health: health.clone(), metrics, version: "1.2.3", revision: "abc" };
    let ended = tokio::spawn(admin::run(listener, admin, shutdown.clone()));
    let ask = |method: &'static str, path: &'static str| async move {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.strip_prefix("HTTP/1.1 ").unwrap().to_owned()
    };

    assert!(ask("GET", "/livez").await.starts_with("200"));
    let starting = ask("GET", "/readyz").await;
    assert!(starting.starts_with("503") && starting.contains("[-] log: starting"), "{starting}");
    log.set_ready(true, "");
    let ready = ask("GET", "/readyz?verbose").await;
    assert!(ready.starts_with("200") && ready.contains("[+] log: ok\nok\n"), "{ready}");
    assert!(ask("GET", "/readyz").await.ends_with("\r\n\r\nok\n"));

    let metrics = ask("GET", "/metrics").await;
    for line in [
        "aktvator_build_info{",
        "version=\"1.2.3\"",
        "aktvator_serve_accepted_connections_total{listener=\"admin\"}",
        "\nprocess_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(ask("GET", "/version").await.ends_with(r#"{"version":"1.2.3","revision":"abc"}"#));
    let absent = ask("GET", "/").await;
    assert!(absent.starts_with("404") && absent.contains(r#""statusCode":404"#), "{absent}");
    let refused = ask("POST", "/metrics").await;
    assert!(refused.starts_with("405") && refused.contains("allow: GET, HEAD"), "{refused}");

    health.set_draining();
    assert!(ask("GET", "/readyz").await.contains("[-] shutdown: draining"));
    assert!(ask("GET", "/livez").await.starts_with("200"));
    shutdown.request();
    tokio::time::timeout(Duration::from_secs(2), ended).await.expect("ends").unwrap();
}
