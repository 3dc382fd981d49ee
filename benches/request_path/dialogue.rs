//! The life of a session that plays nothing: DESCRIBE, SETUP, PLAY, TEARDOWN, each answered at once.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use gstrtspmux::mux::proto::{
    Connection, ConnectionConfig, Event, PlayRange, Profile, Reply, RequestId, SessionConfig,
    SessionKey, SessionRequest, SourcePolicy,
};
use url::Url;

/// Requests in the life of a session.
pub(crate) const REQUESTS: u64 = 4;

/// Longer than channels are in quarantine.
const PAUSE: Duration = Duration::from_secs(10);

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
    a=control:*\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1;profile-level-id=640028;\
    sprop-parameter-sets=Z2QAKKzZQHgCJ+XARAAAAwAEAAADAPA8YMZY,aOvjyyLA\r\na=control:track1\r\n";

/// A connection, and the server at its other end.
pub(crate) struct Dialogue {
    connection: Connection,
    now: Instant,
    sessions: u64,
    url: Url,
    control: Url,
    answer: BytesMut,
}

impl Dialogue {
    pub(crate) fn new(now: Instant) -> Self {
        let config = ConnectionConfig {
            user_agent: "bench".to_owned(),
            seed: 1,
            ..ConnectionConfig::default()
        };
        Self {
            connection: Connection::new(config, now),
            now,
            sessions: 0,
            url: Url::parse("rtsp://nvr/1/").expect("a URL"),
            control: Url::parse("rtsp://nvr/1/track1").expect("a URL"),
            answer: BytesMut::new(),
        }
    }

    /// One session from its DESCRIBE to the answer to its TEARDOWN.
    ///
    /// # Panics
    /// When it does not get that far.
    pub(crate) fn live_one_session(&mut self) {
        self.now += PAUSE;
        if self.connection.poll_timeout().is_some() {
            self.connection.handle_timeout(self.now);
        }
        let config = SessionConfig {
            url: self.url.clone(),
            keep_alive: true,
            block_size: None,
        };
        let key = self.connection.open_session(config).expect("a session");
        let described = self.exchange(key, SessionRequest::Describe);
        assert!(matches!(described, Some(Reply::Described { .. })));
        let setup = SessionRequest::Setup {
            stream: 0,
            control: self.control.clone(),
            profile: Profile::Avp,
            payload_types: vec![96],
            sources: SourcePolicy::default(),
        };
        assert!(matches!(self.exchange(key, setup), Some(Reply::SetUp(_))));
        let play = SessionRequest::Play {
            aggregate: self.url.clone(),
            range: PlayRange::Start,
        };
        assert!(matches!(self.exchange(key, play), Some(Reply::Playing(_))));
        let torn_down = self.exchange(key, SessionRequest::Teardown);
        assert!(matches!(torn_down, Some(Reply::TornDown)));
        self.sessions += 1;
    }

    /// Sends a request, answers what goes out, and takes what comes of it.
    fn exchange(&mut self, key: SessionKey, request: SessionRequest) -> Option<Reply> {
        let id = RequestId(self.sessions);
        self.connection.request(self.now, key, id, request);
        while let Some(bytes) = self.connection.poll_transmit() {
            self.connection.handle_write_progress(self.now, 0);
            let text = std::str::from_utf8(&bytes).expect("requests are text");
            self.answer
                .extend_from_slice(answer(text, self.sessions).as_bytes());
            self.connection
                .handle_input(self.now, &mut self.answer, drop);
        }
        let mut reply = None;
        while let Some(event) = self.connection.poll_event() {
            if let Event::Completed { result, .. } = event {
                reply = result.ok();
            }
        }
        reply
    }
}

/// What a server says to one request.
fn answer(request: &str, session: u64) -> String {
    let cseq = between(request, "CSeq: ");
    let head = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nServer: bench\r\n");
    match request.split(' ').next() {
        Some("DESCRIBE") => format!(
            "{head}Content-Base: rtsp://nvr/1/\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        ),
        Some("SETUP") => format!(
            "{head}Session: s{session};timeout=60\r\nTransport: {};ssrc=0A0B0C0D\r\n\r\n",
            between(request, "Transport: ")
        ),
        _ => format!(
            "{head}Session: s{session}\r\nRTP-Info: url=rtsp://nvr/1/track1;seq=1;rtptime=0\r\n\r\n"
        ),
    }
}

/// The value of a header.
fn between<'a>(request: &'a str, name: &str) -> &'a str {
    let value = request.split_once(name).expect("the header is there").1;
    value.split("\r\n").next().unwrap_or(value)
}
