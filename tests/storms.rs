//! F44: servers that end each session of sixteen elements, and what that costs the process and the bus.
//! The processor time of the process is measured, so this is the only test of its binary.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test binary")]

#[allow(dead_code, reason = "what other binaries need of it")]
#[allow(unused_macros, unused_imports, reason = "the same")]
#[path = "element/player.rs"]
mod player;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;
use rustix::time::{ClockId, clock_gettime};

use player::{Player, Seen};
use support::mock_server::{Behaviour, Family, MockServer, Reaction, Rule, ServerView};

/// Far more than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const CAMERAS: usize = 16;
/// How long the processor time is looked at: the tries of the server's budget come every two seconds.
const WINDOW: Duration = Duration::from_secs(10);

/// Sixteen cameras of a server, with names that begin with `of`.
fn line(server: &MockServer, of: &str, manager: &str) -> String {
    let cameras = (1..=CAMERAS).map(|camera| {
        format!(
            "rtspmuxsrc name={of}{camera} manager={manager} location={} latency=0 \
             ! fakesink name=sink-{of}{camera} sync=false async=false ",
            server.url(&format!("/cam/{camera}"))
        )
    });
    cameras.collect()
}

fn server() -> MockServer {
    MockServer::builder()
        .cameras(CAMERAS as u32)
        .family(Family::Gst)
        .behaviour(Behaviour::PacketsAfterPlay(2))
        .start()
}

/// The manager of the cameras, what ends their sessions, and the request by whose number it is known that
/// this goes on.
fn storms() -> [(&'static str, &'static str, Reaction); 5] {
    [
        ("light", "PLAY", Reaction::Teardown),
        ("light", "PLAY", Reaction::Goodbye),
        ("rtpbin", "PLAY", Reaction::Goodbye),
        ("rtpbin", "PLAY", Reaction::HalfClose),
        ("light", "DESCRIBE", Reaction::status(503)),
    ]
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The messages of each of our elements about their trouble; none of the others'.
fn told(player: &Player) -> BTreeMap<String, Vec<String>> {
    let kinds = [
        gst::MessageType::Warning,
        gst::MessageType::Error,
        gst::MessageType::Element,
    ];
    let bus = player.pipeline.bus().unwrap();
    let mut told = BTreeMap::<String, Vec<String>>::new();
    for message in std::iter::from_fn(|| bus.pop_filtered(&kinds)) {
        let structure = message.structure();
        if structure.is_some_and(|structure| structure.name() == "rtspmux-sharing") {
            continue;
        }
        let source = message.src().unwrap().name().to_string();
        told.entry(source).or_default().push(format!("{message:?}"));
    }
    told
}

#[test]
fn f44_a_server_that_ends_each_session_costs_next_to_no_processor_time_and_few_messages() {
    let servers: Vec<MockServer> = storms().map(|_| server()).into();
    let lines = servers.iter().zip(storms()).enumerate();
    let lines: Vec<String> = lines
        .map(|(number, (server, (manager, ..)))| line(server, &format!("s{number}-"), manager))
        .collect();
    let player = Player::playing(&lines.join(" "));
    for (number, server) in servers.iter().enumerate() {
        let all_play = |view: &ServerView| view.playing() == CAMERAS;
        assert!(server.wait_until(all_play, PATIENCE));
        for camera in 1..=CAMERAS {
            let pad = player.element(&format!("sink-s{number}-{camera}"));
            let seen = Seen::on(&pad.static_pad("sink").unwrap());
            server.send_packets(&format!("/cam/{camera}"), 2);
            seen.wait_for(1);
        }
    }
    // Takes the messages of the start.
    told(&player);
    let mut before = Vec::new();
    for (server, (_, method, reaction)) in servers.iter().zip(storms()) {
        before.push(server.view().count(method));
        server.add_rule(Rule::new(method, reaction));
        server.close_connections();
    }
    // The first sessions have come back and failed, and one has tried again for all.
    for ((server, (_, method, _)), before) in servers.iter().zip(storms()).zip(before) {
        let is_on = |view: &ServerView| view.count(method) > before + 2;
        assert!(server.wait_until(is_on, PATIENCE), "{method}");
    }
    let (begin, used) = (std::time::Instant::now(), processor_time());
    // This is the window that the test measures; it is not a wait for an event.
    while let Some(left) = WINDOW.checked_sub(begin.elapsed()) {
        std::thread::park_timeout(left);
    }
    let used = processor_time() - used;
    // One percent of a processor for each storm, the part of the servers included.
    let most = WINDOW.mul_f64(0.01 * storms().len() as f64);
    println!("{used:?} of {WINDOW:?}");
    let told = told(&player);
    assert!(used < most, "{used:?} of {WINDOW:?}");
    for (camera, told) in &told {
        assert!(told.len() <= 3, "{camera}: {told:#?}");
    }
    let cameras = told.keys().filter(|name| name.starts_with('s')).count();
    assert_eq!(cameras, CAMERAS * storms().len(), "each says why");
}
