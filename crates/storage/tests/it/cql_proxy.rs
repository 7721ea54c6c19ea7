//! Stands between the driver and the CQL server and lets go wrong what a test wants to.
//!
//! It understands as much of the protocol's version 4 as is needed to know a statement by its text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinSet;

const HEADER: usize = 9;
const ERROR: u8 = 0x00;
const QUERY: u8 = 0x07;
const RESULT: u8 = 0x08;
const PREPARE: u8 = 0x09;
const EXECUTE: u8 = 0x0a;
const BATCH: u8 = 0x0d;
const PREPARED: i32 = 4;
const INVALID: i32 = 0x2200;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The server never sees it.
    LoseRequest,
    /// The server does it, and nobody hears of it.
    LoseAnswer,
    /// The server sees it once it is released.
    Hold,
    /// It is answered as invalid, with these words.
    Refuse(&'static str),
}

/// Requests whose statement begins so, and their fate. It is met when the request comes; where the answer
/// is lost, when the server has done it.
pub(crate) struct Rule {
    begins: &'static str,
    fate: Fate,
    /// How many more requests it is for.
    left: Mutex<usize>,
    met: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl Rule {
    /// Returns once the rule was met so often.
    pub(crate) async fn met(&self, times: usize) {
        self.met.subscribe().wait_for(|met| *met >= times).await.unwrap();
    }

    /// How often it was met so far.
    pub(crate) fn times(&self) -> usize {
        *self.met.borrow()
    }

    /// Lets go what is held, and holds nothing more.
    pub(crate) fn release(&self) {
        *self.left.lock().unwrap() = 0;
        self.released.send_replace(true);
    }

    fn takes(&self, text: &str) -> bool {
        let mut left = self.left.lock().unwrap();
        if *left == 0 || !text.starts_with(self.begins) {
            return false;
        }
        *left -= 1;
        drop(left);
        if self.fate != Fate::LoseAnswer {
            self.meet();
        }
        true
    }

    fn meet(&self) {
        self.met.send_modify(|met| *met += 1);
    }
}

/// Listens for as long as it lives.
pub(crate) struct Proxy {
    pub(crate) address: String,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Arc<Rule>>>,
    /// Texts of prepared statements by their id.
    statements: Mutex<HashMap<Vec<u8>, String>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// In front of the server at this address.
    pub(crate) async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared: Arc<Shared> = Arc::default();
        let accepted = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await;
                // A client of a server that is away finds that it is.
                if let Ok(server) = server {
                    Connection::start(client, server, accepted.clone());
                }
            }
        });
        Self { address, shared, accepting }
    }

    /// The next `times` requests whose statement begins so have this fate.
    pub(crate) fn on(&self, begins: &'static str, fate: Fate, times: usize) -> Arc<Rule> {
        let rule = Arc::new(Rule {
            begins,
            fate,
            left: Mutex::new(times),
            met: watch::Sender::new(0),
            released: watch::Sender::new(false),
        });
        self.shared.rules.lock().unwrap().push(rule.clone());
        rule
    }
}

/// One connection of the driver.
struct Connection {
    shared: Arc<Shared>,
    client: AsyncMutex<OwnedWriteHalf>,
    server: AsyncMutex<OwnedWriteHalf>,
    /// What is being prepared, by stream.
    preparing: Mutex<HashMap<[u8; 2], String>>,
    /// Streams whose answer is lost, by whose doing.
    lost: Mutex<HashMap<[u8; 2], Arc<Rule>>>,
}

impl Connection {
    fn start(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let connection = Arc::new(Self {
            shared,
            client: to_client.into(),
            server: to_server.into(),
            preparing: Mutex::default(),
            lost: Mutex::default(),
        });
        tokio::spawn(connection.clone().requests(from_client));
        tokio::spawn(connection.answers(from_server));
    }

