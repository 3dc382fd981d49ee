//! Where a session turns when the server refuses it: the decision, without I/O.
//!
//! The classes are those of real servers: some are merely full, some cannot share a connection and
//! say so in their own way, some answer for something else. A failover is never a verdict: for that
//! the session has to work elsewhere first.

use super::sharing::Evidence;
use crate::mux::{
    config::Multiplex,
    proto::{CloseReason, FailureKind},
};

/// On what kind of connection a DESCRIBE or SETUP failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FailureContext {
    /// Other sessions were on the connection.
    pub(crate) is_shared: bool,
    /// It was connected before this session checked it out.
    pub(crate) is_reused: bool,
    /// It was made for this session after others had failed: there is no fresher one to try.
    pub(crate) is_last_resort: bool,
    /// The server answered a request since the connection was last checked out from idle.
    pub(crate) is_proven: bool,
}

/// What may help the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failover {
    /// Nothing: it is this session's own error.
    Nothing,
    /// The connection was stale: one made after it.
    Younger,
    /// The server closes connections behind a 401: the challenge is answered on one made after it.
    Next,
    /// The connection, or the server's budget for it, is full: another one.
    Elsewhere,
    /// The server seems unable to share: a connection of its own.
    Alone(Evidence),
}

/// Decides what may help against `failure`.
pub(crate) fn failover(
    failure: &FailureKind,
    on: FailureContext,
    multiplex: Multiplex,
) -> Failover {
    let failover = match failure {
        // Quarantine may fill a connection that no other session is on. On a new one the session's
        // own streams are too many.
        FailureKind::ChannelsExhausted if on.is_last_resort => Failover::Nothing,
        FailureKind::ChannelsExhausted => Failover::Elsewhere,
        FailureKind::CannotShare(violation) => Failover::Alone(Evidence::Violation(*violation)),
        FailureKind::Status { code, .. } => remedy_for_status(*code, on),
        FailureKind::ConnectionLost(reason) => remedy_for_loss(reason, on),
        // A fence that was sent after it was answered (EvoStream; go2rtc while something plays).
        FailureKind::Ignored if on.is_shared => Failover::Alone(Evidence::Unanswered),
        _ => Failover::Nothing,
    };
    match failover {
        Failover::Alone(_) if multiplex == Multiplex::Always => Failover::Nothing,
        failover => failover,
    }
}

/// Alone on a connection, or on one made for the purpose, it would fare no better on the next one.
fn elsewhere(on: FailureContext) -> Failover {
    if on.is_shared && !on.is_last_resort {
        Failover::Elsewhere
    } else {
        Failover::Nothing
    }
}

/// Whether a status says that there is no room, which is no refusal to share.
pub(crate) fn is_about_capacity(code: u16) -> bool {
    matches!(code, 453 | 461 | 500 | 503)
}

fn remedy_for_status(code: u16, on: FailureContext) -> Failover {
    match code {
        // Full: of bandwidth, sessions, or channels (gst-rtsp-server says 461 to the 129th).
        code if is_about_capacity(code) => elsewhere(on),
        // What servers that know one session per connection say to a second one. A reused
        // connection counts too: ZLMediaKit and go2rtc stay with the first URI they saw on it.
        400 | 405 | 406 | 451 | 454 | 455 | 459 | 460 | 501 | 551
            if on.is_shared || on.is_reused =>
        {
            Failover::Alone(Evidence::Status(code))
        }
        _ => Failover::Nothing,
    }
}

