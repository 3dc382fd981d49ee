//! What the answer to each kind of request means.

use std::time::Instant;

use bytes::Bytes;
use rtsp_types::Method;
use url::Url;

use super::{
    Connection, CoreSession, HealthCheck, SessionPhase,
    channels::{ChannelPair, Collision, Grant},
    liveness::means_unsupported,
    matching::{Match, SeenAnswer, is_description},
    requests::{Draft, Outstanding, Purpose},
    route::PayloadTypes,
    sending::REPLACED,
};
use crate::mux::proto::{
    command::{ParameterAnswer, SessionKey, SourcePolicy},
    event::{
        Event, Failure, FailureKind, FirstAsked, PlayAnswer, Reply, Retirement, SharingViolation,
        StreamGrant,
    },
    wire::{
        header::{
            has_method, parse_cseq, parse_retry_after, parse_rtp_info, parse_session,
            parse_transport,
        },
        message::{Defect, Message},
        sdp::parse_presentation,
        server_text::ServerText,
        uri,
    },
};

const UNAUTHORIZED: u16 = 401;
const SESSION_NOT_FOUND: u16 = 454;

/// The SETUP that an answer belongs to, taken from its draft.
struct AskedSetup {
    /// True if the caller still waits. A grant that comes after its caller timed out has no taker.
    is_awaited: bool,
    stream: usize,
    channel: u8,
    payload_types: PayloadTypes,
    sources: SourcePolicy,
}

impl Connection {
    pub(super) fn on_response(&mut self, now: Instant, response: &Message) {
        let Some((code, _)) = response.status() else {
            return;
        };
        if code < 200 {
            return self.on_provisional(now, response);
        }
        if self.answered.is_counting() && self.is_unnumbered(code, response) {
            return self.on_unnumbered(now);
        }
        let (matched, is_named) = match self.matching(code, response) {
            Match::Named(cseq) => (self.requests.take(cseq, now), true),
            Match::Only(cseq) => (self.requests.take(cseq, now), false),
            Match::Repeated => return self.on_repeated(now),
            Match::None if self.is_unnumbered(code, response) => return self.on_unnumbered(now),
            // The CSeq is garbage (live555 2014.07.04), or missing.
            Match::None if code < 300 && is_description(response) => return self.on_repeated(now),
            Match::None => return self.on_foreign_answer(now, code, response),
        };
        let Some(answered) = matched else {
            return;
        };
        match is_named {
            true => (self.answered).on_right(SeenAnswer::new(answered.cseq, code, response)),
            false => self.note_misnamed(code, response),
        }
        self.on_answer(now, answered, response);
        self.settle_teardowns(now);
        self.settle_strays(now);
    }

    fn on_foreign_answer(&mut self, now: Instant, code: u16, response: &Message) {
        self.on_unmatched(now);
        if let Some(error) = failure_of(response, None).filter(|_| code >= 400) {
            self.on_stray_error(now, error);
        }
    }

    fn on_provisional(&mut self, now: Instant, response: &Message) {
        let cseq = response.headers.first("CSeq").and_then(parse_cseq);
        let count = cseq.and_then(|cseq| self.requests.count_provisional(cseq));
        match count {
            Some(count) if count > self.config.limits.provisional => {
                self.break_off("the server sends provisional answers without end");
            }
            Some(_) => {}
            None => self.on_unmatched(now),
        }
    }

    fn on_answer(&mut self, now: Instant, answered: Outstanding, response: &Message) {
        self.authorizer.has_answer = true;
        self.counters.answers += 1;
        self.fences.on_answered(&answered.draft);
        self.learn_of_server(now, &answered, response);
        let Some((code, _)) = response.status() else {
            return;
        };
        if answered.is_ignored() {
            self.note_credentials(&answered, code, response);
            return self.on_late_answer(now, answered, response);
        }
        if answered.draft.purpose == Purpose::Fence {
            self.note_credentials(&answered, code, response);
            return self.on_fence_answered(now, answered.cseq);
        }
        if code == UNAUTHORIZED {
            return self.on_unauthorized(now, answered, response);
        }
        self.note_credentials(&answered, code, response);
        // What such an answer says beside its status is not needed: RTP-Info may be of any length.
        let may_be_cut = matches!(
            answered.draft.purpose,
            Purpose::Play(_) | Purpose::KeepAlive
        );
        let is_over_limit = |kind: &FailureKind| matches!(kind, FailureKind::LimitExceeded(_));
        // A user's own request: what the server says to it is the user's to read.
        let is_of_user = |kind: &FailureKind| {
            let is_gone = status_of(kind) == Some(SESSION_NOT_FOUND);
            matches!(answered.draft.purpose, Purpose::Parameters(_)) && !is_gone && code >= 300
        };
        let session = answered
            .draft
            .session
            .and_then(|key| self.sessions.get(&key));
        let asked = session.map(|session| &session.config.url);
        let failure = failure_of(response, asked);
        let failure = failure.filter(|kind| !may_be_cut || !is_over_limit(kind));
        match failure.filter(|kind| !is_of_user(kind)) {
            Some(kind) => self.on_failure(now, answered, kind),
            None => self.on_success(now, answered, response),
        }
    }

