//! Who may use the credentials: what a connection asks, what it is told, and what it reports.
//!
//! Cameras lock accounts after a few wrong passwords (fault F22). So until a server has accepted the
//! user, a connection asks before it sends a request that may end in a try of the password. What is
//! decided for all connections together is decided outside the core.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    time::Instant,
};

use super::LeftChallenge;

/// Stands for a URI, a realm or a nonce: tells two apart, and shows nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u64);

impl Tag {
    /// The tag of a text.
    pub fn of(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// How strong an authentication is, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strength {
    /// The password in clear text.
    Basic,
    /// Digest with MD5.
    Md5,
    /// Digest with SHA-256.
    Sha256,
    /// Digest with SHA-512-256.
    Sha512,
}

/// A request that waits for leave to use the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialWant {
    /// The presentation it belongs to.
    pub uri: Tag,
    /// It was refused with a stronger algorithm than it would use now.
    pub is_weaker: bool,
    /// The server has accepted the credentials for this presentation before.
    pub was_accepted: bool,
}

/// Leave to use the credentials for one request: without them first, and with them once the server
/// has asked for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Of which presentation.
    pub uri: Tag,
    /// With an algorithm weaker than this one, where the server offers one: this one was refused.
    pub below: Option<Strength>,
    /// With none stronger than this one, where the server offers it: a stronger one is known to fail.
    pub ceiling: Option<Strength>,
    /// The server was seen to close connections behind a 401.
    pub closes_behind_401: bool,
}

/// What is known of the credentials of this connection's server and user, across its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialStatus {
    /// The server has not accepted them. Requests that carry them need a permit; where
    /// `is_exclusive`, so do those that may be answered with a challenge.
    Unproven {
        /// Two challenges at a time would invalidate each other.
        is_exclusive: bool,
    },
    /// This connection may try them.
    Permitted(Permit),
    /// The server has accepted them, and where a stronger algorithm had been refused, with this one.
    Proven(Option<Strength>),
    /// The answer to what was asked last: they are not tried before this time.
    Refused {
        /// When they may be tried again.
        until: Instant,
        /// The server has refused them. If not, the answers so far say nothing of them (404, 503).
        was_refused: bool,
    },
    /// The answer to what was asked last: not yet. The connection asks once more at this time.
    AskAgain {
        /// When.
        at: Instant,
    },
}

impl Default for CredentialStatus {
    fn default() -> Self {
        Self::Unproven {
            is_exclusive: false,
        }
    }
}

/// Why a permit comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitReturn {
    /// No request with the credentials was sent, or none is wanted any more.
    Unused,
    /// The answer to the request says nothing about the credentials (404, 503).
    Undecided,
    /// The answer excuses the try: the nonce was stale.
    Excused,
    /// There is no answer so far.
    Unanswered,
    /// The server closed the connection behind its 401: it may not have seen the try.
    Unseen,
}

/// A 401 to a request that, as far as this connection knows, can only mean the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The presentation of the request.
    pub uri: Tag,
    /// The realm whose challenge was answered.
    pub realm: Tag,
    /// The nonce that was answered.
    pub nonce: Tag,
    /// The server has offered the same nonce again: it holds it for good.
    pub is_same_nonce: bool,
    /// The server has made the challenge that was answered since then.
    pub challenged: Instant,
    /// The algorithm.
    pub strength: Strength,
    /// The answer offers a weaker one as well.
    pub offers_weaker: bool,
}

/// What a [`Refusal`] comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalVerdict {
    /// It is one; the request may be repeated with a weaker algorithm of the same answer, or not.
    Refused {
        /// Ask for leave to repeat it so.
        try_weaker: bool,
    },
    /// Another connection has been challenged meanwhile: answer the newest challenge.
    Excused,
}

/// What a connection reports of the credentials.
#[derive(Debug)]
pub enum CredentialReport {
    /// Requests wait for leave.
    Wanted(Vec<CredentialWant>),
    /// A request with the credentials went out under the permit.
    Tried(Tag),
    /// The server has accepted them.
    Proven(Strength),
    /// The server has answered a request that did not carry them with something else than 401.
    NotAsked,
    /// The permit is of no use any more.
    Returned(PermitReturn),
    /// Answered by [`handle_refusal_verdict`](crate::mux::proto::Connection::handle_refusal_verdict).
    Refused(Refusal),
    /// A challenge has come.
    Challenged {
        /// To a request about this presentation.
        presentation: Option<Tag>,
        /// Its realm.
        realm: Tag,
        /// Its nonce.
        nonce: Tag,
    },
    /// The connection ends with challenges that can be answered on the next one.
    Left(Vec<LeftChallenge>),
}
