//! When to try again: the waits after a failure, and who may dial a server that was lost.
//!
//! Cameras and recorders come back minutes after a loss of power, and all clients of a server lose it
//! in the same moment. So waits grow with the time the server is away, are drawn at random, and one
//! session dials for all: [`Backoff`] is the state of one server. Pure: time and chance are passed in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::connection_pool::ConnectionId;

/// The first try after a loss: at once, but not all clients of a server in the same millisecond.
const FIRST: Duration = Duration::from_millis(500);
/// The second.
const SECOND: Duration = Duration::from_secs(1);
/// Then this often, for [`SHORT_OUTAGE`]: as long as a device takes to start again.
const SHORT: Duration = Duration::from_secs(2);
const SHORT_OUTAGE: Duration = Duration::from_secs(120);
/// Then this often, for [`LONG_OUTAGE`], and after that twice as long each time.
const LONG: Duration = Duration::from_secs(5);
const LONG_OUTAGE: Duration = Duration::from_secs(600);
/// Never longer than this.
const LONGEST: Duration = Duration::from_secs(30);
/// Waits are longer than that by up to a fifth, at random.
const SPREAD: f64 = 0.2;
/// Who does not even refuse costs a connect timeout, so less often will do: this, and up to
/// [`ABSENT_SPREAD`] more.
const ABSENT: Duration = Duration::from_secs(2);
const ABSENT_SPREAD: Duration = Duration::from_secs(3);
/// A refusal comes in milliseconds, even from far away.
const REFUSAL: Duration = Duration::from_secs(1);
/// After so much time without a failure the next one is the first again.
pub(super) const RECOVERED: Duration = Duration::from_secs(30);
/// Tries in any minute, whatever the waits are (fault F01).
const TRIES: usize = 30;
const TRIES_WITHIN: Duration = Duration::from_secs(60);

/// What an attempt to reach a server came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// The server said no, or what it had given was lost.
    Refused,
    /// Nothing answered.
    Absent,
}

impl Setback {
    /// By how long the attempt took.
    fn after(took: Duration) -> Self {
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

/// Who may dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Everybody: the server is there, as far as is known.
    Free,
    /// The one who asked, for all others; the number is that of the try.
    Scout(u64),
    /// Nobody before this.
    NotBefore(Instant),
    /// Somebody does.
    Behind,
}

/// Whether the server is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// As far as is known; since when, if it was away before.
    Up(Option<Instant>),
    /// It is not: when that was seen, how long to wait from then on, and who dials since when.
    Down {
        seen: Instant,
        wait: Duration,
        scout: Option<(u64, Instant)>,
    },
}

/// One server: how often it failed in a row, and who dials next.
///
/// Sessions report a connection's fate one by one; each connection counts once, and a loss that is
/// reported late, when a younger connection was made, does not count.
#[derive(Debug)]
pub(super) struct Backoff {
    phase: Phase,
    schedule: RetrySchedule,
    /// The youngest connection whose fate is known.
    judged: Option<ConnectionId>,
    /// When the last ones were dialled.
    tries: VecDeque<Instant>,
    last_try: u64,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Up(None),
            schedule: RetrySchedule::default(),
            judged: None,
            tries: VecDeque::new(),
            last_try: 0,
        }
    }

    /// A connection could not be made. False if that was known.
    pub(super) fn on_failed(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        chance: f64,
    ) -> bool {
        let took = match self.phase {
            Phase::Down {
                scout: Some((_, since)),
                ..
            } => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        };
        let is_news = self.is_news(connection);
        if is_news {
            self.fall(now, Setback::after(took), chance);
        }
        is_news
    }

    /// A connection that sessions used is gone.
    pub(super) fn on_lost(&mut self, now: Instant, connection: ConnectionId, chance: f64) {
        let Phase::Up(since) = self.phase else {
            return;
        };
        // What is known of a younger one says more.
        if self.judged.is_some_and(|judged| connection < judged) {
            return;
        }
        self.judged = Some(connection);
        if since.is_some_and(|since| now.saturating_duration_since(since) >= RECOVERED) {
            self.schedule.reset();
        }
        self.fall(now, Setback::Refused, chance);
    }

    /// Somebody got a connection: a new one, or while the scout was under way one that had survived.
    pub(super) fn on_reached(&mut self, now: Instant, connection: ConnectionId) {
        let Phase::Down { scout, .. } = self.phase else {
            return;
        };
        if self.is_news(connection) || scout.is_some() {
            self.phase = Phase::Up(Some(now));
        }
    }

    /// Asks to dial.
    pub(super) fn admit(&mut self, now: Instant, bounds: RetryBounds) -> Admission {
        let Phase::Down { seen, wait, scout } = &mut self.phase else {
            return Admission::Free;
        };
        if scout.is_some() {
            return Admission::Behind;
        }
        let budget = self
            .tries
            .front()
            .filter(|_| self.tries.len() >= TRIES)
            .map(|first| *first + TRIES_WITHIN);
        let due = (*seen + bounds.clamp(*wait)).max(budget.unwrap_or(*seen));
        if now < due {
            return Admission::NotBefore(due);
        }
        self.last_try += 1;
        *scout = Some((self.last_try, now));
        if self.tries.len() >= TRIES {
            self.tries.pop_front();
        }
        self.tries.push_back(now);
        Admission::Scout(self.last_try)
    }

    /// Who was to dial in this try went away before it came to anything: the next one may.
    pub(super) fn on_scout_gone(&mut self, number: u64) {
        if let Phase::Down { scout, .. } = &mut self.phase {
            scout.take_if(|(current, _)| *current == number);
        }
    }

    /// Whether forgetting it changes nothing.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Up(since) => {
                since.is_none_or(|since| now.saturating_duration_since(since) >= RECOVERED)
            }
            // Whoever waited has gone; longer than this nobody waits.
            Phase::Down { seen, .. } => now.saturating_duration_since(seen) >= LONG_OUTAGE,
        }
    }

    fn is_news(&mut self, connection: ConnectionId) -> bool {
        let is_news = self.judged.is_none_or(|judged| connection > judged);
        if is_news {
            self.judged = Some(connection);
        }
        is_news
    }

    fn fall(&mut self, now: Instant, setback: Setback, chance: f64) {
        let wait = self.schedule.next(now, setback, chance);
        self.phase = Phase::Down {
            seen: now,
            wait,
            scout: None,
        };
    }
}

#[cfg(test)]
mod tests;
