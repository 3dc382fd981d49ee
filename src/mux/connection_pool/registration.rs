//! A driver's entry in the pool: how it tells the pool what happens to its connection.

use std::time::{Duration, Instant};

use super::ConnectionPool;
use crate::mux::{
    clock,
    driver::Vitals,
    ids::ConnectionId,
    proto::{CredentialReport, FramingLoss, ProbeOutcome},
};

/// So soon all connections have told what the server said to them by now.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Held by a driver for as long as it runs. Dropped, however that comes about, the pool forgets the
/// connection.
#[derive(Debug)]
pub(crate) struct Registration {
    pool: ConnectionPool,
    id: ConnectionId,
}

impl Registration {
    pub(super) fn new(pool: ConnectionPool, id: ConnectionId) -> Self {
        pool.0.running.send_modify(|drivers| *drivers += 1);
        Self { pool, id }
    }

    /// The connection is there.
    pub(crate) fn on_connected(&self) {
        self.pool.lock().on_connected(self.id);
    }

    /// Nobody is to get the connection any more: it saw EOF, an error, or is being closed.
    pub(crate) fn retire(&self) {
        self.pool.lock().retire(self.id);
    }

    /// True if nobody references the connection, and then nobody will.
    pub(crate) fn try_retire(&self) -> bool {
        self.pool.lock().try_retire(self.id)
    }

    /// The sessions the connection has go on, others must not be added.
    pub(crate) fn on_no_more_sessions(&self) {
        self.pool
            .change(|state, aftermath| state.on_no_more_sessions(&self.pool, self.id, aftermath));
    }

    /// What the connection asks or has learned of the credentials.
    pub(crate) fn on_credentials(&self, now: Instant, report: CredentialReport) {
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

    /// What the connection shows while its sessions play.
    pub(crate) fn on_examined(&self, now: Instant, vitals: Vitals) {
        self.pool.lock().on_examined(self.id, now, vitals);
    }

    /// Framing was lost.
    pub(crate) fn on_framing_lost(&self, now: Instant, loss: FramingLoss) {
        self.pool.lock().on_framing_lost(self.id, now, loss);
    }

    /// The server has ended one of several sessions.
    pub(crate) fn on_session_lost(&self, now: Instant) {
        self.pool
            .change(|state, aftermath| state.on_session_lost(self.id, now, aftermath));
    }

    /// The machine was asleep. What breaks off now is not held against the session added last.
    pub(crate) fn on_slept(&self) {
        self.pool.lock().on_slept(self.id);
    }

    /// What a DESCRIBE of nothing does to connections of this server.
    pub(crate) fn on_probed(&self, outcome: ProbeOutcome) {
        self.pool
            .change(|state, aftermath| state.on_probed(self.id, outcome, aftermath));
    }

    /// The server asked for Digest.
    pub(crate) fn on_digest_seen(&self) {
        self.pool.lock().on_digest_seen(self.id);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.pool
            .change(|state, aftermath| state.forget(&self.pool, self.id, aftermath));
        self.pool
            .0
            .running
            .send_modify(|drivers| *drivers = drivers.saturating_sub(1));
    }
}
