//! Packets that are held until it is clear whether their source is the stream's own. [`Sources`] decides.
//!
//! What a server can make the core hold is bounded for each stream and for the connection, in bytes and, as
//! each packet counts with what it costs beside its payload, in packets. Putting one and dropping the oldest
//! take constant time.
//!
//! [`Sources`]: super::sources::Sources

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::{
    Connection, Timer,
    sources::{MAX_HELD, MAX_HELD_BYTES, held_weight},
};
use crate::mux::proto::{
    command::SessionKey,
    event::{Event, Packet},
};

/// The most that is held on one connection, whose streams may be 128.
const MAX_HELD_OF_CONNECTION: usize = 8 * MAX_HELD_BYTES;

/// So many sources of a stream are looked at when time has passed.
const MOST_REVIEWED: usize = 16;

/// A packet that is held.
#[derive(Debug)]
struct HeldPacket {
    received: Instant,
    packet: Packet,
}

impl HeldPacket {
    fn ssrc(&self) -> Option<u32> {
        self.packet.header.map(|header| header.ssrc)
    }
}

/// The packets that are held of one stream, in the order of their arrival.
#[derive(Debug)]
struct HeldStream {
    session: SessionKey,
    stream: usize,
    channel: u8,
    packets: VecDeque<HeldPacket>,
    weight: usize,
}

impl HeldStream {
    /// Drops packets from the oldest on while this says so. Returns how many.
    fn drop_while(&mut self, is_dropped: impl Fn(&HeldPacket, usize) -> bool) -> u64 {
        let mut dropped = 0;
        while let Some(oldest) = self.packets.front()
            && is_dropped(oldest, self.weight)
        {
            self.weight -= held_weight(oldest.packet.payload.len());
            self.packets.pop_front();
            dropped += 1;
        }
        dropped
    }

    fn drop_stale(&mut self, now: Instant) -> u64 {
        self.drop_while(|it, _| now.saturating_duration_since(it.received) >= MAX_HELD)
    }

    /// The packets that are the stream's if `ssrc` takes it over: those of this source, and those of the
    /// sources that came one after the other since then, each of which had ended when the next one began.
    fn released(self, ssrc: u32, since: Option<Instant>) -> Vec<HeldPacket> {
        let is_late = |it: &HeldPacket| since.is_some_and(|since| it.received >= since);
        let mut runs: Vec<(Option<u32>, usize)> = Vec::new();
        for held in self.packets.iter().filter(|it| is_late(it)) {
            match runs.last_mut() {
                Some((source, count)) if *source == held.ssrc() => *count += 1,
                _ => runs.push((held.ssrc(), 1)),
            }
        }
        let mut sources: Vec<_> = runs.iter().map(|(source, _)| *source).collect();
        let is_last = sources.last().is_none_or(|last| *last == Some(ssrc));
        sources.sort_unstable();
        let is_in_turn = is_last && !sources.windows(2).any(|two| two[0] == two[1]);
        // One packet may be anyone's.
        let single: Vec<_> = runs.into_iter().filter(|(_, count)| *count == 1).collect();
        let is_single = |it: &HeldPacket| single.iter().any(|(source, _)| *source == it.ssrc());
        let is_released = |it: &HeldPacket| {
            it.ssrc() == Some(ssrc) || (is_in_turn && is_late(it) && !is_single(it))
        };
        self.packets.into_iter().filter(is_released).collect()
    }
}

/// The packets that are held of all streams of a connection.
#[derive(Debug, Default)]
pub(super) struct HeldPackets(Vec<HeldStream>);

impl HeldPackets {
    /// Drops packets that have waited for too long, and the oldest ones where there are too many. Returns how
    /// many.
    fn put(&mut self, channel: u8, now: Instant, packet: Packet) -> u64 {
        let of = (packet.session, packet.stream);
        let known = self.0.iter().position(|it| (it.session, it.stream) == of);
        let at = known.unwrap_or_else(|| {
            self.0.push(HeldStream {
                session: packet.session,
                stream: packet.stream,
                channel,
                packets: VecDeque::new(),
                weight: 0,
            });
            self.0.len() - 1
        });
        let stream = &mut self.0[at];
        stream.weight += held_weight(packet.payload.len());
        stream.packets.push_back(HeldPacket {
            received: now,
            packet,
        });
        let dropped =
            stream.drop_stale(now) + stream.drop_while(|_, weight| weight > MAX_HELD_BYTES);
        dropped + self.bound()
    }