    fn learn_of_server(&mut self, now: Instant, answered: &Outstanding, response: &Message) {
        let (method, sent) = (&answered.draft.method, answered.sent);
        self.meter.on_answer(now, method, sent, answered.was_alone);
        if answered.draft.purpose == Purpose::Describe {
            let took = answered.head_time(now);
            self.describe_window.on_answered(took);
            self.describe_batch.on_answered(took);
        }
        if let Some(public) = response.headers.joined("Public") {
            self.has_get_parameter = has_method(&public, "GET_PARAMETER");
            self.public_header = Some(printable(&public));
        }
        if self.server_header.is_none() {
            self.server_header = response.headers.first("Server").map(printable);
        }
    }

    /// True if a session still needs the answer to this request, so that sending it again makes
    /// sense.
    pub(super) fn is_wanted(&self, draft: &Draft) -> bool {
        match draft.purpose {
            Purpose::Ping | Purpose::Probe | Purpose::ProbeFence => true,
            Purpose::Teardown | Purpose::Undo { .. } => !self.tainted,
            Purpose::Fence => false,
            Purpose::KeepAlive => {
                let session = self.sessions.of(draft);
                session.is_some_and(|session| !session.is_tearing_down())
            }
            _ => draft.caller.is_some(),
        }
    }

    pub(super) fn on_failure(&mut self, now: Instant, answered: Outstanding, kind: FailureKind) {
        let is_gone = status_of(&kind) == Some(SESSION_NOT_FOUND);
        let cseq = Some(answered.cseq);
        self.note_refused(&answered.draft, &kind);
        match (&answered.draft.purpose, answered.draft.session) {
            (Purpose::Teardown, Some(key)) if is_gone => self.on_torn_down(now, key, answered),
            (Purpose::Teardown, Some(key)) => self.on_teardown_refused(key, answered),
            (Purpose::KeepAlive, Some(key)) if is_gone => {
                self.end_keep_alive(key);
                self.blame_keep_alive(&answered.draft.method);
                self.lose_session(key, answered.draft.method, cseq, kind);
            }
            // Before a session has played, the next request shows the error too, and the session is
            // set up again elsewhere.
            (Purpose::Play(_) | Purpose::Pause | Purpose::Parameters(_), Some(key))
                if is_gone && self.has_played(key) =>
            {
                self.lose_session(key, answered.draft.method.clone(), cseq, kind.clone());
                self.fail_draft(answered.draft, cseq, kind);
            }
            // Any other status says nothing about the session: its media shows whether it lives.
            (Purpose::KeepAlive, Some(key)) => {
                if status_of(&kind).is_some_and(means_unsupported) {
                    self.keep_alive_means.on_refused(&answered.draft.method);
                }
                self.end_keep_alive(key);
            }
            (Purpose::Ping, _) => self.on_pong(),
            (Purpose::Probe, _) => self.on_probe_answered(status_of(&kind)),
            (Purpose::ProbeFence, _) => self.on_probe_over(true),
            (Purpose::Fence | Purpose::Undo { .. }, _) => {}
            (Purpose::Setup { asked, .. }, Some(key)) => {
                self.channels.unreserve(key, *asked);
                self.fail_draft(answered.draft, cseq, kind);
            }
            _ => self.fail_draft(answered.draft, cseq, kind),
        }
    }

