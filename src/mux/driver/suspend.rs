//! Detects that the machine was suspended.
//!
//! The clock of timers and deadlines stands still while a machine is suspended (CLOCK_MONOTONIC,
//! which tokio's timers use too). CLOCK_BOOTTIME goes on: the difference of the two grows by the
//! time of the suspend. Steps of the wall clock change neither.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::mux::network::Network;

/// Time between two checks: a suspend is detected at most this long after the machine resumes.
const PERIOD: Duration = Duration::from_secs(2);
/// A smaller difference between two checks may be due to the reading of the clocks.
const SHORTEST: Duration = Duration::from_secs(1);

/// The state of the detector of one driver.
#[derive(Debug)]
pub(super) struct SuspendDetector {
    network: Option<Arc<dyn Network>>,
    suspended: Duration,
    looked: Instant,
}

impl SuspendDetector {
    /// Counts from `now`. A `network` says by itself for how long its machine was suspended.
    pub(super) fn new(now: Instant, network: Option<Arc<dyn Network>>) -> Self {
        Self {
            suspended: time_suspended(network.as_deref()),
            network,
            looked: now,
        }
    }

    /// For how long the machine was suspended since the last check.
    pub(super) fn look(&mut self, now: Instant) -> Option<Duration> {
        self.looked = now;
        let suspended = time_suspended(self.network.as_deref());
        let gained = suspended.saturating_sub(self.suspended);
        (gained >= SHORTEST).then(|| {
            self.suspended = suspended;
            gained
        })
    }

    /// When to check next.
    pub(super) fn next_look(&self) -> Instant {
        self.looked + PERIOD
    }
}

/// The time of all suspends since the machine was started.
fn time_suspended(network: Option<&dyn Network>) -> Duration {
    network.map_or_else(of_this_machine, Network::time_suspended)
}

#[cfg(target_os = "linux")]
fn of_this_machine() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    // In this order, so that time that passes between the two reads does not look like a suspend.
    let with_sleep = read(ClockId::Boottime);
    with_sleep.saturating_sub(read(ClockId::Monotonic))
}

/// On other systems a dead connection is detected by its silence.
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

    /// Seconds for which the machine was suspended.
    #[derive(Debug, Default)]
    struct Sleeper(AtomicU64);

    impl Network for Sleeper {
        fn connect(&self, _: &str, _: u16) -> Connecting {
            unreachable!()
        }

        fn seed(&self) -> u128 {
            0
        }

        fn time_suspended(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_sleep_is_told_once_and_those_before_are_not() {
        let (now, machine) = (crate::mux::clock::now(), Arc::new(Sleeper::default()));
        machine.0.store(100, Ordering::Relaxed);
        let mut detector = SuspendDetector::new(now, Some(machine.clone()));
        assert_eq!(detector.look(now), None);
        machine.0.store(3_700, Ordering::Relaxed);
        assert_eq!(detector.look(now + S), Some(3_600 * S));
        assert_eq!(detector.look(now + 2 * S), None);
        assert_eq!(detector.next_look(), now + 2 * S + PERIOD);
    }

    #[test]
    fn a_machine_that_runs_is_not_taken_for_suspended() {
        let now = crate::mux::clock::now();
        let mut detector = SuspendDetector::new(now, None);
        for _ in 0..1_000 {
            assert_eq!(detector.look(now), None);
        }
    }
}
