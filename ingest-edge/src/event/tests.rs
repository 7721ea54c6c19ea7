//! Bodies that are taken and bodies that are not, one line each.

use proptest::prelude::*;
use schemas::id::OrganizationId;
use schemas::partition::Mode;
use serde_json::{Value as Json, json};

use super::*;
use crate::batch::{self, Format};
use crate::click::Click;

const NOW: i64 = 1_767_323_045_678; // 2026-01-02T03:04:05.678Z
const CAMPAIGN: &str = "camp_0000000000000000000000000a";

fn key() -> ClickKey {
    ClickKey::new(&[7; 32])
}

fn scope() -> Scope {
    Scope { organization: OrganizationId::from_u128(9), mode: Mode::Test }
}

fn read(body: &[u8]) -> Result<Accepted, Refused> {
    let key = key();
    batch::single(body, &mut EventReader::new(scope(), Timestamp::from_ms(NOW), &key))
}

fn accepted(body: &Json) -> Accepted {
    read(body.to_string().as_bytes()).expect("valid")
}

fn conversion(accepted: &Accepted) -> proto::ConversionEvent {
    let record = proto::Record::decode(accepted.record.clone()).expect("a record");
    assert_eq!(record.accepted_at_ms, NOW);
    assert_eq!(record.mode(), proto::Mode::Test);
    assert_eq!(OrganizationId::from_proto(&record.organization), Some(scope().organization));
    match record.body {
        Some(proto::record::Body::Conversion(event)) => event,
        other => panic!("{other:?}"),
    }
}

/// The least there is, with `more` on top; a `null` there takes a field away.
fn event(more: Json) -> Json {
    let mut body = json!({"eventType": "purchase", "idempotencyKey": "k", "campaignId": CAMPAIGN});
    let (Json::Object(fields), Json::Object(more)) = (&mut body, more) else { panic!() };
    fields.extend(more);
    body
}

