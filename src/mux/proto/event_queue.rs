//! What has happened and was not polled yet.
//!
//! Packets are many and small, everything else is rare and large. Kept apart, a packet costs no
//! more to queue than its own few words; they come out in the order in which they went in.

use std::collections::VecDeque;

use super::event::{Event, Packet};

#[derive(Debug, Default)]
pub(super) struct EventQueue {
    packets: VecDeque<Packet>,
    /// With the number of packets that went in before it.
    others: VecDeque<(u64, Event)>,
    packets_in: u64,
    packets_out: u64,
}

impl EventQueue {
    #[inline]
    pub(super) fn push_packet(&mut self, packet: Packet) {
        self.packets_in += 1;
        self.packets.push_back(packet);
    }

    pub(super) fn push(&mut self, event: Event) {
        self.others.push_back((self.packets_in, event));
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        match self.pop_packet() {
            Some(packet) => Some(Event::Packet(packet)),
            None => self.others.pop_front().map(|(_, event)| event),
        }
    }

    /// The next one if it is a packet.
    #[inline]
    pub(super) fn pop_packet(&mut self) -> Option<Packet> {
        let is_next = |(packets_before, _): &(u64, Event)| *packets_before == self.packets_out;
        if self.others.front().is_some_and(is_next) {
            return None;
        }
        let packet = self.packets.pop_front()?;
        self.packets_out += 1;
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mux::proto::{command::SessionKey, event::PacketKind};

    fn packet(stream: usize) -> Packet {
        Packet {
            session: SessionKey(0),
            stream,
            kind: PacketKind::Rtp,
            payload: Bytes::new(),
        }
    }

    #[test]
    fn events_and_packets_come_out_in_the_order_they_went_in() {
        let mut queue = EventQueue::default();
        queue.push(Event::CredentialsWanted);
        queue.push_packet(packet(1));
        queue.push_packet(packet(2));
        queue.push(Event::CredentialsProven);
        queue.push(Event::IdleExpired);
        queue.push_packet(packet(3));
        let order: Vec<String> = std::iter::from_fn(|| queue.pop())
            .map(|event| match event {
                Event::Packet(packet) => packet.stream.to_string(),
                other => format!("{other:?}"),
            })
            .collect();
        let expected = [
            "CredentialsWanted",
            "1",
            "2",
            "CredentialsProven",
            "IdleExpired",
            "3",
        ];
        assert_eq!(order, expected);
    }
}
