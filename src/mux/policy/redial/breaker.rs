//! Whether a server is there, and which session finds out for all: a circuit breaker that is half
//! open while one session tries.
//!
//! The other sessions may try when that session gets further than those that failed: past the dial where a
//! connection that played was lost or no connection could be made; past SETUP where a set-up failed; and
//! where sessions ended right after PLAY, when media has come for a while. Otherwise a server that accepts
//! each session and drops it would get all of them again and again.

use std::time::{Duration, Instant};

use crate::mux::{ids::ConnectionId, proto::limits::with_defaults};

/// After so much time without a failure the next one is the first again.
const RECOVERED: Duration = Duration::from_secs(30);
/// How long a session that tries for all, is set up and gets no media holds up the others.
const LONGEST_PROBE: Duration = Duration::from_secs(30);

/// How far a session has to get before the others follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RedialStep {
    /// A connection.
    Dial,
    /// Its SETUPs were answered.
    SetUp,
    /// Media has come for a while.
    Media,
}

/// Whether a session may try; with the number of its try if it tries for all others. Else not before
/// this, or before something changes.
pub(crate) type DialAdmission = Result<Option<u64>, Instant>;

/// One session that tries for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HalfOpenProbe {
    number: u64,
    since: Instant,
}

/// The state of a server that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outage {
    /// When the last failure was seen, and how long to wait from then on.
    seen: Instant,
    wait: Duration,
    needs: RedialStep,
    /// The connection whose loss began the outage.
    lost: Option<ConnectionId>,
    probe: Option<HalfOpenProbe>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerPhase {
    /// The server is there as far as is known; since when, if it was away before.
    Up(Option<Instant>),
    Down(Outage),
}

impl Default for BreakerPhase {
    fn default() -> Self {
        Self::Up(None)
    }
}

/// One server: how often it failed in a row, and which session tries next.
///
/// Sessions report the end of a connection one by one; each connection counts once, and a loss that
/// is reported late, when a younger connection was made, does not count.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    phase: BreakerPhase,
    schedule: RetrySchedule,
    /// The youngest connection whose fate is known.
    judged: Option<ConnectionId>,
    last_probe: u64,
    /// How often, in this row of failures, sessions were let through after one had got past the dial.
    openings: u32,
}

impl Breaker {
    /// A connection could not be made. False if that was reported before.
    pub(super) fn on_dial_failed(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        chance: f64,
    ) -> bool {
        let (took, needs) = match self.phase {
            BreakerPhase::Down(outage) => {
                let since = outage.probe.map_or(now, |probe| probe.since);
                (now.saturating_duration_since(since), outage.needs)
            }
            BreakerPhase::Up(_) => (Duration::ZERO, RedialStep::Dial),
        };
        let is_news = self.is_news(connection);
        if is_news {
            self.fall(now, Setback::after(took), needs, None, chance);
        }
        is_news
    }

    /// A connection is gone on which sessions had played for a while.
    pub(super) fn on_lost(&mut self, now: Instant, connection: ConnectionId, chance: f64) {
        match &mut self.phase {
            // A session that had just begun reported the loss first.
            BreakerPhase::Down(outage) if outage.lost == Some(connection) => {
                outage.needs = RedialStep::Dial
            }
            BreakerPhase::Down(_) => {}
            // The outcome of a younger connection says more.
            BreakerPhase::Up(_) if self.judged.is_some_and(|judged| connection < judged) => {}
            BreakerPhase::Up(_) => {
                self.judged = Some(connection);
                self.fall(
                    now,
                    Setback::Refused,
                    RedialStep::Dial,
                    Some(connection),
                    chance,
                );
            }
        }
    }

    /// A session that began to be set up at `began`, and was over at `over`, has failed, and no other one
    /// of the server has media.
    pub(super) fn on_session_failed(
        &mut self,
        now: Instant,
        (began, over): (Instant, Instant),
        connection: Option<ConnectionId>,
        needs: RedialStep,
        chance: f64,
    ) {
        let is_late = connection.is_some_and(|id| self.judged.is_some_and(|judged| id < judged));
        match &mut self.phase {
            _ if is_late => {}
            BreakerPhase::Down(outage) if began >= outage.seen || outage.lost.is_none() => {
                outage.needs = outage.needs.max(needs);
            }
            BreakerPhase::Down(_) => {}
            // Another one has shown since that the server is there.
            BreakerPhase::Up(Some(since)) if over < *since => {}
            BreakerPhase::Up(_) => self.fall(now, Setback::Refused, needs, connection, chance),
        }
    }

    /// The session that was trying for all has ended without getting far enough.
    pub(super) fn on_probe_failed(
        &mut self,
        now: Instant,
        number: u64,
        needs: RedialStep,
        chance: f64,
    ) {
        if let BreakerPhase::Down(outage) = self.phase
            && outage.probe.is_some_and(|probe| probe.number == number)
        {
            let needs = outage.needs.max(needs);
            self.fall(now, Setback::Refused, needs, None, chance);
        }
    }

    /// A session got a connection: a new one, or while another was trying one that had survived.
    pub(super) fn on_reached(&mut self, now: Instant, connection: ConnectionId) {
        let BreakerPhase::Down(outage) = self.phase else {
            return;
        };
        if self.is_news(connection) || outage.probe.is_some() {
            self.on_progress(now, RedialStep::Dial);
        }
    }

