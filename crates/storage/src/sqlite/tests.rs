//! What the ports rely on: who waits for whom, and what is left after a failure.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Waker};

use super::*;
use crate::error::Certainty;

const LAYOUT: Layout = Layout {
    name: "test",
    durability: Durability::Synced,
    migrations: &["CREATE TABLE t (x BLOB NOT NULL) STRICT"],
};
const TWO_VERSIONS: &[&str] = &[LAYOUT.migrations[0], "ALTER TABLE t ADD COLUMN y INTEGER"];
/// A wait that only a failing test reaches the end of.
const LONG: Duration = Duration::from_secs(20);

/// A file in a directory that is removed with the guard.
fn file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.sqlite");
    (directory, path)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

async fn insert(database: &Database, bytes: usize) -> Result<(), Error> {
    database
        .write("insert", move |connection| {
            atomically(connection, "insert", |c| {
                let inserted = c.execute("INSERT INTO t VALUES (zeroblob(?1))", [bytes as i64]);
                inserted.map(drop).map_err(|e| failed("insert", e))
            })
        })
        .await
}

async fn count(database: &Database) -> i64 {
    let sql = "SELECT count(*) FROM t";
    database.query("count", move |c| c.query_row(sql, [], |row| row.get(0))).await.unwrap()
}

async fn limit_pages(database: &Database, pages: i64) {
    database
        .write("limit", move |c| {
            let set = c.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
            set.map_err(|e| failed("limit", e))
        })
        .await
        .unwrap();
}

#[test]
fn a_full_store_says_so_loses_nothing_and_recovers_by_itself() {
    let (_directory, path) = file();
    run(async {
        for database in [Database::open(&path, LAYOUT), Database::memory(LAYOUT)] {
            let database = database.unwrap();
            insert(&database, 10).await.unwrap();
            limit_pages(&database, 4).await;
            for _ in 0..3 {
                let error = insert(&database, 100_000).await.unwrap_err();
                assert_eq!((error.kind, error.certainty), (Kind::Full, Certainty::Determinate));
                assert_eq!(count(&database).await, 1);
            }
            limit_pages(&database, 4_000).await;
            insert(&database, 100_000).await.unwrap();
            assert_eq!(count(&database).await, 2);
        }
    });
}

#[test]
fn an_error_in_the_body_rolls_back() {
    let (_directory, path) = file();
    run(async {
        let stores = [
            Database::open(&path, LAYOUT),
            Database::memory(LAYOUT),
            Database::unsynced_memory(LAYOUT),
        ];
        for database in stores {
            let database = database.unwrap();
            let result: Result<(), Error> = database
                .write("half", |connection| {
                    atomically(connection, "half", |c| {
                        c.execute("INSERT INTO t VALUES (x'00')", []).unwrap();
                        Err(Error::determinate("half", Kind::Conflict))
                    })
                })
                .await;
            assert_eq!(result.unwrap_err().kind, Kind::Conflict);
            assert_eq!(count(&database).await, 0);
            insert(&database, 1).await.unwrap();
            assert_eq!(count(&database).await, 1);
        }
    });
}

#[test]
fn a_panicking_job_rolls_back_and_harms_no_other() {
    let (_directory, path) = file();
    run(async {
        let database = Database::open(&path, LAYOUT).unwrap();
        let result: Result<(), Error> = database
            .write("panic", |connection| {
                atomically(connection, "panic", |c| {
                    c.execute("INSERT INTO t VALUES (x'00')", []).unwrap();
                    panic!("on purpose")
                })
            })
            .await;
        let error = result.unwrap_err();
        assert_eq!((error.kind, error.certainty), (Kind::Unavailable, Certainty::Indeterminate));
        insert(&database, 1).await.unwrap();
        assert_eq!(count(&database).await, 1);
    });
}

#[test]
fn a_slow_report_keeps_no_write_waiting_and_sees_one_state() {
    let (_directory, path) = file();
    run(async {
        let database = Database::open(&path, LAYOUT).unwrap();
        insert(&database, 1).await.unwrap();
        let (started, starts) = tokio::sync::oneshot::channel();
        let (written, waits) = mpsc::channel();
        let report = database.scan("report", move |c| {
            let count =
                |c: &Connection| c.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
            let snapshot = c.unchecked_transaction().unwrap();
            let before: i64 = count(&snapshot);
            started.send(()).unwrap();
            waits.recv_timeout(LONG).expect("the write did not wait for this report");
            Ok((before, count(&snapshot)))
        });
        let write = async {
            starts.await.unwrap();
            insert(&database, 1).await.unwrap();
            written.send(()).unwrap();
        };
        let (seen, ()) = tokio::join!(report, write);
        assert_eq!(seen.unwrap(), (1, 1));
        assert_eq!(count(&database).await, 2);
    });
}

