//! What the bus hears of a camera that does not come up (F44), or of which nothing can be delivered
//! (F41).

use gst::prelude::*;
use gstreamer as gst;

use super::{free_port, news};
use crate::one_camera::{line, one_camera, playing, send_frame};
use crate::player::{PATIENCE, Player, for_both_managers, init};
use crate::support::mock_server::{Behaviour, Camera, MockServer, Reaction, Rule};
use crate::support::rtsp::RtpPacket;

/// The first WARNING: its text, and its details.
fn warning(player: &Player) -> (String, gst::Structure) {
    let message = player.message(gst::MessageType::Warning);
    let gst::MessageView::Warning(warning) = message.view() else {
        unreachable!()
    };
    let text = warning.error().message().to_owned();
    (text, warning.details().unwrap().to_owned())
}

#[test]
fn f44_a_first_start_that_fails_and_waits_is_a_warning_with_the_reason() {
    init();
    let refused = format!("rtsp://127.0.0.1:{}/cam", free_port());
    for (url, why) in [
        (refused.as_str(), "cannot connect"),
        ("rtsp://no-such-host.invalid/cam", "cannot resolve"),
    ] {
        let player = Player::playing(&line(url, ""));
        let (text, details) = warning(&player);
        assert!(text.contains(why) && text.contains("/cam"), "{text}");
        assert_eq!(details.name(), "rtspmux-session");
        assert_eq!(details.get::<&str>("state"), Ok("retrying"));
        assert_eq!(details.get::<&str>("reason").ok(), Some(text.as_str()));
        news(&player, "retrying");
    }
}

#[test]
fn f44_a_status_that_what_has_played_gets_is_in_the_warning() {
    init();
    let server = one_camera();
    let (player, _seen) = playing(&server, "");
    server.add_rule(Rule::new("SETUP", Reaction::status(461)));
    server.close_connections();
    let (text, details) = warning(&player);
    assert!(text.contains("461"), "{text}");
    assert_eq!(details.get::<u32>("rtsp-status-code"), Ok(461));
}

/// What the bus has heard of the trouble so far.
fn told(player: &Player) -> Vec<String> {
    let kinds = [
        gst::MessageType::Warning,
        gst::MessageType::Error,
        gst::MessageType::Element,
    ];
    let bus = player.pipeline.bus().unwrap();
    let messages = std::iter::from_fn(|| bus.pop_filtered(&kinds));
    messages
        .filter(|message| {
            let structure = message.structure();
            structure.is_none_or(|structure| structure.name() != "rtspmux-sharing")
        })
        .map(|message| format!("{message:?}"))
        .collect()
}

#[test]
fn f44_a_server_that_ends_each_session_is_told_at_most_thrice() {
    init();
    for method in ["DESCRIBE", "SETUP", "PLAY"] {
        let server = one_camera();
        let (player, _seen) = playing(&server, "reconnect-max-delay=20000000");
        server.add_rule(Rule::new(method, Reaction::Close));
        server.close_connections();
        let tries = |count| server.wait_until(|view| view.count(method) > count, PATIENCE);
        assert!(tries(6), "{method}");
        let told = told(&player);
        assert!((2..=3).contains(&told.len()), "{method}: {told:#?}");
    }
}

/// Of the steps of attempts without end only the first are told.
#[test]
fn f44_progress_of_attempts_without_end_is_told_of_the_first() {
    init();
    let server = one_camera();
    let (player, _seen) = playing(&server, "reconnect-max-delay=20000000");
    let bus = player.pipeline.bus().unwrap();
    let progress = || {
        let kinds = [gst::MessageType::Progress];
        std::iter::from_fn(|| bus.pop_filtered(&kinds)).count()
    };
    progress();
    server.add_rule(Rule::new("PLAY", Reaction::Close));
    server.close_connections();
    assert!(server.wait_until(|view| view.count("PLAY") > 4, PATIENCE));
    progress();
    assert!(server.wait_until(|view| view.count("PLAY") > 8, PATIENCE));
    assert_eq!(progress(), 0);
}

/// A camera that sends payload type 96, of which its description says this.
fn described(lines: &str) -> MockServer {
    let sdp = format!(
        "v=0\r\no=- 0 1 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
         {lines}a=control:stream=0\r\n"
    );
    MockServer::builder()
        .camera("/cam", Camera::video().sdp(sdp))
        .behaviour(Behaviour::PacketsAfterPlay(10))
        .start()
}

