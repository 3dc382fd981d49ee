//! QOS messages for packets that were not taken in time: when one is due, and what it says.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use gst::prelude::*;
use gstreamer as gst;

use super::bus_queue::{self, Topic};
use crate::{
    mux::{Packet, PacketKind},
    rtspsrc::RtspMuxSrc,
};

/// The shortest time between two messages of one stream. The later one has the counts of all gaps before
/// it.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is known of one stream.
#[derive(Debug, Default)]
struct StreamCounts {
    processed: u64,
    /// When the last packet came.
    last: Option<Instant>,
    told: Option<Instant>,
}

/// Watches the packets of one session on their way to the pads for gaps.
#[derive(Debug, Default)]
pub(crate) struct OverflowReports(BTreeMap<usize, StreamCounts>);

impl OverflowReports {
    /// A packet is about to be pushed. Returns the overflow that it ends, if a message about it is due.
    /// `dropped` looks up how many packets of the stream were dropped so far.
    pub(crate) fn on_packet(
        &mut self,
        packet: &Packet,
        now: Instant,
        dropped: impl FnOnce() -> u64,
    ) -> Option<Overflow> {
        if packet.kind != PacketKind::Rtp {
            return None;
        }
        let counts = self.0.entry(packet.stream).or_default();
        let before = counts.last.replace(packet.received);
        let processed = counts.processed;
        counts.processed += 1;
        let is_new = counts
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= INTERVAL);
        if !packet.discontinuity || !is_new {
            return None;
        }
        counts.told = Some(now);
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

/// Packets of a stream that were not taken in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow {
    /// How long ago the gap began.
    pub(crate) ago: Duration,
    /// How long it is.
    pub(crate) gap: Duration,
    /// How late the first packet after it is.
    pub(crate) late: Duration,
    /// RTP packets of the stream that were pushed so far in this session.
    pub(crate) processed: u64,
    /// RTP packets of the stream that were dropped so far.
    pub(crate) dropped: u64,
}

/// Posts QOS at the end of a gap. Times are those of the gap, counts those of the session so far.
pub(crate) fn post(element: &RtspMuxSrc, overflow: &Overflow) {
    let now = element.current_running_time();
    let began = now.map(|now| now.saturating_sub(clock_time(overflow.ago)));
    let jitter = i64::try_from(overflow.late.as_nanos()).unwrap_or(i64::MAX);
    let message = gst::message::Qos::builder(true)
        .running_time(began)
        .stream_time(began)
        .timestamp(began)
        .duration(clock_time(overflow.gap))
        .values(jitter, 1.0, 1_000_000)
        .stats(buffers(overflow.processed), buffers(overflow.dropped))
        .src(element)
        .build();
    bus_queue::post(element, Topic::Overflow, message);
}

fn clock_time(duration: Duration) -> gst::ClockTime {
    gst::ClockTime::try_from(duration).unwrap_or(gst::ClockTime::MAX)
}

/// GStreamer takes the largest number for "unknown".
fn buffers(count: u64) -> gst::format::Buffers {
    gst::format::Buffers::from_u64(count.min(u64::MAX - 1))
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
            header: None,
            payload: Bytes::new(),
            received,
            discontinuity,
        }
    }

    #[test]
    fn f32_a_gap_is_told_with_its_place_and_length() {
        let start = Instant::now();
        let mut reports = OverflowReports::default();
        assert_eq!(reports.on_packet(&packet(start, false), start, || 0), None);
        let after = packet(start + 500 * MS, true);
        let told = reports.on_packet(&after, start + 520 * MS, || 7);
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
        let mut reports = OverflowReports::default();
        let mut told = Vec::new();
        for n in 0..25 {
            let at = start + n * 100 * MS;
            let message = reports.on_packet(&packet(at, true), at, || u64::from(n));
            told.extend(message.map(|message| message.dropped));
        }
        assert_eq!(told, [0, 10, 20]);
    }
}
