//! When a session that was described on a describe-only connection goes to one that counts: the
//! decision, without I/O.
//!
//! It may go once it is known that the server shares, and that it tells the URIs of one connection
//! apart: it is set up where its own URI was not described. Other sessions find that out on connections
//! that count, as long as any of them is on its way.

use std::time::Instant;

use super::SharingMode;

/// How things stand for a session that was described on a describe-only connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RejoinInput {
    /// What is known of the server.
    pub(crate) mode: SharingMode,
    /// It is known to describe each URI of a connection as itself.
    pub(crate) tells_apart: bool,
    /// Several sessions come up on a connection that counts.
    pub(crate) is_being_tried: bool,
    /// URIs are being described, or a description is being checked.
    pub(crate) is_describing: bool,
    /// How long that is waited for.
    pub(crate) until: Instant,
}

/// What the session is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejoin {
    /// It goes on: to a connection that counts, or as the rules are for a server that cannot share.
    Now,
    /// Wait until something changes, but not longer.
    Wait(Instant),
    /// It is described again where it can stay: nothing more will be known in time.
    Leave,
}

/// Decides.
pub(crate) fn rejoin(facts: &RejoinInput, now: Instant) -> Rejoin {
    let is_in_time = now < facts.until;
    match facts.mode {
        SharingMode::Apart(_) => Rejoin::Now,
        SharingMode::Share | SharingMode::TryInBand => {
            match !facts.tells_apart && facts.is_describing && is_in_time {
                true => Rejoin::Wait(facts.until),
                // Where it is not known, the session finds it out itself.
                false => Rejoin::Now,
            }
        }
        SharingMode::Try if facts.is_being_tried && is_in_time => Rejoin::Wait(facts.until),
        SharingMode::Try => Rejoin::Leave,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_waits_for_the_verdict_as_long_as_others_find_it_out() {
        let now = Instant::now();
        let facts = RejoinInput {
            mode: SharingMode::Try,
            tells_apart: false,
            is_being_tried: true,
            is_describing: true,
            until: now + Duration::from_millis(500),
        };
        assert_eq!(rejoin(&facts, now), Rejoin::Wait(facts.until));
        assert_eq!(rejoin(&facts, facts.until), Rejoin::Leave);
        let untried = RejoinInput {
            is_being_tried: false,
            ..facts
        };
        assert_eq!(rejoin(&untried, now), Rejoin::Leave);
        let apart = RejoinInput {
            mode: SharingMode::Apart(None),
            ..facts
        };
        assert_eq!(rejoin(&apart, now), Rejoin::Now);
    }

    #[test]
    fn f11_it_waits_until_uris_are_known_to_be_told_apart() {
        let now = Instant::now();
        let facts = RejoinInput {
            mode: SharingMode::Share,
            tells_apart: false,
            is_being_tried: false,
            is_describing: true,
            until: now + Duration::from_millis(500),
        };
        assert_eq!(rejoin(&facts, now), Rejoin::Wait(facts.until));
        assert_eq!(rejoin(&facts, facts.until), Rejoin::Now);
        for facts in [
            RejoinInput {
                tells_apart: true,
                ..facts
            },
            RejoinInput {
                is_describing: false,
                ..facts
            },
        ] {
            assert_eq!(rejoin(&facts, now), Rejoin::Now);
        }
    }
}
