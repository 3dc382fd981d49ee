//! Watches a session from outside: its statistics, and the wait until all its TEARDOWNs are answered or
//! given up.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::mux::{
    connection_pool::ConnectionPool,
    delivery::Delivery,
    driver::DriverHandle,
    proto::{ServerText, StreamGrant},
    release::{ReleaseGuard, ReleaseTracker, lock},
    stats::{SessionStats, StreamStats, WaitReason},
};

/// Where a session is at the moment.
#[derive(Clone, Debug)]
pub(crate) struct SessionLocation {
    pub(crate) pool: ConnectionPool,
    pub(crate) driver: Arc<DriverHandle>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) grants: Vec<StreamGrant>,
}

#[derive(Debug, Default)]
struct Watched {
    released: ReleaseTracker,
    location: Mutex<Option<SessionLocation>>,
    is_moving: AtomicBool,
    waiting_for: Mutex<Option<WaitReason>>,
}

/// Observes one session through all its stages, from any thread. Holds no reference to the
/// connection and keeps nothing alive.
#[derive(Clone, Debug, Default)]
pub struct SessionMonitor(Arc<Watched>);

impl SessionMonitor {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// To be held until what it stands for is done.
    pub(crate) fn release_guard(&self) -> ReleaseGuard {
        self.0.released.guard()
    }

    pub(crate) fn set_location(&self, location: SessionLocation) {
        *lock(&self.0.location) = Some(location);
    }

    /// Gives whether it was before.
    pub(crate) fn set_moving(&self, is_moving: bool) -> bool {
        self.0.is_moving.swap(is_moving, Ordering::Relaxed)
    }

    pub(crate) fn set_grants(&self, grants: &[StreamGrant]) {
        if let Some(location) = lock(&self.0.location).as_mut() {
            location.grants = grants.to_vec();
        }
    }

    /// The session waits from now on, until the guard is dropped.
    pub(crate) fn waits_for(&self, reason: WaitReason) -> WaitGuard {
        let before = lock(&self.0.waiting_for).replace(reason);
        WaitGuard {
            watched: Arc::clone(&self.0),
            before,
        }
    }

    /// What is known of the session now. After its end: what was known last.
    pub fn stats(&self) -> SessionStats {
        let Some(location) = lock(&self.0.location).clone() else {
            return SessionStats {
                waiting_for: *lock(&self.0.waiting_for),
                ..SessionStats::default()
            };
        };
        let counts = location.delivery.counts();
        let counters = &location.driver.counters;
        let streams = location.grants.iter().map(|grant| StreamStats {
            stream: grant.stream,
            rtp_channel: grant.rtp_channel,
            rtcp_channel: grant.rtcp_channel,
            ssrc: grant.ssrc,
            count: counts.get(grant.stream).copied().unwrap_or_default(),
        });
        let (sharing, cannot_share, sharing_age) =
            location.pool.sharing_stats(&location.driver.server);
        SessionStats {
            sharing,
            cannot_share,
            sharing_age,
            connection: Some(location.driver.id.0),
            sessions_on_connection: counters.sessions.get(),
            references_on_connection: counters.references.get(),
            connections_to_server: counters.connections_to_server.get(),
            health: location.driver.health(),
            waiting_for: *lock(&self.0.waiting_for),
            is_moving: self.0.is_moving.load(Ordering::Relaxed),
            session_id: location
                .grants
                .first()
                .map(|grant| ServerText::of_identifier(&grant.session_id).into()),
            streams: streams.collect(),
        }
    }

    /// **Blocks** until everything owed for the session is done: its handle dropped, its TEARDOWN
    /// answered or given up, or its connection gone. True if that came within `timeout`.
    ///
    /// Never call it on a thread that drives the runtime.
    pub fn wait_released(&self, timeout: Duration) -> bool {
        self.0.released.wait(timeout)
    }

    /// Returns when everything owed for the session is done, as [`wait_released`](Self::wait_released).
    /// A caller that drops the future changes nothing.
    pub async fn released(&self) {
        self.0.released.released().await;
    }
}

/// A wait of a session, as its statistics tell it. Dropped, the wait is over, and one that it was part of
/// goes on.
#[derive(Debug)]
pub(crate) struct WaitGuard {
    watched: Arc<Watched>,
    before: Option<WaitReason>,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        *lock(&self.watched.waiting_for) = self.before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stats_tell_the_innermost_wait() {
        let monitor = SessionMonitor::new();
        let waiting_for = || monitor.stats().waiting_for;
        assert_eq!(waiting_for(), None);
        let outer = monitor.waits_for(WaitReason::Capacity);
        {
            let _inner = monitor.waits_for(WaitReason::Teardowns);
            assert_eq!(waiting_for(), Some(WaitReason::Teardowns));
        }
        assert_eq!(waiting_for(), Some(WaitReason::Capacity));
        drop(outer);
        assert_eq!(waiting_for(), None);
    }

    #[test]
    fn a_session_without_connection_has_empty_stats() {
        assert_eq!(SessionMonitor::new().stats(), SessionStats::default());
    }
}
