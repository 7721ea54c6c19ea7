//! What the files on disk must stand: other openers, damage, a disk that is full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use storage::embedded::{self, OpenOptions};
use storage::log::ReadLimit;
use storage::state::{Group, WriteSet};
use storage::{Certainty, Error, EventLog, Kind, Shard, StateStore, Topic};
use tempfile::TempDir;

use crate::world::{ALL, IDENTITY, bytes, options};

const SHARD: Shard = Shard { group: Group::Evaluator, partition: 0 };

fn refusal(dir: &Path, options: &OpenOptions) -> (Kind, String) {
    let e = embedded::open(dir, options).err().expect("it was opened");
    (e.kind, std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default())
}

#[test]
fn a_directory_in_use_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let open = embedded::open(dir.path(), &options()).unwrap();
    let (kind, why) = refusal(dir.path(), &options());
    assert_eq!(kind, Kind::Unavailable);
    assert!(why.contains("another process") && why.contains("log"), "{why}");
    drop(open);
    embedded::open(dir.path(), &options()).unwrap();
}

#[test]
fn a_directory_of_another_shape_is_refused_with_the_reason() {
    let dir = TempDir::new().unwrap();
    drop(embedded::open(dir.path(), &options()).unwrap());
    let more = OpenOptions { partitions: 5, ..options() };
    let (kind, why) = refusal(dir.path(), &more);
    assert_eq!(kind, Kind::Conflict);
    assert!(why.contains("4 partitions, not 5"), "{why}");
    let none = OpenOptions { partitions: 0, ..options() };
    assert_eq!(refusal(dir.path(), &none).0, Kind::Conflict);
    fs::rename(dir.path().join("log"), dir.path().join("elsewhere")).unwrap();
    let (kind, why) = refusal(dir.path(), &options());
    assert_eq!(kind, Kind::Conflict);
    assert!(why.contains("log is missing"), "{why}");
}

#[test]
fn what_is_there_is_opened_as_it_was_made() {
    let dir = TempDir::new().unwrap();
    let refused = embedded::reopen(dir.path(), 0).err().expect("there is nothing");
    assert_eq!(refused.kind, Kind::Conflict);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is made");
    drop(embedded::open(dir.path(), &options()).unwrap());
    let (log, _state) = embedded::reopen(dir.path(), 0).unwrap();
    assert_eq!(log.partitions(), options().partitions);
}

#[tokio::test]
async fn a_state_beside_another_log_or_lost_is_refused() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (log, state) = embedded::open(one.path(), &options()).unwrap();
    log.append(Topic::Events, vec![(0, bytes("a"))]).await.unwrap();
    drop((log, state));
    let other = OpenOptions { identity: IDENTITY + 1, ..options() };
    drop(embedded::open(two.path(), &other).unwrap());
    fs::rename(one.path().join("state"), one.path().join("gone")).unwrap();
    let (kind, why) = refusal(one.path(), &options());
    assert_eq!(kind, Kind::Conflict);
    assert!(why.contains("is missing beside a log with records"), "{why}");
    fs::rename(two.path().join("state"), one.path().join("state")).unwrap();
    let (kind, why) = refusal(one.path(), &options());
    assert_eq!(kind, Kind::Conflict);
    assert!(why.contains("do not belong together"), "{why}");
}

#[tokio::test]
async fn the_identity_is_drawn_once() {
    let dir = TempDir::new().unwrap();
    drop(embedded::open(dir.path(), &options()).unwrap());
    let other = OpenOptions { identity: 1, ..options() };
    let (log, _) = embedded::open(dir.path(), &other).unwrap();
    assert_eq!(log.bounds(Topic::Events, 0).await.unwrap().identity, IDENTITY);
    assert_eq!(log.bounds(Topic::Outcomes, 0).await.unwrap().identity, IDENTITY);
}

const NEEDLE: &[u8] = b"a needle that is in no other record";

#[tokio::test]
async fn a_damaged_journal_is_refused() {
    let dir = TempDir::new().unwrap();
    let (log, state) = embedded::open(dir.path(), &options()).unwrap();
    log.append(Topic::Events, vec![(0, Bytes::from_static(NEEDLE))]).await.unwrap();
    log.append(Topic::Events, vec![(0, bytes("after it"))]).await.unwrap();
    drop((log, state));
    assert_eq!(damage(&dir.path().join("log")), 1);
    assert_eq!(refusal(dir.path(), &options()).0, Kind::Corrupt);
}

#[tokio::test]
async fn a_damaged_table_is_noticed_when_it_is_read() {
    let dir = TempDir::new().unwrap();
    let (log, state) = embedded::open(dir.path(), &options()).unwrap();
    // Blocks away from the oldest and the newest batch, which are read when the log is opened.
    let needle = Bytes::from_static(NEEDLE);
    for record in [vec![block(); 4], vec![needle], vec![block(); 4]].concat() {
        log.append(Topic::Events, vec![(0, record)]).await.unwrap();
    }
    // Enough for the journal that holds it to be flushed into tables and removed.
    let filler = Bytes::from(vec![b'x'; 4 * 1024 * 1024]);
    let journal = dir.path().join("log").join("0.jnl");
    for _ in 0..100 {
        log.append(Topic::Events, vec![(1, filler.clone())]).await.unwrap();
        if !journal.exists() {
            break;
        }
    }
    assert!(!journal.exists(), "the first journal is still there");
    drop((log, state));
    assert_eq!(damage(&dir.path().join("log")), 1);
    let (log, _state) = embedded::open(dir.path(), &options()).unwrap();
    let e = log.read(Topic::Events, 0, 0, ALL).await.unwrap_err();
    assert_eq!((e.kind, e.op), (Kind::Corrupt, "read"));
    let sane = ReadLimit { records: 1, bytes: 1 };
    assert_eq!(log.read(Topic::Events, 1, 0, sane).await.unwrap()[0].bytes, filler);
}

