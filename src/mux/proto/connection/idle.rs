//! A connection without references: its idle timeout, the health check before it is used again, and
//! bytes that the server sends while it is idle.
//!
//! Half a frame or half an answer there would hide the answer to the next request: the next camera
//! waited 25 s for its DESCRIBE. So a connection on which the server has sent something unasked
//! while it was idle is never used again (fault F47). Unasked is everything except a whole frame on
//! a live or quarantined channel, an answer to a request or a tombstone, a whole request of the
//! server, and a line end.

use std::time::{Duration, Instant};

use super::{
    Connection, ConnectionPhase, Timer,
    requests::{Draft, Purpose},
};
use crate::mux::proto::event::{CloseReason, Event, Retirement};

const UNASKED: CloseReason =
    CloseReason::Protocol("the server said something unasked while the connection was idle");

/// Whether requests may be sent on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// It was idle for so long that a ping has to be answered before anything else is sent.
    Suspect,
    /// The ping is sent.
    Checking,
}

/// The state of a connection without references.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    since: Instant,
    /// The idle time ends as soon as the last TEARDOWN is answered.
    until_empty: bool,
}

impl Idle {
    /// The connection was idle during the suspend too, while our clock stood still.
    pub(super) fn on_suspend(&mut self, suspended: Duration) {
        self.since = self.since.checked_sub(suspended).unwrap_or(self.since);
    }
}

impl Connection {
    pub(super) fn become_idle(&mut self, now: Instant, timeout: Duration) {
        let at_once = timeout.is_zero();
        let wait = if at_once {
            self.config.timeouts.teardown
        } else {
            timeout
        };
        self.idle = Some(Idle {
            since: self.idle.map_or(now, |idle| idle.since),
            until_empty: at_once,
        });
        self.timers.clear(Timer::Idle);
        // A time that overflows the clock is never reached.
        if let Some(at) = now.checked_add(wait) {
            self.timers.set(Timer::Idle, at);
        }
        self.expire_idle_if_empty();
    }

    /// The connection stays idle, and is pinged if it is used after all.
    pub(super) fn on_idle_expired(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.until_empty = false;
        }
        if self.state == ConnectionPhase::Open {
            self.events.push_back(Event::IdleExpired);
        }
    }

    pub(super) fn become_busy(&mut self, now: Instant) {
        self.check_before_reuse(now);
        self.timers.clear(Timer::Idle);
        if let Some(idle) = self.idle.take()
            && now.saturating_duration_since(idle.since) > self.config.timeouts.health_check_after
        {
            self.health = Health::Suspect;
        }
    }

    pub(super) fn expire_idle_if_empty(&mut self) {
        let is_over = self.idle.is_some_and(|idle| idle.until_empty) && self.sessions.is_empty();
        if is_over {
            self.timers.clear(Timer::Idle);
            self.on_idle_expired();
        }
    }

    /// The ping uses the URL of the request after it, never `*`: go2rtc plays the first URL that it
    /// sees.
    pub(super) fn begin_health_check(&mut self) -> Option<Draft> {
        let first = self.waiting.front()?;
        let (url, is_ping) = (first.url.clone(), first.purpose == Purpose::Ping);
        self.health = Health::Checking;
        match is_ping {
            true => self.waiting.pop_front(),
            false => Some(self.ping(url)),
        }
    }
}

/// Bytes that the server sends unasked.
impl Connection {
    /// Something unasked arrived. On a connection in use that does not matter; but the core may not
    /// know yet that a connection without sessions is idle.
    pub(super) fn on_unasked(&mut self, now: Instant) {
        let is_in_use = self.idle.is_none() && !self.sessions.is_empty();
        if !is_in_use && !std::mem::replace(&mut self.has_spoken_unasked, true) {
            self.check_once_idle(now);
        }
    }

    /// Ends an idle connection on which something unasked arrived, once its TEARDOWNs are answered.
    pub(super) fn check_once_idle(&mut self, now: Instant) {
        let has_spoken = self.has_spoken_unasked || self.is_framing_lost();
        if !has_spoken || self.idle.is_none() {
            return;
        }
        if self.sessions.is_empty() {
            return self.lose(UNASKED);
        }
        self.has_spoken_unasked = true;
        self.retire(Retirement::SpokeUnasked);
        self.become_idle(now, Duration::ZERO);
    }

    /// The connection is to be used again. Half a unit is unasked too, whatever it may become; but
    /// not while a session is torn down, whose camera may still be sending.
    fn check_before_reuse(&mut self, now: Instant) {
        let is_amid = self.framing.is_mid_unit() && self.sessions.is_empty();
        let is_unfit = self.has_spoken_unasked || self.is_framing_lost() || is_amid;
        if self.state != ConnectionPhase::Open || self.idle.is_none() || !is_unfit {
            return;
        }
        self.begin_closing(now, UNASKED);
        if self.sessions.is_empty() {
            self.end_closing();
        } else {
            self.retire(Retirement::SpokeUnasked);
        }
    }
}
