//! How many tries a server is given in a minute, whatever the waits between them are.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Tries in any minute (fault F01).
pub(super) const TRIES: usize = 30;
pub(super) const TRIES_WITHIN: Duration = Duration::from_secs(60);
/// Of these at most half are made for cameras that fail while others of the server play: so many in
/// each of these times, which makes 15 in a minute.
const OF_CAMERAS: usize = 3;
const OF_CAMERAS_WITHIN: Duration = Duration::from_secs(12);
/// Half as many when that has gone on for so long.
const CAMERAS_FAIL_LONG: Duration = Duration::from_secs(10 * 60);
/// A try may take several requests or dials (a redirect leads over five servers); at most so many are
/// charged, so that every try fits the budget.
const MOST_CHARGED: usize = TRIES / 2;
/// A try that dials first reaches the server later than one that has a connection, a minute after it. So
/// sessions that come together wait so much longer: sixteen made 43 tries in a minute of the server's.
const LATE: Duration = Duration::from_millis(500);

/// The latest tries at one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RedialBudget {
    tries: VecDeque<Instant>,
    of_cameras: VecDeque<Instant>,
}

impl RedialBudget {
    /// From when on there is room for a try that costs as much as `cost` dials; none if there was room
    /// all the time.
    pub(super) fn due(&self, cost: usize) -> Option<Instant> {
        let room = TRIES - cost.clamp(1, MOST_CHARGED);
        // The one after which only as many are left as there is room beside.
        let too_many = self.tries.len().checked_sub(room + 1);
        let last = too_many.and_then(|index| self.tries.get(index));
        last.map(|last| *last + TRIES_WITHIN)
    }

    /// The same where several sessions try at the same time.
    pub(super) fn due_together(&self, cost: usize) -> Option<Instant> {
        self.due(cost).map(|due| due + LATE)
    }

    /// The same for a try of a camera that fails while others play; cameras have failed like that
    /// since `failing_since`.
    pub(super) fn due_for_camera(
        &self,
        now: Instant,
        cost: usize,
        failing_since: Instant,
    ) -> Option<Instant> {
        let is_long = now.saturating_duration_since(failing_since) >= CAMERAS_FAIL_LONG;
        let within = OF_CAMERAS_WITHIN * (1 + u32::from(is_long)) * weight(cost);
        let index = self.of_cameras.len().checked_sub(OF_CAMERAS);
        let last = index.and_then(|index| self.of_cameras.get(index));
        let due = last.map(|last| *last + within);
        due.max(self.due(cost))
    }

    /// A dial, or what costs the server as much.
    pub(super) fn on_try(&mut self, now: Instant) {
        if self.tries.len() >= TRIES {
            self.tries.pop_front();
        }
        self.tries.push_back(now);
    }

    /// A try of a camera that fails while others play.
    pub(super) fn on_try_of_camera(&mut self, now: Instant) {
        if self.of_cameras.len() >= OF_CAMERAS {
            self.of_cameras.pop_front();
        }
        self.of_cameras.push_back(now);
        self.on_try(now);
    }
}

fn weight(cost: usize) -> u32 {
    u32::try_from(cost.clamp(1, MOST_CHARGED)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// Tries whenever there is room; how many there were in any minute.
    fn most_in_a_minute(
        due: impl Fn(&RedialBudget, Instant) -> Option<Instant>,
        is_camera: bool,
    ) -> usize {
        let start = Instant::now() + CAMERAS_FAIL_LONG;
        let (mut budget, mut tries) = (RedialBudget::default(), Vec::new());
        let mut now = start;
        while now < start + 300 * S {
            now = due(&budget, now).map_or(now, |due| due.max(now));
            match is_camera {
                true => budget.on_try_of_camera(now),
                false => budget.on_try(now),
            }
            tries.push(now);
        }
        let within = |first: &Instant| {
            let is_within = |at: &&Instant| **at >= *first && **at < *first + TRIES_WITHIN;
            tries.iter().filter(is_within).count()
        };
        tries.iter().map(within).max().unwrap()
    }

    #[test]
    fn f01_a_server_is_tried_thirty_times_in_any_minute() {
        let most = most_in_a_minute(|budget, _| budget.due(1), false);
        assert_eq!(most, TRIES);
    }

    #[test]
    fn f44_cameras_that_fail_get_half_of_that_and_then_half_again() {
        let recently = |now| now - TRIES_WITHIN;
        let due = |budget: &RedialBudget, now| budget.due_for_camera(now, 1, recently(now));
        assert_eq!(most_in_a_minute(due, true), TRIES / 2);
        let long_ago = |now| now - CAMERAS_FAIL_LONG;
        let due = |budget: &RedialBudget, now| budget.due_for_camera(now, 1, long_ago(now));
        assert!(most_in_a_minute(due, true) <= 9);
    }

    #[test]
    fn a_try_that_costs_more_waits_for_more_room() {
        let (now, mut budget) = (Instant::now(), RedialBudget::default());
        for _ in 0..TRIES - 5 {
            budget.on_try(now);
        }
        assert_eq!(budget.due(5), None);
        assert_eq!(budget.due(6), Some(now + TRIES_WITHIN));
    }
}
