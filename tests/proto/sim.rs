//! A connection in simulated time: plays the driver's part without a socket or a clock.
//!
//! It checks the core's contract at every step: the server-side parser of `support` must accept
//! what the core writes, CSeq must rise by one, a deadline that was met must not come back at once,
//! and no event may follow the end of the connection.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gstrtspmux::mux::proto::{
    CloseReason, Connection, ConnectionConfig, CredentialStatus, Credentials, Event, Failure,
    FailureKind, Packet, PlayRange, Profile, RefusalVerdict, Reply, RequestId, ServerAnswer,
    SessionConfig, SessionKey, SessionRequest, SourcePolicy, StreamGrant, WireMessage,
};
use url::Url;

use crate::support::rtsp::{Frame, Incoming, Parser, Request, Response, RtpPacket};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

/// The configuration of a connection unless a test needs another one.
pub(crate) fn config() -> ConnectionConfig {
    ConnectionConfig {
        credential_status: CredentialStatus::Proven(None),
        user_agent: "test".to_owned(),
        seed: 7,
        ..ConnectionConfig::default()
    }
}

/// The same with a user and a password, with this status.
pub(crate) fn config_with(
    user: &str,
    password: &str,
    status: CredentialStatus,
) -> ConnectionConfig {
    let credentials = Credentials::new(user, password).expect("credentials");
    ConnectionConfig {
        credentials: Some(credentials),
        credential_status: status,
        ..config()
    }
}

/// The core, its driver and the server's end of the wire.
pub(crate) struct Sim {
    pub(crate) connection: Connection,
    epoch: Instant,
    elapsed: Duration,
    unread: BytesMut,
    parser: Parser,
    sent: VecDeque<Incoming>,
    events: VecDeque<Event>,
    /// Writes of the core are held back for now.
    pub(crate) is_held: bool,
    /// The `Server` header of all answers.
    pub(crate) server: Option<&'static str>,
    /// Bytes of the largest write.
    pub(crate) largest_write: usize,
    last_cseq: u32,
    next_request: u64,
    unfinished: BTreeSet<RequestId>,
    closed: Option<CloseReason>,
    /// True while the peer reads.
    is_read: bool,
    backlog: usize,
}

impl Sim {
    pub(crate) fn new(config: ConnectionConfig) -> Self {
        let epoch = Instant::now();
        Self {
            connection: Connection::new(config, epoch),
            epoch,
            elapsed: Duration::ZERO,
            unread: BytesMut::new(),
            parser: Parser::default(),
            sent: VecDeque::new(),
            events: VecDeque::new(),
            is_held: false,
            server: None,
            largest_write: 0,
            last_cseq: 0,
            next_request: 0,
            unfinished: BTreeSet::new(),
            closed: None,
            is_read: true,
            backlog: 0,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.epoch + self.elapsed
    }

    /// The time since the connection was made.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// When the core wants to be woken next.
    pub(crate) fn deadline(&mut self) -> Option<Duration> {
        let deadline = self.connection.poll_timeout()?;
        Some(deadline.saturating_duration_since(self.epoch))
    }

    /// The number of bytes that the core has left in the input.
    pub(crate) fn unread(&self) -> usize {
        self.unread.len()
    }

    /// Requests that were neither answered nor given up.
    pub(crate) fn unfinished(&self) -> usize {
        self.unfinished.len()
    }

    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.closed.as_ref()
    }

    /// From now on the peer reads nothing.
    pub(crate) fn stop_reading(&mut self) {
        self.is_read = false;
    }
}

/// Commands.
impl Sim {
    pub(crate) fn open(&mut self, url: &str) -> SessionKey {
        self.try_open(url).expect("a session")
    }

    pub(crate) fn try_open(&mut self, url: &str) -> Result<SessionKey, FailureKind> {
        let url = Url::parse(url).expect("a URL");
        let keep_alive = true;
        self.connection.open_session(SessionConfig {
            url,
            keep_alive,
            block_size: None,
        })
    }

