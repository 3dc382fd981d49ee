//! A check of an idle connection before it is used again.
//!
//! What the server sent while the connection was idle has to be decoded as such: otherwise half a
//! frame would be taken for the start of the answer to the first request. tokio may not know yet
//! that the socket is readable, so the driver asks the system.

use std::time::Duration;

use tokio::time::timeout;

use super::{Driver, link::Command};

/// How long tokio may take to learn of bytes that the system has; it never takes this long.
const PATIENCE: Duration = Duration::from_millis(100);

impl Driver {
    /// If the command takes the connection out of idleness, reads what the server has sent.
    pub(super) async fn look_before_reuse(&mut self, command: &Command) {
        if !matches!(command, Command::SetIdle(None)) || !self.transport.has_unread() {
            return;
        }
        // A failure shows at the next read.
        let _ = timeout(PATIENCE, self.transport.ready(true, false)).await;
        self.read();
    }
}