#[test]
fn scans_keep_no_look_up_waiting_however_many_there_are() {
    let (_directory, path) = file();
    run(async {
        let database = Database::open(&path, LAYOUT).unwrap();
        insert(&database, 1).await.unwrap();
        let gates: Vec<_> = (0..SCANNERS + 2).map(|_| mpsc::channel::<()>()).collect();
        let (releases, gates): (Vec<_>, Vec<_>) = gates.into_iter().unzip();
        let scans: Vec<_> = gates
            .into_iter()
            .map(|gate| {
                sent(database.scan("scan", move |_| {
                    assert_eq!(gate.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
                    Ok(())
                }))
            })
            .collect();
        let looked = tokio::time::timeout(LONG / 2, count(&database)).await;
        assert_eq!(looked.expect("the look-up waited for a scan"), 1);
        drop(releases);
        for scan in scans {
            scan.await.unwrap();
        }
    });
}

#[test]
fn a_scan_that_takes_too_long_is_given_up_and_the_next_has_all_its_time() {
    const ENDLESS: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)
        SELECT count(*) FROM n";
    let (_directory, path) = file();
    let scan = |sql: &'static str| {
        move |c: &Connection| {
            let found = c.query_row(sql, [], |row| row.get::<_, i64>(0));
            found.map_err(|e| failed("scan", e))
        }
    };
    run(async {
        let database = Database::open(&path, LAYOUT).unwrap();
        insert(&database, 1).await.unwrap();
        let endless = (0..SCANNERS).map(|_| sent(database.scan("scan", scan(ENDLESS))));
        for scan in endless.collect::<Vec<_>>() {
            let ended = tokio::time::timeout(SCAN_TIME_MAX * 5, scan).await;
            let error = ended.expect("it goes on").unwrap_err();
            let (kind, certainty) = (error.kind, error.certainty);
            assert_eq!((kind, certainty), (Kind::Unavailable, Certainty::Determinate));
        }
        for _ in 0..SCANNERS {
            let found = database.scan("scan", scan("SELECT count(*) FROM t")).await;
            assert_eq!(found.unwrap(), 1);
        }
    });
}

#[test]
fn a_queue_at_its_bound_refuses_at_once() {
    let (_directory, path) = file();
    run(async {
        let database = Database::open(&path, LAYOUT).unwrap();
        let (started, starts) = tokio::sync::oneshot::channel();
        let (release, gate) = mpsc::channel::<()>();
        let block = database.write("block", move |_| {
            started.send(()).unwrap();
            assert_eq!(gate.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
            Ok(())
        });
        let mut waiting = vec![sent(block)];
        starts.await.unwrap();
        for _ in 0..QUEUE_JOBS {
            waiting.push(sent(database.write("queued", |_| Ok(()))));
        }
        let error = insert(&database, 1).await.unwrap_err();
        assert_eq!((error.kind, error.certainty), (Kind::Full, Certainty::Determinate));
        drop(release);
        for job in waiting {
            job.await.unwrap();
        }
        insert(&database, 1).await.unwrap();
    });
}

type Sent<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + 'a>>;

/// The job is in the queue after the first poll.
fn sent<'a, T>(job: impl Future<Output = Result<T, Error>> + 'a) -> Sent<'a, T> {
    let mut job: Sent<'a, T> = Box::pin(job);
    assert!(job.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    job
}

#[test]
fn a_file_of_a_newer_program_is_refused_and_an_older_one_is_brought_up_to_date() {
    let (_directory, path) = file();
    let newer = Layout { migrations: TWO_VERSIONS, ..LAYOUT };
    run(async {
        insert(&Database::open(&path, LAYOUT).unwrap(), 1).await.unwrap();
        let database = Database::open(&path, newer).unwrap();
        let sql = "SELECT count(*) FROM t WHERE y IS NULL";
        let kept = database.query("kept", move |c| c.query_row(sql, [], |r| r.get::<_, i64>(0)));
        assert_eq!(kept.await.unwrap(), 1);
        drop(database);
        let error = Database::open(&path, LAYOUT).err().unwrap();
        assert_eq!(error.kind, Kind::Unavailable);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "the schema is of version 2, this program knows up to 1");
    });
}

/// What the log is trimmed after must be a real sync: the commit it forces is in the log file.
#[test]
fn a_sync_in_a_file_commits_and_leaves_the_setting_as_it_was() {
    let (_directory, path) = file();
    let ordered = Layout { durability: Durability::Ordered, ..LAYOUT };
    run(async {
        let database = Database::open(&path, ordered).unwrap();
        insert(&database, 1).await.unwrap();
        let wal = path.with_extension("sqlite-wal");
        let before = std::fs::metadata(&wal).unwrap().len();
        database.sync("sync").await.unwrap();
        assert!(std::fs::metadata(&wal).unwrap().len() > before);
        let synchronous: i64 = database
            .write("look", |c| {
                let value = c.pragma_query_value(None, "synchronous", |row| row.get(0));
                value.map_err(|e| failed("look", e))
            })
            .await
            .unwrap();
        assert_eq!(synchronous, 1, "NORMAL");
    });
}
