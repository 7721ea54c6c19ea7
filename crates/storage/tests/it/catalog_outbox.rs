//! The catalog's outbox: commands wait in order, and callers until theirs are cleared.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use storage::Catalog;

use crate::catalog::{every, fresh_file, link, new, run, with_command};

async fn commands_wait_in_the_outbox_in_order_until_they_are_cleared(catalog: Catalog) {
    let first = catalog
        .apply(vec![
            with_command(link("a", 1, "{}"), 3, b"a"),
            new(link("b", 1, "{}")),
            with_command(link("c", 1, "{}"), 65_535, b""),
        ])
        .await
        .unwrap();
    let second = catalog.apply(vec![with_command(link("d", 1, "{}"), 0, b"d")]).await.unwrap();
    assert_eq!((first.len(), second.len()), (2, 1));
    assert!(first[0] < first[1] && first[1] < second[0]);

    let rows = catalog.outbox(9).await.unwrap();
    let seen: Vec<_> = rows.iter().map(|r| (r.id, r.partition, &r.record[..])).collect();
    assert_eq!(seen, [(first[0], 3, &b"a"[..]), (first[1], 65_535, b""), (second[0], 0, b"d")]);
    assert_eq!(catalog.outbox(1).await.unwrap(), rows[..1]);

    catalog.outbox_clear(&[first[1], second[0], 999]).await.unwrap();
    catalog.outbox_clear(&[]).await.unwrap();
    assert_eq!(catalog.outbox(9).await.unwrap(), rows[..1]);
    // An id that was cleared does not come back, though it was the highest.
    let third = catalog.apply(vec![with_command(link("e", 1, "{}"), 0, b"e")]).await.unwrap();
    assert!(third[0] > second[0]);
}

async fn a_caller_waits_until_its_own_commands_are_cleared(catalog: Catalog) {
    catalog.outbox_cleared(&[]).await.unwrap();
    let mine = catalog.apply(vec![with_command(link("a", 1, "{}"), 0, b"a")]).await.unwrap();
    let other = catalog.apply(vec![with_command(link("b", 1, "{}"), 0, b"b")]).await.unwrap();
    let waiting = catalog.outbox_cleared(&mine);
    let relay = async {
        catalog.outbox_filled().await.unwrap();
        catalog.outbox_clear(&other).await.unwrap();
        tokio::task::yield_now().await;
        catalog.outbox_clear(&mine).await.unwrap();
    };
    let (waited, ()) = tokio::join!(waiting, relay);
    waited.unwrap();
    assert!(catalog.outbox(9).await.unwrap().is_empty());
}

/// In memory an answer is there in the first poll, so "still waiting" can be told for certain.
#[test]
fn waiting_ends_with_the_change_waited_for_and_not_before() {
    let catalog = Catalog::memory().unwrap();
    let poll = |future: std::pin::Pin<&mut dyn Future<Output = Result<(), storage::Error>>>| {
        matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    };
    let mut filled = pin!(catalog.outbox_filled());
    assert!(!poll(filled.as_mut()));
    let mine = run(catalog.apply(vec![with_command(link("a", 1, "{}"), 0, b"a")])).unwrap();
    assert!(poll(filled.as_mut()));

    let other = run(catalog.apply(vec![with_command(link("b", 1, "{}"), 0, b"b")])).unwrap();
    let mut cleared = pin!(catalog.outbox_cleared(&mine));
    assert!(!poll(cleared.as_mut()));
    run(catalog.outbox_clear(&other)).unwrap();
    assert!(!poll(cleared.as_mut()));
    run(catalog.outbox_clear(&mine)).unwrap();
    assert!(poll(cleared.as_mut()));
}

/// More than a queue of queries would take, all waiting for a relay that clears one at a time.
async fn however_many_wait_each_is_told_when_its_own_command_is_cleared(catalog: Catalog) {
    const WAITERS: usize = 2_000;
    let links = (0..WAITERS).map(|n| link(&format!("l{n}"), 1, "{}"));
    let changes = links.map(|link| with_command(link, 0, b"c")).collect();
    let ids = catalog.apply(changes).await.unwrap();
    let mut waiters = tokio::task::JoinSet::new();
    for id in ids.clone() {
        let catalog = catalog.clone();
        waiters.spawn(async move { catalog.outbox_cleared(&[id]).await });
    }
    tokio::task::yield_now().await;
    let (first, rest) = ids.split_at(10);
    for id in first {
        catalog.outbox_clear(&[*id]).await.unwrap();
    }
    for _ in first {
        waiters.join_next().await.unwrap().unwrap().unwrap();
    }
    assert!(waiters.try_join_next().is_none(), "one was told before its time");
    catalog.outbox_clear(rest).await.unwrap();
    while let Some(told) = waiters.join_next().await {
        told.unwrap().unwrap();
    }
}

#[test]
fn what_another_process_has_queued_or_cleared_is_known_to_waiters() {
    let file = fresh_file("waiters_reopened");
    let queued = run(async {
        let catalog = Catalog::open(&file).unwrap();
        let changes = ["a", "b"].map(|id| with_command(link(id, 1, "{}"), 0, b"c"));
        let queued = catalog.apply(changes.into()).await.unwrap();
        catalog.outbox_clear(&queued[..1]).await.unwrap();
        queued
    });
    run(async {
        let catalog = Catalog::open(&file).unwrap();
        catalog.outbox_cleared(&queued[..1]).await.unwrap();
        let relay = async {
            tokio::task::yield_now().await;
            catalog.outbox_clear(&queued).await.unwrap();
        };
        let (waited, ()) = tokio::join!(catalog.outbox_cleared(&queued), relay);
        waited.unwrap();
        assert!(catalog.outbox(1).await.unwrap().is_empty());
    });
}

every!(
    commands_wait_in_the_outbox_in_order_until_they_are_cleared,
    a_caller_waits_until_its_own_commands_are_cleared,
    however_many_wait_each_is_told_when_its_own_command_is_cleared,
);
