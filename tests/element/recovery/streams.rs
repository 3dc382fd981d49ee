//! A camera that comes back with other streams.

use gst::prelude::*;
use gstreamer as gst;

use crate::one_camera::{line, more, one_camera, playing};
use crate::player::{Player, init};
use crate::support::mock_server::{Camera, MockServer, Reaction, Rule};

/// A camera that came back as another one: H.265 instead of H.264.
const OTHER_CODEC: &str = "v=0\r\no=- 0 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=range:npt=now-\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=control:stream=0\r\n";

/// The description of a camera with these media, each of which is the track of its number.
fn described(media: &[(&str, usize)]) -> String {
    let lines = |&(media, track): &(&str, usize)| {
        let (number, map) = match media {
            "video" => (96, "H264/90000"),
            "audio" => (8, "PCMA/8000"),
            _ => (98, "VND.ONVIF.METADATA/90000"),
        };
        format!(
            "m={media} 0 RTP/AVP {number}\r\na=rtpmap:{number} {map}\r\na=control:stream={track}\r\n"
        )
    };
    let media: String = media.iter().map(lines).collect();
    format!("v=0\r\no=- 0 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=range:npt=now-\r\n{media}")
}

/// Plays a camera with `before`, which comes back with `then`. Its picture goes on.
fn comes_back(
    manager: &str,
    before: &[(&str, usize)],
    then: &[(&str, usize)],
) -> (MockServer, Player) {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::av().sdp(described(before)))
        .start();
    let port = server.address().port();
    let line = line(&server.url("/cam"), &format!("manager={manager}"))
        .replace("! fakesink", "! application/x-rtp,media=video ! fakesink");
    let player = Player::playing(&line);
    let seen = player.seen_by("sink");
    more(&server, &seen, 1);
    server.stop();
    let server = MockServer::builder()
        .camera("/cam", Camera::av().sdp(described(then)))
        .start_at(port);
    more(&server, &seen, 1);
    (server, player)
}

#[test]
fn a_picture_goes_on_when_sound_is_switched_on_or_off_or_moves() {
    let (picture, sound) = (("video", 0), ("audio", 1));
    for manager in ["light", "rtpbin"] {
        let (_server, player) = comes_back(manager, &[picture], &[picture, sound]);
        let message = player.warning_or_error();
        let gst::MessageView::Warning(warning) = message.view() else {
            panic!("{message:?}")
        };
        let text = warning.error().to_string();
        assert!(text.contains("what is new is left out"), "{text}");
        assert_eq!(player.element("source").src_pads().len(), 1);
        comes_back(manager, &[picture, sound], &[picture])
            .1
            .assert_no_error();
        comes_back(manager, &[picture, sound], &[sound, picture])
            .1
            .assert_no_error();
        comes_back(manager, &[sound, picture], &[picture])
            .1
            .assert_no_error();
    }
}

#[test]
fn a_camera_that_has_nothing_in_common_with_its_pads_is_an_error_at_the_second_look() {
    init();
    for other in [
        OTHER_CODEC.to_owned(),
        OTHER_CODEC.replace("m=video", "m=audio"),
    ] {
        let server = one_camera();
        let port = server.address().port();
        let (player, _) = playing(&server, "");
        server.stop();
        let server = MockServer::builder()
            .camera("/cam", Camera::video().sdp(other))
            .start_at(port);
        let (error, _) = player.error();
        assert!(error.matches(gst::StreamError::Format), "{error}");
        assert!(
            error.to_string().contains("cannot follow") && error.to_string().contains("/cam"),
            "{error}"
        );
        assert_eq!(server.view().count("DESCRIBE"), 2);
    }
}

#[test]
fn with_on_stream_change_error_any_change_is_an_error() {
    init();
    let server = one_camera();
    let port = server.address().port();
    let (player, _) = playing(&server, "on-stream-change=error");
    server.stop();
    let _server = MockServer::builder()
        .camera("/cam", Camera::av())
        .start_at(port);
    let (error, _) = player.error();
    assert!(error.to_string().contains("cannot follow"), "{error}");
}

#[test]
fn a_stream_that_was_refused_at_first_is_left_out_again() {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::av())
        .rule(Rule::new("SETUP", Reaction::status(404)).skip(1).times(1))
        .start();
    let (player, seen) = playing(&server, "");
    server.close_connections();
    more(&server, &seen, 2);
    assert_eq!(server.view().count("SETUP"), 3);
    assert_eq!(player.element("source").src_pads().len(), 1);
    player.assert_no_error();
}

#[test]
fn a_stream_that_has_a_pad_is_asked_for_until_it_is_granted() {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::av())
        .rule(Rule::new("SETUP", Reaction::status(404)).skip(3).times(1))
        .start();
    let line = line(&server.url("/cam"), "")
        .replace("! fakesink", "! application/x-rtp,media=video ! fakesink");
    let player = Player::playing(&line);
    let seen = player.seen_by("sink");
    more(&server, &seen, 1);
    server.close_connections();
    more(&server, &seen, 2);
    assert_eq!(
        server.view().count("SETUP"),
        6,
        "two, one and a refusal, two"
    );
    player.assert_no_error();
}