    /// Drops the oldest packets of the stream that holds most, where all hold too much together.
    fn bound(&mut self) -> u64 {
        let mut dropped = 0;
        while self.0.iter().map(|it| it.weight).sum::<usize>() > MAX_HELD_OF_CONNECTION
            && let Some(largest) = self.0.iter_mut().max_by_key(|it| it.weight)
        {
            let most = largest.weight.saturating_sub(MAX_HELD_BYTES / 8);
            dropped += largest.drop_while(|_, weight| weight > most);
        }
        dropped
    }

    /// Takes out all packets of a stream. Gives those that are the stream's if `ssrc` takes it over, and how
    /// many are dropped.
    fn take(
        &mut self,
        session: SessionKey,
        stream: usize,
        ssrc: u32,
        since: Option<Instant>,
    ) -> (Vec<HeldPacket>, u64) {
        let is_it = |it: &HeldStream| (it.session, it.stream) == (session, stream);
        let Some(at) = self.0.iter().position(is_it) else {
            return (Vec::new(), 0);
        };
        let stream = self.0.swap_remove(at);
        let count = stream.packets.len();
        let released = stream.released(ssrc, since);
        let dropped = count - released.len();
        (released, dropped as u64)
    }

    /// The first packet of each stream of which `is_it` is true.
    fn find_in_each(&self, is_it: impl Fn(&Packet) -> bool) -> Vec<(u8, Packet)> {
        let first = self.0.iter().filter_map(|stream| {
            let mut packets = stream.packets.iter().map(|held| &held.packet);
            let found = packets.find(|packet| is_it(packet))?;
            Some((stream.channel, found.clone()))
        });
        first.collect()
    }

    /// The last packets of each stream, one of each of its latest sources.
    fn last_of_each(&self) -> Vec<(u8, Packet)> {
        let mut last: Vec<(u8, Packet)> = Vec::new();
        for stream in &self.0 {
            let from = last.len();
            for held in stream.packets.iter().rev() {
                let of_stream = last.get(from..).unwrap_or_default();
                let is_known =
                    |(_, it): &(u8, Packet)| it.header.map(|header| header.ssrc) == held.ssrc();
                if of_stream.len() == MOST_REVIEWED {
                    break;
                }
                if !of_stream.iter().any(is_known) {
                    last.push((stream.channel, held.packet.clone()));
                }
            }
        }
        last
    }

    /// When the oldest packet was received.
    fn oldest(&self) -> Option<Instant> {
        let oldest = self.0.iter().filter_map(|it| it.packets.front());
        oldest.map(|it| it.received).min()
    }
}

impl Connection {
    /// Holds a packet. It is copied, so that it does not keep its read chunk.
    pub(super) fn hold(&mut self, now: Instant, channel: u8, mut packet: Packet) {
        packet.payload = Bytes::copy_from_slice(&packet.payload);
        self.counters.foreign_frames += self.held.put(channel, now, packet);
        if !self.timers.is_set(Timer::Held) {
            self.timers.set(Timer::Held, now + MAX_HELD);
        }
    }

