//! Who of the crew is at work, held up or idle. Pure: the time is passed in.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    hand::{Found, Hand},
    tenure::Tenure,
};

/// So many are at work at most, those left out that downstream holds up: also where all of them spin,
/// as the writers of a bus do. Another one would only compete with them.
const MOST: usize = 4;

/// How long an errand may take before its hand is looked at, if others wait for it.
const PATIENCE: Duration = Duration::from_millis(1);

/// The same just after a hand was found held up: what holds it up will hold up the next ones. Sinks that
/// wait for each other to preroll are so many as there are streams, and are done the sooner.
const SHORT_PATIENCE: Duration = Duration::from_micros(250);

/// How long a hand may be busy before it is not counted on any more: it may be decoding, or be in a loop
/// until another stream has come as far as its own, which that one then has to be let do.
const BUSY_PATIENCE: Duration = Duration::from_millis(100);

/// How long a hand must be at one lock while another hand is busy: that one may have the lock, and lose
/// its processor to other programs for some time slices.
const CONTENTION: Duration = Duration::from_millis(20);

/// One errand that a hand is on.
#[derive(Debug)]
struct Turn {
    number: TurnNumber,
    hand: Arc<Hand>,
    since: Instant,
    standing: Standing,
    /// The wait for a lock it was found at last.
    wait: Option<Wait>,
}

/// A wait for a lock that a hand was found at.
#[derive(Clone, Copy, Debug)]
struct Wait {
    waits: u64,
    /// When it was found there first.
    since: Instant,
}

/// What a hand that is on an errand counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is at work.
    Counts,
    /// Busy for long: it has a processor, and others may be at work beside it.
    Busy,
    /// It waits for something downstream: another one has its place.
    HeldUp,
}

impl Turn {
    /// Whether the hand waits for anything but a lock, or is at the lock where it was found before, for
    /// `patience` or longer.
    fn is_held_up(&mut self, now: Instant, found: Found, patience: Duration) -> bool {
        let before = self.wait.take();
        let Found::Locked { waits } = found else {
            return found == Found::Waiting;
        };
        let same = before.filter(|wait| wait.waits == waits);
        let wait = same.unwrap_or(Wait { waits, since: now });
        self.wait = Some(wait);
        same.is_some() && now.saturating_duration_since(wait.since) >= patience
    }
}

/// What a hand is given when it begins an errand, and gives back at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TurnNumber(u64);

/// A turn that takes long.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) turn: TurnNumber,
    pub(super) hand: Arc<Hand>,
}

/// The roll of the crew.
///
/// Invariant: `counting` are the hands that are on an errand, or were summoned to be, less those held up
/// and those `busy` for long; all but those held up are [`MOST`] at most.
#[derive(Debug)]
pub(super) struct Roll {
    /// As many may be at work at a time, and as many are kept when there is no work.
    hands: usize,
    counting: usize,
    busy: usize,
    /// The one that was at work last is summoned first: its processor is warm, and the others are
    /// seen not to be needed.
    idle: Vec<Arc<Hand>>,
    turns: Vec<Turn>,
    last: u64,
    /// When a hand was found held up last.
    held_up_at: Option<Instant>,
    tenure: Tenure,
}

impl Roll {
    pub(super) fn new(hands: usize) -> Self {
        Self {
            hands: hands.clamp(1, MOST),
            counting: 0,
            busy: 0,
            idle: Vec::new(),
            turns: Vec::new(),
            last: 0,
            held_up_at: None,
            tenure: Tenure::new(),
        }
    }

    /// Whether nobody would look at the queue by itself.
    pub(super) fn is_nobody_at_it(&self) -> bool {
        self.counting == 0
    }

    pub(super) fn may_summon(&self) -> bool {
        self.counting < self.hands && self.room() > 0
    }

    /// How many more may be at work.
    fn room(&self) -> usize {
        MOST.saturating_sub(self.counting + self.busy)
    }

