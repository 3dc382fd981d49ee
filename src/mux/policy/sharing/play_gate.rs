//! Whether a session that is set up may PLAY yet: the decision, without I/O.
//!
//! While nothing plays on a connection its requests are the trial of a server not yet known. So the
//! first PLAY there waits until a second session has been set up, has gone, or takes too long.

use std::time::{Duration, Instant};

use super::SharingMode;

/// How long a session waits for the answers of others at least.
pub(crate) const SHORTEST_PATIENCE: Duration = Duration::from_millis(500);
/// The same where nothing may be sent meanwhile.
const SHORTEST_DESCRIBE_PATIENCE: Duration = Duration::from_millis(300);
/// The same behind a DESCRIBE that may have been lost: the one before it was just answered.
const SHORTEST_LOST_PATIENCE: Duration = Duration::from_millis(100);
/// How long at most: on gst-rtsp-server a camera may take 20 s to be described.
const LONGEST_PATIENCE: Duration = Duration::from_secs(10);
/// How many of its own DESCRIBEs it waits, in between.
const PATIENCE_IN_DESCRIBES: u32 = 4;
/// How long an intent is waited for at least: a pipeline with many elements takes its time to start
/// them all, however fast the server is.
const SHORTEST_INTENT: Duration = Duration::from_millis(20);

/// How long it takes the core to find out that a server ignores a request, round trips aside.
pub(crate) const FENCE: Duration = Duration::from_secs(1);
/// How long a DESCRIBE waits behind another one's where none was ever answered: slow cameras need a
/// second.
pub(crate) const REGROUP: Duration = Duration::from_secs(2);

/// How long a session whose DESCRIBE took `describe` waits for those it shares with.
pub(crate) fn patience(describe: Duration) -> Duration {
    let patience = describe.saturating_mul(PATIENCE_IN_DESCRIBES);
    patience.clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE)
}

/// How long an unanswered DESCRIBE keeps others waiting where it usually takes `describe`: live555 takes
/// 100 ms.
pub(crate) fn describe_patience(describe: Duration) -> Duration {
    let patience = describe.saturating_mul(PATIENCE_IN_DESCRIBES);
    patience.clamp(SHORTEST_DESCRIBE_PATIENCE, LONGEST_PATIENCE)
}

/// How long a DESCRIBE that may have been lost among others is waited for, after the answer before it.
pub(crate) fn lost_patience(describe: Duration) -> Duration {
    let patience = describe.saturating_mul(PATIENCE_IN_DESCRIBES);
    patience.clamp(SHORTEST_LOST_PATIENCE, LONGEST_PATIENCE)
}

/// How long a session waits for sessions that were announced and are not opened yet.
pub(crate) fn intent_patience(describe: Duration) -> Duration {
    SHORTEST_INTENT.max(describe)
}

/// The facts about a session that wants to play, and about its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlayGateInput {
    /// What is known of the server.
    pub(crate) mode: SharingMode,
    /// References to the connection, its own included.
    pub(crate) references: u32,
    /// Sessions that were announced for such a connection and are not opened yet.
    pub(crate) intents: usize,
    /// Where a session plays no session may be described any more.
    pub(crate) ends_describing: bool,
    /// A DESCRIBE on the connection is unanswered that may cost it.
    pub(crate) is_endangered: bool,
    /// Until when a check runs whether a session on the connection was described as itself.
    pub(crate) in_doubt_until: Option<Instant>,
    /// A canary would decide something, and may be sent.
    pub(crate) wants_canary: bool,
    /// Several sessions on another connection are about to find out the same.
    pub(crate) is_tried_elsewhere: bool,
    /// Until when the server may still close the connection for what another session did on it.
    pub(crate) suspect_until: Option<Instant>,
    /// Until when it waits for the sessions that share the connection.
    pub(crate) until: Instant,
    /// Until when it waits for the sessions that were announced.
    pub(crate) intents_until: Instant,
}

impl PlayGateInput {
    /// Whether no session is to be described on the connection any more, for the sake of one that waits to play
    /// there since `since`. Sessions that have started with it, and waited until it was known whether the server
    /// shares, come a moment later than it is set up.
    pub(crate) fn ends_joining(&self, since: Instant, now: Instant) -> bool {
        self.is_endangered && now >= since + SHORTEST_INTENT
    }
}

/// What a session is to do that wants to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlayGate {
    /// Play.
    Play,
    /// Wait until something changes, but not longer.
    Hold(Instant),
    /// Try first whether the server can share.
    Canary,
    /// Go to another connection: the others take too long.
    Leave,
}

