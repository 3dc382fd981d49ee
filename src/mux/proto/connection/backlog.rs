//! What a connection's server has not answered yet: who waits behind whom.

use std::time::Instant;

use crate::mux::proto::command::SessionKey;

/// What waits for an answer. Servers that work a connection's requests off one by one hold all
/// answers back while they work on the first (gst-rtsp-server for the 20 s of one slow DESCRIBE).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The oldest unanswered request on the wire.
    pub head: Option<HeadOfLine>,
    /// DESCRIBEs that are unanswered or wait to be sent, whoever still wants them. Not those that
    /// timed out: their answer may never come, and nobody could wait for it.
    pub describes: usize,
    /// Whose DESCRIBE waits to be sent, in order.
    pub unsent: Vec<SessionKey>,
}

/// The request that all others wait behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadOfLine {
    /// Whose it is; none if it is the connection's own.
    pub session: Option<SessionKey>,
    /// Since when it is the oldest one.
    pub since: Instant,
    /// It is a DESCRIBE: behind it nothing may be sent to most servers.
    pub is_describe: bool,
    /// Others were unanswered when it was sent.
    pub was_beside_others: bool,
}

impl Backlog {
    /// Since when `session` waits behind another one's request.
    pub fn blocked_since(&self, session: SessionKey) -> Option<Instant> {
        let head = self.head?;
        (head.session != Some(session)).then_some(head.since)
    }
}
