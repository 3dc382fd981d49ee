//! The threads of the mock server: one accepts, one per connection reads and answers.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use super::behaviour::Reaction;
use super::state::{Ends, State};
use super::{FrameFromClient, Link, Shared};
use crate::support::rtsp::{Incoming, Parser, Request, SenderReport};

pub(super) fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        if shared.state().is_stopped {
            break;
        }
        let Ok(stream) = stream else { continue };
        let Ok(link) = Link::new(&stream) else {
            continue;
        };
        let number = shared.update(|state| state.accept(Some(link.clone())));
        let shared = Arc::clone(shared);
        threads.push(std::thread::spawn(move || {
            let connection = Connection {
                shared,
                number,
                link,
                seen: 0,
            };
            connection.run(stream);
        }));
    }
    // A connection that came in between `is_stopped` and here.
    let links = shared.state().links.clone();
    links
        .iter()
        .flatten()
        .for_each(|link| link.shutdown(Shutdown::Both));
    for thread in threads {
        let _ = thread.join();
    }
}

/// Whether the connection goes on.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Close,
}

struct Connection {
    shared: Arc<Shared>,
    number: usize,
    link: Link,
    seen: usize,
}

impl Connection {
    fn run(mut self, mut stream: TcpStream) {
        let habits = &self.shared.config.habits;
        if habits.eof_on_accept {
            self.link.shutdown(Shutdown::Write);
        }
        if !habits.close_on_accept {
            self.serve(&mut stream);
        }
        let is_reset = socket2::SockRef::from(&stream)
            .linger()
            .is_ok_and(|linger| linger.is_some());
        self.shared.state().closing.insert(self.number);
        if !is_reset {
            self.link.shutdown(Shutdown::Both);
        }
        let Self {
            shared,
            number,
            link,
            ..
        } = self;
        // The descriptors go before the count: who sees the count sees the connection closed.
        let in_state = shared.state().links.get_mut(number).and_then(Option::take);
        drop((in_state, link, stream));
        shared.update(|state| state.closed(&shared.config, number));
    }

