//! What only ClickHouse can get wrong: two stores that move one after the other, two writers, a
//! server that is away.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::UNIX_EPOCH;

use schemas::partition::Mode;
use storage::analytics::{
    Analytics, Dimension, FACTS_MAX, Fact, Granularity, PerformanceQuery, Source,
};
use storage::clickhouse::{self, ClickHouseOptions, Report};
use storage::fault::{Action, Faults, Op, Step};
use storage::memory::Memory;
use storage::state::{Group, StateStore};
use storage::{Certainty, Kind, Shard};

use super::proxy::{Proxy, Way};
use super::{click, run, sale, sales, scope, year};

const MONDAY: &str = "2025-05-05T10:00:00Z";

/// A database of its own, with the state that belongs to it; dropped with it.
pub(crate) struct Database {
    server: SocketAddr,
    pub(crate) options: ClickHouseOptions,
    memory: Memory,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let database = Self::unmade();
        clickhouse::migrate(&database.options).await.unwrap();
        database
    }

    #[expect(clippy::disallowed_methods, reason = "where a test's server is, its caller says")]
    fn unmade() -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let url = std::env::var("AKTVATOR_TEST_CLICKHOUSE").expect("AKTVATOR_TEST_CLICKHOUSE");
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let server = address.parse().expect("AKTVATOR_TEST_CLICKHOUSE is an address and a port");
        let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let mut options = ClickHouseOptions {
            url: format!("http://{server}"),
            database: format!("test_{}_{now}_{number}", std::process::id()),
            ..ClickHouseOptions::default()
        };
        // So that a report which is not answered from sums fails.
        options.settings.insert("force_optimize_projection".into(), "1".into());
        Self { server, options, memory: Memory::new(8, 1) }
    }

    fn state(&self) -> StateStore {
        self.memory.open().1
    }

    /// What a process gets that begins now.
    pub(crate) async fn connect(&self) -> Analytics {
        clickhouse::connect(&self.options, self.state()).await.unwrap()
    }

    /// The same, with a proxy on the way.
    async fn connect_through(&self) -> (Analytics, Proxy) {
        let proxy = Proxy::to(self.server).await;
        let options = ClickHouseOptions { url: proxy.url.clone(), ..self.options.clone() };
        (clickhouse::connect(&options, self.state()).await.unwrap(), proxy)
    }

    /// The answer to a statement, as tab-separated text.
    fn ask(&self, sql: &str) -> String {
        let sql = sql.replace("{}", &format!("{}.facts", self.options.database));
        let mut stream = TcpStream::connect(self.server).unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            sql.len()
        );
        stream.write_all(format!("{head}{sql}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{sql}: {body}");
        body.trim().to_owned()
    }

    /// That the facts of every source are there once each, and that there are so many.
    fn assert_facts(&self, want: u64) {
        let sql =
            "SELECT sum(c), min(c = m + 1 AND c = u) FROM (SELECT count() AS c, max(seq) AS m,
            uniqExact(seq) AS u FROM {} GROUP BY source, partition)";
        assert_eq!(self.ask(sql), format!("{want}\t1"));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.ask(&format!("DROP DATABASE IF EXISTS {}", self.options.database));
    }
}

async fn next(analytics: &Analytics) -> u64 {
    analytics.position(Source::Outcomes, 0).await.unwrap().next
}

async fn sold(analytics: &Analytics) -> i64 {
    let totals = analytics.performance(&year()).await.unwrap().totals;
    assert_eq!(totals, sales(totals.conversions));
    totals.conversions
}

/// Takes in `n` sales as the records from `from` to before `to`.
async fn apply(
    analytics: &Analytics,
    from: u64,
    to: u64,
    n: usize,
) -> Result<(), (Kind, Certainty)> {
    let facts = vec![sale(MONDAY); n];
    let applied = analytics.apply(Source::Outcomes, 0, from, to, 1_000, &facts).await;
    applied.map_err(|e| (e.kind, e.certainty))
}

const CONFLICT: Result<(), (Kind, Certainty)> = Err((Kind::Conflict, Certainty::Determinate));
const FENCED: Result<(), (Kind, Certainty)> = Err((Kind::Fenced, Certainty::Determinate));
const LOST: Result<(), (Kind, Certainty)> = Err((Kind::Unavailable, Certainty::Indeterminate));
const AWAY: Result<(), (Kind, Certainty)> = Err((Kind::Unavailable, Certainty::Determinate));

