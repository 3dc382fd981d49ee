//! A session that ends while its connection goes on.

use gst::prelude::*;
use gstreamer as gst;

use super::news;
use crate::one_camera::{line, more, one_camera, playing, send_bye};
use crate::player::{PATIENCE, Player, for_both_managers, init};
use crate::support::mock_server::{Camera, MockServer};

for_both_managers!(f28_a_session_that_falls_silent_is_set_up_again);
fn f28_a_session_that_falls_silent_is_set_up_again() {
    init();
    let server = MockServer::builder().camera("/cam", Camera::av()).start();
    let player = Player::playing(
        &line(&server.url("/cam"), "media-timeout=500000000")
            .replace("! fakesink", "! application/x-rtp,media=video ! fakesink"),
    );
    let seen = player.seen_by("sink");
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    server.send_packets("/cam", 10);
    seen.wait_for(5);
    let (_, lost) = news(&player, "lost");
    assert!(
        lost.get::<&str>("reason").unwrap().contains("no media"),
        "{lost}"
    );
    assert!(server.wait_until(
        |view| view.count("TEARDOWN") == 1 && view.count("PLAY") >= 2,
        PATIENCE
    ));
    more(&server, &seen, 2);
    news(&player, "recovered");
    assert_eq!(server.accepted(), 1);
    player.assert_no_error();
}

#[test]
fn silence_is_no_loss_with_a_media_timeout_of_0() {
    init();
    let server = one_camera();
    let (player, _) = playing(&server, "media-timeout=0");
    let source = player.element("source");
    assert_eq!(source.property::<u64>("media-timeout"), 0);
    // A second is longer than the timeout of the other test. This is not a wait for an event: none must
    // come.
    let bus = player.pipeline.bus().unwrap();
    let lost = bus.timed_pop_filtered(gst::ClockTime::SECOND, &[gst::MessageType::Element]);
    assert!(
        lost.is_none_or(|it| it.structure().unwrap().name() != "rtspmux-session"),
        "a loss"
    );
    assert_eq!(server.view().count("TEARDOWN"), 0);
}

for_both_managers!(a_camera_that_sends_bye_is_set_up_again);
fn a_camera_that_sends_bye_is_set_up_again() {
    init();
    let server = one_camera();
    let (player, seen) = playing(&server, "");
    send_bye(&server);
    let (_, lost) = news(&player, "lost");
    assert!(lost.get::<&str>("reason").unwrap().contains("RTCP BYE"));
    assert!(server.wait_until(|view| view.count("PLAY") == 2, PATIENCE));
    more(&server, &seen, 2);
    news(&player, "recovered");
    player.assert_no_error();
}
