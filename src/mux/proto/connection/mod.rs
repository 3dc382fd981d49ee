//! The connection's state machine: its fields, and the commands, inputs and outputs of the contract
//! (getters: `status`).
//!
//! The mechanisms are in the submodules: `sending` decides which requests may be written, `describes`
//! what may be sent beside a DESCRIBE, `authorizer` which requests may carry the credentials,
//! `unauthorized` what a 401 means, `matching` which request an answer belongs to, `answers` what the
//! answer means, `fence` what a missing answer means and how the server reacts to a failing DESCRIBE,
//! `teardown` how sessions and the connection end and what may happen on one without references,
//! `framing` what happens to each frame and to bytes that belong to none, `sources` which source of
//! packets a stream has (`held` keeps the packets of a doubtful one), `liveness` what is due when, `shown` which requests the user sees before they are sent,
//! `server_requests` answers the server's own requests, and `server_redirect` tells which sessions the
//! server sends elsewhere.

mod answers;
mod authorizer;
pub(crate) mod channels;
mod describes;
mod fence;
mod framing;
mod held;
pub(crate) mod liveness;
mod matching;
pub(crate) mod requests;
mod route;
mod sending;
mod server_redirect;
mod server_requests;
pub(crate) mod session;
mod shown;
pub(crate) mod sources;
pub(crate) mod status;
mod teardown;
mod unauthorized;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtsp_types::Method;

use self::{
    authorizer::Authorizer,
    channels::ChannelTable,
    describes::{DescribeBatch, DescribeWindow, FirstUrl},
    fence::{Fences, OpenProbe},
    framing::{Framing, Read, is_sound},
    held::HeldPackets,
    liveness::{HealthCheck, KeepAliveMethod, Means, Timer, TimerTable},
    matching::AnswerHistory,
    requests::{Draft, RequestTable},
    server_requests::{OpenRequests, StormGuard},
    session::{CoreSession, SessionPhase, SessionTable, TeardownState},
    shown::Shown,
    status::{Counters, Meter},
    teardown::Idle,
};
use super::{
    auth::{
        LeftChallenge,
        credentials::{CredentialStatus, Credentials},
        realms::Realms,
    },
    command::{RequestId, SessionConfig, SessionKey, SessionRequest},
    event::{
        CloseReason, Event, Failure, FailureKind, Packet, PacketKind, Reply, Retirement,
        SharingViolation, Undescribed,
    },
    limits::{Limits, Timeouts},
    wire::{
        codec::{Decoder, Unit, write_frame},
        header::{parse_cseq, parse_session},
        message::{Message, StartLine},
        server_text::WireMessage,
    },
};

