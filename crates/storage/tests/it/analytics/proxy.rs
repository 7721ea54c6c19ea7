//! Stands between a writer and its server, and fails on the way as it is told.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// They get through.
    Open,
    /// None gets through, and connections are cut.
    Cut,
    /// INSERTs get through, their answers do not.
    Mute,
    /// INSERTs wait until the way is another.
    Held,
}

/// A proxy for HTTP requests with whole bodies; it ends with whoever holds it.
pub(crate) struct Proxy {
    pub(crate) url: String,
    way: Arc<watch::Sender<Way>>,
    /// INSERTs that have come in.
    seen: watch::Receiver<u32>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (way, (count, seen)) = (Arc::new(watch::channel(Way::Open).0), watch::channel(0));
        let ways = way.clone();
        let count = Arc::new(count);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, ways.subscribe(), count.clone()));
            }
        });
        Self { url, way, seen, task }
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Until so many INSERTs have come in.
    pub(crate) async fn inserts(&self, least: u32) {
        self.seen.clone().wait_for(|seen| *seen >= least).await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries the requests of one connection, one after another, until something ends it.
async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    mut way: watch::Receiver<Way>,
    inserts: Arc<watch::Sender<u32>>,
) -> Option<()> {
    let mut upstream = TcpStream::connect(server).await.ok()?;
    loop {
        let request = tokio::select! {
            biased;
            _ = way.wait_for(|way| *way == Way::Cut) => return None,
            request = message(&mut client) => request?,
        };
        let line = request.split(|&byte| byte == b'\r').next()?;
        let is_insert = line.windows(6).any(|word| word == b"INSERT");
        if is_insert {
            inserts.send_modify(|seen| *seen += 1);
            way.wait_for(|way| *way != Way::Held).await.ok()?;
        }
        let now = *way.borrow();
        if now == Way::Cut {
            return None;
        }
        upstream.write_all(&request).await.ok()?;
        let answer = message(&mut upstream).await?;
        if now == Way::Mute && is_insert {
            return None;
        }
        client.write_all(&answer).await.ok()?;
    }
}

/// One HTTP message: its head, and a body of the length it says, or of chunks.
async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(head) = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let length = text.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
        let whole = match length {
            Some(length) => bytes.len() >= head + length.trim().parse::<usize>().unwrap(),
            None => !text.contains("chunked") || bytes.ends_with(b"\r\n0\r\n\r\n"),
        };
        if whole {
            return Some(bytes);
        }
    }
}
