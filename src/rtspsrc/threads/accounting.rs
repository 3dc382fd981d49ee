//! Which workers of the pool are at work, held up or idle. Pure: the time is passed in.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    idle_timeout::IdleTimeout,
    worker::{Found, Worker},
};
/// So many are at work at most, those left out that downstream holds up: also where all of them spin,
/// as the writers of a bus do. Another one would only compete with them.
const MOST: usize = 4;

/// How long a task may take before its worker is looked at, if others wait for it.
const PATIENCE: Duration = Duration::from_millis(1);

/// The same just after a worker was found held up: what holds it up will hold up the next ones. Sinks that
/// wait for each other to preroll are so many as there are streams, and are done the sooner.
const SHORT_PATIENCE: Duration = Duration::from_micros(250);

/// How long a worker may be busy before it is not counted on any more: it may be decoding, or be in a loop
/// until another stream has come as far as its own, which that one then has to be let do.
const BUSY_PATIENCE: Duration = Duration::from_millis(100);

/// How long a worker must be at one lock while another worker is busy: that one may have the lock, and lose
/// its processor to other programs for some time slices.
const CONTENTION: Duration = Duration::from_millis(20);

/// One task that a worker is on.
#[derive(Debug)]
struct WorkerTurn {
    number: TurnNumber,
    worker: Arc<Worker>,
    since: Instant,
    standing: Standing,
    /// The wait for a lock it was found at last.
    wait: Option<Wait>,
}

/// A wait for a lock that a worker was found at.
#[derive(Clone, Copy, Debug)]
struct Wait {
    waits: u64,
    /// When it was found there first.
    since: Instant,
}

/// What a worker that is on a task counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is at work.
    Counts,
    /// Busy for long: it has a processor, and others may be at work beside it.
    Busy,
    /// It waits for something downstream: another one has its place.
    HeldUp,
}

