//! What can be read off a connection: its phase, unanswered requests, counters, and what it knows of
//! its server.

use std::time::Instant;

use super::{
    Connection, ConnectionPhase,
    draft::{Draft, Purpose},
    measures::Measures,
};
use crate::mux::proto::{command::SessionKey, event::CloseReason};

/// The counters of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests sent, including those repeated after a 401.
    pub requests: u64,
    /// Final answers to them.
    pub answers: u64,
    /// Frames on channels that no session owns.
    pub unknown_frames: u64,
    /// Frames that do not fit the stream of their channel: version, payload type or source.
    pub foreign_frames: u64,
    /// Frames on channels whose session was torn down.
    pub late_frames: u64,
    /// Losses of framing.
    pub resyncs: u64,
    /// Requests of the server.
    pub server_requests: u64,
    /// Answers that match no request.
    pub unmatched_responses: u64,
    /// Answers that came before.
    pub repeated_responses: u64,
    /// Receiver reports that were not sent because the peer reads too slowly.
    pub reports_dropped: u64,
}

/// The unanswered requests. Servers that process the requests of a connection one by one hold all
/// answers back while they work on the first (gst-rtsp-server for the 20 s of one slow DESCRIBE).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The oldest unanswered request on the wire.
    pub head: Option<HeadOfLine>,
    /// DESCRIBEs that are unanswered or wait to be sent, even if their session was released. Those
    /// that timed out do not count: their answer may never come.
    pub describes: usize,
    /// The sessions whose DESCRIBE waits to be sent, in order.
    pub unsent: Vec<SessionKey>,
}

/// The request that all others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadOfLine {
    /// The session of the request; `None` if it is the connection's own.
    pub session: Option<SessionKey>,
    /// Since when it is the oldest one.
    pub since: Instant,
    /// The request is a DESCRIBE: to most servers nothing may be sent before its answer.
    pub is_describe: bool,
    /// Other requests were unanswered when it was sent.
    pub was_beside_others: bool,
}

impl Backlog {
    /// Since when `session` waits for the request of another session.
    pub fn blocked_since(&self, session: SessionKey) -> Option<Instant> {
        let head = self.head?;
        (head.session != Some(session)).then_some(head.since)
    }
}

impl Connection {
    /// True once [`Event::Closed`](crate::mux::proto::Event::Closed) was or will be polled; nothing
    /// else happens any more.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, ConnectionPhase::Closed(_))
    }

    pub(super) fn is_closed_for_challenge(&self) -> bool {
        self.state == ConnectionPhase::Closed(CloseReason::Challenged)
    }

    /// True while the connection is closing: sessions are torn down, and nothing else is sent.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, ConnectionPhase::Closing(_))
    }

    /// True if a session is being set up: a DESCRIBE, SETUP or PLAY is unanswered.
    pub fn is_bringing_up(&self) -> bool {
        let brings_up = |purpose: &Purpose| {
            matches!(
                purpose,
                Purpose::Describe | Purpose::Setup { .. } | Purpose::Play
            )
        };
        self.requests
            .waiting()
            .any(|entry| brings_up(&entry.draft.purpose))
    }

    /// The unanswered requests.
    pub fn backlog(&self) -> Backlog {
        let is_describe = |draft: &&Draft| draft.purpose == Purpose::Describe;
        let sent = self.requests.waiting().map(|entry| &entry.draft);
        let unanswered = sent.chain(&self.waiting).filter(is_describe).count();
        Backlog {
            head: self.requests.head(),
            describes: unanswered + self.authorizer.describes(),
            unsent: self
                .waiting
                .iter()
                .filter(is_describe)
                .filter_map(|draft| draft.session)
                .collect(),
        }
    }

    /// True if a PLAY is unanswered.
    pub fn is_about_to_play(&self) -> bool {
        let mut waiting = self.requests.waiting();
        waiting.any(|entry| entry.draft.purpose == Purpose::Play)
    }

    /// The number of sessions that have not played yet and are going to.
    pub fn sessions_coming_up(&self) -> usize {
        let sessions = self.sessions.values();
        sessions.filter(|session| session.is_coming_up()).count()
    }

    /// The number of sessions that are open, or whose TEARDOWN is due or unanswered.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Of these, the number of sessions being torn down, which the server may still have.
    pub fn teardown_count(&mut self) -> usize {
        self.sessions.tearing_down()
    }

    /// The measurements so far.
    pub fn measures(&self) -> Measures {
        self.meter.measures()
    }

    /// The server's name (`Server`), shortened and without control characters. live555 and go2rtc
    /// send none.
    pub fn server_header(&self) -> Option<&str> {
        self.server_header.as_deref()
    }

    /// The methods the server named last (`Public`), as written, shortened and without control
    /// characters.
    pub fn public_header(&self) -> Option<&str> {
        self.public_header.as_deref()
    }

    /// True if several requests may be outstanding. False once one of several was lost (VLC drops
    /// all but the first).
    pub fn is_pipelining(&self) -> bool {
        self.fences.is_pipelining()
    }

    /// True if the server has asked for Digest, for the
    /// [`refuse_basic`](super::ConnectionConfig::refuse_basic) of other connections.
    pub fn has_seen_digest(&self) -> bool {
        self.authorizer.has_seen_digest()
    }

    /// The counters so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
