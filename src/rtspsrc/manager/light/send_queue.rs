//! What is on its way out of one stream's pad, for the hand that pushes it.
//!
//! Mostly nothing: a hand of the crew takes all that is there. While downstream holds that hand a few
//! packets gather here; then the stream is full, and what comes waits in the session's queue, which
//! knows what to drop.

use std::collections::VecDeque;

use gstreamer as gst;

use crate::{
    mux::{Packet, proto::wire::rtp::RtpHeader},
    rtspsrc::media::buffer::Marks,
};

/// So many messages waiting are enough for a hand that comes back.
const FULL: usize = 32;

/// What a stream's pad is to send.
pub(super) enum QueuedItem {
    /// A packet, and how it is marked.
    Rtp(RtpHeader, Packet, Marks),
    Event(gst::Event),
}

/// The inbox of one stream.
#[derive(Default)]
pub(super) struct SendQueue {
    waiting: VecDeque<QueuedItem>,
    /// The source of the last packet.
    source: Option<u32>,
    /// Nothing is taken any more.
    is_closed: bool,
}

impl SendQueue {
    /// Takes a packet, full or not. False: nothing is sent any more.
    pub(super) fn put(&mut self, header: RtpHeader, packet: Packet, marks: Marks) -> bool {
        if !self.is_closed {
            self.source = Some(header.ssrc);
            self.waiting
                .push_back(QueuedItem::Rtp(header, packet, marks));
        }
        !self.is_closed
    }

    /// Takes an event, behind the packets; false: nothing is sent any more.
    pub(super) fn put_event(&mut self, event: gst::Event) -> bool {
        if !self.is_closed {
            self.waiting.push_back(QueuedItem::Event(event));
        }
        !self.is_closed
    }

    /// Swaps all that waits for `taken`, which is empty.
    pub(super) fn take(&mut self, taken: &mut VecDeque<QueuedItem>) {
        std::mem::swap(&mut self.waiting, taken);
    }

    /// Drops what waits: it is of a source that is over. Events are kept.
    pub(super) fn renew(&mut self) {
        self.waiting
            .retain(|message| matches!(message, QueuedItem::Event(_)));
        self.source = None;
    }

    /// Drops all, and takes nothing any more.
    pub(super) fn close(&mut self) {
        self.waiting.clear();
        self.is_closed = true;
    }

    /// Whether its stream has enough to do.
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
            version: 2,
            payload_type: 96,
            sequence: 0,
            timestamp: 0,
            ssrc: 7,
        };
        let packet = Packet {
            stream: 0,
            kind: PacketKind::Rtp,
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
    fn what_comes_to_a_full_one_is_taken_all_the_same() {
        let mut queue = SendQueue::default();
        for _ in 0..FULL {
            assert!(!queue.is_full() && put(&mut queue));
        }
        assert!(queue.is_full() && put(&mut queue));
        assert_eq!(take(&mut queue).len(), FULL + 1);
        assert!(!queue.is_full());
    }

    #[test]
    fn an_end_outlives_what_was_before_it() {
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