for_both_managers!(f41_packets_that_the_description_does_not_say_how_to_play_are_told);
fn f41_packets_that_the_description_does_not_say_how_to_play_are_told() {
    init();
    for (lines, why) in [
        (
            "m=video 0 RTP/AVP 97 96\r\na=rtpmap:97 H264/90000\r\na=rtpmap:96 X-VIDEO/0\r\n",
            "payload type 96",
        ),
        (
            "m=video 0 RTP/AVP 97 96\r\na=rtpmap:97 H264/90000\r\n",
            "nothing of payload type 96",
        ),
        (
            "m=video 0 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n",
            "nothing of payload type 96",
        ),
    ] {
        let server = described(lines);
        let player = Player::playing(&line(&server.url("/cam"), "media-timeout=300000000"));
        let (_, lost) = news(&player, "lost");
        let reason = lost.get::<&str>("reason").unwrap();
        assert!(
            reason.contains("10 packets cannot be delivered"),
            "{reason}"
        );
        assert!(reason.contains(why), "{reason}");
        assert!(server.wait_until(|view| view.count("PLAY") == 2, PATIENCE));
        let stats: gst::Structure = player.element("source").property("stats");
        assert_ne!(stats.get::<&str>("state"), Ok("ended"));
        player.assert_no_error();
    }
}

for_both_managers!(f41_caps_follow_a_payload_type_that_changes);
fn f41_caps_follow_a_payload_type_that_changes() {
    init();
    let server = described(
        "m=video 0 RTP/AVP 96 97 13\r\na=rtpmap:96 H264/90000\r\na=rtpmap:97 H265/90000\r\n\
         a=rtpmap:13 CN/8000\r\n",
    );
    let player = Player::playing(&line(&server.url("/cam"), ""));
    let seen = player.seen_by("sink");
    seen.wait_for(10);
    let pad = player.element("sink").static_pad("sink").unwrap();
    let codec = || {
        let caps = pad.current_caps().unwrap();
        caps.structure(0)
            .unwrap()
            .get::<String>("encoding-name")
            .unwrap()
    };
    assert_eq!(codec(), "H264");
    let mut sequence = 10;
    let mut send = |payload_type| {
        for _ in 0..5 {
            let packet = RtpPacket {
                payload_type,
                sequence,
                timestamp: u32::from(sequence) * 3000,
                ssrc: Camera::ssrc(0, 0),
                marker: true,
                payload: vec![0x40, 1, 2, 3],
            };
            send_frame(&server, 0, packet.to_bytes());
            sequence += 1;
        }
    };
    // To the other one, noise beside it, and back.
    for (payload_type, came, name) in [(97, 15, "H265"), (13, 15, "H265"), (96, 20, "H264")] {
        send(payload_type);
        seen.wait_for(came);
        assert_eq!(codec(), name);
    }
    assert_eq!(seen.count(), 20);
    assert_eq!(player.element("source").src_pads().len(), 1);
    player.assert_no_error();
}

/// The session goes on for the sake of the other stream.
#[test]
fn f41_one_stream_of_which_nothing_can_be_delivered_is_a_warning() {
    init();
    let audio = "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";
    let sdp = format!(
        "v=0\r\no=- 0 1 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
               a=control:*\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
               a=control:stream=0\r\n{audio}a=control:stream=1\r\n"
    );
    let server = MockServer::builder()
        .camera("/cam", Camera::av().sdp(sdp))
        .start();
    let line = line(&server.url("/cam"), "media-timeout=300000000");
    let line = line.replace("! fakesink", "! application/x-rtp,media=video ! fakesink");
    let player = Player::playing(&line);
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    let bus = player.pipeline.bus().unwrap();
    let kinds = [gst::MessageType::Warning, gst::MessageType::Error];
    let packet_time = gst::ClockTime::from_mseconds(20);
    let told = (0..500).find_map(|_| {
        server.send_packets("/cam", 1);
        bus.timed_pop_filtered(packet_time, &kinds)
    });
    let told = told.unwrap();
    let gst::MessageView::Warning(warning) = told.view() else {
        panic!("{told:?}")
    };
    let text = warning.error().message().to_owned();
    assert!(
        text.contains("stream 1") && text.contains("payload type 8"),
        "{text}"
    );
    assert_eq!(server.view().count("PLAY"), 1);
}
