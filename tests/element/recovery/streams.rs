//! A camera that comes back with other streams.

use gst::prelude::*;
use gstreamer as gst;

use crate::one_camera::{line, more, one_camera, playing};
use crate::player::{Player, init};
use crate::support::mock_server::{Camera, MockServer, Reaction, Rule};

/// A camera that came back as another one: H.265 instead of H.264.
const OTHER_CODEC: &str = "v=0\r\no=- 0 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=range:npt=now-\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=control:stream=0\r\n";

#[test]
fn another_codec_is_new_caps_on_the_same_pad() {
    init();
    let server = one_camera();
    let port = server.address().port();
    let (player, seen) = playing(&server, "");
    server.stop();
    let server = MockServer::builder()
        .camera("/cam", Camera::video().sdp(OTHER_CODEC))
        .start_at(port);
    more(&server, &seen, 1);
    let pad = player.element("sink").static_pad("sink").unwrap();
    let caps = pad.current_caps().unwrap();
    let codec = caps.structure(0).unwrap().get::<String>("encoding-name");
    assert_eq!(codec.as_deref(), Ok("H265"));
    assert_eq!(player.element("source").src_pads().len(), 1);
    player.assert_no_error();
}

#[test]
fn streams_that_the_pads_cannot_follow_are_an_error() {
    init();
    for other in [
        Camera::av(),
        Camera::video().sdp(OTHER_CODEC.replace("m=video", "m=audio")),
    ] {
        let server = one_camera();
        let port = server.address().port();
        let (player, _) = playing(&server, "");
        server.stop();
        let _server = MockServer::builder().camera("/cam", other).start_at(port);
        let (error, _) = player.error();
        assert!(error.matches(gst::StreamError::Format), "{error}");
        assert!(
            error.to_string().contains("cannot follow") && error.to_string().contains("/cam"),
            "{error}"
        );
    }
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
