//! The server under test: started in a data directory of its own on loopback, killed, started again.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// How long a start may take until the server answers that it is ready.
const READY_TRIES: u32 = 600;
const READY_PAUSE: Duration = Duration::from_millis(100);

/// A running `aktvator serve`, ended when dropped.
pub(crate) struct Server {
    binary: PathBuf,
    data_dir: PathBuf,
    config: Option<PathBuf>,
    ports: [u16; 3],
    /// All of them, where there are none.
    roles: Option<&'static str>,
    child: Child,
}

impl Server {
    /// Starts `binary` on free ports in `data_dir` and waits until it is ready.
    pub(crate) fn start(
        binary: &Path,
        data_dir: &Path,
        config: Option<PathBuf>,
    ) -> Result<Self, String> {
        let ports = free_ports()?;
        let child = spawn(binary, data_dir, config.as_deref(), ports, None)?;
        let (binary, data_dir) = (binary.to_owned(), data_dir.to_owned());
        let mut server = Self { binary, data_dir, config, ports, roles: None, child };
        server.wait_ready()?;
        Ok(server)
    }

    /// `127.0.0.1:port` of the public listener.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// The operator token that the first start made.
    pub(crate) fn operator_token(&self) -> Result<String, String> {
        let path = self.data_dir.join("operator-token");
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// User and system CPU seconds spent so far, from `/proc/PID/stat` (fields 14 and 15, in ticks
    /// of 10 ms on Linux).
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.unwrap_or_default();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = rest.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<f64>().ok());
        ticks.sum::<f64>() / 100.0
    }

    /// `kill -9`, then a new start on the same data.
    pub(crate) fn kill_and_restart(&mut self) -> Result<(), String> {
        self.child.kill().map_err(|e| format!("kill: {e}"))?;
        self.child.wait().map_err(|e| format!("wait: {e}"))?;
        let Self { binary, data_dir, config, ports, roles, .. } = self;
        self.child = spawn(binary, data_dir, config.as_deref(), *ports, *roles)?;
        self.wait_ready()
    }

    /// A new start on the same installation with these roles alone.
    pub(crate) fn restart_as(&mut self, roles: &'static str) -> Result<(), String> {
        self.roles = Some(roles);
        self.kill_and_restart()
    }

    fn wait_ready(&mut self) -> Result<(), String> {
        let url = format!("http://127.0.0.1:{}/readyz", self.ports[2]);
        for _ in 0..READY_TRIES {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended at its start: {status}"));
            }
            if ureq::get(&url).call().is_ok() {
                return Ok(());
            }
            thread::sleep(READY_PAUSE);
        }
        Err("the server did not become ready within a minute".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    binary: &Path,
    data_dir: &Path,
    config: Option<&Path>,
    ports: [u16; 3],
    roles: Option<&str>,
) -> Result<Child, String> {
    let [public, redirect, admin] = ports.map(|port| format!("127.0.0.1:{port}"));
    Command::new(binary)
        .arg("serve")
        .args(["--listen", &public, "--redirect-listen", &redirect, "--admin-listen", &admin])
        .arg("--data-dir")
        .arg(data_dir)
        .args(config.into_iter().flat_map(|path| [OsStr::new("--config"), path.as_os_str()]))
        .args(roles.into_iter().flat_map(|roles| ["--role", roles]))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log_file(data_dir)?))
        .spawn()
        .map_err(|e| format!("{} cannot be started: {e}", binary.display()))
}

/// Kept open across restarts so that the whole run is in one file.
fn log_file(data_dir: &Path) -> Result<std::fs::File, String> {
    let path = data_dir.with_extension("log");
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|e| format!("{} cannot be written: {e}", path.display()))
}

/// Three ports that were free a moment ago.
fn free_ports() -> Result<[u16; 3], String> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        let address = listener.and_then(|l| l.local_addr()).map_err(|e| format!("no port: {e}"))?;
        *port = address.port();
    }
    Ok(ports)
}