#[test]
fn everything_of_the_full_body_is_kept() {
    let click = Click { link: LinkId::from_u128(4), at: Timestamp::from_ms(NOW - 5) };
    let body = json!({
        "eventType": "customer.signup", "campaignId": CAMPAIGN, "idempotencyKey": "order_9988776655",
        "attributionCode": "abc123", "attributionLinkId": LinkId::from_u128(3),
        "clickId": key().sign(click), "occurredAt": "2026-01-02T03:04:05.678Z",
        "externalRef": "inv_77", "gigId": GigId::from_u128(5), "amount": 4900, "currency": "USD",
        "quantity": 1,
        "customer": {"id": "c", "email": " Customer@Example.com ", "country": "us", "status": "new"},
        "items": [{"sku": "pro", "category": "plans", "amount": 4900, "quantity": 1}, {}],
        "metadata": {"customerId": "m", "email": "other@example.com", "plan": "pro"},
    });
    let read = accepted(&body);
    let event = conversion(&read);
    assert_eq!(read.id, hash::event_id(scope(), "order_9988776655"));
    assert_eq!(read.idempotency_key, "order_9988776655");
    let hash = Bytes::copy_from_slice(&Sha256::digest("customer@example.com"));
    let want = proto::ConversionEvent {
        aktvator_id: None,
        event_id: read.id.to_proto(),
        idempotency_key: read.idempotency_key.clone(),
        fingerprint: Bytes::copy_from_slice(&read.fingerprint),
        event_type: "customer.signup".to_owned(),
        campaign_id: Some(CampaignId::from_u128(10).to_proto()),
        gig_id: Some(GigId::from_u128(5).to_proto()),
        attribution_code: Some("ABC123".to_owned()),
        attribution_link_id: Some(LinkId::from_u128(3).to_proto()),
        click: Some(proto::ClickToken {
            link_id: LinkId::from_u128(4).to_proto(),
            clicked_at_ms: NOW - 5,
        }),
        occurred_at_ms: Some(NOW),
        external_ref: Some("inv_77".to_owned()),
        amount: Some(4900),
        currency: Some("USD".to_owned()),
        quantity: Some(1),
        customer: Some(proto::Customer {
            id: Some("c".to_owned()),
            email_hash: Some(hash),
            country: Some("US".to_owned()),
            status: Some("new".to_owned()),
        }),
        items: vec![
            proto::Item {
                sku: Some("pro".to_owned()),
                category: Some("plans".to_owned()),
                amount: Some(4900),
                quantity: Some(1),
            },
            proto::Item::default(),
        ],
        metadata: Bytes::from_static(br#"{"customerId":"m","plan":"pro"}"#),
    };
    assert_eq!(event, want);
    assert!(!read.record.windows(7).any(|w| w.eq_ignore_ascii_case(b"example")), "plain address");
}

#[test]
fn the_customer_falls_back_to_metadata() {
    let hash = |email: &str| Some(Bytes::copy_from_slice(&Sha256::digest(email)));
    let cases = [
        (json!({}), None, None),
        (json!({"metadata": {"plan": "pro"}}), None, None),
        (json!({"metadata": {"customerId": "m", "email": "A@b.c"}}), Some("m"), hash("a@b.c")),
        (json!({"metadata": {"customerId": 42}}), Some("42"), None),
        (
            json!({"customer": {"id": "c"}, "metadata": {"email": "a@b.c"}}),
            Some("c"),
            hash("a@b.c"),
        ),
        (
            json!({"customer": {"email": "x@y.z"}, "metadata": {"email": "a@b.c"}}),
            None,
            hash("x@y.z"),
        ),
        (json!({"customer": {"email": "x@y.z"}, "metadata": {"email": "?"}}), None, hash("x@y.z")),
        (json!({"customer": {"country": "de"}, "metadata": {"customerId": "m"}}), Some("m"), None),
    ];
    for (more, id, email_hash) in cases {
        let customer = conversion(&accepted(&event(more.clone()))).customer.unwrap_or_default();
        assert_eq!(customer.id.as_deref(), id, "{more}");
        assert_eq!(customer.email_hash, email_hash, "{more}");
    }
}

#[test]
fn what_is_taken() {
    let min = "-9223372036854775808";
    let far = "2026-01-02T03:09:05.678Z";
    let cases = [
        json!({"idempotencyKey": "k".repeat(255), "eventType": "e".repeat(100)}),
        json!({"campaignId": null, "attributionCode": "x"}),
        json!({"campaignId": null, "attributionLinkId": LinkId::from_u128(1)}),
        json!({"gigId": null, "amount": null, "customer": null, "items": null, "metadata": null}),
        json!({"amount": 0, "quantity": 0}),
        json!({"amount": AMOUNT_MAX}),
        json!({"occurredAt": far}),
        json!({"occurredAt": "1997-01-01T00:00:00+01:00"}),
        json!({"customer": {}, "items": [], "metadata": {}}),
        json!({"metadata": {"n": min, "f": 0.5, "a": [1, [2, {"d": 4}]]}}),
        json!({"idempotencyKey": "ünïcödé \" \\ \u{1f600}"}),
        json!({"items": vec![json!({}); 100]}),
    ];
    for more in cases {
        accepted(&event(more));
    }
}

/// Pointer and code of every fault.
fn faults(body: &[u8]) -> Vec<(String, String)> {
    let refused = read(body).expect_err("must be refused");
    refused.faults.into_iter().map(|fault| (fault.path, fault.code.into_owned())).collect()
}

/// The event with `more` is refused for this one fault.
fn refused_for(more: Json, path: &str, code: &str) {
    let want = [(path.to_owned(), code.to_owned())];
    assert_eq!(faults(event(more.clone()).to_string().as_bytes()), want, "{more}");
}

#[test]
fn what_is_refused() {
    let future = "2026-01-02T03:09:05.679Z";
    let late_click = key().sign(Click {
        link: LinkId::from_u128(1),
        at: Timestamp::from_ms(NOW + FUTURE_MAX_MS + 1),
    });
    let forged = ClickKey::new(&[8; 32])
        .sign(Click { link: LinkId::from_u128(1), at: Timestamp::from_ms(NOW) });
    let cases = [
        (json!({"eventType": null}), "/eventType", "required"),
        (json!({"idempotencyKey": null}), "/idempotencyKey", "required"),
        (json!({"campaignId": null}), "/campaignId", "required"),
        (json!({"eventType": ""}), "/eventType", "out_of_range"),
        (json!({"eventType": "e".repeat(101)}), "/eventType", "out_of_range"),
        (json!({"idempotencyKey": ""}), "/idempotencyKey", "out_of_range"),
        (json!({"idempotencyKey": "ü".repeat(128)}), "/idempotencyKey", "out_of_range"),
        (json!({"idempotencyKey": 7}), "/idempotencyKey", "wrong_type"),
        (json!({"idempotencyKey": "a\0b"}), "/idempotencyKey", "nul_character"),
        (json!({"campaignId": "camp_1"}), "/campaignId", "invalid_format"),
        (json!({"campaignId": "gig_0000000000000000000000000a"}), "/campaignId", "invalid_format"),
        (json!({"campaignId": 1}), "/campaignId", "wrong_type"),
        (json!({"gigId": "x"}), "/gigId", "invalid_format"),
        (json!({"gigId": "x".repeat(101)}), "/gigId", "out_of_range"),
        (json!({"attributionLinkId": "x"}), "/attributionLinkId", "invalid_format"),
        (json!({"attributionCode": "x".repeat(65)}), "/attributionCode", "out_of_range"),
        (json!({"clickId": "x"}), "/clickId", "invalid_format"),
        (json!({"clickId": forged}), "/clickId", "invalid_format"),
        (json!({"clickId": late_click}), "/clickId", "event_in_future"),
        (json!({"occurredAt": future}), "/occurredAt", "event_in_future"),
        (json!({"occurredAt": "yesterday"}), "/occurredAt", "invalid_format"),
        (json!({"occurredAt": "2026-01-02"}), "/occurredAt", "invalid_format"),
        (json!({"occurredAt": 1_767_323_045}), "/occurredAt", "wrong_type"),
        (json!({"externalRef": "x".repeat(256)}), "/externalRef", "out_of_range"),
        (json!({"amount": -1}), "/amount", "out_of_range"),
        (json!({"amount": AMOUNT_MAX + 1}), "/amount", "out_of_range"),
        (json!({"amount": u64::MAX}), "/amount", "out_of_range"),
        (json!({"amount": 1e300}), "/amount", "out_of_range"),
        (json!({"amount": 49.5}), "/amount", "wrong_type"),
        (json!({"amount": 49.0}), "/amount", "wrong_type"),
        (json!({"amount": "4900"}), "/amount", "wrong_type"),
        (json!({"amount": true}), "/amount", "wrong_type"),
        (json!({"amount": {"amount": 1}}), "/amount", "wrong_type"),
        (json!({"quantity": 1.5}), "/quantity", "wrong_type"),
        (json!({"quantity": -1}), "/quantity", "out_of_range"),
        (json!({"currency": "usd"}), "/currency", "invalid_format"),
        (json!({"currency": "EURO"}), "/currency", "invalid_format"),
    ];
    for (more, path, code) in cases {
        refused_for(more, path, code);
    }
}

#[test]
fn what_is_refused_inside() {
    let cases = [
        (json!({"customer": "c"}), "/customer", "wrong_type"),
        (json!({"customer": {"id": ""}}), "/customer/id", "out_of_range"),
        (json!({"customer": {"email": "no"}}), "/customer/email", "invalid_format"),
        (json!({"customer": {"email": "a@b@c"}}), "/customer/email", "invalid_format"),
        (json!({"customer": {"country": "USA"}}), "/customer/country", "out_of_range"),
        (json!({"customer": {"country": "é"}}), "/customer/country", "invalid_format"),
        (json!({"customer": {"phone": "1"}}), "/customer/phone", "unknown_field"),
        (json!({"items": {}}), "/items", "wrong_type"),
        (json!({"items": vec![json!({}); 101]}), "/items", "out_of_range"),
        (json!({"items": [{}, 1]}), "/items/1", "wrong_type"),
        (json!({"items": [{"sku": 1}]}), "/items/0/sku", "wrong_type"),
        (json!({"items": [{"price": 1}]}), "/items/0/price", "unknown_field"),
        (json!({"metadata": []}), "/metadata", "wrong_type"),
        (json!({"metadata": {"a": [[[[]]]]}}), "/metadata/a/0/0/0", "too_deep"),
        (json!({"metadata": {"x": "\0"}}), "/metadata/x", "nul_character"),
        (json!({"metadata": {"email": "no"}}), "/metadata/email", "invalid_format"),
        (json!({"metadata": {"email": 5}}), "/metadata/email", "wrong_type"),
        (json!({"metadata": {"customerId": ""}}), "/metadata/customerId", "out_of_range"),
        (json!({"metadata": {"x": "y".repeat(16 * 1024)}}), "/metadata", "too_large"),
        (json!({"organizationId": "org_1"}), "/organizationId", "unknown_field"),
        (json!({"a~b/c": 1}), "/a~0b~1c", "unknown_field"),
    ];
    for (more, path, code) in cases {
        refused_for(more, path, code);
    }
}

#[test]
fn bytes_that_are_refused() {
    let deep = "[".repeat(50_000) + &"]".repeat(50_000);
    let deep_inside = event(json!({})).to_string().replacen('{', &format!("{{\"x\":{deep},"), 1);
    let deep_metadata = format!(
        r#"{{"eventType":"e","idempotencyKey":"k","campaignId":"{CAMPAIGN}","metadata":{{"a":{}1{}}}}}"#,
        "[".repeat(40),
        "]".repeat(40)
    );
    let cases: [(&[u8], &str, &str); 11] = [
        (b"", "", "malformed_json"),
        (b"[]", "", "wrong_type"),
        (b"null", "", "wrong_type"),
        (b"\"x\"", "", "wrong_type"),
        (b"{\"eventType\":}", "", "malformed_json"),
        (b"\xff{}", "", "invalid_utf8"),
        (b"{\"eventType\":\"\xc3\x28\"}", "", "invalid_utf8"),
        (b"{}{}", "", "malformed_json"),
        (deep.as_bytes(), "", "too_deep"),
        (deep_inside.as_bytes(), "", "too_deep"),
        (deep_metadata.as_bytes(), "/metadata/a/0/0/0", "too_deep"),
    ];
    for (body, path, code) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]);
        let first = faults(body).into_iter().next().expect("a fault");
        assert_eq!(first, (path.to_owned(), code.to_owned()), "{shown}");
    }
}