/// The table has the cut, and nobody was told: the next writer, in this process or another one,
/// neither takes it in again nor leaves it out.
#[test]
#[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
fn a_cut_whose_answer_was_lost_counts_once() {
    run(async {
        for same_process in [true, false] {
            let database = Database::new().await;
            let (first, proxy) = database.connect_through().await;
            apply(&first, 0, 2, 2).await.unwrap();
            proxy.set(Way::Mute);
            assert_eq!(apply(&first, 2, 7, 5).await, LOST);
            assert_eq!((next(&first).await, sold(&first).await), (2, 7));
            proxy.set(Way::Open);
            let writer = if same_process { first } else { database.connect().await };
            // Whatever is cut this time, what was fixed holds.
            assert_eq!(apply(&writer, 2, 9, 6).await, CONFLICT);
            assert_eq!((next(&writer).await, sold(&writer).await), (7, 7));
            apply(&writer, 7, 9, 1).await.unwrap();
            assert_eq!((next(&writer).await, sold(&writer).await), (9, 8));
            database.assert_facts(8);
        }
    });
}

/// The process dies at each of its commits in turn, before it, and after it without knowing.
#[test]
#[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
fn a_writer_may_die_at_every_step() {
    run(async {
        for step in [Step::Before, Step::Answer] {
            for nth in 1..=4 {
                let database = Database::new().await;
                let faults = Faults::default();
                let (log, state) = database.memory.open();
                let (_, state) = faults.wrap(log, state);
                faults.at(Op::Commit, step, nth, Action::Crash);
                let dying = clickhouse::connect(&database.options, state).await.unwrap();
                let mut at = 0;
                while apply(&dying, at, at + 1, 3).await.is_ok() {
                    at += 1;
                }
                assert!(at < 2, "it did not die");

                let writer = database.connect().await;
                let mut at = next(&writer).await;
                while at < 4 {
                    match apply(&writer, at, at + 1, 3).await {
                        Ok(()) => at += 1,
                        refused => {
                            assert_eq!(refused, CONFLICT);
                            at = next(&writer).await;
                        }
                    }
                    assert_eq!(next(&writer).await, at);
                }
                assert_eq!(sold(&writer).await, 12, "{step:?} {nth}");
                database.assert_facts(12);
            }
        }
    });
}

/// Whoever took a partition over last moves it; the other is told, and may take it back.
#[test]
#[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
fn a_writer_that_lost_its_fence_applies_nothing() {
    run(async {
        let database = Database::new().await;
        let (one, other) = (database.connect().await, database.connect().await);
        apply(&one, 0, 1, 1).await.unwrap();
        apply(&other, 1, 2, 2).await.unwrap();
        // It still believes that the position is 1.
        assert_eq!(apply(&one, 1, 2, 4).await, FENCED);
        assert_eq!((next(&one).await, sold(&one).await), (2, 3));
        apply(&one, 2, 3, 8).await.unwrap();
        assert_eq!(apply(&other, 2, 3, 16).await, FENCED);
        assert_eq!(apply(&other, 2, 3, 16).await, CONFLICT);
        assert_eq!((next(&other).await, sold(&other).await), (3, 11));
        database.assert_facts(11);
    });
}

/// A writer stops between fixing a cut and inserting it, is succeeded, and wakes up.
#[test]
#[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
fn an_insert_that_comes_after_its_successor_adds_nothing() {
    run(async {
        let database = Database::new().await;
        let (late, proxy) = database.connect_through().await;
        apply(&late, 0, 1, 1).await.unwrap();
        proxy.set(Way::Held);
        let sleeper = late.clone();
        let stopped = tokio::spawn(async move { apply(&sleeper, 1, 2, 5).await });
        proxy.inserts(2).await;

        let successor = database.connect().await;
        assert_eq!((next(&successor).await, sold(&successor).await), (1, 1));
        assert_eq!(apply(&successor, 1, 2, 7).await, CONFLICT);
        assert_eq!((next(&successor).await, sold(&successor).await), (2, 6));
        apply(&successor, 2, 3, 1).await.unwrap();

        proxy.set(Way::Open);
        let woken = stopped.await.unwrap();
        assert_eq!(woken, Err((Kind::Fenced, Certainty::Indeterminate)));
        assert_eq!((next(&successor).await, sold(&successor).await), (3, 7));
        database.assert_facts(7);
    });
}

