//! What is told of packets that were not taken in time. Pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    mux::{Packet, PacketKind},
    rtspsrc::messages::Overflow,
};

/// At most one message in so long, for each stream. The next one has the counts of all before it.
const INTERVAL: Duration = Duration::from_secs(1);

/// Of one stream.
#[derive(Debug, Default)]
struct Passage {
    processed: u64,
    /// When the last packet passed on came.
    last: Option<Instant>,
    told: Option<Instant>,
}

/// Follows the packets of one session on their way to the pads.
#[derive(Debug, Default)]
pub(crate) struct Losses(BTreeMap<usize, Passage>);

impl Losses {
    /// A packet is about to be passed on. If there is something to tell, gives it; `dropped` looks up
    /// how many packets of the stream were dropped so far.
    pub(crate) fn on_packet(
        &mut self,
        packet: &Packet,
        now: Instant,
        dropped: impl FnOnce() -> u64,
    ) -> Option<Overflow> {
        if packet.kind != PacketKind::Rtp {
            return None;
        }
        let passage = self.0.entry(packet.stream).or_default();
        let before = passage.last.replace(packet.received);
        let processed = passage.processed;
        passage.processed += 1;
        let is_new = passage
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= INTERVAL);
        if !packet.discontinuity || !is_new {
            return None;
        }
        passage.told = Some(now);
        let began = before.unwrap_or(packet.received);
        Some(Overflow {
            ago: now.saturating_duration_since(began),
            gap: packet.received.saturating_duration_since(began),
            late: now.saturating_duration_since(packet.received),
            processed,
            dropped: dropped(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any time will do")]

    use bytes::Bytes;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn packet(received: Instant, discontinuity: bool) -> Packet {
        Packet {
            stream: 0,
            kind: PacketKind::Rtp,
            payload: Bytes::new(),
            received,
            discontinuity,
        }
    }

    #[test]
    fn f32_a_gap_is_told_with_its_place_and_length() {
        let start = Instant::now();
        let mut losses = Losses::default();
        assert_eq!(losses.on_packet(&packet(start, false), start, || 0), None);
        let after = packet(start + 500 * MS, true);
        let told = losses.on_packet(&after, start + 520 * MS, || 7);
        assert_eq!(
            told,
            Some(Overflow {
                ago: 520 * MS,
                gap: 500 * MS,
                late: 20 * MS,
                processed: 1,
                dropped: 7,
            })
        );
    }

    #[test]
    fn messages_are_a_second_apart_and_each_has_all_counts() {
        let start = Instant::now();
        let mut losses = Losses::default();
        let mut told = Vec::new();
        for n in 0..25 {
            let at = start + n * 100 * MS;
            let message = losses.on_packet(&packet(at, true), at, || u64::from(n));
            told.extend(message.map(|message| message.dropped));
        }
        assert_eq!(told, [0, 10, 20]);
    }
}
