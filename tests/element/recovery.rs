//! Sessions that are lost are set up again: same pads, same pipeline, no end of stream.

#[path = "recovery/credentials.rs"]
mod credentials;
#[path = "recovery/silence.rs"]
mod silence;
#[path = "recovery/streams.rs"]
mod streams;
#[path = "recovery/told.rs"]
mod told;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use crate::one_camera::{Entangled, line, more, one_camera, playing};
use crate::player::{PATIENCE, PROMPT, Player, for_both_managers, init};
use crate::support::mock_server::{Behaviour, Camera, Family, MockServer, Reaction, Rule};
use crate::support::thread_names::thread_names;

/// The next `rtspmux-session` message of that state, and who sent it. An ERROR before it fails.
fn news(player: &Player, state: &str) -> (String, gst::Structure) {
    loop {
        let message = player.message(gst::MessageType::Element);
        let structure = message.structure().unwrap();
        if structure.name() == "rtspmux-session" && structure.get::<&str>("state") == Ok(state) {
            return (
                message.src().unwrap().name().to_string(),
                structure.to_owned(),
            );
        }
    }
}

fn times(buffers: &[gst::Buffer]) -> Vec<gst::ClockTime> {
    buffers.iter().map(|buffer| buffer.pts().unwrap()).collect()
}

fn stats(player: &Player) -> gst::Structure {
    player.element("source").property("stats")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

for_both_managers!(a_lost_connection_is_made_again_under_the_same_pad);
fn a_lost_connection_is_made_again_under_the_same_pad() {
    init();
    let server = one_camera();
    // Longer than the frames that came in a burst.
    let (player, seen) = playing(&server, "reconnect-min-delay=600000000");
    let gaps = Arc::<Mutex<Vec<gst::Event>>>::default();
    let pad = player.element("sink").static_pad("sink").unwrap();
    let collected = Arc::clone(&gaps);
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(event) = info.event() {
            collected.lock().unwrap().push(event.clone());
        }
        gst::PadProbeReturn::Ok
    });
    let before = seen.count();
    server.close_connections();
    let (_, lost) = news(&player, "lost");
    assert!(lost.get::<&str>("reason").unwrap().contains("/cam"));
    assert_eq!(lost.get::<u64>("outages"), Ok(1));
    assert_eq!(news(&player, "retrying").1.get::<u32>("attempt"), Ok(1));
    let buffers = more(&server, &seen, 2);
    let (_, recovered) = news(&player, "recovered");
    assert!(recovered.get::<u64>("duration").unwrap() > 0);
    assert!(!recovered.has_field("reason"));

    assert_eq!(player.element("source").src_pads().len(), 1);
    assert!(buffers[before].flags().contains(gst::BufferFlags::DISCONT));
    let times = times(&buffers);
    assert!(times.is_sorted(), "{times:?}");
    let events = gaps.lock().unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.type_()).collect();
    for never in [
        gst::EventType::Eos,
        gst::EventType::FlushStart,
        gst::EventType::FlushStop,
    ] {
        assert!(!kinds.contains(&never), "{kinds:?}");
    }
    let gap = events
        .iter()
        .find(|event| event.type_() == gst::EventType::Gap)
        .unwrap_or_else(|| panic!("no gap in {kinds:?}"));
    let gst::EventView::Gap(gap) = gap.view() else {
        unreachable!()
    };
    let (start, duration) = gap.get();
    assert_eq!(start, times[before - 1]);
    assert_eq!(start + duration.unwrap(), times[before]);
    player.assert_no_error();
    let stats = stats(&player);
    assert_eq!(stats.get::<u64>("outages"), Ok(1));
    assert_eq!(stats.get::<u32>("attempts"), Ok(1));
    assert_eq!(stats.get::<&str>("state"), Ok("playing"));
    assert!(stats.get::<&str>("last-error").unwrap().contains("/cam"));
}

#[test]
fn every_step_that_begins_is_completed() {
    init();
    let server = one_camera();
    let (player, seen) = playing(&server, "");
    server.close_connections();
    more(&server, &seen, 2);
    let bus = player.pipeline.bus().unwrap();
    // A thread of its own posts messages: the last one may come after the media.
    let patience = gst::ClockTime::try_from(PATIENCE).unwrap();
    let kinds = [gst::MessageType::Progress];
    let progress = std::iter::from_fn(|| bus.timed_pop_filtered(patience, &kinds));
    let steps: Vec<String> = progress
        .filter_map(|message| match message.view() {
            gst::MessageView::Progress(progress) => {
                let (kind, code, _) = progress.get();
                let is_between = kind == gst::ProgressType::Continue;
                (!is_between).then(|| format!("{kind:?} {code}"))
            }
            _ => None,
        })
        .take(8)
        .collect();
    let life = [
        "Start open",
        "Complete open",
        "Start request",
        "Complete request",
    ];
    assert_eq!(steps, [life, life].concat());
}

