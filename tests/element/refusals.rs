//! Downstream refuses packets for what is in them (F51).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use crate::player::{PATIENCE, Player, Seen, for_both_managers, init};
use crate::support::mock_server::{Camera, MockServer};
use crate::support::rtsp::{Frame, RtpPacket};

const KEY: u8 = 0x65;
const OTHER: u8 = 0x41;

/// A picture with this number is refused.
const REFUSED: u8 = 200;

/// Picture and sound of a camera. Pictures that are refused never reach `pictures`.
struct Scene {
    server: MockServer,
    player: Player,
    pictures: Arc<Seen>,
    sound: Arc<Seen>,
    refused: Arc<AtomicUsize>,
    sequence: [u16; 2],
}

impl Scene {
    fn new() -> Self {
        init();
        let server = MockServer::builder().camera("/cam", Camera::av()).start();
        let player = Player::playing(&format!(
            "rtspmuxsrc name=source location={} latency=300 \
             source. ! application/x-rtp,media=video ! identity name=refuses \
             ! fakesink name=pictures sync=false async=false \
             source. ! application/x-rtp,media=audio ! fakesink name=sound sync=false async=false",
            server.url("/cam")
        ));
        let refused = Arc::<AtomicUsize>::default();
        let count = refused.clone();
        let pad = player.element("refuses").static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let is_refused = info.buffer().is_some_and(|it| number(it) == REFUSED);
            if !is_refused {
                return gst::PadProbeReturn::Ok;
            }
            count.fetch_add(1, Ordering::SeqCst);
            info.flow_res = Err(gst::FlowError::NotNegotiated);
            gst::PadProbeReturn::Handled
        });
        let [pictures, sound] = ["pictures", "sound"].map(|name| player.seen_by(name));
        assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
        Self {
            server,
            player,
            pictures,
            sound,
            refused,
            sequence: [0; 2],
        }
    }

    fn send(&mut self, track: usize, unit: u8, number: u8) {
        let (payload_type, ticks) = [(96, 3_600), (8, 320)][track];
        let sequence = self.sequence[track];
        self.sequence[track] += 1;
        let packet = RtpPacket {
            payload_type,
            sequence,
            timestamp: u32::from(sequence) * ticks,
            ssrc: Camera::ssrc(0, track),
            marker: true,
            payload: vec![unit, 0x88, number, 0],
        };
        let session = &self.server.view().sessions[0];
        let frame = Frame {
            channel: session.tracks[track].1.0,
            payload: packet.to_bytes(),
        };
        self.server.send_raw(session.connection, &frame.to_bytes());
    }

    /// `rtpsession` hands out the first packet of a source with its second one.
    fn begin(&mut self) {
        self.send(0, KEY, 0);
        self.send(0, OTHER, 0);
        self.pictures.wait_for(2);
    }

    fn sound(&mut self, count: usize) {
        (0..count).for_each(|_| self.send(1, 0, 0));
    }
}

fn number(buffer: &gst::BufferRef) -> u8 {
    let packet = RtpPacket::parse(&buffer.map_readable().unwrap()).unwrap();
    packet.payload[2]
}

for_both_managers!(f51_a_refusal_costs_the_other_stream_nothing_and_a_key_picture_passes);
fn f51_a_refusal_costs_the_other_stream_nothing_and_a_key_picture_passes() {
    let mut scene = Scene::new();
    scene.begin();
    scene.sound(10);
    for refusals in 1..=3 {
        scene.send(0, OTHER, REFUSED);
        let is_refused = || scene.refused.load(Ordering::SeqCst) == refusals;
        assert!(scene.server.wait_until(|_| is_refused(), PATIENCE));
        // The sound is in the jitterbuffer when the next picture comes.
        scene.sound(5);
        scene.send(0, KEY, refusals as u8);
        scene.send(0, OTHER, refusals as u8);
        scene.pictures.wait_for(2 + 2 * refusals);
    }
    let pictures = scene.pictures.wait_for(8);
    let numbers: Vec<_> = pictures.iter().map(|it| number(it)).collect();
    assert_eq!(numbers, [0, 0, 1, 1, 2, 2, 3, 3]);
    scene.sound.wait_for(25);
    scene.player.assert_no_error();
}

for_both_managers!(f51_where_all_is_refused_for_five_seconds_it_is_an_error);
fn f51_where_all_is_refused_for_five_seconds_it_is_an_error() {
    let mut scene = Scene::new();
    scene.begin();
    let began = Instant::now();
    let bus = scene.player.pipeline.bus().unwrap();
    let error = loop {
        scene.send(0, KEY, REFUSED);
        scene.sound(1);
        scene
            .server
            .wait_until(|_| false, Duration::from_millis(40));
        if let Some(error) = bus.pop_filtered(&[gst::MessageType::Error]) {
            break error;
        }
        assert!(began.elapsed() < PATIENCE, "no ERROR");
    };
    assert_eq!(error.src().unwrap().name(), "source", "{error:?}");
    assert!(began.elapsed() >= Duration::from_secs(5));
}
