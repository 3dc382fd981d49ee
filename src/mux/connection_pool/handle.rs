//! One counted reference to a connection.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::ConnectionPool;
use crate::mux::driver::Link;

/// One counted reference to a connection: while there is one, the connection is kept. Not
/// cloneable; each session takes its own by [`ConnectionPool::checkout`].
pub struct ConnectionHandle {
    pool: ConnectionPool,
    link: Arc<Link>,
    /// How long the connection is kept if this is the last reference.
    idle_timeout: Duration,
    /// The connection was there already: it may have gone stale.
    is_reused: bool,
    /// The connection was made for this reference, though others may have joined.
    is_founding: bool,
    /// The session that holds it is set up.
    is_set_up: AtomicBool,
}

impl ConnectionHandle {
    /// The reference for which the connection is made.
    pub(super) fn founding(pool: ConnectionPool, link: Arc<Link>, idle_timeout: Duration) -> Self {
        Self {
            pool,
            link,
            idle_timeout,
            is_reused: false,
            is_founding: true,
            is_set_up: AtomicBool::new(false),
        }
    }

    /// Another reference, which the table has counted.
    pub(super) fn existing(pool: ConnectionPool, link: Arc<Link>, idle_timeout: Duration) -> Self {
        let is_reused = link.is_connected();
        Self {
            pool,
            link,
            idle_timeout,
            is_reused,
            is_founding: false,
            is_set_up: AtomicBool::new(false),
        }
    }

    /// A further reference, which the table has counted.
    pub(super) fn sibling(&self) -> Self {
        Self::existing(self.pool.clone(), Arc::clone(&self.link), self.idle_timeout)
    }

    /// True if that is new.
    pub(super) fn mark_set_up(&self) -> bool {
        !self.is_set_up.swap(true, Ordering::Relaxed)
    }

    /// The connection's number, as in [`MuxStats`](crate::mux::MuxStats).
    pub fn id(&self) -> u64 {
        self.link.id.0
    }

    /// Handles to the connection, this one included.
    pub fn references(&self) -> u64 {
        self.link.counters.references.get()
    }

    pub(in crate::mux) fn pool(&self) -> &ConnectionPool {
        &self.pool
    }

    pub(in crate::mux) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Whether the connection was connected before it was asked for.
    pub(in crate::mux) fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether the connection was made for this reference.
    pub(in crate::mux) fn is_founding(&self) -> bool {
        self.is_founding
    }

    /// Whether others have used the connection at the same time.
    pub(in crate::mux) fn was_shared(&self) -> bool {
        self.link.peak_references() > 1
    }
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        self.pool.change(|state, aftermath| {
            let was_set_up = self.is_set_up.load(Ordering::Relaxed);
            let (id, idle_timeout) = (self.link.id, self.idle_timeout);
            state.checkin(&self.pool, id, idle_timeout, was_set_up, aftermath);
        });
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ConnectionHandle({} to {})",
            self.link.id, self.link.server
        )
    }
}
