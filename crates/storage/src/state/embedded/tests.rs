//! What is told of a write set that failed and was stored all the same.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::Certainty;
use crate::embedded::open_both;

const SHARD: Shard = Shard { group: Group::Evaluator, partition: 2 };

#[tokio::test]
async fn the_head_is_true_as_soon_as_a_commit_has_failed() {
    let dir = tempfile::TempDir::new().unwrap();
    let options = OpenOptions { min_free_bytes: 0, ..OpenOptions::new(1) };
    let (_log, state) = open_both(dir.path(), &options).unwrap();
    let (epoch, _) = state.acquire(SHARD).await.unwrap();
    let waiting = tokio::spawn({
        let state = state.clone();
        async move { state.committed(SHARD, 7).await }
    });
    let rows = vec![(Bytes::from_static(b"key"), Some(Bytes::from_static(b"row")))];
    let outcomes = vec![Bytes::from_static(b"outcome")];
    let set = WriteSet { seq: 1, next_offset: 7, rows, outcomes, ..Default::default() };
    state.shared.disk.fails_next.store(true, Ordering::Release);
    let e = state.commit(SHARD, epoch, set.clone()).await.unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Unavailable, Certainty::Indeterminate));
    let head = state.head(SHARD).await.unwrap();
    assert_eq!((head.seq, head.next_offset), (1, 7));
    assert_eq!(state.outcomes_extent(2).unwrap().end.get(), 1);
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    waited.expect("the wait ends without another commit").unwrap().unwrap();
    // The same epoch goes on behind it, and what is repeated is refused.
    assert_eq!(state.commit(SHARD, epoch, set).await.unwrap_err().kind, Kind::Fenced);
    state.commit(SHARD, epoch, WriteSet { seq: 2, ..Default::default() }).await.unwrap();
}

/// Who reads the head again and again must not need another to write.
#[tokio::test]
async fn the_head_is_known_again_without_a_write() {
    let dir = tempfile::TempDir::new().unwrap();
    let options = OpenOptions { min_free_bytes: 0, ..OpenOptions::new(1) };
    let (_log, state) = open_both(dir.path(), &options).unwrap();
    let (epoch, _) = state.acquire(SHARD).await.unwrap();
    // Where recovery wants to write a file.
    let blocker = dir.path().join("state").join("journal.copy");
    std::fs::create_dir(&blocker).unwrap();
    state.shared.disk.fails_next.store(true, Ordering::Release);
    let set = WriteSet { seq: 1, ..Default::default() };
    let e = state.commit(SHARD, epoch, set).await.unwrap_err();
    assert_eq!(e.certainty, Certainty::Indeterminate);
    let e = state.head(SHARD).await.unwrap_err();
    assert_eq!((e.kind, e.certainty), (Kind::Unavailable, Certainty::Determinate));
    std::fs::remove_dir(&blocker).unwrap();
    assert_eq!(state.head(SHARD).await.unwrap().seq, 1);
}
