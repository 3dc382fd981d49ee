//! Packets that are held until it is clear whether their source is the stream's own. [`Sources`] decides.
//!
//! [`Sources`]: super::sources::Sources

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::{
    Connection, Timer,
    sources::{MAX_HELD, MAX_HELD_BYTES},
};
use crate::mux::proto::{
    command::SessionKey,
    event::{Event, Packet},
};

/// A packet that is held.
#[derive(Debug)]
struct HeldPacket {
    channel: u8,
    received: Instant,
    packet: Packet,
}

/// The packets that are held, of all streams of a connection, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct HeldPackets(VecDeque<HeldPacket>);

impl HeldPackets {
    /// Drops packets that have waited for too long, and the oldest of the stream if it has too many.
    fn put(&mut self, held: HeldPacket) {
        let channel = held.channel;
        let is_fresh =
            |it: &HeldPacket| held.received.saturating_duration_since(it.received) <= MAX_HELD;
        self.0.retain(is_fresh);
        self.0.push_back(held);
        let of_stream = |it: &&HeldPacket| it.channel == channel;
        let sizes = self.0.iter().filter(of_stream);
        let bytes: usize = sizes.map(|it| it.packet.payload.len()).sum();
        if bytes > MAX_HELD_BYTES
            && let Some(oldest) = self.0.iter().position(|it| it.channel == channel)
        {
            self.0.remove(oldest);
        }
    }

    /// Takes out all packets of a stream, and gives those of one source.
    fn take(&mut self, session: SessionKey, stream: usize, ssrc: u32) -> Vec<HeldPacket> {
        let is_of_stream =
            |it: &mut HeldPacket| (it.packet.session, it.packet.stream) == (session, stream);
        let is_of_source =
            |it: &HeldPacket| it.packet.header.is_some_and(|header| header.ssrc == ssrc);
        let mut taken: Vec<_> = extract_if(&mut self.0, is_of_stream);
        taken.retain(is_of_source);
        taken
    }

    /// The last packet of each channel and source.
    fn last_of_each(&self) -> Vec<(u8, Packet)> {
        let mut last: Vec<(u8, Packet)> = Vec::new();
        let ssrc = |packet: &Packet| packet.header.map(|header| header.ssrc);
        for HeldPacket {
            channel, packet, ..
        } in self.0.iter().rev()
        {
            let is_it = |(of, it): &(u8, Packet)| of == channel && ssrc(it) == ssrc(packet);
            if !last.iter().any(is_it) {
                last.push((*channel, packet.clone()));
            }
        }
        last
    }
}

fn extract_if(
    packets: &mut VecDeque<HeldPacket>,
    is_it: impl FnMut(&mut HeldPacket) -> bool,
) -> Vec<HeldPacket> {
    let mut all: Vec<_> = std::mem::take(packets).into();
    let taken = all.extract_if(.., is_it).collect();
    *packets = all.into();
    taken
}

impl Connection {
    /// Holds a packet. It is copied, so that it does not keep its read chunk.
    pub(super) fn hold(&mut self, now: Instant, channel: u8, mut packet: Packet) {
        packet.payload = Bytes::copy_from_slice(&packet.payload);
        self.held.put(HeldPacket {
            channel,
            received: now,
            packet,
        });
        if !self.timers.is_set(Timer::Held) {
            self.timers.set(Timer::Held, now + MAX_HELD);
        }
    }

    /// Delivers the packets that are held of the source of `packet`, and drops others of its stream.
    pub(super) fn release_held(&mut self, packet: &Packet) {
        let Some(header) = packet.header else { return };
        for held in self.held.take(packet.session, packet.stream, header.ssrc) {
            self.events.push_back(Event::HeldPacket {
                packet: held.packet,
                received: held.received,
            });
        }
    }

    /// Decides again on packets that are held: time has passed, or the server has said where the
    /// streams begin.
    pub(super) fn review_held(&mut self, now: Instant) {
        if self.is_closed() {
            self.held.0.clear();
        }
        for (channel, packet) in self.held.last_of_each() {
            if let Some(header) = packet.header
                && self
                    .channels
                    .reconsider(channel, packet.session, header, now)
            {
                self.release_held(&packet);
            }
        }
    }

    pub(super) fn on_held_due(&mut self, now: Instant) {
        self.review_held(now);
        let is_fresh = |it: &HeldPacket| now.saturating_duration_since(it.received) < MAX_HELD;
        self.held.0.retain(is_fresh);
        if let Some(oldest) = self.held.0.front() {
            self.timers.set(Timer::Held, oldest.received + MAX_HELD);
        }
    }
}
