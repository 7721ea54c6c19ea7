//! An owner that has lost its partition reads rows of its successor among its own: it must stop, not
//! panic and not decide.

use engine::{Entry, Fold, Key, Row, Settings};
use prost::Message;
use schemas::proto::{self, record::Body};
use serde_json::json;

use crate::script::with_defaults;
use crate::world::{self, CAMPAIGN, SCOPE, World, record};

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

/// An event on its way to the store is enough to know its repeat, which, were it none, would need an aktvator
/// that nobody has looked up.
#[test]
fn a_repeat_needs_nothing_but_its_event() {
    let event = || {
        let said = proto::ConversionEvent {
            event_type: "purchase".into(),
            campaign_id: Some(CAMPAIGN.to_proto()),
            attribution_code: Some("AK".into()),
            ..proto::ConversionEvent::default()
        };
        world::conversion("e", said)
    };
    let mut world = World::default();
    world.append(1, world::campaign(CAMPAIGN, 1, "active"));
    world.append(1, world::rulebook(1, 0, &with_defaults(json!({}))));
    world.append(2, event());
    world.append(3, world::code("AK", 1, CAMPAIGN, 30));
    world.append(4, event());
    world.run_warm(4, 1);
    let repeat = world.outcomes.last().and_then(|outcome| outcome.body.as_ref());
    assert!(matches!(repeat, Some(proto::outcome::Body::EventDecided(event)) if event.repeat));
}
