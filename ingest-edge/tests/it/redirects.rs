//! `GET /CODE` on the redirect listener.

use http::Request;
use ingest_edge::{Click, Config};
use prost::Message as _;
use schemas::entity::CampaignStatus;
use schemas::proto;
use schemas::time::Timestamp;
use storage::fault::{Action, Op, Step};
use storage::{Kind, Topic, catalog};

use crate::world::{Answer, NOW, World, click_key, scope};

impl World {
    async fn visit(&self, method: &str, uri: &str) -> Answer {
        let request = Request::builder().method(method).uri(uri).body(()).expect("a request");
        Answer::of(self.redirector.handle(request).await).await
    }

    async fn counted(&mut self) -> Vec<proto::Click> {
        self.clicks.drain().await;
        let records = self.records(Topic::Clicks).await.into_iter();
        records.map(|bytes| proto::Click::decode(bytes).expect("a click")).collect()
    }
}

#[tokio::test]
async fn a_visitor_is_sent_on_and_counted() {
    let mut world = World::new().await;
    let link = world.link("ABC123", "https://shop.example/p?q=1#top", CampaignStatus::Active).await;
    for uri in ["/ABC123", "/abc123?utm=1", "/aBc123?qr=1"] {
        let answer = world.visit("GET", uri).await;
        assert_eq!(answer.status, 302, "{answer:?}");
        assert_eq!(answer.code(), "");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer-when-downgrade"));
        assert_eq!(answer.header("x-robots-tag"), Some("noindex"));
        let location = answer.header("location").expect("a location");
        let id = location
            .strip_prefix("https://shop.example/p?q=1&akt_id=")
            .and_then(|rest| rest.strip_suffix("#top"))
            .expect(location);
        let click = Click { link: link.id, at: Timestamp::from_ms(NOW) };
        assert_eq!(click_key().verify(id), Some(click));
    }
    let clicks = world.counted().await;
    let triggers: Vec<_> = clicks.iter().map(|click| click.trigger.as_str()).collect();
    assert_eq!(triggers, ["link", "link", "qr"]);
    let want = proto::Click {
        organization: scope().organization.to_proto(),
        mode: proto::Mode::Live.into(),
        clicked_at_ms: NOW,
        link_id: link.id.to_proto(),
        campaign_id: link.campaign_id.to_proto(),
        aktvator_id: link.aktvator_id.to_proto(),
        code: "ABC123".to_owned(),
        trigger: "link".to_owned(),
    };
    assert_eq!(clicks[0], want);
}

#[tokio::test]
async fn a_look_counts_nothing() {
    let mut world = World::new().await;
    world.link("ABC123", "https://shop.example/", CampaignStatus::Active).await;
    let answer = world.visit("HEAD", "/ABC123").await;
    assert_eq!((answer.status, answer.header("location")), (302, Some("https://shop.example/")));
    let answer = world.visit("POST", "/ABC123").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(world.counted().await, []);
}

#[tokio::test]
async fn where_nothing_can_be_earned_nothing_is_counted() {
    let mut world = World::new().await;
    let statuses = [CampaignStatus::Draft, CampaignStatus::Paused, CampaignStatus::Ended];
    for (code, status) in ["A", "BB", "CCC"].into_iter().zip(statuses) {
        world.link(code, "https://shop.example/", status).await;
        let answer = world.visit("GET", &format!("/{code}")).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (302, Some("https://shop.example/"))
        );
    }
    assert_eq!(world.counted().await, []);
}

#[tokio::test]
async fn what_leads_nowhere() {
    let mut world = World::new().await;
    world.code("TYPED", None).await;
    for uri in ["/", "/NOPE", "/TYPED", "/robots.txt", "/a/b", "/%2e%2e"] {
        let answer = world.visit("GET", uri).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{uri}");
    }
    let page = Request::get("/NOPE").header("accept", "text/html,*/*").body(()).expect("ok");
    let page = Answer::of(world.redirector.handle(page).await).await;
    assert_eq!((page.status, page.header("content-type")), (404, Some("text/html; charset=utf-8")));
    assert_eq!(world.counted().await, []);
}

#[tokio::test]
async fn changes_show_at_once() {
    let mut world = World::new().await;
    assert_eq!(world.visit("GET", "/ABC123").await.status, 404);
    let mut link = world.link("ABC123", "https://old.example/", CampaignStatus::Active).await;
    let location = |answer: &Answer| answer.header("location").expect("a location").to_owned();
    assert!(location(&world.visit("GET", "/ABC123").await).starts_with("https://old.example/?akt"));
    link.target_url = "https://new.example/".to_owned();
    link.archived = true;
    world.change(catalog::Kind::Link, &link.id.to_string(), &link).await;
    assert!(location(&world.visit("GET", "/ABC123").await).starts_with("https://new.example/?akt"));
    assert_eq!(world.counted().await.len(), 2, "an archived link still counts");
}

#[tokio::test]
async fn a_full_queue_never_holds_a_visitor_up() {
    let config = Config { click_queue: 16, ..Config::default() };
    let mut world = World::with(config).await;
    world.link("ABC123", "https://shop.example/", CampaignStatus::Active).await;
    for _ in 0..20 {
        assert_eq!(world.visit("GET", "/ABC123").await.status, 302);
    }
    assert_eq!(world.counted().await.len(), 16);
}

#[tokio::test(start_paused = true)]
async fn clicks_are_tried_again_unless_they_may_have_been_stored() {
    let mut world = World::new().await;
    world.link("ABC123", "https://shop.example/", CampaignStatus::Active).await;
    let full = Action::Fail(Kind::Full);
    for (step, times, stored) in [(Step::Before, 4, 1), (Step::Before, 5, 0), (Step::Answer, 1, 1)]
    {
        let before = world.counted().await.len();
        (1..=times).for_each(|nth| world.faults.at(Op::Append, step, nth, full));
        world.visit("GET", "/ABC123").await;
        assert_eq!(world.counted().await.len() - before, stored, "{step:?} {times}");
    }
}

#[tokio::test]
async fn the_writer_ends_when_the_redirector_is_gone() {
    let world = World::new().await;
    world.link("ABC123", "https://shop.example/", CampaignStatus::Active).await;
    world.visit("GET", "/ABC123").await;
    drop(world.redirector);
    world.clicks.run().await;
    let partition = scope().partition(crate::world::PARTITIONS);
    let bounds = world.log.bounds(Topic::Clicks, partition).await.expect("bounds");
    assert_eq!(bounds.end, 1);
}
