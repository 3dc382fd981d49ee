//! Where a session turns after a failure, by what it has tried before.

use super::super::{failover::Failover, sharing::Evidence};

/// Connections tried for one session at one server. A bound for servers that refuse at random.
const MAX_CONNECTIONS: usize = 16;
/// Connections tried for one session that the server closes behind a 401. Two are enough for most; a
/// session that shares them with others meets the 401s of the others, too.
const MOST_CHALLENGED: usize = 8;

/// Which step of a session failed, or has to work before a suspicion is a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailedStep {
    /// DESCRIBE or SETUP. A mere description is no step that works: a broken camera gives one, too.
    SetUp,
    Play,
}

/// What a session has tried at a server before its step failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedAttempt {
    pub(crate) step: FailedStep,
    pub(crate) connections: usize,
    pub(crate) tried_younger: bool,
    /// Connections that the server closed behind a 401.
    pub(crate) challenged: usize,
    /// Its PLAY was refused for want of room on one connection, and tried on another.
    pub(crate) has_played_elsewhere: bool,
    pub(crate) is_dedicated: bool,
    /// Other sessions were on the connection.
    pub(crate) is_shared: bool,
    /// Sessions that had left the server were why it had no room.
    pub(crate) is_premature: bool,
    /// The status that the server answered with.
    pub(crate) status: Option<u16>,
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
    /// A connection made after this one, which the server closed behind a 401.
    Challenged,
    /// Another one.
    Elsewhere,
    /// Another one that no other session uses.
    Alone,
    /// One of its own: if it works there, the server cannot share.
    Suspect(Evidence),
}

/// Decides what the session does about a failure, where `failover` may help in general.
pub(crate) fn recourse(failover: Failover, attempt: &FailedAttempt) -> Recourse {
    let is_play = attempt.step == FailedStep::Play;
    if attempt.connections >= MAX_CONNECTIONS {
        return Recourse::Fail;
    }
    if attempt.is_premature {
        return Recourse::Again;
    }
    match failover {
        // A relay answers so now and then to what it has set up.
        Failover::Alone(_) if attempt.is_mishap => Recourse::Alone,
        Failover::Younger if !attempt.tried_younger => Recourse::Younger,
        Failover::Next if attempt.challenged < MOST_CHALLENGED => Recourse::Challenged,
        // Each PLAY elsewhere costs the server another DESCRIBE and SETUP: one is enough to find out
        // whether the connection was full, or the server.
        Failover::Elsewhere if is_play && attempt.has_played_elsewhere => Recourse::Fail,
        Failover::Elsewhere if !attempt.is_dedicated => Recourse::Elsewhere,
        // Set up a moment ago: the server has mixed sessions up (Rockchip, where all have one id).
        // Nothing of this one plays yet that could be disturbed.
        Failover::Nothing if is_play && attempt.is_shared && attempt.status == Some(404) => {
            Recourse::Alone
        }
        Failover::Alone(evidence) if !attempt.is_dedicated => Recourse::Suspect(evidence),
        _ => Recourse::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET_UP: FailedAttempt = FailedAttempt {
        step: FailedStep::SetUp,
        connections: 1,
        tried_younger: false,
        challenged: 0,
        has_played_elsewhere: false,
        is_dedicated: false,
        is_shared: true,
        is_premature: false,
        status: None,
        is_mishap: false,
    };
    const PLAY: FailedAttempt = FailedAttempt {
        step: FailedStep::Play,
        ..SET_UP
    };
    const CLOSED: Failover = Failover::Alone(Evidence::Closed);

    fn check<const N: usize>(table: [(&str, Failover, FailedAttempt, Recourse); N]) {
        for (name, failover, attempt, expected) in table {
            assert_eq!(recourse(failover, &attempt), expected, "{name}");
        }
    }

    #[test]
    fn each_failure_of_setup_leads_to_the_connection_that_may_help() {
        let many = FailedAttempt {
            connections: MAX_CONNECTIONS,
            ..SET_UP
        };
        let dedicated = FailedAttempt {
            is_dedicated: true,
            ..SET_UP
        };
        let stale_again = FailedAttempt {
            tried_younger: true,
            ..SET_UP
        };
        let challenged = FailedAttempt {
            challenged: MOST_CHALLENGED,
            ..SET_UP
        };
        let premature = FailedAttempt {
            is_premature: true,
            ..dedicated
        };
        let cannot_share = Recourse::Suspect(Evidence::Closed);
        check([
            ("own error", Failover::Nothing, SET_UP, Recourse::Fail),
            ("full", Failover::Elsewhere, SET_UP, Recourse::Elsewhere),
            ("full alone", Failover::Elsewhere, dedicated, Recourse::Fail),
            ("cannot share", CLOSED, SET_UP, cannot_share),
            ("closes alone", CLOSED, dedicated, Recourse::Fail),
            ("16 connections", CLOSED, many, Recourse::Fail),
            ("F39 stale", Failover::Younger, SET_UP, Recourse::Younger),
            (
                "F39 stale again",
                Failover::Younger,
                stale_again,
                Recourse::Fail,
            ),
            (
                "F46 challenged",
                Failover::Next,
                SET_UP,
                Recourse::Challenged,
            ),
            (
                "F46 challenged on 8",
                Failover::Next,
                challenged,
                Recourse::Fail,
            ),
            (
                "F23 TEARDOWNs pending",
                Failover::Nothing,
                premature,
                Recourse::Again,
            ),
        ]);
    }

    #[test]
    fn each_failure_of_play_leads_to_the_connection_that_may_help() {
        let elsewhere = FailedAttempt {
            has_played_elsewhere: true,
            ..PLAY
        };
        let then_setup = FailedAttempt {
            step: FailedStep::SetUp,
            ..elsewhere
        };
        let not_found = FailedAttempt {
            status: Some(404),
            ..PLAY
        };
        let alone = FailedAttempt {
            is_shared: false,
            ..not_found
        };
        let mishap = FailedAttempt {
            is_mishap: true,
            ..PLAY
        };
        let lost = Failover::Alone(Evidence::Status(454));
        let no_sharing = Recourse::Suspect(Evidence::Status(454));
        check([
            ("full", Failover::Elsewhere, PLAY, Recourse::Elsewhere),
            ("full again", Failover::Elsewhere, elsewhere, Recourse::Fail),
            (
                "full, then SETUP",
                Failover::Elsewhere,
                then_setup,
                Recourse::Elsewhere,
            ),
            ("454 for the first time", lost, mishap, Recourse::Alone),
            ("454 again", lost, PLAY, no_sharing),
            (
                "F11 mixed up",
                Failover::Nothing,
                not_found,
                Recourse::Alone,
            ),
            ("404 alone", Failover::Nothing, alone, Recourse::Fail),
        ]);
    }
}
