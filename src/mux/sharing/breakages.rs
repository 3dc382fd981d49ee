//! Sessions that break off soon after another one was added to their connection.
//!
//! One may do so for any reason, and so may a connection. Where it happens again and again, always
//! with several sessions and never with one, the server does not share after all.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How soon after the last addition a breakage is held against it.
const SOON: Duration = Duration::from_secs(60);
/// For how long.
const WINDOW: Duration = Duration::from_secs(10 * 60);
/// How many are no chance any more.
const MANY: usize = 3;

/// The latest of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Breakages(VecDeque<Instant>);

impl Breakages {
    /// A connection with so many sessions, or one of these, broke off. `added`: when the last of
    /// them was. True if that has happened too often.
    pub(super) fn on_broken(&mut self, now: Instant, sessions: u32, added: Instant) -> bool {
        if sessions < 2 {
            // It happens to those that are alone, too.
            self.0.clear();
            return false;
        }
        if now.saturating_duration_since(added) >= SOON {
            return false;
        }
        self.0
            .retain(|at| now.saturating_duration_since(*at) < WINDOW);
        self.0.push_back(now);
        if self.0.len() < MANY {
            return false;
        }
        self.0.clear();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_third_one_soon_after_an_addition_is_too_many() {
        let (now, mut breakages) = (Instant::now() + WINDOW, Breakages::default());
        assert!(!breakages.on_broken(now, 2, now));
        assert!(!breakages.on_broken(now + SECOND, 16, now));
        assert!(breakages.on_broken(now + 59 * SECOND, 2, now));
        assert!(
            !breakages.on_broken(now + 60 * SECOND, 2, now),
            "counted anew"
        );
    }

    #[test]
    fn old_ones_late_ones_and_those_of_lonely_sessions_do_not_count() {
        let (now, mut breakages) = (Instant::now() + WINDOW, Breakages::default());
        assert!(!breakages.on_broken(now, 2, now));
        assert!(!breakages.on_broken(now + SOON, 2, now), "too late");
        assert!(!breakages.on_broken(now + WINDOW, 2, now + WINDOW));
        assert!(
            !breakages.on_broken(now + WINDOW, 2, now + WINDOW),
            "the first is forgotten"
        );
        assert!(!breakages.on_broken(now + WINDOW, 1, now + WINDOW));
        assert!(
            !breakages.on_broken(now + WINDOW, 2, now + WINDOW),
            "all are"
        );
    }
}
