//! What recovery in place does to readers, and to files a failed sync has put in doubt.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;

const LAYOUT: Layout = Layout {
    name: "test",
    keyspaces: &[("k", KeyspaceCreateOptions::default)],
    cache_bytes: 1 << 20,
    min_free_bytes: 0,
};

fn disk() -> (tempfile::TempDir, Disk) {
    let dir = tempfile::TempDir::new().unwrap();
    let disk = Disk::open(&dir.path().join("d"), LAYOUT).unwrap();
    (dir, disk)
}

fn put(disk: &Disk, key: &str) -> Result<(), Error> {
    disk.write("put", |open, batch| batch.insert(&open.keyspaces[0], key, "value"))
}

fn has(disk: &Disk, key: &str) -> Result<bool, Error> {
    disk.read("has", |open| Ok(open.keyspaces[0].get(key)?.is_some()))
}

#[test]
fn readers_fail_at_once_while_it_is_recovered() {
    let (_dir, disk) = disk();
    put(&disk, "a").unwrap();
    let refused = std::thread::scope(|scope| {
        let recovery = scope.spawn(|| disk.recover());
        let mut refused = 0;
        while !recovery.is_finished() {
            match has(&disk, "a") {
                Ok(found) => assert!(found),
                Err(e) => {
                    assert_eq!((e.kind, e.certainty), (Kind::Unavailable, Certainty::Determinate));
                    refused += 1;
                }
            }
        }
        assert!(recovery.join().unwrap());
        refused
    });
    assert!(refused > 0, "readers waited for the recovery");
    assert!(has(&disk, "a").unwrap());
}

fn inode(disk: &Disk) -> u64 {
    fs::metadata(disk.path().join("0.jnl")).unwrap().ino()
}

#[test]
fn journals_are_written_anew_after_a_failed_sync_and_only_then() {
    let (_dir, disk) = disk();
    put(&disk, "a").unwrap();
    let before = inode(&disk);
    assert!(disk.recover());
    assert_eq!(inode(&disk), before, "nothing was in doubt");
    disk.fails_next.store(true, Ordering::Release);
    assert_eq!(put(&disk, "b").unwrap_err().certainty, Certainty::Indeterminate);
    let after = inode(&disk);
    assert_ne!(after, before, "what is replayed was never synced");
    put(&disk, "c").unwrap();
    assert!(disk.recover());
    assert_eq!(inode(&disk), after);
    for key in ["a", "b", "c"] {
        assert!(has(&disk, key).unwrap(), "{key}");
    }
}

#[test]
fn a_journal_that_cannot_be_written_anew_keeps_the_database_closed() {
    let (_dir, disk) = disk();
    put(&disk, "a").unwrap();
    let blocker = disk.path().join("journal.copy");
    fs::create_dir(&blocker).unwrap();
    disk.fails_next.store(true, Ordering::Release);
    put(&disk, "b").unwrap_err();
    let e = has(&disk, "a").unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Unavailable, Certainty::Determinate));
    fs::remove_dir(&blocker).unwrap();
    disk.prepare("put", Kind::Full, 1).unwrap();
    assert!(has(&disk, "a").unwrap() && has(&disk, "b").unwrap());
}

#[test]
fn a_full_disk_puts_nothing_in_doubt() {
    let (_dir, disk) = disk();
    let io = |errno: rustix::io::Errno| fjall::Error::Io(errno.into());
    for (cause, is_in_doubt) in [
        (fjall::Error::Poisoned, false),
        (io(rustix::io::Errno::NOSPC), false),
        (io(rustix::io::Errno::IO), true),
    ] {
        disk.distrust(&cause);
        assert_eq!(disk.is_unsynced.load(Ordering::Acquire), is_in_doubt, "{cause}");
    }
}
