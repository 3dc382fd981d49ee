//! The sequence numbers, RTP times and SSRC under which downstream sees a stream. When the source begins
//! anew, or another source takes over, they are changed so that downstream takes the packets.
//!
//! * Depayloaders drop packets whose sequence numbers are up to 100 behind. With the light manager only
//!   such numbers are changed.
//! * `rtpsession` drops the first packet of a source that begins anew under its SSRC, and its jitterbuffer
//!   drops packets that are behind. A new SSRC gets a new jitterbuffer, and what waits in the old one is
//!   lost: two seconds by default. So with rtpbin the SSRC stays, and numbers and times go on.
//! * For each number that is missing the jitterbuffer sets a timer and queues an item, in lists that it searches
//!   from one end, and it waits as long as the last packets were apart. Behind some gaps of thousands it took
//!   14 s for the packets of one second. So the numbers go on also behind a loss that no late packet can fill.

use std::time::Instant;

use bytes::Bytes;

use super::buffer::Marks;
use crate::mux::{
    Packet,
    proto::wire::rtp::{self, RtpHeader},
};

/// How far behind a packet is that a depayloader drops (`max-reorder`), and a little more.
const DROPPED_BEHIND: u16 = 128;

/// The SSRC that downstream sees, and that of the source. `None` before the first packet.
pub(crate) type AliasedSource = Option<(u32, u32)>;

/// The numbers under which downstream sees one stream.
#[derive(Debug, Default)]
pub(crate) struct Alias {
    /// Downstream is rtpbin.
    is_for_rtpbin: bool,
    /// The SSRC that downstream sees.
    shown: Option<u32>,
    /// That of the source.
    source: u32,
    /// Added to sequence numbers and RTP times.
    sequence: u16,
    time: u32,
    /// The last packet that downstream saw.
    last: Option<(RtpHeader, Instant)>,
}

impl Alias {
    pub(crate) fn new(is_for_rtpbin: bool) -> Self {
        Self {
            is_for_rtpbin,
            ..Self::default()
        }
    }

    pub(crate) fn sources(&self) -> AliasedSource {
        Some((self.shown?, self.source))
    }

    /// Puts the numbers into a packet. `rate` is the clock rate of the source in Hz. Returns whether [`sources`](Self::sources) are others than before.
    pub(crate) fn apply(&mut self, packet: &mut Packet, marks: Marks, rate: u32) -> bool {
        let Some(header) = packet.header else {
            return false;
        };
        let before = self.sources();
        self.source = header.ssrc;
        if let Some((last, _)) = self.last
            && marks.anew
            && !self.is_for_rtpbin
        {
            let behind = last.sequence.wrapping_sub(header.sequence);
            self.sequence = match behind <= DROPPED_BEHIND {
                true => behind.wrapping_add(1),
                false => 0,
            };
            self.shown = Some(header.ssrc);
            self.last = None;
        } else if let Some((last, at)) = self.last
            && marks.discont
            && self.is_for_rtpbin
        {
            self.sequence = last.sequence.wrapping_add(1).wrapping_sub(header.sequence);
            if marks.anew {
                let passed = packet.received.saturating_duration_since(at).as_secs_f64();
                let now = last
                    .timestamp
                    .wrapping_add((passed * f64::from(rate)) as u32);
                self.time = now.wrapping_sub(header.timestamp);
            }
        }
        let shown = RtpHeader {
            sequence: header.sequence.wrapping_add(self.sequence),
            timestamp: header.timestamp.wrapping_add(self.time),
            ssrc: *self.shown.get_or_insert(header.ssrc),
            ..header
        };
        if self
            .last
            .is_none_or(|(last, _)| rtp::goes_up(last.sequence, shown.sequence))
        {
            self.last = Some((shown, packet.received));
        }
        if shown != header {
            let mut bytes = packet.payload.to_vec();
            put(&mut bytes, 2, &shown.sequence.to_be_bytes());
            put(&mut bytes, 4, &shown.timestamp.to_be_bytes());
            put(&mut bytes, 8, &shown.ssrc.to_be_bytes());
            packet.payload = bytes.into();
        }
        self.sources() != before
    }

