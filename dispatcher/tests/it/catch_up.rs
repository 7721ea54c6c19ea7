//! What is decided and clicked is taken in to the end, and nothing is sent.

use dispatcher::transport::Reply;
use dispatcher::{DispatcherParts, Transport};
use prost::Message;
use schemas::id::{AktvatorId, CampaignId, LinkId};
use schemas::proto;
use schemas::proto::outcome::Body;
use storage::Topic;
use storage::analytics::Source;

use crate::world::{PARTITIONS, START_MS, World, decided, outcome, scope, scripted};

async fn catch_up(world: &World, transport: Transport) {
    let (log, state) = world.memory.open();
    let parts = DispatcherParts {
        log,
        state,
        catalog: world.catalog.clone(),
        analytics: world.analytics.clone(),
        clock: world.clock.clone(),
        seed: 1,
        transport,
        config: world.config.clone(),
    };
    dispatcher::catch_up(parts).await.expect("everything can be read");
}

#[tokio::test(start_paused = true)]
async fn deliveries_wait_and_sums_are_whole() {
    let world = World::new();
    let scope = scope(5);
    let partition = scope.partition(PARTITIONS);
    let endpoint = world.endpoint(scope, "https://example.com/hook", &["*"]).await;
    let decisions =
        (0..3_000).map(|n| outcome(scope, Body::EventDecided(decided(n, "rewarded", &[5]))));
    world.tell(partition, decisions.map(|o| o.encode_to_vec().into()).collect()).await;
    let click = proto::Click {
        organization: scope.organization.to_proto(),
        mode: proto::Mode::from(scope.mode).into(),
        campaign_id: CampaignId::from_u128(1).to_proto(),
        aktvator_id: AktvatorId::from_u128(1).to_proto(),
        link_id: LinkId::from_u128(1).to_proto(),
        code: "CODE".into(),
        clicked_at_ms: START_MS,
        ..proto::Click::default()
    };
    let (log, _) = world.memory.open();
    let click = (partition, click.encode_to_vec().into());
    log.append(Topic::Clicks, vec![click; 10]).await.expect("appended");

    let (transport, script) = scripted(|_| Reply::status(204));
    for _ in 0..2 {
        catch_up(&world, transport.clone()).await;
        // The attempt and the reward of each.
        let rows = world.deliveries(scope, endpoint).await;
        assert_eq!(rows.len(), 6_000);
        assert!(rows.iter().all(|row| row.status == "pending" && row.attempts.is_empty()));
        for (source, end) in [(Source::Outcomes, 3_000), (Source::Clicks, 10)] {
            let position = world.analytics.position(source, partition).await.expect("readable");
            assert_eq!(position.next, end, "{source:?}");
        }
    }
    assert_eq!(script.sent().len(), 0);
}
