//! Which requests are written, and when.

use std::time::{Duration, Instant};

use rtsp_types::Method;
use url::Url;

use super::{
    Connection, ConnectionPhase, HealthCheck, Timer,
    authorizer::AuthorizationGate,
    requests::{Draft, Purpose, take_where},
    session::{CoreSession, SessionPhase},
};
use crate::mux::proto::{
    auth::AuthTrail,
    command::{RequestId, SessionKey, SessionRequest},
    event::{FailureKind, Retirement, SharingViolation},
    wire::{message::MessageWriter, uri},
};

/// On a connection where two streams were given one channel no session may start, and none can be
/// addressed.
const TAINTED: FailureKind = FailureKind::CannotShare(SharingViolation::SameChannels);

/// The server has given the session's id to another one, so the session cannot go on.
pub(super) const REPLACED: FailureKind = FailureKind::CannotShare(SharingViolation::SameSessionId);

impl Connection {
    /// Builds a session's request, if the session's state allows it.
    pub(super) fn draft(
        &mut self,
        now: Instant,
        key: SessionKey,
        id: RequestId,
        request: SessionRequest,
    ) -> Result<Draft, FailureKind> {
        let method = request.method();
        let session = self.sessions.get_mut(&key);
        let session = session.filter(|session| !session.is_tearing_down());
        let session = session.ok_or(FailureKind::Cancelled)?;
        let (patience, is_new) = (session.patience, session.id.is_none());
        let obstacle = match request {
            SessionRequest::Setup { .. } => match session.phase {
                SessionPhase::Lost => Some(FailureKind::Cancelled),
                _ if is_new && self.tainted => Some(TAINTED),
                _ if is_new && self.id_given_twice.is_some() => Some(REPLACED),
                _ => session.is_replaced.then_some(REPLACED),
            },
            SessionRequest::Play { .. } | SessionRequest::Pause | SessionRequest::Parameters(_)
                if !session.is_set_up() =>
            {
                Some(FailureKind::Cancelled)
            }
            SessionRequest::Play { .. } | SessionRequest::Pause | SessionRequest::Parameters(_)
                if self.tainted =>
            {
                Some(TAINTED)
            }
            SessionRequest::Play { .. } => session.is_replaced.then_some(REPLACED),
            _ => None,
        };
        if let Some(obstacle) = obstacle {
            return Err(obstacle);
        }
        let (url, purpose) = match request {
            SessionRequest::Describe => (session.config.url.clone(), Purpose::Describe),
            SessionRequest::Play { aggregate, range } => {
                session.begin_to_play(aggregate);
                (session.aggregate().clone(), Purpose::Play(range))
            }
            SessionRequest::Pause => (session.aggregate().clone(), Purpose::Pause),
            SessionRequest::Parameters(parameters) => {
                (session.aggregate().clone(), Purpose::Parameters(parameters))
            }
            SessionRequest::Setup {
                stream,
                control,
                profile,
                payload_types,
                sources,
            } => {
                let asked = self.reserve_channels(now, key, is_new)?;
                let purpose = Purpose::Setup {
                    stream,
                    asked,
                    profile,
                    payload_types,
                    sources,
                };
                (control, purpose)
            }
            SessionRequest::Teardown => return Err(FailureKind::Cancelled),
        };
        Ok(Draft {
            patience,
            session: Some(key),
            caller: Some(id),
            ..self.own_draft(method, url, purpose)
        })
    }

    /// Reserves a pair for a SETUP. A new session leaves some pairs for the other sessions, and is
    /// refused on a connection with too many pairs in quarantine.
    pub(super) fn reserve_channels(
        &mut self,
        now: Instant,
        key: SessionKey,
        is_new: bool,
    ) -> Result<u8, FailureKind> {
        let limits = self.config.limits;
        if is_new && self.channels.quarantined_pairs() > limits.quarantined_pairs {
            self.retire(Retirement::Quarantine);
            return Err(FailureKind::ChannelsExhausted);
        }
        let spare = if is_new { limits.spare_pairs } else { 0 };
        self.channels
            .reserve(key, spare, now)
            .ok_or(FailureKind::ChannelsExhausted)
    }

