//! The requests of a connection that the server has not answered yet.

use std::time::Instant;

use crate::mux::proto::command::SessionKey;

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
