//! In which order, and how often, sessions come back to a server: what is known of its cameras, the order
//! after it has lost a connection with several sessions, and the budget of a minute.
//!
//! After such a loss another server may answer there, or the server may have lost the connection
//! because of the sessions: so two sessions go first, and when both are set up the others follow
//! together. The session that was added last, shortly before the connection broke off, comes last: if
//! it was the cause, all others play by then, and when the connection breaks off again no other session
//! is to blame. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::breaker::{RedialStep, RetrySchedule, Setback};
use crate::mux::ids::PresentationUri;

/// Media for so long is a success; a server that ends each session right after PLAY sends less.
pub(super) const LASTS: Duration = Duration::from_secs(2);
/// After so much media the next failure is the first again.
const STEADY: Duration = Duration::from_secs(30);
/// Successes shorter than [`STEADY`] after which a camera comes back without a charge on the budget: a
/// server may restart several times in a row.
const FREE_RETURNS: u8 = 6;
/// From its third failure on a camera waits so long at least, so that it keeps to half of the
/// server's budget.
const CAMERA_WAITS: Duration = Duration::from_secs(4);

/// How many go first.
const FIRST: u32 = 2;
/// The others wait so long for them at most; a second answer takes two round trips.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long after the first two the suspect comes.
const SUSPECT_AFTER: Duration = Duration::from_millis(1_500);
/// No session waits longer than that for its turn.
const FORGOTTEN: Duration = Duration::from_secs(10 * 60);

/// The order of one server's sessions; none for most of the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReconnectOrder(Option<Order>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    /// When the first one went; before that, when the connection was lost.
    since: Instant,
    suspect: Option<PresentationUri>,
    admitted: u32,
    set_up: u32,
}

impl ReconnectOrder {
    /// A connection with so many sessions is lost; `suspect` was added to it shortly before.
    pub(super) fn on_lost(
        &mut self,
        now: Instant,
        sessions: u32,
        suspect: Option<PresentationUri>,
    ) {
        if sessions >= FIRST {
            self.0 = Some(Order {
                since: now,
                suspect,
                admitted: 0,
                set_up: 0,
            });
        }
    }

    /// The sessions that went first did not reach the server.
    pub(super) fn regroup(&mut self) {
        if let Some(order) = &mut self.0 {
            (order.admitted, order.set_up) = (0, 0);
        }
    }

    /// A session was set up there.
    pub(super) fn on_set_up(&mut self) {
        if let Some(order) = &mut self.0 {
            order.set_up += u32::from(order.admitted > 0);
        }
    }

    /// Whether a session may go; else when to ask again, unless something changes before.
    pub(super) fn may_go(&self, now: Instant, uri: &PresentationUri) -> Result<(), Instant> {
        let Some(order) = &self.0 else {
            return Ok(());
        };
        let until = match order.suspect.as_ref() == Some(uri) {
            true => order.since + SUSPECT_AFTER,
            false if order.admitted < FIRST || order.set_up >= FIRST => now,
            false => order.since + PATIENCE,
        };
        if now < until { Err(until) } else { Ok(()) }
    }

    /// A session goes.
    pub(super) fn on_gone(&mut self, now: Instant) {
        let Some(order) = &mut self.0 else {
            return;
        };
        if order.admitted == 0 {
            order.since = now;
        }
        order.admitted += 1;
        if now >= order.since + SUSPECT_AFTER {
            self.0 = None;
        }
    }

    /// Whether forgetting it changes nothing.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        let is_old = |order: &Order| now.saturating_duration_since(order.since) >= FORGOTTEN;
        self.0.as_ref().is_none_or(is_old)
    }
}

// The cameras: how each one ended last, and what its next try has to keep to.

/// How the last session of a camera ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) began: Instant,
    pub(super) over: Instant,
    pub(super) needs: RedialStep,
    /// It had media, or was set up and waited to play, for so long; zero if PLAY was only answered.
    pub(super) lasted: Option<Duration>,
}

impl Ended {
    /// Of how long a success it was, if it was one.
    pub(super) fn success(&self, is_first: bool) -> Option<Duration> {
        self.lasted.filter(|lasted| is_first || *lasted >= LASTS)
    }
}

/// Whether a camera's tries have to keep to the budget while the server is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charge {
    /// It comes back after a success, or a user starts it.
    Free,
    /// It comes back with all others: charged only where the server failed them before in this row.
    IfFlapping,
    /// Its successes are too short.
    Server,
    /// It has failed since then while others played.
    Camera(Instant),
}

