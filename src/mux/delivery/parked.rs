//! The queue of a session, and the queues of its parked streams. No locks, no wakers.
//!
//! Streams wait for each other: a muxer takes no picture before there is sound. So a consumer may
//! leave packets of one stream in the queue and take those of the others. Such a stream is parked:
//! it has a queue of its own, with caps of its own, and the session's policy applies there as
//! usual. So its drops, and its age, do not affect the other streams.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Packet, queue::Queue};
use crate::mux::stats::StreamCount;

/// The queues of one session.
#[derive(Debug)]
pub(super) struct Lanes {
    /// The queue of all streams that are not parked.
    pub(super) open: Queue,
    /// The queue of each parked stream.
    parked: BTreeMap<usize, Queue>,
}

impl Lanes {
    pub(super) fn new(open: Queue) -> Self {
        Self {
            open,
            parked: BTreeMap::new(),
        }
    }

    /// True if the driver should stop reading. A parked stream stops the others too: with
    /// [`OverflowPolicy::Block`](crate::mux::OverflowPolicy::Block) nothing is dropped.
    pub(super) fn is_blocking(&self) -> bool {
        self.open.is_blocking() || self.parked.values().any(Queue::is_blocking)
    }

    /// Counters of the streams, by index.
    pub(super) fn counts(&self) -> Vec<StreamCount> {
        let mut counts = self.open.counts();
        for (number, queue) in &self.parked {
            // The stream has a counter here since it was parked.
            if let (Some(count), Some(own)) = (counts.get_mut(*number), queue.count(*number)) {
                *count = own;
            }
        }
        counts
    }

    /// Queues the packets of one read, makes room for them, or drops and counts them. Returns their
    /// bytes.
    #[inline]
    pub(super) fn push_all(&mut self, packets: &mut VecDeque<Packet>) -> usize {
        match self.parked.is_empty() {
            true => self.open.push_all(packets),
            false => self.push_parked(packets),
        }
    }

    #[cold]
    #[inline(never)]
    fn push_parked(&mut self, packets: &mut VecDeque<Packet>) -> usize {
        let mut octets = 0;
        for (number, queue) in &mut self.parked {
            let all = std::mem::take(packets).into_iter();
            let (mut own, rest) = all.partition(|packet| packet.stream == *number);
            *packets = rest;
            octets += queue.push_all(&mut own);
        }
        octets + self.open.push_all(packets)
    }

    /// Counts packets of a stream that cannot be queued.
    pub(super) fn note_undescribed(&mut self, stream: usize, payload_type: u8, count: u64) {
        let queue = self.parked.get_mut(&stream).unwrap_or(&mut self.open);
        queue.note_undescribed(stream, payload_type, count);
    }

    /// Parks exactly these streams. The packets of streams that are parked no more are taken next.
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

    /// From now on nothing is queued or parked; packets that wait can still be taken.
    pub(super) fn close(&mut self) {
        for (number, queue) in std::mem::take(&mut self.parked) {
            self.open.join(number, queue);
        }
        self.open.close();
    }

    /// The consumer is gone: the packets that wait, and `taken`, count as dropped.
    pub(super) fn abandon(&mut self, taken: &VecDeque<Packet>) {
        self.close();
        self.open.abandon(taken);
    }
}

#[cfg(test)]
mod tests;
