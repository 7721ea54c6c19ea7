//! TLS: the files, the handshake, and clients that do not shake hands.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serve::http::{Limits, Listener, serve};
use serve::tls::{Tls, TlsError};
use serve::{Shutdown, body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A file of a self-signed certificate for `localhost`, made for these tests alone.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data").join(name)
}

fn start() -> (SocketAddr, Shutdown) {
    let tls = Tls::load(&data("localhost.cert.pem"), &data("localhost.key.pem")).unwrap();
    let listener = Listener::bind("tls", ([127, 0, 0, 1], 0).into(), Some(tls)).unwrap();
    let addr = listener.local_addr().unwrap();
    let limits = Limits { header_timeout: Duration::from_millis(500), ..Limits::default() };
    let shutdown = Shutdown::new();
    tokio::spawn(serve(listener, limits, shutdown.clone(), |_request, peer| async move {
        Response::new(body::full(format!("tls={}", peer.tls)))
    }));
    (addr, shutdown)
}

fn client() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data("localhost.cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn serves_over_tls() {
    let (addr, shutdown) = start();
    let tcp = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = client().connect(name, tcp).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("tls=true"), "{answer}");
    shutdown.request();
}

#[tokio::test]
async fn who_does_not_shake_hands_is_closed() {
    let (addr, _shutdown) = start();
    for hello in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(hello).await.unwrap();
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        // Closed or reset, but in time.
        let _ = tokio::time::timeout(Duration::from_secs(5), read).await.expect("closed in time");
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn files_that_do_not_do_are_named() {
    let (certificate, key) = (data("localhost.cert.pem"), data("localhost.key.pem"));
    let other = data("other.key.pem");
    let missing = data("missing.pem");
    let text = data("../tls.rs");
    let cases = [
        (&missing, &key, "missing.pem"),
        (&certificate, &missing, "missing.pem"),
        (&text, &key, "tls.rs"),
        (&certificate, &certificate, "a private key"),
        (&certificate, &other, "other.key.pem"),
    ];
    for (certificate, key, named) in cases {
        let error = Tls::load(certificate, key).err().expect("refused");
        assert!(error.to_string().contains(named), "{error}");
    }
    let mixed = Tls::load(&certificate, &other).err();
    assert!(matches!(mixed, Some(TlsError::Unusable { .. })), "{mixed:?}");
}
