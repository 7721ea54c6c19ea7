//! A server of the test's own: the real binary on free ports, its data in a directory that goes with
//! it; and the quickstart's organization to work with.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request};

/// How long anything that must happen soon may take.
const TRIES: u32 = 600;
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_aktvator");

/// Asks `condition` until it has an answer.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    for _ in 0..TRIES {
        if let Some(answer) = condition() {
            return answer;
        }
        thread::sleep(PAUSE);
    }
    panic!("{what} did not happen within {:?}", PAUSE * TRIES);
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|l| l.local_addr().expect("a bound port").port())
}

/// A running server.
pub(crate) struct Node {
    folder: PathBuf,
    data_dir: PathBuf,
    ports: [u16; 3],
    extra: Vec<String>,
    child: Child,
}

impl Node {
    /// A server with a fresh data directory.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with more arguments.
    pub(crate) fn start_with(extra: &[&str]) -> Self {
        let folder = fresh_folder();
        let data_dir = folder.join("data");
        Self::start_in(folder, data_dir, extra)
    }

    /// A server with its data in `data_dir`; `folder` is removed at the end.
    pub(crate) fn start_in(folder: PathBuf, data_dir: PathBuf, extra: &[&str]) -> Self {
        let ports = free_ports();
        let extra: Vec<_> = extra.iter().map(|&a| a.to_owned()).collect();
        let child = spawn(&folder, &data_dir, ports, &extra);
        let mut node = Self { folder, data_dir, ports, extra, child };
        node.wait_for("/readyz");
        node
    }

    fn wait_for(&mut self, path: &str) {
        let url = self.admin(path);
        let log = self.folder.join("log");
        let child = &mut self.child;
        eventually("a ready server", || {
            if let Some(status) = child.try_wait().expect("a child") {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("the server ended at its start: {status}\n{log}");
            }
            ureq::get(&url).call().ok()
        });
    }

    /// `kill -9` and a new start on the same data.
    pub(crate) fn crash_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a running server");
        self.child.wait().expect("a child");
    }

    /// What it says when it is started on its data and ends at once.
    pub(crate) fn refuses_to_start(&self) -> String {
        let before = self.log().len();
        let mut child = spawn(&self.folder, &self.data_dir, self.ports, &self.extra);
        assert!(!child.wait().expect("a child").success());
        self.log()[before..].to_owned()
    }

    /// SIGTERM; the exit status.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        self.signal("TERM");
        self.child.wait().expect("a child")
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for the old process to end and starts a new one.
    pub(crate) fn restart(&mut self) {
        self.start_again();
        self.wait_for("/readyz");
    }

    /// The same where it cannot become ready.
    pub(crate) fn restart_unready(&mut self) {
        self.start_again();
        self.wait_for("/livez");
    }

    fn start_again(&mut self) {
        self.child.wait().expect("a child");
        self.child = spawn(&self.folder, &self.data_dir, self.ports, &self.extra);
    }

    /// `host:port` of the API.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// An absolute address of the API.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// An absolute address of the admin listener.
    pub(crate) fn admin(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[2])
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What it is ready for, in words, or what it waits for.
    pub(crate) fn readiness(&self) -> String {
        let agent = agent();
        let answer = agent.get(self.admin("/readyz?verbose")).call();
        answer.map_or_else(|e| e.to_string(), |mut a| a.body_mut().read_to_string().expect("text"))
    }

    /// The sum of a metric's series, 0 without any.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let is_its = |line: &&str| line.split(['{', ' ']).next() == Some(name);
        let value = |line: &str| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
        self.metrics().lines().filter(is_its).filter_map(value).sum()
    }

    /// Every series that it shows.
    pub(crate) fn metrics(&self) -> String {
        let answer = ureq::get(&self.admin("/metrics")).call();
        answer.expect("metrics").body_mut().read_to_string().expect("text")
    }

    /// What the server has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The operator token of the first start.
    pub(crate) fn operator_token(&self) -> String {
        let text = std::fs::read_to_string(self.data_dir.join("operator-token"));
        text.expect("an operator token").trim().to_owned()
    }

    /// Runs `aktvator quickstart` against this server.
    pub(crate) fn quickstart(&self, extra: &[&str]) -> Output {
        let done = Command::new(BINARY)
            .args(["quickstart", "--url", &self.url(""), "--data-dir"])
            .arg(&self.data_dir)
            .args(extra)
            .output()
            .expect("quickstart runs");
        assert!(
            done.status.success(),
            "quickstart: {}\n{}",
            String::from_utf8_lossy(&done.stderr),
            self.log()
        );
        done
    }

    /// The quickstart's organization.
    pub(crate) fn organization(&self) -> Organization {
        self.organization_with(&[])
    }

    /// The same, with more arguments for `quickstart`.
    pub(crate) fn organization_with(&self, extra: &[&str]) -> Organization {
        let extra = [&["--format", "json"], extra].concat();
        let names = serde_json::from_slice(&self.quickstart(&extra).stdout).expect("JSON");
        Organization { names, base: self.url(""), edge: self.url(""), agent: agent() }
    }

    /// The API as the operator.
    pub(crate) fn operator(&self) -> Organization {
        let names = serde_json::json!({"apiKey": self.operator_token()});
        Organization { names, base: self.url(""), edge: self.url(""), agent: agent() }
    }

    /// The quickstart's organization, which no rate limit stops.
    pub(crate) fn unlimited_organization(&self) -> Organization {
        self.unlimited_organization_with(&[])
    }

    /// The same, with more arguments for `quickstart`.
    pub(crate) fn unlimited_organization_with(&self, extra: &[&str]) -> Organization {
        let shop = self.organization_with(extra);
        let limits = serde_json::json!({
            "ingestPerSecond": 1_000_000, "ingestBurst": 1_000_000,
            "requestsPerSecond": 1_000_000, "requestsBurst": 1_000_000,
        });
        let path = format!("/organizations/{}/limits", shop.name("organizationId"));
        let (status, body) = self.operator().call(Method::PUT, &path, Some(&limits));
        assert_eq!(status, 200, "{body}");
        shop
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let _ = writeln!(std::io::stderr(), "the server's log:\n{}", self.log());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A new folder for one test.
pub(crate) fn fresh_folder() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("it-{}-{number}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    folder
}

fn spawn(folder: &Path, data_dir: &Path, ports: [u16; 3], extra: &[String]) -> Child {
    let [public, redirect, admin] = ports.map(|port| format!("127.0.0.1:{port}"));
    let mut log = std::fs::OpenOptions::new();
    let log = log.create(true).append(true).open(folder.join("log")).expect("a log file");
    Command::new(BINARY)
        .arg("serve")
        .args(["--listen", &public, "--redirect-listen", &redirect, "--admin-listen", &admin])
        .arg("--data-dir")
        .arg(data_dir)
        .args(extra)
        .stdout(log.try_clone().expect("a log file"))
        .stderr(Stdio::from(log))
        .spawn()
        .expect("the server starts")
}

fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into()
}

