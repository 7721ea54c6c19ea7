//! A task that ends when its owner lets go of it.

use tokio::task::JoinHandle;

/// A spawned task, aborted on drop.
#[derive(Debug)]
pub(crate) struct Running(JoinHandle<()>);

impl Running {
    /// Starts `future` under a name.
    pub(crate) fn spawn(
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self(serve::spawn(name, future))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
