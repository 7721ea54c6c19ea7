//! Which partitions this process owns for a group of consumers.

use tokio::sync::watch;

/// The partitions this process owns for one group. Dropping it gives them up.
///
/// Ownership keeps two processes from doing the same work, no more: during a change both may own a
/// partition for a while, and what must not happen twice is fenced in the state store.
pub struct Assignments {
    owned: watch::Receiver<Vec<u16>>,
    source: Source,
}

enum Source {
    /// All of them for ever; the sender is kept so that nothing changes.
    All { _owned: watch::Sender<Vec<u16>> },
    /// Whatever a test says.
    Script,
    /// Shared with other processes.
    Group(Box<dyn Membership>),
}

/// Being one of a group.
pub(crate) trait Membership: Send + Sync {
    /// Nothing works on this partition, which was taken away, any more.
    fn release(&self, partition: u16);
}

impl Assignments {
    /// Every partition, always.
    pub(crate) fn all(partitions: u16) -> Self {
        let (sender, owned) = watch::channel((0..partitions).collect());
        Self { owned, source: Source::All { _owned: sender } }
    }

    /// What a test says.
    pub(crate) fn scripted(owned: watch::Receiver<Vec<u16>>) -> Self {
        Self { owned, source: Source::Script }
    }

    pub(crate) fn of_group(owned: watch::Receiver<Vec<u16>>, group: Box<dyn Membership>) -> Self {
        Self { owned, source: Source::Group(group) }
    }

    /// The partitions owned now, in order.
    pub fn borrow(&self) -> Vec<u16> {
        self.owned.borrow().clone()
    }

    /// Returns once they have changed since the last call.
    pub async fn changed(&mut self) {
        if self.owned.changed().await.is_err() {
            // Nobody is left to change them.
            std::future::pending().await
        }
    }

    /// Tells that work on a partition that is no longer owned has stopped. Others get it then, or a
    /// few seconds after it was taken away.
    pub fn release(&self, partition: u16) {
        match &self.source {
            Source::All { .. } | Source::Script => {}
            Source::Group(group) => group.release(partition),
        }
    }
}
