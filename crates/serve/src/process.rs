//! The process as the operating system sees it: its limits, and what it uses.

use std::fmt::Write as _;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, and returns it (`None`: no limit).
///
/// # Errors
/// Where the operating system refuses.
pub fn raise_open_files() -> io::Result<Option<u64>> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum)
}

/// A runtime for work that can wait: its threads leave the processor to others while both want it.
///
/// The threads' nice value is [`BACKGROUND_NICE`]: under load they get about a tenth of a processor
/// that an ordinary thread wants too (sched(7)).
///
/// # Errors
/// Where threads cannot be made.
pub fn background_runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("background")
        .on_thread_start(|| {
            // On Linux this is the calling thread's alone. Where it is refused, work goes on as it is.
            if let Err(error) = rustix::process::setpriority_process(None, BACKGROUND_NICE) {
                tracing::debug!(%error, "background threads keep their priority");
            }
        })
        .build()
}

/// See [`background_runtime`]; 0 is ordinary, 19 the most modest.
pub const BACKGROUND_NICE: i32 = 10;

/// Appends the conventional `process_*` metrics, as far as `/proc` tells them.
///
/// Names and units: Prometheus, "Writing client libraries", standard and runtime collectors.
pub(crate) fn render_metrics(text: &mut String) {
    let fields = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some((cpu_ticks, rss_pages, virtual_bytes)) = parse_stat(&fields) {
        let seconds = cpu_ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        sample(text, "process_cpu_seconds_total", "counter", seconds);
        let bytes = rss_pages as f64 * rustix::param::page_size() as f64;
        sample(text, "process_resident_memory_bytes", "gauge", bytes);
        sample(text, "process_virtual_memory_bytes", "gauge", virtual_bytes as f64);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        sample(text, "process_open_fds", "gauge", open.count() as f64);
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        sample(text, "process_max_fds", "gauge", limit as f64);
    }
}

/// CPU ticks (user and system), resident pages and virtual bytes out of proc(5)'s `stat` line.
fn parse_stat(line: &str) -> Option<(u64, u64, u64)> {
    // The second field is the command in parentheses, and may hold blanks.
    let (_, rest) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // `rest` begins with field 3, so field n of the manual page is at n - 3.
    let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?, field(24)?, field(23)?))
}

fn sample(text: &mut String, name: &str, kind: &str, value: f64) {
    // Writing to a string cannot fail.
    let _ = write!(text, "# TYPE {name} {kind}\n{name} {value}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_even_with_blanks_in_the_command() {
        let mut fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        fields[0] = "S".into();
        let line = format!("7 (a b) c) {}", fields.join(" "));
        assert_eq!(parse_stat(&line), Some((14 + 15, 24, 23)));
        assert_eq!(parse_stat("7 (short) S 1"), None);
    }

    #[test]
    fn shows_this_process() {
        let mut text = String::new();
        render_metrics(&mut text);
        assert!(text.contains("\nprocess_open_fds "), "{text}");
    }

    #[test]
    fn open_files_go_to_the_hard_limit() {
        let limit = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, limit);
    }
}
