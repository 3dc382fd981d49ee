//! In which order sessions come back to a server that has lost a connection with several of them.
//!
//! Another server may answer there now, or the server may have lost the connection because of the
//! sessions: so two sessions go first, and when both are set up the others follow together. The
//! session that was added last, shortly before the connection broke off, comes last: if it was the
//! cause, all others play by then, and when the connection breaks off again no other session is to
//! blame. Pure.

use std::time::{Duration, Instant};

use crate::mux::ids::PresentationUri;

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
