//! From a packet to a buffer: what is copied, stamped and flagged.

use bytes::Bytes;
use gstreamer as gst;

/// Payloads below it are copied: a slice keeps the whole read buffer alive for as long as the
/// jitterbuffer holds the packet, and audio comes in pieces of 172 bytes.
const COPY_BELOW: usize = 512;

/// Packets in a row with another SSRC after which the stream has changed its source. RTP senders
/// collide and misbehave one packet at a time; `rtpsession` wants two as well before it believes.
const SOURCE_CHANGE: u32 = 2;

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
/// As `rtspsrc` does over TCP, only the first packet is stamped: the times of the others follow
/// from their RTP times, free of the jitter of a transport that delivers in bursts.
#[derive(Debug, Default)]
pub(super) struct Marker {
    source: Option<u32>,
    /// SSRC of the last packets of another source, and how many came in a row.
    candidate: Option<(u32, u32)>,
}

impl Marker {
    /// The next packet is the first one again: after a pause, for instance.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Decides on the RTP packet `payload`; `discontinuity`: packets before it were lost here.
    pub(super) fn handle_packet(&mut self, payload: &[u8], discontinuity: bool) -> Step {
        let first = Marks {
            stamp: true,
            discont: true,
        };
        let Some(ssrc) = ssrc(payload) else {
            return Step::Drop;
        };
        match self.source {
            None => {
                self.source = Some(ssrc);
                Step::Push(first)
            }
            Some(source) if source == ssrc => {
                self.candidate = None;
                Step::Push(Marks {
                    stamp: false,
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
                    candidate: None,
                };
                Step::Restart(first)
            }
        }
    }
}

/// The SSRC of an RTP packet; none if it is too short for one (RFC 3550 5.1).
fn ssrc(payload: &[u8]) -> Option<u32> {
    let bytes = payload.get(8..12)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
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
    use super::*;

    const FIRST: Marks = Marks {
        stamp: true,
        discont: true,
    };

    fn packet(ssrc: u32) -> [u8; 12] {
        let mut packet = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        packet[8..].copy_from_slice(&ssrc.to_be_bytes());
        packet
    }

    #[test]
    fn only_the_first_packet_is_stamped() {
        let mut marker = Marker::default();
        assert_eq!(marker.handle_packet(&packet(1), false), Step::Push(FIRST));
        assert_eq!(
            marker.handle_packet(&packet(1), false),
            Step::Push(Marks::default())
        );
        marker.reset();
        assert_eq!(marker.handle_packet(&packet(1), false), Step::Push(FIRST));
    }

    #[test]
    fn a_gap_is_marked_but_not_stamped() {
        let mut marker = Marker::default();
        marker.handle_packet(&packet(1), false);
        let gap = Marks {
            stamp: false,
            discont: true,
        };
        assert_eq!(marker.handle_packet(&packet(1), true), Step::Push(gap));
    }

    #[test]
    fn a_stray_packet_changes_nothing_a_new_source_begins_anew() {
        let mut marker = Marker::default();
        marker.handle_packet(&packet(1), false);
        assert_eq!(marker.handle_packet(&packet(2), false), Step::Drop);
        assert_eq!(
            marker.handle_packet(&packet(1), false),
            Step::Push(Marks::default())
        );
        assert_eq!(marker.handle_packet(&packet(2), false), Step::Drop);
        assert_eq!(marker.handle_packet(&packet(3), false), Step::Drop);
        assert_eq!(
            marker.handle_packet(&packet(3), false),
            Step::Restart(FIRST)
        );
        assert_eq!(
            marker.handle_packet(&packet(3), false),
            Step::Push(Marks::default())
        );
    }

    #[test]
    fn a_packet_without_room_for_an_ssrc_is_left_out() {
        assert_eq!(
            Marker::default().handle_packet(&[0x80; 11], false),
            Step::Drop
        );
        assert_eq!(Marker::default().handle_packet(&[], false), Step::Drop);
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
