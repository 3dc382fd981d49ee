//! How long idle threads are kept. Pure: the time is passed in.
//!
//! Many are needed at once mostly for a moment: when all sinks of a pipeline wait for each other to
//! begin. Making a thread takes some ten microseconds, so those left over go soon; but where they are
//! missed again, the next ones stay for longer.

use std::time::{Duration, Instant};

/// At first.
const SHORTEST: Duration = Duration::from_millis(100);

/// What is needed more rarely than this is made anew each time.
const LONGEST: Duration = Duration::from_secs(5);

/// After so long without a new one it is as at first.
const CALM: Duration = Duration::from_secs(60);

/// How long one is kept.
#[derive(Debug)]
pub(super) struct IdleTimeout {
    time: Duration,
    last_started: Option<Instant>,
    /// When one went, if none was missed since.
    last_gone: Option<Instant>,
}

impl IdleTimeout {
    pub(super) fn new() -> Self {
        Self {
            time: SHORTEST,
            last_started: None,
            last_gone: None,
        }
    }

    /// For which one that is idle stays.
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// A new one had to be made.
    pub(super) fn on_started(&mut self, now: Instant) {
        let is_within = |then: Option<Instant>, time| {
            then.is_some_and(|then| now.saturating_duration_since(then) < time)
        };
        if is_within(self.last_gone.take(), LONGEST) {
            self.time = (2 * self.time).min(LONGEST);
        } else if !is_within(self.last_started, CALM) {
            self.time = SHORTEST;
        }
        self.last_started = Some(now);
    }

    /// One has gone, because it was idle for so long.
    pub(super) fn on_gone(&mut self, now: Instant) {
        self.last_gone = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten are needed for a moment, and again each time `pause` has passed; gives for how long they
    /// were kept in each.
    fn kept(
        idle_timeout: &mut IdleTimeout,
        start: Instant,
        pause: Duration,
        times: u32,
    ) -> Vec<Duration> {
        let mut are_there = false;
        let each = |n| {
            let now = start + pause * n;
            if !are_there {
                (0..10).for_each(|_| idle_timeout.on_started(now));
            }
            are_there = idle_timeout.time() >= pause;
            if !are_there {
                (0..10).for_each(|_| idle_timeout.on_gone(now + idle_timeout.time()));
            }
            idle_timeout.time()
        };
        (0..times).map(each).collect()
    }

    #[test]
    fn those_that_are_missed_again_stay_for_longer() {
        let start = crate::rtspsrc::threads::timer::now();
        let second = Duration::from_secs(1);
        let mut idle_timeout = IdleTimeout::new();
        let kept_for = kept(&mut idle_timeout, start, second, 600);
        let tenths: Vec<u128> = kept_for.iter().map(|time| time.as_millis() / 100).collect();
        assert_eq!(tenths[..5], [1, 2, 4, 8, 16]);
        assert!(tenths[5..].iter().all(|time| *time == 16), "as needed");

        let later = start + 1_000 * second;
        let kept_for = kept(&mut idle_timeout, later, 10 * second, 3);
        assert_eq!(kept_for, [SHORTEST; 3], "too rarely to be kept");
    }
}
