//! What callers hold: a counted reference to a connection, or the announcement of a session.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{CheckoutRequest, ConnectionPool};
use crate::mux::{driver::DriverHandle, server_key::ConnectionKey};

/// One counted reference to a connection: while there is one, the connection is kept. Not
/// cloneable; each session takes its own by [`ConnectionPool::checkout`].
pub struct ConnectionHandle {
    pool: ConnectionPool,
    driver: Arc<DriverHandle>,
    /// How long the connection is kept if this is the last reference.
    idle_timeout: Duration,
    /// The connection was there already: it may have gone stale.
    is_reused: bool,
    /// The connection was made for this reference, though others may have joined.
    is_founding: bool,
    /// Its session is on this connection to be described only; sessions play on another one.
    is_aside: bool,
    /// The connection was made for descriptions alone.
    is_describe_only: bool,
    /// What the session that holds it plays was described, here or before.
    is_described: AtomicBool,
    /// The session that holds it is set up.
    is_set_up: AtomicBool,
}

impl ConnectionHandle {
    /// The reference for which the connection is made.
    pub(super) fn founding(
        pool: ConnectionPool,
        driver: Arc<DriverHandle>,
        checkout: &CheckoutRequest,
    ) -> Self {
        Self {
            pool,
            driver,
            idle_timeout: checkout.options.pooling.idle_connection_timeout,
            is_reused: false,
            is_founding: true,
            is_aside: false,
            is_describe_only: false,
            is_described: AtomicBool::new(!checkout.needs_describe),
            is_set_up: AtomicBool::new(false),
        }
    }

    /// Another reference, which the table has counted.
    pub(super) fn existing(
        pool: ConnectionPool,
        driver: Arc<DriverHandle>,
        checkout: &CheckoutRequest,
    ) -> Self {
        let is_reused = driver.is_connected();
        let mut handle = Self::founding(pool, driver, checkout);
        (handle.is_reused, handle.is_founding) = (is_reused, false);
        handle
    }

    /// A further reference, which the table has counted; it is for what is described already.
    pub(super) fn sibling(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            driver: Arc::clone(&self.driver),
            idle_timeout: self.idle_timeout,
            is_reused: self.driver.is_connected(),
            is_founding: false,
            is_aside: false,
            is_describe_only: false,
            is_described: AtomicBool::new(true),
            is_set_up: AtomicBool::new(false),
        }
    }

    pub(super) fn set_aside(&mut self) {
        self.is_aside = true;
    }

    pub(super) fn set_describe_only(&mut self) {
        (self.is_aside, self.is_describe_only) = (true, true);
    }

    /// Whether the connection was made for descriptions alone, also when it is over.
    pub(crate) fn is_describe_only(&self) -> bool {
        self.is_describe_only
    }

    /// True if it was not marked before.
    pub(super) fn mark_described(&self) -> bool {
        !self.is_described.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_set_up(&self) -> bool {
        self.is_set_up.load(Ordering::Relaxed)
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// True if it was not marked before.
    pub(super) fn mark_set_up(&self) -> bool {
        !self.is_set_up.swap(true, Ordering::Relaxed)
    }

    /// The connection's number, as in [`MuxStats`](crate::mux::MuxStats).
    pub fn id(&self) -> u64 {
        self.driver.id.0
    }

    /// Handles to the connection, this one included.
    pub fn references(&self) -> u64 {
        self.driver.counters.references.get()
    }

    pub(crate) fn pool(&self) -> &ConnectionPool {
        &self.pool
    }

    pub(crate) fn driver(&self) -> &Arc<DriverHandle> {
        &self.driver
    }

    /// Whether the connection was connected before it was asked for.
    pub(crate) fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether the connection was made for this reference.
    pub(crate) fn is_founding(&self) -> bool {
        self.is_founding
    }

    /// Whether its session is here to be described only.
    pub(crate) fn is_aside(&self) -> bool {
        self.is_aside
    }

    /// Whether others have used the connection at the same time.
    pub(crate) fn was_shared(&self) -> bool {
        self.driver.peak_references() > 1
    }
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        self.pool.change(|state, deferred| {
            state.checkin(&self.pool, self, deferred);
        });
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ConnectionHandle({} to {})",
            self.driver.id, self.driver.server
        )
    }
}

/// Names an intent; never reused within a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IntentId(pub(super) u64);

/// Says that a session is about to be opened. While there is one, the first session of a server not
/// yet known waits a moment with its PLAY, so that both can be tried on one connection before
/// anything plays. Without one it plays at once. It lapses after about one DESCRIBE round trip,
/// and when it is dropped.
#[must_use = "dropping it takes the announcement back"]
pub struct Intent {
    pool: ConnectionPool,
    key: ConnectionKey,
    id: IntentId,
}

impl Intent {
    pub(super) fn new(pool: ConnectionPool, key: ConnectionKey, id: IntentId) -> Self {
        Self { pool, key, id }
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if let Some(server) = self.pool.lock().servers.get_mut(self.key.server()) {
            server.intents.retain(|(intent, _)| *intent != self.id);
            server.notify();
        }
    }
}

impl fmt::Debug for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Intent({})", self.key.server())
    }
}
