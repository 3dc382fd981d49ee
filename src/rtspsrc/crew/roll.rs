//! Who of the crew is at work, held up or idle. Pure: the time is passed in.

use std::time::{Duration, Instant};

/// One errand that a hand is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    number: u64,
    since: Instant,
    /// It takes so long that its hand does not count.
    is_struck_off: bool,
}

/// What a hand is given when it begins an errand, and gives back at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TurnNumber(u64);

/// The roll of the crew.
///
/// Invariant: `counting` are the hands that are on an errand, or were summoned to be, less those struck
/// off. More than `hands` only for as long as many are found held up at once.
#[derive(Debug)]
pub(super) struct Roll {
    /// As many may be at work at a time.
    hands: usize,
    counting: usize,
    idle: usize,
    /// Idle ones that were told to come and did not hear it yet. They count.
    summoned: usize,
    turns: Vec<Turn>,
    last: u64,
    /// The fewest that were idle at a time since `since`: so many were not needed.
    least_idle: usize,
    since: Option<Instant>,
    /// Idle ones that go as soon as they look.
    leaving: usize,
}

impl Roll {
    pub(super) fn new(hands: usize) -> Self {
        Self {
            hands: hands.max(1),
            counting: 0,
            idle: 0,
            summoned: 0,
            turns: Vec::new(),
            last: 0,
            least_idle: 0,
            since: None,
            leaving: 0,
        }
    }

    /// Whether nobody would look at the queue by itself.
    pub(super) fn is_nobody_at_it(&self) -> bool {
        self.counting == 0
    }

    pub(super) fn may_summon(&self) -> bool {
        self.counting < self.hands
    }

    /// How many are to come in place of `held_up` that were just found to be: twice as many, for
    /// what holds these up will hold up the next ones. Sinks that wait for each other to begin
    /// (preroll) are so many as there are streams, and each needs a thread.
    pub(super) fn reinforcements(&self, held_up: usize) -> usize {
        let missing = self.hands.saturating_sub(self.counting);
        missing.max(2 * held_up)
    }

    /// Summons an idle hand; false if there is none.
    pub(super) fn summon(&mut self) -> bool {
        if self.idle == 0 {
            return false;
        }
        self.idle -= 1;
        self.least_idle = self.least_idle.min(self.idle);
        self.summoned += 1;
        self.counting += 1;
        true
    }

    /// A new hand comes instead.
    pub(super) fn on_hired(&mut self) {
        self.counting += 1;
    }

    /// An idle hand looks whether it is meant by a summons.
    pub(super) fn is_summoned(&mut self) -> bool {
        let is_meant = self.summoned > 0;
        self.summoned -= usize::from(is_meant);
        is_meant
    }

    /// A hand takes an errand.
    pub(super) fn begin(&mut self, now: Instant) -> TurnNumber {
        self.last += 1;
        self.turns.push(Turn {
            number: self.last,
            since: now,
            is_struck_off: false,
        });
        TurnNumber(self.last)
    }

    /// A hand is back. False if it does not count any more, because another one has its place: then
    /// it is idle.
    pub(super) fn end(&mut self, turn: TurnNumber) -> bool {
        let at = self.turns.iter().position(|it| it.number == turn.0);
        let is_struck_off = at.is_some_and(|at| self.turns.swap_remove(at).is_struck_off);
        if !is_struck_off {
            return true;
        }
        let has_room = self.counting < self.hands;
        self.counting += usize::from(has_room);
        self.idle += usize::from(!has_room);
        has_room
    }

    /// A hand that counts has found the queue empty: it is idle.
    pub(super) fn leave(&mut self) {
        self.counting -= 1;
        self.idle += 1;
    }

    /// Whether an idle hand may go for good. Which one of them is woken is a matter of chance, so
    /// that none is idle for long; but if some were all the `while_`, so many go, save one.
    pub(super) fn may_go(&mut self, now: Instant, while_: Duration) -> bool {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= while_ {
            self.leaving = self.least_idle.saturating_sub(1);
            self.since = Some(now);
            self.least_idle = self.idle;
        }
        let may_go = self.leaving > 0 && self.idle > 1;
        if may_go {
            self.leaving -= 1;
            self.idle -= 1;
            self.least_idle = self.least_idle.min(self.idle);
        }
        may_go
    }

