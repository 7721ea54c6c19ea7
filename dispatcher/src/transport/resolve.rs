//! Looks up names. A look-up cannot be called off: whoever waits for it may leave, the thread that
//! asks stays until it is answered. So only so many may be under way, and of one name only few:
//! whoever owns a name also decides how long it takes.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::attempt::NoAnswer;

/// Look-ups under way: a fraction of the threads that a runtime has for such work.
const LOOKUPS_MAX: usize = 64;
/// Look-ups of one name under way.
const LOOKUPS_PER_NAME_MAX: usize = 2;

/// Asks for the addresses of a name, however long that takes.
type Ask = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Resolves names within bounds. Clones share them.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Bounds>);

struct Bounds {
    ask: Arc<Ask>,
    slots: Arc<Semaphore>,
    /// Of the names that are being looked up, or waited for.
    names: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    limit: Duration,
}

impl Resolver {
    /// The machine's own resolver; nobody waits longer than `limit`.
    pub(super) fn system(limit: Duration) -> Self {
        Self::new(limit, |host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    fn new(
        limit: Duration,
        ask: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self(Arc::new(Bounds { ask: Arc::new(ask), slots, names: Mutex::default(), limit }))
    }

    /// The addresses of `host`, which may itself be one.
    ///
    /// # Errors
    /// [`NoAnswer::Dns`] where the name has none or took too long, also because earlier look-ups of
    /// it are still under way; [`NoAnswer::Busy`] where those of other names left no room.
    pub(super) async fn addresses(
        &self,
        host: String,
        port: u16,
    ) -> Result<Vec<SocketAddr>, NoAnswer> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let deadline = Instant::now() + self.0.limit;
        let held = self.hold(&host, deadline).await?;
        let ask = self.0.ask.clone();
        let looking = spawn_blocking(move || {
            let found = ask(&host, port);
            // Only here: the thread is taken until now, whoever still waits.
            drop(held);
            found
        });
        match timeout_at(deadline, looking).await {
            Ok(Ok(Ok(addresses))) => Ok(addresses),
            _ => Err(NoAnswer::Dns),
        }
    }

    /// The name's own bound comes first, so that who waits for it takes no room from others.
    async fn hold(
        &self,
        host: &str,
        deadline: Instant,
    ) -> Result<[OwnedSemaphorePermit; 2], NoAnswer> {
        let of_name = acquire(self.of_name(host), deadline).await.ok_or(NoAnswer::Dns)?;
        let slot = acquire(self.0.slots.clone(), deadline).await.ok_or(NoAnswer::Busy)?;
        Ok([of_name, slot])
    }

    fn of_name(&self, host: &str) -> Arc<Semaphore> {
        let mut names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waits for one and who has one keeps it; the others are not needed any more.
        names.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        let new = || Arc::new(Semaphore::new(LOOKUPS_PER_NAME_MAX));
        names.entry(host.to_owned()).or_insert_with(new).clone()
    }
}

async fn acquire(semaphore: Arc<Semaphore>, deadline: Instant) -> Option<OwnedSemaphorePermit> {
    timeout_at(deadline, semaphore.acquire_owned()).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use super::*;

    /// A name server that answers for names with `slow` in them once it is told to.
    #[derive(Default)]
    struct Server {
        /// Look-ups begun, and whether the slow ones are answered now.
        seen: Mutex<(usize, bool)>,
        changed: Condvar,
    }

    impl Server {
        fn answer(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
            let mut seen = self.seen.lock().expect("no panic before");
            seen.0 += 1;
            while host.contains("slow") && !seen.1 {
                seen = self.changed.wait(seen).expect("no panic before");
            }
            drop(seen);
            Ok(vec![SocketAddr::from(([93, 184, 215, 14], 443))])
        }

        fn begun(&self) -> usize {
            self.seen.lock().expect("no panic before").0
        }

        fn open(&self) {
            self.seen.lock().expect("no panic before").1 = true;
            self.changed.notify_all();
        }
    }

    /// Lets everything be answered when a test ends, also where it fails: the runtime waits for it.
    struct Steered(Arc<Server>);

    impl Drop for Steered {
        fn drop(&mut self) {
            self.0.open();
        }
    }

    fn resolver(limit_ms: u64) -> (Resolver, Steered) {
        let server = Arc::new(Server::default());
        let ask = server.clone();
        let limit = Duration::from_millis(limit_ms);
        (Resolver::new(limit, move |host, _| ask.answer(host)), Steered(server))
    }

    /// What look-ups of `names`, all at once, come to.
    async fn all(
        resolver: &Resolver,
        names: impl Iterator<Item = String>,
    ) -> Vec<Result<usize, NoAnswer>> {
        let tasks: Vec<_> = names
            .map(|name| {
                let resolver = resolver.clone();
                tokio::spawn(async move { resolver.addresses(name, 443).await })
            })
            .collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.expect("no panic").map(|found| found.len()));
        }
        results
    }

    #[tokio::test]
    async fn a_name_that_is_never_answered_takes_two_threads_and_nobody_elses_time() {
        let (resolver, server) = resolver(100);
        for _ in 0..3 {
            let names = (0..20).map(|_| "slow.example.com".to_owned());
            let results = all(&resolver, names).await;
            assert!(results.iter().all(|result| *result == Err(NoAnswer::Dns)), "{results:?}");
        }
        assert_eq!(server.0.begun(), LOOKUPS_PER_NAME_MAX, "also after everyone has left");
        let results = all(&resolver, std::iter::once("well.example.com".to_owned())).await;
        assert_eq!(results, [Ok(1)]);
        server.0.open();
        let again = async {
            while resolver.addresses("slow.example.com".to_owned(), 443).await.is_err() {}
        };
        tokio::time::timeout(Duration::from_secs(5), again).await.expect("room again");
        assert!(resolver.0.names.lock().expect("no panic").len() <= 2, "names are forgotten");
    }

    #[tokio::test]
    async fn many_such_names_take_a_bounded_number_of_threads() {
        let (resolver, server) = resolver(200);
        let names = (0..LOOKUPS_MAX + 36).map(|i| format!("slow{i}.example.com"));
        let results = all(&resolver, names).await;
        let of = |why| results.iter().filter(|result| **result == Err(why)).count();
        assert_eq!((of(NoAnswer::Dns), of(NoAnswer::Busy)), (LOOKUPS_MAX, 36));
        assert_eq!(server.0.begun(), LOOKUPS_MAX);
        let results = all(&resolver, std::iter::once("well.example.com".to_owned())).await;
        assert_eq!(results, [Err(NoAnswer::Busy)], "not the receiver's fault");
        assert!(resolver.addresses("127.0.0.1".to_owned(), 1).await.is_ok(), "no look-up");
    }
}
