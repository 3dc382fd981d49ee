//! PLAYs of many sessions in few packets, over a long way.
//!
//! Sessions that start together send their PLAYs within a few milliseconds of each other. Written one
//! by one they are answered one by one, each with the small rest of a packet at its end, and a
//! connection that has just been made may have few packets on their way, whatever their size
//! (RFC 5681 3.1, RFC 6928): first pictures then need a round trip more. Waiting a fortieth of a round
//! trip for the others costs next to nothing against that: 64 cameras of 500 kbit/s at 50 ms were there
//! after 326 ms instead of 360. Not so DESCRIBE and SETUP: many small answers let the server send more
//! the sooner.

use std::time::{Duration, Instant};

use crate::mux::health::{BATCH_OVER_A_LONG_PATH, LONG_PATH};

/// Of a round trip.
const SHARE: u32 = 40;
const LONGEST: Duration = Duration::from_millis(3);

/// Holds back what is to be written for a moment.
#[derive(Debug)]
pub(super) struct PlayBatching {
    time: Duration,
    since: Option<Instant>,
}

impl PlayBatching {
    /// For a connection that took so long to be made.
    pub(super) fn new(connect_time: Duration) -> Self {
        let time = match connect_time >= LONG_PATH {
            true => (connect_time / SHARE).min(LONGEST),
            false => Duration::ZERO,
        };
        Self { time, since: None }
    }

    /// Until when what waits is held back on a connection on which so many sessions come up; none if
    /// it is to be written now: one more session beside those that play waits for nobody.
    pub(super) fn until(&mut self, now: Instant, coming_up: usize) -> Option<Instant> {
        // What so few get fits a fresh connection in packets of any size.
        if coming_up <= BATCH_OVER_A_LONG_PATH as usize {
            return None;
        }
        let until = *self.since.get_or_insert(now) + self.time;
        (now < until).then_some(until)
    }

    /// Nothing waits any more.
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
