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
//!
//! # Keep-alives
//!
//! Keep-alives are sent per session, because servers expire sessions and not connections: live555
//! silently stops exactly the session without one. They are sent early, because servers were seen
//! to expire sessions at 0.8 of the timeout they announce, and because the slow DESCRIBE of another
//! session may hold an answer for 20 s.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rtsp_types::Method;

use super::{
    Connection, ConnectionPhase,
    requests::{Draft, Outstanding, Purpose},
    session::CoreSession,
};
use crate::mux::proto::{
    command::SessionKey,
    event::{CloseReason, FailureKind, PlayAnswer, Retirement},
};

/// Whether requests may be sent on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthCheck {
    Good,
    /// It was idle for so long that a ping has to be answered before anything else is sent.
    Suspect,
    /// The ping is sent.
    Checking,
}

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
        self.repeat_if_passed_over(now);
        self.send_fence_if_due(now);
    }

    fn on_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Silence | Timer::Resync if !self.is_reading() => {
                self.timers.set(timer, now + RECHECK);
            }
            Timer::Idle => self.on_idle_expired(),
            Timer::Held => self.on_held_due(now),
            Timer::Closing => self.end_closing(),
            Timer::Answer => self.answer_as_usual(now),
            Timer::PlayProof => self.look_for_media(now),
            Timer::Silence => self.on_silence(now),
            Timer::Resync => self.on_resync_due(now),
            Timer::WriteStall => {
                self.lose(CloseReason::Dead("the server does not read what we send"))
            }
        }
    }

    fn on_expired(&mut self, expired: Outstanding) {
        let was_silent = self.was_silent(&expired);
        let (cseq, draft) = (expired.cseq, expired.draft);
        match (&draft.purpose, draft.session) {
            (Purpose::Ping, _) => {
                if self.health == HealthCheck::Checking {
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
                match expired.is_perhaps_refused {
                    true => self.keep_alive_means.on_refused(&draft.method),
                    false => self.keep_alive_means.on_unanswered(&draft.method),
                }
                return self.end_keep_alive(key);
            }
            (Purpose::Teardown, Some(key)) => {
                let kind = FailureKind::TimedOut(draft.deadline);
                self.fail_draft(draft, Some(cseq), kind);
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
    fn was_silent(&self, expired: &Outstanding) -> bool {
        let is_last = |promoted: Instant| self.last_byte <= promoted;
        self.last_byte < expired.sent || expired.promoted().is_some_and(is_last)
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
        let is_due = |session: &CoreSession| {
            let due = session.keep_alive_due(is_reading);
            due.is_some_and(|due| due <= now)
        };
        for key in self.sessions.keys_where(is_due).into_iter().rev() {
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
        let sessions = self.sessions.iter();
        let kept_alive = sessions.filter_map(|(key, it)| Some((it.keep_alive_due(true)?, *key)));
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
        let means = self.keep_alive_means;
        let has_get_parameter = match self.keep_alive_method {
            KeepAliveMethod::Named => self.has_get_parameter,
            method => method == KeepAliveMethod::GetParameter,
        };
        let Some(method) = means.method(has_get_parameter, session.has_played()) else {
            return;
        };
        self.last_keep_alive = Some(method.clone());
        session.keep_alive_outstanding = true;
        let url = session.aggregate().clone();
        // Before the DESCRIBEs of other sessions, which may take long.
        self.waiting.push_front(Draft {
            session: Some(key),
            ..self.own_draft(method, url, Purpose::KeepAlive)
        });
    }

    pub(super) fn end_keep_alive(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.keep_alive_outstanding = false;
        }
    }
}

/// How long after a PLAY without an answer the session plays if its media comes: live555 sends some
/// before the answer, and some firmware loses the answer among the frames. One picture is no proof, the
/// server may have sent it and died: the last packet must be younger than half of this time.
const PLAY_PROOF: Duration = Duration::from_secs(1);

/// The same for one PLAY, whose caller may not wait for so long.
fn play_proof(draft: &Draft) -> Duration {
    let half = draft.patience.map(|patience| patience / 2);
    half.map_or(PLAY_PROOF, |half| PLAY_PROOF.min(half))
}

/// PLAY that is not answered.
impl Connection {
    pub(super) fn watch_play(&mut self, now: Instant, play: &Draft) {
        let due = now + play_proof(play);
        self.timers.set_at_latest(Timer::PlayProof, due);
    }

    fn look_for_media(&mut self, now: Instant) {
        let is_play = |entry: &&Outstanding| matches!(entry.draft.purpose, Purpose::Play(_));
        let unanswered = self.requests.waiting().filter(is_play);
        let unanswered = unanswered.filter_map(|it| {
            let proof = play_proof(&it.draft);
            Some((it.cseq, it.draft.session?, it.sent, proof))
        });
        for (cseq, key, sent, proof) in unanswered.collect::<Vec<_>>() {
            let is_due = now.saturating_duration_since(sent) >= proof;
            let heard = self.channels.last_heard(key);
            let comes = heard.is_some_and(|at| now.saturating_duration_since(at) < proof / 2);
            if !is_due || !comes {
                let again = now + proof / 4;
                self.timers.set_at_latest(Timer::PlayProof, again);
            } else if let Some(draft) = self.requests.on_ignored(cseq, None, now) {
                let playing = self.on_playing(now, key, PlayAnswer::default());
                self.complete(key, draft.caller, Ok(playing));
            }
        }
    }
}

/// Silence on a connection with playing sessions.
impl Connection {
    /// Starts the silence timer when a session begins to play.
    pub(super) fn watch_silence(&mut self, now: Instant) {
        let wait = self.config.timeouts.silence_probe;
        if !self.timers.is_set(Timer::Silence) {
            self.timers.set(Timer::Silence, now + wait);
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
        let is_to_be_probed = silence >= timeouts.silence_probe;
        let mut next = timeouts.silence_probe;
        if is_to_be_probed {
            next = timeouts.silence_dead;
            let ping = self.ping(playing.aggregate().clone());
            self.waiting.push_back(ping);
        }
        self.timers.set(Timer::Silence, self.last_byte + next);
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
                let time = now.saturating_duration_since(since);
                self.requests.postpone(now, time);
            }
            _ => {}
        }
    }

    /// True unless reading is paused.
    pub fn is_reading(&self) -> bool {
        self.reading_paused_since.is_none()
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
            // It was idle during the suspend too, while our clock stood still.
            idle.since = idle.since.checked_sub(suspended).unwrap_or(idle.since);
            self.timers.hasten(Timer::Idle, now, suspended);
        }
        if suspended >= self.config.timeouts.health_check_after {
            self.was_suspended = true;
            self.look_for_server(now);
        }
        self.handle_timeout(now);
    }

    fn look_for_server(&mut self, now: Instant) {
        if self.health != HealthCheck::Good || self.idle.is_some() {
            return;
        }
        self.health = HealthCheck::Suspect;
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

/// Which request is to keep the sessions of a server alive: one has failed, so the other is tried, whether
/// `Public` names it or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepAliveMethod {
    /// None has failed: GET_PARAMETER if `Public` names it, else OPTIONS.
    #[default]
    Named,
    /// GET_PARAMETER ended the connection, or the session in spite of it (HIPCAM).
    Options,
    /// OPTIONS did.
    GetParameter,
}

/// What the server has ended shows which request does not keep it alive.
impl Connection {
    /// Takes over what another connection to the server has learned.
    pub fn set_keep_alive_method(&mut self, method: KeepAliveMethod) {
        self.keep_alive_method = method;
    }

    /// A session has ended in spite of its keep-alive.
    pub(super) fn blame_keep_alive(&mut self, method: &Method) {
        self.keep_alive_method = match method {
            Method::Options => KeepAliveMethod::GetParameter,
            _ => KeepAliveMethod::Options,
        };
    }

    /// The server has torn down a session: if it did that at a keep-alive, or when the session had played
    /// for as long as its timeout, it does not take that for one.
    pub(super) fn on_torn_down_by_server(&mut self, now: Instant, key: SessionKey) {
        let session = self.sessions.get(&key);
        let is_to_blame = |it: &CoreSession| it.keep_alive_outstanding || it.has_just_expired(now);
        let last = self.last_keep_alive.clone();
        if let Some(method) = last.filter(|_| session.is_some_and(is_to_blame)) {
            self.blame_keep_alive(&method);
        }
    }

    /// The server has closed the connection. The last request was to blame if it was a keep-alive, or if
    /// a session has played for as long as its timeout since.
    pub(super) fn on_closed_by_server(&mut self, now: Instant) {
        let is_keep_alive = |draft: &Draft| draft.purpose == Purpose::KeepAlive;
        let last = self.requests.waiting().last().map(|entry| &entry.draft);
        let blamed = match last {
            Some(draft) => is_keep_alive(draft).then(|| draft.method.clone()),
            None if self.sessions.values().any(|it| it.has_just_expired(now)) => {
                self.last_keep_alive.clone()
            }
            None => None,
        };
        if let Some(method) = blamed {
            self.blame_keep_alive(&method);
        }
    }
}

/// The request that keeps sessions of this connection alive. It only ever steps down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Means {
    /// GET_PARAMETER without a body where `Public` names it, else OPTIONS.
    #[default]
    GetParameter,
    /// OPTIONS: the server answered GET_PARAMETER with an error, or not at all.
    Options,
    /// Receiver reports alone: it left OPTIONS without an answer.
    ReceiverReports,
}

impl Means {
    /// The request to send for a session, if any. Before its first PLAY a session gets no
    /// GET_PARAMETER: go2rtc closes the connection on it.
    pub(crate) fn method(self, has_get_parameter: bool, has_played: bool) -> Option<Method> {
        match self {
            Self::ReceiverReports => None,
            Self::GetParameter if has_played && has_get_parameter => Some(Method::GetParameter),
            Self::GetParameter | Self::Options => Some(Method::Options),
        }
    }

    /// The server answered `method` with an error. It has seen the session all the same, and
    /// without any request a paused session would expire. So the core goes on with OPTIONS,
    /// whatever the answers are (Tapo).
    pub(crate) fn on_refused(&mut self, method: &Method) {
        if (*self, method) == (Self::GetParameter, &Method::GetParameter) {
            *self = Self::Options;
        }
    }

    /// The server did not answer `method`: another request of that kind would hold up all requests
    /// after it.
    pub(crate) fn on_unanswered(&mut self, method: &Method) {
        match method {
            Method::Options => *self = Self::ReceiverReports,
            method => self.on_refused(method),
        }
    }
}

/// Statuses that mean "method not supported" (and not "session not found").
pub(crate) fn means_unsupported(code: u16) -> bool {
    matches!(code, 400 | 405 | 451 | 501)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// When to give up a connection without references.
    Idle,
    /// When to stop waiting for the answers to our last TEARDOWNs.
    Closing,
    /// When to check that bytes have arrived lately, and probe or give up the server.
    Silence,
    /// When to look whether media has come although PLAY is not answered.
    PlayProof,
    /// When to stop searching for the lost framing.
    Resync,
    /// When to decide again on packets that are held.
    Held,
    /// When to give up a peer that does not read our requests.
    WriteStall,
    /// When to answer a request of the server without the user.
    Answer,
}

/// The connection's own timers. Response deadlines live with the requests, keep-alives with the
/// sessions.
#[derive(Debug, Default)]
pub(crate) struct TimerTable(BTreeMap<Timer, Instant>);

impl TimerTable {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.0.insert(timer, at);
    }

    /// Sets a timer, unless it is due before that.
    pub(crate) fn set_at_latest(&mut self, timer: Timer, at: Instant) {
        let due = self.0.entry(timer).or_insert(at);
        *due = at.min(*due);
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.0.contains_key(&timer)
    }

    /// Moves a timer forward by `by`, but not before `now`.
    pub(crate) fn hasten(&mut self, timer: Timer, now: Instant, by: Duration) {
        if let Some(at) = self.0.get_mut(&timer) {
            *at = at.checked_sub(by).unwrap_or(now).max(now);
        }
    }

    /// Takes one timer that is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let mut due = self.0.extract_if(.., |_, at| *at <= now);
        due.next().map(|(timer, _)| timer)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }
}

