//! The schedule, what bends it, and that it survives restarts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dispatcher::attempt::{Answer, NoAnswer};
use dispatcher::transport::{Reply, WebhookRequest};
use schemas::proto::DeliveryRow;

use crate::world::{SECRET, START_MS, World, scope, scripted};

const URL: &str = "https://a.example.com/hook";

/// Waits between attempts of a failing delivery, in seconds, before jitter.
const WAITS_S: [i64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// Attempt numbers are contiguous from 1, and each wait is the schedule's with its jitter.
fn check_schedule(row: &DeliveryRow) {
    for (i, attempt) in row.attempts.iter().enumerate() {
        assert_eq!(attempt.number as usize, i + 1);
    }
    for (pair, wait_s) in row.attempts.windows(2).zip(WAITS_S) {
        let waited = pair[1].started_at_ms - pair[0].started_at_ms - pair[0].duration_ms;
        let (least, most) = (wait_s * 1_000 + 1_000, wait_s * 1_200 + 2_000);
        assert!((least..=most).contains(&waited), "waited {waited} ms for {wait_s} s");
        assert_eq!(pair[0].next_attempt_at_ms, pair[1].started_at_ms, "as the log announced");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_attempts_over_three_days_and_then_exhausted() {
    let world = World::new();
    let id = world.endpoint(scope(5), URL, &["*"]).await;
    let (transport, script) = scripted(|_| Reply::status(500));
    let running = world.start(transport);
    world.campaigns(scope(5), 1).await;
    tokio::time::sleep(Duration::from_secs(90 * 3_600)).await;
    running.stop().await;
    let row = world.deliveries(scope(5), id).await.remove(0);
    assert_eq!((row.status.as_str(), row.attempts.len(), row.due_at_ms), ("exhausted", 10, 0));
    check_schedule(&row);
    let total_s = (row.attempts[9].started_at_ms - START_MS) / 1_000;
    assert!(
        (272_105..272_105 + 3_600 * 2).contains(&total_s),
        "75 h 35 m 05 s and jitter: {total_s}"
    );
    let last = row.attempts.last().expect("attempts");
    assert_eq!((last.result.as_str(), last.status_code), ("http_status", Some(500)));
    let sent = script.sent();
    assert_eq!(sent.iter().map(|s| s.attempt).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    let secret = dispatcher::sign::Secret::parse(SECRET).expect("a secret");
    for (request, attempt) in sent.iter().zip(&row.attempts) {
        assert_eq!((&request.id, &request.body), (&sent[0].id, &row.payload));
        assert_eq!(request.timestamp_s, attempt.started_at_ms / 1_000, "of the attempt");
        let want = secret.sign(&request.id, request.timestamp_s, &request.body);
        assert_eq!(request.signature, want);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_with_the_stored_schedule() {
    let world = World::new();
    let id = world.endpoint(scope(5), URL, &["*"]).await;
    let (transport, script) = scripted(|_| Reply::status(500));
    let running = world.start(transport.clone());
    world.campaigns(scope(5), 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    running.kill().await;
    assert_eq!(script.sent().len(), 2);
    let due = world.deliveries(scope(5), id).await[0].due_at_ms;
    // Down for a while, up again before it is due, then down while it becomes due.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let running = world.start(transport.clone());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(script.sent().len(), 2, "not before it is due");
    running.stop().await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let running = world.start(transport);
    tokio::time::sleep(Duration::from_secs(90 * 3_600)).await;
    running.stop().await;
    let row = world.deliveries(scope(5), id).await.remove(0);
    assert_eq!((row.status.as_str(), row.attempts.len()), ("exhausted", 10));
    assert!(row.attempts[2].started_at_ms >= due + 3_600_000 - 240_000, "late, not lost");
    assert_eq!(script.sent().len(), 10, "none made twice");
}

/// A crash between a receiver's answer and its record: sent again, and logged once.
#[tokio::test(start_paused = true)]
async fn a_crash_before_the_record_sends_again() {
    use storage::fault::{Action, Faults, Op, Step};
    let world = World::new();
    let id = world.endpoint(scope(5), URL, &["*"]).await;
    world.campaigns(scope(5), 1).await;
    let faults = Faults::default();
    faults.at(Op::Commit, Step::Before, 2, Action::Crash);
    let (log, state) = world.memory.open();
    let (log, state) = faults.wrap(log, state);
    let (transport, script) = scripted(|_| Reply::status(200));
    let running = world.start_with(transport.clone(), log, state);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((faults.crashes(), script.sent().len()), (1, 1));
    running.kill().await;
    let running = world.start(transport);
    let rows = world.settled(scope(5), id, 1).await;
    running.stop().await;
    assert_eq!((rows[0].attempts.len(), rows[0].attempts[0].number), (1, 1));
    let ids: Vec<_> = script.sent().into_iter().map(|s| (s.id, s.attempt)).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1], "the receiver can tell it is the same");
}

/// The wait after a first attempt that was answered so.
async fn first_wait_ms(status: u16, retry_after: Option<&str>) -> i64 {
    let world = World::new();
    let id = world.endpoint(scope(5), URL, &["*"]).await;
    let retry_after = retry_after.map(|value| value.as_bytes().to_vec());
    let (transport, _) = scripted(move |request: &WebhookRequest| {
        let status = if request.attempt == 1 { status } else { 200 };
        let answer = Answer { status, retry_after: retry_after.clone(), body: Vec::new() };
        Reply { after: Duration::ZERO, answer: Ok(answer) }
    });
    let running = world.start(transport);
    world.campaigns(scope(5), 1).await;
    tokio::time::sleep(Duration::from_secs(11 * 3_600)).await;
    let row = world.settled(scope(5), id, 1).await.remove(0);
    running.stop().await;
    assert_eq!(row.attempts.len(), 2);
    row.attempts[1].started_at_ms - row.attempts[0].started_at_ms - row.attempts[0].duration_ms
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_a_floor_and_nothing_more() {
    // Status, Retry-After, least and most wait in ms.
    let cases = [
        (500, None, 6_000, 6_100),
        (500, Some("0"), 6_000, 6_100),
        (500, Some("120"), 120_000, 120_100),
        (500, Some("999999999"), 36_000_000, 36_000_100),
        (500, Some("inf"), 6_000, 6_100),
        (500, Some("1e300"), 6_000, 6_100),
        (500, Some("-1"), 6_000, 6_100),
        (500, Some(""), 6_000, 6_100),
        (500, Some("Fri, 31 Dec 9999 23:59:59 GMT"), 36_000_000, 36_000_100),
        (500, Some("Tue, 14 Oct 2025 12:02:00 GMT"), 119_000, 120_100),
        (301, None, 6_000, 6_100),
        (503, None, 60_000, 72_100),
        (429, Some("30"), 60_000, 72_100),
        (429, Some("300"), 300_000, 300_100),
    ];
    for (status, hint, least, most) in cases {
        let waited = first_wait_ms(status, hint).await;
        assert!((least..=most).contains(&waited), "{status} {hint:?}: waited {waited} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_hears_no_more() {
    let world = World::new();
    let id = world.endpoint(scope(5), URL, &["*"]).await;
    let (transport, script) = scripted(|_| Reply::status(410));
    let running = world.start(transport);
    world.campaigns(scope(5), 1).await;
    let row = world.settled(scope(5), id, 1).await.remove(0);
    assert_eq!((row.status.as_str(), row.attempts[0].result.as_str()), ("exhausted", "gone"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let endpoint = world.stored(id).await;
    assert_eq!((endpoint.active, endpoint.version), (false, 2));
    world.campaigns(scope(5), 3).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    running.stop().await;
    assert_eq!(script.sent().len(), 1);
    assert_eq!(world.deliveries(scope(5), id).await.len(), 1);
}

/// What is sent and comes back on a kept connection that had been closed is no attempt.
#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_tried_once_more_at_once() {
    for (unsent, want) in [(1, "delivered"), (2, "reset")] {
        let world = World::new();
        let id = world.endpoint(scope(5), URL, &["*"]).await;
        let calls = AtomicU32::new(0);
        let (transport, _) = scripted(move |_| {
            if calls.fetch_add(1, Ordering::Relaxed) < unsent {
                return Reply { after: Duration::ZERO, answer: Err(NoAnswer::Unsent) };
            }
            Reply::status(200)
        });
        let running = world.start(transport);
        world.campaigns(scope(5), 1).await;
        let row = world.settled(scope(5), id, 1).await.remove(0);
        running.stop().await;
        assert_eq!(row.attempts[0].result, want);
        assert_eq!(row.attempts.len(), if unsent == 1 { 1 } else { 2 });
    }
}

/// While state cannot be read nothing is charged, and it goes on afterwards.
#[tokio::test(start_paused = true)]
async fn our_own_faults_are_no_attempts() {
    use storage::fault::{Action, Faults, Op, Step};
    let world = World::new();
    let id = world.endpoint(scope(5), URL, &["*"]).await;
    let faults = Faults::default();
    for nth in 1..=3 {
        faults.at(Op::Get, Step::Before, nth, Action::Fail(storage::Kind::Unavailable));
        faults.at(Op::Scan, Step::Before, nth, Action::Fail(storage::Kind::Unavailable));
        faults.at(Op::Read, Step::Before, nth, Action::Fail(storage::Kind::Unavailable));
    }
    let (log, state) = world.memory.open();
    let (log, state) = faults.wrap(log, state);
    let (transport, script) = scripted(|_| Reply::status(200));
    let running = world.start_with(transport, log, state);
    world.campaigns(scope(5), 1).await;
    let row = world.settled(scope(5), id, 1).await.remove(0);
    running.stop().await;
    assert_eq!((row.attempts.len(), script.sent().len()), (1, 1));
}

/// An attempt that is under way when the process is told to stop is finished and recorded.
#[tokio::test(start_paused = true)]
async fn stopping_finishes_what_was_begun() {
    let world = World::new();
    let id = world.endpoint(scope(5), URL, &["*"]).await;
    let (transport, script) =
        scripted(|_| Reply { after: Duration::from_secs(10), ..Reply::status(200) });
    let running = world.start(transport);
    world.campaigns(scope(5), 30).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    running.stop().await;
    let rows = world.deliveries(scope(5), id).await;
    let delivered = rows.iter().filter(|row| row.status == "delivered").count();
    assert_eq!((rows.len(), delivered, script.sent().len()), (30, 10, 10));
}

/// What could not be begun for want of room here is no attempt of the receiver's.
#[tokio::test(start_paused = true)]
async fn no_room_for_a_look_up_is_no_attempt() {
    let world = World::new();
    let id = world.endpoint(scope(5), URL, &["*"]).await;
    let calls = AtomicU32::new(0);
    let (transport, script) = scripted(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0..3 => Reply { after: Duration::ZERO, answer: Err(NoAnswer::Busy) },
        _ => Reply::status(200),
    });
    let running = world.start(transport);
    world.campaigns(scope(5), 1).await;
    let row = world.settled(scope(5), id, 1).await.remove(0);
    running.stop().await;
    assert_eq!((row.attempts.len(), row.attempts[0].result.as_str()), (1, "delivered"));
    assert!(script.sent().iter().all(|request| request.attempt == 1));
}
