//! Bytes that a server sends on an idle connection.
//!
//! Half a frame or half an answer there would hide the answer to the next request: the next camera
//! waited 25 s for its DESCRIBE. So a connection on which the server has sent something unasked
//! while it was idle is never used again (fault F47). Unasked is everything except a whole frame on
//! a live or quarantined channel, an answer to a request or a tombstone, a whole request of the
//! server, and a line end.

use std::time::{Duration, Instant};

use super::Connection;
use crate::mux::proto::event::{CloseReason, Retirement};

const UNASKED: CloseReason =
    CloseReason::Protocol("the server said something unasked while the connection was idle");

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

    /// The connection is to be used again. Half a unit is unasked too, whatever it may become.
    pub(super) fn check_before_reuse(&mut self) {
        let is_amid = self.framing.is_mid_unit() || self.is_framing_lost();
        if self.idle.is_some() && (self.has_spoken_unasked || is_amid) {
            self.lose(UNASKED);
        }
    }
}
