//! What is shown of a stored event.

use bytes::Bytes;
use serde_json::json;

use super::*;

fn conversion() -> proto::Record {
    let event = proto::ConversionEvent {
        event_id: ConversionEventId::from_u128(1).to_proto(),
        idempotency_key: "order_1".to_owned(),
        event_type: "purchase".to_owned(),
        amount: Some(4900),
        customer: Some(proto::Customer {
            email_hash: Some(Bytes::from_static(&[0xab, 1])),
            ..Default::default()
        }),
        metadata: Bytes::from_static(br#"{"b":1,"a":2}"#),
        ..Default::default()
    };
    proto::Record {
        accepted_at_ms: 5,
        body: Some(proto::record::Body::Conversion(event)),
        ..Default::default()
    }
}

#[test]
fn a_decided_event() {
    let decision = proto::Decision {
        code: "rewarded".to_owned(),
        decided_at_ms: 7,
        attributed_by: Some("code".to_owned()),
        rulebook_version: Some(3),
        rules: vec![proto::RuleDecision {
            rule_key: "pct".to_owned(),
            code: "rewarded".to_owned(),
            reward_id: Some(RewardId::from_u128(2).to_proto()),
            amount: 980,
            currency: "USD".to_owned(),
            arithmetic: Some(proto::Arithmetic {
                base: Some(proto::arithmetic::Base::Percent(proto::Percent {
                    bps: 2000,
                    of: 4900,
                })),
                raw: 980,
                lowered_to_max: Some(900),
                ..Default::default()
            }),
            caps: vec![proto::CapUse {
                period: proto::CapPeriod::Month.into(),
                scope: proto::CapScope::Aktvator.into(),
                metric: proto::CapMetric::Amount.into(),
                bucket: 28 * 12 + 5,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let row = proto::EventRow {
        record: conversion().encode_to_vec().into(),
        offset: 0,
        decision: Some(decision),
        ..Default::default()
    };
    let view = serde_json::to_value(EventView::of(&row).expect("readable")).expect("json");
    assert_eq!(view["status"], "evaluated");
    assert_eq!(view["metadata"], json!({"b": 1, "a": 2}));
    assert_eq!(view["customer"], json!({"emailHash": "ab01"}));
    assert_eq!(view["occurredAt"], "1970-01-01T00:00:00.005Z");
    assert_eq!(view["attribution"], json!({"by": "code"}));
    assert_eq!(view["decision"]["ruleKey"], "pct");
    assert_eq!(view["decision"]["rulebookVersion"], 3);
    assert_eq!(view["decision"]["rewards"][0]["amount"], 980);
    assert_eq!(view["decision"].get("detail"), None);
    let rule = &view["decision"]["rules"][0];
    assert_eq!(rule["arithmetic"], json!(["percent 2000 bps of 4900 = 980", "lowered to max 900"]));
    assert_eq!(rule["caps"][0]["bucket"], "1998-06");
    assert_eq!(rule["caps"][0]["scope"], "aktvator");
    assert_eq!(view["timeline"][1]["what"], "evaluated");
}

#[test]
fn what_is_no_event_is_refused() {
    let tick = proto::Record {
        body: Some(proto::record::Body::Tick(proto::Tick {})),
        ..Default::default()
    };
    let row = proto::EventRow { record: tick.encode_to_vec().into(), ..Default::default() };
    assert_eq!(EventView::of(&row).err(), Some(UnreadableEvent));
    let queued = EventView::of_record(conversion(), None).expect("readable");
    assert_eq!(queued.status, EventStatus::Queued);
}