/// An organization as its own backend sees it.
pub(crate) struct Organization {
    names: Value,
    base: String,
    /// Where events are pushed.
    edge: String,
    agent: Agent,
}

impl Organization {
    /// From now on events are pushed to this process.
    pub(crate) fn push_to(&mut self, edge: &Node) {
        self.edge = edge.url("");
    }

    /// From now on it asks and pushes elsewhere.
    pub(crate) fn served_by(&mut self, control: &Node, edge: &Node) {
        self.base = control.url("");
        self.push_to(edge);
    }

    /// One of quickstart's names, like `campaignId`.
    pub(crate) fn name(&self, name: &str) -> &str {
        self.names[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {}", self.names))
    }

    /// Any request: status and body.
    pub(crate) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let base = if path.starts_with("/events/ingest") { &self.edge } else { &self.base };
        let url = if path.starts_with("http") { path.to_owned() } else { base.clone() + path };
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", format!("Bearer {}", self.name("apiKey")));
        let answer = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body.to_string()).expect("a request"))
            }
            None => self.agent.run(request.body(()).expect("a request")),
        };
        let mut answer = answer.unwrap_or_else(|e| panic!("{path}: {e}"));
        let text = answer.body_mut().read_to_string().expect("a body");
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// `GET` of what must be there.
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None);
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// `GET` of what may be out of reach.
    pub(crate) fn try_get(&self, path: &str) -> Option<Value> {
        let (status, body) = self.call(Method::GET, path, None);
        (status == 200).then_some(body)
    }

    /// All items of a list; `None` while they cannot be read.
    pub(crate) fn pages(&self, path: &str) -> Option<Vec<Value>> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut page = self.try_get(&format!("{path}?limit=100{cursor}"))?;
            items.append(page["data"].as_array_mut().expect("a list"));
            if page["hasMore"] == false {
                return Some(items);
            }
            cursor = format!("&startingAfter={}", page["nextCursor"].as_str().expect("a cursor"));
        }
    }

    /// `POST`: status and body.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body))
    }

    /// A purchase of this organization's campaign, with its code.
    pub(crate) fn purchase(&self, key: &str, amount: i64) -> Value {
        serde_json::json!({
            "eventType": "customer.purchase",
            "campaignId": self.name("campaignId"),
            "attributionCode": self.name("code"),
            "idempotencyKey": key,
            "amount": amount,
            "currency": "USD",
        })
    }

    /// Ingests an event and waits for its decision.
    pub(crate) fn decide(&self, event: &Value) -> Value {
        let (status, body) = self.post("/events/ingest?wait=5000", event);
        assert_eq!(status, 202, "{body}");
        assert!(body["decision"].is_object(), "no decision in {body}");
        body
    }

    /// Adds to the wallet by way of the sandbox's payment page.
    pub(crate) fn top_up(&self, amount: i64) {
        let path = format!("/organizations/{}/wallet/topup", self.name("organizationId"));
        let (status, top_up) =
            self.post(&path, &serde_json::json!({"amount": amount, "currency": "USD"}));
        assert_eq!(status, 201, "{top_up}");
        let page = top_up["paymentUrl"].as_str().expect("a payment URL");
        let answer = self.agent.post(page).send_form([("pay", "yes")]).expect("the page answers");
        assert!(answer.status().is_success(), "{}", answer.status());
    }
}
