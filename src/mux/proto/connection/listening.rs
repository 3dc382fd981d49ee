//! Not reading for a while, by our own choice: a consumer that must not lose anything has to catch
//! up. What was not heard then is no evidence against the server.

use std::time::{Duration, Instant};

use super::{Connection, Timer};

/// How often what is judged by what is heard looks whether it can be again.
const RECHECK: Duration = Duration::from_secs(1);

impl Connection {
    /// Says whether input is read at present. While it is not, no deadline of a request runs and the
    /// connection is not taken for dead; keep-alives leave all the same.
    pub fn set_listening(&mut self, now: Instant, is_listening: bool) {
        match (self.deaf_since, is_listening) {
            (None, false) => self.deaf_since = Some(now),
            (Some(since), true) => {
                self.deaf_since = None;
                self.last_byte = now;
                self.requests
                    .postpone(now, now.saturating_duration_since(since));
            }
            _ => {}
        }
    }

    /// Whether input is read at present.
    pub fn is_listening(&self) -> bool {
        self.deaf_since.is_none()
    }

    pub(super) fn postpone(&mut self, now: Instant, timer: Timer) {
        self.timers.set(timer, now + RECHECK);
    }
}
