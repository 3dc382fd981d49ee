//! Who of the crew is at work, held up or idle. Pure: the time is passed in.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{hand::Hand, tenure::Tenure};

/// One errand that a hand is on.
#[derive(Debug)]
struct Turn {
    number: TurnNumber,
    hand: Arc<Hand>,
    since: Instant,
    /// It takes so long that its hand does not count.
    is_struck_off: bool,
}

/// What a hand is given when it begins an errand, and gives back at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TurnNumber(u64);

/// A turn that takes long.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) turn: TurnNumber,
    pub(super) hand: Arc<Hand>,
    /// So far.
    pub(super) takes: Duration,
}

/// The roll of the crew.
///
/// Invariant: `counting` are the hands that are on an errand, or were summoned to be, less those struck
/// off. More than `hands` only for as long as many are found held up at once.
#[derive(Debug)]
pub(super) struct Roll {
    /// As many may be at work at a time, and as many are kept when there is no work.
    hands: usize,
    counting: usize,
    /// The one that was at work last is summoned first: its processor is warm, and the others are
    /// seen not to be needed.
    idle: Vec<Arc<Hand>>,
    turns: Vec<Turn>,
    last: u64,
    tenure: Tenure,
}

impl Roll {
    pub(super) fn new(hands: usize) -> Self {
        Self {
            hands: hands.max(1),
            counting: 0,
            idle: Vec::new(),
            turns: Vec::new(),
            last: 0,
            tenure: Tenure::new(),
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

    /// Summons an idle hand, if there is one.
    pub(super) fn summon(&mut self) -> Option<Arc<Hand>> {
        let hand = self.idle.pop()?;
        self.counting += 1;
        Some(hand)
    }

    /// A new hand comes instead.
    pub(super) fn on_hired(&mut self, now: Instant) {
        self.tenure.on_hired(now);
        self.counting += 1;
    }

    /// Whether a hand was idle and was summoned.
    pub(super) fn is_summoned(&self, hand: &Arc<Hand>) -> bool {
        self.place(hand).is_none()
    }

    fn place(&self, hand: &Arc<Hand>) -> Option<usize> {
        self.idle.iter().position(|idle| Arc::ptr_eq(idle, hand))
    }

    /// A hand takes an errand.
    pub(super) fn begin(&mut self, now: Instant, hand: &Arc<Hand>) -> TurnNumber {
        self.last += 1;
        let number = TurnNumber(self.last);
        self.turns.push(Turn {
            number,
            hand: Arc::clone(hand),
            since: now,
            is_struck_off: false,
        });
        number
    }

    /// A hand is back. False if it does not count any more, because another one has its place: then
    /// it is idle.
    pub(super) fn end(&mut self, turn: TurnNumber, hand: &Arc<Hand>) -> bool {
        let at = self.turns.iter().position(|it| it.number == turn);
        let is_struck_off = at.is_some_and(|at| self.turns.swap_remove(at).is_struck_off);
        if !is_struck_off {
            return true;
        }
        let has_room = self.counting < self.hands;
        match has_room {
            true => self.counting += 1,
            false => self.idle.push(Arc::clone(hand)),
        }
        has_room
    }

    /// A hand that counts has found the queue empty: it is idle.
    pub(super) fn leave(&mut self, hand: &Arc<Hand>) {
        self.counting -= 1;
        self.idle.push(Arc::clone(hand));
    }

    /// How long a hand that was the last to be idle is to wait before it goes; none: it stays.
    pub(super) fn tenure(&self) -> Option<Duration> {
        (self.idle.len() > self.hands).then(|| self.tenure.time())
    }

    /// A hand was not summoned all that time: whether it may go for good.
    pub(super) fn may_go(&mut self, hand: &Arc<Hand>, now: Instant) -> bool {
        let is_needed = self.idle.len() <= self.hands;
        match self.place(hand) {
            Some(place) if !is_needed => {
                self.idle.remove(place);
                self.tenure.on_gone(now);
                true
            }
            _ => false,
        }
    }

    /// The turns that take this long and were not struck off.
    pub(super) fn late(&self, now: Instant, patience: Duration) -> Vec<Late> {
        let turns = self.turns.iter().filter(|turn| !turn.is_struck_off);
        let late = turns.map(|turn| Late {
            turn: turn.number,
            hand: Arc::clone(&turn.hand),
            takes: now.saturating_duration_since(turn.since),
        });
        late.filter(|late| late.takes >= patience).collect()
    }

    /// Strikes off the hands that are still on these turns; tells how many.
    pub(super) fn strike_off(&mut self, late: &[Late]) -> usize {
        let is_late = |turn: &Turn| late.iter().any(|late| late.turn == turn.number);
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

    fn hand() -> Arc<Hand> {
        Arc::new(Hand::of_this_thread())
    }

    /// As the foreman does, if all that are late wait for something.
    fn strike_off(roll: &mut Roll, now: Instant) -> usize {
        let late = roll.late(now, PATIENCE);
        roll.strike_off(&late)
    }

    /// So many, none of them at work.
    fn idle(roll: &mut Roll, count: usize) -> Vec<Arc<Hand>> {
        let hands: Vec<_> = (0..count).map(|_| hand()).collect();
        hands.iter().for_each(|_| roll.on_hired(now()));
        hands.iter().for_each(|hand| roll.leave(hand));
        hands
    }

    #[test]
    fn no_more_are_at_work_than_there_are_places() {
        let mut roll = Roll::new(2);
        for _ in 0..2 {
            assert!(roll.may_summon() && roll.summon().is_none());
            roll.on_hired(now());
        }
        assert!(!roll.may_summon());
    }

    #[test]
    fn a_place_is_free_again_when_its_hand_is_held_up() {
        let (mut roll, hand) = (Roll::new(1), hand());
        roll.on_hired(now());
        let turn = roll.begin(now(), &hand);
        assert_eq!(strike_off(&mut roll, now() + PATIENCE / 2), 0);
        assert!(!roll.may_summon());
        assert_eq!(strike_off(&mut roll, now() + PATIENCE), 1);
        assert!(roll.may_summon());
        roll.on_hired(now());
        assert!(!roll.end(turn, &hand), "its place is taken");
        assert!(!roll.is_summoned(&hand), "it is idle");
    }

    #[test]
    fn one_whose_turn_has_ended_meanwhile_is_not_struck_off() {
        let (mut roll, hand) = (Roll::new(1), hand());
        roll.on_hired(now());
        let turn = roll.begin(now(), &hand);
        let late = roll.late(now() + PATIENCE, PATIENCE);
        assert!(late.iter().map(|late| late.takes).eq([PATIENCE]));
        assert!(roll.end(turn, &hand));
        roll.begin(now() + PATIENCE, &hand);
        assert_eq!(roll.strike_off(&late), 0);
        assert!(!roll.may_summon());
    }

    #[test]
    fn many_that_are_held_up_are_replaced_by_ever_more() {
        let (mut roll, hand) = (Roll::new(2), hand());
        let mut there = 0;
        for expected in [2, 4, 8, 16] {
            let held_up = strike_off(&mut roll, now() + PATIENCE);
            let coming = roll.reinforcements(held_up);
            assert_eq!(coming, expected);
            for _ in 0..coming {
                roll.on_hired(now());
                roll.begin(now(), &hand);
            }
            there += coming;
        }
        assert_eq!(strike_off(&mut roll, now() + PATIENCE), 16);
        assert_eq!(there, 30);
    }

    #[test]
    fn one_that_is_back_in_time_for_a_free_place_goes_on() {
        let (mut roll, hand) = (Roll::new(1), hand());
        roll.on_hired(now());
        let turn = roll.begin(now(), &hand);
        strike_off(&mut roll, now() + PATIENCE);
        assert!(roll.end(turn, &hand));
        assert!(!roll.may_summon());
    }

    #[test]
    fn the_one_that_was_at_work_last_is_summoned_first() {
        let mut roll = Roll::new(2);
        let hands = idle(&mut roll, 2);
        assert!(roll.is_nobody_at_it());
        let summoned = roll.summon().unwrap();
        assert!(Arc::ptr_eq(&summoned, &hands[1]));
        assert!(roll.is_summoned(&hands[1]) && !roll.is_summoned(&hands[0]));
        assert!(!roll.is_nobody_at_it());
    }

    #[test]
    fn those_that_were_not_summoned_go_but_for_as_many_as_there_are_places() {
        let mut roll = Roll::new(2);
        assert_eq!(roll.tenure(), None);
        let hands = idle(&mut roll, 5);
        assert!(roll.tenure().is_some());
        assert!(roll.summon().is_some(), "the last one");
        let went = hands.iter().filter(|hand| roll.may_go(hand, now()));
        assert_eq!(went.count(), 2);
        assert_eq!(roll.tenure(), None);
        assert!(!roll.may_go(&hands[4], now()), "it is at work");
    }
}
