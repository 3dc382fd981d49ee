//! Makes buffers of packets: copies small ones, and decides on stamps and flags.

use std::time::{Duration, Instant};

use bytes::Bytes;
use gstreamer as gst;

use crate::mux::proto::wire::rtp::{self, RtpHeader};

/// Smaller payloads are copied: a slice keeps the whole read buffer alive for as long as the jitterbuffer
/// holds the packet, and audio comes in packets of 172 bytes.
const COPY_BELOW: usize = 512;

/// After so many packets in a row with another SSRC the stream has changed its source. Collisions and
/// faults of a sender show in single packets; `rtpsession` waits for two as well.
const SOURCE_CHANGE: u32 = 2;

/// After a longer gap a packet needs a stamp of its own. A jitterbuffer that misses more than a minute, by
/// the packet rate that it has estimated, begins anew, and then has no time to start from. This is half
/// of its limit, as it works with an estimate.
const LONG_GAP: Duration = Duration::from_secs(30);

/// A source has begun anew also if its RTP time jumps further than this, while the time of arrival does
/// not.
const JUMP: Duration = Duration::from_secs(1);

/// What to do with an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketAction {
    /// Push it.
    Push(Marks),
    /// The stream has a new source: restart the stream, then push it.
    Restart(Marks),
    /// The source has begun anew under its old SSRC: its sequence numbers do not go on behind lost packets,
    /// or its RTP time does not. `rtpsession` drops the first packet of such a source, and with it the
    /// stamp; then the jitterbuffer drops all that follow. So a manager that remembers sources is renewed,
    /// and the packet is its first one; other managers just push it.
    Renew(Marks),
    /// Leave it out: it is not of the stream's source.
    Drop,
}

/// The stamp and the flag of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The buffer gets the running time of its arrival.
    pub(crate) stamp: bool,
    /// The buffer gets the flag DISCONT.
    pub(crate) discont: bool,
}

/// The state of one stream between packets.
///
/// As `rtspsrc` does over TCP, it stamps only the first packet and the first after a long gap. The times
/// of the others follow from their RTP times, without the jitter of a transport that delivers in bursts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marker {
    /// The last packet of the stream's source.
    last: Option<LastPacket>,
    /// The SSRC of the last packets of another source, and how many of them came in a row.
    candidate: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct LastPacket {
    header: RtpHeader,
    received: Instant,
}

impl Marker {
    /// Takes the next packet for the first one, after a pause for instance.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Decides on an RTP packet. `discontinuity`: packets before it were dropped here, or the
    /// session was moved to another connection. `clock_rate` gives that of the stream, in Hz.
    pub(crate) fn handle_packet(
        &mut self,
        header: RtpHeader,
        received: Instant,
        discontinuity: bool,
        clock_rate: impl FnOnce() -> Option<u32>,
    ) -> PacketAction {
        let first = Marks {
            stamp: true,
            discont: true,
        };
        let now = LastPacket { header, received };
        match self.last {
            None => {
                self.last = Some(now);
                PacketAction::Push(first)
            }
            Some(before) if before.header.ssrc == header.ssrc => {
                self.candidate = None;
                self.last = Some(now);
                let marks = Marks {
                    stamp: discontinuity && now.passed_since(&before) >= LONG_GAP,
                    discont: discontinuity,
                };
                match !discontinuity || now.goes_on_from(&before, clock_rate()) {
                    true => PacketAction::Push(marks),
                    false => PacketAction::Renew(marks),
                }
            }
            Some(_) => {
                let seen = match self.candidate {
                    Some((candidate, seen)) if candidate == header.ssrc => seen + 1,
                    _ => 1,
                };
                // A session that was moved may have a new source on its new connection. The first packet
                // of that source mostly begins a keyframe, so it is not dropped.
                if seen < SOURCE_CHANGE && !discontinuity {
                    self.candidate = Some((header.ssrc, seen));
                    return PacketAction::Drop;
                }
                (self.last, self.candidate) = (Some(now), None);
                PacketAction::Restart(first)
            }
        }
    }
}

impl LastPacket {
    fn passed_since(&self, before: &Self) -> Duration {
        self.received.saturating_duration_since(before.received)
    }

    /// Whether sequence number and RTP time go on from those of `before`, after some lost packets.
    fn goes_on_from(&self, before: &Self, clock_rate: Option<u32>) -> bool {
        if !rtp::goes_on(before.header.sequence, self.header.sequence) {
            return false;
        }
        let Some(clock_rate) = clock_rate.filter(|rate| *rate > 0) else {
            return true;
        };
        let units = self.header.timestamp.wrapping_sub(before.header.timestamp);
        let units = units.cast_signed();
        let step = f64::from(units) / f64::from(clock_rate);
        let passed = self.passed_since(before).as_secs_f64();
        let jump = JUMP.as_secs_f64();
        step.abs() <= jump || (step - passed).abs() <= jump
    }
}

/// A buffer with `payload`, without times and flags.
pub(crate) fn from_payload(payload: Bytes) -> gst::Buffer {
    if payload.len() < COPY_BELOW {
        gst::Buffer::from_slice(Box::<[u8]>::from(&payload[..]))
    } else {
        gst::Buffer::from_slice(payload)
    }
}