    /// A request of the connection itself, without a session and a caller.
    pub(super) fn own_draft(&self, method: Method, url: Url, purpose: Purpose) -> Draft {
        Draft {
            deadline: self.deadline_of(&purpose),
            patience: None,
            method,
            url,
            purpose,
            session: None,
            caller: None,
            auth: AuthTrail::default(),
            is_repeated: false,
            seen: None,
        }
    }

    pub(super) fn deadline_of(&self, purpose: &Purpose) -> Duration {
        let timeouts = &self.config.timeouts;
        match purpose {
            Purpose::Describe | Purpose::Probe => timeouts.describe,
            Purpose::Setup { .. } | Purpose::Play(_) | Purpose::Pause | Purpose::Parameters(_) => {
                timeouts.response
            }
            Purpose::Teardown | Purpose::Undo { .. } => timeouts.teardown,
            Purpose::KeepAlive | Purpose::Ping | Purpose::Fence | Purpose::ProbeFence => {
                timeouts.keep_alive
            }
        }
    }

    /// Writes all requests that may be written.
    pub(super) fn flush(&mut self, now: Instant) {
        self.refresh_before_describe(now);
        while let Some(draft) = self.next_draft(now) {
            self.write_or_show(now, draft);
        }
        if let Some(key) = self.requests.session_that_begins_to_play() {
            self.channels.on_play_begun(key, now);
        }
        self.give_back_permit();
        self.report_credentials();
        if !self.out.is_empty() && !self.timers.is_set(Timer::WriteStall) {
            self.timers
                .set(Timer::WriteStall, now + self.config.timeouts.write_stall);
        }
    }

    fn next_draft(&mut self, now: Instant) -> Option<Draft> {
        if self.is_closed()
            || self.shown.is_any()
            || (self.waiting.is_empty() && self.authorizer.retries.is_empty())
        {
            return None;
        }
        match self.authorizer.gate(&self.requests) {
            AuthorizationGate::Open => {}
            AuthorizationGate::Wait => return None,
            AuthorizationGate::WantsPermit => {
                self.ask_for_permit(now);
                return None;
            }
        }
        // A request is outstanding where only one may be. A TEARDOWN is sent all the same: it does not
        // wait for the slow DESCRIBE of another session.
        let is_held = !self.fences.is_pipelining() && self.requests.waiting().next().is_some();
        let retries = &self.authorizer.retries;
        let may_repeat = |draft: &Draft| self.is_admitted(draft) && !self.is_barred(draft);
        if let Some(at) = retries.iter().position(may_repeat) {
            let retry = retries.get(at);
            let may_go = retry.is_some_and(|it| !is_held || it.method == Method::Teardown);
            if retry.is_some_and(|it| it.method == Method::Describe)
                && let Some(teardown) = self.teardown_before_describe(now)
            {
                return self.waiting.remove(teardown);
            }
            return may_go.then(|| self.authorizer.retries.remove(at)).flatten();
        }
        match self.health {
            HealthCheck::Good => {}
            HealthCheck::Checking => return None,
            HealthCheck::Suspect if self.is_describing() => return None,
            HealthCheck::Suspect => return self.begin_health_check(),
        }
        let may_send = |draft: &Draft| {
            self.may_send(now, draft)
                && (!is_held || draft.method == Method::Teardown)
                && self.is_admitted(draft)
        };
        // Requests that may not follow a DESCRIBE go before it.
        let is_first = |draft: &Draft| self.is_in_order() || draft.method != Method::Describe;
        let mut waiting = self.waiting.iter();
        let at = waiting.position(|draft| is_first(draft) && may_send(draft));
        let at = at.or_else(|| self.waiting.iter().position(may_send))?;
        // Its neighbours may be streams of the same camera.
        let seeks = |draft: &Draft| self.seeks_realm(draft);
        let is_seeking = self.waiting.get(at).is_some_and(seeks);
        let mut waiting = self.waiting.iter();
        let last = waiting.rposition(|draft| is_seeking && seeks(draft) && may_send(draft));
        self.waiting.remove(last.unwrap_or(at))
    }