    async fn requests(self: Arc<Self>, mut from: OwnedReadHalf) {
        let mut held = JoinSet::new();
        while let Some(frame) = frame(&mut from).await {
            let text = self.text(&frame);
            let rules = self.shared.rules.lock().unwrap().clone();
            let rule = rules.into_iter().find(|rule| text.as_ref().is_some_and(|t| rule.takes(t)));
            let Some(rule) = rule else {
                send(&self.server, &frame).await;
                continue;
            };
            match rule.fate {
                Fate::LoseRequest => {}
                Fate::LoseAnswer => {
                    self.lost.lock().unwrap().insert(stream(&frame), rule);
                    send(&self.server, &frame).await;
                }
                Fate::Refuse(why) => send(&self.client, &refusal(&frame, why)).await,
                Fate::Hold => {
                    let connection = self.clone();
                    held.spawn(async move {
                        rule.released.subscribe().wait_for(|released| *released).await.unwrap();
                        send(&connection.server, &frame).await;
                    });
                }
            }
        }
        // What was sent arrives, also where the sender is gone.
        held.join_all().await;
        let _ = self.server.lock().await.shutdown().await;
    }

    async fn answers(self: Arc<Self>, mut from: OwnedReadHalf) {
        while let Some(frame) = frame(&mut from).await {
            let stream = stream(&frame);
            if let Some(text) = self.preparing.lock().unwrap().remove(&stream)
                && frame[4] == RESULT
                && int(&frame[HEADER..]) == PREPARED
            {
                let id = short_bytes(&frame[HEADER + 4..]).to_vec();
                self.shared.statements.lock().unwrap().insert(id, text);
            }
            let lost = self.lost.lock().unwrap().remove(&stream);
            match lost {
                Some(rule) => rule.meet(),
                None => send(&self.client, &frame).await,
            }
        }
        let _ = self.client.lock().await.shutdown().await;
    }

    /// The statement of a request, or the first of a batch.
    fn text(&self, frame: &[u8]) -> Option<String> {
        let body = &frame[HEADER..];
        let known = |id: &[u8]| self.shared.statements.lock().unwrap().get(id).cloned();
        match frame[4] {
            QUERY => Some(long_string(body)),
            PREPARE => {
                self.preparing.lock().unwrap().insert(stream(frame), long_string(body));
                None
            }
            EXECUTE => known(short_bytes(body)),
            BATCH => known(short_bytes(&body[4..])),
            _ => None,
        }
    }
}

async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    from.read_exact(&mut frame).await.ok()?;
    let len = usize::try_from(int(&frame[5..])).unwrap();
    frame.resize(HEADER + len, 0);
    from.read_exact(&mut frame[HEADER..]).await.ok()?;
    Some(frame)
}

/// Whoever is gone hears nothing.
async fn send(to: &AsyncMutex<OwnedWriteHalf>, frame: &[u8]) {
    let _ = to.lock().await.write_all(frame).await;
}

fn refusal(request: &[u8], why: &str) -> Vec<u8> {
    let [high, low] = stream(request);
    let len = 6 + why.len() as u32;
    let mut frame = vec![0x84, 0, high, low, ERROR];
    frame.extend(len.to_be_bytes());
    frame.extend(INVALID.to_be_bytes());
    frame.extend((why.len() as u16).to_be_bytes());
    frame.extend(why.as_bytes());
    frame
}

fn stream(frame: &[u8]) -> [u8; 2] {
    [frame[2], frame[3]]
}

fn int(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(*bytes.first_chunk().unwrap())
}

fn short_bytes(bytes: &[u8]) -> &[u8] {
    let len = u16::from_be_bytes(*bytes.first_chunk().unwrap());
    &bytes[2..2 + usize::from(len)]
}

fn long_string(bytes: &[u8]) -> String {
    let len = usize::try_from(int(bytes)).unwrap();
    String::from_utf8(bytes[4..4 + len].to_vec()).unwrap()
}
