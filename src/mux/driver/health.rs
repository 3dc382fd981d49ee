//! Samples the health of a connection once in a period, while its sessions play.
//!
//! The driver samples only after a read, so a silent connection costs nothing.

use std::time::{Duration, Instant};

use super::{sessions::Sessions, transport::Transport};
use crate::mux::{delivery::Budget, health::HealthSample, proto::Measures};

/// How often a connection is sampled.
const PERIOD: Duration = Duration::from_secs(2);

/// Up to this many bytes waiting for consumers are usual. Beyond it packets may be late because of
/// our consumers, not because of the network.
const BEHIND: usize = 4 * 1024 * 1024;

/// Takes samples of one connection.
#[derive(Debug, Default)]
pub(super) struct HealthSampler {
    next: Option<Instant>,
    /// The count at the last sample.
    bytes: u64,
    answers: u64,
    out_of_order: u32,
    since: Option<Instant>,
}

impl HealthSampler {
    /// Takes a sample, if it is time to.
    pub(super) fn sample(
        &mut self,
        now: Instant,
        bytes: u64,
        measures: impl FnOnce() -> Measures,
        budget: &Budget,
        (sessions, transport): (&mut Sessions, &Transport),
    ) -> Option<HealthSample> {
        if !self.is_due(now) {
            return None;
        }
        let since = self.since.replace(now);
        let path = transport.path_info();
        let out_of_order = path.map_or(0, |path| path.out_of_order);
        let measures = measures();
        let is_answered = measures.lone_answers != self.answers;
        let mut sample = HealthSample {
            time: since.map_or_else(Default::default, |since| {
                now.saturating_duration_since(since)
            }),
            bytes: bytes.saturating_sub(self.bytes),
            answer: measures.last_answer.filter(|_| is_answered),
            round_trip: measures.round_trip,
            out_of_order: out_of_order.wrapping_sub(self.out_of_order),
            path,
            is_behind: budget.used() > BEHIND,
            ..HealthSample::default()
        };
        sessions.take_losses(&mut sample);
        (self.bytes, self.answers, self.out_of_order) =
            (bytes, measures.lone_answers, out_of_order);
        // The first period has no start, so its sample is dropped.
        since.map(|_| sample)
    }

    /// True once in a period; then the next period begins.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next.is_some_and(|at| now >= at);
        if is_due || self.next.is_none() {
            self.next = Some(now + PERIOD);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_due_once_in_a_period() {
        let (start, mut sampler) = (Instant::now(), HealthSampler::default());
        assert!(!sampler.is_due(start));
        assert!(!sampler.is_due(start + PERIOD / 2));
        assert!(sampler.is_due(start + PERIOD));
        assert!(!sampler.is_due(start + PERIOD));
    }
}
