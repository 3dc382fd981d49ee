//! From a packet to a buffer: what is copied, stamped and flagged.

use std::time::{Duration, Instant};

use bytes::Bytes;
use gstreamer as gst;

use crate::mux::proto::rtp::RtpHeader;

/// Payloads below it are copied: a slice keeps the whole read buffer alive for as long as the
/// jitterbuffer holds the packet, and audio comes in pieces of 172 bytes.
const COPY_BELOW: usize = 512;

/// Packets in a row with another SSRC after which the stream has changed its source. RTP senders
/// collide and misbehave one packet at a time; `rtpsession` wants two as well before it believes.
const SOURCE_CHANGE: u32 = 2;

/// Gaps after which the times of what follows cannot be had from what came before: a jitterbuffer
/// that misses more than a minute, by the rate it has estimated, or half of all sequence numbers,
/// begins anew, and has no time to begin with. Half of that, since it estimates.
const LONG_GAP: Duration = Duration::from_secs(30);
const LONG_GAP_PACKETS: u16 = 0x4000;

/// What to do with an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Push it.
    Push(Marks),
    /// The stream has a new source: begin anew, then push it.
    Restart(Marks),
    /// Leave it out: it is of another source than the stream.
    Drop,
}

/// How a buffer is marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Stamp it with the running time of its arrival.
    pub(super) stamp: bool,
    /// Flag it as not following the one before.
    pub(super) discont: bool,
}

/// The state of one stream between packets.
///
/// As `rtspsrc` does over TCP, only the first packet is stamped, and the first after a long gap: the times of the others follow
/// from their RTP times, free of the jitter of a transport that delivers in bursts.
#[derive(Debug, Default)]
pub(super) struct Marker {
    source: Option<u32>,
    /// Sequence number and arrival of the last packet of the source.
    last: Option<(u16, Instant)>,
    /// SSRC of the last packets of another source, and how many came in a row.
    candidate: Option<(u32, u32)>,
}

impl Marker {
    /// The next packet is the first one again: after a pause, for instance.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Decides on the RTP packet `payload`; `discontinuity`: packets before it were lost here.
    pub(super) fn handle_packet(
        &mut self,
        payload: &[u8],
        received: Instant,
        discontinuity: bool,
    ) -> Step {
        let first = Marks {
            stamp: true,
            discont: true,
        };
        let Some(RtpHeader { ssrc, sequence, .. }) = RtpHeader::of(payload) else {
            return Step::Drop;
        };
        match self.source {
            None => {
                self.source = Some(ssrc);
                self.last = Some((sequence, received));
                Step::Push(first)
            }
            Some(source) if source == ssrc => {
                self.candidate = None;
                let stamp = discontinuity && self.is_long_gap(sequence, received);
                self.last = Some((sequence, received));
                Step::Push(Marks {
                    stamp,
                    discont: discontinuity,
                })
            }
            Some(_) => {
                let seen = match self.candidate {
                    Some((candidate, seen)) if candidate == ssrc => seen + 1,
                    _ => 1,
                };
                if seen < SOURCE_CHANGE {
                    self.candidate = Some((ssrc, seen));
                    return Step::Drop;
                }
                *self = Self {
                    source: Some(ssrc),
                    last: Some((sequence, received)),
                    candidate: None,
                };
                Step::Restart(first)
            }
        }
    }
}

impl Marker {
    /// Whether so much is missing before this packet that a jitterbuffer begins anew.
    fn is_long_gap(&self, sequence: u16, received: Instant) -> bool {
        let Some((last, at)) = self.last else {
            return true;
        };
        sequence.wrapping_sub(last) >= LONG_GAP_PACKETS
            || received.saturating_duration_since(at) >= LONG_GAP
    }
}

/// A buffer with `payload`; no time, no flags.
pub(super) fn from_payload(payload: Bytes) -> gst::Buffer {
    if payload.len() < COPY_BELOW {
        gst::Buffer::from_slice(Box::<[u8]>::from(&payload[..]))
    } else {
        gst::Buffer::from_slice(payload)
    }
}

/// Puts `marks` on `buffer`; `now` is the running time of arrival, where there is a clock.
pub(super) fn mark(
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

    fn packet(ssrc: u32) -> [u8; 12] {
        let mut packet = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        packet[8..].copy_from_slice(&ssrc.to_be_bytes());
        packet
    }

    #[test]
    fn only_the_first_packet_is_stamped() {
        let mut marker = Marker::default();
        assert_eq!(
            marker.handle_packet(&packet(1), now(), false),
            Step::Push(FIRST)
        );
        assert_eq!(
            marker.handle_packet(&packet(1), now(), false),
            Step::Push(Marks::default())
        );
        marker.reset();
        assert_eq!(
            marker.handle_packet(&packet(1), now(), false),
            Step::Push(FIRST)
        );
    }

    #[test]
    fn a_gap_is_marked_but_not_stamped() {
        let mut marker = Marker::default();
        marker.handle_packet(&packet(1), now(), false);
        let gap = Marks {
            stamp: false,
            discont: true,
        };
        assert_eq!(
            marker.handle_packet(&packet(1), now(), true),
            Step::Push(gap)
        );
    }

    #[test]
    fn f32_the_packet_after_a_long_gap_is_stamped() {
        let mut marker = Marker::default();
        marker.handle_packet(&packet(1), now(), false);
        let late = now() + LONG_GAP;
        assert_eq!(
            marker.handle_packet(&packet(1), late, true),
            Step::Push(FIRST)
        );
        let mut far = packet(1);
        far[2..4].copy_from_slice(&(1 + LONG_GAP_PACKETS).to_be_bytes());
        assert_eq!(marker.handle_packet(&far, late, true), Step::Push(FIRST));
        // Nothing is missing: a camera may be silent for that long.
        let later = late + LONG_GAP;
        assert_eq!(
            marker.handle_packet(&far, later, false),
            Step::Push(Marks::default())
        );
    }

    #[test]
    fn a_stray_packet_changes_nothing_a_new_source_begins_anew() {
        let mut marker = Marker::default();
        marker.handle_packet(&packet(1), now(), false);
        assert_eq!(marker.handle_packet(&packet(2), now(), false), Step::Drop);
        assert_eq!(
            marker.handle_packet(&packet(1), now(), false),
            Step::Push(Marks::default())
        );
        assert_eq!(marker.handle_packet(&packet(2), now(), false), Step::Drop);
        assert_eq!(marker.handle_packet(&packet(3), now(), false), Step::Drop);
        assert_eq!(
            marker.handle_packet(&packet(3), now(), false),
            Step::Restart(FIRST)
        );
        assert_eq!(
            marker.handle_packet(&packet(3), now(), false),
            Step::Push(Marks::default())
        );
    }

    #[test]
    fn a_packet_without_room_for_an_ssrc_is_left_out() {
        assert_eq!(
            Marker::default().handle_packet(&[0x80; 11], now(), false),
            Step::Drop
        );
        assert_eq!(
            Marker::default().handle_packet(&[], now(), false),
            Step::Drop
        );
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
