//! Estimates how the sender's clock drifts against the pipeline's clock.
//!
//! A packet's *delay* is its arrival minus its sending, each by its own clock. It is the sum of an
//! unknown constant, the time on the network, and the drift of the clocks. The time on the network has a
//! minimum, and over TCP it is often longer because of a burst or a stall; so the smallest delay within a
//! window shows the drift without the network. Without this a camera whose crystal is off by 50 ppm would
//! be 4 s early or late after a day, and one that begins with a burst would stay late.
//!
//! The filter is that of GStreamer's `rtpjitterbuffer` (mode `slave`), after Fober, Orlarey and Letz,
//! "Real time clock skew estimation over network delays" (2005), so that recordings and sinks see the
//! same times from both managers.

use std::time::Duration;

/// The window for the smallest delay: so much media, by the sender's clock, ...
const WINDOW: i64 = Duration::from_secs(2).as_nanos() as i64;
/// ... or so many packets of different times.
const MAX_DELAYS: usize = 512;

/// The estimate follows a change by one part in so many with each packet.
const SLOWNESS: i64 = 125;

/// The drift of one source. All times in nanoseconds since the source's origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Skew {
    /// The last delays; a ring when the window is full.
    delays: Vec<i64>,
    is_full: bool,
    /// The position of the next delay in the ring.
    next: usize,
    smallest: i64,
    skew: i64,
}

impl Skew {
    /// A packet was `sent` by the sender's clock and came at `arrival` by the pipeline's. Returns what to
    /// add to the sender's time.
    pub(super) fn on_packet(&mut self, arrival: i64, sent: i64) -> i64 {
        let delay = arrival - sent;
        if self.is_full {
            self.replace(delay);
            self.skew = (self.smallest + (SLOWNESS - 1) * self.skew) / SLOWNESS;
        } else {
            self.fill(delay, sent);
        }
        self.skew
    }

    /// What to add to the sender's time at present.
    pub(super) fn now(&self) -> i64 {
        self.skew
    }

    /// While the window fills, the smallest delay counts the more the fuller it is.
    fn fill(&mut self, delay: i64, sent: i64) {
        self.smallest = match self.delays.is_empty() {
            true => delay,
            false => self.smallest.min(delay),
        };
        self.delays.push(delay);
        if sent >= WINDOW || self.delays.len() >= MAX_DELAYS {
            self.is_full = true;
            self.skew = self.smallest;
            return;
        }
        let by_time = sent.saturating_mul(100) / WINDOW;
        let by_count = (self.delays.len() * 100 / MAX_DELAYS) as i64;
        let weight = by_time.max(by_count).pow(2);
        self.skew = (weight * self.smallest + (10_000 - weight) * self.skew) / 10_000;
    }

    fn replace(&mut self, delay: i64) {
        let old = std::mem::replace(&mut self.delays[self.next], delay);
        self.next = (self.next + 1) % self.delays.len();
        if delay <= self.smallest {
            self.smallest = delay;
        } else if old == self.smallest {
            self.smallest = self.delays.iter().copied().min().unwrap_or(delay);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const S: i64 = 1_000 * MS;
    const DAY: i64 = 24 * 3600 * S;
    const FRAME: i64 = 40 * MS;

    /// How early times are at the end of `time`, of a sender whose clock is fast by `ppm`.
    fn early(ppm: i64, time: i64, network: impl Fn(i64) -> i64) -> i64 {
        let mut skew = Skew::default();
        let mut early = 0;
        for number in 0..time / FRAME {
            let at = number * FRAME;
            let sent = at + at / 1_000_000 * ppm;
            early = at - sent - skew.on_packet(at + network(number), sent);
        }
        early
    }

    #[test]
    fn a_clock_that_is_off_is_followed_for_days() {
        // The filter lags behind: 100 ppm are half a millisecond in 5 s.
        for ppm in [-100, -20, 0, 20, 100] {
            let early = early(ppm, 3 * DAY, |_| 0);
            assert!(early.abs() < MS, "{ppm} ppm: {early}");
        }
    }

    #[test]
    fn jitter_and_bursts_are_no_drift() {
        // Ten frames at a time, and up to 3 ms on top.
        let jitter = |number: i64| (9 - number % 10) * FRAME + number * 7_919 % 4 * MS;
        let early = early(0, 3_600 * S, jitter);
        assert!(early.abs() < 2 * MS, "{early}");
    }

    #[test]
    fn a_connection_that_stands_still_for_a_second_changes_nothing() {
        let still = |number: i64| (1_025 - number).clamp(0, 25) % 25 * FRAME;
        assert!(early(0, 60 * S, still).abs() < 2 * MS);
    }

    #[test]
    fn a_source_that_begins_with_a_burst_is_in_time_two_seconds_later() {
        // A second of media at once, as a server sends it that keeps the last frames.
        let burst = |number: i64| -(number * FRAME).min(S);
        let late = S - early(0, 5 * S, burst);
        assert!(late.abs() < MS, "{late}");
    }

    #[test]
    fn a_sender_that_stood_still_is_followed() {
        let stood = |number: i64| if number > 1_000 { S } else { 0 };
        let late = early(0, 120 * S, stood) + S;
        assert!(late.abs() < MS, "{late}");
    }

    #[test]
    fn many_packets_fill_the_window_before_its_time() {
        let mut skew = Skew::default();
        for number in 0..10_000 {
            skew.on_packet(number * 10 + 5, number * 10);
        }
        assert_eq!((skew.delays.len(), skew.now()), (MAX_DELAYS, 5));
    }
}
