//! The teardown of sessions, and the end of the connection.
//!
//! A session that is released owes the server one TEARDOWN if the server ever gave it an id. If its
//! first SETUP is unanswered, the TEARDOWN waits for the answer, so a caller that goes away during
//! SETUP leaves nothing behind at the server. The session's channels are in quarantine from the
//! release on.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rtsp_types::Method;

use super::{
    Connection, ConnectionPhase, TeardownState,
    requests::{Draft, Outstanding, Purpose},
    session::SessionPhase,
};
use crate::mux::proto::{
    auth::AuthTrail,
    command::{RequestId, SessionKey},
    event::{Event, Failure, FailureKind, Reply, Retirement},
};

impl Connection {
    /// The caller requests TEARDOWN, and wants its result.
    pub(super) fn tear_down(&mut self, now: Instant, key: SessionKey, id: RequestId) {
        let is_staying = self
            .sessions
            .get(&key)
            .is_some_and(|session| !session.is_tearing_down());
        if is_staying {
            self.begin_teardown(now, key, Some(id));
            self.flush(now);
        } else {
            let failure = Failure {
                method: Method::Teardown,
                cseq: None,
                kind: FailureKind::Cancelled,
            };
            self.complete(key, Some(id), Err(failure));
        }
    }

    /// Begins the teardown of a session: from now on nothing is delivered to it.
    pub(super) fn begin_teardown(
        &mut self,
        now: Instant,
        key: SessionKey,
        caller: Option<RequestId>,
    ) {
        let Some(session) = self
            .sessions
            .get_mut(&key)
            .filter(|session| !session.is_tearing_down())
        else {
            return;
        };
        session.teardown_state = TeardownState::Due(caller);
        self.cancel_requests(now, key);
        let (until, quiet) = self.unconfirmed_quarantine(now, key);
        self.channels.quarantine(key, until, quiet);
        self.settle_teardown(now, key);
    }

    fn cancel_requests(&mut self, now: Instant, key: SessionKey) {
        let (mine, others): (VecDeque<Draft>, VecDeque<Draft>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|draft| draft.session == Some(key));
        self.waiting = others;
        let retries = self.authorizer.take_retries_of(key);
        for draft in mine.into_iter().chain(retries) {
            self.withdraw(draft, FailureKind::Cancelled);
        }
        for (cseq, method, caller) in self.requests.disown(key, now) {
            let failure = Failure {
                method,
                cseq: Some(cseq),
                kind: FailureKind::Cancelled,
            };
            self.complete(key, Some(caller), Err(failure));
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
                method: Method::Teardown,
                url,
                purpose: Purpose::Teardown,
                session: Some(key),
                caller,
                deadline: self.config.timeouts.teardown,
                patience: None,
                auth: AuthTrail::default(),
                is_repeated: false,
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
            let failure = Failure {
                method: Method::Teardown,
                cseq: None,
                kind: FailureKind::TimedOut(after),
            };
            self.complete(key, Some(caller), Err(failure));
        }
    }

    /// Settles the sessions that waited for an answer which will not come any more.
    pub(super) fn settle_teardowns(&mut self, now: Instant) {
        let is_due =
            |teardown_state: TeardownState| matches!(teardown_state, TeardownState::Due(_));
        let due = self
            .sessions
            .iter()
            .filter(|(_, session)| is_due(session.teardown_state));
        let keys: Vec<SessionKey> = due.map(|(key, _)| *key).collect();
        keys.into_iter()
            .for_each(|key| self.settle_teardown(now, key));
    }

    /// TEARDOWN was answered with 2xx, or with 454: the server does not know the session any more.
    /// gst-rtsp-server's `Connection: close` in this answer means nothing.
    pub(super) fn on_torn_down(&mut self, now: Instant, key: SessionKey, answered: Outstanding) {
        self.channels
            .confirm_teardown(key, now, self.config.timeouts.quarantine);
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
        let session_timeout = self
            .sessions
            .get(&key)
            .map_or(timeouts.session, |session| session.timeout());
        (now + session_timeout, timeouts.quarantine_quiet)
    }
}
