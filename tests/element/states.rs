//! States: up and down at any moment, at once, with nothing left at the server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    time::Instant,
};

use gst::prelude::*;
use gstreamer as gst;

use crate::gst_server::{GstServer, clip::Stamp};
use crate::player::{PATIENCE, PROMPT, Player, for_both_managers, init};
use crate::support::mock_server::{Camera, MockServer, Reaction, Rule};

/// `rtspmuxsrc ! fakesink`, linked anew in every run: gst-launch does so in the first one only.
fn player(url: &str) -> Player {
    let player = Player::new(&format!(
        "rtspmuxsrc name=source location={url} latency=0 fakesink name=sink sync=false async=false"
    ));
    let sink = player
        .element("sink")
        .static_pad("sink")
        .unwrap()
        .downgrade();
    player.element("source").connect_pad_added(move |_, pad| {
        if let Some(sink) = sink.upgrade().filter(|sink| !sink.is_linked()) {
            pad.link(&sink).unwrap();
        }
    });
    player
}

fn playing(url: &str) -> Player {
    let player = player(url);
    player.set_state(gst::State::Playing).unwrap();
    player
}

fn to_null_promptly(player: &Player, when: &str) {
    let begin = Instant::now();
    player.set_state(gst::State::Null).unwrap();
    assert!(begin.elapsed() < PROMPT, "{when}: {:?}", begin.elapsed());
}

for_both_managers!(states_below_playing_need_no_preroll);
fn states_below_playing_need_no_preroll() {
    init();
    let server = GstServer::builder().start().unwrap();
    let player = player(&server.url(0));
    assert_eq!(
        player.set_state(gst::State::Ready),
        Ok(gst::StateChangeSuccess::Success)
    );
    assert_eq!(
        player.set_state(gst::State::Paused),
        Ok(gst::StateChangeSuccess::NoPreroll)
    );
    // Set up, not playing.
    server
        .wait_until(PATIENCE, |counts| counts.setups == 1)
        .unwrap();
    assert_eq!(server.counts().plays, 0);
    player.set_state(gst::State::Playing).unwrap();
    player.seen_by("sink").wait_for(1);
    assert_eq!(
        player.set_state(gst::State::Paused),
        Ok(gst::StateChangeSuccess::NoPreroll)
    );
    server
        .wait_until(PATIENCE, |counts| counts.pauses == 1)
        .unwrap();
    to_null_promptly(&player, "paused");
    server
        .wait_until(PATIENCE, |counts| counts.sessions_now == 0)
        .unwrap();
    assert_eq!(server.counts().teardowns, 1);
}

for_both_managers!(a_pause_is_followed_by_more_of_the_same_stream);
fn a_pause_is_followed_by_more_of_the_same_stream() {
    init();
    let server = GstServer::builder().shared(false).start().unwrap();
    let player = playing(&server.url(0));
    let seen = player.seen_by("sink");
    let before = seen.wait_for(5);
    player.set_state(gst::State::Paused).unwrap();
    server
        .wait_until(PATIENCE, |counts| counts.pauses == 1)
        .unwrap();
    let paused = seen.count();
    player.set_state(gst::State::Playing).unwrap();
    let all = seen.wait_for(paused + 10);
    let source = player.element("source");
    assert_eq!(source.src_pads().len(), 1, "the pad stays");
    let (last, resumed) = (before.last().unwrap().pts(), all.last().unwrap().pts());
    assert!(last < resumed, "{last:?} {resumed:?}");
    player.assert_no_error();
    assert_eq!(server.counts().plays, 2);
}

for_both_managers!(a_server_without_pause_is_paused_all_the_same);
fn a_server_without_pause_is_paused_all_the_same() {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .rule(Rule::new("PAUSE", Reaction::status(501)))
        .start();
    let player = playing(&server.url("/cam"));
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    let seen = player.seen_by("sink");
    server.send_packets("/cam", 5);
    seen.wait_for(1);
    player.set_state(gst::State::Paused).unwrap();
    assert!(server.wait_until(|view| view.count("PAUSE") == 1, PATIENCE));
    player.set_state(gst::State::Playing).unwrap();
    let before = seen.count();
    server.send_packets("/cam", 20);
    seen.wait_for(before + 5);
    player.assert_no_error();
}

/// Silence at every step of the dialogue, and NULL in the middle of it.
#[test]
fn null_is_prompt_at_every_step() {
    init();
    for method in ["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "TEARDOWN"] {
        let server = MockServer::builder()
            .camera("/cam", Camera::av())
            .rule(Rule::new(method, Reaction::Ignore))
            .start();
        let player = playing(&server.url("/cam"));
        let wanted = if method == "OPTIONS" || method == "TEARDOWN" {
            "PLAY"
        } else {
            method
        };
        assert!(
            server.wait_until(|view| view.count(wanted) > 0, PATIENCE),
            "{method}"
        );
        to_null_promptly(&player, method);
        player.assert_no_error();
    }
}

#[test]
fn null_is_prompt_while_connecting() {
    init();
    // TEST-NET-1 (RFC 5737): packets go nowhere, or the system says so at once.
    let player = playing("rtsp://192.0.2.1/cam");
    to_null_promptly(&player, "connecting");
}