/// The configuration of a connection.
#[derive(Clone, Debug, Default)]
pub struct ConnectionConfig {
    /// Used if the server asks for credentials.
    pub credentials: Option<Credentials>,
    /// What other connections have learned of these credentials.
    pub credential_status: CredentialStatus,
    /// The `User-Agent` of every request.
    pub user_agent: String,
    /// The feature that DESCRIBE, SETUP, PLAY and PAUSE require of the server.
    pub require: Option<&'static str>,
    /// Refuse to send the password in clear text (Basic): this server was seen to know Digest.
    pub refuse_basic: bool,
    /// Challenges that earlier connections with this server and user have not answered.
    pub challenges: Vec<LeftChallenge>,
    /// The server is known to close the connection after a 401.
    pub closes_behind_401: bool,
    /// The server's realms, as far as earlier connections know them.
    pub realms: Realms,
    /// What is known of the server's keep-alives.
    pub keep_alive: KeepAliveMethod,
    /// Send one request at a time: the server is known to lose requests that arrive together.
    pub is_serial: bool,
    /// The server is known to answer each request once and in order, whatever arrives while it
    /// works on a DESCRIBE. Holds until an answer on this connection shows otherwise.
    pub is_in_order: bool,
    /// Send one DESCRIBE at a time until one was answered quickly: the server is known to be slow
    /// with them, or it is unknown whether it is.
    pub describes_slowly: bool,
    /// The round trip to the server, as far as a dial has shown it.
    pub path: Duration,
    /// The server is known to announce sources (`ssrc` in the answer to SETUP) that never come: what it
    /// announces is not believed.
    pub is_ssrc_disproved: bool,
    /// It is unknown whether the server carries several sessions on a connection. After a description
    /// without a base, no other presentation is described here before it has shown that.
    pub is_tried: bool,
    /// Show each request before it is sent ([`Event::BeforeSend`]): the connection has one user, who may
    /// change it.
    pub shows_requests: bool,
    /// Ask the user for the answer to each request of the server ([`Event::ServerRequest`]).
    pub asks_for_answers: bool,
    /// The seed of client nonces; a different one for every connection.
    pub seed: u128,
    /// What the core accepts from the server.
    pub limits: Limits,
    /// How long the core waits.
    pub timeouts: Timeouts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ConnectionPhase {
    Open,
    /// TEARDOWNs are sent; the connection is over, for this reason, when they are answered.
    Closing(CloseReason),
    Closed(CloseReason),
}

/// One RTSP connection with its sessions. See the [module](super) for how to drive it.
#[derive(Debug)]
pub struct Connection {
    config: ConnectionConfig,
    state: ConnectionPhase,
    decoder: Decoder,
    channels: ChannelTable,
    sessions: SessionTable,
    next_session: u32,
    requests: RequestTable,
    first: FirstUrl,
    /// Drafts that wait to be written, in order.
    waiting: VecDeque<Draft>,
    /// The request that the user looks at.
    shown: Shown,
    authorizer: Authorizer,
    /// The server supports GET_PARAMETER (`Public`).
    has_get_parameter: bool,
    public_header: Option<String>,
    server_header: Option<String>,
    meter: Meter,
    keep_alive_means: Means,
    keep_alive_method: KeepAliveMethod,
    /// The method of the last keep-alive.
    last_keep_alive: Option<Method>,
    describe_window: DescribeWindow,
    describe_batch: DescribeBatch,
    /// A session was given up without a TEARDOWN: the server may still send its media.
    has_given_up_teardown: bool,
    fences: Fences,
    health: HealthCheck,
    /// The machine was suspended, and nothing has arrived from the server since.
    was_suspended: bool,
    probe: Option<OpenProbe>,
    idle: Option<Idle>,
    /// The server gave one channel to two streams: no session of the connection can be addressed
    /// safely any more.
    tainted: bool,
    /// The server gave this id to two sessions. The core never sends a TEARDOWN with it, so the
    /// server may send media of that session on channels that are free here.
    id_given_twice: Option<String>,
    requests_of_server: StormGuard,
    questions: OpenRequests,
    unmatched: StormGuard,
    repeated: StormGuard,
    answered: AnswerHistory,
    timers: TimerTable,
    last_byte: Instant,
    /// Since when reading is paused.
    reading_paused_since: Option<Instant>,
    framing: Framing,
    undescribed: Vec<Undescribed>,
    held: HeldPackets,
    /// The server sent something unasked while the connection was idle.
    has_spoken_unasked: bool,
    counters: Counters,
    out: BytesMut,
    /// Bytes handed out by `poll_transmit` and not yet taken by the peer.
    write_backlog: usize,
    events: VecDeque<Event>,
    /// Messages for the log; `None` while the log is off.
    wire: Option<VecDeque<WireMessage>>,
}

/// Commands.
impl Connection {
    /// A connection that was just established.
    pub fn new(config: ConnectionConfig, now: Instant) -> Self {
        Self {
            state: ConnectionPhase::Open,
            decoder: Decoder::new(config.limits),
            channels: ChannelTable::new(config.is_ssrc_disproved),
            sessions: SessionTable::default(),
            next_session: 0,
            requests: RequestTable::default(),
            first: FirstUrl::default(),
            waiting: VecDeque::new(),
            shown: Shown::default(),
            authorizer: Authorizer::new(&config),
            has_get_parameter: false,
            public_header: None,
            server_header: None,
            meter: Meter::default(),
            keep_alive_means: Means::default(),
            keep_alive_method: config.keep_alive,
            last_keep_alive: None,
            describe_window: DescribeWindow::default(),
            describe_batch: DescribeBatch::new(config.describes_slowly, config.path),
            has_given_up_teardown: false,
            fences: Fences::new(config.is_serial),
            health: HealthCheck::Good,
            was_suspended: false,
            probe: None,
            idle: None,
            tainted: false,
            id_given_twice: None,
            requests_of_server: StormGuard::default(),
            questions: OpenRequests::default(),
            unmatched: StormGuard::default(),
            repeated: StormGuard::default(),
            answered: AnswerHistory::default(),
            timers: TimerTable::default(),
            last_byte: now,
            reading_paused_since: None,
            framing: Framing::default(),
            undescribed: Vec::new(),
            held: HeldPackets::default(),
            has_spoken_unasked: false,
            counters: Counters::default(),
            out: BytesMut::new(),
            write_backlog: 0,
            events: VecDeque::new(),
            wire: None,
            config,
        }
    }

