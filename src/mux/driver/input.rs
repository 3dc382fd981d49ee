//! What was read and not taken apart yet, and the memory that is read into.
//!
//! A packet is a slice of the chunk it was read into, and the chunk can be read into again once the
//! last of them is gone. Where consumers keep up that is soon: one or two chunks go round, which stay
//! in the processor's cache, and nothing is allocated. What a consumer keeps for longer keeps its
//! chunk, and another one takes the place of that.

use bytes::BytesMut;

/// What is read at once at most: also what a packet's slice may pin.
pub(super) const CHUNK: usize = 64 * 1024;
/// Free space below which the next chunk is taken.
const LOW: usize = 16 * 1024;
/// Chunks that are kept for when their packets are gone. More than that wait for consumers that are
/// behind, and theirs are copies soon.
const SPARES: usize = 4;

/// The end of what was read, and used chunks.
#[derive(Debug)]
pub(super) struct Input {
    /// What is to be taken apart, with room behind it.
    unread: BytesMut,
    /// Empty, but packets may still be in them. The last one used is the last one here.
    used: Vec<BytesMut>,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            unread: BytesMut::with_capacity(CHUNK),
            used: Vec::new(),
        }
    }

    /// Where to append what comes: at least `LOW` bytes of room.
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

    /// What is to be taken apart. What is incomplete stays.
    pub(super) fn unread(&mut self) -> &mut BytesMut {
        &mut self.unread
    }

    fn change_chunk(&mut self) {
        // The one that was used last is warm.
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

/// Makes a whole chunk's room of what is `chunk`, if no packet is in there any more.
fn reclaim(chunk: &mut BytesMut) -> bool {
    let length = chunk.len();
    length + LOW <= CHUNK && chunk.try_reclaim(CHUNK - length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A read that fills all room, of which `left` bytes are not taken.
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
