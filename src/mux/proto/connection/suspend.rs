//! After the machine was asleep: our clock stood still meanwhile, and the server's went on.
//!
//! Sessions may have expired there, and the connection may be gone without a byte of it reaching us.
//! So the time asleep counts, the server is asked at once whether it is still there, and what it has
//! given up meanwhile is nobody's fault.

use std::time::{Duration, Instant};

use super::{Connection, ConnectionPhase, Health, Timer};
use crate::mux::proto::event::CloseReason;

impl Connection {
    /// The machine has slept for `suspended` since the last input. A keep-alive that was due meanwhile, or
    /// is now, goes out as soon as the server has answered a ping; if it does not, the connection ends
    /// as [`CloseReason::Suspended`]. An idle connection is pinged before its next use. A nap shorter than
    /// what makes an idle connection suspect only counts as time.
    pub fn handle_suspend(&mut self, now: Instant, suspended: Duration) {
        if self.state != ConnectionPhase::Open {
            return;
        }
        for session in self.sessions.values_mut() {
            session.on_suspend(suspended);
        }
        if let Some(idle) = &mut self.idle {
            idle.on_suspend(suspended);
            self.timers.hasten(Timer::Idle, now, suspended);
        }
        if suspended >= self.config.timeouts.health_check_after {
            self.was_suspended = true;
            self.look_for_server(now);
        }
        self.handle_timeout(now);
    }

    fn look_for_server(&mut self, now: Instant) {
        if self.health != Health::Good || self.idle.is_some() {
            return;
        }
        self.health = Health::Suspect;
        let mut set_up = self.sessions.values().filter(|session| session.is_set_up());
        // Without one there is nothing to lose; whatever is asked next has the ping before it.
        if let Some(session) = set_up.next() {
            let ping = self.ping(session.aggregate().clone());
            self.waiting.push_front(ping);
            self.flush(now);
        }
    }

    /// What the end of the connection is called: until the server has shown that it kept the
    /// connection while we slept, it is the sleep that ended it.
    pub(super) fn reason_for_loss(&self, reason: CloseReason) -> CloseReason {
        match self.was_suspended {
            true => CloseReason::Suspended,
            false => reason,
        }
    }
}