    /// Strikes off those that are on one errand for this long; tells how many.
    pub(super) fn strike_off(&mut self, now: Instant, patience: Duration) -> usize {
        let is_late = |turn: &Turn| now.saturating_duration_since(turn.since) >= patience;
        let mut count = 0;
        for turn in self.turns.iter_mut().filter(|turn| is_late(turn)) {
            count += usize::from(!std::mem::replace(&mut turn.is_struck_off, true));
        }
        self.counting -= count;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(10);

    fn now() -> Instant {
        static START: std::sync::LazyLock<Instant> =
            std::sync::LazyLock::new(crate::rtspsrc::timer::now);
        *START
    }

    #[test]
    fn no_more_are_at_work_than_there_are_places() {
        let mut roll = Roll::new(2);
        for _ in 0..2 {
            assert!(roll.may_summon() && !roll.summon());
            roll.on_hired();
        }
        assert!(!roll.may_summon());
    }

    #[test]
    fn a_place_is_free_again_when_its_hand_is_held_up() {
        let mut roll = Roll::new(1);
        roll.on_hired();
        let turn = roll.begin(now());
        roll.strike_off(now() + PATIENCE / 2, PATIENCE);
        assert!(!roll.may_summon());
        roll.strike_off(now() + PATIENCE, PATIENCE);
        assert!(roll.may_summon());
        roll.on_hired();
        assert!(!roll.end(turn), "its place is taken");
    }

    #[test]
    fn as_many_as_were_never_needed_go_and_one_is_kept() {
        const WHILE: Duration = Duration::from_secs(5);
        let mut roll = Roll::new(4);
        for _ in 0..4 {
            roll.on_hired();
        }
        for _ in 0..4 {
            roll.leave();
        }
        assert!(!roll.may_go(now(), WHILE), "nothing is known yet");
        assert!(
            !roll.may_go(now() + WHILE, WHILE),
            "there were none idle at first"
        );
        // In this time two of them are needed at once, whichever these are.
        for _ in 0..2 {
            assert!(roll.summon() && roll.is_summoned());
        }
        for _ in 0..2 {
            roll.leave();
        }
        let later = now() + 2 * WHILE;
        assert!(roll.may_go(later, WHILE));
        assert!(!roll.may_go(later, WHILE), "one of the two is kept");
        assert!(!roll.may_go(later + WHILE / 2, WHILE));
        assert!(roll.may_go(later + WHILE, WHILE) && roll.may_go(later + WHILE, WHILE));
        assert!(!roll.may_go(later + WHILE, WHILE), "one stays for good");
    }

    #[test]
    fn many_that_are_held_up_are_replaced_by_ever_more() {
        let mut roll = Roll::new(2);
        let mut there = 0;
        for expected in [2, 4, 8, 16] {
            let held_up = roll.strike_off(now() + PATIENCE, PATIENCE);
            let coming = roll.reinforcements(held_up);
            assert_eq!(coming, expected);
            for _ in 0..coming {
                roll.on_hired();
                roll.begin(now());
            }
            there += coming;
        }
        assert_eq!(roll.strike_off(now() + PATIENCE, PATIENCE), 16);
        assert_eq!(there, 30);
    }

    #[test]
    fn one_that_is_back_in_time_for_a_free_place_goes_on() {
        let mut roll = Roll::new(1);
        roll.on_hired();
        let turn = roll.begin(now());
        roll.strike_off(now() + PATIENCE, PATIENCE);
        assert!(roll.end(turn));
        assert!(!roll.may_summon());
    }

    #[test]
    fn a_summons_is_for_one() {
        let mut roll = Roll::new(2);
        roll.on_hired();
        roll.leave();
        assert!(roll.is_nobody_at_it());
        assert!(roll.summon() && !roll.summon());
        assert!(!roll.is_nobody_at_it());
        assert!(roll.is_summoned() && !roll.is_summoned());
    }
}
