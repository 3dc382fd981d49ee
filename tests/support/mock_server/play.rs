//! A server that follows a transcript: it compares what the client must send, and sends what the server sent.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::rtsp::{Incoming, Parser};
use crate::support::transcript::{Step, Transcript};

/// How long the client may take for its next message, and how long `finish()` waits for the end. Never reached by
/// a client that works, so that it costs time only in a test that fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Plays one transcript with the first client that connects; `A>` lines and times are left to the test.
pub struct TranscriptServer {
    transcript: Transcript,
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    /// The line being played.
    line: usize,
    is_done: bool,
    is_stopped: bool,
    failures: Vec<String>,
    stream: Option<TcpStream>,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TranscriptServer {
    pub(super) fn start(transcript: &Transcript) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port to listen on");
        let address = listener.local_addr().expect("an address of its own");
        let transcript = transcript.with_authority(&address.to_string());
        let shared = Arc::new(Shared::default());
        let thread = {
            let (transcript, shared) = (transcript.clone(), Arc::clone(&shared));
            std::thread::spawn(move || run(&transcript, &listener, &shared))
        };
        Self {
            transcript,
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// The URL of a path of this server.
    pub fn url(&self, path: &str) -> String {
        format!("rtsp://{}{path}", self.address)
    }

    /// The transcript with this server's address in it: its `A>` lines are for the test to follow.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Waits until every step of the server up to this line has been played; `false` after `limit`.
    pub fn wait_past(&self, line: usize, limit: Duration) -> bool {
        let guard = self.shared.progress();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(guard, limit, |p| !p.is_done && p.line <= line);
        waited.is_ok_and(|(p, _)| p.is_done || p.line > line)
    }

    /// Waits for the end of the transcript and closes the connection.
    ///
    /// # Panics
    /// With all that went otherwise than the transcript says.
    pub fn finish(mut self) {
        let failures = self.end(PATIENCE);
        assert!(
            failures.is_empty(),
            "{} ({})\n{}",
            self.transcript.name,
            self.transcript.intent,
            failures.join("\n")
        );
    }

    /// As `finish()`, for tests of this server: the failures instead of a panic, without patience.
    pub fn failures(mut self, patience: Duration) -> Vec<String> {
        self.end(patience)
    }

    fn end(&mut self, patience: Duration) -> Vec<String> {
        let Some(thread) = self.thread.take() else {
            return Vec::new();
        };
        let guard = self.shared.progress();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(guard, patience, |p| !p.is_done);
        if let Ok((mut progress, _)) = waited {
            progress.is_stopped = true;
            if let Some(stream) = &progress.stream {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        // accept() has to return even if no client has connected yet.
        drop(TcpStream::connect(self.address));
        let _ = thread.join();
        std::mem::take(&mut self.shared.progress().failures)
    }
}

impl Drop for TranscriptServer {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

fn run(transcript: &Transcript, listener: &TcpListener, shared: &Shared) {
    let result = match listener.accept() {
        Ok((stream, _)) => Player::start(transcript, stream, shared).and_then(Player::play),
        Err(error) => Err(format!("accept: {error}")),
    };
    let mut progress = shared.progress();
    progress.failures.extend(result.err());
    progress.is_done = true;
    shared.changed.notify_all();
}

struct Player<'a> {
    transcript: &'a Transcript,
    shared: &'a Shared,
    stream: TcpStream,
    parser: Parser,
}

impl<'a> Player<'a> {
    fn start(
        transcript: &'a Transcript,
        stream: TcpStream,
        shared: &'a Shared,
    ) -> Result<Self, String> {
        let failed = |e: std::io::Error| e.to_string();
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut progress = shared.progress();
        if progress.is_stopped {
            return Err(format!("{}: no client connected", transcript.name));
        }
        progress.stream = Some(stream.try_clone().map_err(failed)?);
        Ok(Self {
            transcript,
            shared,
            stream,
            parser: Parser::default(),
        })
    }

    fn play(mut self) -> Result<(), String> {
        let mut is_open = true;
        for step in &self.transcript.steps {
            self.shared.progress().line = step.line();
            self.shared.changed.notify_all();
            is_open &= !matches!(step, Step::ServerClose { .. });
            self.step(step)
                .map_err(|text| format!("{}: {text}", self.transcript.at(step.line())))?;
        }
        self.shared.progress().is_done = true;
        self.shared.changed.notify_all();
        match is_open {
            true => self.after_the_end(),
            false => Ok(()),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Request { expected, .. } => {
                let got = self.next(|m| !matches!(m, Incoming::Frame(_)))?;
                match expected.mismatch(&got) {
                    Some(text) => Err(format!("{text}\n  got {}", got.summary())),
                    None => Ok(()),
                }
            }
            Step::ClientFrame { expected, .. } => {
                let is_it = |m: &Incoming| match m {
                    Incoming::Frame(frame) => frame.channel == expected.channel(),
                    _ => true,
                };
                let got = self.next(is_it)?;
                let Incoming::Frame(frame) = &got else {
                    return Err(format!("no frame but {}", got.summary()));
                };
                expected.mismatch(frame).map_or(Ok(()), Err)
            }
            Step::ServerBytes { bytes, .. } => {
                self.stream.write_all(bytes).map_err(|e| e.to_string())
            }
            Step::ServerClose { reset: false, .. } => {
                // The client may have closed before: not this step's business.
                let _ = self.stream.shutdown(Shutdown::Write);
                Ok(())
            }
            Step::ServerClose { reset: true, .. } => {
                let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                // The last descriptor is this player's: its end sends the RST.
                self.shared.progress().stream = None;
                Ok(())
            }
            Step::Action { .. } | Step::Advance { .. } | Step::Expect { .. } => Ok(()),
        }
    }

    /// The next message of a kind; others are passed over, such as receiver reports no step asks for.
    fn next(&mut self, is_it: impl Fn(&Incoming) -> bool) -> Result<Incoming, String> {
        let mut chunk = [0; 4096];
        loop {
            while let Some(message) = self.parser.next().map_err(|e| e.to_string())? {
                if is_it(&message) {
                    return Ok(message);
                }
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the connection ended before the client sent this".to_owned()),
                Ok(count) => self.parser.push(&chunk[..count]),
                Err(error) => return Err(format!("the client did not send this: {error}")),
            }
        }
    }

    /// Until the test calls `finish()` the client may send frames, TEARDOWNs and nothing else.
    fn after_the_end(mut self) -> Result<(), String> {
        let is_more = |m: &Incoming| match m {
            Incoming::Request(request) => request.method != "TEARDOWN",
            Incoming::Response(_) => true,
            Incoming::Frame(_) => false,
        };
        match self.next(is_more) {
            Ok(more) => Err(format!(
                "{}: after the end of the transcript came {}",
                self.transcript.name,
                more.summary()
            )),
            Err(_) => Ok(()),
        }
    }
}
