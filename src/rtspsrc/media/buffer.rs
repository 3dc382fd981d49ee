//! Makes buffers of packets, and counts those that cannot be delivered.
//!
//! # What cannot be delivered (fault F41)
//!
//! Packets that are dropped because the consumer is slow show that the camera works. Packets that the
//! description does not say how to play do not: a session of which no packet can be delivered counts as
//! silent.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gstreamer as gst;

/// Smaller payloads are copied: a slice keeps the whole read buffer alive for as long as the jitterbuffer
/// holds the packet, and audio comes in packets of 172 bytes.
const COPY_BELOW: usize = 512;

/// What goes with a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The buffer gets the running time of its arrival.
    pub(crate) stamp: bool,
    /// The buffer gets the flag DISCONT.
    pub(crate) discont: bool,
    /// The source begins anew: numbers and times are not those of the packet before.
    pub(crate) anew: bool,
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
    if !(marks.stamp || marks.discont) {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undeliverable {
    /// The description does not name its payload type, or without a clock rate.
    #[error("the description says nothing of payload type {0}")]
    NoMap(u8),
    /// It is comfort noise, a telephone event or the like.
    #[error("payload type {0} is no media, but noise, events or correction")]
    Beside(u8),
    /// It is no RTP packet, or not of the stream's source.
    #[error("they are not of the stream's source")]
    Foreign,
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
    use super::*;

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