#[test]
fn f03_after_a_reset_sixteen_elements_dial_once_and_come_back() {
    init();
    let server = MockServer::builder()
        .cameras(16)
        .family(Family::Gst)
        .start();
    let lines: Vec<String> = (1..=16)
        .map(|camera| {
            format!(
                "rtspmuxsrc location={} latency=0 ! fakesink name=sink{camera} sync=false async=false",
                server.url(&format!("/cam/{camera}"))
            )
        })
        .collect();
    let player = Player::playing(&lines.join(" "));
    let seen: Vec<_> = (1..=16)
        .map(|camera| player.seen_by(&format!("sink{camera}")))
        .collect();
    assert!(server.wait_until(|view| view.playing() == 16, PATIENCE));
    server.send_packets_to_all(10);
    seen.iter().for_each(|seen| drop(seen.wait_for(5)));
    let before: Vec<usize> = seen.iter().map(|seen| seen.count()).collect();
    assert_eq!(server.accepted(), 1);
    server.reset_connections();
    let lost = Instant::now();
    assert!(server.wait_until(|view| view.accepted >= 2 && view.playing() == 16, PATIENCE));
    assert!(
        lost.elapsed() < Duration::from_secs(3),
        "{:?}",
        lost.elapsed()
    );
    assert_eq!(server.accepted(), 2, "one dial for all");
    server.send_packets_to_all(10);
    for (seen, before) in seen.iter().zip(before) {
        let buffers = seen.wait_for(before + 5);
        assert!(times(&buffers).is_sorted());
    }
    player.assert_no_error();
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn f24_a_session_that_the_server_forgot_is_set_up_again_alone() {
    init();
    let server = MockServer::builder()
        .cameras(2)
        .behaviour(Behaviour::SessionSuffix(";timeout=1".to_owned()))
        .start();
    let player = Player::playing(&format!(
        "rtspmuxsrc name=one location={} latency=0 ! fakesink name=sink1 sync=false async=false \
         rtspmuxsrc name=two location={} latency=0 ! fakesink name=sink2 sync=false async=false",
        server.url("/cam/1"),
        server.url("/cam/2")
    ));
    assert!(server.wait_until(|view| view.playing() == 2, PATIENCE));
    let seen = [player.seen_by("sink1"), player.seen_by("sink2")];
    server.send_packets_to_all(10);
    seen.iter().for_each(|seen| drop(seen.wait_for(5)));
    let forgotten = server
        .view()
        .sessions
        .iter()
        .find(|session| session.camera == "/cam/1")
        .unwrap()
        .id
        .clone();
    server.expire_session(&forgotten);
    let (who, lost) = news(&player, "lost");
    assert_eq!(who, "one");
    assert!(
        lost.get::<&str>("reason").unwrap().contains("454"),
        "{lost}"
    );
    assert!(server.wait_until(|view| view.playing() == 2, PATIENCE));
    let before: Vec<usize> = seen.iter().map(|seen| seen.count()).collect();
    server.send_packets_to_all(10);
    for (seen, before) in seen.iter().zip(before) {
        seen.wait_for(before + 5);
    }
    assert_eq!(news(&player, "recovered").0, "one");
    // It is described where no session is in a hurry to be kept alive.
    assert_eq!(server.accepted(), 2, "one to describe on");
    let connections: Vec<usize> = server
        .view()
        .sessions
        .iter()
        .map(|s| s.connection)
        .collect();
    assert_eq!(connections, [0, 0], "then on the same connection");
    assert_eq!(server.view().count("PLAY"), 3);
    player.assert_no_error();
}

#[test]
fn a_camera_that_is_off_at_the_start_comes_up_by_itself() {
    init();
    let port = free_port();
    let begin = Instant::now();
    let player = Player::playing(&line(&format!("rtsp://127.0.0.1:{port}/cam"), ""));
    assert!(begin.elapsed() < PROMPT, "state changes do not wait");
    let (_, retrying) = news(&player, "retrying");
    assert!(
        retrying.get::<&str>("reason").unwrap().contains("/cam"),
        "{retrying}"
    );
    assert_eq!(retrying.get::<u64>("outages"), Ok(0));
    assert_eq!(stats(&player).get::<&str>("state"), Ok("recovering"));
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .start_at(port);
    let seen = player.seen_by("sink");
    more(&server, &seen, 1);
    news(&player, "recovered");
    player.assert_no_error();
}

#[test]
fn attempts_that_are_used_up_are_an_error() {
    init();
    let url = format!("rtsp://127.0.0.1:{}/cam", free_port());
    let player = Player::playing(&line(
        &url,
        "reconnect-attempts=2 reconnect-max-delay=10000000",
    ));
    for attempt in 1..=2 {
        let (_, retrying) = news(&player, "retrying");
        assert_eq!(retrying.get::<u32>("attempt"), Ok(attempt));
    }
    let (error, _) = player.error();
    assert!(error.matches(gst::ResourceError::OpenReadWrite), "{error}");
    assert_eq!(stats(&player).get::<&str>("state"), Ok("ended"));
}

#[test]
fn without_reconnect_a_loss_ends_the_stream() {
    init();
    let server = one_camera();
    let (player, _) = playing(&server, "reconnect=false");
    server.close_connections();
    let (error, _) = player.error();
    assert!(error.matches(gst::ResourceError::Read), "{error}");
    assert_eq!(server.accepted(), 1);
}

#[test]
fn what_has_played_comes_back_after_a_404() {
    init();
    let server = one_camera();
    let (player, seen) = playing(&server, "");
    server.add_rule(Rule::new("DESCRIBE", Reaction::status(404)).times(2));
    server.close_connections();
    more(&server, &seen, 2);
    let (_, recovered) = news(&player, "recovered");
    assert_eq!(recovered.get::<u32>("attempt"), Ok(3));
    player.assert_no_error();
}

#[test]
fn f31_null_is_prompt_during_recovery() {
    init();
    // While it waits for the next attempt, and in each step of one.
    for method in ["", "DESCRIBE", "SETUP", "PLAY"] {
        let server = one_camera();
        let (player, _) = playing(&server, "");
        let count = server.view().count(method);
        if method.is_empty() {
            server.stop();
            news(&player, "retrying");
        } else {
            server.add_rule(Rule::new(method, Reaction::Ignore));
            server.close_connections();
            assert!(server.wait_until(|view| view.count(method) > count, PATIENCE));
        }
        for state in [gst::State::Ready, gst::State::Null] {
            let begin = Instant::now();
            player.set_state(state).unwrap();
            assert!(begin.elapsed() < PROMPT, "{method}: {:?}", begin.elapsed());
        }
        assert_eq!(player.element("source").src_pads().len(), 0);
        player.assert_no_error();
    }
}

#[test]
fn a_pipeline_that_is_ended_during_an_outage_ends_in_good_order() {
    init();
    let server = one_camera();
    let (player, _) = playing(&server, "");
    server.stop();
    news(&player, "lost");
    assert!(player.pipeline.send_event(gst::event::Eos::new()));
    player.message(gst::MessageType::Eos);
}

/// As a muxer without queues does: it keeps the thread of the picture until there is sound, which
/// the outage has cut off.
#[test]
fn a_thread_that_waits_for_another_stream_holds_up_no_recovery() {
    let server = MockServer::builder().camera("/cam", Camera::av()).start();
    let entangled = Entangled::new(&server);
    entangled.hold(&server);
    server.close_connections();
    assert!(server.wait_until(
        |view| view.count("PLAY") == 2 && view.playing() == 1,
        PATIENCE
    ));
    server.send_packets("/cam", 5);
    entangled.audio.wait_for(entangled.before + 5);
    entangled.video.wait_for(16);
    entangled.player.assert_no_error();
}

for_both_managers!(a_session_lost_while_it_is_paused_plays_again_when_it_is_told_to);
fn a_session_lost_while_it_is_paused_plays_again_when_it_is_told_to() {
    init();
    let server = one_camera();
    let (player, seen) = playing(&server, "");
    player.set_state(gst::State::Paused).unwrap();
    assert!(server.wait_until(|view| view.count("PAUSE") == 1, PATIENCE));
    server.close_connections();
    assert!(server.wait_until(|view| view.count("SETUP") == 2, PATIENCE));
    assert_eq!(server.view().count("PLAY"), 1);
    player.set_state(gst::State::Playing).unwrap();
    let buffers = more(&server, &seen, 2);
    assert!(times(&buffers).is_sorted());
    player.assert_no_error();
}

#[test]
fn threads_do_not_grow_with_outages() {
    init();
    // GLib keeps threads for 15 s otherwise.
    gst::glib::ThreadPool::set_max_unused_threads(Some(0));
    let server = one_camera();
    let (player, seen) = playing(&server, "reconnect-max-delay=100000000");
    // The worker threads are as many as there are processors, once they were needed.
    let count = || {
        let is_feeding = |name: &String| name == "rtspmux-feed";
        let (feeding, others): (Vec<_>, Vec<_>) = thread_names().into_iter().partition(is_feeding);
        (feeding.len(), others.len())
    };
    let processors = std::thread::available_parallelism().unwrap().get();
    let (_, before) = count();
    for round in 0..6 {
        server.close_connections();
        news(&player, "lost");
        more(&server, &seen, round + 2);
        news(&player, "recovered");
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (feeding, others) = count();
        if feeding <= processors && others <= before {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{feeding} and {others} threads, not {processors} and {before}"
        );
        // They end at their own time.
        std::thread::park_timeout(Duration::from_millis(20));
    }
    player.assert_no_error();
}
