//! Whether a session that found no room on its connection finds some on another one.

use std::time::{Duration, Instant};

use super::Deciding;

/// A finding holds for so long: not every session that was refused at the same time needs to look.
const HOLDS: Duration = Duration::from_secs(5);
/// Longest `Retry-After` that is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What is known of the room at a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ServerCapacity {
    /// No session has looked lately.
    #[default]
    Unknown,
    /// A session is looking.
    Sought,
    /// There was room, at that time.
    Found(Instant),
    /// There was none, and no session needs to look before that time.
    None(Instant),
}

impl ServerCapacity {
    /// Which session looks, after a refusal; none if there is no room.
    pub(crate) fn seek(self, now: Instant) -> Option<Deciding> {
        match self {
            Self::Sought => Some(Deciding::Others),
            Self::Found(at) if now < at + HOLDS => Some(Deciding::NoSession),
            Self::None(until) if now < until => None,
            _ => Some(Deciding::You),
        }
    }

    /// There was room.
    pub(crate) fn on_found(&mut self, now: Instant) {
        *self = Self::Found(now);
    }

    /// There was no room; the server asks for a pause of `retry_after`.
    pub(crate) fn on_none(&mut self, now: Instant, retry_after: Duration) {
        *self = Self::None(now + retry_after.clamp(HOLDS, LONGEST_RETRY_AFTER));
    }

    /// Sessions have left: there may be room now, whatever the server has said before.
    pub(crate) fn on_freed(&mut self) {
        if matches!(self, Self::None(_)) {
            *self = Self::Unknown;
        }
    }

    /// The session that looked has gone, with or without a result.
    pub(crate) fn on_given_up(&mut self) {
        if *self == Self::Sought {
            *self = Self::Unknown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_looks_and_the_others_wait_for_what_comes_of_it() {
        let (now, mut room) = (Instant::now(), ServerCapacity::default());
        assert_eq!(room.seek(now), Some(Deciding::You));
        room = ServerCapacity::Sought;
        assert_eq!(room.seek(now), Some(Deciding::Others));
        let mut found = room;
        found.on_found(now);
        assert_eq!(found.seek(now), Some(Deciding::NoSession), "there is room");
        assert_eq!(found.seek(now + HOLDS), Some(Deciding::You));
        room.on_none(now, Duration::ZERO);
        assert_eq!(room.seek(now), None);
        room.on_given_up();
        assert_eq!(room.seek(now), None, "it is known");
        assert_eq!(room.seek(now + HOLDS), Some(Deciding::You));
        room = ServerCapacity::Sought;
        room.on_given_up();
        assert_eq!(room.seek(now + HOLDS), Some(Deciding::You));
    }

    #[test]
    fn it_is_looked_again_when_a_session_has_left() {
        let (now, mut room) = (Instant::now(), ServerCapacity::default());
        room.on_none(now, Duration::ZERO);
        room.on_freed();
        assert_eq!(room.seek(now), Some(Deciding::You));
        room = ServerCapacity::Sought;
        room.on_freed();
        assert_eq!(room.seek(now), Some(Deciding::Others), "by one at a time");
    }

    #[test]
    fn f23_the_servers_own_time_is_kept_within_reason() {
        let (now, mut room) = (Instant::now(), ServerCapacity::default());
        let minute = Duration::from_secs(60);
        room.on_none(now, minute / 2);
        assert_eq!(room.seek(now + minute / 2 - HOLDS), None);
        room.on_none(now, 1000 * minute);
        assert_eq!(room.seek(now + minute), Some(Deciding::You));
    }
}
