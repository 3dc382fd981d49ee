//! `is-live=false`: downstream decides how fast the server sends.

use gst::prelude::*;
use gstreamer as gst;

use crate::player::{PATIENCE, Player, init};
use crate::support::mock_server::{Camera, MockServer};

/// More than the queue of a session holds.
const PACKETS: u32 = 20_000;

fn player(server: &MockServer) -> Player {
    init();
    Player::new(&format!(
        "rtspmuxsrc name=source is-live=false location={} ! fakesink name=sink sync=false",
        server.url("/cam")
    ))
}

#[test]
fn it_prerolls_in_paused() {
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .start();
    let player = player(&server);
    let seen = player.seen_by("sink");
    let change = player.set_state(gst::State::Paused);
    assert_eq!(change, Ok(gst::StateChangeSuccess::Async));
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    server.send_packets("/cam", 10);
    let timeout = gst::ClockTime::try_from(PATIENCE).unwrap();
    let (change, state, _) = player.pipeline.state(timeout);
    assert_eq!(
        (change, state),
        (Ok(gst::StateChangeSuccess::Success), gst::State::Paused)
    );
    let mut latency = gst::query::Latency::new();
    let sink = player.element("sink").static_pad("sink").unwrap();
    assert!(sink.peer_query(&mut latency));
    assert!(!latency.result().0, "not live");
    player.set_state(gst::State::Playing).unwrap();
    let buffers = seen.wait_for(10);
    let times: Vec<_> = buffers.iter().map(|it| it.pts().unwrap()).collect();
    let step = gst::ClockTime::SECOND / 30;
    let is_step = |it: &[gst::ClockTime]| (it[1] - it[0]).absdiff(step).nseconds() <= 1;
    assert!(times.windows(2).all(is_step), "{times:?}");
    assert_eq!(server.view().count("PAUSE"), 0);
}

#[test]
fn nothing_is_lost_while_downstream_takes_nothing() {
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .start();
    let player = player(&server);
    let seen = player.seen_by("sink");
    player.set_state(gst::State::Paused).unwrap();
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    std::thread::scope(|scope| {
        scope.spawn(|| server.send_packets("/cam", PACKETS));
        seen.wait_for(1);
        let timeout = gst::ClockTime::try_from(PATIENCE).unwrap();
        player.pipeline.state(timeout).0.unwrap();
        assert_eq!(seen.count(), 1, "the sink holds the first one");
        player.set_state(gst::State::Playing).unwrap();
        seen.wait_for(PACKETS as usize);
    });
    player.assert_no_error();
}
