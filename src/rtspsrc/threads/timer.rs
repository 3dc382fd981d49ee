//! The clock, and the timers of session tasks and of receiver reports.
//!
//! The timers ring on the [thread that reads](super::reader), which is there however many sinks block
//! their threads. It stays for the life of the process: GStreamer never unloads a plugin.
#![expect(
    clippy::disallowed_methods,
    reason = "a session task waits between attempts and watches for silence"
)]

use std::{
    io,
    pin::Pin,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use super::WorkerPool;

/// The time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns after `time`.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The future's output; none if it takes longer.
pub(crate) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, future).await.ok()
}

/// Rings at a time that may be moved. Moving it away costs nothing where it is left to ring early and
/// set again then.
pub(crate) struct Alarm(Option<Pin<Box<tokio::time::Sleep>>>);

impl Alarm {
    /// Rings at `until`; never without one.
    pub(crate) fn at(until: Option<Instant>) -> Self {
        Self(until.map(|until| Box::pin(tokio::time::sleep_until(until.into()))))
    }

    /// Returns when it rings. Dropping the future loses nothing.
    pub(crate) async fn rings(&mut self) {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().await,
            None => std::future::pending().await,
        }
    }
}

/// The runtime of all timers, and of the connections of all elements.
///
/// # Errors
///
/// The system cannot start its thread. The next call tries again.
pub(crate) fn timers() -> io::Result<Handle> {
    WorkerPool::shared().map(|pool| pool.runtime().clone())
}