    /// A compound RTCP packet of the server, as a manager is to see it that gets such packets. Reports of all
    /// other sources, the first one of the stream among them, are of one other source there: `rtpsession`
    /// keeps each source that reports.
    pub(crate) fn apply_to_report(&self, report: Bytes) -> Bytes {
        let Some(shown) = self.shown else {
            return report;
        };
        let mut bytes = report.to_vec();
        let mut rest = &mut bytes[..];
        while let Some(&[_, kind, l0, l1]) = rest.first_chunk() {
            let length = 4 + 4 * usize::from(u16::from_be_bytes([l0, l1]));
            let Some((packet, after)) = rest.split_at_mut_checked(length) else {
                break;
            };
            if packet.get(4..8) != Some(&self.source.to_be_bytes()) {
                put(packet, 4, &(!shown).to_be_bytes());
            } else {
                put(packet, 4, &shown.to_be_bytes());
                if let (SENDER_REPORT, Some(time)) = (kind, packet.get(16..20)) {
                    let time = u32::from_be_bytes(time.try_into().unwrap_or_default());
                    put(packet, 16, &time.wrapping_add(self.time).to_be_bytes());
                }
            }
            rest = after;
        }
        bytes.into()
    }
}

/// A report of such a manager, as the server is to see it: it is about the source that the server knows.
pub(crate) fn undo_in_report(sources: AliasedSource, report: &[u8]) -> Bytes {
    let mut bytes = report.to_vec();
    if let Some((shown, source)) = sources
        && bytes.get(8..12) == Some(&shown.to_be_bytes())
    {
        put(&mut bytes, 8, &source.to_be_bytes());
    }
    bytes.into()
}

