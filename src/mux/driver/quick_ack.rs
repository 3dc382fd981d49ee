//! Acknowledging at once while sessions come up.
//!
//! A delayed acknowledgement holds up a server that waits for it before it sends the next answer, or
//! the rest of the first key frame: up to 40 ms each, against a round trip of a few. Once media flows
//! steadily acknowledgements may wait: they cost packets, and nobody waits for them.

use std::time::{Duration, Instant};

/// How long after the last answer of a bring-up its first frames may take.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Until when a connection acknowledges at once.
#[derive(Debug, Default)]
pub(super) struct QuickAck {
    until: Option<Instant>,
}

impl QuickAck {
    /// Something was read; whether that is acknowledged at once.
    pub(super) fn on_read(&mut self, now: Instant, is_bringing_up: bool) -> bool {
        if is_bringing_up {
            self.until = Some(now + AFTERMATH);
        }
        self.until.is_some_and(|until| now <= until)
    }
}
