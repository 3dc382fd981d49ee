//! Downstream holds up one of two streams of an element, as a muxer does that waits for the other one
//! (fault F32).

use std::sync::{Arc, Condvar, Mutex};

use gst::prelude::*;
use gstreamer as gst;

use crate::player::{PATIENCE, Player, Seen, init};
use crate::support::mock_server::{Camera, MockServer};
use crate::support::rtsp::{Frame, RtpPacket};

const VIDEO: usize = 0;
const AUDIO: usize = 1;

/// As many of each stream are sent at a time: less than would be dropped of a stream that is taken.
const BURST: u32 = 400;
/// After so many bursts a queue has overflowed.
const MAX_BURSTS: usize = 100;

/// Of the camera. What it stands for in the packets of the picture begins a slice, and with it a
/// picture.
const NUMBER: u32 = 0x8000_0000;

/// The time of a sender report.
const REPORTED: u64 = 0xe000_0000_8000_0000;

/// Lets buffers through, or not.
#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn in_front_of(pad: &gst::Pad) -> Arc<Self> {
        let gate = Arc::<Self>::default();
        let of_pad = Arc::clone(&gate);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            let is_closed = of_pad.is_closed.lock().unwrap();
            // A test that has failed leaves the streams held.
            let waited = of_pad
                .changed
                .wait_timeout_while(is_closed, 4 * PATIENCE, |is_closed| *is_closed);
            drop(waited);
            gst::PadProbeReturn::Ok
        });
        gate
    }

    fn set_closed(&self, is_closed: bool) {
        *self.is_closed.lock().unwrap() = is_closed;
        self.changed.notify_all();
    }
}

/// Sound and picture of one camera, the picture of another one on the same connection, and a gate
/// before one of the streams.
struct Scene {
    server: MockServer,
    player: Player,
    held: usize,
    gate: Arc<Gate>,
    /// The buffers that came through, of video and audio.
    seen: [Arc<Seen>; 2],
    seen_of_other: Arc<Seen>,
    /// How many packets of each stream were sent.
    sent: usize,
}

impl Scene {
    fn new(held: usize) -> Self {
        init();
        let server = MockServer::builder()
            .camera("/cam", Camera::av().number(NUMBER))
            .camera("/other", Camera::video().number(1))
            .start();
        let player = Player::new(&format!(
            "rtspmuxsrc name=source manager=light location={} latency=0 \
             source. ! application/x-rtp,media=video ! fakesink name=video sync=false async=false \
             source. ! application/x-rtp,media=audio ! fakesink name=audio sync=false async=false \
             rtspmuxsrc name=other manager=light location={} latency=0 \
             ! fakesink name=another sync=false async=false",
            server.url("/cam"),
            server.url("/other")
        ));
        let names = ["video", "audio"];
        let pad = player.element(names[held]).static_pad("sink").unwrap();
        let gate = Gate::in_front_of(&pad);
        let seen = names.map(|name| player.seen_by(name));
        let seen_of_other = player.seen_by("another");
        player.set_state(gst::State::Playing).unwrap();
        assert!(server.wait_until(|view| view.playing() == 2, PATIENCE));
        let mut scene = Self {
            server,
            player,
            held,
            gate,
            seen,
            seen_of_other,
            sent: 0,
        };
        scene.send(10);
        scene.seen[held].wait_for(10);
        scene
    }

    /// Sends packets of all streams. Those of streams that are not held have come through when this
    /// returns.
    fn send(&mut self, count: u32) {
        for path in ["/cam", "/other"] {
            self.server.send_packets(path, count);
        }
        self.sent += count as usize;
        self.seen[1 - self.held].wait_for(self.sent);
        self.seen_of_other.wait_for(self.sent);
    }

    fn stat(&self, source: &str, stream: usize, name: &str) -> u64 {
        let stats: gst::Structure = self.player.element(source).property("stats");
        let streams = stats.get::<gst::Array>("streams").unwrap();
        let stream = streams[stream].get::<gst::Structure>().unwrap();
        stream.get(name).unwrap_or_default()
    }

