//! Lets consumers catch up that only need the processor.
//!
//! A reader that never waits fills all queues with what a server sends faster than consumers take it,
//! and then has packets dropped: on a busy machine it takes from its own consumers the time that they
//! need. So while much waits, and most of what was read last is for consumers that had not yet taken
//! what came before, nothing is read until they have taken as much as that was. The rest waits in
//! the socket, and TCP slows the server down to what consumers take.
//!
//! It is no wait for a consumer that stands still. One that has taken nothing for a while does not
//! count, a few slow ones among many are no majority, and no pause is longer than [`MOMENTS`].

use std::time::Duration;

use crate::mux::delivery::{Attention, HandedOver};

/// So much waiting for the consumers of one connection is normal: first pictures of 16 cameras come at once.
const FAR_AHEAD: usize = 512 * 1024;

/// How often is looked whether they have caught up.
pub(super) const MOMENT: Duration = Duration::from_millis(1);

/// Moments that a pause takes at most. With one turn of reading behind each, 250 Mbit/s and more.
const MOMENTS: u32 = 8;

/// What was handed over in one turn, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// To consumers that had taken all that came before.
    prompt: usize,
    /// To those that had not, and take something now and then.
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

/// Whether it is time to take breath.
#[derive(Debug, Default)]
pub(super) struct ReadPacing {
    /// Moments that may still pass.
    moments: u32,
    /// Bytes that may wait when reading goes on.
    mark: usize,
}

impl ReadPacing {
    /// This was handed over just now, and so many bytes wait for consumers.
    pub(super) fn on_handed_over(&mut self, tally: Tally, waiting: usize) {
        let Tally { prompt, late } = tally;
        if prompt + late == 0 {
            return;
        }
        self.moments = if late > prompt { MOMENTS } else { 0 };
        self.mark = waiting.saturating_sub(prompt + late).max(FAR_AHEAD);
    }

    /// Whether a moment is to pass before more is read, now that so many bytes wait. Asked again
    /// after it.
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
