//! `Idempotency-Key`.

use std::time::Duration;

use serde_json::json;

use crate::world::World;

#[tokio::test(start_paused = true)]
async fn the_same_request_gets_the_same_answer() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let key = [("idempotency-key", "k-1")];
    let post = |token: &str, name: &str| {
        let (token, body) = (token.to_owned(), json!({"name": name}));
        let world = &world;
        async move { world.call_with("POST", "/campaigns", &token, &key, Some(body)).await }
    };
    let first = post(&a.token, "C").await;
    let again = post(&a.token, "C").await;
    assert_eq!((first.status.as_u16(), first.header("idempotent-replayed")), (201, ""));
    assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (201, "true"));
    assert_eq!(
        (first.text, first.headers["etag"].clone()),
        (again.text, again.headers["etag"].clone())
    );
    let other = post(&a.token, "D").await;
    assert_eq!((other.status.as_u16(), other.code()), (422, "idempotency_mismatch"));
    assert_eq!(post(&b.token, "C").await.header("idempotent-replayed"), "");
    let listed = world.get("/campaigns", &a.token).await;
    assert_eq!(listed.body["data"].as_array().expect("data").len(), 1);

    let alias =
        world.call_with("POST", "/v1/campaigns", &a.token, &key, Some(json!({"name": "C"}))).await;
    assert_eq!(alias.header("idempotent-replayed"), "true", "one operation under two paths");
    // The clock stands at 23 hours when the next round comes, and at a day in the one after.
    for (hours, status) in [(23, 422), (1, 201)] {
        world.clock.advance(hours * 3_600_000);
        tokio::time::sleep(Duration::from_secs(3_601)).await;
        assert_eq!(post(&a.token, "D").await.status, status, "{hours} hours on");
    }
}

#[tokio::test]
async fn lasting_refusals_are_kept_and_others_are_not() {
    let world = World::new();
    let member = world.member().await;
    let key = [("idempotency-key", "k")];
    for _ in 0..2 {
        let wrong = json!({"name": 1});
        let answer = world.call_with("POST", "/campaigns", &member.token, &key, Some(wrong)).await;
        assert_eq!(answer.status, 400);
    }
    let path = format!("/organizations/{}/api-keys", member.id);
    let body = json!({"name": "K", "mode": "live"});
    let refused = world.call_with("POST", &path, &member.token, &key, Some(body)).await;
    assert_eq!(refused.faults(), [("Idempotency-Key".to_owned(), "not_supported".to_owned())]);
    let bad = [("idempotency-key", "with blank")];
    let refused =
        world.call_with("POST", "/campaigns", &member.token, &bad, Some(json!({"name": "C"})));
    assert_eq!(refused.await.status, 400);
}

#[tokio::test]
async fn many_at_once_have_one_effect() {
    let world = World::new();
    let member = world.member().await;
    let key = [("idempotency-key", "k")];
    let calls = (0..30).map(|_| {
        world.call_with("POST", "/campaigns", &member.token, &key, Some(json!({"name": "C"})))
    });
    let answers = futures_util::future::join_all(calls).await;
    let mut made = 0;
    for answer in answers {
        match answer.status.as_u16() {
            201 => made += u32::from(answer.header("idempotent-replayed").is_empty()),
            409 => assert_eq!(answer.code(), "idempotency_in_flight"),
            other => panic!("{other}: {}", answer.text),
        }
    }
    assert_eq!(made, 1);
    let listed = world.get("/campaigns", &member.token).await;
    assert_eq!(listed.body["data"].as_array().expect("data").len(), 1);
}
