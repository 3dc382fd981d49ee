//! Whether a server may carry several sessions on one connection: learned, and remembered.
//!
//! A server is taken for able to share until it shows otherwise *and* the session that met the
//! violation then worked on a connection of its own - else it was that session's own error, and a
//! flaky 400 must not cost a server its sharing. Pure: time is passed in.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::proto::SharingViolation;

/// How long a verdict holds before sharing is tried again: firmware gets updated, and a verdict may
/// be wrong.
const VERDICT_MEMORY: Duration = Duration::from_secs(10 * 60);

/// What made us think that a server cannot share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Its answers mixed two sessions up.
    Violation(SharingViolation),
    /// It refused the second session with this status.
    Status(u16),
    /// It closed the connection under the second session.
    Closed,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::Status(code) => write!(
                f,
                "the server answered {code} to a second session of a connection"
            ),
            Self::Closed => {
                f.write_str("the server closed the connection when it got a second session")
            }
        }
    }
}

/// The verdict on one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SharingVerdict {
    /// Nothing speaks against sharing.
    #[default]
    Unknown,
    /// One session per connection.
    No {
        /// What was seen.
        evidence: Evidence,
        /// When it was confirmed.
        since: Instant,
    },
}

impl SharingVerdict {
    /// A session that met `evidence` on a shared connection works on one of its own.
    pub(super) fn confirm(&mut self, now: Instant, evidence: Evidence) {
        *self = Self::No {
            evidence,
            since: now,
        };
    }

    /// Why this server cannot share, if so.
    pub(super) fn objection(&self, now: Instant) -> Option<Evidence> {
        match self {
            Self::No { evidence, since } if now < *since + VERDICT_MEMORY => Some(*evidence),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_shares_until_shown_otherwise() {
        assert_eq!(SharingVerdict::default().objection(Instant::now()), None);
    }

    #[test]
    fn a_verdict_lapses() {
        let start = Instant::now();
        let mut verdict = SharingVerdict::default();
        verdict.confirm(start, Evidence::Closed);
        assert_eq!(verdict.objection(start), Some(Evidence::Closed));
        let last = start + VERDICT_MEMORY - Duration::from_millis(1);
        assert_eq!(verdict.objection(last), Some(Evidence::Closed));
        assert_eq!(verdict.objection(start + VERDICT_MEMORY), None);
    }
}
