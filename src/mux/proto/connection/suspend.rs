//! After a suspend of the machine: our clock stood still, and the server's went on.
//!
//! Sessions may have expired at the server, and the connection may be gone without a byte of that
//! reaching us. So the core counts the time of the suspend, asks the server at once whether it is
//! still there, and blames no session for what the server has ended meanwhile.

use std::time::{Duration, Instant};

use super::{Connection, ConnectionPhase, Health, Timer};
use crate::mux::proto::event::CloseReason;

impl Connection {
    /// The machine was suspended for `suspended` since the last input. A keep-alive that was due
    /// meanwhile, or is due now, is sent as soon as the server has answered a ping; if it does not
    /// answer, the connection ends as [`CloseReason::Suspended`]. An idle connection is pinged
    /// before its next use. A suspend shorter than the idle time that makes a connection suspect
    /// only counts as time.
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
        // Without a session there is nothing to lose; the next request has the ping before it.
        if let Some(session) = set_up.next() {
            let ping = self.ping(session.aggregate().clone());
            self.waiting.push_front(ping);
            self.flush(now);
        }
    }

    /// The reason for the end of the connection: the suspend, until the server has shown that it
    /// kept the connection through it.
    pub(super) fn reason_for_loss(&self, reason: CloseReason) -> CloseReason {
        match self.was_suspended {
            true => CloseReason::Suspended,
            false => reason,
        }
    }
}
