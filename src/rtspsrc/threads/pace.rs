//! How long the turns of a task take, and where it may run therefore. Pure: the time is passed in.
//!
//! A task is quick while its turns take at most [`QUICK`] on average. While it is quick for long enough
//! the thread that reads runs it; before that, and where it is slow, a worker does.
//!
//! On a busy machine other programs make turns long. So where a task that was quick takes longer, its
//! next turns are checked: for how long they had a processor, or waited for something else than one.

use std::time::{Duration, Instant};

/// The longest turn of a quick task, on average. The tasks of 64 streams are then done within a few
/// passes, and a decoder that runs in a push (`rtph264depay ! avdec_h264` without a queue) is not one
/// of them.
pub(super) const QUICK: Duration = Duration::from_millis(1);

/// For how long a new task has to be quick. Sinks wait for each other, and decoders are opened, when
/// the first packets come.
const FIRST_TRIAL: Duration = Duration::from_secs(1);

/// For how long one that was slow has to be quick.
const TRIAL: Duration = Duration::from_secs(10);

/// One turn counts as much as the last eight did before it.
const WEIGHT: u32 = 8;

/// So many turns are checked.
const CHECKED: u32 = 8;

/// The turns of one task.
#[derive(Debug)]
pub(super) struct Pace {
    average: Duration,
    /// None while it is slow.
    quick_since: Option<Instant>,
    trial: Duration,
    check: Option<Check>,
}

/// What the turns that were checked have taken.
#[derive(Clone, Copy, Debug, Default)]
struct Check {
    turns: u32,
    sum: Duration,
}

/// What one turn has taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnCost {
    pub(super) elapsed: Duration,
    /// Without the time for which the thread was ready to run, and had no processor; if it was checked.
    pub(super) own: Option<Duration>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            average: Duration::ZERO,
            quick_since: None,
            trial: FIRST_TRIAL,
            check: None,
        }
    }

    /// Whether the next turn is to be checked.
    pub(super) fn is_checked(&self) -> bool {
        self.check.is_some()
    }

    /// A turn is over. Returns whether the thread that reads may run the next one.
    pub(super) fn on_turn(&mut self, now: Instant, cost: TurnCost) -> bool {
        self.average = (self.average * (WEIGHT - 1) + cost.elapsed) / WEIGHT;
        if let Some(mut check) = self.check.take() {
            check.turns += 1;
            check.sum += cost.own.unwrap_or(cost.elapsed);
            if check.turns < CHECKED {
                self.check = Some(check);
            } else {
                self.average = check.sum / check.turns;
                if self.average > QUICK {
                    self.on_held_up();
                }
            }
        } else if self.average > QUICK {
            self.check = self.quick_since.map(|_| Check::default());
        } else {
            self.quick_since.get_or_insert(now);
        }
        let is_long = |since| now.saturating_duration_since(since) >= self.trial;
        self.quick_since.is_some_and(is_long)
    }

    /// It was found to hold up its thread, or is slow.
    pub(super) fn on_held_up(&mut self) {
        self.quick_since = None;
        self.check = None;
        self.trial = TRIAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn now() -> Instant {
        static START: std::sync::LazyLock<Instant> =
            std::sync::LazyLock::new(crate::rtspsrc::threads::timer::now);
        *START
    }

    fn taking(elapsed: Duration, own: Duration) -> TurnCost {
        let own = Some(own);
        TurnCost { elapsed, own }
    }

    /// Turns that take so long each, one each 10 ms; when the first one may be the reader's.
    fn quick_after(pace: &mut Pace, start: Instant, took: Duration) -> Option<Duration> {
        let mut passed = (1..2_000).map(|n| 10 * MS * n);
        passed.find(|&passed| pace.on_turn(start + passed, taking(took, took)))
    }

    #[test]
    fn a_new_task_is_quick_after_a_second_and_one_that_was_slow_after_ten() {
        let mut pace = Pace::new();
        assert_eq!(quick_after(&mut pace, now(), MS / 10), Some(1_010 * MS));
        pace.on_held_up();
        let later = now() + 100 * 1_000 * MS;
        assert_eq!(quick_after(&mut pace, later, MS / 10), Some(10_010 * MS));
    }

    #[test]
    fn turns_that_take_long_are_never_the_readers() {
        let mut pace = Pace::new();
        assert_eq!(quick_after(&mut pace, now(), 3 * MS / 2), None);
    }

    #[test]
    fn what_decodes_or_waits_in_its_pushes_leaves_the_reader() {
        let mut pace = Pace::new();
        quick_after(&mut pace, now(), MS / 10);
        let later = now() + 2_000 * MS;
        let stays = (0..40).take_while(|_| pace.on_turn(later, taking(5 * MS, 4 * MS)));
        assert!(stays.count() <= 12);
        let back = quick_after(&mut pace, later, MS / 10).unwrap();
        assert!(back > TRIAL && back < TRIAL + 200 * MS, "{back:?}");
    }

    #[test]
    fn what_waits_for_a_processor_stays_with_the_reader() {
        let mut pace = Pace::new();
        quick_after(&mut pace, now(), MS / 10);
        let later = now() + 2_000 * MS;
        assert!((0..100).all(|_| pace.on_turn(later, taking(20 * MS, MS / 10))));
    }

    #[test]
    fn one_long_turn_among_many_is_no_reason() {
        let mut pace = Pace::new();
        quick_after(&mut pace, now(), MS / 10);
        let later = now() + 2_000 * MS;
        assert!(pace.on_turn(later, taking(7 * MS, 7 * MS)));
        assert!(!pace.is_checked());
    }
}
