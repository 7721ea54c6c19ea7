//! Rate limits: the arithmetic against a naive bucket, and the headers to the letter.

use access::{Admission, Class};
use http::HeaderMap;
use proptest::prelude::*;
use schemas::entity::Limits;

use crate::world::{NOW, World};

const LIMITS: Limits = Limits {
    ingest_per_second: 1_000,
    ingest_burst: 2_000,
    requests_per_second: 10,
    requests_burst: 20,
};

fn text(admission: &Admission) -> Vec<String> {
    let mut headers = HeaderMap::new();
    admission.headers(&mut headers);
    let mut lines: Vec<String> =
        headers.iter().map(|(k, v)| format!("{k}: {}", v.to_str().unwrap())).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn headers_to_the_letter() {
    let world = World::new(Some(LIMITS)).await;
    let (token, _) = world.add_key(1).await;
    let caller = world.ask(&token, 0).await.unwrap();
    let now = NOW.as_ms();
    let first = world.gate.admit(&caller, Class::Ingest, 13, now);
    assert_eq!(first.check(), Ok(()));
    assert_eq!(
        text(&first),
        [
            "ratelimit-policy: \"ingest\";q=2000;w=2",
            "ratelimit: \"ingest\";r=1987;t=1",
            "x-ratelimit-limit: 2000",
            "x-ratelimit-remaining: 1987",
            "x-ratelimit-reset: 1800000001",
        ]
    );
    let other_class = world.gate.admit(&caller, Class::Requests, 20, now);
    assert_eq!((other_class.allowed, other_class.remaining), (true, 0));
    let refused = world.gate.admit(&caller, Class::Requests, 15, now + 100);
    assert_eq!(
        text(&refused),
        [
            "ratelimit-policy: \"requests\";q=20;w=2",
            "ratelimit: \"requests\";r=1;t=2",
            "retry-after: 2",
            "x-ratelimit-limit: 20",
            "x-ratelimit-remaining: 1",
            "x-ratelimit-reset: 1800000002",
        ]
    );
    let error = refused.check().unwrap_err();
    assert_eq!((error.status, error.code, error.retry_after_s), (429, "rate_limited", Some(2)));
    let full = world.gate.admit(&caller, Class::Requests, 0, now + 10_000);
    assert_eq!((full.remaining, full.reset_s, full.retry_after_s), (20, 0, None));
}

#[tokio::test]
async fn parallel_callers_share_one_bucket() {
    let world = World::new(Some(LIMITS)).await;
    let (token, _) = world.add_key(1).await;
    let caller = world.ask(&token, 0).await.unwrap();
    let admitted: usize = std::thread::scope(|scope| {
        let take = || {
            let takes = (0..1_000)
                .filter(|_| world.gate.admit(&caller, Class::Ingest, 1, NOW.as_ms()).allowed);
            takes.count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 2_000);
}

#[tokio::test]
async fn the_operator_has_a_bucket_too() {
    let world = World::new(None).await;
    let operator = world.ask(&world.operator_token, 0).await.unwrap();
    let admission = world.gate.admit(&operator, Class::Requests, 1, NOW.as_ms());
    assert!(admission.allowed && admission.remaining == 1_999);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A bucket that counts thousandths of tokens, filled by the virtual clock's milliseconds.
    #[test]
    fn agrees_with_a_naive_bucket(
        per_second in prop::sample::select(vec![1u32, 2, 5, 10, 100, 1_000]),
        burst in 1u32..50,
        steps in prop::collection::vec((0i64..2_500, 0u32..6), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let limits = Limits { requests_per_second: per_second, requests_burst: burst, ..LIMITS };
        let (world, caller) = runtime.block_on(async {
            let world = World::new(Some(limits)).await;
            let (token, _) = world.add_key(1).await;
            let caller = world.ask(&token, 0).await.unwrap();
            (world, caller)
        });
        let full = u64::from(burst) * 1_000;
        let (mut held, mut now) = (full, NOW.as_ms());
        for (pause, cost) in steps {
            now += pause;
            held = full.min(held + pause as u64 * u64::from(per_second));
            let cost = cost.min(burst);
            let price = u64::from(cost) * 1_000;
            let got = world.gate.admit(&caller, Class::Requests, cost, now);
            prop_assert_eq!(got.allowed, held >= price);
            let missing = if got.allowed {
                held -= price;
                if held == full { 0 } else { 1_000 - held % 1_000 }
            } else {
                price - held
            };
            prop_assert_eq!(u64::from(got.remaining), held / 1_000);
            let wait_ms = missing.div_ceil(u64::from(per_second));
            prop_assert_eq!(u64::from(got.reset_s), wait_ms.div_ceil(1_000));
            let retry = (!got.allowed).then_some(got.reset_s.max(1));
            prop_assert_eq!(got.retry_after_s, retry);
            let epoch = (now as u64 + wait_ms).div_ceil(1_000);
            let line = format!("x-ratelimit-reset: {epoch}");
            prop_assert!(text(&got).contains(&line), "{line} {:?}", text(&got));
        }
    }
}