    pub(crate) fn request(&mut self, session: SessionKey, request: SessionRequest) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.unfinished.insert(id);
        self.connection.request(self.now(), session, id, request);
        self.drain();
        id
    }

    pub(crate) fn describe(&mut self, session: SessionKey) -> RequestId {
        self.request(session, SessionRequest::Describe)
    }

    pub(crate) fn setup(&mut self, session: SessionKey, control: &str) -> RequestId {
        self.setup_stream(session, 0, control)
    }

    pub(crate) fn setup_stream(
        &mut self,
        session: SessionKey,
        stream: usize,
        control: &str,
    ) -> RequestId {
        let request = SessionRequest::Setup {
            stream,
            control: Url::parse(control).expect("a URL"),
            profile: Profile::Avp,
            payload_types: vec![96],
            sources: SourcePolicy::default(),
        };
        self.request(session, request)
    }

    pub(crate) fn play(&mut self, session: SessionKey, aggregate: &str) -> RequestId {
        let aggregate = Url::parse(aggregate).expect("a URL");
        self.request(
            session,
            SessionRequest::Play {
                aggregate,
                range: PlayRange::Start,
            },
        )
    }

    pub(crate) fn teardown(&mut self, session: SessionKey) -> RequestId {
        self.request(session, SessionRequest::Teardown)
    }

    pub(crate) fn release(&mut self, session: SessionKey) {
        self.connection.release(self.now(), session);
        self.drain();
    }

    pub(crate) fn keep_next_alive(&mut self) {
        self.connection.keep_next_alive(self.now());
        self.drain();
    }

    pub(crate) fn set_idle(&mut self, timeout: Option<Duration>) {
        self.connection.set_idle(self.now(), timeout);
        self.drain();
    }

    pub(crate) fn probe(&mut self, missing: url::Url, known: url::Url) {
        self.connection.probe(self.now(), missing, known);
        self.drain();
    }

    pub(crate) fn seen(&mut self, number: u64, headers: Option<Vec<(String, String)>>) {
        self.connection.handle_seen(self.now(), number, headers);
        self.drain();
    }

    pub(crate) fn answer_server(&mut self, number: u64, answer: &ServerAnswer) {
        self.connection.handle_server_answer(number, answer);
        self.drain();
    }

    pub(crate) fn judge(&mut self, verdict: RefusalVerdict) {
        let now = self.now();
        self.connection.handle_refusal_verdict(now, verdict);
        self.drain();
    }

    pub(crate) fn set_credentials(&mut self, status: CredentialStatus) {
        let now = self.now();
        self.connection.handle_credential_status(now, status);
        self.drain();
    }

    pub(crate) fn close(&mut self) {
        self.connection.close(self.now());
        self.drain();
    }

    pub(crate) fn send_rtcp(&mut self, session: SessionKey, stream: usize, packet: &[u8]) -> bool {
        let sent = self.connection.send_rtcp(session, stream, packet);
        self.drain();
        sent
    }
}