    fn on_success(&mut self, now: Instant, answered: Outstanding, response: &Message) {
        let cseq = answered.cseq;
        let method = answered.draft.method.clone();
        let caller = answered.draft.caller;
        let purpose = answered.draft.purpose.clone();
        let Some(key) = answered.draft.session else {
            return match purpose {
                Purpose::Ping => self.on_pong(),
                Purpose::Probe => self.on_probe_answered(None),
                Purpose::ProbeFence => self.on_probe_over(true),
                _ => {}
            };
        };
        let result = match purpose {
            Purpose::KeepAlive => return self.end_keep_alive(key),
            Purpose::Teardown => return self.on_torn_down(now, key, answered),
            Purpose::Describe => {
                self.learn_description(key, response);
                let first = self.note_described(&answered.draft, response);
                Ok(described(response, first))
            }
            Purpose::Setup {
                stream,
                asked,
                payload_types,
                sources,
                ..
            } => {
                let asked = AskedSetup {
                    is_awaited: caller.is_some(),
                    stream,
                    channel: asked,
                    payload_types: payload_types.into_iter().collect(),
                    sources,
                };
                self.on_set_up(now, key, asked, response)
            }
            Purpose::Play(_) if self.sessions.is(key, |session| session.is_replaced) => {
                Err(REPLACED)
            }
            Purpose::Play(_) => {
                // It may have had no id so far.
                let identified = self.identify(key, response);
                identified.map(|()| self.on_playing(now, key, play_answer(response)))
            }
            Purpose::Pause => {
                self.channels.on_paused(key);
                self.set_phase(key, SessionPhase::Paused);
                Ok(Reply::Paused)
            }
            Purpose::Parameters(_) => Ok(Reply::Parameters(ParameterAnswer {
                code: response.status().map_or(0, |(code, _)| code),
                // A copy, as with a description.
                body: Bytes::copy_from_slice(&response.body),
            })),
            // Requests of the connection itself.
            _ => return,
        };
        match result {
            Ok(reply) => self.complete(key, caller, Ok(reply)),
            Err(kind) => self.fail(key, caller, method, Some(cseq), kind),
        }
    }

    /// Notes the aggregate URL of the description: a session that is released before PLAY is torn
    /// down under it, and it may differ from the URL that was described.
    fn learn_description(&mut self, key: SessionKey, response: &Message) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let header = |name| response.headers.first(name);
        let (base, location) = (header("Content-Base"), header("Content-Location"));
        let is_bare = uri::is_bare(base, location);
        let base = uri::presentation_base(&session.config.url, base, location);
        if let Ok(presentation) = parse_presentation(response.body.clone(), base) {
            session.on_described(presentation.aggregate);
            if is_bare && !presentation.streams.is_empty() {
                self.first.on_bare(&session.config.url);
            }
        }
    }

    pub(super) fn on_playing(
        &mut self,
        now: Instant,
        key: SessionKey,
        answer: PlayAnswer,
    ) -> Reply {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.on_playing(now);
        }
        self.watch_silence(now);
        self.channels.on_play_answered(key, &answer.rtp_info, now);
        self.review_held(now);
        Reply::Playing(answer)
    }

    fn on_pong(&mut self) {
        self.health = HealthCheck::Good;
        self.was_suspended = false;
    }

    fn has_played(&self, key: SessionKey) -> bool {
        let phases = [SessionPhase::Playing, SessionPhase::Paused];
        self.sessions
            .is(key, |session| phases.contains(&session.phase))
    }

    /// Only this session is lost: the server answered 454 to a keep-alive (fault F24), or to PLAY or
    /// PAUSE of a session that has played; or it has torn the session down.
    pub(super) fn lose_session(
        &mut self,
        session: SessionKey,
        method: Method,
        cseq: Option<u32>,
        kind: FailureKind,
    ) {
        let is_new = |it: &CoreSession| it.phase != SessionPhase::Lost && !it.is_tearing_down();
        if self.sessions.is(session, is_new) {
            let failure = Failure { method, cseq, kind };
            self.events
                .push_back(Event::SessionLost { session, failure });
        }
        self.set_phase(session, SessionPhase::Lost);
    }
}

/// SETUP.
impl Connection {
    fn on_set_up(
        &mut self,
        now: Instant,
        key: SessionKey,
        asked: AskedSetup,
        response: &Message,
    ) -> Result<Reply, FailureKind> {
        let identified = self.identify(key, response);
        if identified.is_err() {
            self.channels.unreserve(key, asked.channel);
            self.move_twin(key, &asked, response);
        }
        identified?;
        let granted = granted_pair(response, asked.channel);
        let (pair, ssrc) = granted.inspect_err(|_| self.channels.unreserve(key, asked.channel))?;
        let Some(session) = self.sessions.get_mut(&key) else {
            return Err(FailureKind::Cancelled);
        };
        if session.is_tearing_down() || !asked.is_awaited {
            let (until, quiet) = self.unconfirmed_quarantine(now, key);
            self.channels.unreserve(key, asked.channel);
            self.channels.quarantine_pair(key, pair, until, quiet);
            return Err(FailureKind::Cancelled);
        }
        let grant = StreamGrant {
            stream: asked.stream,
            rtp_channel: pair.rtp,
            rtcp_channel: pair.rtcp,
            ssrc,
            session_id: session.id.clone().unwrap_or_default(),
            session_timeout: session.timeout(),
        };
        self.open_route(key, &asked, pair, ssrc)?;
        if self
            .sessions
            .iter()
            .any(|(other, it)| *other != key && it.id.is_some())
        {
            self.first.on_shared();
        }
        if self
            .sessions
            .is(key, |session| session.phase == SessionPhase::Init)
        {
            self.set_phase(key, SessionPhase::Ready);
        }
        Ok(Reply::SetUp(grant))
    }

