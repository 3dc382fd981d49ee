//! Pads that are unlinked while they play, and linked again.

use std::sync::Arc;

use gst::prelude::*;
use gstreamer as gst;

use crate::player::{PATIENCE, Player, Seen, for_both_managers, init};
use crate::support::mock_server::{Camera, MockServer};
use crate::support::rtsp::{Frame, RtpPacket};

/// The first byte of a NAL unit with parameter sets.
const PARAMETERS: u8 = 0x67;

/// How an application takes a branch away and brings it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// The pad of the source is unlinked.
    Pad,
    /// The branch behind a `tee` is, so that the tee has none.
    Tee,
    /// A pad between elements is.
    Between,
}

const MEANS: [Means; 3] = [Means::Pad, Means::Tee, Means::Between];

/// A camera whose picture goes through an element, and whose sound does not.
struct Scene {
    server: MockServer,
    player: Player,
    seen: Arc<Seen>,
    sound: Option<Arc<Seen>>,
    /// The pad of the picture.
    pad: gst::Pad,
    /// What is unlinked.
    link: (gst::Pad, gst::Pad),
    next: u16,
}

impl Scene {
    fn new(means: Means, has_sound: bool) -> Self {
        init();
        let camera = if has_sound {
            Camera::av()
        } else {
            Camera::video()
        };
        let server = MockServer::builder().camera("/cam", camera).start();
        let between = match means {
            Means::Tee => "tee name=between",
            Means::Pad | Means::Between => "identity name=between",
        };
        let sound = match has_sound {
            true => {
                "source. ! application/x-rtp,media=audio ! fakesink name=sound sync=false async=false"
            }
            false => "",
        };
        let player = Player::playing(&format!(
            "rtspmuxsrc name=source location={} latency=0 \
             source. ! application/x-rtp,media=video ! {between} \
             ! fakesink name=picture sync=false async=false {sound}",
            server.url("/cam")
        ));
        let seen = player.seen_by("picture");
        let sound = has_sound.then(|| player.seen_by("sound"));
        assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
        for (number, unit) in [(0, 0x65), (1, 0x41)] {
            send(&server, number, unit);
        }
        for seen in sound.iter().chain([&seen]) {
            seen.wait_for(2);
        }
        let pads = player.element("source").src_pads();
        let is_picture = |pad: &&gst::Pad| {
            let caps = pad.current_caps().unwrap();
            caps.structure(0).unwrap().get("media") == Ok("video")
        };
        let pad = pads.iter().find(is_picture).unwrap().clone();
        let src = match means {
            Means::Pad => pad.clone(),
            Means::Tee | Means::Between => player.element("between").src_pads().remove(0),
        };
        let sink = src.peer().unwrap();
        Self {
            server,
            player,
            seen,
            sound,
            pad,
            link: (src, sink),
            next: 2,
        }
    }

    fn send(&mut self, unit: u8) {
        send(&self.server, self.next, unit);
        self.next += 1;
    }

    fn check(mut self) {
        let (src, sink) = self.link.clone();
        let out = Seen::on(&self.pad);
        src.unlink(&sink).unwrap();
        // A key picture is tried, as downstream could go on with it; parameter sets are of use at any time. When
        // these are on their way, the pictures before them have found none.
        for unit in [0x41, 0x65, PARAMETERS] {
            self.send(unit);
        }
        out.wait_for(3);
        src.link(&sink).unwrap();
        // Pictures that refer to others that downstream has missed, and then a key picture.
        for unit in [0x41, 0x41, 0x65, 0x41] {
            self.send(unit);
        }
        let parse = |it: &gst::Buffer| {
            RtpPacket::parse(&it.map_readable().unwrap())
                .unwrap()
                .payload
        };
        let last = (self.next - 1) as u8;
        let is_last = |it: &gst::Buffer| parse(it)[2] == last;
        let buffers = self.seen.wait_until(|it| it.last().is_some_and(is_last));
        let pictures = buffers.iter().filter(|it| parse(it)[0] != PARAMETERS);
        let pictures: Vec<_> = pictures.collect();
        let numbers: Vec<_> = pictures.iter().map(|it| parse(it)[2]).collect();
        assert_eq!(numbers, [0, 1, last - 1, last]);
        assert!(pictures[2].flags().contains(gst::BufferFlags::DISCONT));
        // The other stream has lost nothing.
        self.sound
            .iter()
            .for_each(|seen| drop(seen.wait_for(usize::from(self.next))));
        self.player.assert_no_error();
        let view = self.server.view();
        assert_eq!(view.count("SETUP"), view.sessions[0].tracks.len());
    }
}

/// Sends a picture whose NAL unit begins with this byte, and a packet of sound.
fn send(server: &MockServer, number: u16, unit: u8) {
    let session = &server.view().sessions[0];
    for (track, (_, channels)) in session.tracks.iter().enumerate() {
        let (payload_type, ticks) = if track == 0 { (96, 3_000) } else { (8, 160) };
        let packet = RtpPacket {
            payload_type,
            sequence: number,
            timestamp: u32::from(number) * ticks,
            ssrc: Camera::ssrc(0, track),
            marker: true,
            payload: vec![unit, 0x88, number as u8, 0],
        };
        let frame = Frame {
            channel: channels.0,
            payload: packet.to_bytes(),
        };
        server.send_raw(session.connection, &frame.to_bytes());
    }
}

for_both_managers!(one_of_two_pads_that_is_linked_again_goes_on_with_a_key_picture);
fn one_of_two_pads_that_is_linked_again_goes_on_with_a_key_picture() {
    for means in MEANS {
        println!("{means:?}");
        Scene::new(means, true).check();
    }
}

for_both_managers!(the_only_pad_goes_on_when_it_is_linked_again);
fn the_only_pad_goes_on_when_it_is_linked_again() {
    for means in MEANS {
        println!("{means:?}");
        Scene::new(means, false).check();
    }
}