    /// How many are to come in place of `held_up` that were just found to be: twice as many, for
    /// what holds these up will hold up the next ones. Sinks that wait for each other to begin
    /// (preroll) are so many as there are streams, and each needs a thread.
    pub(super) fn reinforcements(&self, held_up: usize) -> usize {
        let missing = self.hands.saturating_sub(self.counting);
        missing.max(2 * held_up).min(self.room())
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
            standing: Standing::Counts,
            wait: None,
        });
        number
    }

    /// A hand is back. False if it does not count any more, because another one has its place: then
    /// it is idle.
    pub(super) fn end(&mut self, turn: TurnNumber, hand: &Arc<Hand>) -> bool {
        let at = self.turns.iter().position(|it| it.number == turn);
        match at.map(|at| self.turns.swap_remove(at).standing) {
            None | Some(Standing::Counts) => return true,
            Some(Standing::Busy) => self.busy -= 1,
            Some(Standing::HeldUp) => {}
        }
        let has_room = self.may_summon();
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

    /// How long an errand may take at present before its hand is looked at.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        let is_just_found = |at| now.saturating_duration_since(at) <= 2 * PATIENCE;
        match self.held_up_at.is_some_and(is_just_found) {
            true => SHORT_PATIENCE,
            false => PATIENCE,
        }
    }

    /// The turns that take so long and are not known to be held up.
    pub(super) fn late(&self, now: Instant) -> Vec<Late> {
        let patience = self.patience(now);
        let is_late = |turn: &&Turn| {
            turn.standing != Standing::HeldUp
                && now.saturating_duration_since(turn.since) >= patience
        };
        let late = self.turns.iter().filter(is_late).map(|turn| Late {
            turn: turn.number,
            hand: Arc::clone(&turn.hand),
        });
        late.collect()
    }

    /// The hands that are held up, as far as is known.
    pub(super) fn held_up(&self) -> Vec<Arc<Hand>> {
        let turns = self.turns.iter();
        let held_up = turns.filter(|turn| turn.standing == Standing::HeldUp);
        held_up.map(|turn| Arc::clone(&turn.hand)).collect()
    }

    /// How hands on such turns were found, and whether any hand is busy, be it one that was held up;
    /// tells how many turned out to be held up. One of which the turn has ended meanwhile is at work.
    pub(super) fn on_found(
        &mut self,
        now: Instant,
        found: &[(TurnNumber, Found)],
        is_any_busy: bool,
    ) -> usize {
        let patience = match is_any_busy {
            true => CONTENTION,
            false => PATIENCE,
        };
        let mut held_up = 0;
        for (number, found) in found {
            let room = self.room();
            let Some(turn) = self.turns.iter_mut().find(|turn| turn.number == *number) else {
                continue;
            };
            let is_held_up = turn.is_held_up(now, *found, patience);
            let is_long = now.saturating_duration_since(turn.since) >= BUSY_PATIENCE;
            match turn.standing {
                Standing::HeldUp => {}
                Standing::Counts if is_held_up => {
                    turn.standing = Standing::HeldUp;
                    self.counting -= 1;
                    held_up += 1;
                }
                Standing::Busy if is_held_up => {
                    turn.standing = Standing::HeldUp;
                    self.busy -= 1;
                    held_up += 1;
                }
                Standing::Counts if is_long && room > 0 => {
                    turn.standing = Standing::Busy;
                    self.counting -= 1;
                    self.busy += 1;
                }
                Standing::Counts | Standing::Busy => {}
            }
        }
        if held_up > 0 {
            self.held_up_at = Some(now);
        }
        held_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        static START: std::sync::LazyLock<Instant> =
            std::sync::LazyLock::new(crate::rtspsrc::threads::timer::now);
        *START
    }

    fn hand() -> Arc<Hand> {
        Arc::new(Hand::of_this_thread())
    }

    /// As the foreman does in two looks, if all that are late wait for something.
    fn strike_off(roll: &mut Roll, now: Instant) -> usize {
        let late = roll.late(now);
        let locked = Found::Locked { waits: 7 };
        let found: Vec<_> = late.iter().map(|late| (late.turn, locked)).collect();
        let held_up = roll.on_found(now, &found, false);
        assert_eq!(held_up, 0, "it may have just begun to wait");
        roll.on_found(now + PATIENCE, &found, false)
    }

    /// The same in one look, if all are found like this.
    fn find(roll: &mut Roll, now: Instant, found: Found) -> usize {
        let late = roll.late(now);
        let is_any_busy = found == Found::Busy;
        let found: Vec<_> = late.iter().map(|late| (late.turn, found)).collect();
        roll.on_found(now, &found, is_any_busy)
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
        assert!(roll.late(now() + PATIENCE / 2).is_empty());
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
        let waiting = [(turn, Found::Locked { waits: 7 })];
        assert_eq!(roll.on_found(now() + PATIENCE, &waiting, false), 0);
        assert!(roll.end(turn, &hand));
        roll.begin(now() + PATIENCE, &hand);
        assert_eq!(roll.on_found(now() + PATIENCE, &waiting, false), 0);
        assert!(!roll.may_summon());
    }

    #[test]
    fn those_that_are_held_up_are_replaced_however_many_they_are() {
        let (mut roll, hand) = (Roll::new(2), hand());
        let mut there = 0;
        for expected in [2, 4, 4, 4] {
            let held_up = strike_off(&mut roll, now() + PATIENCE);
            let coming = roll.reinforcements(held_up);
            assert_eq!(coming, expected);
            for _ in 0..coming {
                roll.on_hired(now());
                roll.begin(now(), &hand);
            }
            there += coming;
        }
        assert_eq!(strike_off(&mut roll, now() + PATIENCE), 4);
        assert_eq!(there, 14);
    }

    /// As the writers of a bus that is not read: some spin, some wait for its lock, each for a
    /// moment.
    #[test]
    fn f53_those_that_are_busy_or_contend_with_each_other_bring_no_more_than_four() {
        let (mut roll, hand) = (Roll::new(16), hand());
        for look in 0..1000 {
            let coming = roll.reinforcements(0);
            for _ in 0..coming {
                roll.on_hired(now());
                roll.begin(now(), &hand);
            }
            let found = match look % 2 {
                0 => Found::Busy,
                _ => Found::Locked { waits: look },
            };
            let held_up = find(&mut roll, now() + look as u32 * PATIENCE, found);
            assert_eq!(held_up, 0);
        }
        assert_eq!(roll.turns.len(), MOST);
        assert!(!roll.may_summon());
    }

    /// Its place in the queue of a lock is the same for as long as the one that has the lock gets no
    /// processor, and that one may be a hand that was taken for held up.
    #[test]
    fn f53_one_that_waits_while_another_one_is_busy_is_held_up_only_after_longer() {
        let (mut roll, hand) = (Roll::new(2), hand());
        roll.on_hired(now());
        let turn = roll.begin(now(), &hand);
        let waiting = [(turn, Found::Locked { waits: 7 })];
        for after in [Duration::ZERO, CONTENTION / 2] {
            assert_eq!(roll.on_found(now() + after, &waiting, true), 0);
        }
        assert!(roll.held_up().is_empty());
        assert_eq!(roll.on_found(now() + CONTENTION, &waiting, true), 1);
        assert_eq!(roll.held_up().len(), 1);
    }

    /// As sinks that wait for each other to preroll: another one is about to wait, too.
    #[test]
    fn one_that_waits_for_a_condition_is_held_up_at_once() {
        let (mut roll, hand) = (Roll::new(2), hand());
        roll.on_hired(now());
        let turn = roll.begin(now(), &hand);
        assert_eq!(roll.patience(now()), PATIENCE);
        assert_eq!(roll.on_found(now(), &[(turn, Found::Waiting)], true), 1);
        assert!(roll.may_summon());
        assert_eq!(roll.patience(now() + PATIENCE), SHORT_PATIENCE);
        assert_eq!(roll.patience(now() + 3 * PATIENCE), PATIENCE);
    }

    #[test]
    fn beside_one_that_is_busy_for_long_another_one_is_at_work() {
        let (mut roll, hand) = (Roll::new(1), hand());
        roll.on_hired(now());
        let turn = roll.begin(now(), &hand);
        find(&mut roll, now() + BUSY_PATIENCE / 2, Found::Busy);
        assert!(!roll.may_summon());
        find(&mut roll, now() + BUSY_PATIENCE, Found::Busy);
        assert!(roll.may_summon());
        // It begins to wait, and then its thread is not one of those at work.
        assert_eq!((roll.counting, roll.busy), (0, 1));
        assert_eq!(strike_off(&mut roll, now() + BUSY_PATIENCE), 1);
        assert_eq!((roll.counting, roll.busy), (0, 0));
        assert!(roll.end(turn, &hand), "its place is free");
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
