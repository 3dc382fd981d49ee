//! One camera of the mock server, played by one element.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use gst::prelude::*;
use gstreamer as gst;

use crate::player::{PATIENCE, Player, Seen, init};
use crate::support::mock_server::{Camera, MockServer, ServerView};
use crate::support::rtsp::{Frame, RtpPacket, rtcp_bye};

/// One camera into a sink named `sink`, from a source named `source`.
pub(crate) fn line(url: &str, properties: &str) -> String {
    format!(
        "rtspmuxsrc name=source location=\"{url}\" latency=0 {properties} \
         ! fakesink name=sink sync=false async=false"
    )
}

/// Plays, and has got packets.
pub(crate) fn playing(server: &MockServer, properties: &str) -> (Player, Arc<Seen>) {
    let player = Player::playing(&line(&server.url("/cam"), properties));
    let seen = player.seen_by("sink");
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    server.send_packets("/cam", 10);
    seen.wait_for(10);
    (player, seen)
}

pub(crate) fn one_camera() -> MockServer {
    MockServer::builder()
        .camera("/cam", Camera::video())
        .start()
}

/// Sends five packets, once there were so many PLAYs and one session plays; gives all that came out.
pub(crate) fn more(server: &MockServer, seen: &Seen, plays: usize) -> Vec<gst::Buffer> {
    let before = seen.count();
    let plays = |view: &ServerView| view.count("PLAY") == plays && view.playing() == 1;
    assert!(server.wait_until(plays, PATIENCE));
    server.send_packets("/cam", 5);
    seen.wait_for(before + 5)
}

/// The server sends a frame on a channel.
pub(crate) fn send_frame(server: &MockServer, channel: u8, payload: Vec<u8>) {
    let frame = Frame { channel, payload };
    let session = &server.view().sessions[0];
    server.send_raw(session.connection, &frame.to_bytes());
}

/// The camera sends BYE.
pub(crate) fn send_bye(server: &MockServer) {
    let ssrc = Camera::ssrc(0, 0);
    // An empty receiver report has to come before it (RFC 3550 6.1).
    let report = [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes(), &rtcp_bye(ssrc)].concat();
    let channel = server.view().sessions[0].tracks[0].1.1;
    send_frame(server, channel, report);
}

/// Sequence numbers begin with 0.
const ELEVENTH: u16 = 10;

/// Sound and picture, of which the picture's thread is to wait for sound, as in a muxer without
/// queues.
pub(crate) struct Entangled {
    pub(crate) player: Player,
    pub(crate) video: Arc<Seen>,
    pub(crate) audio: Arc<Seen>,
    /// How many audio buffers had come before that.
    pub(crate) before: usize,
    is_held: Receiver<()>,
}

impl Entangled {
    /// Both streams play. The eleventh frame stays in its sink until there is more audio.
    pub(crate) fn new(server: &MockServer) -> Self {
        init();
        let player = Player::playing(&format!(
            "rtspmuxsrc name=source location={} latency=0 \
             source. ! application/x-rtp,media=video ! fakesink name=video sync=false async=false \
             source. ! application/x-rtp,media=audio ! fakesink name=audio sync=false async=false",
            server.url("/cam")
        ));
        assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
        let (video, audio) = (player.seen_by("video"), player.seen_by("audio"));
        server.send_packets("/cam", 10);
        video.wait_for(10);
        let before = audio.wait_for(10).len();
        let (held, is_held) = channel();
        let sound = Arc::clone(&audio);
        let pad = player.element("video").static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            // The buffer before may still be passing through the probes.
            let buffer = info.buffer().unwrap();
            let packet = RtpPacket::parse(&buffer.map_readable().unwrap()).unwrap();
            if packet.sequence != ELEVENTH {
                return gst::PadProbeReturn::Ok;
            }
            let _ = held.send(());
            sound.wait_for(before + 1);
            gst::PadProbeReturn::Remove
        });
        Self {
            player,
            video,
            audio,
            before,
            is_held,
        }
    }

    /// Sends the eleventh frame, of the same source. Returns when its thread waits.
    pub(crate) fn hold(&self, server: &MockServer) {
        let packet = RtpPacket {
            payload_type: 96,
            sequence: ELEVENTH,
            timestamp: 30_000,
            ssrc: Camera::ssrc(0, 0),
            marker: true,
            payload: vec![0x41],
        };
        let channel = server.view().sessions[0].tracks[0].1.0;
        send_frame(server, channel, packet.to_bytes());
        self.is_held.recv_timeout(PATIENCE).unwrap();
    }
}