/// Decides, in doubt for the session that is ready: no session is held for others longer than
/// [`patience`] says.
pub(crate) fn gate(facts: &PlayGateInput, now: Instant) -> PlayGate {
    if let Some(until) = facts.suspect_until.filter(|until| now < *until) {
        return PlayGate::Hold(until);
    }
    let hold = || match now < facts.until {
        true => PlayGate::Hold(facts.until),
        false => PlayGate::Leave,
    };
    match facts.mode {
        _ if facts.is_endangered => hold(),
        _ if let Some(until) = facts.in_doubt_until => match now < until {
            true => PlayGate::Hold(until),
            false => PlayGate::Leave,
        },
        // A session that joins now is described here; one that joins later, on a connection made for
        // it.
        SharingMode::Share
            if facts.ends_describing && facts.intents > 0 && now < facts.intents_until =>
        {
            PlayGate::Hold(facts.intents_until)
        }
        SharingMode::Share | SharingMode::TryInBand | SharingMode::Apart(Some(_)) => PlayGate::Play,
        SharingMode::Try | SharingMode::Apart(None) if facts.references > 1 => hold(),
        SharingMode::Try if facts.intents > 0 && now < facts.intents_until => {
            PlayGate::Hold(facts.intents_until)
        }
        SharingMode::Try | SharingMode::Apart(None) if facts.wants_canary => {
            match facts.is_tried_elsewhere && now < facts.until {
                true => PlayGate::Hold(facts.until),
                false => PlayGate::Canary,
            }
        }
        SharingMode::Try | SharingMode::Apart(None) => PlayGate::Play,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(now: Instant) -> PlayGateInput {
        PlayGateInput {
            mode: SharingMode::Try,
            references: 1,
            intents: 0,
            ends_describing: false,
            is_endangered: false,
            in_doubt_until: None,
            wants_canary: false,
            is_tried_elsewhere: false,
            suspect_until: None,
            until: now + Duration::from_millis(500),
            intents_until: now + Duration::from_millis(20),
        }
    }

    #[test]
    fn without_another_intent_the_first_plays_at_once() {
        let now = Instant::now();
        assert_eq!(gate(&facts(now), now), PlayGate::Play);
    }

    #[test]
    fn an_intent_holds_it_for_one_describe() {
        let now = Instant::now();
        let facts = PlayGateInput {
            intents: 1,
            ..facts(now)
        };
        assert_eq!(gate(&facts, now), PlayGate::Hold(facts.intents_until));
        assert_eq!(gate(&facts, facts.intents_until), PlayGate::Play);
    }

    #[test]
    fn where_nothing_is_described_beside_what_plays_those_announced_are_waited_for() {
        let now = Instant::now();
        let facts = PlayGateInput {
            mode: SharingMode::Share,
            intents: 1,
            ..facts(now)
        };
        assert_eq!(gate(&facts, now), PlayGate::Play);
        let facts = PlayGateInput {
            ends_describing: true,
            ..facts
        };
        assert_eq!(gate(&facts, now), PlayGate::Hold(facts.intents_until));
        assert_eq!(gate(&facts, facts.intents_until), PlayGate::Play);
    }

    #[test]
    fn those_that_started_together_may_join_a_moment_longer() {
        let now = Instant::now();
        let facts = PlayGateInput {
            is_endangered: true,
            ..facts(now)
        };
        assert!(!facts.ends_joining(now, now + SHORTEST_INTENT / 2));
        assert!(facts.ends_joining(now, now + SHORTEST_INTENT));
    }

    #[test]
    fn the_others_of_the_connection_are_waited_for_and_then_left() {
        let now = Instant::now();
        let facts = PlayGateInput {
            references: 16,
            ..facts(now)
        };
        assert_eq!(gate(&facts, now), PlayGate::Hold(facts.until));
        assert_eq!(gate(&facts, facts.until), PlayGate::Leave);
        let decided = PlayGateInput {
            mode: SharingMode::Share,
            ..facts
        };
        assert_eq!(gate(&decided, now), PlayGate::Play);
    }

    #[test]
    fn f25_nothing_plays_before_a_describe_that_may_cost_the_connection_is_answered() {
        let now = Instant::now();
        for mode in [SharingMode::Share, SharingMode::Apart(None)] {
            let facts = PlayGateInput {
                mode,
                is_endangered: true,
                ..facts(now)
            };
            assert_eq!(gate(&facts, now), PlayGate::Hold(facts.until));
            assert_eq!(gate(&facts, facts.until), PlayGate::Leave);
        }
    }

    #[test]
    fn f11_nothing_plays_before_it_is_known_whether_all_were_described_as_themselves() {
        let now = Instant::now();
        for mode in [
            SharingMode::Share,
            SharingMode::Try,
            SharingMode::Apart(None),
        ] {
            let facts = PlayGateInput {
                mode,
                in_doubt_until: Some(now + REGROUP),
                ..facts(now)
            };
            assert_eq!(gate(&facts, now), PlayGate::Hold(now + REGROUP));
            assert_eq!(gate(&facts, now + REGROUP), PlayGate::Leave);
        }
    }

    #[test]
    fn a_late_joiner_sends_a_canary_first() {
        let now = Instant::now();
        let facts = PlayGateInput {
            wants_canary: true,
            ..facts(now)
        };
        assert_eq!(gate(&facts, now), PlayGate::Canary);
        for mode in [SharingMode::Share, SharingMode::TryInBand] {
            assert_eq!(gate(&PlayGateInput { mode, ..facts }, now), PlayGate::Play);
        }
    }

    #[test]
    fn no_canary_is_sent_while_sessions_of_another_connection_find_out_the_same() {
        let now = Instant::now();
        let facts = PlayGateInput {
            wants_canary: true,
            is_tried_elsewhere: true,
            ..facts(now)
        };
        assert_eq!(gate(&facts, now), PlayGate::Hold(facts.until));
        assert_eq!(gate(&facts, facts.until), PlayGate::Canary);
    }

    #[test]
    fn f07_after_a_refusal_it_waits_for_the_close_that_may_follow() {
        let now = Instant::now();
        let closes_by = now + Duration::from_millis(200);
        let facts = PlayGateInput {
            suspect_until: Some(closes_by),
            ..facts(now)
        };
        assert_eq!(gate(&facts, now), PlayGate::Hold(closes_by));
        assert_eq!(gate(&facts, closes_by), PlayGate::Play);
    }

    #[test]
    fn patience_is_four_describes_within_bounds() {
        assert_eq!(
            patience(Duration::from_millis(1)),
            Duration::from_millis(500)
        );
        assert_eq!(patience(Duration::from_secs(1)), Duration::from_secs(4));
        assert_eq!(patience(Duration::from_secs(20)), Duration::from_secs(10));
        assert_eq!(
            intent_patience(Duration::from_secs(1)),
            Duration::from_secs(1)
        );
    }
}
