//! Tasks that run for as long as they are wanted.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::{AbortHandle, JoinHandle};

use crate::Shutdown;

/// One task for each key that is wanted. Dropped, it ends them all at once.
#[derive(Debug)]
pub struct Crew<K> {
    members: BTreeMap<K, Member>,
    ends: FuturesUnordered<End<K>>,
}

#[derive(Debug)]
struct Member {
    stop: Shutdown,
    task: AbortHandle,
}

/// Gives the key of a task that has ended; `None` of one that panicked.
type End<K> = Pin<Box<dyn Future<Output = Option<K>> + Send>>;

impl<K: Copy + Ord + Send + 'static> Crew<K> {
    /// Nobody yet.
    pub fn new() -> Self {
        Self { members: BTreeMap::new(), ends: FuturesUnordered::new() }
    }

    /// Starts a task for each wanted key that has none, and asks the others to stop. A task MUST go
    /// on until it is asked. One that is wanted again while it still stops, or that panicked, is not
    /// started a second time: of the former the next call does it that comes after [`Crew::ended`].
    pub fn keep(&mut self, wanted: &[K], mut start: impl FnMut(K, Shutdown) -> JoinHandle<()>) {
        for (_, member) in self.members.iter().filter(|(key, _)| !wanted.contains(key)) {
            member.stop.request();
        }
        for key in wanted.iter().copied() {
            self.members.entry(key).or_insert_with(|| {
                let stop = Shutdown::new();
                let handle = start(key, stop.clone());
                let task = handle.abort_handle();
                self.ends.push(Box::pin(async move { handle.await.ok().map(|()| key) }));
                Member { stop, task }
            });
        }
    }

    /// The next task that has stopped: call [`Crew::keep`] again. Never while there is none.
    pub async fn ended(&mut self) -> K {
        loop {
            match self.ends.next().await {
                Some(Some(key)) => {
                    self.members.remove(&key);
                    return key;
                }
                // A panic was reported where the task was spawned; its key stays taken.
                Some(None) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// The keys whose tasks run or still stop.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        self.members.keys().copied()
    }

    /// Asks every task to stop, and waits until all have.
    pub async fn finish(mut self) {
        for member in self.members.values() {
            member.stop.request();
        }
        while self.ends.next().await.is_some() {}
    }
}

impl<K: Copy + Ord + Send + 'static> Default for Crew<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Drop for Crew<K> {
    fn drop(&mut self) {
        for member in self.members.values() {
            member.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What the tasks of a crew have done, in order.
    #[derive(Clone, Default)]
    struct Diary(Arc<Mutex<Vec<String>>>);

    impl Diary {
        fn write(&self, line: String) {
            self.0.lock().unwrap().push(line);
        }

        fn read(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }

        fn start(&self) -> impl FnMut(u16, Shutdown) -> JoinHandle<()> {
            let diary = self.clone();
            move |key, stop| {
                let diary = diary.clone();
                tokio::spawn(async move {
                    diary.write(format!("{key} begins"));
                    stop.requested().await;
                    diary.write(format!("{key} ends"));
                })
            }
        }
    }

    async fn settle() {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn tasks_run_while_they_are_wanted_and_never_twice_at_once() {
        let (diary, mut crew) = (Diary::default(), Crew::new());
        crew.keep(&[1, 2], diary.start());
        settle().await;
        assert_eq!(diary.read(), ["1 begins", "2 begins"]);
        crew.keep(&[2, 3], diary.start());
        // Wanted again before it has stopped: only then does it begin again.
        crew.keep(&[1, 2, 3], diary.start());
        settle().await;
        assert_eq!(diary.read(), ["1 ends", "3 begins"]);
        assert_eq!(crew.ended().await, 1);
        crew.keep(&[1, 2, 3], diary.start());
        settle().await;
        assert_eq!(diary.read(), ["1 begins"]);
        crew.finish().await;
        assert_eq!(diary.read(), ["1 ends", "2 ends", "3 ends"]);
    }

    #[tokio::test]
    async fn a_task_that_panicked_is_not_started_again_and_the_others_go_on() {
        let (diary, mut crew) = (Diary::default(), Crew::new());
        crew.keep(&[7], |_, _| tokio::spawn(async { panic!("on purpose") }));
        crew.keep(&[7, 8], diary.start());
        tokio::select! {
            biased;
            _ = crew.ended() => panic!("a panic is no end"),
            () = settle() => {}
        }
        crew.keep(&[7, 8], diary.start());
        settle().await;
        assert_eq!(diary.read(), ["8 begins"]);
        crew.finish().await;
        assert_eq!(diary.read(), ["8 ends"]);
    }

    #[tokio::test]
    async fn dropping_it_ends_the_tasks_at_once() {
        let (diary, mut crew) = (Diary::default(), Crew::new());
        crew.keep(&[1], diary.start());
        settle().await;
        drop(crew);
        settle().await;
        assert_eq!(diary.read(), ["1 begins"], "it was not asked to stop");
        assert_eq!(Arc::strong_count(&diary.0), 1);
    }
}