    /// Opens a session. Sends nothing, and if it fails nothing needs a release. Whether there are
    /// channels for the session shows at its first SETUP.
    ///
    /// # Errors
    /// The connection takes no new session: it is closing or over, or the server has shown that it
    /// cannot share.
    pub fn open_session(&mut self, config: SessionConfig) -> Result<SessionKey, FailureKind> {
        match &self.state {
            ConnectionPhase::Open => {}
            ConnectionPhase::Closing(reason) | ConnectionPhase::Closed(reason) => {
                return Err(FailureKind::ConnectionLost(reason.clone()));
            }
        }
        if self.tainted {
            return Err(FailureKind::CannotShare(SharingViolation::SameChannels));
        }
        let key = SessionKey(self.next_session);
        self.next_session += 1;
        let session = CoreSession::new(key, config, self.config.timeouts.session);
        self.sessions.insert(key, session);
        Ok(key)
    }

    /// Sets how long the callers of this session wait for answers, counted from when no other
    /// caller waits for an earlier answer. The connection itself waits for each answer as before,
    /// for the sake of the other sessions.
    pub fn set_patience(&mut self, key: SessionKey, patience: Duration) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.patience = Some(patience);
        }
    }

    /// Sends a request for a session. It completes exactly once, as [`Event::Completed`]; on a
    /// connection that is over it completes at once, after [`Event::Closed`].
    pub fn request(
        &mut self,
        now: Instant,
        key: SessionKey,
        id: RequestId,
        request: SessionRequest,
    ) {
        let method = request.method();
        let drafted = match (self.close_reason(), request) {
            (Some(reason), _) => Err(FailureKind::ConnectionLost(reason)),
            (None, SessionRequest::Teardown) => return self.tear_down(now, key, id),
            (None, other) => self.draft(now, key, id, other),
        };
        match drafted {
            Ok(draft) => {
                self.waiting.push_back(draft);
                self.flush(now);
            }
            Err(kind) => self.fail(key, Some(id), method, None, kind),
        }
    }

    /// The session's owner is gone: the core sends a TEARDOWN if the session has an id, or gets
    /// one. Its outstanding requests complete as cancelled; [`Event::SessionClosed`] ends it,
    /// unless the connection ends first.
    pub fn release(&mut self, now: Instant, key: SessionKey) {
        self.begin_teardown(now, key, None);
        self.flush(now);
    }

    /// Sends an RTCP packet to the server, on the stream's RTCP channel. Returns `false` if the
    /// packet was dropped, because the session is not live or the peer reads too slowly.
    pub fn send_rtcp(&mut self, key: SessionKey, stream: usize, packet: &[u8]) -> bool {
        self.send_packet(key, stream, PacketKind::Rtcp, packet)
    }

    /// The same for a packet of any kind: media goes to a backchannel.
    pub fn send_packet(
        &mut self,
        key: SessionKey,
        stream: usize,
        kind: PacketKind,
        packet: &[u8],
    ) -> bool {
        let stream = u32::try_from(stream).unwrap_or(u32::MAX);
        // The server has closed the channels of a lost session: live555 would lose its framing.
        if self
            .sessions
            .is(key, |session| session.phase == SessionPhase::Lost)
        {
            return false;
        }
        let Some(channel) = self.channels.channel_of(key, stream, kind) else {
            return false;
        };
        let backlog = self.write_backlog + self.out.len() + packet.len();
        let fits =
            self.state == ConnectionPhase::Open && backlog <= self.config.limits.report_backlog;
        let sent = fits && write_frame(&mut self.out, channel, packet).is_some();
        self.counters.reports_dropped += u64::from(!sent);
        sent
    }

    /// Says whether any session references the connection. `Some(timeout)`: none does any more, and
    /// [`Event::IdleExpired`] comes after that time; with a timeout of zero it comes as soon as all
    /// TEARDOWNs are answered, or after the time a TEARDOWN may take. `None`: a session references
    /// it again. If it was idle for long, the server is pinged before the next request is sent.
    pub fn set_idle(&mut self, now: Instant, timeout: Option<Duration>) {
        match timeout {
            Some(timeout) => {
                self.become_idle(now, timeout);
                self.check_once_idle(now);
            }
            None => self.become_busy(now),
        }
    }

    /// Turns [`poll_wire`](Self::poll_wire) on or off. It is off at first, and then costs nothing.
    pub fn set_wire_log(&mut self, is_on: bool) {
        if is_on != self.wire.is_some() {
            self.wire = is_on.then(VecDeque::new);
        }
    }

    /// Tears all sessions down and then ends the connection, within the time a TEARDOWN may take.
    pub fn close(&mut self, now: Instant) {
        if self.state != ConnectionPhase::Open {
            return;
        }
        self.begin_closing(now, CloseReason::Local);
        let keys: Vec<SessionKey> = self.sessions.keys().copied().collect();
        for key in keys {
            self.begin_teardown(now, key, None);
        }
        self.flush(now);
        self.finish_closing();
    }

    /// The connection takes no more sessions, and ends once the sessions that leave have left.
    fn begin_closing(&mut self, now: Instant, reason: CloseReason) {
        self.state = ConnectionPhase::Closing(reason);
        self.timers
            .set(Timer::Closing, now + self.config.timeouts.teardown);
    }
}