    /// The position of a TEARDOWN that a DESCRIBE would hold up.
    fn teardown_before_describe(&self, now: Instant) -> Option<usize> {
        let is_it = |draft: &Draft| {
            draft.purpose == Purpose::Teardown
                && self.may_send(now, draft)
                && self.is_admitted(draft)
        };
        let is_held_up = !self.is_in_order() && matches!(self.health, HealthCheck::Good);
        let mut waiting = self.waiting.iter();
        waiting.position(|draft| is_held_up && is_it(draft))
    }

    /// True if a DESCRIBE makes no keep-alive late, of sessions that exist or of those described
    /// together with it. A DESCRIBE of a camera that is being described waits for the first,
    /// because it takes as long again.
    fn may_describe(&self, now: Instant, draft: &Draft) -> bool {
        let has_kept_alive = self.sessions.values().any(CoreSession::is_kept_alive);
        let ceiling = self.config.timeouts.ceiling;
        let under_way = || {
            let describes = self.requests.describes();
            describes.filter(|entry| now.saturating_duration_since(entry.sent) < ceiling)
        };
        let head_times = under_way().map(|entry| entry.head_time(now));
        let head_time = head_times.max().unwrap_or_default();
        let window = self.describe_window;
        let fits = !window.holds(has_kept_alive, head_time)
            || window.admits(under_way().count(), head_time);
        fits && under_way().all(|entry| entry.draft.url != draft.url)
    }

    /// True if nothing of its own session, and no session that would suffer, holds a request back.
    pub(super) fn may_send(&self, now: Instant, draft: &Draft) -> bool {
        if self.is_barred(draft) {
            return false;
        }
        let Some(key) = draft.session else {
            return true;
        };
        if draft.purpose == Purpose::Describe && !self.may_describe(now, draft) {
            return false;
        }
        // A TEARDOWN does not wait for the session's earlier requests.
        if draft.purpose == Purpose::Teardown {
            return true;
        }
        let limit = self.config.limits.outstanding_per_session;
        let of_session = || {
            self.requests
                .waiting()
                .filter(|entry| entry.draft.session == Some(key))
        };
        if of_session().count() >= limit {
            return false;
        }
        // The first SETUP returns the id that the other requests have to carry.
        let is_setup = |draft: &Draft| matches!(draft.purpose, Purpose::Setup { .. });
        !is_setup(draft)
            || self.sessions.is(key, |session| session.id.is_some())
            || !of_session().any(|entry| is_setup(&entry.draft))
    }

    /// The connection has just become tainted: fails all waiting requests that would start a
    /// session.
    pub(super) fn withdraw_begun(&mut self) {
        let may_go = |draft: &Draft| {
            matches!(
                draft.purpose,
                Purpose::Describe | Purpose::KeepAlive | Purpose::Ping
            )
        };
        self.authorizer.retries.append(&mut self.waiting);
        std::mem::swap(&mut self.waiting, &mut self.authorizer.retries);
        for draft in take_where(&mut self.waiting, |draft| !may_go(draft)) {
            self.withdraw(draft, TAINTED);
        }
    }

    /// The server gave one id to two sessions. Sessions with that id that do not play yet are set
    /// up again elsewhere, the first one too, because it is unknown which of them the server plays.
    /// It goes on if both are of one presentation.
    /// No other session is set up here either: the server keeps the session with that id after both
    /// were released.
    pub(super) fn on_id_given_twice(&mut self, key: SessionKey, id: &str) {
        self.id_given_twice = Some(id.to_owned());
        let twin = self.twin(key, id);
        let has_id = |it: &CoreSession| it.is_coming_up() && it.id.as_deref() == Some(id);
        let mut replaced = self.sessions.keys_where(has_id);
        replaced.retain(|key| Some(*key) != twin);
        for key in &replaced {
            if let Some(session) = self.sessions.get_mut(key) {
                session.is_replaced = true;
            }
        }
        let sessions = &self.sessions;
        let is_new = |key: SessionKey| sessions.is(key, |session| session.id.is_none());
        let is_to_begin = |draft: &Draft| match (&draft.purpose, draft.session) {
            (Purpose::Play(_), Some(key)) => replaced.contains(&key),
            (Purpose::Setup { .. }, Some(key)) => replaced.contains(&key) || is_new(key),
            _ => false,
        };
        for draft in take_where(&mut self.waiting, is_to_begin) {
            self.withdraw(draft, REPLACED);
        }
    }

