//! What goes wrong is said on the bus: in time, with the right code, naming camera and status.

use std::net::TcpListener;
use std::time::Instant;

use gst::glib;
use gst::prelude::*;
use gstreamer as gst;

use crate::gst_server::{Auth, GstServer};
use crate::player::{PROMPT, Player, init};
use crate::support::mock_server::{Camera, MockServer, Reaction, Rule};

fn play(url: &str, properties: &str) -> Player {
    Player::playing(&format!(
        "rtspmuxsrc location=\"{url}\" {properties} ! fakesink async=false"
    ))
}

fn error_of(url: &str) -> (glib::Error, Option<gst::Structure>) {
    play(url, "").error()
}

#[test]
fn a_path_without_camera_is_not_found() {
    init();
    let server = GstServer::builder().start().unwrap();
    let (error, details) = error_of(&server.url_of("/nothing?password=secret"));
    assert!(error.matches(gst::ResourceError::NotFound), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("/nothing") && text.contains("DESCRIBE") && text.contains("404"),
        "{text}"
    );
    assert!(!text.contains("secret"), "{text}");
    let details = details.unwrap();
    assert_eq!(details.get::<u32>("rtsp-status-code"), Ok(404));
    assert_eq!(details.get::<&str>("rtsp-status-reason"), Ok("Not Found"));
}

#[test]
fn a_wrong_password_is_not_authorized_and_is_not_tried_again() {
    init();
    let server = GstServer::builder()
        .auth(Auth::Digest, "viewer", "right")
        .start()
        .unwrap();
    let url = server.url(0).replace("rtsp://", "rtsp://viewer:wrong@");
    let (error, details) = error_of(&url);
    assert!(error.matches(gst::ResourceError::NotAuthorized), "{error}");
    assert!(
        !error.to_string().contains("wrong") && !error.to_string().contains("viewer"),
        "{error}"
    );
    assert_eq!(details.unwrap().get::<u32>("rtsp-status-code"), Ok(401));
    assert_eq!(server.counts().describes, 0);
}

#[test]
fn the_right_password_plays_from_the_url_and_from_properties() {
    init();
    let server = GstServer::builder()
        .auth(Auth::Digest, "viewer", "ri ght@")
        .start()
        .unwrap();
    let by_url = server
        .url(0)
        .replace("rtsp://", "rtsp://viewer:ri%20ght%40@");
    for (url, properties) in [
        (by_url, ""),
        (server.url(0), "user-id=viewer user-pw=\"ri ght@\""),
    ] {
        let player = Player::playing(&format!(
            "rtspmuxsrc location=\"{url}\" {properties} latency=0 ! fakesink name=sink sync=false"
        ));
        player.seen_by("sink").wait_for(1);
    }
}

#[test]
fn without_recovery_a_refused_port_and_an_unknown_host_cannot_be_opened() {
    init();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for url in [
        format!("rtsp://127.0.0.1:{port}/cam"),
        "rtsp://no-such-host.invalid/cam".to_owned(),
    ] {
        let begin = Instant::now();
        let player = play(&url, "reconnect=false");
        assert!(
            begin.elapsed() < PROMPT,
            "state changes do not wait for {url}"
        );
        let (error, details) = player.error();
        assert!(
            error.matches(gst::ResourceError::OpenReadWrite),
            "{url}: {error}"
        );
        assert!(error.to_string().contains("/cam"), "{error}");
        assert!(details.is_none());
    }
}

