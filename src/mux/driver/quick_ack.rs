//! TCP acknowledges at once while sessions start.
//!
//! A server may wait for an acknowledgement before it sends the next answer, or the rest of the
//! first key frame. Delayed acknowledgements add up to 40 ms to each, against a round trip of a few
//! milliseconds. Once media flows steadily, acknowledgements may be delayed: each one costs a
//! packet, and the server does not wait for it.

use std::time::{Duration, Instant};

/// How long the first frames may take after the last answer.
const FIRST_FRAMES: Duration = Duration::from_secs(1);

/// Until when a connection acknowledges at once.
#[derive(Debug, Default)]
pub(super) struct QuickAck {
    until: Option<Instant>,
}

impl QuickAck {
    /// Called after each read; true if it is to be acknowledged at once.
    pub(super) fn on_read(&mut self, now: Instant, is_bringing_up: bool) -> bool {
        if is_bringing_up {
            self.until = Some(now + FIRST_FRAMES);
        }
        self.until.is_some_and(|until| now <= until)
    }
}
