//! The teardown of sessions, a connection without references, and the end of the connection.
//!
//! # Sessions
//!
//! A session that is released owes the server one TEARDOWN if the server ever gave it an id. If its
//! first SETUP is unanswered, the TEARDOWN waits for the answer, so a caller that goes away during
//! SETUP leaves nothing behind at the server. The session's channels are in quarantine from the
//! release on.
//!
//! # Idle connections
//!
//! A connection without references has an idle timeout, and a health check before it is used again.
//! Half a frame or half an answer that the server sends meanwhile would hide the answer to the next
//! request: a camera waited 25 s for its DESCRIBE. So a connection on which the server has sent
//! something unasked while it was idle is never used again (fault F47). Unasked is everything except a
//! whole frame on a live or quarantined channel, an answer to a request or a tombstone, a whole request
//! of the server, and a line end.

use std::time::{Duration, Instant};

use rtsp_types::Method;

use super::{
    Connection, ConnectionPhase, HealthCheck, TeardownState, Timer,
    requests::{Draft, Outstanding, Purpose, take_where},
    session::{CoreSession, SessionPhase},
};
use crate::mux::proto::{
    command::{RequestId, SessionKey},
    event::{CloseReason, Event, FailureKind, Reply, Retirement},
};

impl Connection {
    /// The caller requests TEARDOWN, and wants its result.
    pub(super) fn tear_down(&mut self, now: Instant, key: SessionKey, id: RequestId) {
        match self.begin_teardown(now, key, Some(id)) {
            true => self.flush(now),
            false => {
                let kind = FailureKind::Cancelled;
                self.fail(key, Some(id), Method::Teardown, None, kind);
            }
        }
    }

    /// Begins the teardown of a session: from now on nothing is delivered to it. False if it had begun.
    pub(super) fn begin_teardown(
        &mut self,
        now: Instant,
        key: SessionKey,
        caller: Option<RequestId>,
    ) -> bool {
        let session = self.sessions.get_mut(&key);
        let Some(session) = session.filter(|session| !session.is_tearing_down()) else {
            return false;
        };
        session.teardown_state = TeardownState::Due(caller);
        self.cancel_requests(now, key);
        let (until, quiet) = self.unconfirmed_quarantine(now, key);
        self.channels.quarantine(key, until, quiet);
        self.settle_teardown(now, key);
        true
    }

    fn cancel_requests(&mut self, now: Instant, key: SessionKey) {
        let mine = take_where(&mut self.waiting, |draft| draft.session == Some(key));
        let retries = self.authorizer.take_retries_of(key);
        let shown = self.shown.take_of(key);
        for draft in mine.into_iter().chain(retries).chain(shown) {
            self.withdraw(draft, FailureKind::Cancelled);
        }
        for (cseq, method, caller) in self.requests.disown(key, now) {
            let kind = FailureKind::Cancelled;
            self.fail(key, Some(caller), method, Some(cseq), kind);
        }
    }

    /// Takes the next step of a session's teardown, as far as one is possible now.
    pub(super) fn settle_teardown(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let TeardownState::Due(caller) = session.teardown_state else {
            return;
        };
        let is_known = session.id.is_some() && session.phase != SessionPhase::Lost;
        let owes_teardown = is_known && !session.is_replaced && !self.tainted;
        if owes_teardown {
            session.teardown_state = TeardownState::UnderWay;
            let url = session.aggregate().clone();
            self.waiting.push_back(Draft {
                session: Some(key),
                caller,
                ..self.own_draft(Method::Teardown, url, Purpose::Teardown)
            });
            self.watch_teardown(now, key);
            self.flush(now);
        } else if session.id.is_some() || !self.requests.has_setup(key) {
            self.complete(key, caller, Ok(Reply::TornDown));
            self.forget(key);
        }
    }

    /// The answer that a TEARDOWN waits for may never come, so its caller is notified now. If the
    /// answer does come, the TEARDOWN is sent all the same.
    pub(super) fn on_setup_expired(&mut self, key: SessionKey, after: Duration) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        if let TeardownState::Due(Some(caller)) = session.teardown_state {
            session.teardown_state = TeardownState::Due(None);
            let (method, kind) = (Method::Teardown, FailureKind::TimedOut(after));
            self.fail(key, Some(caller), method, None, kind);
        }
    }

    /// Settles the sessions that waited for an answer which will not come any more.
    pub(super) fn settle_teardowns(&mut self, now: Instant) {
        let is_due =
            |session: &CoreSession| matches!(session.teardown_state, TeardownState::Due(_));
        for key in self.sessions.keys_where(is_due) {
            self.settle_teardown(now, key);
        }
    }

    /// TEARDOWN was answered with 2xx, or with 454: the server does not know the session any more.
    /// gst-rtsp-server's `Connection: close` in this answer means nothing.
    pub(super) fn on_torn_down(&mut self, now: Instant, key: SessionKey, answered: Outstanding) {
        let rest = self.config.timeouts.quarantine;
        self.channels.confirm_teardown(key, now, rest);
        self.on_teardown_refused(key, answered);
    }

    /// TEARDOWN was answered with another status. For us the session is over, but the server may go
    /// on sending: its channels stay in quarantine as if there had been no answer.
    pub(super) fn on_teardown_refused(&mut self, key: SessionKey, answered: Outstanding) {
        self.complete(key, answered.draft.caller, Ok(Reply::TornDown));
        self.forget(key);
    }

    /// TEARDOWN was not answered in time.
    pub(super) fn on_teardown_expired(&mut self, key: SessionKey) {
        self.retire(Retirement::TeardownUnanswered);
        self.forget(key);
    }

    fn forget(&mut self, key: SessionKey) {
        if self.sessions.remove(&key).is_some() {
            self.events.push_back(Event::SessionClosed(key));
        }
        self.finish_closing();
        self.expire_idle_if_empty();
    }

    pub(super) fn finish_closing(&mut self) {
        if self.sessions.is_empty() {
            self.end_closing();
        }
    }

    /// The connection is over if it is closing.
    pub(super) fn end_closing(&mut self) {
        if let ConnectionPhase::Closing(reason) = &self.state {
            self.lose(reason.clone());
        }
    }

    /// Until when channels stay in quarantine whose TEARDOWN is not answered: the server drops the
    /// session after its timeout, and until then may send on them.
    pub(super) fn unconfirmed_quarantine(
        &self,
        now: Instant,
        key: SessionKey,
    ) -> (Instant, Duration) {
        let timeouts = &self.config.timeouts;
        let session = self.sessions.get(&key);
        let timeout = session.map_or(timeouts.session, CoreSession::timeout);
        (now + timeout, timeouts.quarantine_quiet)
    }
}

const UNASKED: CloseReason =
    CloseReason::Protocol("the server said something unasked while the connection was idle");

/// The state of a connection without references.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) since: Instant,
    /// The idle time ends as soon as the last TEARDOWN is answered.
    until_empty: bool,
}

impl Connection {
    pub(super) fn become_idle(&mut self, now: Instant, timeout: Duration) {
        let at_once = timeout.is_zero();
        let wait = match at_once {
            true => self.config.timeouts.teardown,
            false => timeout,
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
            self.health = HealthCheck::Suspect;
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
        self.health = HealthCheck::Checking;
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
        let is_amid = self.framing.is_mid_unit && self.sessions.is_empty();
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
