//! Tasks that panic: their process is no longer alive, and whoever looks after it starts it again.

use std::sync::Once;

use tokio::sync::watch;

thread_local! {
    /// How many there were on this thread, which is this run's.
    static PANICS: watch::Sender<u64> = watch::Sender::new(0);
}

/// Counts from now on, in every thread.
pub(crate) fn count() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with(|panics| panics.send_modify(|count| *count += 1));
            before(panic);
        }));
    });
}

/// Those of this thread, from now on.
pub(crate) fn follow() -> watch::Receiver<u64> {
    PANICS.with(watch::Sender::subscribe)
}
