//! The packets and events of one stream that wait for the worker thread that pushes them.
//!
//! Mostly the queue is empty: a worker thread takes all at once. While downstream blocks that thread a
//! few packets gather here; then the stream is full, and further packets wait in the session's queue,
//! which has the rules for dropping.

use std::collections::VecDeque;

use gstreamer as gst;

use crate::{
    mux::{Packet, proto::wire::rtp::RtpHeader},
    rtspsrc::media::buffer::Marks,
};

/// So many items are enough work for a worker thread that comes back.
const FULL: usize = 32;

/// What is to be pushed out of a stream's pad.
pub(super) enum QueuedItem {
    /// A packet and its marks.
    Rtp(RtpHeader, Packet, Marks),
    Event(gst::Event),
}

/// The queue of one stream.
#[derive(Default)]
pub(super) struct SendQueue {
    waiting: VecDeque<QueuedItem>,
    /// The source of the last packet.
    source: Option<u32>,
    /// The queue takes nothing any more.
    is_closed: bool,
}

impl SendQueue {
    /// Takes a packet, even if the queue is full. False if the queue is closed.
    pub(super) fn put(&mut self, header: RtpHeader, packet: Packet, marks: Marks) -> bool {
        if !self.is_closed {
            self.source = Some(header.ssrc);
            self.waiting
                .push_back(QueuedItem::Rtp(header, packet, marks));
        }
        !self.is_closed
    }

    /// Takes an event, behind the packets. False if the queue is closed.
    pub(super) fn put_event(&mut self, event: gst::Event) -> bool {
        if !self.is_closed {
            self.waiting.push_back(QueuedItem::Event(event));
        }
        !self.is_closed
    }

    /// Swaps the items for `taken`, which is empty.
    pub(super) fn take(&mut self, taken: &mut VecDeque<QueuedItem>) {
        std::mem::swap(&mut self.waiting, taken);
    }

    /// Drops the packets, as their source is over. Keeps events.
    pub(super) fn renew(&mut self) {
        self.waiting
            .retain(|message| matches!(message, QueuedItem::Event(_)));
        self.source = None;
    }

    /// Drops all items and closes the queue.
    pub(super) fn close(&mut self) {
        self.waiting.clear();
        self.is_closed = true;
    }

    /// Whether the stream is to get no more packets for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= FULL
    }

    /// The source of the last packet.
    pub(super) fn source(&self) -> Option<u32> {
        self.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::PacketKind;

    fn put(queue: &mut SendQueue) -> bool {
        let header = RtpHeader {
            payload_type: 96,
            sequence: 0,
            timestamp: 0,
            ssrc: 7,
        };
        let packet = Packet {
            stream: 0,
            kind: PacketKind::Rtp,
            header: Some(header),
            payload: vec![0; 10].into(),
            received: crate::rtspsrc::threads::timer::now(),
            discontinuity: false,
        };
        queue.put(header, packet, Marks::default())
    }

    fn take(queue: &mut SendQueue) -> Vec<QueuedItem> {
        let mut taken = VecDeque::new();
        queue.take(&mut taken);
        taken.into()
    }

    #[test]
    fn a_full_queue_still_takes_packets() {
        let mut queue = SendQueue::default();
        for _ in 0..FULL {
            assert!(!queue.is_full() && put(&mut queue));
        }
        assert!(queue.is_full() && put(&mut queue));
        assert_eq!(take(&mut queue).len(), FULL + 1);
        assert!(!queue.is_full());
    }

    #[test]
    fn an_event_outlives_the_packets_before_it() {
        gst::init().unwrap();
        let mut queue = SendQueue::default();
        put(&mut queue);
        assert!(queue.put_event(gst::event::Eos::new()));
        assert_eq!(queue.source(), Some(7));
        queue.renew();
        assert_eq!((take(&mut queue).len(), queue.source()), (1, None));
        queue.close();
        assert!(!put(&mut queue) && !queue.put_event(gst::event::Eos::new()));
    }
}
