//! The connection's own timers. Response deadlines live with the requests, keep-alives with the
//! sessions.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// When to give up a connection without references.
    Idle,
    /// When to stop waiting for the answers to our last TEARDOWNs.
    Closing,
    /// When to check that bytes have arrived lately, and probe or give up the server.
    Silence,
    /// When to stop searching for the lost framing.
    Resync,
    /// When to give up a peer that does not read our requests.
    WriteStall,
}

impl Timer {
    const ALL: [Self; 5] = [
        Self::Idle,
        Self::Closing,
        Self::Silence,
        Self::Resync,
        Self::WriteStall,
    ];
}

#[derive(Debug, Default)]
pub(crate) struct TimerTable([Option<Instant>; Timer::ALL.len()]);

impl TimerTable {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// Moves a timer forward by `by`, but not before `now`.
    pub(crate) fn hasten(&mut self, timer: Timer, now: Instant, by: Duration) {
        if let Some(at) = &mut self.0[timer as usize] {
            *at = at.checked_sub(by).unwrap_or(now).max(now);
        }
    }

    /// Takes one timer that is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let due = |timer: &Timer| self.0[*timer as usize].is_some_and(|at| at <= now);
        let timer = Timer::ALL.into_iter().find(due)?;
        self.clear(timer);
        Some(timer)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_once_and_the_earliest_is_next() {
        let (mut timers, now) = (TimerTable::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        timers.set(Timer::Closing, later);
        timers.set(Timer::Idle, now);
        assert_eq!(timers.next(), Some(now));
        assert_eq!(timers.take_due(now), Some(Timer::Idle));
        assert_eq!(timers.take_due(now), None);
        assert_eq!(timers.next(), Some(later));
        timers.clear(Timer::Closing);
        assert_eq!(timers.take_due(later), None);
    }

    #[test]
    fn a_timer_is_hastened_to_now_at_most_and_only_if_it_is_set() {
        let (mut timers, now) = (TimerTable::default(), Instant::now());
        let second = Duration::from_secs(1);
        timers.hasten(Timer::Idle, now, second);
        assert_eq!(timers.next(), None);
        timers.set(Timer::Idle, now + 60 * second);
        timers.hasten(Timer::Idle, now, second);
        assert_eq!(timers.next(), Some(now + 59 * second));
        timers.hasten(Timer::Idle, now, Duration::MAX);
        assert_eq!(timers.next(), Some(now));
    }
}