impl WorkerTurn {
    /// Whether the worker waits for anything but a lock, or is at the lock where it was found before, for
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

/// What a worker is given when it begins a task, and gives back at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TurnNumber(u64);

/// The accounting of the pool.
///
/// Invariant: `counting` are the workers that are on a task, or were woken to be, less those held up
/// and those `busy` for long; all but those held up are [`MOST`] at most.
#[derive(Debug)]
pub(super) struct Accounting {
    /// As many may be at work at a time, and as many are kept when there is no work.
    workers: usize,
    counting: usize,
    busy: usize,
    /// The one that was at work last is woken first: its processor is warm, and the others are
    /// seen not to be needed.
    idle: Vec<Arc<Worker>>,
    turns: Vec<WorkerTurn>,
    last: u64,
    /// When a worker was found held up last.
    held_up_at: Option<Instant>,
    idle_timeout: IdleTimeout,
}

impl Accounting {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers: workers.clamp(1, MOST),
            counting: 0,
            busy: 0,
            idle: Vec::new(),
            turns: Vec::new(),
            last: 0,
            held_up_at: None,
            idle_timeout: IdleTimeout::new(),
        }
    }

    /// Whether no worker looks at the queue.
    pub(super) fn is_unattended(&self) -> bool {
        self.counting == 0
    }

    /// Whether there is no worker at all, be it idle or held up.
    pub(super) fn is_without_workers(&self) -> bool {
        self.counting == 0 && self.idle.is_empty() && self.turns.is_empty()
    }

    pub(super) fn may_wake(&self) -> bool {
        self.counting < self.workers && self.room() > 0
    }

    /// How many more may be at work.
    fn room(&self) -> usize {
        MOST.saturating_sub(self.counting + self.busy)
    }

    /// How many are to come in place of `held_up` that were just found to be: twice as many, for
    /// what holds these up will hold up the next ones. Sinks that wait for each other to begin
    /// (preroll) are so many as there are streams, and each needs a thread.
    pub(super) fn reinforcements(&self, held_up: usize) -> usize {
        let missing = self.workers.saturating_sub(self.counting);
        missing.max(2 * held_up).min(self.room())
    }

    /// Wakes an idle worker, if there is one.
    pub(super) fn wake_one(&mut self) -> Option<Arc<Worker>> {
        let worker = self.idle.pop()?;
        self.counting += 1;
        Some(worker)
    }

    /// A new worker comes instead.
    pub(super) fn on_started(&mut self, now: Instant) {
        self.idle_timeout.on_started(now);
        self.counting += 1;
    }

    /// Whether a worker was idle and was woken.
    pub(super) fn is_woken(&self, worker: &Arc<Worker>) -> bool {
        self.place(worker).is_none()
    }

    fn place(&self, worker: &Arc<Worker>) -> Option<usize> {
        self.idle.iter().position(|idle| Arc::ptr_eq(idle, worker))
    }

    /// A worker takes a task.
    pub(super) fn begin(&mut self, now: Instant, worker: &Arc<Worker>) -> TurnNumber {
        self.last += 1;
        let number = TurnNumber(self.last);
        self.turns.push(WorkerTurn {
            number,
            worker: Arc::clone(worker),
            since: now,
            standing: Standing::Counts,
            wait: None,
        });
        number
    }

    /// A worker is back. False if it does not count any more, because another one has its place: then
    /// it is idle.
    pub(super) fn end(&mut self, turn: TurnNumber, worker: &Arc<Worker>) -> bool {
        let at = self.turns.iter().position(|it| it.number == turn);
        match at.map(|at| self.turns.swap_remove(at).standing) {
            None | Some(Standing::Counts) => return true,
            Some(Standing::Busy) => self.busy -= 1,
            Some(Standing::HeldUp) => {}
        }
        let has_room = self.may_wake();
        match has_room {
            true => self.counting += 1,
            false => self.idle.push(Arc::clone(worker)),
        }
        has_room
    }

    /// A worker that counts has found the queue empty: it is idle.
    pub(super) fn leave(&mut self, worker: &Arc<Worker>) {
        self.counting -= 1;
        self.idle.push(Arc::clone(worker));
    }

    /// How long a worker that was the last to be idle is to wait before it goes; none: it stays.
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        (self.idle.len() > self.workers).then(|| self.idle_timeout.time())
    }

    /// A worker was not woken all that time: whether it may go for good.
    pub(super) fn may_go(&mut self, worker: &Arc<Worker>, now: Instant) -> bool {
        let is_needed = self.idle.len() <= self.workers;
        match self.place(worker) {
            Some(place) if !is_needed => {
                self.idle.remove(place);
                self.idle_timeout.on_gone(now);
                true
            }
            _ => false,
        }
    }

    /// How long a task may take at present before its worker is looked at.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        let is_just_found = |at| now.saturating_duration_since(at) <= 2 * PATIENCE;
        match self.held_up_at.is_some_and(is_just_found) {
            true => SHORT_PATIENCE,
            false => PATIENCE,
        }
    }

    /// The turns that take so long and are not known to be held up.
    pub(super) fn late(&self, now: Instant) -> Vec<(TurnNumber, Arc<Worker>)> {
        let patience = self.patience(now);
        let is_late = |turn: &&WorkerTurn| {
            turn.standing != Standing::HeldUp
                && now.saturating_duration_since(turn.since) >= patience
        };
        let late = self.turns.iter().filter(is_late);
        late.map(|turn| (turn.number, Arc::clone(&turn.worker)))
            .collect()
    }

    /// The workers that are held up, as far as is known.
    pub(super) fn held_up(&self) -> Vec<Arc<Worker>> {
        let turns = self.turns.iter();
        let held_up = turns.filter(|turn| turn.standing == Standing::HeldUp);
        held_up.map(|turn| Arc::clone(&turn.worker)).collect()
    }

    /// How workers on such turns were found, and whether any worker is busy, be it one that was held up;
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

    fn worker() -> Arc<Worker> {
        Arc::new(Worker::of_this_thread())
    }

    /// As the monitor does in two looks, if all that are late wait for something.
    fn strike_off(accounting: &mut Accounting, now: Instant) -> usize {
        let late = accounting.late(now);
        let locked = Found::Locked { waits: 7 };
        let found: Vec<_> = late.iter().map(|(turn, _)| (*turn, locked)).collect();
        let held_up = accounting.on_found(now, &found, false);
        assert_eq!(held_up, 0, "it may have just begun to wait");
        accounting.on_found(now + PATIENCE, &found, false)
    }

    /// The same in one look, if all are found like this.
    fn find(accounting: &mut Accounting, now: Instant, found: Found) -> usize {
        let late = accounting.late(now);
        let is_any_busy = found == Found::Busy;
        let found: Vec<_> = late.iter().map(|(turn, _)| (*turn, found)).collect();
        accounting.on_found(now, &found, is_any_busy)
    }

    /// So many, none of them at work.
    fn idle(accounting: &mut Accounting, count: usize) -> Vec<Arc<Worker>> {
        let workers: Vec<_> = (0..count).map(|_| worker()).collect();
        workers.iter().for_each(|_| accounting.on_started(now()));
        workers.iter().for_each(|worker| accounting.leave(worker));
        workers
    }

    #[test]
    fn no_more_are_at_work_than_there_are_places() {
        let mut accounting = Accounting::new(2);
        for _ in 0..2 {
            assert!(accounting.may_wake() && accounting.wake_one().is_none());
            accounting.on_started(now());
        }
        assert!(!accounting.may_wake());
    }

    #[test]
    fn a_place_is_free_again_when_its_hand_is_held_up() {
        let (mut accounting, worker) = (Accounting::new(1), worker());
        accounting.on_started(now());
        let turn = accounting.begin(now(), &worker);
        assert!(accounting.late(now() + PATIENCE / 2).is_empty());
        assert!(!accounting.may_wake());
        assert_eq!(strike_off(&mut accounting, now() + PATIENCE), 1);
        assert!(accounting.may_wake());
        accounting.on_started(now());
        assert!(!accounting.end(turn, &worker), "its place is taken");
        assert!(!accounting.is_woken(&worker), "it is idle");
    }

    #[test]
    fn one_whose_turn_has_ended_meanwhile_is_not_struck_off() {
        let (mut accounting, worker) = (Accounting::new(1), worker());
        accounting.on_started(now());
        let turn = accounting.begin(now(), &worker);
        let waiting = [(turn, Found::Locked { waits: 7 })];
        assert_eq!(accounting.on_found(now() + PATIENCE, &waiting, false), 0);
        assert!(accounting.end(turn, &worker));
        accounting.begin(now() + PATIENCE, &worker);
        assert_eq!(accounting.on_found(now() + PATIENCE, &waiting, false), 0);
        assert!(!accounting.may_wake());
    }

    #[test]
    fn those_that_are_held_up_are_replaced_however_many_they_are() {
        let (mut accounting, worker) = (Accounting::new(2), worker());
        let mut there = 0;
        for expected in [2, 4, 4, 4] {
            let held_up = strike_off(&mut accounting, now() + PATIENCE);
            let coming = accounting.reinforcements(held_up);
            assert_eq!(coming, expected);
            for _ in 0..coming {
                accounting.on_started(now());
                accounting.begin(now(), &worker);
            }
            there += coming;
        }
        assert_eq!(strike_off(&mut accounting, now() + PATIENCE), 4);
        assert_eq!(there, 14);
    }

    /// As the writers of a bus that is not read: some spin, some wait for its lock, each for a
    /// moment.
    #[test]
    fn f53_those_that_are_busy_or_contend_with_each_other_bring_no_more_than_four() {
        let (mut accounting, worker) = (Accounting::new(16), worker());
        for look in 0..1000 {
            let coming = accounting.reinforcements(0);
            for _ in 0..coming {
                accounting.on_started(now());
                accounting.begin(now(), &worker);
            }
            let found = match look % 2 {
                0 => Found::Busy,
                _ => Found::Locked { waits: look },
            };
            let held_up = find(&mut accounting, now() + look as u32 * PATIENCE, found);
            assert_eq!(held_up, 0);
        }
        assert_eq!(accounting.turns.len(), MOST);
        assert!(!accounting.may_wake());
    }

    /// Its place in the queue of a lock is the same for as long as the one that has the lock gets no
    /// processor, and that one may be a worker that was taken for held up.
    #[test]
    fn f53_one_that_waits_while_another_one_is_busy_is_held_up_only_after_longer() {
        let (mut accounting, worker) = (Accounting::new(2), worker());
        accounting.on_started(now());
        let turn = accounting.begin(now(), &worker);
        let waiting = [(turn, Found::Locked { waits: 7 })];
        for after in [Duration::ZERO, CONTENTION / 2] {
            assert_eq!(accounting.on_found(now() + after, &waiting, true), 0);
        }
        assert!(accounting.held_up().is_empty());
        assert_eq!(accounting.on_found(now() + CONTENTION, &waiting, true), 1);
        assert_eq!(accounting.held_up().len(), 1);
    }

    /// As sinks that wait for each other to preroll: another one is about to wait, too.
    #[test]
    fn one_that_waits_for_a_condition_is_held_up_at_once() {
        let (mut accounting, worker) = (Accounting::new(2), worker());
        accounting.on_started(now());
        let turn = accounting.begin(now(), &worker);
        assert_eq!(accounting.patience(now()), PATIENCE);
        assert_eq!(
            accounting.on_found(now(), &[(turn, Found::Waiting)], true),
            1
        );
        assert!(accounting.may_wake());
        assert_eq!(accounting.patience(now() + PATIENCE), SHORT_PATIENCE);
        assert_eq!(accounting.patience(now() + 3 * PATIENCE), PATIENCE);
    }

    #[test]
    fn beside_one_that_is_busy_for_long_another_one_is_at_work() {
        let (mut accounting, worker) = (Accounting::new(1), worker());
        accounting.on_started(now());
        let turn = accounting.begin(now(), &worker);
        find(&mut accounting, now() + BUSY_PATIENCE / 2, Found::Busy);
        assert!(!accounting.may_wake());
        find(&mut accounting, now() + BUSY_PATIENCE, Found::Busy);
        assert!(accounting.may_wake());
        // It begins to wait, and then its thread is not one of those at work.
        assert_eq!((accounting.counting, accounting.busy), (0, 1));
        assert_eq!(strike_off(&mut accounting, now() + BUSY_PATIENCE), 1);
        assert_eq!((accounting.counting, accounting.busy), (0, 0));
        assert!(accounting.end(turn, &worker), "its place is free");
    }

    #[test]
    fn one_that_is_back_in_time_for_a_free_place_goes_on() {
        let (mut accounting, worker) = (Accounting::new(1), worker());
        accounting.on_started(now());
        let turn = accounting.begin(now(), &worker);
        strike_off(&mut accounting, now() + PATIENCE);
        assert!(accounting.end(turn, &worker));
        assert!(!accounting.may_wake());
    }

    #[test]
    fn the_one_that_was_at_work_last_is_woken_first() {
        let mut accounting = Accounting::new(2);
        let workers = idle(&mut accounting, 2);
        assert!(accounting.is_unattended());
        let woken = accounting.wake_one().unwrap();
        assert!(Arc::ptr_eq(&woken, &workers[1]));
        assert!(accounting.is_woken(&workers[1]) && !accounting.is_woken(&workers[0]));
        assert!(!accounting.is_unattended());
    }

    #[test]
    fn those_that_were_not_woken_go_but_for_as_many_as_there_are_places() {
        let mut accounting = Accounting::new(2);
        assert_eq!(accounting.idle_timeout(), None);
        let workers = idle(&mut accounting, 5);
        assert!(accounting.idle_timeout().is_some());
        assert!(accounting.wake_one().is_some(), "the last one");
        let went = workers
            .iter()
            .filter(|worker| accounting.may_go(worker, now()));
        assert_eq!(went.count(), 2);
        assert_eq!(accounting.idle_timeout(), None);
        assert!(!accounting.may_go(&workers[4], now()), "it is at work");
    }
}