/// The history of a camera.
#[derive(Clone, Debug)]
pub(super) struct Camera {
    pub(super) last: Option<Ended>,
    pub(super) schedule: RetrySchedule,
    /// When it failed, and how long it waits from then on while the server is there.
    pub(super) failed: Instant,
    pub(super) wait: Duration,
    pub(super) charge: Charge,
    pub(super) free_returns: u8,
    /// Since a user started it, or it played for long.
    pub(super) has_failed: bool,
    pub(super) last_try: Option<Instant>,
    /// What its last try cost, in dials.
    pub(super) cost: usize,
    /// The try for all that it has been admitted to.
    pub(super) probe: Option<u64>,
    pub(super) touched: Instant,
}

impl Camera {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: None,
            schedule: RetrySchedule::default(),
            failed: now,
            wait: Duration::ZERO,
            charge: Charge::Free,
            free_returns: FREE_RETURNS,
            has_failed: false,
            last_try: None,
            cost: 1,
            probe: None,
            touched: now,
        }
    }

    /// It comes back after a success of so long. True if that is free.
    pub(super) fn is_return_free(&mut self, lasted: Duration) -> bool {
        if lasted >= STEADY {
            self.schedule.reset();
            self.free_returns = FREE_RETURNS;
            self.has_failed = false;
        }
        let is_free = self.free_returns > 0;
        self.free_returns = self.free_returns.saturating_sub(1);
        is_free
    }

    /// It failed, which is no fault of the server.
    pub(super) fn on_failed(&mut self, now: Instant, chance: f64) {
        let is_first = self.schedule.failures() < 2;
        let wait = self.schedule.next(now, Setback::Refused, chance);
        self.failed = now;
        self.wait = match is_first {
            true => wait,
            false => wait.max(CAMERA_WAITS),
        };
    }
}

// How many tries a server is given in a minute, whatever the waits between them are.

/// Tries in any minute (fault F01).
const TRIES: usize = 30;
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
    #![expect(clippy::disallowed_methods, reason = "any time will do")]

    use super::*;

    fn uri(number: u32) -> PresentationUri {
        PresentationUri(format!("rtsp://nvr/{number}"))
    }

    /// Sixteen sessions are lost, of which the seventh came last.
    fn lost(now: Instant) -> ReconnectOrder {
        let mut order = ReconnectOrder::default();
        order.on_lost(now, 16, Some(uri(7)));
        order
    }

    fn go(order: &mut ReconnectOrder, now: Instant, number: u32) -> bool {
        let may = order.may_go(now, &uri(number)).is_ok();
        if may {
            order.on_gone(now);
        }
        may
    }

    #[test]
    fn two_go_first_and_the_others_when_these_are_set_up() {
        let now = Instant::now();
        let mut order = lost(now);
        let went: Vec<u32> = (1..=16).filter(|n| go(&mut order, now, *n)).collect();
        assert_eq!(went, [1, 2]);
        order.on_set_up();
        assert!(!go(&mut order, now, 3));
        order.on_set_up();
        let went: Vec<u32> = (3..=16).filter(|n| go(&mut order, now, *n)).collect();
        assert_eq!(went.len(), 13, "all but the suspect");
        assert_eq!(order.may_go(now, &uri(7)), Err(now + SUSPECT_AFTER));
        assert!(go(&mut order, now + SUSPECT_AFTER, 7));
        assert!(order.is_forgettable(now + SUSPECT_AFTER));
    }

    #[test]
    fn no_session_waits_for_long_for_two_that_fail() {
        let now = Instant::now();
        let mut order = lost(now);
        assert!(go(&mut order, now, 1) && go(&mut order, now, 2));
        assert_eq!(order.may_go(now, &uri(3)), Err(now + PATIENCE));
        assert!(go(&mut order, now + PATIENCE, 3));
    }

    #[test]
    fn the_order_outlasts_an_outage() {
        let now = Instant::now();
        let mut order = lost(now);
        let later = now + Duration::from_secs(45);
        for _ in 0..10 {
            assert!(go(&mut order, later, 1), "dials");
            order.regroup();
        }
        assert!(go(&mut order, later, 1) && go(&mut order, later, 2));
        assert!(!go(&mut order, later, 3));
    }

    #[test]
    fn a_session_that_was_alone_has_no_order_to_keep() {
        let now = Instant::now();
        let mut order = ReconnectOrder::default();
        order.on_lost(now, 1, Some(uri(1)));
        assert!((1..=16).all(|number| go(&mut order, now, number)));
    }

    #[test]
    fn a_suspect_that_no_session_goes_before_goes_itself() {
        let now = Instant::now();
        let mut order = lost(now);
        assert!(!go(&mut order, now, 7));
        assert!(go(&mut order, now + SUSPECT_AFTER, 7));
    }
}

#[cfg(test)]
mod budget_tests {
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
