//! A client that is nothing but bytes: it sends what a test says and hands out what comes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::mock_server::MockServer;
use crate::support::rtsp::{Frame, Incoming, Parser, Request, Response};

/// Longer than anything here takes; only a test that fails waits for it.
pub(crate) const LONG: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    stream: TcpStream,
    parser: Parser,
    cseq: u32,
    /// Frames that came while an answer was waited for.
    pub(crate) frames: Vec<Frame>,
}

impl Client {
    pub(crate) fn connect(server: &MockServer) -> Self {
        Self::to(&server.address().to_string())
    }

    pub(crate) fn to(authority: &str) -> Self {
        let stream = TcpStream::connect(authority).expect("the server listens");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        Self {
            stream,
            parser: Parser::default(),
            cseq: 0,
            frames: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub(crate) fn send(&mut self, method: &str, uri: &str, headers: &[(&str, &str)]) {
        self.cseq += 1;
        let mut request = Request::new(method, uri).header("CSeq", self.cseq.to_string());
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        self.write(&request.to_bytes());
    }

    /// What comes next; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Incoming> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(message) = self.parser.next().expect("RTSP") {
                return Some(message);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.parser.push(&chunk[..count]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("nothing came: {e}"),
            }
        }
    }

    pub(crate) fn response(&mut self) -> Response {
        loop {
            match self.next() {
                Some(Incoming::Response(response)) => return response,
                Some(Incoming::Frame(frame)) => self.frames.push(frame),
                other => panic!("no response but {other:?}"),
            }
        }
    }

    pub(crate) fn ask(&mut self, method: &str, uri: &str, headers: &[(&str, &str)]) -> Response {
        self.send(method, uri, headers);
        self.response()
    }

    pub(crate) fn frame(&mut self) -> Frame {
        if !self.frames.is_empty() {
            return self.frames.remove(0);
        }
        match self.next() {
            Some(Incoming::Frame(frame)) => frame,
            other => panic!("no frame but {other:?}"),
        }
    }

    pub(crate) fn describe(&mut self, url: &str) -> Response {
        self.ask("DESCRIBE", url, &[("Accept", "application/sdp")])
    }

    pub(crate) fn setup(&mut self, url: &str, channels: &str) -> Response {
        let transport = format!("RTP/AVP/TCP;unicast;interleaved={channels}");
        self.ask(
            "SETUP",
            &format!("{url}/stream=0"),
            &[("Transport", &transport)],
        )
    }

    /// SETUP and PLAY; the session's id.
    pub(crate) fn start(&mut self, url: &str, channels: &str) -> String {
        let setup = self.setup(url, channels);
        self.play(url, setup)
    }

    /// The same, of the control that go2rtc writes into its descriptions.
    pub(crate) fn start_go2rtc(&mut self, url: &str, channels: &str) -> String {
        let transport = format!("RTP/AVP/TCP;unicast;interleaved={channels}");
        let control = format!("{url}/trackID=0");
        let setup = self.ask("SETUP", &control, &[("Transport", &transport)]);
        self.play(url, setup)
    }

    fn play(&mut self, url: &str, setup: Response) -> String {
        assert_eq!(setup.status, 200, "{setup:?}");
        let id = session_id(&setup);
        assert_eq!(self.ask("PLAY", url, &[("Session", &id)]).status, 200);
        id
    }
}

pub(crate) fn session_id(response: &Response) -> String {
    let value = response.headers.value("Session").unwrap_or_default();
    value.split(';').next().unwrap_or_default().to_owned()
}

/// The `interleaved` of a Transport header.
pub(crate) fn channels(response: &Response) -> Option<&str> {
    let transport = response.headers.value("Transport")?;
    transport
        .split(';')
        .find_map(|p| p.strip_prefix("interleaved="))
}
