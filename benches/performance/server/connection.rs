//! A connection of the load server: requests in, answers and pictures out, on a thread of its own.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{
    Counts,
    clip::Clip,
    session::{Pace, Session},
};
use crate::{
    Outcome,
    rtsp::{Incoming, Parser, Request, Response},
};

/// Pictures are made ahead of what the client reads up to here, unthrottled.
const AHEAD: usize = 512 * 1024;
/// What waits for a client that does not read, before pictures are left out: the keyframes with which
/// all sessions of a connection start, and more.
const BACKLOG: usize = 64 * 1024 * 1024;

/// Names sessions of all connections.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

pub(super) struct Connection {
    stream: TcpStream,
    parser: Parser,
    sessions: Vec<Session>,
    clip: Arc<Clip>,
    counts: Arc<Counts>,
    out: Vec<u8>,
    /// Of `out`, sent already.
    sent: usize,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, clip: Arc<Clip>, counts: Arc<Counts>) -> Self {
        Self {
            stream,
            parser: Parser::default(),
            sessions: Vec::new(),
            clip,
            counts,
            out: Vec::new(),
            sent: 0,
        }
    }

    /// Until the client goes, or says what is no RTSP.
    pub(super) fn serve(mut self) {
        if let Err(error) = self.run() {
            eprintln!("load server: {error}");
        }
    }

    fn run(&mut self) -> Outcome {
        self.stream.set_nodelay(true)?;
        self.stream.set_nonblocking(true)?;
        loop {
            self.write_pictures(Instant::now());
            if !self.send()? {
                return Ok(());
            }
            let readiness = self.wait()?;
            if readiness.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && !self.receive()?
            {
                return Ok(());
            }
        }
    }

    /// For the client, for room, or for the next picture.
    fn wait(&self) -> Outcome<PollFlags> {
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, self.waiting() > 0);
        let is_unthrottled = self.sessions.iter().any(Session::is_unthrottled);
        let due = self.sessions.iter().filter_map(Session::due).min();
        let timeout = due.map(|due| match is_unthrottled {
            // There is room for more only once something was sent.
            true if self.waiting() > 0 => Duration::from_secs(1),
            true => Duration::ZERO,
            false => due.saturating_duration_since(Instant::now()),
        });
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut sockets = [PollFd::new(&self.stream, interest)];
        match poll(&mut sockets, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(sockets[0].revents()),
            Err(error) => Err(error.into()),
        }
    }

    fn waiting(&self) -> usize {
        self.out.len() - self.sent
    }

    fn write_pictures(&mut self, now: Instant) {
        self.out.drain(..self.sent);
        self.sent = 0;
        for session in &mut self.sessions {
            if session.is_unthrottled() {
                continue;
            }
            while session.due().is_some_and(|due| due <= now) {
                if self.out.len() > BACKLOG {
                    Counts::add(&self.counts.dropped_frames);
                    session.skip(&self.clip);
                } else {
                    session.write(&self.clip, now, &mut self.out);
                }
            }
        }
        let mut before = usize::MAX;
        while self.out.len() < AHEAD && self.out.len() != before {
            before = self.out.len();
            for session in self.sessions.iter_mut().filter(|s| s.is_unthrottled()) {
                session.write(&self.clip, now, &mut self.out);
            }
        }
    }

    /// What the client takes. False: it has gone.
    fn send(&mut self) -> Outcome<bool> {
        while self.waiting() > 0 {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return gone(error),
            }
        }
        Ok(true)
    }

    /// What the client has sent. False: it has gone.
    fn receive(&mut self) -> Outcome<bool> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(length) => self.parser.push(&bytes[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return gone(error),
        }
        loop {
            match self.parser.next() {
                Ok(Some(Incoming::Request(request))) => self.answer(&request),
                Ok(Some(Incoming::Response(_) | Incoming::Frame(_))) => {}
                Ok(None) => return Ok(true),
                Err(error) => return Err(error.to_string().into()),
            }
        }
    }

    fn answer(&mut self, request: &Request) {
        Counts::add(&self.counts.requests);
        let id = request.headers.value("Session");
        let id = id.and_then(|value| value.split(';').next());
        let index = id.and_then(|id| self.sessions.iter().position(|session| session.id == id));
        let mut response = match (request.method.as_str(), index) {
            ("DESCRIBE", _) => self.describe(request),
            ("SETUP", _) => self.set_up(request),
            ("PLAY", Some(index)) => {
                let base = self.sessions[index].play(Instant::now());
                let url = format!("{}/video", request.uri.trim_end_matches('/'));
                let info = format!("url={url};seq=0;rtptime={base}");
                Response::new(200).header("RTP-Info", info)
            }
            ("PAUSE", Some(index)) => {
                self.sessions[index].pause();
                Response::new(200)
            }
            ("TEARDOWN", Some(index)) => {
                self.sessions.swap_remove(index);
                Response::new(200)
            }
            ("OPTIONS", _) => Response::new(200).header(
                "Public",
                "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER",
            ),
            ("GET_PARAMETER", _) if id.is_none() || index.is_some() => Response::new(200),
            _ if id.is_some() => Response::new(454),
            _ => Response::new(405),
        };
        if let Some(id) = id.filter(|_| response.status == 200) {
            response.headers.set("Session", id);
        }
        let cseq = request.headers.value("CSeq").unwrap_or("0");
        response.headers.set("CSeq", cseq);
        self.out.extend_from_slice(&response.to_bytes());
    }

    fn describe(&self, request: &Request) -> Response {
        if camera(&request.uri).is_none() {
            return Response::new(404);
        }
        Response::new(200)
            .header(
                "Content-Base",
                format!("{}/", request.uri.trim_end_matches('/')),
            )
            .content("application/sdp", self.clip.description())
    }

    /// A session of one stream, on the channels that the client asks for.
    fn set_up(&mut self, request: &Request) -> Response {
        let Some((pace, number)) = camera(&request.uri) else {
            return Response::new(404);
        };
        let transport = request.headers.value("Transport").unwrap_or_default();
        let channel = transport
            .split(['=', '-', ';', ','])
            .skip_while(|word| *word != "interleaved")
            .nth(1)
            .and_then(|channel| channel.parse::<u8>().ok());
        let Some(channel) = channel.filter(|_| transport.contains("RTP/AVP/TCP")) else {
            return Response::new(461);
        };
        Counts::add(&self.counts.sessions);
        let id = format!("{:08}", SESSIONS.fetch_add(1, Ordering::Relaxed));
        let answer = format!(
            "RTP/AVP/TCP;unicast;interleaved={channel}-{}",
            channel.saturating_add(1)
        );
        self.sessions
            .push(Session::new(id.clone(), number, pace, channel));
        Response::new(200)
            .header("Transport", answer)
            .header("Session", format!("{id};timeout=60"))
    }
}

/// Its pace and its number: `rtsp://host/paced/7[/video]`.
fn camera(uri: &str) -> Option<(Pace, usize)> {
    let mut path = uri.split('/').skip(3);
    Some((Pace::named(path.next()?)?, path.next()?.parse().ok()?))
}

/// A client that closes without a word is nothing to report.
fn gone(error: std::io::Error) -> Outcome<bool> {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ok(false),
        _ => Err(error.into()),
    }
}