/// Inputs.
impl Connection {
    /// Bytes have arrived. Takes complete units off `buffer` and leaves the rest there. Passes
    /// packets to `deliver`; but while an event has not been polled, packets are queued after it as
    /// [`Event::Packet`].
    pub fn handle_input(
        &mut self,
        now: Instant,
        buffer: &mut BytesMut,
        mut deliver: impl FnMut(Packet),
    ) {
        let mut read = Read {
            quiet: now.saturating_duration_since(self.last_byte),
            new: self.count_new(buffer.len()),
            ..Read::default()
        };
        self.last_byte = now;
        loop {
            while !self.is_closed() {
                let channels = &self.channels;
                let plausible = |channel, first| channels.is_plausible(channel, first);
                match self.decoder.decode(buffer, &plausible) {
                    Ok(Some(Unit::Frame { channel, payload })) => {
                        if is_sound(&payload) {
                            read.sound += 1;
                            self.framing.last_frame = Some(channel);
                        }
                        if let Some(packet) = self.on_frame(now, channel, payload) {
                            deliver(packet);
                        }
                    }
                    Ok(Some(Unit::Message(message))) => {
                        read.sound += 1;
                        self.on_message(now, &message);
                    }
                    Ok(Some(Unit::FramingLost)) => self.on_framing_lost(now),
                    Ok(Some(Unit::FramingFound)) => self.on_framing_found(buffer),
                    Ok(None) => break,
                    Err(reason) => return self.break_off(reason),
                }
            }
            read.left = buffer.len();
            read.is_mid_unit = self.decoder.is_mid_unit(buffer);
            if !self.watch_unit(read) || !self.doubt_unit(now, buffer) {
                return;
            }
            read = Read::default();
        }
    }

    /// The server has closed the connection.
    pub fn handle_eof(&mut self, now: Instant) {
        self.on_closed_by_peer(now, CloseReason::PeerClosed);
    }

    /// The socket has failed.
    pub fn handle_io_error(&mut self, now: Instant, error: String) {
        self.on_closed_by_peer(now, CloseReason::Io(error));
    }

    /// The peer took some of what was written; `backlog` bytes are still waiting.
    pub fn handle_write_progress(&mut self, now: Instant, backlog: usize) {
        let progressed = backlog < self.write_backlog;
        self.write_backlog = backlog;
        if backlog == 0 {
            self.timers.clear(Timer::WriteStall);
        } else if progressed || !self.timers.is_set(Timer::WriteStall) {
            self.timers
                .set(Timer::WriteStall, now + self.config.timeouts.write_stall);
        }
    }