/// Inputs.
impl Sim {
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let now = self.now();
        let mut packets = Vec::new();
        let deliver = |packet| packets.push(Event::Packet(packet));
        self.connection.handle_input(now, &mut self.unread, deliver);
        for packet in packets {
            self.take_event(packet);
        }
        self.drain();
    }

    pub(crate) fn eof(&mut self) {
        self.connection.handle_eof(self.now());
        self.drain();
    }

    pub(crate) fn reset(&mut self) {
        let error = "connection reset".to_owned();
        self.connection.handle_io_error(self.now(), error);
        self.drain();
    }

    /// Lets time pass, and wakes the core at each of its deadlines.
    pub(crate) fn advance(&mut self, time: Duration) {
        let until = self.elapsed + time;
        while let Some(deadline) = self.deadline().filter(|deadline| *deadline <= until) {
            self.wake_at(deadline.max(self.elapsed));
        }
        self.elapsed = until;
    }

    /// Lets time pass up to the core's next deadline; `false` if it has none.
    pub(crate) fn advance_to_deadline(&mut self) -> bool {
        let Some(deadline) = self.deadline() else {
            return false;
        };
        self.wake_at(deadline.max(self.elapsed));
        true
    }

    /// Moves the clock without waking the core: the driver is late.
    pub(crate) fn advance_asleep(&mut self, time: Duration) {
        self.elapsed += time;
    }

    /// Wakes the core now, whether or not a deadline has come.
    pub(crate) fn wake(&mut self) {
        self.connection.handle_timeout(self.now());
        self.drain();
    }

    /// The machine is suspended: this clock stands still.
    pub(crate) fn sleep(&mut self, suspended: Duration) {
        self.connection.handle_suspend(self.now(), suspended);
        self.drain();
    }

    fn wake_at(&mut self, deadline: Duration) {
        self.elapsed = deadline;
        self.wake();
        let next = self.deadline();
        assert!(
            next.is_none_or(|next| next > deadline),
            "the deadline {deadline:?} was met and is asked for again: {next:?}"
        );
    }
}

/// The server's answers.
impl Sim {
    /// Answers the request of this CSeq; headers as `Name: value`.
    pub(crate) fn answer(&mut self, status: u16, cseq: u32, headers: &[&str]) {
        let mut response = Response::new(status).header("CSeq", cseq.to_string());
        if let Some(server) = self.server {
            response = response.header("Server", server);
        }
        for header in headers {
            let (name, value) = header.split_once(": ").expect("Name: value");
            response = response.header(name, value);
        }
        self.receive(&response.to_bytes());
    }

    /// One RTP packet of payload type 96.
    pub(crate) fn media(&mut self, channel: u8, ssrc: u32) {
        self.receive(&media(channel, ssrc));
    }
}

/// One RTP packet of payload type 96, in its frame.
pub(crate) fn media(channel: u8, ssrc: u32) -> Vec<u8> {
    let packet = RtpPacket {
        payload_type: 96,
        ssrc,
        payload: b"x".to_vec(),
        ..RtpPacket::default()
    };
    let payload = packet.to_bytes();
    Frame { channel, payload }.to_bytes()
}

/// Outputs.
impl Sim {
    /// The next thing sent, if there is one.
    pub(crate) fn next_sent(&mut self) -> Option<Incoming> {
        self.sent.pop_front()
    }

    /// The next request sent.
    pub(crate) fn next_request(&mut self) -> Option<Request> {
        match self.sent.pop_front() {
            Some(Incoming::Request(request)) => Some(request),
            Some(other) => panic!("not a request: {}", other.summary()),
            None => None,
        }
    }

    /// The next request, which must have this method; returns its CSeq.
    pub(crate) fn expect_sent(&mut self, method: &str) -> u32 {
        let request = self
            .next_request()
            .unwrap_or_else(|| panic!("no {method} was sent"));
        assert_eq!(request.method, method, "at {:?}", self.elapsed);
        request.headers.cseq().expect("a CSeq")
    }

    pub(crate) fn expect_nothing_sent(&mut self) {
        if let Some(sent) = self.sent.front() {
            panic!("at {:?} was sent {}", self.elapsed, sent.summary());
        }
    }

