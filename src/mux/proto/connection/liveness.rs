//! What is due at which time - deadlines, keep-alives, the silence probe - and the times in which the
//! clock says nothing about the server: while reading is paused, and after a suspend.
//!
//! Reading is paused while a consumer with `overflow-policy=block` drains its queue. What the server
//! sends meanwhile is not read, so its silence is no evidence against it.
//!
//! While the machine is suspended our clock stands still, and the server's goes on.
//! Sessions may have expired at the server, and the connection may be gone without a byte of that
//! reaching us. So the core counts the time of the suspend, asks the server at once whether it is
//! still there, and blames no session for what the server has ended meanwhile.

use std::time::{Duration, Instant};

use rtsp_types::Method;

use super::{
    Connection, ConnectionPhase, Timer,
    draft::{Draft, Purpose},
    idle::Health,
    requests::Expired,
    session::Session,
};
use crate::mux::proto::{
    auth::AuthTrail,
    command::SessionKey,
    event::{CloseReason, FailureKind, Retirement},
};

/// During a pause, a timer that judges the server by its silence is set again after this time.
const RECHECK: Duration = Duration::from_secs(1);

impl Connection {
    /// Called when the time of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.is_reading()
            && let Some((cseq, draft)) = self.requests.lose_patience(now)
        {
            let kind = FailureKind::TimedOut(draft.patience.unwrap_or(draft.deadline));
            self.fail_draft(draft, Some(cseq), kind);
        }
        while self.is_reading()
            && let Some(expired) = self.requests.expire_one(now, self.config.timeouts.ceiling)
        {
            self.on_expired(expired);
        }
        while let Some(timer) = self.timers.take_due(now) {
            self.on_timer(now, timer);
        }
        self.give_up_teardowns(now);
        self.authorizer.on_timeout(now);
        self.send_keep_alives(now);
        self.flush(now);
        self.send_fence_if_due(now);
    }

    fn on_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Silence | Timer::Resync if !self.is_reading() => self.postpone(now, timer),
            Timer::Idle => self.on_idle_expired(),
            Timer::Closing => self.end_closing(),
            Timer::Silence => self.on_silence(now),
            Timer::Resync => self.on_resync_due(now),
            Timer::WriteStall => {
                self.lose(CloseReason::Dead("the server does not read what we send"))
            }
        }
    }

    fn on_expired(&mut self, expired: Expired) {
        let was_silent = self.was_silent(&expired);
        let Expired {
            cseq,
            draft,
            is_perhaps_refused,
            ..
        } = expired;
        match (&draft.purpose, draft.session) {
            (Purpose::Ping, _) => {
                if self.health == Health::Checking {
                    let reason = CloseReason::Dead("no answer to the ping before reuse");
                    self.lose(self.reason_for_loss(reason));
                }
                return;
            }
            // The server is busy, or the fence is not needed any more.
            (Purpose::Fence, _) => return,
            (Purpose::Probe | Purpose::ProbeFence, _) => return self.on_probe_over(false),
            (Purpose::Undo { .. }, _) => return self.retire(Retirement::TeardownUnanswered),
            (Purpose::KeepAlive, Some(key)) => {
                // Tapo C520WS refuses keep-alives with a wrong CSeq. If that counted as silence,
                // the core would give up its last keep-alive request, and with it paused sessions.
                match is_perhaps_refused {
                    true => self.keep_alive_means.on_refused(&draft.method),
                    false => self.keep_alive_means.on_unanswered(&draft.method),
                }
                return self.end_keep_alive(key);
            }
            (Purpose::Teardown, Some(key)) => {
                self.fail_draft(
                    draft.clone(),
                    Some(cseq),
                    FailureKind::TimedOut(draft.deadline),
                );
                return self.on_teardown_expired(key);
            }
            _ => {}
        }
        if let (Purpose::Setup { .. }, Some(key)) = (&draft.purpose, draft.session) {
            self.on_setup_expired(key, draft.deadline);
        }
        // The channels of a SETUP stay reserved: its answer, which grants them, may still come.
        let kind = FailureKind::TimedOut(draft.deadline);
        self.fail_draft(draft, Some(cseq), kind);
        // While media arrives, one missing answer does not mean a dead connection; in silence it
        // does.
        if was_silent {
            let reason = CloseReason::Dead("no answer and not a byte from the server");
            self.lose(self.reason_for_loss(reason));
        }
    }

    /// True if nothing has arrived since the request was sent, or since the answer that brought it
    /// to the head of the line.
    fn was_silent(&self, expired: &Expired) -> bool {
        let is_last = |promoted: Instant| self.last_byte <= promoted;
        self.last_byte < expired.sent || expired.promoted.is_some_and(is_last)
    }
}

