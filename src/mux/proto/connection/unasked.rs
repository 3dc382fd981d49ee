//! What a server says on an idle connection.
//!
//! Half a frame or half an answer there swallows the answer to the next request: the next camera
//! waited 25 s for its DESCRIBE. So a connection that has said something unasked while it was idle is
//! never used again (fault F47). Unasked is what is no whole frame on a live or quarantined channel, no
//! answer to a request or to the tombstone of one, no whole request of the server and no line end.

use std::time::{Duration, Instant};

use super::Connection;
use crate::mux::proto::event::{CloseReason, Retirement};

const UNASKED: CloseReason =
    CloseReason::Protocol("the server said something unasked while the connection was idle");

impl Connection {
    /// Something came that is none of what may come. No matter on a connection that is in use; one
    /// whose last session has left may not have been told yet that it is idle.
    pub(super) fn on_unasked(&mut self, now: Instant) {
        let is_in_use = self.idle.is_none() && !self.sessions.is_empty();
        if !is_in_use && !std::mem::replace(&mut self.has_spoken_unasked, true) {
            self.check_once_idle(now);
        }
    }

    /// An idle connection that has spoken unasked ends, after the TEARDOWNs that are out.
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

    /// An idle connection is to be used again. Half a unit is unasked as well, whatever it is to be.
    pub(super) fn check_before_reuse(&mut self) {
        let is_amid = self.framing.is_mid_unit() || self.is_framing_lost();
        if self.idle.is_some() && (self.has_spoken_unasked || is_amid) {
            self.lose(UNASKED);
        }
    }
}