    /// A session got so far. True if that lets others through.
    pub(super) fn on_progress(&mut self, now: Instant, reached: RedialStep) -> bool {
        let BreakerPhase::Down(outage) = self.phase else {
            return false;
        };
        let is_enough = outage.needs <= reached;
        if is_enough {
            self.phase = BreakerPhase::Up(Some(now));
            self.openings = self
                .openings
                .saturating_add(u32::from(outage.needs > RedialStep::Dial));
        }
        is_enough
    }

    /// Asks to try; the budget allows that from `due` on. For so long after that it lets others go first.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        bounds: RetryBounds,
        due: Option<Instant>,
        yields: Duration,
    ) -> DialAdmission {
        let BreakerPhase::Down(outage) = &mut self.phase else {
            return Ok(None);
        };
        // Another session tries, until then at most.
        let until = outage.probe.map(|probe| probe.since + LONGEST_PROBE);
        if let Some(until) = until.filter(|until| now < *until) {
            return Err(until);
        }
        let waited = outage.seen + bounds.clamp(outage.wait);
        // The turn is free since then: from then on others go first.
        let due = [due, until]
            .into_iter()
            .flatten()
            .fold(waited, Instant::max)
            + yields;
        if now < due {
            return Err(due);
        }
        self.last_probe += 1;
        outage.probe = Some(HalfOpenProbe {
            number: self.last_probe,
            since: now,
        });
        Ok(Some(self.last_probe))
    }

    /// The session that was to dial in this try went away before it did anything: the next one may.
    pub(super) fn on_probe_gone(&mut self, number: u64) {
        if let BreakerPhase::Down(outage) = &mut self.phase {
            outage.probe.take_if(|probe| probe.number == number);
        }
    }

    /// What the sessions have to get past, if the server is away.
    pub(super) fn needs(&self) -> Option<RedialStep> {
        match self.phase {
            BreakerPhase::Up(_) => None,
            BreakerPhase::Down(outage) => Some(outage.needs),
        }
    }

    /// Whether sessions were let through before in this row of failures, and failed again: then they
    /// have to keep to the budget.
    pub(super) fn is_flapping(&self) -> bool {
        self.openings > 1
    }

    /// Whether forgetting it changes nothing.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        let is_old = |since: Instant, age| now.saturating_duration_since(since) >= age;
        match self.phase {
            BreakerPhase::Up(since) => since.is_none_or(|since| is_old(since, RECOVERED)),
            // The sessions that waited have gone; longer than this none waits.
            BreakerPhase::Down(outage) => is_old(outage.seen, LONG_OUTAGE),
        }
    }

    fn is_news(&mut self, connection: ConnectionId) -> bool {
        let is_news = self.judged.is_none_or(|judged| connection > judged);
        if is_news {
            self.judged = Some(connection);
        }
        is_news
    }

    fn fall(
        &mut self,
        now: Instant,
        setback: Setback,
        needs: RedialStep,
        lost: Option<ConnectionId>,
        chance: f64,
    ) {
        if let BreakerPhase::Up(Some(since)) = self.phase
            && now.saturating_duration_since(since) >= RECOVERED
        {
            self.schedule.reset();
            self.openings = 0;
        }
        let wait = self.schedule.next(now, setback, chance);
        self.phase = BreakerPhase::Down(Outage {
            seen: now,
            wait,
            needs,
            lost,
            probe: None,
        });
    }
}

// The waits of a row of failures.

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
/// A server that does not even refuse costs a connect timeout, so it is tried less often: after
/// this, and up to [`ABSENT_SPREAD`] more.
const ABSENT: Duration = Duration::from_secs(2);
const ABSENT_SPREAD: Duration = Duration::from_secs(3);
/// A refusal comes in milliseconds, even from far away.
const REFUSAL: Duration = Duration::from_secs(1);

/// What an attempt to reach a server came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setback {
    /// The server refused, or a connection or session that it had accepted was lost.
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

with_defaults! {
    /// The bounds that a session sets to its waits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RetryBounds {
        /// Never sooner after a failure.
        pub min: Duration = Duration::ZERO,
        /// Never later, though never more than 30 tries a minute.
        pub max: Duration = LONGEST,
    }
}

impl RetryBounds {
    /// `wait`, within the bounds. Where they contradict each other, the longer one holds.
    pub fn clamp(&self, wait: Duration) -> Duration {
        wait.min(self.max).max(self.min)
    }

    /// The same, with no wait longer than `limit`.
    #[cfg(feature = "plugin")]
    pub(crate) fn at_most(self, limit: Duration) -> Self {
        Self {
            min: self.min.min(limit),
            max: self.max.min(limit),
        }
    }
}

/// The waits of a row of failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RetrySchedule {
    /// When the row began, and how many there were.
    row: Option<(Instant, u32)>,
    /// Waits since they began to double.
    doubled: u32,
}

impl RetrySchedule {
    /// Failures in this row.
    pub(super) fn failures(&self) -> u32 {
        self.row.map_or(0, |(_, failures)| failures)
    }

    /// The next failure is the first one again.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// How long to wait after a failure at `now`; `chance` is drawn from 0 to 1.
    pub(super) fn next(&mut self, now: Instant, setback: Setback, chance: f64) -> Duration {
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
mod tests;