    fn serve(&mut self, stream: &mut TcpStream) {
        let mut parser = Parser::default();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let count = match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            parser.push(&chunk[..count]);
            let mut of_chunk = 0;
            loop {
                let message = match parser.next() {
                    Ok(Some(message)) => message,
                    Ok(None) => break,
                    Err(error) => {
                        self.violation(error.to_string());
                        self.link.write(b"RTSP/1.0 400 Bad Request\r\n\r\n");
                        return;
                    }
                };
                if let Incoming::Request(request) = &message {
                    of_chunk += 1;
                    if of_chunk > 1 && self.shared.config.habits.drops_pipelined {
                        let cseq = request.headers.cseq();
                        self.shared
                            .update(|state| state.peers[self.number].last_cseq = cseq);
                        continue;
                    }
                }
                let inside = match &message {
                    Incoming::Request(request) if request.method == "DESCRIBE" => {
                        self.read_inside(stream)
                    }
                    _ => Vec::new(),
                };
                let describe = match &message {
                    Incoming::Request(request) => request.uri.clone(),
                    _ => String::new(),
                };
                if self.on_message(message) == Then::Close {
                    return;
                }
                if self.handle_inside(&describe, &inside) == Then::Close {
                    return;
                }
            }
        }
    }

    /// What comes while the server works on a DESCRIBE and still reads the connection.
    fn read_inside(&self, stream: &mut TcpStream) -> Vec<u8> {
        let Some(time) = self.shared.config.habits.reentrant_describe else {
            return Vec::new();
        };
        let (until, mut inside) = (Instant::now() + time, Vec::new());
        let mut chunk = [0; 4096];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let _ = stream.set_read_timeout(Some(left));
            match stream.read(&mut chunk) {
                Ok(0) => {
                    std::thread::sleep(left);
                    break;
                }
                Ok(count) => inside.extend_from_slice(&chunk[..count]),
                Err(_) => {}
            }
        }
        let _ = stream.set_read_timeout(None);
        inside
    }

    /// Each request that came inside a DESCRIBE is answered; then the DESCRIBE once more for each byte of it, under its
    /// CSeq, or once where nothing plays. With more than one request the server is never heard of again.
    fn handle_inside(&mut self, describe: &str, inside: &[u8]) -> Then {
        let mut parser = Parser::default();
        parser.push(inside);
        let mut requests = 0;
        while let Ok(Some(message)) = parser.next() {
            let cseq = match &message {
                Incoming::Request(request) => request.headers.value("CSeq").map(str::to_owned),
                _ => None,
            };
            if self.on_message(message) == Then::Close {
                return Then::Close;
            }
            let Some(cseq) = cseq else { continue };
            requests += 1;
            self.violation("a request behind an unanswered DESCRIBE".to_owned());
            if requests > 1 {
                let releases = self.shared.state().releases;
                self.wait_for_release(releases);
                return Then::Close;
            }
            self.repeat_description(describe, &cseq, inside.len());
        }
        Then::GoOn
    }

    fn repeat_description(&self, describe: &str, cseq: &str, bytes: usize) {
        let again = Request::new("DESCRIBE", describe).header("CSeq", cseq);
        let (shared, number) = (&self.shared, self.number);
        let repeated = shared.update(|state| {
            let mut sessions = state.view.sessions.iter();
            let plays = sessions.any(|s| s.connection == number && s.is_playing);
            let answer = state.answer(&shared.config, &shared.authority, number, &again);
            answer.into_bytes().repeat(if plays { bytes } else { 1 })
        });
        self.link.write(&repeated);
    }

    fn violation(&self, text: String) {
        let text = format!("connection {}: {text}", self.number);
        self.shared.update(|state| state.view.violations.push(text));
    }

    fn on_message(&mut self, message: Incoming) -> Then {
        let number = self.number;
        match message {
            Incoming::Request(request) => return self.on_request(&request),
            Incoming::Response(response) => self
                .shared
                .update(|state| state.view.responses.push((number, response))),
            Incoming::Frame(frame) => self.shared.update(|state| {
                state.check_channel(number, frame.channel);
                state.view.frames.push(FrameFromClient {
                    connection: number,
                    channel: frame.channel,
                    payload: frame.payload,
                });
            }),
        }
        Then::GoOn
    }

    fn on_request(&mut self, request: &Request) -> Then {
        let number = self.number;
        let config = &self.shared.config;
        self.seen += 1;
        // A release counts for this request from the moment a test can know of it.
        let (reaction, releases) = self.shared.update(|state| {
            state.record(number, request);
            (state.reaction(config, request), state.releases)
        });
        if matches!(reaction, Some(Reaction::Hold)) {
            self.wait_for_release(releases);
        }
        self.shared.pause(config.habits.service_time);
        let then = self.react(request, reaction, releases);
        if self.shared.config.habits.stop_reading_after == Some(self.seen) {
            self.wait_for_release(releases);
        }
        then
    }

    /// No lock is held while this waits.
    fn wait_for_release(&self, releases: u64) {
        self.shared
            .wait(|state| state.releases > releases || state.is_stopped);
    }

    /// The effect of a request, and its answer on the wire. The writer is locked over both: who sees the effect
    /// and sends media comes after the answer.
    fn react(&mut self, request: &Request, reaction: Option<Reaction>, releases: u64) -> Then {
        let link = self.link.clone();
        let mut writer = link.writer();
        let shared = Arc::clone(&self.shared);
        let number = self.number;
        let outcome = shared.update(|state| {
            let is_deferred =
                matches!(reaction, Some(Reaction::Defer)) && state.releases <= releases;
            let mut outcome =
                state.react(&shared.config, &shared.authority, number, request, reaction);
            if is_deferred {
                state
                    .deferred
                    .push((number, std::mem::take(&mut outcome.bytes)));
            }
            if outcome.ends == Ends::Both {
                state.closing.insert(number);
            }
            outcome
        });
        // A client that is gone is found by the next read.
        let _ = writer.write_all(&outcome.bytes);
        match outcome.ends {
            Ends::Nothing => Then::GoOn,
            Ends::Writing => {
                self.link.shutdown(Shutdown::Write);
                Then::GoOn
            }
            Ends::Both => Then::Close,
        }
    }
}

/// Sends media to every session that plays the camera. The writer is locked before the state, so that sequence
/// numbers rise on the wire, whichever session sends.
pub(super) fn send_media(shared: &Shared, path: &str, count: u32) -> usize {
    for_playing(shared, path, |state, connection| {
        state.media(&shared.config, connection, path, count)
    })
}

pub(super) fn send_reports(shared: &Shared, path: &str, ntp: u64) -> usize {
    for_playing(shared, path, |state, connection| {
        state.reports(&shared.config, connection, path, |ssrc, timestamp| {
            SenderReport {
                ssrc,
                ntp,
                timestamp,
                ..SenderReport::default()
            }
        })
    })
}

fn for_playing(
    shared: &Shared,
    path: &str,
    make: impl Fn(&mut State, usize) -> (usize, Vec<u8>),
) -> usize {
    let mut connections: Vec<usize> = shared
        .state()
        .view
        .sessions
        .iter()
        .filter(|s| s.is_playing && s.camera == path)
        .map(|s| s.connection)
        .collect();
    connections.sort_unstable();
    connections.dedup();
    let mut sent = 0;
    for connection in connections {
        let link = shared.state().links.get(connection).cloned().flatten();
        let Some(link) = link else { continue };
        let mut writer = link.writer();
        let (count, bytes) = make(&mut shared.state(), connection);
        if writer.write_all(&bytes).is_ok() {
            sent += count;
        }
    }
    sent
}
