//! The waits of a row of failures.

use std::time::{Duration, Instant};

/// The first try after a loss: at once, but not all clients of a server in the same millisecond.
const FIRST: Duration = Duration::from_millis(500);
/// The second.
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Then this often, for [`SHORT_OUTAGE`]: as long as a device takes to start again.
const SHORT: Duration = Duration::from_secs(2);
const SHORT_OUTAGE: Duration = Duration::from_secs(120);
/// Then this often, for [`LONG_OUTAGE`], and after that twice as long each time.
pub(super) const LONG: Duration = Duration::from_secs(5);
pub(super) const LONG_OUTAGE: Duration = Duration::from_secs(600);
/// Never longer than this.
const LONGEST: Duration = Duration::from_secs(30);
/// Waits are longer than that by up to a fifth, at random.
pub(super) const SPREAD: f64 = 0.2;
/// A server that does not even refuse costs a connect timeout, so it is tried less often: after
/// this, and up to [`ABSENT_SPREAD`] more.
const ABSENT: Duration = Duration::from_secs(2);
const ABSENT_SPREAD: Duration = Duration::from_secs(3);
/// A refusal comes in milliseconds, even from far away.
const REFUSAL: Duration = Duration::from_secs(1);

/// What an attempt to reach a server came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// The server refused, or a connection or session that it had accepted was lost.
    Refused,
    /// Nothing answered.
    Absent,
}

impl Setback {
    /// By how long the attempt took.
    pub(super) fn after(took: Duration) -> Self {
        if took < REFUSAL {
            Self::Refused
        } else {
            Self::Absent
        }
    }
}

/// The bounds that a session sets to its waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBounds {
    /// Never sooner after a failure.
    pub min: Duration,
    /// Never later, though never more than 30 tries a minute.
    pub max: Duration,
}

impl Default for RetryBounds {
    fn default() -> Self {
        Self {
            min: Duration::ZERO,
            max: LONGEST,
        }
    }
}

impl RetryBounds {
    /// `wait`, within the bounds. Where they contradict each other, the longer one holds.
    pub fn clamp(&self, wait: Duration) -> Duration {
        wait.min(self.max).max(self.min)
    }
}

/// The waits of a row of failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetrySchedule {
    /// When the row began, and how many there were.
    row: Option<(Instant, u32)>,
    /// Waits since they began to double.
    doubled: u32,
}

impl RetrySchedule {
    /// Failures in this row.
    pub fn failures(&self) -> u32 {
        self.row.map_or(0, |(_, failures)| failures)
    }

    /// The next failure is the first one again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// How long to wait after a failure at `now`; `chance` is drawn from 0 to 1.
    pub fn next(&mut self, now: Instant, setback: Setback, chance: f64) -> Duration {
        let chance = chance.clamp(0.0, 1.0);
        let (began, failures) = self.row.unwrap_or((now, 0));
        self.row = Some((began, failures.saturating_add(1)));
        let away = now.saturating_duration_since(began);
        let spread = |wait: Duration| wait.mul_f64(1.0 + SPREAD * chance);
        if failures == 0 {
            return FIRST.mul_f64(chance);
        }
        if away < SHORT_OUTAGE {
            return match setback {
                Setback::Absent => ABSENT + ABSENT_SPREAD.mul_f64(chance),
                Setback::Refused if failures == 1 => SECOND,
                Setback::Refused => spread(SHORT),
            };
        }
        if away < LONG_OUTAGE {
            return spread(LONG);
        }
        self.doubled = self.doubled.saturating_add(1);
        let doubled = LONG.saturating_mul(1 << self.doubled.min(8));
        spread(doubled).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    /// The waits of a server that refuses for so long.
    fn waits(setback: Setback, away: Duration, chance: f64) -> Vec<Duration> {
        let mut schedule = RetrySchedule::default();
        let start = Instant::now();
        let mut now = start;
        let mut waits = Vec::new();
        while now < start + away {
            let wait = schedule.next(now, setback, chance);
            waits.push(wait);
            now += wait.max(MS);
        }
        waits
    }

    #[test]
    fn a_refusal_is_tried_at_once_after_a_second_and_every_two() {
        let waits = waits(Setback::Refused, 10 * S, 0.5);
        assert_eq!(waits[..4], [250 * MS, S, 2200 * MS, 2200 * MS]);
    }

    #[test]
    fn waits_grow_with_the_outage_up_to_half_a_minute() {
        for chance in [0.0, 0.5, 1.0] {
            let waits = waits(Setback::Refused, 3600 * S, chance);
            assert!(waits.iter().all(|wait| *wait <= 30 * S));
            assert!(waits.contains(&LONG.mul_f64(1.0 + SPREAD * chance)));
            assert_eq!(waits.last(), Some(&(30 * S)));
            assert!(waits[2..].is_sorted());
        }
    }

    #[test]
    fn a_server_that_does_not_answer_is_asked_less_often() {
        assert_eq!(
            waits(Setback::Absent, 20 * S, 0.0)[..3],
            [Duration::ZERO, 2 * S, 2 * S]
        );
        assert_eq!(
            waits(Setback::Absent, 20 * S, 1.0)[..3],
            [500 * MS, 5 * S, 5 * S]
        );
    }
}
