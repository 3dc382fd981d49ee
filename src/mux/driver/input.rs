//! The receive buffer: bytes that were read and not yet decoded, and the memory for the next read.
//!
//! A packet is a slice of the chunk it was read into. A chunk is read into again once its last
//! packet was dropped. Where consumers keep up, one or two chunks alternate: they stay in the
//! processor's cache, and nothing is allocated. A packet that a consumer keeps for long also keeps
//! its chunk, and a new chunk is allocated in its place.

use bytes::BytesMut;

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
    /// Bytes that are not decoded yet, with room behind them.
    unread: BytesMut,
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

    /// The bytes to decode. The decoder leaves an incomplete message or frame in it.
    pub(super) fn unread(&mut self) -> &mut BytesMut {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a read that fills all room, of which the decoder leaves `left` bytes.
    fn read(input: &mut Input, left: usize) -> BytesMut {
        let buffer = input.with_room();
        buffer.resize(buffer.capacity(), 7);
        let taken = buffer.len() - left;
        input.unread().split_to(taken)
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
        let _kept = input.unread().split_to(CHUNK - 3);
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
