//! Pauses reading for a moment so that consumers waiting for CPU time can drain their queues.
//!
//! A reader that never waits fills all queues when a server sends faster than consumers take
//! packets. Then packets are dropped: on a busy machine the reader takes the CPU time that its own
//! consumers need. So while many bytes wait, and most of the last read went to consumers that had
//! not yet taken the packets before, the driver stops reading until consumers have taken as many
//! bytes as that read had. The rest waits in the socket, and TCP slows the server down to the speed
//! of the consumers.
//!
//! The driver does not wait for a consumer that has stopped. A consumer that has taken nothing for
//! a while does not count, a few slow consumers among many are no majority, and no pause is longer
//! than [`MOMENTS`].

use std::time::Duration;

use crate::mux::delivery::{Attention, HandedOver};

/// So many bytes waiting for the consumers of one connection are normal: the first pictures of 16
/// cameras arrive together.
const FAR_AHEAD: usize = 512 * 1024;

/// How often the driver checks whether consumers have caught up.
pub(super) const MOMENT: Duration = Duration::from_millis(1);

/// The longest pause, in units of [`MOMENT`]. With one turn of reading after each pause the driver
/// still reads 250 Mbit/s.
const MOMENTS: u32 = 8;

/// Bytes that were handed over in one turn of reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// To consumers that had taken all packets before.
    prompt: usize,
    /// To consumers that had not, but do take packets.
    late: usize,
}

impl Tally {
    pub(super) fn add(&mut self, handed_over: HandedOver) {
        match handed_over.attention {
            Attention::Prompt => self.prompt += handed_over.octets,
            Attention::Late => self.late += handed_over.octets,
            Attention::None => {}
        }
    }
}

/// Decides when reading pauses.
#[derive(Debug, Default)]
pub(super) struct ReadPacing {
    /// How many more moments the pause may last.
    moments: u32,
    /// The pause ends when no more bytes than this wait.
    mark: usize,
}

impl ReadPacing {
    /// Called after each turn of reading; `waiting` bytes are in the queues now.
    pub(super) fn on_handed_over(&mut self, tally: Tally, waiting: usize) {
        let Tally { prompt, late } = tally;
        if prompt + late == 0 {
            return;
        }
        self.moments = if late > prompt { MOMENTS } else { 0 };
        self.mark = waiting.saturating_sub(prompt + late).max(FAR_AHEAD);
    }

    /// True if reading is to pause for one more moment while `waiting` bytes are in the queues.
    /// Asked again after that moment.
    pub(super) fn take(&mut self, waiting: usize) -> bool {
        let is_due = self.moments > 0 && waiting > self.mark;
        self.moments = if is_due { self.moments - 1 } else { 0 };
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: usize = 256 * 1024;

    fn late(bytes: usize) -> Tally {
        Tally {
            prompt: TURN - bytes,
            late: bytes,
        }
    }

    #[test]
    fn reading_goes_on_when_as_much_was_taken_as_was_read() {
        let mut read_pacing = ReadPacing::default();
        read_pacing.on_handed_over(late(TURN), 2 * FAR_AHEAD);
        assert!(read_pacing.take(2 * FAR_AHEAD) && read_pacing.take(2 * FAR_AHEAD - TURN + 1));
        assert!(!read_pacing.take(2 * FAR_AHEAD - TURN));
        assert!(!read_pacing.take(2 * FAR_AHEAD), "not before more was read");
    }

    #[test]
    fn a_pause_has_an_end_though_nothing_is_taken() {
        let mut read_pacing = ReadPacing::default();
        read_pacing.on_handed_over(late(TURN), 2 * FAR_AHEAD);
        let moments = (0..100)
            .take_while(|_| read_pacing.take(2 * FAR_AHEAD))
            .count();
        assert_eq!(moments, MOMENTS as usize);
    }

    #[test]
    fn there_is_none_while_little_waits_or_most_keep_up() {
        let mut read_pacing = ReadPacing::default();
        read_pacing.on_handed_over(late(TURN), FAR_AHEAD);
        assert!(!read_pacing.take(FAR_AHEAD));
        read_pacing.on_handed_over(late(TURN / 2), 8 * FAR_AHEAD);
        assert!(!read_pacing.take(8 * FAR_AHEAD));
    }

    /// Consumers take a fixed amount in each moment, and the server sends all that is read.
    #[test]
    fn what_waits_stays_bounded_at_any_speed_of_consumers() {
        for taken in [TURN / 6, TURN, 3 * TURN] {
            let (mut read_pacing, mut waiting, mut read) = (ReadPacing::default(), 0_usize, 0);
            for _moment in 0..10_000 {
                for _turn in 0..4 {
                    if read_pacing.take(waiting) {
                        break;
                    }
                    let is_late = waiting > 0;
                    waiting += TURN;
                    read += TURN;
                    read_pacing.on_handed_over(late(if is_late { TURN } else { 0 }), waiting);
                }
                waiting = waiting.saturating_sub(taken);
            }
            assert!(waiting <= FAR_AHEAD + 4 * TURN, "{waiting} at {taken}");
            assert!(read + TURN >= 10_000 * taken, "{read} at {taken}");
        }
    }
}
