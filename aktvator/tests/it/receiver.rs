//! A webhook receiver on loopback that keeps what it was sent and answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// One webhook as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Header lines, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body's bytes, which are what was signed.
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// Listens until the test process ends.
pub(crate) struct Receiver {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Answers each webhook with the next of `statuses`, then 204 for ever; each after `delay`.
    pub(crate) fn start(statuses: &[u16], delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/hooks", listener.local_addr().expect("a bound port"));
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let statuses = Arc::new(Mutex::new(statuses.to_vec()));
        let kept = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, statuses) = (Arc::clone(&kept), Arc::clone(&statuses));
                thread::spawn(move || answer(&stream, delay, &kept, &statuses));
            }
        });
        Self { url, received }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// All that came so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("not poisoned").clone()
    }

    /// The first webhook of a type, if one has come.
    pub(crate) fn of_type(&self, name: &str) -> Option<Received> {
        self.received().into_iter().find(|r| r.json()["type"] == name)
    }
}

fn answer(
    stream: &TcpStream,
    delay: Duration,
    kept: &Mutex<Vec<Received>>,
    statuses: &Mutex<Vec<u16>>,
) {
    let mut reader = BufReader::new(stream);
    while let Some(received) = read_request(&mut reader) {
        kept.lock().expect("not poisoned").push(received);
        thread::sleep(delay);
        let mut statuses = statuses.lock().expect("not poisoned");
        let status = if statuses.is_empty() { 204 } else { statuses.remove(0) };
        drop(statuses);
        let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\n\r\n");
        let mut out = stream;
        if out.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Received> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length?.1.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Received { headers, body })
}