/// The packet type of a sender report.
const SENDER_REPORT: u8 = 200;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(field) = bytes.get_mut(at..at + value.len()) {
        field.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{mux::PacketKind, rtspsrc::threads::timer};

    /// What downstream sees of a packet that came after so many ms.
    fn shown(alias: &mut Alias, at: u64, header: RtpHeader, marks: Marks) -> (u32, u16, u32) {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(timer::now);
        let mut bytes = vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        put(&mut bytes, 2, &header.sequence.to_be_bytes());
        put(&mut bytes, 4, &header.timestamp.to_be_bytes());
        put(&mut bytes, 8, &header.ssrc.to_be_bytes());
        let mut packet = Packet {
            stream: 0,
            kind: PacketKind::Rtp,
            header: Some(header),
            payload: bytes.into(),
            received: *START + Duration::from_millis(at),
            discontinuity: false,
        };
        alias.apply(&mut packet, marks, 90_000);
        assert_eq!(packet.header, Some(header));
        assert_eq!((packet.payload.len(), packet.payload[12]), (13, 7));
        let shown = RtpHeader::of(&packet.payload).unwrap();
        (shown.ssrc, shown.sequence, shown.timestamp)
    }

    /// Those of a packet with which the source begins anew, or of the next one.
    fn marks(anew: bool) -> Marks {
        Marks {
            anew,
            discont: anew,
            stamp: false,
        }
    }

    fn header(ssrc: u32, sequence: u16, timestamp: u32) -> RtpHeader {
        RtpHeader {
            payload_type: 96,
            sequence,
            timestamp,
            ssrc,
        }
    }

    #[test]
    fn behind_the_light_manager_only_numbers_that_are_a_little_behind_are_moved() {
        let mut alias = Alias::new(false);
        let mut show = |header, begins| shown(&mut alias, 0, header, marks(begins));
        assert_eq!(show(header(1, 30, 0), true), (1, 30, 0));
        assert_eq!(show(header(1, 65_506, 7), true), (1, 31, 7));
        assert_eq!(show(header(0, 65_507, 7), false), (1, 32, 7));
        assert_eq!(show(header(2, 5_000, 9), true), (2, 5_000, 9));
        assert_eq!(show(header(2, 4_000, 9), true), (2, 4_000, 9));
    }

    #[test]
    fn sources_that_begin_anew_go_on_for_rtpbin() {
        let mut alias = Alias::new(true);
        let mut show = |at, header, begins| shown(&mut alias, at, header, marks(begins));
        assert_eq!(show(0, header(1, 65_534, 0), true), (1, 65_534, 0));
        assert_eq!(
            show(40, header(1, 65_535, 3_600), false),
            (1, 65_535, 3_600)
        );
        // Back by 60; another SSRC that goes on; another SSRC and other numbers.
        assert_eq!(show(80, header(1, 65_475, 7_200), true), (1, 0, 7_200));
        assert_eq!(show(120, header(2, 65_476, 10_800), false), (1, 1, 10_800));
        assert_eq!(show(160, header(3, 9, 77), true), (1, 2, 14_400));
        assert_eq!(show(160, header(3, 11, 77), false), (1, 4, 14_400));
        // One that was late.
        assert_eq!(show(161, header(3, 10, 77), false), (1, 3, 14_400));
        assert_eq!(show(1_160, header(9, 0, 0), true), (1, 5, 14_400 + 90_000));
    }

    #[test]
    fn f51_numbers_go_on_for_rtpbin_behind_a_loss_that_no_late_packet_can_fill() {
        for (is_for_rtpbin, expected) in [(true, [5, 7, 8, 9]), (false, [5, 7, 2_000, 2_001])] {
            let mut alias = Alias::new(is_for_rtpbin);
            let mut show = |sequence, discont| {
                let marks = Marks {
                    discont,
                    ..Marks::default()
                };
                let (_, number, time) = shown(&mut alias, 0, header(1, sequence, 70), marks);
                assert_eq!(time, 70);
                number
            };
            let numbers = [
                show(5, true),
                show(7, false),
                show(2_000, true),
                show(2_001, false),
            ];
            assert_eq!(numbers, expected);
        }
    }

    #[test]
    fn reports_are_of_the_same_source() {
        let report = |ssrc: u8, time: u8| {
            let mut bytes = vec![
                0x80, 200, 0, 6, 0, 0, 0, ssrc, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, time,
            ];
            bytes.extend([0; 8]);
            // A name, and a BYE.
            bytes.extend([0x81, 202, 0, 2, 0, 0, 0, ssrc, 1, 1, b'x', 0]);
            bytes.extend([0x81, 203, 0, 1, 0, 0, 0, ssrc]);
            Bytes::from(bytes)
        };
        let mut alias = Alias::new(true);
        shown(&mut alias, 0, header(1, 7, 0), marks(true));
        assert_eq!(alias.apply_to_report(report(1, 9)), report(1, 9));
        shown(&mut alias, 0, header(2, 0, 200), marks(true));
        // RTP time 200 is shown as 0.
        assert_eq!(alias.apply_to_report(report(2, 209)), report(1, 9));
        // A BYE of the first source is not of the present one; all others are one.
        for other in [1, 3, 4] {
            assert_eq!(
                alias.apply_to_report(report(other, 9))[4..8],
                (!1_u32).to_be_bytes()
            );
        }
        let own = [0x81, 201, 0, 7, 0, 0, 0, 99, 0, 0, 0, 1, 5];
        assert_eq!(
            undo_in_report(alias.sources(), &own)[..],
            [0x81, 201, 0, 7, 0, 0, 0, 99, 0, 0, 0, 2, 5]
        );
        for cut in 0..40 {
            alias.apply_to_report(report(2, 0).slice(..cut));
        }
    }
}