    /// The wire log so far.
    pub(crate) fn wire_log(&mut self) -> Vec<String> {
        let shown = |message: WireMessage| match message.session {
            Some(session) => format!("{session}: {message}"),
            None => format!("-: {message}"),
        };
        std::iter::from_fn(|| self.connection.poll_wire().map(shown)).collect()
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Ignores reports about credentials.
    pub(crate) fn expect_no_event(&mut self) {
        self.events
            .retain(|event| !matches!(event, Event::Credentials(_)));
        if let Some(event) = self.events.front() {
            panic!("at {:?} came {event:?}", self.elapsed);
        }
    }

    /// The result of this request; it must be the next event.
    pub(crate) fn expect_completed(&mut self, id: RequestId) -> Result<Reply, Box<Failure>> {
        match self.next_event() {
            Some(Event::Completed {
                request, result, ..
            }) if request == id => result.map_err(Box::new),
            other => panic!("instead of the end of {id:?}: {other:?}"),
        }
    }

    /// The grant of a SETUP; it must be the next event.
    pub(crate) fn expect_granted(&mut self, id: RequestId) -> StreamGrant {
        match self.expect_completed(id) {
            Ok(Reply::SetUp(grant)) => grant,
            other => panic!("instead of a grant: {other:?}"),
        }
    }

    pub(crate) fn expect_failed(&mut self, id: RequestId) -> FailureKind {
        self.expect_completed(id).expect_err("a failure").kind
    }

    pub(crate) fn expect_packet(&mut self) -> Packet {
        match self.next_event() {
            Some(Event::Packet(packet)) => packet,
            other => panic!("instead of a packet: {other:?}"),
        }
    }

    /// The end of the connection; it must be the next event.
    pub(crate) fn expect_closed(&mut self) -> CloseReason {
        match self.next_event() {
            Some(Event::Closed(reason)) => reason,
            other => panic!("instead of the end: {other:?}"),
        }
    }

    fn drain(&mut self) {
        if !self.is_held {
            self.drain_output();
        }
        while let Some(event) = self.connection.poll_event() {
            self.take_event(event);
        }
    }

    fn take_event(&mut self, event: Event) {
        self.check_event(&event);
        self.events.push_back(event);
    }

    fn drain_output(&mut self) {
        while let Some(bytes) = self.connection.poll_transmit() {
            self.largest_write = self.largest_write.max(bytes.len());
            if self.is_read {
                self.parser.push(&bytes);
            } else {
                self.backlog += bytes.len();
            }
            let now = self.now();
            self.connection.handle_write_progress(now, self.backlog);
        }
        while let Some(incoming) = self.parser.next().expect("RTSP from the core") {
            self.check_cseq(&incoming);
            self.sent.push_back(incoming);
        }
        assert_eq!(self.parser.pending(), 0, "half a message was sent");
    }

    fn check_cseq(&mut self, incoming: &Incoming) {
        if let Incoming::Request(request) = incoming {
            let cseq = request.headers.cseq();
            self.last_cseq += 1;
            assert_eq!(cseq, Some(self.last_cseq), "CSeq rises by one on the wire");
        }
    }

    fn check_event(&mut self, event: &Event) {
        match event {
            Event::Completed { request, .. } => {
                let was_open = self.unfinished.remove(request);
                assert!(was_open, "{request:?} completed twice");
            }
            _ if self.closed.is_some() => panic!("after the end came {event:?}"),
            Event::Closed(reason) => self.closed = Some(reason.clone()),
            _ => {}
        }
    }
}

/// Common set-ups.
impl Sim {
    /// A session that plays `rtsp://nvr/N` on the channels it asked for; no event is left over.
    pub(crate) fn playing(&mut self, number: u32) -> SessionKey {
        let session = self.ready(number);
        let play = self.play(session, &format!("rtsp://nvr/{number}/"));
        let cseq = self.expect_sent("PLAY");
        self.answer(200, cseq, &[]);
        assert!(matches!(self.expect_completed(play), Ok(Reply::Playing(_))));
        session
    }

    /// A session that is set up and does not play yet. Its id is `idN`, its timeout 60 s.
    pub(crate) fn ready(&mut self, number: u32) -> SessionKey {
        self.ready_for(number, 60)
    }

    pub(crate) fn ready_for(&mut self, number: u32, timeout: u32) -> SessionKey {
        let session = self.open(&format!("rtsp://nvr/{number}"));
        let setup = self.setup(session, &format!("rtsp://nvr/{number}/track1"));
        let cseq = self.expect_sent("SETUP");
        let id = format!("Session: id{number};timeout={timeout}");
        self.answer(200, cseq, &[&id]);
        self.expect_granted(setup);
        session
    }
}
