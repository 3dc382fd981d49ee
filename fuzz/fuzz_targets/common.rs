//! A connection with two playing sessions and requests under way, and what it did with its input.
//!
//! `tests/proto/fuzz.rs` runs the targets on random bytes, so that a change that breaks them is seen.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use gstrtspmux::mux::proto::{
    Connection, ConnectionConfig, CredentialStatus, Credentials, Event, Limits, PlayRange, Profile,
    RequestId, SessionConfig, SessionKey, SessionRequest, SourcePolicy,
};
use url::Url;

/// Stands between reads; what follows it says what happens there.
pub const MARK: &[u8] = b"\xff\xfe";

/// Any bytes, any cuts, any times: no panic, nothing kept without bound, nothing after the end.
pub fn any_input(data: &[u8]) {
    let mut subject = Subject::new(Instant::now());
    let mut rest = data;
    while let Some(at) = rest.windows(MARK.len()).position(|two| two == MARK) {
        let (read, tail) = rest.split_at(at);
        subject.receive(read);
        rest = &tail[MARK.len()..];
        match rest.split_first() {
            Some((what @ 0..=1, tail)) => {
                subject.release(usize::from(*what));
                rest = tail;
            }
            Some((time, tail)) => {
                subject.advance(Duration::from_millis(u64::from(*time) * 100));
                rest = tail;
            }
            None => return,
        }
    }
    subject.receive(rest);
}

/// The same bytes in one read and in many give the same events and the same requests.
pub fn any_splits(cuts: &[u8], data: &[u8]) {
    let epoch = Instant::now();
    let mut whole = Subject::new(epoch);
    whole.receive(data);

    let mut split = Subject::new(epoch);
    let mut rest = data;
    for cut in cuts {
        let Some((read, tail)) = rest.split_at_checked(usize::from(*cut)) else {
            break;
        };
        split.receive(read);
        rest = tail;
    }
    split.receive(rest);

    assert_eq!(whole.into_trace(), split.into_trace());
}

struct Subject {
    connection: Connection,
    epoch: Instant,
    elapsed: Duration,
    unread: BytesMut,
    sent: Vec<u8>,
    events: Vec<String>,
    sessions: Vec<SessionKey>,
    next_request: u64,
    is_closed: bool,
}

impl Subject {
    fn new(epoch: Instant) -> Self {
        let config = ConnectionConfig {
            credentials: Credentials::new("user", "password").ok(),
            credential_status: CredentialStatus::Proven(None),
            user_agent: "fuzz".to_owned(),
            seed: 7,
            ..ConnectionConfig::default()
        };
        let mut subject = Self {
            connection: Connection::new(config, epoch),
            epoch,
            elapsed: Duration::ZERO,
            unread: BytesMut::new(),
            sent: Vec::new(),
            events: Vec::new(),
            sessions: Vec::new(),
            next_request: 0,
            is_closed: false,
        };
        subject.begin();
        subject
    }

    /// CSeq 1 to 4 are answered; 5 (SETUP of a second stream) and 6 (DESCRIBE) are not.
    fn begin(&mut self) {
        for number in 1..=2 {
            let url = url(&format!("rtsp://nvr/{number}"));
            let config = SessionConfig {
                url,
                keep_alive: true,
                block_size: None,
            };
            let Ok(session) = self.connection.open_session(config) else {
                return;
            };
            self.sessions.push(session);
            self.setup(session, 0);
            self.receive(
                format!("RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: id{number}\r\n\r\n")
                    .as_bytes(),
            );
        }
        for (cseq, session) in (3..).zip(self.sessions.clone()) {
            let aggregate = url("rtsp://nvr/");
            self.request(
                session,
                SessionRequest::Play {
                    aggregate,
                    range: PlayRange::Start,
                },
            );
            self.receive(format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n\r\n").as_bytes());
        }
        if let [first, second] = self.sessions[..] {
            self.setup(first, 1);
            self.request(second, SessionRequest::Describe);
        }
        self.sent.clear();
        self.events.clear();
    }

    fn setup(&mut self, session: SessionKey, stream: usize) {
        let request = SessionRequest::Setup {
            stream,
            control: url("rtsp://nvr/track"),
            profile: Profile::Avp,
            payload_types: vec![96],
            sources: SourcePolicy::default(),
        };
        self.request(session, request);
    }

    fn request(&mut self, session: SessionKey, request: SessionRequest) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.connection.request(self.now(), session, id, request);
        self.drain();
    }

    fn now(&self) -> Instant {
        self.epoch + self.elapsed
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let now = self.now();
        let mut packets = Vec::new();
        let deliver = |packet| packets.push(Event::Packet(packet));
        self.connection.handle_input(now, &mut self.unread, deliver);
        packets
            .into_iter()
            .for_each(|packet| self.take_event(&packet));
        self.drain();
        // A body and its head, or a frame: nothing larger is kept.
        let limits = Limits::default();
        assert!(self.unread.len() <= limits.headers + limits.body + bytes.len());
    }

    fn advance(&mut self, time: Duration) {
        self.elapsed += time;
        self.connection.handle_timeout(self.now());
        self.drain();
        let now = self.now();
        if let Some(deadline) = self.connection.poll_timeout() {
            assert!(deadline > now, "a deadline that was met comes back");
        }
    }

    fn release(&mut self, which: usize) {
        if let Some(session) = self.sessions.get(which % 2) {
            self.connection.release(self.now(), *session);
            self.drain();
        }
    }

    /// Everything that came out so far: events, and the bytes sent.
    fn into_trace(self) -> (Vec<String>, Vec<u8>) {
        (self.events, self.sent)
    }

    fn drain(&mut self) {
        while let Some(bytes) = self.connection.poll_transmit() {
            self.connection.handle_write_progress(self.now(), 0);
            self.sent.extend_from_slice(&bytes);
        }
        while let Some(event) = self.connection.poll_event() {
            self.take_event(&event);
        }
    }

    fn take_event(&mut self, event: &Event) {
        let is_completion = matches!(event, Event::Completed { .. });
        assert!(!self.is_closed || is_completion, "after the end: {event:?}");
        self.is_closed |= matches!(event, Event::Closed(_));
        self.events.push(format!("{event:?}"));
    }
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("a URL")
}
