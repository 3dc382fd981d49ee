//! The clock and the timers of session tasks, which the runtime of the feeders drives.
#![expect(
    clippy::disallowed_methods,
    reason = "a session task waits between attempts and watches for silence"
)]

use std::time::{Duration, Instant};

/// The time.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns at `until`; never without one.
pub(super) async fn at(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

/// Returns after `time`.
pub(super) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