#[test]
fn what_is_no_rtsp_url_is_an_error_behind_the_state_change() {
    init();
    for url in [
        "http://viewer:secret@nvr/cam",
        "nvr/cam",
        "rtsp://",
        "rtspsh://viewer:secret@nvr/cam",
    ] {
        let player = Player::new(&format!(
            "rtspmuxsrc location=\"{url}\" ! fakesink async=false"
        ));
        player.set_state(gst::State::Playing).unwrap();
        let (error, _) = player.error();
        assert!(
            error.matches(gst::ResourceError::NotFound),
            "{url}: {error}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let player = Player::playing("rtspmuxsrc ! fakesink async=false");
    let (error, _) = player.error();
    assert!(error.matches(gst::ResourceError::NotFound), "{error}");
    let player =
        Player::new("rtspmuxsrc location=rtsp://nvr/cam protocols=udp ! fakesink async=false");
    assert!(player.set_state(gst::State::Playing).is_err());
    let (error, _) = player.error();
    assert!(
        error.matches(gst::ResourceError::Settings) && error.to_string().contains("tcp"),
        "{error}"
    );
}

#[test]
fn descriptions_that_cannot_be_played_have_the_codes_of_rtspsrc() {
    init();
    let encrypted =
        "v=0\r\ns=x\r\nm=video 0 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\na=control:t\r\n";
    let is_empty = |error: &glib::Error| error.matches(gst::ResourceError::Settings);
    let is_unknown = |error: &glib::Error| error.matches(gst::StreamError::CodecNotFound);
    type IsCode = dyn Fn(&glib::Error) -> bool;
    let cases: [(_, &IsCode); 3] = [
        (Camera::without_media(), &is_empty),
        (Camera::video().sdp(""), &is_empty),
        (Camera::video().sdp(encrypted), &is_unknown),
    ];
    for (camera, is_code) in cases {
        let server = MockServer::builder().camera("/cam", camera).start();
        let (error, _) = error_of(&server.url("/cam"));
        assert!(is_code(&error), "{error:?}");
        assert!(error.to_string().contains("/cam"), "{error}");
    }
}

#[test]
fn a_description_that_is_not_utf8_plays() {
    init();
    let sdp = b"v=0\r\ns=caf\xe9\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
        a=key-mgmt:mikey AQAd=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1210\r\n\
        a=control:stream=0\r\na=\xff:\xfe\r\n";
    let server = MockServer::builder()
        .camera("/cam", Camera::video().sdp(*sdp))
        .start();
    let player = play(&server.url("/cam"), "latency=0");
    assert!(server.wait_until(|view| view.playing() == 1, crate::player::PATIENCE));
    player.assert_no_error();
}

#[test]
fn statuses_have_the_codes_of_rtspsrc() {
    init();
    for (method, status, code) in [
        ("DESCRIBE", 403, gst::ResourceError::Read),
        ("DESCRIBE", 453, gst::ResourceError::Read),
        ("DESCRIBE", 503, gst::ResourceError::Read),
        ("SETUP", 453, gst::ResourceError::Write),
        ("SETUP", 404, gst::ResourceError::Write),
        ("PLAY", 457, gst::ResourceError::Read),
    ] {
        let server = MockServer::builder()
            .camera("/cam", Camera::video())
            .rule(Rule::new(method, Reaction::status(status)))
            .start();
        let (error, details) = error_of(&server.url("/cam"));
        assert!(error.matches(code), "{error}");
        assert!(error.to_string().contains(method), "{error}");
        assert_eq!(
            details.unwrap().get::<u32>("rtsp-status-code"),
            Ok(u32::from(status))
        );
    }
}

#[test]
fn a_connection_lost_without_recovery_is_a_read_error() {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .start();
    let player = play(&server.url("/cam"), "latency=0 reconnect=false");
    assert!(server.wait_until(|view| view.playing() == 1, crate::player::PATIENCE));
    server.close_connections();
    let (error, _) = player.error();
    assert!(error.matches(gst::ResourceError::Read), "{error}");
    assert!(error.to_string().contains("/cam"), "{error}");
}

#[test]
fn an_error_of_one_element_is_no_other_ones() {
    init();
    let server = GstServer::builder().start().unwrap();
    let good = Player::playing(&format!(
        "rtspmuxsrc location={} latency=0 ! fakesink name=sink sync=false",
        server.url(0)
    ));
    let seen = good.seen_by("sink");
    seen.wait_for(1);
    error_of(&server.url_of("/nothing"));
    let before = seen.count();
    seen.wait_for(before + 20);
    good.assert_no_error();
    assert!(
        good.element("sink")
            .property::<Option<gst::Sample>>("last-sample")
            .is_some()
    );
}