/// Puts `marks` on `buffer`. `now` gives the running time of arrival, if there is a clock.
pub(crate) fn mark(
    buffer: &mut gst::Buffer,
    marks: Marks,
    now: impl FnOnce() -> Option<gst::ClockTime>,
) {
    if marks == Marks::default() {
        return;
    }
    let buffer = buffer.make_mut();
    if marks.discont {
        buffer.set_flags(gst::BufferFlags::DISCONT);
    }
    if marks.stamp {
        let now = now();
        buffer.set_pts(now);
        buffer.set_dts(now);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any time will do")]

    use super::*;

    const FIRST: Marks = Marks {
        stamp: true,
        discont: true,
    };

    fn now() -> Instant {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        *START
    }

    /// As `handle_packet` at 90 kHz.
    fn take(
        marker: &mut Marker,
        packet: &RtpHeader,
        at: Instant,
        discontinuity: bool,
    ) -> PacketAction {
        marker.handle_packet(*packet, at, discontinuity, || Some(90_000))
    }

    fn packet(ssrc: u32) -> RtpHeader {
        RtpHeader {
            payload_type: 96,
            sequence: 1,
            timestamp: 0,
            ssrc,
        }
    }

    #[test]
    fn only_the_first_packet_is_stamped() {
        let mut marker = Marker::default();
        assert_eq!(
            take(&mut marker, &packet(1), now(), false),
            PacketAction::Push(FIRST)
        );
        assert_eq!(
            take(&mut marker, &packet(1), now(), false),
            PacketAction::Push(Marks::default())
        );
        marker.reset();
        assert_eq!(
            take(&mut marker, &packet(1), now(), false),
            PacketAction::Push(FIRST)
        );
    }

    #[test]
    fn a_gap_is_marked_but_not_stamped() {
        let mut marker = Marker::default();
        take(&mut marker, &packet(1), now(), false);
        let gap = Marks {
            stamp: false,
            discont: true,
        };
        assert_eq!(
            take(&mut marker, &packet(1), now(), true),
            PacketAction::Push(gap)
        );
    }

    #[test]
    fn f32_the_packet_after_a_long_gap_is_stamped() {
        let mut marker = Marker::default();
        take(&mut marker, &packet(1), now(), false);
        let late = now() + LONG_GAP;
        assert_eq!(
            take(&mut marker, &packet(1), late, true),
            PacketAction::Push(FIRST)
        );
        // No packet is missing: a camera may be silent for that long.
        let later = late + LONG_GAP;
        assert_eq!(
            take(&mut marker, &packet(1), later, false),
            PacketAction::Push(Marks::default())
        );
    }

    /// A packet of SSRC 1 with these numbers.
    fn numbered(sequence: u16, timestamp: u32) -> RtpHeader {
        RtpHeader {
            sequence,
            timestamp,
            ..packet(1)
        }
    }

    #[test]
    fn f42_a_source_whose_numbers_or_times_do_not_go_on_behind_lost_packets_begins_anew() {
        const HZ: u32 = 90_000;
        // Sequence number and time, and what came 4 s after (500, 1 000 000).
        let table = [
            (501, 1_000_000, true),
            (620, 1_000_000 + 4 * HZ, true),
            (620, 1_000_000 + 5 * HZ, true),
            (620, 1_000_000 + 6 * HZ, false),
            (620, 1_000_000 - 2 * HZ, false),
            (620, 77, false),
            (480, 1_000_000, true),
            (300, 1_000_000, false),
            (3_400, 1_000_000 + 4 * HZ, true),
            (3_500, 1_000_000 + 4 * HZ, false),
            (40_000, 1_000_000 + 4 * HZ, false),
        ];
        for (sequence, timestamp, goes_on) in table {
            let mut marker = Marker::default();
            take(&mut marker, &numbered(500, 1_000_000), now(), false);
            let later = now() + Duration::from_secs(4);
            let packet = numbered(sequence, timestamp);
            let step = take(&mut marker.clone(), &packet, later, true);
            assert_eq!(
                !matches!(step, PacketAction::Renew(_)),
                goes_on,
                "{sequence} {timestamp}"
            );
            // If no packet was dropped here, the jump is the sender's own and not the result of a move.
            let step = take(&mut marker, &packet, later, false);
            assert_eq!(step, PacketAction::Push(Marks::default()));
        }
    }

    #[test]
    fn a_stray_packet_changes_nothing_a_new_source_begins_anew() {
        let mut marker = Marker::default();
        take(&mut marker, &packet(1), now(), false);
        assert_eq!(
            take(&mut marker, &packet(2), now(), false),
            PacketAction::Drop
        );
        assert_eq!(
            take(&mut marker, &packet(1), now(), false),
            PacketAction::Push(Marks::default())
        );
        assert_eq!(
            take(&mut marker, &packet(2), now(), false),
            PacketAction::Drop
        );
        assert_eq!(
            take(&mut marker, &packet(3), now(), false),
            PacketAction::Drop
        );
        assert_eq!(
            take(&mut marker, &packet(3), now(), false),
            PacketAction::Restart(FIRST)
        );
        assert_eq!(
            take(&mut marker, &packet(3), now(), false),
            PacketAction::Push(Marks::default())
        );
    }

    #[test]
    fn f42_behind_lost_packets_a_new_source_begins_with_its_first_packet() {
        let mut marker = Marker::default();
        take(&mut marker, &packet(1), now(), false);
        let moved = take(&mut marker, &packet(2), now(), true);
        assert_eq!(moved, PacketAction::Restart(FIRST));
        let next = take(&mut marker, &packet(2), now(), false);
        assert_eq!(next, PacketAction::Push(Marks::default()));
    }

    #[test]
    fn large_payloads_are_not_copied() {
        gst::init().unwrap();
        let payload = Bytes::from(vec![7u8; COPY_BELOW]);
        let address = payload.as_ptr();
        let buffer = from_payload(payload);
        assert_eq!(buffer.map_readable().unwrap().as_ptr(), address);
        let small = from_payload(Bytes::from_static(&[1, 2, 3]));
        assert_eq!(small.map_readable().unwrap().as_slice(), [1, 2, 3]);
    }
}
