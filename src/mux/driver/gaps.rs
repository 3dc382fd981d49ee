//! RTP packets that a server left out: over TCP nothing else loses any.

use std::time::{Duration, Instant};

use crate::mux::proto::rtp::RtpHeader;

/// What is further ahead, or behind, is a new beginning.
const LONGEST_GAP: u16 = 3000;

/// After this long without packets a stream may go on where it likes: it was paused.
const PAUSE: Duration = Duration::from_secs(2);

/// Watches the sequence numbers of one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Sequence {
    ssrc: u32,
    next: u16,
    heard: Option<Instant>,
}

impl Sequence {
    /// Packets missing before this one.
    fn on_packet(&mut self, now: Instant, header: &RtpHeader) -> u16 {
        let is_known = self.ssrc == header.ssrc
            && self
                .heard
                .is_some_and(|heard| now.saturating_duration_since(heard) < PAUSE);
        let missing = header.sequence.wrapping_sub(self.next);
        let is_gap = is_known && missing < LONGEST_GAP;
        // One that comes late was not missing.
        if is_gap || !is_known || missing < u16::MAX - LONGEST_GAP {
            self.next = header.sequence.wrapping_add(1);
        }
        (self.ssrc, self.heard) = (header.ssrc, Some(now));
        if is_gap { missing } else { 0 }
    }
}

/// The streams of one session.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    streams: Vec<Sequence>,
    /// Packets since the last look, and how many were missing.
    packets: u64,
    lost: u64,
}

impl Gaps {
    /// An RTP packet has come.
    pub(super) fn on_packet(&mut self, now: Instant, stream: usize, packet: &[u8]) {
        /// As many as anybody has; the number is ours, not the peer's.
        const MOST: usize = 64;

        let Some(header) = RtpHeader::of(packet).filter(|_| stream < MOST) else {
            return;
        };
        if stream >= self.streams.len() {
            self.streams.resize(stream + 1, Sequence::default());
        }
        if let Some(sequence) = self.streams.get_mut(stream) {
            self.lost += u64::from(sequence.on_packet(now, &header));
            self.packets += 1;
        }
    }

    /// Packets since the last call, and how many were missing.
    pub(super) fn take(&mut self) -> (u64, u64) {
        (
            std::mem::take(&mut self.packets),
            std::mem::take(&mut self.lost),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(ssrc.to_be_bytes());
        packet
    }

    #[test]
    fn what_is_missing_between_packets_is_counted() {
        let (now, mut gaps) = (Instant::now(), Gaps::default());
        for sequence in [65_530, 65_531, 65_535, 0, 2, 1, 3] {
            gaps.on_packet(now, 0, &packet(7, sequence));
        }
        assert_eq!(gaps.take(), (7, 4), "one came late");
        assert_eq!(gaps.take(), (0, 0));
    }

    #[test]
    fn new_beginnings_are_no_gaps() {
        let (now, mut gaps) = (Instant::now(), Gaps::default());
        gaps.on_packet(now, 0, &packet(7, 100));
        gaps.on_packet(now, 1, &packet(7, 500));
        gaps.on_packet(now, 0, &packet(8, 900));
        gaps.on_packet(now, 0, &packet(8, 30_000));
        gaps.on_packet(now, 0, &packet(8, 30_001));
        gaps.on_packet(now + PAUSE, 0, &packet(8, 30_100));
        assert_eq!(gaps.take(), (6, 0));
    }

    #[test]
    fn what_is_no_rtp_is_not_looked_at() {
        let mut gaps = Gaps::default();
        gaps.on_packet(Instant::now(), 0, &[0x80; 11]);
        gaps.on_packet(Instant::now(), usize::MAX, &packet(7, 1));
        assert_eq!(gaps.take(), (0, 0));
    }
}
