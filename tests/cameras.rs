//! Elements against a real gst-rtsp-server: the main job, end to end.
//!
//! How many connections there are is what the server accepted. Which camera a frame comes from is
//! written into every frame.
#![allow(clippy::unwrap_used, reason = "a test binary")]

#[path = "support/gst_server.rs"]
mod gst_server;
#[path = "cameras/sessions.rs"]
mod sessions;
#[path = "cameras/wall.rs"]
mod wall;

use std::time::Duration;

use gstreamer as gst;

use gst::prelude::*;
use gst_server::GstServer;
use wall::Wall;

/// Far more than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(40);

fn server(mounts: usize) -> GstServer {
    wall::init();
    GstServer::builder().mounts(mounts).start().unwrap()
}

fn urls(server: &GstServer, count: usize) -> Vec<String> {
    (0..count).map(|camera| server.url(camera)).collect()
}

#[test]
fn sixteen_elements_play_over_one_connection() {
    let server = server(16);
    let wall = Wall::start(&urls(&server, 16), &[]);
    wall.wait_for_frames(10, PATIENCE);
    let counts = server.counts();
    assert_eq!((counts.accepted, counts.open), (1, 1), "{counts:?}");
    assert_eq!(
        (counts.sessions_now, counts.media_now),
        (16, 16),
        "{counts:?}"
    );
    assert_eq!(
        (counts.describes, counts.setups, counts.plays),
        (16, 16, 16),
        "{counts:?}"
    );
    wall.assert_own_frames();
    wall.stop();
    let counts = server
        .wait_until(PATIENCE, |counts| counts.sessions_now == 0)
        .unwrap();
    assert_eq!(counts.teardowns, 16, "{counts:?}");
}

#[test]
fn teardown_of_one_leaves_fifteen_running() {
    let server = server(16);
    let mut wall = Wall::start(&urls(&server, 16), &[]);
    wall.wait_for_frames(5, PATIENCE);
    wall.remove(7);
    let counts = server
        .wait_until(PATIENCE, |counts| counts.sessions_now == 15)
        .unwrap();
    assert_eq!(
        (counts.accepted, counts.open, counts.teardowns),
        (1, 1, 1),
        "{counts:?}"
    );
    wall.forget_frames();
    wall.wait_for_frames(10, PATIENCE);
    wall.assert_own_frames();
    wall.stop();
}

#[test]
fn sixty_four_elements_with_defaults_make_four_connections() {
    let server = server(64);
    let wall = Wall::start(&urls(&server, 64), &[]);
    wall.wait_for_frames(2, PATIENCE);
    let counts = server.counts();
    assert_eq!(
        (counts.accepted, counts.sessions_now),
        (4, 64),
        "{counts:?}"
    );
    wall.assert_own_frames();
    wall.stop();
}

#[test]
fn a_hundred_and_thirty_sessions_with_a_maximum_of_128_make_two_connections() {
    let server = server(130);
    let wall = Wall::start(
        &urls(&server, 130),
        // No more than that even where a busy machine makes the server look slow.
        &[
            ("max-sessions-per-connection", "128"),
            ("max-connections-per-server", "2"),
        ],
    );
    wall.wait_for_frames(2, PATIENCE);
    let counts = server.counts();
    assert_eq!(
        (counts.accepted, counts.sessions_now),
        (2, 130),
        "{counts:?}"
    );
    wall.assert_own_frames();
    wall.stop();
}

#[test]
fn without_pooling_every_element_has_a_connection() {
    let server = server(6);
    let wall = Wall::start(&urls(&server, 6), &[("enable-connection-pooling", "false")]);
    wall.wait_for_frames(2, PATIENCE);
    assert_eq!(server.counts().accepted, 6);
    wall.stop();
    server
        .wait_until(PATIENCE, |counts| counts.open == 0)
        .unwrap();
}

#[test]
fn an_idle_connection_is_closed_in_time_and_reused_before() {
    let server = server(1);
    let second = [("idle-connection-timeout", "1000000000")];
    for _ in 0..2 {
        let wall = Wall::start(&urls(&server, 1), &second);
        wall.wait_for_frames(1, PATIENCE);
        wall.stop();
    }
    assert_eq!(
        server.counts().accepted,
        1,
        "the second run used the first one's connection"
    );
    server
        .wait_until(PATIENCE, |counts| counts.open == 0)
        .unwrap();
}

#[test]
fn stats_say_what_is_shared() {
    let server = server(3);
    let wall = Wall::start(&urls(&server, 3), &[]);
    wall.wait_for_frames(5, PATIENCE);
    let stats: Vec<gst::Structure> = wall
        .sources()
        .map(|source| source.property("stats"))
        .collect();
    let connection = stats[0].get::<u64>("connection-id").unwrap();
    for stats in &stats {
        assert_eq!(
            stats.get::<u64>("connection-id").unwrap(),
            connection,
            "{stats}"
        );
        assert_eq!(stats.get::<u64>("sessions").unwrap(), 3, "{stats}");
        assert_eq!(stats.get::<u64>("references").unwrap(), 3, "{stats}");
        assert_eq!(
            stats.get::<u64>("connections-to-server").unwrap(),
            1,
            "{stats}"
        );
        assert!(
            !stats.get::<String>("session-id").unwrap().is_empty(),
            "{stats}"
        );
    }
    wall.stop();
}

/// A flash in the picture and a beep in the sound happen at the same moment, once a second; one
/// packet of sound is 20 ms long.
fn sound_and_picture_are_in_sync(manager: &str) {
    wall::init();
    let server = GstServer::builder()
        .mounts(2)
        .audio(|_| true)
        .start()
        .unwrap();
    let wall = Wall::start(
        &urls(&server, 2),
        &[("latency", "200"), ("manager", manager)],
    );
    wall.wait_for_flashes_and_beeps(3, PATIENCE);
    wall.assert_in_sync();
    assert_eq!(server.counts().accepted, 1);
    wall.stop();
}

#[test]
fn sound_and_picture_are_in_sync_in_the_light() {
    sound_and_picture_are_in_sync("light");
}

#[test]
fn sound_and_picture_are_in_sync_with_rtpbin() {
    sound_and_picture_are_in_sync("rtpbin");
}
