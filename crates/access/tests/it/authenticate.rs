//! Who is let in, and when no longer.

use access::{Caller, SCOPES, Token, require};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use schemas::entity::{ApiKey, Limits};
use schemas::partition::{Mode, Scope};
use storage::Catalog;
use storage::catalog::Kind;

use crate::world::{NOW, ORGANIZATION, World, at, bearer, key};

#[tokio::test]
async fn a_key_is_its_organization_in_its_mode() {
    let world = World::new(None).await;
    let (token, key) = world.add_key(1).await;
    for _ in 0..2 {
        let caller = world.ask(&token, 0).await.unwrap();
        let principal = caller.principal().unwrap();
        assert_eq!(principal.scope, Scope { organization: ORGANIZATION, mode: Mode::Live });
        assert_eq!(principal.key, key.id);
        assert_eq!(principal.limits, Limits::default());
        let tag = u64::from_str_radix(&Token::sha256_hex(&token)[..16], 16).unwrap();
        assert_eq!(principal.tag, tag);
    }
}

#[tokio::test]
async fn what_is_refused_and_why() {
    let world = World::new(None).await;
    let (token, _) = world.add_key(1).await;
    let unknown = Token::generate(Mode::Live, [2; 32]);
    let other_operator = Token::generate_operator([2; 32]);
    let mistyped = format!("{}x", &token[..token.len() - 1]);
    let cases: [(&[&str], u16, &str); 10] = [
        (&[], 401, "unauthorized"),
        (&[""], 401, "unauthorized"),
        (&["Bearer"], 401, "unauthorized"),
        (&["Bearer "], 401, "unauthorized"),
        (&["Basic YWs6"], 401, "unauthorized"),
        (&[&token], 401, "unauthorized"),
        (&[&format!("Bearer {mistyped}")], 401, "unauthorized"),
        (&[&format!("Bearer {unknown}")], 401, "unauthorized"),
        (&[&format!("Bearer {other_operator}")], 401, "unauthorized"),
        (&[&format!("Bearer {token}"), &format!("Bearer {token}")], 400, "validation_failed"),
    ];
    for (values, status, code) in cases {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let error = world.gate.authenticate(&headers, NOW).await.unwrap_err();
        assert_eq!((error.status, error.code), (status, code), "{values:?}");
        assert!(!error.message.contains(&token), "a token is never repeated");
    }
    for scheme in ["bearer", "BEARER", "Bearer "] {
        let value = HeaderValue::from_str(&format!("{scheme} {token}")).unwrap();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        assert!(world.gate.authenticate(&headers, NOW).await.is_ok(), "{scheme}");
    }
}

#[tokio::test]
async fn a_revoked_key_stops_at_the_next_request() {
    let world = World::new(None).await;
    let (token, key) = world.add_key(1).await;
    assert_eq!(world.code(&token, 0).await, "ok");
    world.put_key(&token, &ApiKey { revoked_at: Some(NOW), version: 2, ..key }).await;
    assert_eq!(world.code(&token, 0).await, "key_revoked");
    assert_eq!(world.code(&token, 0).await, "key_revoked", "from the cache as well");
}

#[tokio::test]
async fn a_key_expires_on_the_millisecond_even_when_cached() {
    let world = World::new(None).await;
    let token = Token::generate(Mode::Test, [1; 32]);
    world.put_key(&token, &ApiKey { expires_at: Some(at(1_000)), ..key(&token, 1) }).await;
    assert_eq!(world.code(&token, 0).await, "ok");
    assert_eq!(world.code(&token, 999).await, "ok");
    assert_eq!(world.code(&token, 1_000).await, "key_expired");
    let error = world.ask(&token, 2_000).await.unwrap_err();
    assert_eq!(error.message, format!("This API key expired at {}.", at(1_000)));
}

