//! Reading is paused while a consumer with `overflow-policy=block` drains its queue. What the server
//! sends meanwhile is not read, so its silence is no evidence against it.

use std::time::{Duration, Instant};

use super::{Connection, Timer};

/// During a pause, a timer that judges the server by its silence is set again after this time.
const RECHECK: Duration = Duration::from_secs(1);

impl Connection {
    /// Pauses reading, or ends the pause. During a pause no deadline of a request runs, the connection
    /// is not taken for dead, and keep-alives are sent as usual.
    pub fn set_reading_paused(&mut self, now: Instant, is_paused: bool) {
        match (self.reading_paused_since, is_paused) {
            (None, true) => self.reading_paused_since = Some(now),
            (Some(since), false) => {
                self.reading_paused_since = None;
                self.last_byte = now;
                self.requests
                    .postpone(now, now.saturating_duration_since(since));
            }
            _ => {}
        }
    }

    /// True unless reading is paused.
    pub fn is_reading(&self) -> bool {
        self.reading_paused_since.is_none()
    }

    pub(super) fn postpone(&mut self, now: Instant, timer: Timer) {
        self.timers.set(timer, now + RECHECK);
    }
}
