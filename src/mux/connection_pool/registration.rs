//! A driver's entry in the pool: hears from the driver what happens to its connection.

use std::time::{Duration, Instant};

use super::ConnectionPool;
use crate::mux::{
    clock,
    driver::{DriverEvent, DriverEvents},
    ids::ConnectionId,
    proto::CredentialReport,
};

/// So soon all connections have told what the server said to them by now.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Held by a driver for as long as it runs. Dropped, however that comes about, the pool forgets the
/// connection.
#[derive(Debug)]
pub(super) struct Registration {
    pool: ConnectionPool,
    id: ConnectionId,
}

impl Registration {
    pub(super) fn new(pool: ConnectionPool, id: ConnectionId) -> Self {
        pool.0.running.send_modify(|drivers| *drivers += 1);
        Self { pool, id }
    }

    fn on_credentials(&self, now: Instant, report: CredentialReport) {
        let mut state = self.pool.lock();
        if state.is_premature(self.id, &report)
            && let Ok(runtime) = self.pool.runtime()
        {
            let (pool, id) = (self.pool.clone(), self.id);
            return clock::later(runtime, SECOND_LOOK, move || {
                pool.lock().on_credentials(clock::now(), id, report);
            });
        }
        state.on_credentials(now, self.id, report);
    }
}

impl DriverEvents for Registration {
    fn handle(&self, event: DriverEvent) {
        let (pool, id) = (&self.pool, self.id);
        match event {
            DriverEvent::Connected => pool.lock().on_connected(id),
            DriverEvent::Retired => pool.lock().retire(id),
            DriverEvent::NoMoreSessions => {
                pool.change(|state, deferred| state.on_no_more_sessions(pool, id, deferred));
            }
            DriverEvent::Credentials(now, report) => self.on_credentials(now, report),
            DriverEvent::Sampled(now, sample) => pool.lock().on_sampled(id, now, &sample),
            DriverEvent::FramingLost(now, loss) => pool.lock().on_framing_lost(id, now, loss),
            DriverEvent::SessionLost(now) => {
                pool.change(|state, deferred| state.on_session_lost(id, now, deferred));
            }
            DriverEvent::Suspended => pool.lock().on_slept(id),
            DriverEvent::Probed(outcome) => {
                pool.change(|state, deferred| state.on_probed(id, outcome, deferred));
            }
            DriverEvent::DigestSeen => pool.lock().on_digest_seen(id),
        }
    }

    fn try_retire(&self) -> bool {
        self.pool.lock().try_retire(self.id)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.pool
            .change(|state, deferred| state.forget(&self.pool, self.id, deferred));
        self.pool
            .0
            .running
            .send_modify(|drivers| *drivers = drivers.saturating_sub(1));
    }
}