#[test]
#[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
fn a_server_that_was_away_gets_everything_once() {
    run(async {
        let database = Database::new().await;
        let (analytics, proxy) = database.connect_through().await;
        apply(&analytics, 0, 1, 1).await.unwrap();
        proxy.set(Way::Cut);
        assert_eq!(apply(&analytics, 1, 2, 2).await, LOST);
        for _ in 0..3 {
            assert_eq!(apply(&analytics, 1, 2, 2).await, AWAY);
            assert_eq!(next(&analytics).await, 1);
            let error = analytics.performance(&year()).await.unwrap_err();
            assert_eq!(error.kind, Kind::Unavailable);
        }
        // One that begins meanwhile waits too, instead of failing for good.
        let options = ClickHouseOptions { url: proxy.url.clone(), ..database.options.clone() };
        let newcomer = clickhouse::connect(&options, database.state()).await.unwrap();
        assert_eq!(apply(&newcomer, 1, 2, 2).await, AWAY);

        proxy.set(Way::Open);
        assert_eq!(apply(&newcomer, 1, 2, 2).await, CONFLICT);
        assert_eq!((next(&newcomer).await, sold(&newcomer).await), (2, 3));
        apply(&newcomer, 2, 3, 4).await.unwrap();
        assert_eq!((next(&newcomer).await, sold(&newcomer).await), (3, 7));
        database.assert_facts(7);
    });
}

/// All sources share the partition's shard and do not disturb each other.
#[test]
#[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
fn sources_and_partitions_move_side_by_side() {
    run(async {
        let database = Database::new().await;
        let analytics = database.connect().await;
        let sources = [Source::Outcomes, Source::Clicks, Source::Moved];
        let takers = sources.into_iter().flat_map(|source| {
            [0, 5].map(|partition| {
                let analytics = analytics.clone();
                tokio::spawn(async move {
                    for n in 0..8 {
                        let facts = match source {
                            Source::Outcomes => vec![sale(MONDAY); 3],
                            Source::Clicks => vec![click(MONDAY); 2],
                            Source::Moved => vec![sale(MONDAY)],
                        };
                        analytics.apply(source, partition, n, n + 1, 7, &facts).await.unwrap();
                    }
                    let applied = analytics.position(source, partition).await.unwrap();
                    assert_eq!((applied.next, applied.as_of_ms), (8, 7));
                })
            })
        });
        for taker in takers.collect::<Vec<_>>() {
            taker.await.unwrap();
        }
        let totals = analytics.performance(&year()).await.unwrap().totals;
        assert_eq!((totals.conversions, totals.clicks), (64, 32));
        database.assert_facts(96);
        // One write set fixes a cut, one says that it is in.
        let shard = Shard { group: Group::Analytics, partition: 0 };
        assert_eq!(database.state().head(shard).await.unwrap().seq, 48);
    });
}

/// Whatever is asked, no report sums up raw facts.
#[test]
#[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
fn reports_are_read_from_sums() {
    use Dimension::{Aktvator, Code, EventType, Gig, Link};
    run(async {
        let database = Database::new().await;
        let analytics = database.connect().await;
        let facts: Vec<_> = (0..20_000u32)
            .map(|n| Fact { code: Some(format!("C{}", n % 7)), ..sale(MONDAY) })
            .collect();
        for n in 0..3 {
            analytics.apply(Source::Outcomes, 0, n, n + 1, 1, &facts).await.unwrap();
        }
        let spans = [
            Granularity::None,
            Granularity::Hour,
            Granularity::Day,
            Granularity::Week,
            Granularity::Month,
        ];
        for granularity in spans {
            let groups = [vec![], vec![Code], vec![Gig, Aktvator, Link, Code, EventType]];
            for (group_by, rows) in groups.into_iter().zip([1, 7, 7]) {
                let query = PerformanceQuery { granularity, group_by, ..year() };
                let report = analytics.performance(&query).await.unwrap();
                assert_eq!((report.totals, report.rows.len()), (sales(60_000), rows));
            }
        }
    });
}