#[cfg(test)]
mod keep_alive_tests {
    use super::*;

    #[test]
    fn means_step_down_and_never_up() {
        let mut means = Means::default();
        assert_eq!(means.method(true, true), Some(Method::GetParameter));
        assert_eq!(
            means.method(true, false),
            Some(Method::Options),
            "not before PLAY"
        );
        assert_eq!(means.method(false, true), Some(Method::Options));
        means.on_refused(&Method::GetParameter);
        assert_eq!(means.method(true, true), Some(Method::Options));
        means.on_refused(&Method::Options);
        assert_eq!(
            means.method(true, true),
            Some(Method::Options),
            "an error is an answer"
        );
        means.on_unanswered(&Method::GetParameter);
        assert_eq!(means.method(true, true), Some(Method::Options));
        means.on_unanswered(&Method::Options);
        assert_eq!(means.method(true, true), None);
        means.on_unanswered(&Method::GetParameter);
        assert_eq!(means.method(true, true), None);
    }
}

#[cfg(test)]
mod timers_tests {
    use super::*;

    #[test]
    fn timers_fire_once_and_the_earliest_is_next() {
        let (mut timers, now) = (TimerTable::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        timers.set(Timer::Closing, later);
        timers.set(Timer::Idle, now);
        assert_eq!(timers.next(), Some(now));
        assert_eq!(timers.take_due(now), Some(Timer::Idle));
        assert_eq!(timers.take_due(now), None);
        assert_eq!(timers.next(), Some(later));
        timers.clear(Timer::Closing);
        assert_eq!(timers.take_due(later), None);
    }

    #[test]
    fn a_timer_is_hastened_to_now_at_most_and_only_if_it_is_set() {
        let (mut timers, now) = (TimerTable::default(), Instant::now());
        let second = Duration::from_secs(1);
        timers.hasten(Timer::Idle, now, second);
        assert_eq!(timers.next(), None);
        timers.set(Timer::Idle, now + 60 * second);
        timers.hasten(Timer::Idle, now, second);
        assert_eq!(timers.next(), Some(now + 59 * second));
        timers.hasten(Timer::Idle, now, Duration::MAX);
        assert_eq!(timers.next(), Some(now));
    }
}
