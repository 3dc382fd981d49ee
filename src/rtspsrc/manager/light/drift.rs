//! How a sender's clock runs against ours.
//!
//! A packet's *delay* is its arrival less its sending, each by its own clock: a constant nobody knows,
//! the way through the network, and what the clocks have come apart. The way is never shorter than the
//! shortest, and over TCP often longer, by a burst or a stall; so the smallest delay of a while tells
//! the clocks apart from the network. Without this a camera whose crystal is off by 50 ppm would be
//! 4 s early or late after a day, and sinks would drop or wait; `rtspsrc` does not follow over TCP.

use std::time::Duration;

/// The smallest delay is looked for in pieces so long ...
const WINDOW: i64 = Duration::from_secs(10).as_nanos() as i64;
/// ... of which so many count: a connection that is full for less than their time changes nothing.
const WINDOWS: usize = 6;

/// The correction approaches what was measured by this part of the distance in a nanosecond: all but
/// a third of it in a minute, which nobody hears ...
const APPROACH: i64 = Duration::from_secs(60).as_nanos() as i64;
/// ... and in any case by one in so many: no crystal is off by more than 1000 ppm.
const SLEW: i64 = 1_000;

/// The clocks of one source and of the pipeline. All times in nanoseconds, from any origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drift {
    /// When the present window began; none before the first packet.
    window: Option<i64>,
    /// The smallest delay in the present window.
    lowest: i64,
    /// Those of the windows before.
    before: [Option<i64>; WINDOWS],
    /// That of the first one: what others are measured against. A source that begins with a burst is
    /// ahead of its time, and stays so.
    reference: Option<i64>,
    correction: i64,
    /// When the correction was moved last.
    moved: i64,
}

impl Drift {
    /// A packet that was `sent` by the sender's clock has come at `arrival` by ours. Gives what is to
    /// be added to the sender's time.
    pub(super) fn on_packet(&mut self, arrival: i64, sent: i64) -> i64 {
        let delay = arrival - sent;
        match self.window {
            None => {
                self.window = Some(arrival);
                self.lowest = delay;
            }
            Some(begin) if arrival - begin >= WINDOW => {
                self.before.rotate_right(1);
                self.before[0] = Some(self.lowest);
                self.reference.get_or_insert(self.lowest);
                self.window = Some(arrival);
                self.lowest = delay;
            }
            Some(_) => self.lowest = self.lowest.min(delay),
        }
        self.approach(arrival);
        self.correction
    }

    fn approach(&mut self, arrival: i64) {
        let passed = (arrival - self.moved).clamp(0, WINDOW);
        self.moved = arrival;
        let (Some(reference), Some(lowest)) = (self.reference, self.before.iter().flatten().min())
        else {
            return;
        };
        let distance = lowest - reference - self.correction;
        let part = i128::from(distance.unsigned_abs()) * i128::from(passed) / i128::from(APPROACH);
        let step = i64::try_from(part).unwrap_or(i64::MAX).max(passed / SLEW);
        self.correction += distance.clamp(-step, step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const S: i64 = 1_000 * MS;
    const DAY: i64 = 24 * 3600 * S;
    const FRAME: i64 = 40 * MS;

    /// What the correction is off after `time`, of a sender whose clock is fast by `ppm`.
    fn off(ppm: i64, time: i64, network: impl Fn(i64) -> i64) -> i64 {
        let mut drift = Drift::default();
        let mut off = 0;
        for number in 0..time / FRAME {
            let at = number * FRAME;
            let sent = at + at / 1_000_000 * ppm;
            off = at - sent - drift.on_packet(at + network(number), sent);
        }
        off
    }

    #[test]
    fn a_clock_that_is_off_is_followed_for_days() {
        // A window and what the correction is behind: 100 ppm are 6 ms in a minute.
        for ppm in [-100, -20, 0, 20, 100] {
            let off = off(ppm, 3 * DAY, |_| 0);
            assert!(off.abs() < 20 * MS, "{ppm} ppm: {off}");
        }
    }

    #[test]
    fn jitter_and_bursts_are_no_drift() {
        // Ten frames at a time, and up to 30 ms on top.
        let jitter = |number: i64| (9 - number % 10) * FRAME + number * 7_919 % 31 * MS;
        let off = off(0, 3_600 * S, jitter);
        assert!(off.abs() < 4 * MS, "{off}");
    }

    #[test]
    fn a_connection_that_is_full_for_half_a_minute_changes_nothing() {
        let full = |number: i64| match number * FRAME / S {
            100..130 => 800 * MS,
            _ => 0,
        };
        assert_eq!(off(0, 125 * S, full), 0);
        assert_eq!(off(0, 600 * S, full), 0);
    }

    #[test]
    fn what_begins_with_a_burst_stays_ahead() {
        // Two seconds at once, as a server sends that keeps the last pictures.
        let burst = |number: i64| -(number * FRAME).min(2 * S);
        assert_eq!(off(0, 600 * S, burst), 0);
    }

    #[test]
    fn a_sender_that_stood_still_is_followed_in_the_end() {
        let stood = |number: i64| if number > 1_000 { 5 * S } else { 0 };
        let off = off(0, 1_200 * S, stood);
        assert!((off + 5 * S).abs() < 10 * MS, "{off}");
    }

    #[test]
    fn times_go_on_while_the_correction_moves() {
        let mut drift = Drift::default();
        let mut last = i64::MIN;
        for number in 0..100_000 {
            let sent = number * FRAME;
            // The way becomes shorter by ten seconds.
            let way = if number > 500 { 0 } else { 10 * S };
            let time = sent + drift.on_packet(sent + way, sent);
            assert!(time > last, "{number}");
            last = time;
        }
    }
}