/// A cut is one block and so one part, however many facts it has and whenever they happened.
#[test]
#[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
fn a_cut_is_one_part() {
    run(async {
        let database = Database::new().await;
        database.ask("SYSTEM STOP MERGES {}");
        let analytics = database.connect().await;
        let dates = ["1969-07-20T20:17:00Z", "2024-02-29T00:00:00Z", "2025-05-05T10:00:00Z"];
        let code = "x".repeat(300);
        let facts: Vec<_> = (0..FACTS_MAX)
            .map(|n| Fact {
                scope: scope(n as u128 % 50, Mode::Test),
                code: Some(format!("{code}{n}")),
                ..sale(dates[n % 3])
            })
            .collect();
        analytics.apply(Source::Outcomes, 0, 0, 1, i64::MAX, &facts).await.unwrap();
        analytics.apply(Source::Outcomes, 0, 1, 2, i64::MIN, &facts[..9]).await.unwrap();
        let sql = format!(
            "SELECT count(), sum(rows) FROM system.parts WHERE active AND database = '{}'",
            database.options.database
        );
        assert_eq!(database.ask(&sql), format!("2\t{}", FACTS_MAX + 9));
        database.assert_facts(FACTS_MAX as u64 + 9);
    });
}

/// State of another installation, or an older copy of it, would name other facts by the tokens of
/// those the table has: they would be lost without a word.
#[test]
#[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
fn a_table_that_is_ahead_of_its_state_halts() {
    run(async {
        let database = Database::new().await;
        apply(&database.connect().await, 0, 1, 3).await.unwrap();
        let elsewhere = Memory::new(8, 1).open().1;
        let analytics = clickhouse::connect(&database.options, elsewhere).await.unwrap();
        assert_eq!(apply(&analytics, 0, 1, 3).await, Err((Kind::Corrupt, Certainty::Determinate)));
        database.assert_facts(3);
    });
}

#[test]
#[ignore = "needs a ClickHouse at AKTVATOR_TEST_CLICKHOUSE"]
fn migrate_makes_what_is_missing_and_refuses_what_is_different() {
    run(async {
        let database = Database::unmade();
        let options = &database.options;
        let early = clickhouse::connect(options, database.state()).await;
        assert_eq!(early.err().unwrap().kind, Kind::Conflict);
        let names = vec![
            format!("database {}", options.database),
            format!("table {}.facts", options.database),
        ];
        let made = clickhouse::migrate(options).await.unwrap();
        assert_eq!(made, Report { created: names.clone(), found: vec![] });
        apply(&database.connect().await, 0, 1, 3).await.unwrap();

        database.ask("ALTER TABLE {} MODIFY SETTING non_replicated_deduplication_window = 0");
        let undone = clickhouse::connect(options, database.state()).await;
        assert_eq!(undone.err().unwrap().kind, Kind::Conflict);
        let again = clickhouse::migrate(options).await.unwrap();
        assert_eq!(again, Report { created: vec![], found: names });
        assert_eq!(sold(&database.connect().await).await, 3);

        for change in ["DROP PROJECTION rollup", "MODIFY COLUMN code LowCardinality(String)"] {
            database.ask(&format!("ALTER TABLE {{}} {change}"));
            let error = clickhouse::migrate(options).await.unwrap_err();
            assert_eq!((error.kind, error.certainty), (Kind::Conflict, Certainty::Determinate));
            let connected = clickhouse::connect(options, database.state()).await;
            assert_eq!(connected.err().unwrap().kind, Kind::Conflict);
        }
    });
}

#[test]
fn options_that_cannot_work_are_refused() {
    run(async {
        let fine = ClickHouseOptions::default();
        let wrong = [
            ClickHouseOptions { database: String::new(), ..fine.clone() },
            ClickHouseOptions { database: "a`b".into(), ..fine.clone() },
            ClickHouseOptions { database: "1a".into(), ..fine.clone() },
            ClickHouseOptions { url: "127.0.0.1:8123".into(), ..fine.clone() },
        ];
        for options in wrong {
            let error = clickhouse::migrate(&options).await.unwrap_err();
            assert_eq!((error.kind, error.certainty), (Kind::Conflict, Certainty::Determinate));
        }
        let secret = ClickHouseOptions { password: Some("hush".into()), ..fine };
        assert!(!format!("{secret:?}").contains("hush"));
    });
}
