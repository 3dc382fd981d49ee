//! The bytes that were read, and when reading or writing is put off.
//!
//! # Input
//!
//! A packet is a slice of the chunk it was read into. A chunk is read into again once its last
//! packet was dropped. Where consumers keep up, one or two chunks alternate: they stay in the
//! processor's cache, and nothing is allocated. A packet that a consumer keeps for long also keeps
//! its chunk, and a new chunk is allocated in its place.
//!
//! # Read pacing
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
//!
//! # PLAY batching, over a long path
//!
//! Sessions that start together send their PLAYs within a few milliseconds of each other. If each
//! is written at once, the server answers each at once, and each answer ends with a packet that is
//! not full. A new connection may have only few packets in flight, whatever their size (RFC 5681
//! 3.1, RFC 6928), so first pictures then need one round trip more. Waiting a fortieth of a round
//! trip for the other PLAYs costs little: with it, 64 cameras of 500 kbit/s over 50 ms had their
//! pictures after 326 ms instead of 360 ms. DESCRIBE and SETUP are not batched: many small answers
//! let the server send more, sooner.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::mux::{
    delivery::{Attention, HandedOver},
    proto::limits::LONG_PATH,
    stats::BATCH_OVER_A_LONG_PATH,
};

/// The most that one read takes; also the most memory that one packet can pin.
pub(super) const CHUNK: usize = 64 * 1024;
/// Free space below which the next chunk is taken.
const LOW: usize = 16 * 1024;
/// Used chunks that are kept for reuse. Any more would wait for slow consumers, whose packets are
/// copied soon.
const SPARES: usize = 4;

/// The undecoded rest of what was read, and used chunks.
#[derive(Debug)]
pub(super) struct Input {
    /// Bytes that are not decoded yet, with room behind them. The decoder leaves an incomplete message
    /// or frame in it.
    pub(super) unread: BytesMut,
    /// Empty chunks, which packets may still point into. The most recently used one is the last.
    used: Vec<BytesMut>,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            unread: BytesMut::with_capacity(CHUNK),
            used: Vec::new(),
        }
    }

    /// The buffer to read into: it has at least `LOW` bytes of room.
    pub(super) fn with_room(&mut self) -> &mut BytesMut {
        let length = self.unread.len();
        let room = self.unread.capacity() - length;
        if room < LOW && !reclaim(&mut self.unread) {
            if length + LOW <= CHUNK {
                self.change_chunk();
            } else {
                // A message or frame that is larger than a chunk.
                self.unread.reserve(CHUNK);
            }
        }
        &mut self.unread
    }

    fn change_chunk(&mut self) {
        // The chunk used last is still in the cache.
        let free = self.used.iter_mut().rposition(reclaim);
        let mut chunk = match free {
            Some(free) => self.used.remove(free),
            None => BytesMut::with_capacity(CHUNK),
        };
        chunk.extend_from_slice(&self.unread);
        let mut used = std::mem::replace(&mut self.unread, chunk);
        used.clear();
        if self.used.len() == SPARES {
            self.used.remove(0);
        }
        self.used.push(used);
    }
}

/// Gives `chunk` a whole chunk's room, if no packet points into it any more.
fn reclaim(chunk: &mut BytesMut) -> bool {
    let length = chunk.len();
    length + LOW <= CHUNK && chunk.try_reclaim(CHUNK - length)
}

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
mod input_tests {
    use super::*;

    /// Makes a read that fills all room, of which the decoder leaves `left` bytes.
    fn read(input: &mut Input, left: usize) -> BytesMut {
        let buffer = input.with_room();
        buffer.resize(buffer.capacity(), 7);
        let taken = buffer.len() - left;
        input.unread.split_to(taken)
    }

    #[test]
    fn a_chunk_whose_packets_are_gone_is_read_into_again() {
        let mut input = Input::new();
        let first = read(&mut input, 0).as_ptr();
        for _ in 0..100 {
            assert_eq!(read(&mut input, 0).as_ptr(), first);
        }
    }

    #[test]
    fn a_chunk_stays_as_it_is_while_a_packet_of_it_is_kept() {
        let mut input = Input::new();
        let kept = read(&mut input, 0).freeze();
        let (first, second) = (kept.as_ptr(), read(&mut input, 0).as_ptr());
        assert_ne!(first, second);
        for _ in 0..100 {
            let packet = read(&mut input, 0);
            assert_eq!(packet.as_ptr(), second);
            assert!(kept.iter().all(|byte| *byte == 7));
        }
        drop(kept);
        let _second_is_kept = read(&mut input, 0);
        assert_eq!(read(&mut input, 0).as_ptr(), first);
    }

    #[test]
    fn what_is_incomplete_goes_on_in_the_next_chunk() {
        let mut input = Input::new();
        let buffer = input.with_room();
        buffer.extend_from_slice(&[1; CHUNK - 3]);
        buffer.extend_from_slice(b"end");
        let _kept = input.unread.split_to(CHUNK - 3);
        let buffer = input.with_room();
        assert!(buffer.capacity() - buffer.len() >= LOW);
        assert_eq!(&buffer[..], b"end");
    }

    #[test]
    fn there_is_room_for_what_is_larger_than_a_chunk() {
        let mut input = Input::new();
        for chunks in 1..5 {
            let buffer = input.with_room();
            buffer.resize(buffer.capacity(), 0);
            assert!(buffer.len() >= chunks * CHUNK);
        }
    }

    #[test]
    fn what_consumers_keep_is_not_kept_here() {
        let mut input = Input::new();
        let kept: Vec<_> = (0..100).map(|_| read(&mut input, 0)).collect();
        assert_eq!(input.used.len(), SPARES);
        drop(kept);
    }
}

#[cfg(test)]
mod read_pacing_tests {
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

#[cfg(test)]
mod play_batching_tests {
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