/// A record that fills a block of a table.
fn block() -> Bytes {
    Bytes::from(vec![b'y'; 8_192])
}

/// Flips a bit inside each needle under `dir`; how many there were.
fn damage(dir: &Path) -> usize {
    let mut found = 0;
    for file in files(dir) {
        let mut content = fs::read(&file).unwrap();
        let at = content.windows(NEEDLE.len()).position(|window| window == NEEDLE);
        if let Some(at) = at {
            content[at + 5] ^= 1;
            fs::write(&file, content).unwrap();
            found += 1;
        }
    }
    found
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A small file system of its own.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, said aloud, where this machine does not let us mount.
    fn mount(megabytes: u64) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(dir.path())
            .stderr(std::process::Stdio::null())
            .status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self(dir));
        }
        println!("skipped: mounting a tmpfs needs root");
        None
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let _ = fs::write(self.ballast(), vec![b'x'; 256 * 1024 * 1024]);
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

async fn append(log: &EventLog, text: &str) -> Result<(), Error> {
    log.append(Topic::Events, vec![(0, bytes(text))]).await.map(drop)
}

async fn commit(state: &StateStore, text: &str) -> Result<(), Error> {
    let (epoch, head) = state.acquire(SHARD).await?;
    let rows = vec![(bytes("row"), Some(bytes(text)))];
    let set =
        WriteSet { seq: head.seq + 1, rows, outcomes: vec![bytes(text)], ..Default::default() };
    state.commit(SHARD, epoch, set).await
}

#[tokio::test]
async fn a_disk_short_of_room_refuses_writes_until_there_is_room() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let short = OpenOptions { min_free_bytes: 8 * 1024 * 1024, ..options() };
    let (log, state) = embedded::open(disk.0.path(), &short).unwrap();
    for round in 0..3 {
        append(&log, "a").await.unwrap();
        commit(&state, "b").await.unwrap();
        disk.fill();
        let e = append(&log, "refused").await.unwrap_err();
        assert_eq!((e.kind, e.certainty), (Kind::Full, Certainty::Determinate));
        let e = commit(&state, "refused").await.unwrap_err();
        assert_eq!((e.kind, e.certainty), (Kind::Unavailable, Certainty::Determinate));
        assert_eq!(log.read(Topic::Events, 0, 0, ALL).await.unwrap().len(), round + 1);
        disk.free();
    }
    append(&log, "a").await.unwrap();
    commit(&state, "b").await.unwrap();
    let texts = log.read(Topic::Events, 0, 0, ALL).await.unwrap();
    assert!(texts.len() == 4 && texts.iter().all(|record| record.bytes == "a"));
}

/// Without the check for room: writes fail in the middle, fjall gives up for good, and the
/// database is opened again underneath the handles.
#[tokio::test]
async fn a_write_that_runs_out_of_room_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount(48) else { return };
    let (log, state) = embedded::open(disk.0.path(), &options()).unwrap();
    let long = "x".repeat(100_000);
    let (mut acknowledged, mut failed) = (Vec::new(), 0);
    for round in 0..3 {
        append(&log, "before").await.unwrap();
        commit(&state, "before").await.unwrap();
        disk.fill();
        for i in 0..20 {
            let text = format!("{round} {i} {long}");
            match append(&log, &text).await {
                Ok(()) => acknowledged.push(text.clone()),
                Err(_) => failed += 1,
            }
            failed += usize::from(commit(&state, &text).await.is_err());
        }
        disk.free();
        recovers(&log, &state).await;
    }
    assert!(failed > 0, "the disk was never full");
    drop((log, state));
    let (log, state) = embedded::open(disk.0.path(), &options()).unwrap();
    let records = log.read(Topic::Events, 0, 0, ALL).await.unwrap();
    let mut stored = records.iter().map(|record| &record.bytes[..]);
    for text in &acknowledged {
        assert!(stored.any(|bytes| bytes == text.as_bytes()), "an acknowledged record is lost");
    }
    let row = state.get(SHARD, &[bytes("row")]).await.unwrap();
    assert_eq!(row, [Some(bytes("after"))]);
    let outcomes = log.read(Topic::Outcomes, 0, 0, ALL).await.unwrap();
    assert_eq!(outcomes.len() as u64, state.head(SHARD).await.unwrap().seq);
}

/// Soon after there is room again, without being opened by hand.
async fn recovers(log: &EventLog, state: &StateStore) {
    for _ in 0..100 {
        let results = (append(log, "after").await, commit(state, "after").await);
        if let (Ok(()), Ok(())) = results {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the databases did not recover");
}