    /// Holds the stream until its queue has overflowed and a sender report was sent. Then releases it,
    /// and waits until all packets that were kept have come through.
    fn hold_until_overflow(&mut self) {
        self.gate.set_closed(true);
        for _ in 0..MAX_BURSTS {
            self.send(BURST);
            if self.stat("source", self.held, "overflows") > 0 {
                break;
            }
        }
        self.send(BURST);
        self.server.send_reports("/cam", REPORTED);
        // Behind the report.
        self.send(1);
        let drops = self.stat("source", self.held, "drops") as usize;
        assert!(drops >= BURST as usize, "{drops} of {}", self.sent);
        self.gate.set_closed(false);
        self.seen[self.held].wait_for(self.sent - drops);
    }

    fn sequences(&self) -> Vec<u16> {
        let buffers = self.seen[self.held].wait_for(0);
        let sequence = |buffer: &gst::Buffer| {
            let packet = RtpPacket::parse(&buffer.map_readable().unwrap());
            packet.unwrap().sequence
        };
        buffers.iter().map(sequence).collect()
    }

    /// The held stream has one gap. It is marked, and as long as the number of dropped packets, less
    /// `beside`, which are of other streams. No sender report of it is missing, and no packet of the
    /// others.
    fn check(&self, beside: u64) {
        let sequences = self.sequences();
        let gaps: Vec<(usize, u16)> = (1..sequences.len())
            .map(|at| (at, sequences[at].wrapping_sub(sequences[at - 1])))
            .filter(|(_, step)| *step != 1)
            .collect();
        let drops = self.stat("source", self.held, "drops");
        let [(at, step)] = gaps[..] else {
            panic!("not one gap: {gaps:?}");
        };
        assert_eq!(u64::from(step) - 1 + beside, drops);
        let buffers = self.seen[self.held].wait_for(0);
        assert!(buffers[at].flags().contains(gst::BufferFlags::DISCONT));
        let packets = self.stat("source", self.held, "packets");
        assert_eq!(buffers.len() as u64 + drops, packets);
        assert_eq!(self.stat("source", self.held, "overflows"), 1);
        for stream in [VIDEO, AUDIO] {
            let reported = self.stat("source", stream, "sr-ntp-time");
            assert_eq!(reported, REPORTED, "stream {stream}");
        }
        assert_eq!(self.stat("source", 1 - self.held, "drops"), 0);
        assert_eq!(self.seen[1 - self.held].count(), self.sent);
        assert_eq!(self.stat("other", VIDEO, "drops"), 0);
        assert_eq!(self.seen_of_other.count(), self.sent);

        let message = self.player.message(gst::MessageType::Qos);
        let gst::MessageView::Qos(qos) = message.view() else {
            unreachable!()
        };
        assert_eq!(qos.stats().1.value() as u64, drops);
        self.player.assert_no_error();
    }
}

#[test]
fn f32_video_that_is_held_up_goes_on_with_a_keyframe_and_sound_loses_nothing() {
    let mut scene = Scene::new(VIDEO);
    scene.hold_until_overflow();
    let kept = scene.seen[VIDEO].count();
    let view = scene.server.view();
    let mut sessions = view.sessions.iter();
    let session = sessions.find(|session| session.camera == "/cam").unwrap();
    let channel = session.tracks[VIDEO].1.0;
    for n in 0..3 {
        let picture = RtpPacket {
            payload_type: 96,
            sequence: 60_000 + n,
            timestamp: 3_000 * scene.sent as u32,
            ssrc: Camera::ssrc(NUMBER, VIDEO),
            marker: true,
            // A packet of a frame that is no keyframe.
            payload: vec![0x41, 0x9a, 0x20],
        };
        let payload = picture.to_bytes();
        let frame = Frame { channel, payload };
        let connection = session.connection;
        scene.server.send_raw(connection, &frame.to_bytes());
    }
    scene.send(5);
    scene.seen[VIDEO].wait_for(kept + 5);
    scene.check(3);
}

#[test]
fn f32_sound_that_is_held_up_goes_on_and_video_loses_nothing() {
    let mut scene = Scene::new(AUDIO);
    scene.hold_until_overflow();
    let kept = scene.seen[AUDIO].count();
    scene.send(5);
    scene.seen[AUDIO].wait_for(kept + 5);
    scene.check(0);
}