fn remedy_for_loss(reason: &CloseReason, on: FailureContext) -> Failover {
    if on.is_reused && !on.is_proven && *reason != CloseReason::Challenged {
        // An idle connection that the server had given up (fault F39): no offence of ours.
        return Failover::Younger;
    }
    match reason {
        CloseReason::Challenged => Failover::Next,
        CloseReason::PeerClosed | CloseReason::Io(_) if on.is_shared => {
            Failover::Alone(Evidence::Closed)
        }
        _ => Failover::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::proto::SharingViolation;

    const SHARED: FailureContext = FailureContext {
        is_shared: true,
        is_reused: false,
        is_last_resort: false,
        is_proven: true,
    };
    const OWN: FailureContext = FailureContext {
        is_shared: false,
        ..SHARED
    };
    const IDLE: FailureContext = FailureContext {
        is_shared: true,
        is_reused: true,
        is_last_resort: false,
        is_proven: false,
    };

    fn status(code: u16) -> FailureKind {
        FailureKind::Status {
            code,
            reason: String::new(),
            retry_after: None,
        }
    }

    fn auto(failure: &FailureKind, on: FailureContext) -> Failover {
        failover(failure, on, Multiplex::Auto)
    }

    #[test]
    fn a_full_server_is_tried_on_another_connection() {
        for code in [453, 461, 500, 503] {
            assert_eq!(auto(&status(code), SHARED), Failover::Elsewhere, "{code}");
            assert_eq!(auto(&status(code), OWN), Failover::Nothing, "{code}");
        }
        let exhausted = FailureKind::ChannelsExhausted;
        assert_eq!(auto(&exhausted, SHARED), Failover::Elsewhere);
        let last_resort = FailureContext {
            is_last_resort: true,
            ..OWN
        };
        assert_eq!(auto(&exhausted, last_resort), Failover::Nothing);
        let quarantined = FailureContext {
            is_shared: false,
            ..SHARED
        };
        assert_eq!(auto(&exhausted, quarantined), Failover::Elsewhere);
        let last = FailureContext {
            is_last_resort: true,
            ..SHARED
        };
        assert_eq!(auto(&status(503), last), Failover::Nothing);
    }

    #[test]
    fn f07_a_second_session_that_is_refused_gets_a_connection_of_its_own() {
        for code in [400, 405, 406, 451, 454, 455, 459, 460, 501, 551] {
            assert_eq!(
                auto(&status(code), SHARED),
                Failover::Alone(Evidence::Status(code))
            );
            assert_eq!(
                auto(&status(code), OWN),
                Failover::Nothing,
                "alone it is its own error"
            );
        }
        let closed = FailureKind::ConnectionLost(CloseReason::PeerClosed);
        assert_eq!(auto(&closed, SHARED), Failover::Alone(Evidence::Closed));
        assert_eq!(auto(&closed, OWN), Failover::Nothing);
    }

    #[test]
    fn f11_mixed_up_answers_are_evidence() {
        let violation = SharingViolation::SameSessionId;
        let failover = auto(&FailureKind::CannotShare(violation), SHARED);
        assert_eq!(failover, Failover::Alone(Evidence::Violation(violation)));
    }

    #[test]
    fn f09_a_request_that_is_ignored_is_evidence_and_a_blocked_one_is_none() {
        let ignored = FailureKind::Ignored;
        let alone = Failover::Alone(Evidence::Unanswered);
        assert_eq!(auto(&ignored, SHARED), alone);
        assert_eq!(auto(&ignored, OWN), Failover::Nothing);
        // gst-rtsp-server holds answers for 20 s while media flows.
        let blocked = FailureKind::TimedOut(std::time::Duration::from_secs(25));
        assert_eq!(auto(&blocked, SHARED), Failover::Nothing);
    }

    #[test]
    fn f39_a_stale_idle_connection_is_no_evidence() {
        let closed = FailureKind::ConnectionLost(CloseReason::PeerClosed);
        assert_eq!(auto(&closed, IDLE), Failover::Younger);
        let proven = FailureContext {
            is_proven: true,
            ..IDLE
        };
        assert_eq!(auto(&closed, proven), Failover::Alone(Evidence::Closed));
    }

    #[test]
    fn f46_a_close_behind_a_401_is_no_evidence() {
        let challenged = FailureKind::ConnectionLost(CloseReason::Challenged);
        for on in [SHARED, OWN, IDLE] {
            assert_eq!(auto(&challenged, on), Failover::Next);
        }
    }

    #[test]
    fn a_dead_server_is_no_evidence() {
        let dead = FailureKind::ConnectionLost(CloseReason::Dead("silence"));
        assert_eq!(auto(&dead, SHARED), Failover::Nothing);
    }

    #[test]
    fn with_multiplex_always_nothing_is_moved_to_a_connection_of_its_own() {
        assert_eq!(
            failover(&status(400), SHARED, Multiplex::Always),
            Failover::Nothing
        );
        assert_eq!(
            failover(&status(453), SHARED, Multiplex::Always),
            Failover::Elsewhere
        );
    }

    #[test]
    fn answers_about_the_camera_are_its_own() {
        for code in [401, 404, 410, 415] {
            assert_eq!(auto(&status(code), SHARED), Failover::Nothing, "{code}");
        }
        assert_eq!(auto(&FailureKind::Cancelled, SHARED), Failover::Nothing);
    }
}
