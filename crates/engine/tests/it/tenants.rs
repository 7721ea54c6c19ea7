//! What two organizations have in one partition: neither finds the other's, nor hides it.

use engine::{Key, Row};
use schemas::hash::event_id;
use schemas::id::OrganizationId;
use schemas::partition::Scope;
use schemas::proto::reverse_event::Event;
use schemas::proto::{self, record::Body};

use crate::script::{Script, event};
use crate::world::{SCOPE, conversion, record};

const OTHER: Scope = Scope { organization: OrganizationId::from_u128(2), mode: SCOPE.mode };

/// The same record of the other organization.
fn of_other(body: Body) -> proto::Record {
    proto::Record { organization: OTHER.organization.to_proto(), ..record(0, body) }
}

/// The same event and external reference in both.
fn both() -> Script {
    let mut script = Script::new();
    let event = event(&["amount=100", "ref=inv_1"]);
    let Body::Conversion(theirs) = conversion("e", event.clone()) else { panic!("an event") };
    let id = event_id(OTHER, "e").to_proto();
    script.world.append(0, conversion("e", event));
    script.world.append_record(&of_other(Body::Conversion(proto::ConversionEvent {
        event_id: id,
        ..theirs
    })));
    script
}

#[test]
fn a_reference_is_each_ones_own() {
    let mut script = both();
    script.world.run(usize::MAX);
    let of = |scope| {
        let key = Key::External(scope, engine::external_ref("inv_1"));
        match script.world.row(&key) {
            Some(Row::External(row)) => row.event_id,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(of(SCOPE), event_id(SCOPE, "e").to_proto());
    assert_eq!(of(OTHER), event_id(OTHER, "e").to_proto());
}

/// Also while the rows are on their way to the store.
#[test]
fn nobody_reverses_what_is_not_theirs() {
    for batch_max in [1, usize::MAX] {
        let mut script = both();
        let command = proto::ReverseEvent {
            command_id: vec![7; 16].into(),
            event: Some(Event::EventId(event_id(SCOPE, "e").to_proto())),
            reason: "refund".into(),
            ..Default::default()
        };
        script.world.append_record(&of_other(Body::ReverseEvent(command)));
        match batch_max {
            1 => script.world.run_warm(1, 2),
            _ => script.world.run(batch_max),
        }
        let command = Key::Command(OTHER, u128::from_be_bytes([7; 16]));
        let Some(Row::Command(row)) = script.world.row(&command) else { panic!("decided") };
        assert_eq!(row.code, "orphaned");
    }
}
