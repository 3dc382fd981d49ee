//! Batches the PLAYs of many sessions into few packets, over a long path.
//!
//! Sessions that start together send their PLAYs within a few milliseconds of each other. If each
//! is written at once, the server answers each at once, and each answer ends with a packet that is
//! not full. A new connection may have only few packets in flight, whatever their size (RFC 5681
//! 3.1, RFC 6928), so first pictures then need one round trip more. Waiting a fortieth of a round
//! trip for the other PLAYs costs little: with it, 64 cameras of 500 kbit/s over 50 ms had their
//! pictures after 326 ms instead of 360 ms. DESCRIBE and SETUP are not batched: many small answers
//! let the server send more, sooner.

use std::time::{Duration, Instant};

use crate::mux::health::{BATCH_OVER_A_LONG_PATH, LONG_PATH};

/// The wait is one SHARE-th of a round trip.
const SHARE: u32 = 40;
const LONGEST: Duration = Duration::from_millis(3);

/// Holds writes back for a moment.
#[derive(Debug)]
pub(super) struct PlayBatching {
    time: Duration,
    since: Option<Instant>,
}

impl PlayBatching {
    /// For a connection that took `connect_time` to be established.
    pub(super) fn new(connect_time: Duration) -> Self {
        let time = match connect_time >= LONG_PATH {
            true => (connect_time / SHARE).min(LONGEST),
            false => Duration::ZERO,
        };
        Self { time, since: None }
    }

    /// Until when writes are held back while `coming_up` sessions start on the connection. `None`
    /// if they are to be written now: a single session beside others that play does not wait.
    pub(super) fn until(&mut self, now: Instant, coming_up: usize) -> Option<Instant> {
        // The answers for so few sessions fit into the first packets of a new connection anyway.
        if coming_up <= BATCH_OVER_A_LONG_PATH as usize {
            return None;
        }
        let until = *self.since.get_or_insert(now) + self.time;
        (now < until).then_some(until)
    }

    /// Everything was written.
    pub(super) fn on_written(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_comes_within_a_fortieth_of_the_way_goes_together() {
        let (now, mut play_batching) = (Instant::now(), PlayBatching::new(40 * MS));
        let until = now + MS;
        assert_eq!(play_batching.until(now, 16), Some(until));
        assert_eq!(
            play_batching.until(now + MS / 2, 16),
            Some(until),
            "not put off again"
        );
        assert_eq!(play_batching.until(until, 16), None);
        play_batching.on_written();
        assert_eq!(play_batching.until(until, 16), Some(until + MS));
        assert_eq!(
            PlayBatching::new(900 * MS).until(now, 5),
            Some(now + LONGEST)
        );
    }

    #[test]
    fn close_by_nothing_waits_nor_where_few_come_up() {
        let now = Instant::now();
        assert_eq!(PlayBatching::new(50 * MS).until(now, 4), None);
        assert_eq!(PlayBatching::new(9 * MS).until(now, 16), None);
    }
}