    fn on_message(&mut self, now: Instant, message: &Message) {
        self.framing.last_frame = None;
        self.log_received(message);
        match &message.start {
            StartLine::Response { .. } => self.on_response(now, message),
            StartLine::Request { method, uri } => {
                self.on_server_request(now, (method, uri), message);
            }
        }
        self.flush(now);
    }
}

/// Outputs.
impl Connection {
    /// Bytes to write, in order.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        if self.out.is_empty() {
            return None;
        }
        self.describe_batch.on_transmitted();
        let bytes = self.out.split();
        self.write_backlog += bytes.len();
        Some(bytes)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next message that was sent or received, if the log is on.
    pub fn poll_wire(&mut self) -> Option<WireMessage> {
        self.wire.as_mut()?.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        if self.is_closed() {
            return None;
        }
        let requests = self.requests.next_deadline(self.config.timeouts.ceiling);
        let requests = requests.filter(|_| self.is_reading());
        let keep_alive = self.next_keep_alive();
        [
            self.timers.next(),
            requests,
            keep_alive,
            self.next_fence(),
            self.next_passed_over(),
            self.next_teardown_given_up(),
            self.authorizer.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// What the submodules share.
impl Connection {
    fn complete(
        &mut self,
        session: SessionKey,
        caller: Option<RequestId>,
        result: Result<Reply, Failure>,
    ) {
        if let Some(request) = caller {
            self.events.push_back(Event::Completed {
                session,
                request,
                result,
            });
        }
    }

    fn fail(
        &mut self,
        session: SessionKey,
        caller: Option<RequestId>,
        method: Method,
        cseq: Option<u32>,
        kind: FailureKind,
    ) {
        let failure = Failure { method, cseq, kind };
        self.complete(session, caller, Err(failure));
    }

    /// The server's bytes cannot be understood, or do not end.
    fn break_off(&mut self, why: &'static str) {
        self.lose(CloseReason::Protocol(why));
    }

    /// Ends the connection at once.
    fn lose(&mut self, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        self.state = ConnectionPhase::Closed(reason.clone());
        self.condemn_accused();
        let kind = || FailureKind::ConnectionLost(reason.clone());
        let outstanding = self.requests.drain();
        let outstanding: Vec<_> = outstanding.map(|it| (Some(it.cseq), it.draft)).collect();
        let retries = self.authorizer.retries.drain(..);
        let retries = retries.chain(self.shown.take());
        let unsent: Vec<Draft> = retries.chain(self.waiting.drain(..)).collect();
        let unsent = unsent.into_iter().map(|draft| (None, draft));
        for (cseq, draft) in outstanding.into_iter().chain(unsent) {
            self.fail_draft(draft, cseq, kind());
        }
        for (key, session) in std::mem::take(&mut *self.sessions) {
            if let TeardownState::Due(caller) = session.teardown_state {
                self.fail(key, caller, Method::Teardown, None, kind());
            }
            if session.is_tearing_down() {
                self.events.push_back(Event::SessionClosed(key));
            }
        }
        self.end_probe(&reason);
        self.events.push_back(Event::Closed(reason));
    }

    /// The message that begins at `from` in the write buffer is complete.
    fn log_sent(&mut self, session: Option<SessionKey>, from: usize) {
        if let Some(wire) = &mut self.wire {
            let bytes = self.out.get(from..).unwrap_or_default();
            wire.extend(WireMessage::sent(session, bytes));
        }
    }

    fn log_received(&mut self, message: &Message) {
        let Some(wire) = &mut self.wire else {
            return;
        };
        let session = match &message.start {
            StartLine::Response { .. } => {
                let cseq = message.headers.first("CSeq").and_then(parse_cseq);
                let request = cseq.and_then(|cseq| self.requests.get(cseq));
                request.and_then(|request| request.draft.session)
            }
            StartLine::Request { .. } => {
                let named = message.headers.first("Session").and_then(parse_session);
                named.and_then(|named| self.sessions.with_id(&named.id))
            }
        };
        wire.push_back(WireMessage::received(session, message));
    }

    fn retire(&mut self, reason: Retirement) {
        self.events.push_back(Event::NoMoreSessions(reason));
    }

    fn set_phase(&mut self, key: SessionKey, phase: SessionPhase) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.phase = phase;
        }
    }
}
