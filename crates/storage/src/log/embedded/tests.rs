//! What is told of a write that failed and was stored all the same.

use std::sync::atomic::Ordering;

use super::*;
use crate::Certainty;
use crate::embedded::open_both;

const ALL: ReadLimit = ReadLimit { records: usize::MAX, bytes: usize::MAX };

#[tokio::test]
async fn a_stored_record_is_seen_as_soon_as_its_append_has_failed() {
    let dir = tempfile::TempDir::new().unwrap();
    let options = OpenOptions { min_free_bytes: 0, ..OpenOptions::new(1) };
    let (log, _state) = open_both(dir.path(), &options).unwrap();
    for stored in 1..=2 {
        log.shared.disk.fails_next.store(true, Ordering::Release);
        let text = Bytes::from(format!("record {stored}"));
        let e = log.append(Topic::Events, vec![(3, text.clone())]).await.unwrap_err();
        assert_eq!((e.kind, e.certainty), (Kind::Unavailable, Certainty::Indeterminate));
        assert_eq!(log.bounds(Topic::Events, 3).unwrap().end, stored);
        let records = log.read(Topic::Events, 3, stored - 1, ALL).unwrap();
        assert_eq!(records, [LogRecord { offset: stored - 1, bytes: text }]);
    }
}

#[tokio::test]
async fn a_trim_that_failed_and_happened_has_moved_the_start() {
    let dir = tempfile::TempDir::new().unwrap();
    let options = OpenOptions { min_free_bytes: 0, ..OpenOptions::new(1) };
    let (log, _state) = open_both(dir.path(), &options).unwrap();
    for _ in 0..3 {
        log.append(Topic::Clicks, vec![(0, Bytes::from_static(b"x"))]).await.unwrap();
    }
    log.shared.disk.fails_next.store(true, Ordering::Release);
    let e = log.trim(Topic::Clicks, 0, 2).await.unwrap_err();
    assert_eq!(e.certainty, Certainty::Indeterminate);
    let bounds = log.bounds(Topic::Clicks, 0).unwrap();
    assert_eq!((bounds.start, bounds.end), (2, 3));
    assert_eq!(log.read(Topic::Clicks, 0, 0, ALL).unwrap_err().kind, Kind::OutOfRange);
}
