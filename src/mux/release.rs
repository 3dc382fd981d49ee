//! Waits until a session is released: all its TEARDOWNs are answered or given up.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

/// Counts what still holds one session: the user's handle, and each session in a connection's core
/// that was opened for it and has not ended there. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReleaseTracker(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    guards: Mutex<u32>,
    released: Condvar,
    is_released: Notify,
}

/// The content of a mutex, also after a panic: no code panics between two changes that belong together.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReleaseTracker {
    /// Returns a guard. The session counts as released only after all guards are dropped.
    pub(crate) fn guard(&self) -> ReleaseGuard {
        *lock(&self.0.guards) += 1;
        ReleaseGuard(Arc::clone(&self.0))
    }

    /// **Blocks** until all guards are dropped, but at most for `timeout`. True if all are dropped.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let guards = lock(&self.0.guards);
        let released = &self.0.released;
        let waited = released.wait_timeout_while(guards, timeout, |guards| *guards > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    /// Returns when all guards are dropped.
    pub(crate) async fn released(&self) {
        loop {
            // Before the look, so that a guard dropped after it is noticed.
            let released = self.0.is_released.notified();
            if *lock(&self.0.guards) == 0 {
                return;
            }
            released.await;
        }
    }
}

/// Holds one session: it is not released before this is dropped.
#[derive(Debug)]
pub(crate) struct ReleaseGuard(Arc<Held>);

impl Drop for ReleaseGuard {
    fn drop(&mut self) {
        let mut guards = lock(&self.0.guards);
        *guards = guards.saturating_sub(1);
        if *guards == 0 {
            self.0.released.notify_all();
            self.0.is_released.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_once_every_guard_is_dropped() {
        let tracker = ReleaseTracker::default();
        assert!(tracker.wait(Duration::ZERO), "nothing was ever owed");
        let handle = tracker.guard();
        let core = tracker.guard();
        drop(handle);
        assert!(!tracker.wait(Duration::ZERO));
        let waiting = {
            let tracker = tracker.clone();
            std::thread::spawn(move || tracker.wait(Duration::from_secs(10)))
        };
        drop(core);
        assert!(waiting.join().unwrap());
    }
}
