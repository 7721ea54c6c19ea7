//! The evaluators of a run on servers: how many compete, and when newer ones take the places of older
//! ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serve::Clock;
use storage::fault::Faults;
use storage::log::Topic;
use storage::{EventLog, StateStore};

use crate::invariant::{Checked, Invariant, Violation, ensure};
use crate::life::shard;
use crate::oracle::unreadable;
use crate::peers::{CALM_AFTER, Peer, PeerParts};
use crate::upgrade::{Stage, Version};
use crate::world::{PARTITIONS, World};

/// Evaluators at the same time.
pub(crate) const PEERS_MAX: usize = 3;
const SECOND: Duration = Duration::from_secs(1);

/// Those of one life; none on a disk.
pub(crate) struct Fleet {
    peers: Vec<Peer>,
    clock: Clock,
    /// From then on nothing more goes wrong.
    calm: Arc<AtomicBool>,
}

impl Fleet {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { peers: Vec::new(), clock, calm: Arc::default() }
    }

    /// Starts a peer; where there are enough of them, in the place of one, an older before a newer.
    pub(crate) fn add(&mut self, world: &mut World) {
        if self.working().count() == PEERS_MAX {
            self.working().min_by_key(|peer| peer.version).into_iter().for_each(Peer::stop);
        }
        let version = match world.upgrade.as_ref().map(|upgrade| upgrade.stage) {
            Some(Stage::Before | Stage::Begun) => Version::Older,
            Some(Stage::Joined) if !self.peers.is_empty() && world.rng.random_bool(0.5) => {
                Version::Older
            }
            Some(Stage::Joined) | None => Version::Newer,
        };
        self.start(world, version);
    }

    fn start(&mut self, world: &mut World, version: Version) {
        world.peers += 1;
        self.peers.push(Peer::start(PeerParts {
            number: world.peers,
            turn: (world.options.seed * 3 + world.peers * 4) as usize,
            version,
            upgrade: world.upgrade.clone(),
            stores: world.stores.clone(),
            clock: self.clock.clone(),
            book: world.book.clone(),
            weather: world.weather,
            calm: self.calm.clone(),
            rng: StdRng::seed_from_u64(world.rng.random()),
        }));
    }

    fn working(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| !peer.is_leaving())
    }

    /// What goes wrong in each of them.
    pub(crate) fn scripts(&self) -> impl Iterator<Item = &Faults> {
        self.peers.iter().map(|peer| &peer.faults)
    }

    /// Lets each of them die or stand still among what comes next.
    pub(crate) fn befall(&self, rng: &mut StdRng) {
        self.peers.iter().for_each(|peer| peer.befall(rng));
    }

    /// Nobody halts who knows every record.
    pub(crate) fn check(&self, world: &World) -> Checked {
        let news = world.upgrade.as_ref().is_some_and(|upgrade| upgrade.stage != Stage::Before);
        let knowing = self.peers.iter().filter(|peer| peer.version == Version::Newer || !news);
        ensure(!knowing.into_iter().any(Peer::is_halted), Invariant::Liveness, || {
            "a peer has halted that knows every record".to_owned()
        })
    }

    /// Takes the rolling upgrade a step on, when it is time.
    pub(crate) async fn upgrade(
        &mut self,
        world: &mut World,
        seen: &(EventLog, StateStore),
    ) -> Checked {
        let Some(upgrade) = &mut world.upgrade else { return Ok(()) };
        let now = self.clock.now_ms();
        match upgrade.stage {
            Stage::Before if world.actions_left <= upgrade.begins_at => {
                world.book.note(format!("{now} upgrade begins: {upgrade:?}"));
                upgrade.begin(now);
            }
            Stage::Begun if world.actions_left <= upgrade.joined_at => {
                world.upgraded |= self.older_have_halted(world, seen).await?;
                world.watch.look(seen, world.upgrade.as_ref()).await?;
                if let Some(upgrade) = &mut world.upgrade {
                    upgrade.stage = Stage::Joined;
                }
                self.start(world, Version::Newer);
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns once the older processes have decided all that they know; whether there is more, where
    /// all of them have halted.
    async fn older_have_halted(
        &self,
        world: &World,
        seen: &(EventLog, StateStore),
    ) -> Result<bool, Violation> {
        loop {
            match is_stuck(world, seen).await.map_err(unreadable)? {
                Some(true) if self.working().all(Peer::is_halted) => return Ok(true),
                Some(false) => return Ok(false),
                _ => tokio::time::sleep(SECOND).await,
            }
        }
    }

    /// Nothing goes wrong any more, and the upgrade comes to its end.
    pub(crate) async fn calm_down(&mut self, world: &mut World) {
        self.calm.store(true, Ordering::SeqCst);
        self.scripts().for_each(Faults::clear);
        let older = self.peers.iter().filter(|peer| peer.version == Version::Older);
        if world.upgrade.is_some() {
            older.for_each(Peer::stop);
        }
        if self.working().next().is_none() {
            self.start(world, Version::Newer);
        }
        tokio::time::sleep(CALM_AFTER).await;
        world.book.note(format!("{} calm", self.clock.now_ms()));
    }

    /// Asks all to end in order, and returns once they have.
    pub(crate) async fn stop(&mut self) {
        self.peers.iter().for_each(Peer::stop);
        for peer in &mut self.peers {
            peer.stopped().await;
        }
    }
}

/// Whether a partition stands before a record that older processes do not know; nothing while one has
/// other records to decide.
async fn is_stuck(
    world: &World,
    (log, state): &(EventLog, StateStore),
) -> Result<Option<bool>, storage::Error> {
    let Some(upgrade) = &world.upgrade else { return Ok(None) };
    let mut stuck = false;
    for partition in 0..PARTITIONS {
        let next = state.head(shard(partition)).await?.next_offset;
        let end = log.bounds(Topic::Events, partition).await?.end;
        match upgrade.first_news(log, partition, next..end).await? {
            Some(offset) if offset == next => stuck = true,
            None if next == end => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(stuck))
}
