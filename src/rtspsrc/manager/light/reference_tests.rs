//! Compares the times of the light path with those of GStreamer's `rtpjitterbuffer`, in simulated time:
//! both get the same packets at the same running times, for hours.

use std::sync::mpsc::{self, Receiver};

use gst::prelude::*;
use gstreamer as gst;

use super::timing::Timing;

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const CLOCK_RATE: u32 = 90_000;

/// When a packet came, and the RTP time in it.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    /// Running time in nanoseconds.
    at: u64,
    time: u32,
}

/// An rtpjitterbuffer between two pads of the test.
struct Reference {
    element: gst::Element,
    input: gst::Pad,
    _output: gst::Pad,
    stamps: Receiver<u64>,
    sequence: u16,
}

impl Reference {
    fn new(latency_ms: u32) -> Self {
        gst::init().unwrap();
        let element = gst::ElementFactory::make("rtpjitterbuffer")
            .property("latency", latency_ms)
            .build()
            .unwrap();
        let (send, stamps) = mpsc::channel();
        let output = gst::Pad::builder(gst::PadDirection::Sink)
            .chain_function(move |_, _, buffer| {
                let _ = send.send(buffer.pts().map_or(u64::MAX, gst::ClockTime::nseconds));
                Ok(gst::FlowSuccess::Ok)
            })
            .event_function(|_, _, _| true)
            .build();
        let input = gst::Pad::new(gst::PadDirection::Src);
        output.set_active(true).unwrap();
        input.set_active(true).unwrap();
        element.static_pad("src").unwrap().link(&output).unwrap();
        input.link(&element.static_pad("sink").unwrap()).unwrap();
        let clock = gst::SystemClock::obtain();
        element.set_clock(Some(&clock)).unwrap();
        element.set_base_time(clock.time());
        element.set_state(gst::State::Playing).unwrap();
        let caps = gst::Caps::builder("application/x-rtp")
            .field("media", "video")
            .field("clock-rate", CLOCK_RATE as i32)
            .field("encoding-name", "H264")
            .field("payload", 96i32)
            .build();
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        input.push_event(gst::event::StreamStart::new("reference"));
        input.push_event(gst::event::Caps::new(&caps));
        input.push_event(gst::event::Segment::new(&segment));
        Self {
            element,
            input,
            _output: output,
            stamps,
            sequence: 65_000,
        }
    }

    fn stamp(&mut self, packet: Arrived) -> u64 {
        let mut octets = vec![0x80, 96];
        octets.extend(self.sequence.to_be_bytes());
        octets.extend(packet.time.to_be_bytes());
        octets.extend([0, 0, 0, 1, 0x41]);
        self.sequence = self.sequence.wrapping_add(1);
        let mut buffer = gst::Buffer::from_slice(octets);
        let at = gst::ClockTime::from_nseconds(packet.at);
        let fields = buffer.get_mut().unwrap();
        fields.set_pts(at);
        fields.set_dts(at);
        self.input.push(buffer).unwrap();
        let patience = std::time::Duration::from_secs(20);
        self.stamps.recv_timeout(patience).unwrap()
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.element.set_state(gst::State::Null);
    }
}

/// Frames of 40 ms, from a sender whose clock is fast by `ppm`, over a network with the delays that
/// `network` gives.
fn frames(
    count: u64,
    first: u32,
    ppm: i64,
    network: impl Fn(u64) -> u64,
) -> impl Iterator<Item = Arrived> {
    let mut last = 0;
    (0..count).map(move |number| {
        let sent = number * 40 * MS;
        let by_sender = i128::from(sent) * i128::from(1_000_000 + ppm) / 1_000_000;
        let units = by_sender * i128::from(CLOCK_RATE) / i128::from(S);
        // TCP delivers in order.
        last = (5 * S + sent + network(number)).max(last);
        Arrived {
            at: last,
            time: first.wrapping_add(units as u32),
        }
    })
}

/// With this RTP time a source begins anew, which the sequencer has found out.
const ANEW: u32 = 77;

/// Both agree on every packet to within a millisecond.
fn assert_alike(packets: impl Iterator<Item = Arrived>) {
    assert_alike_with(2_000, packets);
}

fn assert_alike_with(latency_ms: u32, packets: impl Iterator<Item = Arrived>) {
    let mut reference = Reference::new(latency_ms);
    let mut timing = Timing::new(CLOCK_RATE, u64::from(latency_ms) * MS);
    for (number, packet) in packets.enumerate() {
        if packet.time == ANEW {
            timing = Timing::new(CLOCK_RATE, u64::from(latency_ms) * MS);
        }
        let ours = timing.stamp(packet.time, packet.at, 0, 0);
        let theirs = reference.stamp(packet);
        assert!(
            ours.abs_diff(theirs) < MS,
            "{number}: {packet:?}: {ours} instead of {theirs}"
        );
    }
}

/// Up to 30 ms, in an irregular order.
fn jitter(number: u64) -> u64 {
    number * 7_919 % 31 * MS
}

#[test]
fn jitter_is_smoothed_alike() {
    assert_alike(frames(10_000, 0, 0, jitter));
}

#[test]
fn what_is_late_for_sinks_is_delayed_alike() {
    for latency_ms in [0, 10] {
        assert_alike_with(latency_ms, frames(10_000, 0, 100, jitter));
    }
}

#[test]
fn bursts_are_smoothed_alike() {
    assert_alike(frames(10_000, 0, 0, |number| (9 - number % 10) * 40 * MS));
}

#[test]
fn clocks_that_are_off_are_followed_alike() {
    for ppm in [-2_000, -100, 100, 2_000] {
        // Three minutes and a half.
        assert_alike(frames(5_000, 0, ppm, jitter));
    }
}

#[test]
fn times_wrap_alike() {
    // 20 minutes; RTP time wraps in their middle, sequence numbers in the beginning.
    assert_alike(frames(30_000, u32::MAX - 10 * 60 * CLOCK_RATE, 50, jitter));
}

#[test]
fn rtp_time_that_begins_anew_is_followed_alike() {
    let before = frames(1_000, 500_000, 0, jitter);
    let after = frames(1_000, ANEW, 0, jitter).map(|packet| Arrived {
        at: packet.at + 60 * S,
        ..packet
    });
    assert_alike(before.chain(after));
}
