//! Sessions that break off soon after another one was added to their connection.
//!
//! One may do so for any reason, and so may a connection. Where it happens twice after the same
//! session was added, that one is better off alone, and so are the others without it. Where it happens
//! again and again, always with several sessions and never with one, the server does not share after
//! all.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::mux::connection_pool::PresentationUri;

/// How soon after the last addition a breakage is held against it.
const SOON: Duration = Duration::from_secs(60);
/// For how long.
const WINDOW: Duration = Duration::from_secs(10 * 60);
/// How many are no chance any more.
const MANY: usize = 3;
/// How many after the addition of the same session are its fault.
const TWICE: usize = 2;

/// A session was added to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mux) struct Addition {
    pub(in crate::mux) at: Instant,
    pub(in crate::mux) uri: PresentationUri,
    /// The others had been there for a moment: of those that start together none stands out.
    pub(in crate::mux) is_late: bool,
}

/// Sessions that start together are set up within that of each other.
const TOGETHER: Duration = Duration::from_secs(2);

impl Addition {
    /// After `last`, if there was one before.
    pub(in crate::mux) fn new(at: Instant, uri: PresentationUri, last: Option<&Self>) -> Self {
        let since = |last: &Self| at.saturating_duration_since(last.at);
        Self {
            at,
            uri,
            is_late: last.is_some_and(|last| since(last) >= TOGETHER),
        }
    }

    /// Which session it was, if what breaks off now is held against it.
    pub(in crate::mux) fn suspect(self, now: Instant) -> Option<PresentationUri> {
        let is_soon = now.saturating_duration_since(self.at) < SOON;
        (is_soon && self.is_late).then_some(self.uri)
    }
}

/// What follows from a breakage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Nothing: it may be chance.
    Nobody,
    /// The session that was added last is not to share a connection.
    Added,
    /// The server cannot share.
    Server,
}

/// The latest of them, each with the addition that it is held against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Breakages(VecDeque<(Instant, Addition)>);

impl Breakages {
    /// A connection with so many sessions, or one of these, broke off; `added` is the last of them.
    /// However many break off after one addition, that counts once.
    pub(super) fn on_broken(&mut self, now: Instant, sessions: u32, added: &Addition) -> Blame {
        if sessions < 2 {
            // It happens to those that are alone, too.
            self.0.clear();
            return Blame::Nobody;
        }
        self.0
            .retain(|(at, _)| now.saturating_duration_since(*at) < WINDOW);
        let is_late = now.saturating_duration_since(added.at) >= SOON;
        if is_late || self.0.iter().any(|(_, blamed)| blamed == added) {
            return Blame::Nobody;
        }
        self.0.push_back((now, added.clone()));
        if self.0.len() >= MANY {
            self.0.clear();
            return Blame::Server;
        }
        let is_its = |(_, blamed): &&(Instant, Addition)| blamed.uri == added.uri;
        match self.0.iter().filter(is_its).count() {
            TWICE.. => Blame::Added,
            _ => Blame::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn added(at: Instant, number: u32) -> Addition {
        Addition {
            at,
            uri: PresentationUri(format!("rtsp://nvr/{number}")),
            is_late: true,
        }
    }

    #[test]
    fn who_starts_together_with_others_does_not_stand_out() {
        let now = Instant::now();
        let add = |at: Instant, last: &Addition| Addition::new(at, last.uri.clone(), Some(last));
        let first = Addition::new(now, added(now, 1).uri, None);
        let second = add(now + TOGETHER / 2, &first);
        let third = add(now + 2 * TOGETHER, &second);
        assert_eq!(first.suspect(now), None);
        assert_eq!(second.suspect(now + TOGETHER / 2), None);
        let uri = Some(third.uri.clone());
        assert_eq!(third.clone().suspect(third.at), uri);
        assert_eq!(third.clone().suspect(third.at + SOON), None);
    }

    #[test]
    fn the_third_one_soon_after_an_addition_is_too_many() {
        let (now, mut breakages) = (Instant::now() + WINDOW, Breakages::default());
        let mut break_off = |after: Duration, number| {
            breakages.on_broken(now + after, 2, &added(now + after, number))
        };
        assert_eq!(break_off(Duration::ZERO, 1), Blame::Nobody);
        assert_eq!(break_off(SECOND, 2), Blame::Nobody);
        assert_eq!(break_off(59 * SECOND, 3), Blame::Server);
        assert_eq!(break_off(60 * SECOND, 4), Blame::Nobody, "counted anew");
    }

    #[test]
    fn the_second_one_after_the_same_session_came_is_its_fault() {
        let (now, mut breakages) = (Instant::now() + WINDOW, Breakages::default());
        let again = now + 30 * SECOND;
        assert_eq!(breakages.on_broken(now, 16, &added(now, 7)), Blame::Nobody);
        let blame = breakages.on_broken(again + SECOND, 16, &added(again, 7));
        assert_eq!(blame, Blame::Added);
    }

    #[test]
    fn all_that_breaks_off_after_one_addition_counts_once() {
        let (now, mut breakages) = (Instant::now() + WINDOW, Breakages::default());
        for _ in 0..16 {
            assert_eq!(breakages.on_broken(now, 16, &added(now, 1)), Blame::Nobody);
        }
    }

    #[test]
    fn old_ones_late_ones_and_those_of_lonely_sessions_do_not_count() {
        let (now, mut breakages) = (Instant::now() + WINDOW, Breakages::default());
        let mut break_off =
            |at: Instant, sessions, number| breakages.on_broken(at, sessions, &added(at, number));
        assert_eq!(break_off(now, 2, 1), Blame::Nobody);
        assert_eq!(break_off(now + WINDOW, 2, 1), Blame::Nobody, "too long ago");
        assert_eq!(break_off(now + WINDOW, 1, 2), Blame::Nobody);
        let later = now + WINDOW + SECOND;
        assert_eq!(break_off(later, 2, 1), Blame::Nobody, "all are forgotten");
        let late = breakages.on_broken(later + SOON, 2, &added(later + SECOND / 2, 1));
        assert_eq!(late, Blame::Added, "not yet late");
        let late = breakages.on_broken(later + SOON, 2, &added(later, 3));
        assert_eq!(late, Blame::Nobody, "too late");
    }
}
