//! Sessions that are announced before they are opened.

use std::fmt;

use super::ConnectionPool;
use crate::mux::server_key::ConnectionKey;

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
    pub(super) key: ConnectionKey,
    pub(super) id: IntentId,
}

impl Intent {
    pub(super) fn new(pool: ConnectionPool, key: ConnectionKey, id: IntentId) -> Self {
        Self { pool, key, id }
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        self.pool.lock().withdraw(self.key.server(), self.id);
    }
}

impl fmt::Debug for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Intent({})", self.key.server())
    }
}