#[test]
fn up_and_down_a_hundred_times_leaves_nothing_at_the_server() {
    init();
    let server = GstServer::builder().audio(|_| true).start().unwrap();
    let player = player(&server.url(0));
    for round in 0..100 {
        player.set_state(gst::State::Playing).unwrap();
        // Down at once, then ever later: the steps of the dialogue are the clock.
        match round % 5 {
            1 => drop(
                server
                    .wait_until(PATIENCE, |counts| counts.describes > 0)
                    .unwrap(),
            ),
            2 => drop(
                server
                    .wait_until(PATIENCE, |counts| counts.sessions_now > 0)
                    .unwrap(),
            ),
            3 => {
                let plays = server.counts().plays;
                let played = server.wait_until(PATIENCE, |counts| counts.plays > plays);
                player.assert_no_error();
                played.unwrap();
            }
            4 => drop(player.set_state(gst::State::Paused).unwrap()),
            _ => {}
        }
        let down = if round % 2 == 0 {
            gst::State::Null
        } else {
            gst::State::Ready
        };
        let begin = Instant::now();
        player.set_state(down).unwrap();
        assert!(
            begin.elapsed() < PROMPT,
            "round {round}: {:?}",
            begin.elapsed()
        );
        player.assert_no_error();
    }
    to_null_promptly(&player, "the end");
    let counts = server
        .wait_until(PATIENCE, |counts| counts.sessions_now == 0)
        .unwrap();
    assert_eq!(counts.teardowns, counts.sessions, "{counts:?}");
    assert_eq!(player.element("source").src_pads().len(), 0);
}

for_both_managers!(null_waits_for_a_push_that_is_under_way);
/// A program may free what its probes use once the element is in NULL.
fn null_waits_for_a_push_that_is_under_way() {
    init();
    let server = MockServer::builder().cameras(1).start();
    let player = playing(&server.url("/cam/1"));
    let seen = player.seen_by("sink");
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    server.send_packets("/cam/1", 5);
    seen.wait_for(1);

    let source = player.element("source");
    let pad = source.src_pads().remove(0);
    let is_null = Arc::new(AtomicBool::new(false));
    let (pushing, pushes) = channel();
    let at_end = Arc::clone(&is_null);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
        // The state change stops the pad first, and waits then.
        let _ = pushing.send(None);
        while !pad.pad_flags().contains(gst::PadFlags::FLUSHING) {
            std::thread::yield_now();
        }
        (0..1000).for_each(|_| std::thread::yield_now());
        let _ = pushing.send(Some(at_end.load(Ordering::Acquire)));
        gst::PadProbeReturn::Remove
    });
    server.send_packets("/cam/1", 5);
    assert_eq!(pushes.recv_timeout(PATIENCE), Ok(None));
    source.set_state(gst::State::Null).unwrap();
    is_null.store(true, Ordering::Release);
    assert_eq!(pushes.recv_timeout(PATIENCE), Ok(Some(false)));
}

#[test]
fn it_plays_again_after_null() {
    init();
    let server = GstServer::builder().start().unwrap();
    let player = player(&server.url(0));
    let seen = player.seen_by("sink");
    for _ in 0..3 {
        let before = seen.count();
        player.set_state(gst::State::Playing).unwrap();
        seen.wait_for(before + 5);
        to_null_promptly(&player, "playing");
    }
    assert_eq!(server.counts().accepted, 1, "over the same connection");
}

#[test]
fn teardown_timeout_bounds_the_way_to_null() {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .rule(Rule::new("TEARDOWN", Reaction::Ignore))
        .start();
    let player = playing(&server.url("/cam"));
    player
        .element("source")
        .set_property("teardown-timeout", 300_000_000u64);
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    let begin = Instant::now();
    player.set_state(gst::State::Ready).unwrap();
    assert!(
        begin.elapsed().as_millis() < 250,
        "READY does not wait: {:?}",
        begin.elapsed()
    );
    let begin = Instant::now();
    player.set_state(gst::State::Null).unwrap();
    let waited = begin.elapsed().as_millis();
    assert!((280..1000).contains(&waited), "NULL waits 300 ms: {waited}");
}

#[test]
fn another_location_is_for_the_next_start() {
    init();
    let server = GstServer::builder().mounts(2).start().unwrap();
    let player = playing(&server.url(0));
    let source = player.element("source");
    source.set_property("location", server.url(1));
    // Credentials of now are not for it.
    source.set_property("user-pw", "other");
    let seen = player.seen_by("sink");
    let before = seen.count();
    seen.wait_for(before + 10);
    assert_eq!(server.counts().describes, 1);
    player.set_state(gst::State::Null).unwrap();
    player.set_state(gst::State::Playing).unwrap();
    let is_other = |buffers: &[gst::Buffer]| {
        let data = buffers.last().and_then(|it| it.map_readable().ok());
        let stamp = data.and_then(|it| Stamp::find(&it));
        stamp.is_some_and(|it| it.camera == 1)
    };
    seen.wait_until(is_other);
}