    /// The server has taken a SETUP for one more of the session that has its presentation already, and
    /// may send the media of that session on these channels instead.
    fn move_twin(&mut self, key: SessionKey, asked: &AskedSetup, response: &Message) {
        let header = response.headers.first("Session").and_then(parse_session);
        let id = header.map(|header| header.id).unwrap_or_default();
        let granted = granted_pair(response, asked.channel);
        let (Some(twin), Ok((pair, _))) = (self.twin(key, &id), granted) else {
            return;
        };
        let stream = u32::try_from(asked.stream).unwrap_or(u32::MAX);
        let grant = Grant {
            session: twin,
            stream,
            payload_types: asked.payload_types,
            announced_ssrc: None,
            sources: asked.sources,
            is_only_presentation: self.first.is_only_one(),
        };
        if self.channels.has_stream(twin, stream) && self.channels.is_unowned(pair) {
            // It collides with none.
            _ = self.channels.grant(pair, grant);
        }
    }

    fn open_route(
        &mut self,
        key: SessionKey,
        asked: &AskedSetup,
        pair: ChannelPair,
        announced_ssrc: Option<u32>,
    ) -> Result<(), FailureKind> {
        if pair.rtp != asked.channel {
            self.channels.unreserve(key, asked.channel);
        }
        let grant = Grant {
            session: key,
            stream: u32::try_from(asked.stream).unwrap_or(u32::MAX),
            payload_types: asked.payload_types,
            announced_ssrc,
            sources: asked.sources,
            is_only_presentation: self.first.is_only_one(),
        };
        self.channels.grant(pair, grant).map_err(|Collision(_)| {
            // From now on it is unknown which session the packets on that pair belong to, and which
            // session a request with either id reaches (ZLMediaKit, go2rtc).
            self.tainted = true;
            self.withdraw_begun();
            self.cannot_share(SharingViolation::SameChannels)
        })
    }

    /// Takes the session id from the first answer that has one. A later answer with another id does not
    /// change it (H264DVR). A server that names none has one session on a connection, whose id is empty.
    fn identify(&mut self, key: SessionKey, response: &Message) -> Result<(), FailureKind> {
        let id = |session: &CoreSession| session.id.clone();
        let before = self.sessions.get(&key).and_then(id);
        if before.as_ref().is_some_and(|id| !id.is_empty()) {
            return Ok(());
        }
        let written = response.headers.first("Session");
        let header = written.and_then(parse_session);
        let names_some = |value: &str| !value.trim_start().is_empty() && !value.starts_with(';');
        if header.is_none() && written.is_some_and(names_some) {
            let unusable = || FailureKind::Malformed("no usable Session header".to_owned());
            return before.map(drop).ok_or_else(unusable);
        }
        let (id, timeout) = header.map_or_else(Default::default, |it| (it.id, it.timeout));
        let is_taken = |(other, session): (&SessionKey, &CoreSession)| {
            let is_same = |its: &String| *its == id || its.is_empty() || id.is_empty();
            *other != key
                && session.id.as_ref().is_some_and(is_same)
                && session.phase != SessionPhase::Lost
        };
        // The sessions that got the id before may be gone.
        let is_known_twice = self.id_given_twice.as_ref() == Some(&id);
        if is_known_twice || self.sessions.iter().any(is_taken) {
            // A TEARDOWN with this id would end the other session as well, so none is sent.
            self.on_id_given_twice(key, &id);
            return Err(self.cannot_share(SharingViolation::SameSessionId));
        }
        if let Some(session) = self.sessions.get_mut(&key) {
            session.id = Some(id);
            if let Some(timeout) = timeout {
                session.set_timeout(timeout);
            }
        }
        Ok(())
    }

    fn cannot_share(&mut self, violation: SharingViolation) -> FailureKind {
        self.retire(Retirement::CannotShare(violation));
        FailureKind::CannotShare(violation)
    }
}

