//! Who of the crew is at work, held up or idle. Pure: the time is passed in.
//!
//! # A hand
//!
//! A thread of the crew: how it is summoned, and whether it waits for something or for a processor.
//!
//! # Tenure
//!
//! How long idle threads are kept. Pure: the time is passed in.
//!
//! Many are needed at once mostly for a moment: when all sinks of a pipeline wait for each other to
//! begin. Making a thread takes some ten microseconds, so those left over go soon; but where they are
//! missed again, the next ones stay for longer.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Condvar},
    time::{Duration, Instant},
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

    /// Whether there is no hand at all, be it idle or held up.
    pub(super) fn is_without_hands(&self) -> bool {
        self.counting == 0 && self.idle.is_empty() && self.turns.is_empty()
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
    pub(super) fn late(&self, now: Instant) -> Vec<(TurnNumber, Arc<Hand>)> {
        let patience = self.patience(now);
        let is_late = |turn: &&Turn| {
            turn.standing != Standing::HeldUp
                && now.saturating_duration_since(turn.since) >= patience
        };
        let late = self.turns.iter().filter(is_late);
        late.map(|turn| (turn.number, Arc::clone(&turn.hand)))
            .collect()
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

/// One thread.
#[derive(Debug)]
pub(super) struct Hand {
    /// For this one, while it is idle.
    pub(super) summons: Condvar,
    /// Where Linux tells how it is (proc(5)). None on other systems.
    folder: Option<PathBuf>,
}

/// How a thread was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It runs, or would if it got a processor.
    Busy,
    /// It waits for something that takes its time: a condition, as a sink does before all are
    /// prerolled, a clock, a disk.
    Waiting,
    /// It waits for a lock, or may do so. `waits`: how often it has begun to wait so far. A thread that
    /// contends with others for a lock, as for that of a bus, is found at another wait soon.
    Locked { waits: u64 },
}

impl Hand {
    pub(super) fn of_this_thread() -> Self {
        let own = fs::read_link("/proc/thread-self");
        Self {
            summons: Condvar::new(),
            folder: own.ok().map(|own| PathBuf::from("/proc").join(own)),
        }
    }

    /// How it is. Where the system does not tell, a thread that takes its time waits.
    pub(super) fn look(&self) -> Found {
        let read = |name| {
            let folder = self.folder.as_ref()?;
            fs::read_to_string(folder.join(name)).ok()
        };
        found(read("syscall").as_deref(), || read("status")).unwrap_or(Found::Waiting)
    }
}

/// What `/proc/.../syscall` says, and `/proc/.../status` where that does not suffice: each takes some
/// microseconds to read. Some systems keep the former to themselves.
fn found(syscall: Option<&str>, status: impl FnOnce() -> Option<String>) -> Option<Found> {
    match syscall {
        Some(syscall) if syscall.starts_with("running") => return Some(Found::Busy),
        Some(syscall) if !may_be_for_a_lock(syscall) => return Some(Found::Waiting),
        _ => {}
    }
    let status = status()?;
    let field = |name| {
        let mut lines = status.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    if field("State:")?.starts_with('R') {
        return Some(Found::Busy);
    }
    let waits = field("voluntary_ctxt_switches:")?.parse().ok()?;
    Some(Found::Locked { waits })
}

/// Whether a thread in this system call may be waiting for a lock. The mutexes of GLib, glibc and Rust
/// wait in futex(2) for a word that is 2, "locked, and others wait". Condition variables wait there for
/// a number that counts, which is 2 at times. The lock of the process's memory is waited for in a page
/// fault, which is no system call (-1), and in what changes the map: many threads that begin at once do.
fn may_be_for_a_lock(syscall: &str) -> bool {
    const WAIT: u64 = 0;
    const WAIT_BITSET: u64 = 9;
    const OPERATION: u64 = 0x7f;
    const LOCKED_AND_OTHERS_WAIT: u64 = 2;

    let mut words = syscall.split_ascii_whitespace();
    let number = words.next().and_then(|number| number.parse().ok());
    if number.is_some_and(|number| OF_MEMORY.contains(&number)) {
        return true;
    }
    let mut arguments = words.map(|word| {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        u64::from_str_radix(digits, 16).ok()
    });
    if number != FUTEX {
        return false;
    }
    let (operation, word) = (arguments.nth(1).flatten(), arguments.next().flatten());
    match operation.map(|operation| operation & OPERATION) {
        Some(WAIT | WAIT_BITSET) => word.is_none_or(|word| word == LOCKED_AND_OTHERS_WAIT),
        _ => true,
    }
}

/// What stands in `/proc/.../syscall` of a thread that may wait for the process's memory.
#[cfg(target_os = "linux")]
const OF_MEMORY: [libc::c_long; 6] = [
    -1,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_clone3,
];
/// There is no `/proc/.../syscall`.
#[cfg(not(target_os = "linux"))]
const OF_MEMORY: [i64; 0] = [];

/// Its number in `/proc/.../syscall`.
#[cfg(target_os = "linux")]
const FUTEX: Option<libc::c_long> = Some(libc::SYS_futex);
/// There is no `/proc/.../syscall`.
#[cfg(not(target_os = "linux"))]
const FUTEX: Option<i64> = None;

/// At first.
const SHORTEST: Duration = Duration::from_millis(100);

/// What is needed more rarely than this is made anew each time.
const LONGEST: Duration = Duration::from_secs(5);

/// After so long without a new one it is as at first.
const CALM: Duration = Duration::from_secs(60);

/// How long one is kept.
#[derive(Debug)]
pub(super) struct Tenure {
    time: Duration,
    last_hired: Option<Instant>,
    /// When one went, if none was missed since.
    last_gone: Option<Instant>,
}

impl Tenure {
    pub(super) fn new() -> Self {
        Self {
            time: SHORTEST,
            last_hired: None,
            last_gone: None,
        }
    }

    /// For which one that is idle stays.
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// A new one had to be made.
    pub(super) fn on_hired(&mut self, now: Instant) {
        let is_within = |then: Option<Instant>, time| {
            then.is_some_and(|then| now.saturating_duration_since(then) < time)
        };
        if is_within(self.last_gone.take(), LONGEST) {
            self.time = (2 * self.time).min(LONGEST);
        } else if !is_within(self.last_hired, CALM) {
            self.time = SHORTEST;
        }
        self.last_hired = Some(now);
    }

    /// One has gone, because it was idle for so long.
    pub(super) fn on_gone(&mut self, now: Instant) {
        self.last_gone = Some(now);
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
        let found: Vec<_> = late.iter().map(|(turn, _)| (*turn, locked)).collect();
        let held_up = roll.on_found(now, &found, false);
        assert_eq!(held_up, 0, "it may have just begun to wait");
        roll.on_found(now + PATIENCE, &found, false)
    }

    /// The same in one look, if all are found like this.
    fn find(roll: &mut Roll, now: Instant, found: Found) -> usize {
        let late = roll.late(now);
        let is_any_busy = found == Found::Busy;
        let found: Vec<_> = late.iter().map(|(turn, _)| (*turn, found)).collect();
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

#[cfg(test)]
mod hand_tests {
    use std::{
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        thread,
    };

    use super::*;

    fn status(state: &str) -> String {
        format!(
            "Name:\trtspmux-feed\nState:\t{state}\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t3\n"
        )
    }

    #[test]
    fn the_state_and_the_waits_are_found_in_a_status() {
        let found = |status: &str| found(None, || Some(status.to_owned()));
        assert_eq!(found(&status("R (running)")), Some(Found::Busy));
        let locked = Some(Found::Locked { waits: 17 });
        assert_eq!(found(&status("S (sleeping)")), locked);
        assert_eq!(found(&status("D (disk sleep)")), locked);
        for cut in [
            "",
            "State:\tS (sleeping)\n",
            "voluntary_ctxt_switches:\t17\n",
        ] {
            assert_eq!(found(cut), None);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_wait_for_a_lock_is_told_from_other_waits_by_the_system_call() {
        let futex = libc::SYS_futex;
        let found_in = |syscall: &str| found(Some(syscall), || Some(status("S (sleeping)")));
        let locked = Some(Found::Locked { waits: 17 });
        for lock in ["0x80 0x2 0x0", "0x189 0x2 0x0", "0x86 0x0 0x0", "x y"] {
            let syscall = format!("{futex} 0x7f3010 {lock} 0x0 0x0 0x7ffe 0x7f30");
            assert_eq!(found_in(&syscall), locked, "{syscall}");
        }
        for condition in ["0x80 0x0 0x0", "0x189 0x7 0x0"] {
            let syscall = format!("{futex} 0x7f3010 {condition} 0x0 0x0 0x7ffe 0x7f30");
            assert_eq!(found_in(&syscall), Some(Found::Waiting), "{syscall}");
        }
        for memory in [-1, libc::SYS_mmap, libc::SYS_munmap] {
            let syscall = format!("{memory} 0x7ffe 0x7f30");
            assert_eq!(found_in(&syscall), locked, "{syscall}");
        }
        for other in ["230 0x1 0x0", ""] {
            assert_eq!(found_in(other), Some(Found::Waiting), "{other}");
        }
        assert_eq!(found_in("running\n"), Some(Found::Busy));
    }

    #[test]
    fn what_cannot_be_looked_at_waits() {
        let hand = Hand {
            folder: None,
            ..Hand::of_this_thread()
        };
        assert_eq!(hand.look(), Found::Waiting);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn one_that_is_busy_waits_for_a_lock_or_for_a_condition_is_told_from_the_others() {
        let (tell, told) = mpsc::channel();
        let is_enough = Arc::new(AtomicBool::new(false));
        let busy = thread::spawn({
            let (tell, is_enough) = (tell.clone(), Arc::clone(&is_enough));
            move || {
                tell.send(Hand::of_this_thread()).unwrap();
                while !is_enough.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        });
        let busy_one = told.recv().unwrap();
        // It may wait for memory or for the channel just then.
        while busy_one.look() != Found::Busy {
            thread::yield_now();
        }
        is_enough.store(true, Ordering::Relaxed);
        busy.join().unwrap();

        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let held = gate.0.lock().unwrap();
        let waiting = thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                tell.send(Hand::of_this_thread()).unwrap();
                let is_open = gate.0.lock().unwrap();
                let open = gate.1.wait_while(is_open, |is_open| !*is_open);
                drop(open);
            }
        });
        let waiting_one = told.recv().unwrap();
        // It is at the same wait twice only once it waits for the lock.
        let mut before = Found::Busy;
        loop {
            let now = waiting_one.look();
            if matches!(now, Found::Locked { .. }) && now == before {
                break;
            }
            before = now;
            thread::yield_now();
        }
        drop(held);
        while waiting_one.look() != Found::Waiting {
            thread::yield_now();
        }
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        waiting.join().unwrap();
    }
}

#[cfg(test)]
mod tenure_tests {
    use super::*;

    /// Ten are needed for a moment, and again each time `pause` has passed; gives for how long they
    /// were kept in each.
    fn kept(tenure: &mut Tenure, start: Instant, pause: Duration, times: u32) -> Vec<Duration> {
        let mut are_there = false;
        let each = |n| {
            let now = start + pause * n;
            if !are_there {
                (0..10).for_each(|_| tenure.on_hired(now));
            }
            are_there = tenure.time() >= pause;
            if !are_there {
                (0..10).for_each(|_| tenure.on_gone(now + tenure.time()));
            }
            tenure.time()
        };
        (0..times).map(each).collect()
    }

    #[test]
    fn those_that_are_missed_again_stay_for_longer() {
        let start = crate::rtspsrc::threads::timer::now();
        let second = Duration::from_secs(1);
        let mut tenure = Tenure::new();
        let kept_for = kept(&mut tenure, start, second, 600);
        let tenths: Vec<u128> = kept_for.iter().map(|time| time.as_millis() / 100).collect();
        assert_eq!(tenths[..5], [1, 2, 4, 8, 16]);
        assert!(tenths[5..].iter().all(|time| *time == 16), "as needed");

        let later = start + 1_000 * second;
        let kept_for = kept(&mut tenure, later, 10 * second, 3);
        assert_eq!(kept_for, [SHORTEST; 3], "too rarely to be kept");
    }
}
