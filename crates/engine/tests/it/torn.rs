//! An owner that has lost its partition reads rows of its successor among its own: it must stop, not
//! panic and not decide.

use engine::{Entry, Fold, Key, Row, Settings};
use prost::Message;
use schemas::proto::{self, record::Body};

use crate::world::{SCOPE, record};

/// A wallet with one reward that waits, whose row the successor has deleted.
fn wallet() -> proto::WalletRow {
    proto::WalletRow {
        currency: "USD".into(),
        available: 1_000,
        hold_first: 4,
        hold_next: 5,
        ..proto::WalletRow::default()
    }
}

#[test]
fn rows_that_do_not_fit_together_are_not_decided_on() {
    let mut fold = Fold::new(Settings::default(), 0);
    let release = Body::ReleaseHolds(proto::ReleaseHolds { hold_first: 4 });
    let entry = Entry::decode(7, record(1, release).encode_to_vec().into()).expect("a record");
    let entries = [entry];
    let mut asked = Vec::new();
    loop {
        assert_eq!(fold.decide(&entries), 0);
        let wanted = fold.wants(&entries);
        if wanted.is_empty() {
            break;
        }
        for key in wanted {
            let row = (key == Key::Wallet(SCOPE)).then(|| Row::Wallet(wallet()));
            asked.push(key.clone());
            fold.learn(key, row);
        }
    }
    assert!(asked.contains(&Key::Hold(SCOPE, 4)), "{asked:?}");
    let verdict = fold.take();
    assert!(verdict.outcomes.is_empty() && verdict.appends.is_empty());
    assert_eq!(verdict.writes, []);
}
