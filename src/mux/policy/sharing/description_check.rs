//! The check of a server whose descriptions of two URIs are alike: one URI is described once more, on
//! a fresh connection, by one session for all.
//!
//! If it is described there as it was in company, likeness is harmless at this server: its cameras are
//! of one model. That is learned once. If not, the server shows one camera for several URIs.

use std::time::{Duration, Instant};

/// After a check that came to nothing (the server has no room for one more connection, or does not
/// answer) the next one waits that long.
const RETRY: Duration = Duration::from_secs(2);

/// Whether likeness is harmless at one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DescriptionCheck {
    /// It is not known.
    #[default]
    Open,
    /// A session is finding it out.
    UnderWay,
    /// That came to nothing.
    Failed(Instant),
    /// It is: URIs of one connection were shown to be told apart.
    ToldApart,
}

/// What a session is to do whose description is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextCheck {
    /// Nothing: likeness is harmless.
    Needless,
    /// Describe its URI on a fresh connection. The check is under way from now on.
    Own,
    /// Wait for the session that does so.
    Others,
    /// Go to a connection of its own: the last check came to nothing a moment ago.
    None,
}

impl DescriptionCheck {
    pub(crate) fn next(&mut self, now: Instant) -> NextCheck {
        match *self {
            Self::ToldApart => NextCheck::Needless,
            Self::UnderWay => NextCheck::Others,
            Self::Failed(at) if now < at + RETRY => NextCheck::None,
            Self::Open | Self::Failed(_) => {
                *self = Self::UnderWay;
                NextCheck::Own
            }
        }
    }

    /// The session that was checking has gone before it knew.
    pub(crate) fn on_given_up(&mut self) {
        if *self == Self::UnderWay {
            *self = Self::Open;
        }
    }

    /// The server did not describe the URI on a fresh connection.
    pub(crate) fn on_failed(&mut self, now: Instant) {
        if *self == Self::UnderWay {
            *self = Self::Failed(now);
        }
    }

    /// The URI was described alike in company and alone.
    pub(crate) fn on_told_apart(&mut self) {
        *self = Self::ToldApart;
    }

    pub(crate) fn is_told_apart(self) -> bool {
        self == Self::ToldApart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_session_checks_for_all() {
        let now = Instant::now();
        let mut check = DescriptionCheck::default();
        assert_eq!(check.next(now), NextCheck::Own);
        assert_eq!(check.next(now), NextCheck::Others);
        check.on_told_apart();
        assert_eq!(check.next(now), NextCheck::Needless);
        check.on_given_up();
        check.on_failed(now);
        assert!(check.is_told_apart(), "known is known");
    }

    #[test]
    fn a_waiting_session_checks_when_the_first_has_gone() {
        let now = Instant::now();
        let mut check = DescriptionCheck::default();
        assert_eq!(check.next(now), NextCheck::Own);
        check.on_given_up();
        assert_eq!(check.next(now), NextCheck::Own);
    }

    #[test]
    fn a_server_without_room_is_not_asked_by_all_in_turn() {
        let now = Instant::now();
        let mut check = DescriptionCheck::default();
        assert_eq!(check.next(now), NextCheck::Own);
        check.on_failed(now);
        assert_eq!(check.next(now), NextCheck::None);
        check.on_given_up();
        assert_eq!(check.next(now + RETRY), NextCheck::Own);
    }
}