    /// Delivers the packets that are held of the source of `packet`, which takes the stream over, and of those
    /// that had it in between. Drops others of the stream.
    pub(super) fn release_held(&mut self, channel: u8, packet: &Packet) {
        let Some(header) = packet.header else { return };
        let since = self.channels.released_since(channel);
        let (released, dropped) = self
            .held
            .take(packet.session, packet.stream, header.ssrc, since);
        self.counters.foreign_frames += dropped;
        for held in released {
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
        // A source that the server has named has the stream, whichever came last.
        let named = self
            .held
            .find_in_each(|packet| self.channels.is_named(packet));
        for (channel, packet) in named.into_iter().chain(self.held.last_of_each()) {
            if let Some(header) = packet.header
                && self
                    .channels
                    .reconsider(channel, packet.session, header, now)
            {
                self.release_held(channel, &packet);
            }
        }
    }

    pub(super) fn on_held_due(&mut self, now: Instant) {
        self.review_held(now);
        for stream in &mut self.held.0 {
            self.counters.foreign_frames += stream.drop_stale(now);
        }
        self.held.0.retain(|it| !it.packets.is_empty());
        if let Some(oldest) = self.held.oldest() {
            self.timers.set(Timer::Held, oldest + MAX_HELD);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mux::proto::{event::PacketKind, wire::rtp::RtpHeader};

    fn packet(stream: usize, ssrc: u32, sequence: u16, bytes: usize) -> Packet {
        Packet {
            session: SessionKey(1),
            stream,
            kind: PacketKind::Rtp,
            header: Some(RtpHeader {
                payload_type: 96,
                sequence,
                timestamp: 0,
                ssrc,
            }),
            payload: vec![0; bytes].into(),
        }
    }

    fn weight(held: &HeldPackets) -> usize {
        held.0.iter().map(|it| it.weight).sum()
    }

    /// The numbers of the packets that come out if a source takes the stream over that has been held since
    /// `since` ms.
    fn released(packets: &[(u64, u32)], ssrc: u32, since: Option<u64>) -> Vec<u16> {
        #[expect(clippy::disallowed_methods, reason = "any time will do")]
        let start = Instant::now();
        let mut held = HeldPackets::default();
        for (number, (at, ssrc)) in packets.iter().enumerate() {
            let now = start + Duration::from_millis(*at);
            held.put(0, now, packet(0, *ssrc, number as u16, 100));
        }
        let since = since.map(|at| start + Duration::from_millis(at));
        let (released, dropped) = held.take(SessionKey(1), 0, ssrc, since);
        assert_eq!(released.len() + dropped as usize, packets.len());
        let numbers = released.iter().filter_map(|it| it.packet.header);
        numbers.map(|header| header.sequence).collect()
    }

    /// Bytes, and the packets that cost more than their bytes: 43 000 of an RTP header alone.
    #[test]
    fn f51_what_is_held_is_bounded_for_each_stream_and_for_the_connection() {
        #[expect(clippy::disallowed_methods, reason = "any time will do")]
        let now = Instant::now();
        for bytes in [12, 1_400, 60_000] {
            let mut held = HeldPackets::default();
            for n in 0..50_000_u32 {
                held.put(0, now, packet(0, n, n as u16, bytes));
                assert!(weight(&held) <= MAX_HELD_BYTES);
            }
            assert!(held.0[0].packets.len() <= MAX_HELD_BYTES / held_weight(0));
        }
        let mut held = HeldPackets::default();
        for n in 0..100_000_u32 {
            held.put(0, now, packet(n as usize % 64, n, n as u16, 1_400));
        }
        assert!(weight(&held) <= MAX_HELD_OF_CONNECTION);
        let fewest = held.0.iter().map(|it| it.packets.len()).min();
        assert!(fewest.is_some_and(|fewest| fewest > 10), "{fewest:?}");
    }

    /// Groups of one or two pictures: several sources have come and gone before one of them takes over.
    #[test]
    fn f50_sources_that_followed_each_other_are_all_delivered() {
        let in_turn = [(0, 9), (10, 1), (11, 1), (20, 2), (21, 2), (30, 3)];
        assert_eq!(released(&in_turn, 3, Some(10)), [1, 2, 3, 4, 5]);
        assert_eq!(released(&in_turn, 3, None), [5]);
        // A foreign one goes on beside them.
        let beside = [(10, 1), (11, 1), (12, 9), (20, 3), (21, 9), (22, 3)];
        assert_eq!(released(&beside, 3, Some(0)), [3, 5]);
        // One packet may be anyone's.
        let single = [(10, 1), (20, 3), (21, 3)];
        assert_eq!(released(&single, 3, Some(0)), [1, 2]);
    }
}
