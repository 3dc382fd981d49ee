//! A look at an idle connection before it is used again.
//!
//! What came while it was idle has to be read as such: half a frame would be taken for the beginning
//! of the answer to the first request. tokio may not have heard of it yet, so the system is asked.

use std::time::Duration;

use tokio::time::timeout;

use super::{Driver, link::Command};

/// The system has told of bytes that tokio is to hear of next; it never takes so long.
const PATIENCE: Duration = Duration::from_millis(100);

impl Driver {
    /// Reads what has come, if the command takes the connection out of idleness.
    pub(super) async fn look_before_reuse(&mut self, command: &Command) {
        if !matches!(command, Command::SetIdle(None)) || !self.transport.has_unread() {
            return;
        }
        // A failure shows when it is read.
        let _ = timeout(PATIENCE, self.transport.ready(true, false)).await;
        self.read();
    }
}