/// Keep-alives.
impl Connection {
    pub(super) fn next_keep_alive(&mut self) -> Option<Instant> {
        if self.state != ConnectionPhase::Open {
            return None;
        }
        let is_reading = self.is_reading();
        self.sessions.next_keep_alive(is_reading)
    }

    fn send_keep_alives(&mut self, now: Instant) {
        if self.state != ConnectionPhase::Open {
            return;
        }
        let is_reading = self.is_reading();
        let is_due = |session: &Session| {
            let due = session.keep_alive_due(is_reading);
            due.is_some_and(|due| due <= now)
        };
        let due = self.sessions.iter().filter(|(_, session)| is_due(session));
        let keys: Vec<SessionKey> = due.map(|(key, _)| *key).collect();
        for key in keys.into_iter().rev() {
            self.keep_alive(now, key);
        }
    }

    /// Sends the next keep-alive before it is due, unless a request is unanswered: its answer time
    /// shows the health of the connection.
    pub fn keep_next_alive(&mut self, now: Instant) {
        let is_answered = self.requests.waiting().next().is_none() && self.waiting.is_empty();
        if self.state != ConnectionPhase::Open || !self.is_reading() || !is_answered {
            return;
        }
        let kept_alive = self.sessions.iter().filter_map(|(key, session)| {
            let due = session.keep_alive_due(true)?;
            Some((due, *key))
        });
        if let Some((_, key)) = kept_alive.min() {
            self.keep_alive(now, key);
            self.flush(now);
        }
    }

    pub(super) fn keep_alive(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        // Counted from now even if no keep-alive can be sent (only receiver reports are left, or
        // the credentials were refused); otherwise it would be due again at once.
        session.last_request = Some(now);
        let Some(method) = self
            .keep_alive_means
            .method(self.public, session.has_played())
        else {
            return;
        };
        session.keep_alive_outstanding = true;
        // Before the DESCRIBEs of other sessions, which may take long.
        self.waiting.push_front(Draft {
            method,
            url: session.aggregate().clone(),
            purpose: Purpose::KeepAlive,
            session: Some(key),
            caller: None,
            deadline: self.config.timeouts.keep_alive,
            patience: None,
            auth: AuthTrail::default(),
            is_repeated: false,
        });
    }

    pub(super) fn end_keep_alive(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.keep_alive_outstanding = false;
        }
    }
}

/// Silence on a connection with playing sessions.
impl Connection {
    /// Starts the silence timer when a session begins to play.
    pub(super) fn watch_silence(&mut self, now: Instant) {
        if !self.timers.is_set(Timer::Silence) {
            self.timers
                .set(Timer::Silence, now + self.config.timeouts.silence_probe);
        }
    }

    fn on_silence(&mut self, now: Instant) {
        let timeouts = self.config.timeouts;
        let Some(playing) = self.sessions.values().find(|session| session.is_playing()) else {
            return;
        };
        let silence = now.saturating_duration_since(self.last_byte);
        if silence >= timeouts.silence_dead {
            let reason = CloseReason::Dead("not a byte from the server for too long");
            return self.lose(self.reason_for_loss(reason));
        }
        if silence < timeouts.silence_probe {
            return self
                .timers
                .set(Timer::Silence, self.last_byte + timeouts.silence_probe);
        }
        let url = playing.aggregate().clone();
        self.timers
            .set(Timer::Silence, self.last_byte + timeouts.silence_dead);
        let ping = self.ping(url);
        self.waiting.push_back(ping);
    }

    pub(super) fn ping(&self, url: url::Url) -> Draft {
        self.own_draft(Method::Options, url, Purpose::Ping)
    }
}

/// Reading is paused.
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

    fn postpone(&mut self, now: Instant, timer: Timer) {
        self.timers.set(timer, now + RECHECK);
    }
}

/// After a suspend of the machine.
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