#[test]
fn duplicate_keys_are_refused_everywhere() {
    let cases = [
        (r#""amount":1,"amount":1"#, "/amount"),
        (r#""amount":1,"\u0061mount":1"#, "/amount"),
        (r#""amount":null,"amount":1"#, "/amount"),
        (r#""customer":{"id":"a","id":"a"}"#, "/customer/id"),
        (r#""items":[{},{"sku":"a","sku":"b"}]"#, "/items/1/sku"),
        (r#""metadata":{"a":{"b":1,"b":1}}"#, "/metadata/a/b"),
    ];
    for (more, path) in cases {
        let body =
            format!(r#"{{"eventType":"e","idempotencyKey":"k","campaignId":"{CAMPAIGN}",{more}}}"#);
        let want = [(path.to_owned(), "duplicate_key".to_owned())];
        assert_eq!(faults(body.as_bytes()), want, "{more}");
    }
}

#[test]
fn every_fault_at_once_and_the_key_all_the_same() {
    let body = json!({
        "idempotencyKey": "k7", "amount": "x", "customer": {"id": 1}, "items": [{"sku": ""}],
        "metadata": {"a": "\0"}, "extra": 1,
    });
    let refused = read(body.to_string().as_bytes()).expect_err("must be refused");
    assert_eq!(refused.idempotency_key.as_deref(), Some("k7"));
    let mut paths: Vec<_> = refused.faults.iter().map(|fault| fault.path.as_str()).collect();
    paths.sort_unstable();
    let want = [
        "/amount",
        "/campaignId",
        "/customer/id",
        "/eventType",
        "/extra",
        "/items/0/sku",
        "/metadata/a",
    ];
    assert_eq!(paths, want);
    let many =
        format!("{{{}\"x\":1}}", (0..1_000).map(|i| format!("\"k{i}\":1,")).collect::<String>());
    assert_eq!(faults(many.as_bytes()).len(), 100);
}

#[test]
fn the_fingerprint_is_of_what_the_client_said() {
    let base = accepted(&event(json!({"amount": 5, "metadata": {"a": 1, "b": 2}}))).fingerprint;
    let same = [
        format!(
            r#"{{ "metadata" : {{"a":1 , "b":2}}, "amount": 5,
                "campaignId":"{CAMPAIGN}", "idempotencyKey":"k","eventType":"purchase" }}"#
        ),
        format!(
            r#"{{"eventType":"purch\u0061se","idempotencyKey":"k","campaignId":"{CAMPAIGN}","amount":5,"gigId":null,"metadata":{{"\u0061":1,"b":2}}}}"#
        ),
    ];
    for body in same {
        assert_eq!(read(body.as_bytes()).expect("valid").fingerprint, base, "{body}");
    }
    let other = [
        json!({"amount": 6, "metadata": {"a": 1, "b": 2}}),
        json!({"quantity": 5, "metadata": {"a": 1, "b": 2}}),
        json!({"amount": 5, "metadata": {"a": 1, "b": 3}}),
        json!({"amount": 5, "metadata": {"a": 1, "b": 2, "email": "a@b.c"}}),
        json!({"amount": 5, "metadata": {"a": 1, "b": 2}, "items": [{}]}),
        json!({"amount": 5, "metadata": {"a": 1, "b": 2}, "customer": {"id": "c"}}),
        json!({"amount": 5, "metadata": {"a": 1, "b": 2}, "externalRef": "r"}),
    ];
    let mut seen = std::collections::HashSet::from([base]);
    for more in other {
        assert!(seen.insert(accepted(&event(more.clone())).fingerprint), "{more}");
    }
}

#[test]
fn parts_of_the_fingerprint_cannot_be_mistaken_for_each_other() {
    let prints = [
        json!({"customer": {"id": "a"}, "items": []}),
        json!({"customer": {}, "items": [{"sku": "a"}]}),
        json!({"items": [{"sku": "a"}, {}]}),
        json!({"items": [{}, {"sku": "a"}]}),
        json!({"items": [{"category": "a"}, {}]}),
        json!({"customer": {"id": "a", "status": "b"}}),
        json!({"customer": {"id": "ab"}}),
        json!({"externalRef": "a"}),
    ]
    .map(|more| accepted(&event(more)).fingerprint);
    assert_eq!(std::collections::HashSet::from(prints).len(), prints.len());
}

fn any_event() -> impl Strategy<Value = Vec<(String, Json)>> {
    let text = "[a-zA-Z0-9 _é😀\"\\\\]{1,12}";
    (
        (text, text, proptest::option::of(0..AMOUNT_MAX), proptest::option::of(text)),
        proptest::option::of((text, text)),
        proptest::collection::vec((text, 0..AMOUNT_MAX), 0..4),
        proptest::collection::btree_map(text, 0..99i64, 0..4),
    )
        .prop_map(|((kind, key, amount, reference), customer, items, metadata)| {
            let mut body = event(json!({
                "eventType": kind, "idempotencyKey": key, "amount": amount, "externalRef": reference,
                "items": items.iter().map(|(s, a)| json!({"sku": s, "amount": a})).collect::<Vec<_>>(),
                "metadata": metadata,
            }));
            if let Some((id, status)) = customer {
                body["customer"] = json!({"id": id, "status": status});
            }
            let Json::Object(fields) = body else { unreachable!() };
            fields.into_iter().collect()
        })
}

fn written(fields: &[(String, Json)], pretty: bool) -> String {
    let space = if pretty { " \n\t" } else { "" };
    let members = fields.iter().map(|(name, value)| {
        let text =
            if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        format!("{space}\"{name}\"{space}:{space}{}{space}", text.expect("JSON"))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_same_event_has_the_same_fingerprint(
        (fields, shuffled) in any_event().prop_flat_map(|fields| (Just(fields.clone()), Just(fields).prop_shuffle())),
        pretty: bool,
    ) {
        let alone = read(written(&fields, false).as_bytes()).expect("valid");
        let other = read(written(&shuffled, pretty).as_bytes()).expect("valid");
        prop_assert_eq!(alone.fingerprint, other.fingerprint);
        prop_assert_eq!(&alone.record, &other.record);

        let key = key();
        let mut reader = EventReader::new(scope(), Timestamp::from_ms(NOW), &key);
        let array = format!("[{{}}, {} , 5]", written(&shuffled, pretty));
        let lines = format!("{{}}\r\n\n  {}\n", written(&shuffled, false));
        for (body, format) in [(&array, Format::Sniffed), (&lines, Format::Sniffed), (&lines, Format::Lines)] {
            let mut items = batch::read(body.as_bytes(), format, &mut reader).expect("a batch");
            let among = items.remove(1).expect("valid");
            prop_assert_eq!(&among.record, &alone.record);
            prop_assert!(items.iter().all(Result::is_err));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&body);
    }

    #[test]
    fn damaged_bodies_never_panic(
        fields in any_event(),
        at in any::<proptest::sample::Index>(),
        with in proptest::collection::vec(any::<u8>(), 0..4),
        cut in 0..4usize,
    ) {
        let mut body = written(&fields, false).into_bytes();
        let at = at.index(body.len());
        let end = (at + cut).min(body.len());
        body.splice(at..end, with);
        // What is taken must be what a parser by other hands also takes.
        if read(&body).is_ok() {
            prop_assert!(serde_json::from_slice::<Json>(&body).is_ok());
        }
    }
}