/// Answers to ignored requests.
impl Connection {
    /// Drops a late answer. If it made a session at the server, the session has no owner, and is
    /// torn down.
    fn on_late_answer(&mut self, now: Instant, answered: Outstanding, response: &Message) {
        self.fences.on_not_lost();
        let Purpose::Setup { asked, .. } = answered.draft.purpose else {
            return;
        };
        let Some(key) = answered.draft.session else {
            return;
        };
        if failure_of(response, None).is_some() {
            return;
        }
        if let Ok((pair, _)) = granted_pair(response, asked) {
            let (until, quiet) = self.unconfirmed_quarantine(now, key);
            self.channels.quarantine_pair(key, pair, until, quiet);
        }
        let header = response.headers.first("Session").and_then(parse_session);
        let id = header.map(|header| header.id);
        let id = id.filter(|id| self.sessions.with_id(id).is_none());
        // Several SETUPs of one session may be answered late; the session is torn down once.
        if let Some(id) = id.filter(|id| !self.tainted && !self.is_being_undone(id)) {
            let url = answered.draft.url;
            let undo = self.own_draft(Method::Teardown, url, Purpose::Undo { id });
            self.waiting.push_back(undo);
        }
    }

    fn is_being_undone(&self, id: &str) -> bool {
        let sent = self.requests.waiting().map(|entry| &entry.draft);
        self.waiting
            .iter()
            .chain(sent)
            .any(|draft| matches!(&draft.purpose, Purpose::Undo { id: other } if other == id))
    }
}

/// The pair that the answer grants, or else the one asked for; and the SSRC that the answer
/// announces.
fn granted_pair(response: &Message, asked: u8) -> Result<(ChannelPair, Option<u32>), FailureKind> {
    let as_asked = ChannelPair::from_answer(asked, None);
    let Some(value) = response.headers.joined("Transport") else {
        return Ok((as_asked, None));
    };
    let transport = parse_transport(&value).map_err(|error| {
        FailureKind::Malformed(format!("Transport: {error}: {}", printable(&value)))
    })?;
    if !transport.tcp {
        let text = "the server chose a transport other than TCP".to_owned();
        return Err(FailureKind::Malformed(text));
    }
    let pair = transport
        .interleaved
        .map(|(first, second)| ChannelPair::from_answer(first, second));
    Ok((pair.unwrap_or(as_asked), transport.ssrc))
}

/// A text of the server as errors and logs may show it.
pub(super) fn printable(text: &str) -> String {
    ServerText::new(text).into()
}

fn status_of(kind: &FailureKind) -> Option<u16> {
    match kind {
        FailureKind::Status { code, .. } => Some(*code),
        _ => None,
    }
}

fn play_answer(response: &Message) -> PlayAnswer {
    let factor = |name| {
        let value = response.headers.first(name)?.trim().replace(',', ".");
        value.parse().ok().filter(|it: &f64| it.is_normal())
    };
    let rtp_info = response.headers.joined("RTP-Info");
    PlayAnswer {
        rtp_info: rtp_info.map_or_else(Vec::new, |value| parse_rtp_info(&value)),
        range: response.headers.first("Range").map(str::to_owned),
        scale: factor("Scale"),
        speed: factor("Speed"),
    }
}

fn described(response: &Message, first: FirstAsked) -> Reply {
    let header = |name| response.headers.first(name).map(str::to_owned);
    Reply::Described {
        // A copy, because the session keeps it: a slice would pin the whole chunk it was read into.
        sdp: Bytes::copy_from_slice(&response.body),
        content_base: header("Content-Base"),
        content_location: header("Content-Location"),
        first,
    }
}

/// Why an answer to a request of the session with the URL `asked` is a failure, if it is one.
fn failure_of(response: &Message, asked: Option<&Url>) -> Option<FailureKind> {
    let (code, reason) = response.status()?;
    match &response.defect {
        Some(Defect::Limit(limit)) if code < 300 => {
            return Some(FailureKind::LimitExceeded(*limit));
        }
        Some(Defect::Malformed(what)) if code < 300 => {
            return Some(FailureKind::Malformed((*what).to_owned()));
        }
        _ => {}
    }
    if code < 300 {
        return None;
    }
    let location = response.headers.first("Location").filter(|_| code < 400);
    if let Some((location, credentials)) =
        location.and_then(|location| uri::parse_location(location, asked))
    {
        return Some(FailureKind::Redirect {
            code,
            location,
            credentials: credentials.map(Box::new),
        });
    }
    let retry_after = response.headers.first("Retry-After");
    Some(FailureKind::Status {
        code,
        reason: printable(reason),
        retry_after: retry_after.and_then(parse_retry_after),
    })
}
