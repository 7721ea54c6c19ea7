//! What the figures of a campaign are as of: the time of the first thing they do not have.

use control_api::Config;
use prost::Message as _;
use schemas::proto;
use schemas::time::Timestamp;
use serde_json::{Value, json};
use storage::Topic;
use storage::analytics::Source;

use crate::world::{Member, World};

/// `asOf` and `lagMs` of a campaign's figures.
async fn freshness(world: &World, member: &Member, campaign: &str) -> (Value, i64) {
    let path = format!("/campaigns/{campaign}/performance");
    let report = world.get(&path, &member.token).await;
    let freshness = &report.body["freshness"];
    let lag_ms = freshness["lagMs"].as_i64().unwrap_or_else(|| panic!("{}", report.text));
    (freshness["asOf"].clone(), lag_ms)
}

fn at(ms: i64) -> Value {
    serde_json::to_value(Timestamp::from_ms(ms)).expect("a time")
}

/// Moves what analytics has taken in to the end of a log.
async fn take_in(world: &World, member: &Member, source: Source, topic: Topic) {
    let partition = member.scope().partition(world.log.partitions());
    let from = world.analytics.position(source, partition).await.expect("a position").next;
    let end = world.log.bounds(topic, partition).await.expect("bounds").end;
    world.analytics.apply(source, partition, from, end, 0, &[]).await.expect("applied");
}

/// A campaign of an installation in which nothing has reached any log.
async fn unlogged_campaign(world: &World, member: &Member) -> String {
    let made = world.post("/campaigns", &member.token, json!({"name": "C"})).await;
    assert_eq!(made.status, 503, "{}", made.text);
    let listed = world.get("/campaigns", &member.token).await;
    listed.body["data"][0]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(start_paused = true)]
async fn an_installation_with_nothing_is_up_to_date() {
    let world = World::at_rest(Config::default());
    let member = world.member().await;
    let campaign = unlogged_campaign(&world, &member).await;
    let fresh = freshness(&world, &member, &campaign).await;
    assert_eq!(fresh, (at(world.clock.now_ms()), 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_says_since_when_until_it_is_taken_in() {
    let mut world = World::at_rest(Config::default());
    let member = world.member().await;
    let campaign = unlogged_campaign(&world, &member).await;
    let taken_ms = world.clock.now_ms();
    let event = world.purchase(&member, &campaign, "CODE", "k").await;
    world.clock.advance(60_000);
    let on_the_log = freshness(&world, &member, &campaign).await;
    assert_eq!(on_the_log, (at(taken_ms), world.clock.now_ms() - taken_ms));

    world.start_fold();
    world.get(&format!("/events/{event}"), &member.token).await.text_at("eventId");
    let decided = freshness(&world, &member, &campaign).await;
    assert_eq!(decided, (at(taken_ms), world.clock.now_ms() - taken_ms));

    take_in(&world, &member, Source::Outcomes, Topic::Outcomes).await;
    let fresh = freshness(&world, &member, &campaign).await;
    assert_eq!(fresh, (at(world.clock.now_ms()), 0));
}

#[tokio::test]
async fn quiet_days_are_no_lag() {
    let world = World::new();
    let member = world.member().await;
    let (campaign, _) = world.active_campaign(&member).await;
    world.purchase(&member, &campaign, "CODE", "missing").await;
    let event = world.purchase(&member, &campaign, "CODE", "k").await;
    world.get(&format!("/events/{event}"), &member.token).await.text_at("eventId");
    take_in(&world, &member, Source::Outcomes, Topic::Outcomes).await;
    world.clock.advance(3 * 24 * 3_600_000);
    let quiet = freshness(&world, &member, &campaign).await;
    assert_eq!(quiet, (at(world.clock.now_ms()), 0));

    let taken_ms = world.clock.now_ms();
    let event = world.purchase(&member, &campaign, "CODE", "after").await;
    world.get(&format!("/events/{event}"), &member.token).await.text_at("eventId");
    let (as_of, lag_ms) = freshness(&world, &member, &campaign).await;
    assert_eq!((as_of, lag_ms), (at(taken_ms), world.clock.now_ms() - taken_ms));
    take_in(&world, &member, Source::Outcomes, Topic::Outcomes).await;

    let clicked_ms = world.clock.now_ms();
    let click = proto::Click { clicked_at_ms: clicked_ms, ..proto::Click::default() };
    let partition = member.scope().partition(world.log.partitions());
    let record = (partition, click.encode_to_vec().into());
    world.log.append(Topic::Clicks, vec![record]).await.expect("appended");
    let (as_of, lag_ms) = freshness(&world, &member, &campaign).await;
    assert_eq!((as_of, lag_ms), (at(clicked_ms), world.clock.now_ms() - clicked_ms));
}