    /// Another session with this id that is to play the presentation of `key`, and does not play yet. It
    /// goes on: whichever of the two the server plays, it is that presentation. Giving the session up
    /// would cost a camera of xiu its stream, which ends with a connection that did not play it.
    pub(super) fn twin(&self, key: SessionKey, id: &str) -> Option<SessionKey> {
        let own = &self.sessions.get(&key)?.config.url;
        let is_twin = |(other, session): &(&SessionKey, &CoreSession)| {
            **other != key
                && session.is_coming_up()
                && !session.is_replaced
                && session.id.as_deref() == Some(id)
                && session.config.url == *own
        };
        let twin = self.sessions.iter().find(is_twin);
        twin.map(|(twin, _)| *twin)
    }

    /// Gives up a request that is not on the wire.
    pub(super) fn withdraw(&mut self, draft: Draft, kind: FailureKind) {
        let Some(key) = draft.session else {
            return match draft.purpose {
                Purpose::Ping => self.health = HealthCheck::Good,
                Purpose::Probe | Purpose::ProbeFence => self.on_probe_over(false),
                _ => {}
            };
        };
        match draft.purpose {
            Purpose::Setup { asked, .. } => self.channels.unreserve(key, asked),
            Purpose::KeepAlive => self.end_keep_alive(key),
            _ => {}
        }
        let is_teardown = draft.purpose == Purpose::Teardown;
        self.fail_draft(draft, None, kind);
        if is_teardown {
            self.on_teardown_expired(key);
        }
    }

    /// True if nothing that concerns the whole connection holds requests back.
    pub(super) fn may_write(&self) -> bool {
        self.state == ConnectionPhase::Open
            && self.health == HealthCheck::Good
            && self.authorizer.gate(&self.requests) == AuthorizationGate::Open
    }

    /// Writes a request and returns its CSeq.
    pub(super) fn write(&mut self, now: Instant, mut draft: Draft) -> u32 {
        let (mut trail, asked) = (draft.auth, self.sessions.asked(&draft));
        let authorization = self.authorizer.authorize(&mut trail, asked);
        draft.auth = trail;
        let (value, answered) = authorization.map(|it| (it.value, it.answered)).unzip();
        if let Some(session) = draft.session.and_then(|key| self.sessions.get_mut(&key)) {
            session.last_request = Some(now);
            self.first.on_written(&session.config.url);
        }
        let cseq = self.requests.insert(draft.clone(), answered, now);
        self.authorizer.on_written(now, cseq, answered);
        self.counters.requests += 1;
        if let (Purpose::Pause, Some(key)) = (&draft.purpose, draft.session) {
            self.channels.on_pausing(key);
        }

        let from = self.out.len();
        let uri = uri::wire(&draft.url);
        let mut out = std::mem::take(&mut self.out);
        let mut writer = MessageWriter::request(&mut out, &draft.method, &uri, cseq);
        let is_authorized = value.is_some();
        if let Some(value) = value {
            writer.header("Authorization", &value);
        }
        let mut put = |name: &str, value: &str| writer.header(name, value);
        match &draft.seen {
            None => self.headers(&draft, &mut put),
            Some(seen) => self.seen_headers(&draft, seen, &mut put),
        }
        writer.finish();
        self.out = out;
        if matches!(draft.purpose, Purpose::Play(_)) {
            self.watch_play(now, &draft);
        }
        if draft.method == Method::Describe {
            let urls = uri.len() * (1 + usize::from(is_authorized));
            self.describe_batch.on_written(self.out.len() - from, urls);
        }
        self.log_sent(draft.session, from);
        // Behind the log: a parameter may be a secret.
        if let Purpose::Parameters(parameters) = &draft.purpose {
            self.out.extend_from_slice(&parameters.body);
        }
        cseq
    }

    /// Notifies the caller of a request, if there is one, that it failed.
    pub(super) fn fail_draft(&mut self, draft: Draft, cseq: Option<u32>, kind: FailureKind) {
        if let Some(key) = draft.session {
            self.fail(key, draft.caller, draft.method, cseq, kind);
        }
    }
}
