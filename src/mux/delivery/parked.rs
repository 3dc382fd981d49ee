//! The queue of a session, and those of its streams that are parked. No locks, no wakers.
//!
//! Streams wait for each other: a muxer takes no picture before there is sound. So a consumer may
//! leave packets of one stream waiting and take those of the others. A stream that is left waiting is
//! parked: it has a queue of its own, with caps of its own, in which the session's policy holds as
//! ever, so that what it drops, and its age, are no matter of the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Packet, queue::Queue, stream::StreamCount};
use crate::mux::proto::MediaStream;

/// The queues of one session.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Of the streams that are taken from.
    open: Queue,
    /// Each of a stream that is not.
    parked: BTreeMap<usize, Queue>,
}

impl Lanes {
    pub(super) fn new(open: Queue) -> Self {
        Self {
            open,
            parked: BTreeMap::new(),
        }
    }

    /// What the streams carry; before any of them is parked.
    pub(super) fn describe(&mut self, streams: &[MediaStream]) {
        self.open.describe(streams);
    }

    /// The next RTP packet that is taken of a stream follows another session's; before any is parked.
    pub(super) fn begin_anew(&mut self, stream: usize) {
        self.open.begin_anew(stream);
    }

    /// Whether an RTP packet can be taken.
    pub(super) fn has_media(&self) -> bool {
        self.open.has_media()
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether whoever fills them should stop. A stream that is parked stops the others, too: with
    /// [`OverflowPolicy::Block`](crate::mux::OverflowPolicy::Block) nothing is dropped.
    pub(super) fn is_blocking(&self) -> bool {
        self.open.is_blocking() || self.parked.values().any(Queue::is_blocking)
    }

    /// Counters of the streams, by index.
    pub(super) fn counts(&self) -> Vec<StreamCount> {
        let mut counts = self.open.counts();
        for (number, queue) in &self.parked {
            // Parking made a place for it.
            if let (Some(count), Some(own)) = (counts.get_mut(*number), queue.count(*number)) {
                *count = own;
            }
        }
        counts
    }

    /// Queues the packets that were read together, or makes room for them, or drops and counts them.
    /// Gives their bytes.
    pub(super) fn push_all(&mut self, packets: &mut Vec<Packet>) -> usize {
        if self.parked.is_empty() {
            return self.open.push_all(packets);
        }
        let mut octets = 0;
        for (number, queue) in &mut self.parked {
            let is_own = |packet: &mut Packet| packet.stream == *number;
            let mut own: Vec<Packet> = packets.extract_if(.., is_own).collect();
            octets += queue.push_all(&mut own);
        }
        octets + self.open.push_all(packets)
    }

    /// So many packets of a stream came that cannot be queued.
    pub(super) fn note_undescribed(&mut self, stream: usize, payload_type: u8, count: u64) {
        let queue = self.parked.get_mut(&stream).unwrap_or(&mut self.open);
        queue.note_undescribed(stream, payload_type, count);
    }

    /// Whether something was taken since this was asked last.
    pub(super) fn take_was_taken(&mut self) -> bool {
        self.open.take_was_taken()
    }

    /// Parks just these streams. What waits of those that were parked is taken next.
    pub(super) fn park(&mut self, streams: &BTreeSet<usize>) {
        if self.open.is_closed() {
            return;
        }
        for (number, queue) in std::mem::take(&mut self.parked) {
            match streams.contains(&number) {
                true => _ = self.parked.insert(number, queue),
                false => self.open.join(number, queue),
            }
        }
        for number in streams {
            let queue = || self.open.split_off(*number);
            self.parked.entry(*number).or_insert_with(queue);
        }
    }

    /// Hands over everything that is not parked; false if there is nothing.
    pub(super) fn take(&mut self, taken: &mut VecDeque<Packet>) -> bool {
        self.open.take(taken)
    }

    /// Nothing more is queued, and nothing is parked any more; what waits can still be taken.
    pub(super) fn close(&mut self) {
        for (number, queue) in std::mem::take(&mut self.parked) {
            self.open.join(number, queue);
        }
        self.open.close();
    }

    /// Nobody takes anything any more: what waits, and `taken`, counts as dropped.
    pub(super) fn abandon(&mut self, taken: &VecDeque<Packet>) {
        self.close();
        self.open.abandon(taken);
    }
}

#[cfg(test)]
mod tests;
