//! Decides which packets are delivered, and makes buffers of them: copies small ones, decides on stamps and
//! flags.
//!
//! # What cannot be delivered (fault F41)
//!
//! Packets that are dropped because the consumer is slow show that the camera works. Packets that the
//! description does not say how to play do not: a session of which no packet can be delivered counts as
//! silent.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

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
                    stamp: discontinuity && now.is_long_after(&before),
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
    /// Whether a manager needs a time to start from: after a long pause, or where the numbers do not
    /// go up as behind lost packets.
    fn is_long_after(&self, before: &Self) -> bool {
        let sequences = (before.header.sequence, self.header.sequence);
        self.passed_since(before) >= LONG_GAP || !rtp::goes_up(sequences.0, sequences.1)
    }

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

/// Why a packet cannot be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undeliverable {
    /// The description does not name its payload type.
    NoMap(u8),
    /// The description gives no clock rate for it, or 0.
    NoClockRate(u8),
    /// The stream began with another payload type, and its pad has the caps of that.
    OtherType { first: u8, now: u8 },
    /// It is no RTP packet, or not of the stream's source.
    Foreign,
}

impl fmt::Display for Undeliverable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMap(payload_type) => {
                write!(
                    f,
                    "the description says nothing of payload type {payload_type}"
                )
            }
            Self::NoClockRate(payload_type) => {
                write!(
                    f,
                    "payload type {payload_type} is described without a clock rate"
                )
            }
            Self::OtherType { first, now } => {
                write!(f, "the payload type has changed from {first} to {now}")
            }
            Self::Foreign => f.write_str("they are not of the stream's source"),
        }
    }
}

/// The payload type that the pad of one stream shows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown(Option<u8>);

impl Shown {
    /// Judges a packet of this payload type. `begins`: the stream begins anew with it. `described` tells
    /// whether the description is sufficient for a payload type.
    pub(crate) fn judge(
        &mut self,
        payload_type: u8,
        begins: bool,
        described: impl FnOnce(u8) -> Result<(), Undeliverable>,
    ) -> Result<(), Undeliverable> {
        match self.0.filter(|_| !begins) {
            Some(first) if first == payload_type => Ok(()),
            Some(first) => Err(Undeliverable::OtherType {
                first,
                now: payload_type,
            }),
            None => {
                let judged = described(payload_type);
                self.0 = judged.is_ok().then_some(payload_type);
                judged
            }
        }
    }
}

/// The packets of one stream that could not be delivered, since the last one that could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    since: Instant,
    pub(crate) count: u64,
    pub(crate) why: Undeliverable,
}

impl Left {
    pub(crate) fn new(since: Instant, count: u64, why: Undeliverable) -> Self {
        Self { since, count, why }
    }
}

/// The packets that could not be delivered, of all streams of a session.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    streams: BTreeMap<usize, Left>,
    is_told: bool,
}

impl LeftOut {
    /// A packet of the stream was delivered.
    pub(crate) fn on_delivered(&mut self, stream: usize) {
        if !self.streams.is_empty() {
            self.streams.remove(&stream);
        }
    }

    /// A packet of the stream could not be delivered. Returns what to report, once in a session: when no
    /// packet of this stream was delivered for `timeout`, while those of others may have been.
    pub(crate) fn on_left(
        &mut self,
        stream: usize,
        why: Undeliverable,
        now: Instant,
        timeout: Duration,
    ) -> Option<Left> {
        let left = self.streams.entry(stream).or_insert(Left {
            since: now,
            count: 0,
            why,
        });
        left.count += 1;
        left.why = why;
        let is_long = now.saturating_duration_since(left.since) >= timeout;
        let is_news = is_long && !timeout.is_zero() && !self.is_told;
        self.is_told |= is_news;
        is_news.then_some(*left)
    }

    /// Whether to report a stream. True once in a session.
    pub(crate) fn tell_once(&mut self) -> bool {
        !std::mem::replace(&mut self.is_told, true)
    }

    /// The sum of all streams; `None` if every packet was delivered.
    pub(crate) fn all(&self) -> Option<Left> {
        let streams = self.streams.values().copied();
        streams.reduce(|one, other| Left {
            count: one.count + other.count,
            ..one
        })
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

#[cfg(test)]
mod deliverable_tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// A payload type, whether the stream begins anew with it, and the verdict on the packet.
    type JudgedPacket = (u8, bool, Result<(), Undeliverable>);

    /// 96 and 97 are described, 98 without a clock rate.
    fn described(payload_type: u8) -> Result<(), Undeliverable> {
        match payload_type {
            96 | 97 => Ok(()),
            98 => Err(Undeliverable::NoClockRate(98)),
            other => Err(Undeliverable::NoMap(other)),
        }
    }

    #[test]
    fn f41_the_description_and_the_first_packet_show_what_cannot_be_delivered() {
        use Undeliverable::{NoClockRate, NoMap, OtherType};
        let other = |first, now| Err(OtherType { first, now });
        let cases: [&[JudgedPacket]; 5] = [
            &[
                (96, true, Ok(())),
                (96, false, Ok(())),
                (97, false, other(96, 97)),
            ],
            &[
                (96, true, Ok(())),
                (13, false, other(96, 13)),
                (96, false, Ok(())),
            ],
            &[
                (96, true, Ok(())),
                (97, true, Ok(())),
                (96, false, other(97, 96)),
            ],
            &[
                (98, true, Err(NoClockRate(98))),
                (98, false, Err(NoClockRate(98))),
            ],
            &[(99, true, Err(NoMap(99))), (96, false, Ok(()))],
        ];
        for case in cases {
            let mut shown = Shown::default();
            for (payload_type, begins, expected) in case {
                let judged = shown.judge(*payload_type, *begins, described);
                assert_eq!(judged, *expected, "{case:?}");
            }
        }
    }

    #[test]
    fn a_stream_without_a_delivered_packet_is_reported_once() {
        let start = crate::rtspsrc::threads::timer::now();
        let mut left_out = LeftOut::default();
        let why = Undeliverable::NoMap(99);
        let mut told = Vec::new();
        for second in 0..60 {
            left_out.on_delivered(0);
            let now = start + second * S;
            told.extend(
                left_out
                    .on_left(1, why, now, 20 * S)
                    .map(|left| (second, left.count)),
            );
        }
        assert_eq!(told, [(20, 21)]);
        assert_eq!(left_out.all().map(|left| left.count), Some(60));
        left_out.on_delivered(1);
        assert_eq!(left_out.all(), None);
    }

    #[test]
    fn packets_beside_delivered_ones_are_never_reported() {
        let start = crate::rtspsrc::threads::timer::now();
        let mut left_out = LeftOut::default();
        for second in 0..60 {
            let (now, why) = (start + second * S, Undeliverable::Foreign);
            assert_eq!(left_out.on_left(0, why, now, 2 * S), None);
            left_out.on_delivered(0);
        }
    }
}
