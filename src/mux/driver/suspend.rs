//! Notices that the machine was asleep.
//!
//! The clock of timers and deadlines stands still in a suspended machine (CLOCK_MONOTONIC; so do tokio's
//! timers). Another one does not (CLOCK_BOOTTIME): what it gains on the first was slept through. Steps
//! of the wall clock move neither.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::mux::network::Network;

/// Time between two looks: how long after waking up it is noticed.
const PERIOD: Duration = Duration::from_secs(2);
/// What no two looks at two clocks differ by on a machine that was awake.
const SHORTEST: Duration = Duration::from_secs(1);

/// How far one driver has kept up with the sleep of its machine.
#[derive(Debug)]
pub(super) struct SuspendDetector {
    network: Option<Arc<dyn Network>>,
    suspended_in_all: Duration,
    looked: Instant,
}

impl SuspendDetector {
    /// From `now` on; a `network` says itself for how long its machine has slept.
    pub(super) fn new(now: Instant, network: Option<Arc<dyn Network>>) -> Self {
        let mut watch = Self {
            network,
            suspended_in_all: Duration::ZERO,
            looked: now,
        };
        watch.suspended_in_all = watch.time_asleep();
        watch
    }

    /// For how long the machine has slept since the last look.
    pub(super) fn look(&mut self, now: Instant) -> Option<Duration> {
        self.looked = now;
        let suspended_in_all = self.time_asleep();
        let suspended = suspended_in_all.saturating_sub(self.suspended_in_all);
        (suspended >= SHORTEST).then(|| {
            self.suspended_in_all = suspended_in_all;
            suspended
        })
    }

    /// When to look next.
    pub(super) fn next_look(&self) -> Instant {
        self.looked + PERIOD
    }

    /// Since the machine was started, all sleeps together.
    fn time_asleep(&self) -> Duration {
        match &self.network {
            Some(network) => network.time_asleep(),
            None => of_this_machine(),
        }
    }
}

#[cfg(target_os = "linux")]
fn of_this_machine() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    // In this order: what passes between the two must not look like sleep.
    let with_sleep = read(ClockId::Boottime);
    with_sleep.saturating_sub(read(ClockId::Monotonic))
}

/// Elsewhere a connection that is gone is found by its silence.
#[cfg(not(target_os = "linux"))]
fn of_this_machine() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::mux::network::Connecting;

    const S: Duration = Duration::from_secs(1);

    /// Seconds that a machine has slept.
    #[derive(Debug, Default)]
    struct Sleeper(AtomicU64);

    impl Network for Sleeper {
        fn connect(&self, _: &str, _: u16) -> Connecting {
            unreachable!()
        }

        fn seed(&self) -> u128 {
            0
        }

        fn time_asleep(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_sleep_is_told_once_and_those_before_are_not() {
        let (now, machine) = (crate::mux::clock::now(), Arc::new(Sleeper::default()));
        machine.0.store(100, Ordering::Relaxed);
        let mut watch = SuspendDetector::new(now, Some(machine.clone()));
        assert_eq!(watch.look(now), None);
        machine.0.store(3_700, Ordering::Relaxed);
        assert_eq!(watch.look(now + S), Some(3_600 * S));
        assert_eq!(watch.look(now + 2 * S), None);
        assert_eq!(watch.next_look(), now + 2 * S + PERIOD);
    }

    #[test]
    fn a_machine_that_runs_is_not_taken_for_suspended() {
        let now = crate::mux::clock::now();
        let mut watch = SuspendDetector::new(now, None);
        for _ in 0..1_000 {
            assert_eq!(watch.look(now), None);
        }
    }
}
