//! Where a session turns when a step of it fails: the decision, without I/O.
//!
//! The classes are those of real servers: some are merely full, some cannot share a connection and
//! say so in their own way, some answer for another session. A failure may show that a server cannot
//! share; the verdict *no* needs the proof that the same session works on a connection of its own.

use super::sharing::Evidence;
use crate::mux::{
    config::Multiplex,
    proto::{CloseReason, FailureKind},
};

/// Connections tried for one session at one server. A bound for servers that refuse at random.
const MAX_CONNECTIONS: usize = 16;
/// Connections tried for one session that the server closes behind a 401. Two are enough for most; a
/// session that shares them with others meets the 401s of the others, too.
const MOST_CHALLENGED: usize = 8;

/// Which step of a session failed, or has to work before a suspicion is a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailedStep {
    /// DESCRIBE or SETUP. A mere description is no step that works: a broken camera gives one, too.
    #[default]
    SetUp,
    Play,
}

/// What a session has tried at a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    /// The connections on which it has been.
    pub(crate) connections: usize,
    /// A connection made after one that was stale.
    pub(crate) younger: bool,
    /// Connections that the server closed behind a 401.
    pub(crate) challenged: usize,
    /// Its PLAY was refused for want of room on one connection, and tried on another.
    pub(crate) played_elsewhere: bool,
}

/// On what kind of connection a step failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FailureContext {
    pub(crate) step: FailedStep,
    pub(crate) multiplex: Multiplex,
    /// The session is to have a connection of its own.
    pub(crate) is_dedicated: bool,
    /// Other sessions were on the connection.
    pub(crate) is_shared: bool,
    /// It was connected before this session checked it out.
    pub(crate) is_reused: bool,
    /// It was made for this session after others had failed: there is no fresher one to try.
    pub(crate) is_last_resort: bool,
    /// The server answered a request since the connection was last checked out from idle.
    pub(crate) is_proven: bool,
    /// Sessions that had left the server were why it had no room.
    pub(crate) is_premature: bool,
    /// The server did not know a session that it had set up a moment ago, for the first time in a
    /// while.
    pub(crate) is_mishap: bool,
}

/// What the session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recourse {
    /// Fails: the error is its own.
    Fail,
    /// Tries again wherever it gets a place.
    Again,
    /// A connection made after this one, which was stale.
    Younger,
    /// A connection made after this one, which the server closed behind a 401: there the challenge is
    /// answered.
    Challenged,
    /// Another one: the connection, or the server's budget for it, is full.
    Elsewhere,
    /// Another one that no other session uses.
    Alone,
    /// One of its own: if it works there, the server cannot share.
    Suspect(Evidence),
}

/// Whether a status says that there is no room, which is no refusal to share: full of bandwidth,
/// sessions, or channels (gst-rtsp-server says 461 to the 129th).
pub(crate) fn is_about_capacity(code: u16) -> bool {
    matches!(code, 453 | 461 | 500 | 503)
}

/// What a failure may show of a server that seems unable to share.
pub(crate) fn evidence(failure: &FailureKind, on: FailureContext) -> Option<Evidence> {
    let evidence = match failure {
        FailureKind::CannotShare(violation) => Evidence::Violation(*violation),
        // What servers that know one session per connection say to a second one. A reused
        // connection counts too: ZLMediaKit and go2rtc stay with the first URI they saw on it.
        FailureKind::Status {
            code: code @ (400 | 405 | 406 | 451 | 454 | 455 | 459 | 460 | 501 | 551),
            ..
        } if on.is_shared || on.is_reused => Evidence::Status(*code),
        // A fence that was sent after it was answered (EvoStream; go2rtc while something plays).
        FailureKind::Ignored if on.is_shared => Evidence::Unanswered,
        FailureKind::ConnectionLost(CloseReason::PeerClosed | CloseReason::Io(_))
            if on.is_shared && !is_stale(on) =>
        {
            Evidence::Closed
        }
        _ => return None,
    };
    (on.multiplex != Multiplex::Always).then_some(evidence)
}

/// An idle connection that the server had given up (fault F39): its end is no offence of ours.
fn is_stale(on: FailureContext) -> bool {
    on.is_reused && !on.is_proven
}

