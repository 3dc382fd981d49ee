//! What waits for downstream on one stream.
//!
//! Mostly nothing: a hand of the crew takes all that is there and pushes it. Only while downstream
//! blocks packets gather here, because a stream that is blocked may be waiting for another one of its
//! session, as in a muxer without queues. If that other one gets its packets and the wait does not
//! end, then at last packets are dropped.

use std::collections::VecDeque;

use bytes::Bytes;
use gstreamer as gst;

use crate::{
    mux::{Packet, proto::rtp::RtpHeader},
    rtspsrc::buffer::Marks,
};

/// Packets waiting beyond which the session takes no more from its connection, if all its streams are
/// held up: then the queue there fills, which drops by its own rules. Payloads beyond it are copied out
/// of what they were read into, which they would keep as a whole.
const FULL: usize = 32;
/// Packets and octets that are kept of a stream that is blocked while others of its session are not.
/// A second of 16 Mbit/s.
const MAX_PACKETS: usize = 2_048;
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// What a stream's pad is to send.
pub(super) enum Message {
    /// A packet, and how it is marked.
    Rtp(RtpHeader, Packet, Marks),
    Event(gst::Event),
}

/// The inbox of one stream.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: VecDeque<Message>,
    bytes: usize,
    /// The source of the last packet.
    source: Option<u32>,
    /// The next packet follows a gap.
    has_gap: bool,
    dropped: u64,
    /// Nothing is taken any more.
    is_closed: bool,
}

impl Inbox {
    /// Takes a packet, or drops it if too much waits. False: nothing is sent any more.
    pub(super) fn put(&mut self, header: RtpHeader, mut packet: Packet, mut marks: Marks) -> bool {
        if self.is_closed {
            return false;
        }
        self.source = Some(header.ssrc);
        let length = packet.payload.len();
        if self.waiting.len() >= MAX_PACKETS || self.bytes + length > MAX_BYTES {
            self.dropped += 1;
            self.has_gap = true;
            return true;
        }
        marks.discont |= std::mem::take(&mut self.has_gap);
        if self.waiting.len() >= FULL {
            packet.payload = Bytes::copy_from_slice(&packet.payload);
        }
        self.bytes += length;
        self.waiting.push_back(Message::Rtp(header, packet, marks));
        true
    }

    /// Takes an event, behind the packets; false: nothing is sent any more.
    pub(super) fn put_event(&mut self, event: gst::Event) -> bool {
        if !self.is_closed {
            self.waiting.push_back(Message::Event(event));
        }
        !self.is_closed
    }

    /// Swaps all that waits for `taken`, which is empty.
    pub(super) fn take(&mut self, taken: &mut VecDeque<Message>) {
        std::mem::swap(&mut self.waiting, taken);
        self.bytes = 0;
    }

    /// Drops what waits: it is of a source that is over. Events are kept.
    pub(super) fn renew(&mut self) {
        self.waiting
            .retain(|message| matches!(message, Message::Event(_)));
        self.bytes = 0;
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

    /// Packets that were dropped because too much waited.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::PacketKind;

    fn put(inbox: &mut Inbox, length: usize) -> bool {
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
            payload: vec![0; length].into(),
            received: crate::rtspsrc::timer::now(),
            discontinuity: false,
        };
        inbox.put(header, packet, Marks::default())
    }

    fn take(inbox: &mut Inbox) -> Vec<Message> {
        let mut taken = VecDeque::new();
        inbox.take(&mut taken);
        taken.into()
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_the_next_one_says_so() {
        let mut inbox = Inbox::default();
        for _ in 0..MAX_PACKETS + 3 {
            assert!(put(&mut inbox, 10));
        }
        assert!(inbox.is_full());
        assert_eq!((take(&mut inbox).len(), inbox.dropped()), (MAX_PACKETS, 3));
        assert!(!inbox.is_full());
        put(&mut inbox, 10);
        put(&mut inbox, 10);
        let gaps = take(&mut inbox).into_iter().map(|message| match message {
            Message::Rtp(_, _, marks) => marks.discont,
            Message::Event(_) => unreachable!(),
        });
        assert_eq!(gaps.collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn octets_count_as_well() {
        let mut inbox = Inbox::default();
        for _ in 0..4 {
            put(&mut inbox, MAX_BYTES / 3);
        }
        assert_eq!((take(&mut inbox).len(), inbox.dropped()), (3, 1));
    }

    #[test]
    fn an_end_outlives_what_was_before_it() {
        gst::init().unwrap();
        let mut inbox = Inbox::default();
        put(&mut inbox, 10);
        assert!(inbox.put_event(gst::event::Eos::new()));
        assert_eq!(inbox.source(), Some(7));
        inbox.renew();
        assert_eq!((take(&mut inbox).len(), inbox.source()), (1, None));
        inbox.close();
        assert!(!put(&mut inbox, 10) && !inbox.put_event(gst::event::Eos::new()));
    }
}