#[tokio::test]
async fn a_key_works_as_soon_as_it_is_made() {
    let world = World::new(None).await;
    let token = Token::generate(Mode::Live, [1; 32]);
    assert_eq!(world.code(&token, 0).await, "unauthorized");
    world.add_key(1).await;
    assert_eq!(world.code(&token, 0).await, "ok");
}

#[tokio::test]
async fn changed_limits_hold_at_the_next_request_and_the_bucket_stays() {
    let limits = |burst| {
        let base = Limits::default();
        Some(Limits { requests_burst: burst, requests_per_second: 1, ..base })
    };
    let world = World::new(limits(10)).await;
    let (token, _) = world.add_key(1).await;
    let admit = async |cost| {
        let caller = world.ask(&token, 0).await.unwrap();
        world.gate.admit(&caller, access::Class::Requests, cost, NOW.as_ms())
    };
    assert_eq!(admit(4).await.remaining, 6);
    world.put_organization(limits(20), 2).await;
    let after = admit(0).await;
    assert_eq!((after.limit, after.remaining), (20, 16), "four are still owed");
}

#[tokio::test]
async fn a_key_is_read_again_after_thirty_seconds() {
    let world = World::new(None).await;
    let (token, key) = world.add_key(1).await;
    let first = world.ask(&token, 0).await.unwrap();
    let cached = world.ask(&token, 29_999).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &cached), "not read again");
    let reread = world.ask(&token, 30_000).await.unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &reread), "read again");
    assert_eq!(reread.principal().unwrap().key, key.id);
}

#[tokio::test]
async fn requests_that_miss_together_read_once() {
    // In a file, so that reading waits and the three really are under way together.
    let path = std::env::temp_dir().join(format!("access-{}.sqlite", std::process::id()));
    let world = World::before(Catalog::open(&path).unwrap(), None).await;
    let (token, _) = world.add_key(1).await;
    let (one, two, three) =
        tokio::join!(world.ask(&token, 0), world.ask(&token, 0), world.ask(&token, 0));
    let one = one.unwrap();
    for other in [two.unwrap(), three.unwrap()] {
        assert!(std::sync::Arc::ptr_eq(&one, &other));
    }
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn a_damaged_document_is_our_fault_not_the_callers() {
    let world = World::new(None).await;
    let token = Token::generate(Mode::Live, [1; 32]);
    let name = Token::unique_name(&Token::sha256_hex(&token));
    world.put(Kind::ApiKey, "key_x".into(), 1, "{}".into(), Some(name)).await;
    let error = world.ask(&token, 0).await.unwrap_err();
    assert_eq!((error.status, error.code), (500, "internal"));
}

#[tokio::test]
async fn the_operator_may_do_everything_and_a_key_what_it_was_given() {
    let world = World::new(None).await;
    let operator = world.ask(&world.operator_token, 0).await.unwrap();
    assert!(matches!(*operator, Caller::Operator));
    let token = Token::generate(Mode::Live, [1; 32]);
    let scopes = vec!["events:ingest".to_owned(), "campaigns:write".to_owned()];
    world.put_key(&token, &ApiKey { scopes: scopes.clone(), ..key(&token, 1) }).await;
    let caller = world.ask(&token, 0).await.unwrap();
    let (all, _) = world.add_key(2).await;
    let all = world.ask(&all, 0).await.unwrap();
    for scope in SCOPES {
        assert_eq!(require(&operator, scope), Ok(()));
        assert_eq!(require(&all, scope), Ok(()));
        let given = scopes.iter().any(|s| s == scope);
        assert_eq!(require(&caller, scope).is_ok(), given, "{scope}");
    }
    let error = require(&caller, "wallet:write").unwrap_err();
    assert_eq!((error.status, error.code), (403, "insufficient_scope"));
    assert!(error.message.contains("`wallet:write`"));
    let headers = bearer(&world.operator_token);
    assert!(world.gate.authenticate(&headers, at(i64::MAX / 2)).await.is_ok());
}
