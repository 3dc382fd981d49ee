//! What callers hold: a counted reference to a connection, or the announcement of a session.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{ConnectionPool, RedialReporter};
use crate::mux::{clock, driver::DriverHandle, server_key::ConnectionKey};

/// One counted reference to a connection: while there is one, the connection is kept. Not
/// cloneable; each session takes its own by [`ConnectionPool::checkout`].
pub struct ConnectionHandle {
    pool: ConnectionPool,
    driver: Arc<DriverHandle>,
    /// How long the connection is kept if this is the last reference.
    pub(super) idle_timeout: Duration,
    /// The connection was there already: it may have gone stale.
    pub(crate) is_reused: bool,
    /// The connection was made for this reference, though others may have joined.
    pub(crate) is_founding: bool,
    /// Its session is on this connection to be described only; sessions play on another one.
    pub(crate) is_aside: bool,
    /// The connection was made for descriptions alone.
    pub(crate) is_describe_only: bool,
    /// What the session that holds it plays was described, here or before.
    pub(super) is_described: AtomicBool,
    /// The session that holds it is set up.
    is_set_up: AtomicBool,
    /// Of the session that plays on it: with the reference the session is over.
    pub(crate) reporter: Option<RedialReporter>,
}

impl ConnectionHandle {
    /// A reference that the table has counted, for what is described already. `is_founding`: the
    /// connection is made for it.
    pub(super) fn new(
        pool: &ConnectionPool,
        driver: Arc<DriverHandle>,
        idle_timeout: Duration,
        is_founding: bool,
    ) -> Self {
        Self {
            pool: pool.clone(),
            idle_timeout,
            is_reused: !is_founding && driver.is_connected(),
            is_founding,
            is_aside: false,
            is_describe_only: false,
            is_described: AtomicBool::new(true),
            is_set_up: AtomicBool::new(false),
            reporter: None,
            driver,
        }
    }

    /// A further reference, which the table has counted.
    pub(super) fn sibling(&self) -> Self {
        let driver = Arc::clone(&self.driver);
        Self::new(&self.pool, driver, self.idle_timeout, false)
    }

    /// True if it was not marked before.
    pub(super) fn mark_described(&self) -> bool {
        !self.is_described.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_set_up(&self) -> bool {
        self.is_set_up.load(Ordering::Relaxed)
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
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        let mut reporter = self.reporter.take();
        self.pool.change(|state| {
            state.checkin(self);
            if let Some(reporter) = &mut reporter {
                state.redials.on_session_over(reporter, clock::now());
            }
        });
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DriverHandle { id, server, .. } = &*self.driver;
        write!(f, "ConnectionHandle({id} to {server})")
    }
}

/// Says that a session is about to be opened. While there is one, the first session of a server not
/// yet known waits a moment with its PLAY, so that both can be tried on one connection before
/// anything plays. Without one it plays at once. It lapses after about one DESCRIBE round trip,
/// and when it is dropped.
#[must_use = "dropping it takes the announcement back"]
pub struct Intent {
    pub(super) pool: ConnectionPool,
    /// Told apart from those of other intents by its place in memory.
    pub(super) key: Arc<ConnectionKey>,
}

impl Drop for Intent {
    fn drop(&mut self) {
        if let Some(server) = self.pool.lock().servers.get_mut(self.key.server()) {
            server.intents.retain(|key| !Arc::ptr_eq(key, &self.key));
            server.notify();
        }
    }
}

impl fmt::Debug for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Intent({})", self.key.server())
    }
}