/// Decides what the session does about a failure.
pub(crate) fn recourse(failure: &FailureKind, on: FailureContext, tried: Tried) -> Recourse {
    let is_play = on.step == FailedStep::Play;
    // Each PLAY elsewhere costs the server another DESCRIBE and SETUP: one is enough to find out
    // whether the connection was full, or the server.
    let stays = on.is_dedicated || on.is_last_resort || (is_play && tried.played_elsewhere);
    match failure {
        _ if tried.connections >= MAX_CONNECTIONS => Recourse::Fail,
        _ if on.is_premature => Recourse::Again,
        FailureKind::ConnectionLost(CloseReason::Challenged) => {
            match tried.challenged < MOST_CHALLENGED {
                true => Recourse::Challenged,
                false => Recourse::Fail,
            }
        }
        FailureKind::ConnectionLost(_) if is_stale(on) => match tried.younger {
            false => Recourse::Younger,
            true => Recourse::Fail,
        },
        // Quarantine may fill a connection that no other session is on. On a new one the session's
        // own streams are too many.
        FailureKind::ChannelsExhausted if !stays => Recourse::Elsewhere,
        // Alone on a connection, or on one made for the purpose, it would fare no better on the next
        // one.
        FailureKind::Status { code, .. } if is_about_capacity(*code) && on.is_shared && !stays => {
            Recourse::Elsewhere
        }
        // Set up a moment ago: the server has mixed sessions up (Rockchip, where all have one id).
        // Nothing of this one plays yet that could be disturbed.
        FailureKind::Status { code: 404, .. } if is_play && on.is_shared => Recourse::Alone,
        _ => match evidence(failure, on) {
            // A relay answers so now and then to what it has set up.
            Some(_) if on.is_mishap => Recourse::Alone,
            Some(evidence) if !on.is_dedicated => Recourse::Suspect(evidence),
            _ => Recourse::Fail,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::proto::SharingViolation;

    const SHARED: FailureContext = FailureContext {
        step: FailedStep::SetUp,
        multiplex: Multiplex::Auto,
        is_dedicated: false,
        is_shared: true,
        is_reused: false,
        is_last_resort: false,
        is_proven: true,
        is_premature: false,
        is_mishap: false,
    };
    const OWN: FailureContext = FailureContext {
        is_shared: false,
        ..SHARED
    };
    const DEDICATED: FailureContext = FailureContext {
        is_dedicated: true,
        ..OWN
    };
    const IDLE: FailureContext = FailureContext {
        is_reused: true,
        is_proven: false,
        ..SHARED
    };
    const PLAY: FailureContext = FailureContext {
        step: FailedStep::Play,
        ..SHARED
    };
    const ONCE: Tried = Tried {
        connections: 1,
        younger: false,
        challenged: 0,
        played_elsewhere: false,
    };
    const CLOSED: FailureKind = FailureKind::ConnectionLost(CloseReason::PeerClosed);
    const CHALLENGED: FailureKind = FailureKind::ConnectionLost(CloseReason::Challenged);

    fn status(code: u16) -> FailureKind {
        FailureKind::Status {
            code,
            reason: String::new(),
            retry_after: None,
        }
    }

    type Row = (&'static str, FailureKind, FailureContext, Tried, Recourse);

    fn check(rows: impl IntoIterator<Item = Row>) {
        for (name, failure, on, tried, expected) in rows {
            assert_eq!(recourse(&failure, on, tried), expected, "{name}");
        }
    }

    fn suspect(evidence: Evidence) -> Recourse {
        Recourse::Suspect(evidence)
    }

    #[test]
    fn a_full_server_is_tried_on_another_connection() {
        let last = FailureContext {
            is_last_resort: true,
            ..SHARED
        };
        let own_last = FailureContext {
            is_last_resort: true,
            ..OWN
        };
        for code in [453, 461, 500, 503] {
            check([
                ("shared", status(code), SHARED, ONCE, Recourse::Elsewhere),
                ("own", status(code), OWN, ONCE, Recourse::Fail),
                ("dedicated", status(code), DEDICATED, ONCE, Recourse::Fail),
                ("last resort", status(code), last, ONCE, Recourse::Fail),
            ]);
        }
        let exhausted = || FailureKind::ChannelsExhausted;
        check([
            ("channels", exhausted(), SHARED, ONCE, Recourse::Elsewhere),
            ("quarantined", exhausted(), OWN, ONCE, Recourse::Elsewhere),
            (
                "too many streams",
                exhausted(),
                own_last,
                ONCE,
                Recourse::Fail,
            ),
        ]);
    }

    #[test]
    fn f07_a_second_session_that_is_refused_gets_a_connection_of_its_own() {
        for code in [400, 405, 406, 451, 454, 455, 459, 460, 501, 551] {
            let suspected = suspect(Evidence::Status(code));
            check([
                ("shared", status(code), SHARED, ONCE, suspected),
                ("its own error", status(code), OWN, ONCE, Recourse::Fail),
            ]);
        }
        let dedicated = FailureContext {
            is_dedicated: true,
            ..SHARED
        };
        let cannot_share = suspect(Evidence::Closed);
        check([
            ("closes", CLOSED, SHARED, ONCE, cannot_share),
            ("closes alone", CLOSED, OWN, ONCE, Recourse::Fail),
            ("closes, dedicated", CLOSED, dedicated, ONCE, Recourse::Fail),
        ]);
    }

    #[test]
    fn f11_mixed_up_answers_are_evidence() {
        let violation = SharingViolation::SameSessionId;
        let mixed_up = FailureKind::CannotShare(violation);
        let expected = suspect(Evidence::Violation(violation));
        check([("mixed up", mixed_up, SHARED, ONCE, expected)]);
    }

    #[test]
    fn f09_a_request_that_is_ignored_is_evidence_and_a_blocked_one_is_none() {
        let ignored = || FailureKind::Ignored;
        // gst-rtsp-server holds answers for 20 s while media flows.
        let blocked = FailureKind::TimedOut(std::time::Duration::from_secs(25));
        let unanswered = suspect(Evidence::Unanswered);
        check([
            ("ignored", ignored(), SHARED, ONCE, unanswered),
            ("ignored alone", ignored(), OWN, ONCE, Recourse::Fail),
            ("blocked", blocked, SHARED, ONCE, Recourse::Fail),
        ]);
    }

    #[test]
    fn f39_a_stale_idle_connection_is_no_evidence() {
        let again = Tried {
            younger: true,
            ..ONCE
        };
        let proven = FailureContext {
            is_proven: true,
            ..IDLE
        };
        check([
            ("stale", CLOSED, IDLE, ONCE, Recourse::Younger),
            ("stale again", CLOSED, IDLE, again, Recourse::Fail),
            (
                "has answered",
                CLOSED,
                proven,
                ONCE,
                suspect(Evidence::Closed),
            ),
        ]);
    }

    #[test]
    fn f46_a_close_behind_a_401_is_no_evidence() {
        let on_many = Tried {
            challenged: MOST_CHALLENGED,
            ..ONCE
        };
        for on in [SHARED, OWN, IDLE] {
            check([
                ("challenged", CHALLENGED, on, ONCE, Recourse::Challenged),
                ("on 8", CHALLENGED, on, on_many, Recourse::Fail),
            ]);
        }
    }

    #[test]
    fn f23_while_teardowns_are_pending_it_tries_again_and_not_for_ever() {
        let premature = FailureContext {
            is_premature: true,
            ..DEDICATED
        };
        let many = Tried {
            connections: MAX_CONNECTIONS,
            ..ONCE
        };
        check([
            ("pending", status(453), premature, ONCE, Recourse::Again),
            (
                "16 connections",
                status(453),
                premature,
                many,
                Recourse::Fail,
            ),
            (
                "16 connections, closed",
                CLOSED,
                SHARED,
                many,
                Recourse::Fail,
            ),
        ]);
    }

    #[test]
    fn each_failure_of_play_leads_to_the_connection_that_may_help() {
        let elsewhere = Tried {
            played_elsewhere: true,
            ..ONCE
        };
        let alone = FailureContext {
            is_shared: false,
            ..PLAY
        };
        let mishap = FailureContext {
            is_mishap: true,
            ..PLAY
        };
        let no_sharing = suspect(Evidence::Status(454));
        check([
            ("full", status(453), PLAY, ONCE, Recourse::Elsewhere),
            ("full again", status(453), PLAY, elsewhere, Recourse::Fail),
            (
                "full, then SETUP",
                status(453),
                SHARED,
                elsewhere,
                Recourse::Elsewhere,
            ),
            ("454, a mishap", status(454), mishap, ONCE, Recourse::Alone),
            ("454 again", status(454), PLAY, ONCE, no_sharing),
            ("F11 mixed up", status(404), PLAY, ONCE, Recourse::Alone),
            ("404 alone", status(404), alone, ONCE, Recourse::Fail),
        ]);
    }

    #[test]
    fn with_multiplex_always_nothing_is_moved_to_a_connection_of_its_own() {
        let always = FailureContext {
            multiplex: Multiplex::Always,
            ..SHARED
        };
        check([
            ("refused", status(400), always, ONCE, Recourse::Fail),
            ("full", status(453), always, ONCE, Recourse::Elsewhere),
        ]);
    }

    #[test]
    fn a_dead_server_is_no_evidence_and_answers_about_the_camera_are_its_own() {
        let dead = FailureKind::ConnectionLost(CloseReason::Dead("silence"));
        check([
            ("dead", dead, SHARED, ONCE, Recourse::Fail),
            (
                "cancelled",
                FailureKind::Cancelled,
                SHARED,
                ONCE,
                Recourse::Fail,
            ),
        ]);
        for code in [401, 404, 410, 415] {
            check([("camera", status(code), SHARED, ONCE, Recourse::Fail)]);
        }
    }
}
