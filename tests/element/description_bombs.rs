//! Descriptions that are made to cost (F49): attributes times media times payload types.
//!
//! `cargo test --release --test element f49 -- --nocapture` prints what they take.

use std::{
    fs,
    time::{Duration, Instant},
};

use gst::prelude::*;
use gstreamer as gst;

use crate::one_camera::line;
use crate::player::{PATIENCE, Player, for_both_managers, init};
use crate::support::mock_server::{Camera, MockServer};

/// One second in a release build on an idle machine; a debug build on a loaded one takes longer.
const DONE: Duration = match cfg!(debug_assertions) {
    true => Duration::from_secs(15),
    false => Duration::from_secs(3),
};

/// What the process may take more, in KiB; the same for the debug build.
const MEMORY: usize = match cfg!(debug_assertions) {
    true => 100 * 1024,
    false => 50 * 1024,
};

const MEDIA: usize = 32;
const ATTRIBUTES: usize = 192 * 1024;

/// The most memory that the process has had, in KiB, since the last call.
fn peak_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.unwrap().split_ascii_whitespace().nth(1).unwrap();
    // From now on it counts anew.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    number.parse().unwrap()
}

/// `size` bytes of attributes.
fn attributes(size: usize, attribute: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for n in 0.. {
        let line = attribute(n);
        if text.len() + line.len() > size {
            break;
        }
        text += &line;
    }
    text
}

/// 32 media of 32 payload types each, with these attributes before the first, and in each.
fn description(of_session: &str, of_medium: &str) -> String {
    let types: String = (96..128).map(|n| format!(" {n}")).collect();
    let maps: String = (96..128)
        .map(|n| format!("a=rtpmap:{n} H264/90000\r\na=fmtp:{n} packetization-mode=1\r\n"))
        .collect();
    let medium =
        |n| format!("m=video 0 RTP/AVP{types}\r\n{maps}{of_medium}a=control:stream={n}\r\n");
    let media: String = (0..MEDIA).map(medium).collect();
    format!("v=0\r\ns=x\r\nt=0 0\r\n{of_session}a=control:*\r\n{media}")
}

fn bombs() -> Vec<(&'static str, String)> {
    let other = |n: usize| format!("a=x-attribute-{n}:{n}\r\n");
    let feedback = |n: usize| format!("a=rtcp-fb:{} nack {n}\r\n", 96 + n % 32);
    let map = |n: usize| format!("a=rtpmap:{} H264/{}\r\n", 96 + n % 32, 90_000 + n);
    let format = |n: usize| format!("a=fmtp:{} p{n}={n};q{n}={n}\r\n", 96 + n % 32);
    let long = |n: usize| format!("a=fmtp:{} x={}\r\n", 96 + n % 32, "y".repeat(5_000));
    let each = ATTRIBUTES / MEDIA;
    // As much as an answer may have: 4 MiB.
    let most = 100 * 1024;
    vec![
        (
            "attributes of the session",
            description(&attributes(ATTRIBUTES, other), ""),
        ),
        (
            "attributes of the media",
            description("", &attributes(each, other)),
        ),
        ("rtcp-fb", description("", &attributes(each, feedback))),
        ("rtpmap", description("", &attributes(each, map))),
        ("fmtp", description("", &attributes(each, format))),
        ("long fmtp", description("", &attributes(each, long))),
        (
            "attributes, 4 MiB",
            description("", &attributes(most, other)),
        ),
        ("fmtp, 4 MiB", description("", &attributes(most, format))),
        ("rtpmap, 4 MiB", description("", &attributes(most, map))),
        ("long fmtp, 4 MiB", description("", &attributes(most, long))),
        (
            "media without end",
            "m=video 0 RTP/AVP 96\r\n".repeat(180_000),
        ),
    ]
}

for_both_managers!(f49_a_description_bomb_is_played_or_refused_soon);
fn f49_a_description_bomb_is_played_or_refused_soon() {
    init();
    for (name, sdp) in bombs() {
        let size = sdp.len() / 1024;
        let server = MockServer::builder()
            .camera("/cam", Camera::video().sdp(sdp))
            .start();
        let line = line(&server.url("/cam"), "reconnect=false");
        let player = Player::new(&line);
        peak_memory();
        let before = peak_memory();
        let began = Instant::now();
        player.set_state(gst::State::Playing).unwrap();
        let bus = player.pipeline.bus().unwrap();
        let has_failed = || bus.pop_filtered(&[gst::MessageType::Error]).is_some();
        let is_over = || server.view().playing() > 0 || has_failed();
        while !is_over() {
            assert!(began.elapsed() < PATIENCE, "{name}");
            server.wait_until(|view| view.playing() > 0, Duration::from_millis(10));
        }
        let took = began.elapsed();
        let more = peak_memory().saturating_sub(before);
        let stopping = Instant::now();
        player.set_state(gst::State::Null).unwrap();
        let stopped = stopping.elapsed();
        println!("{name} ({size} KiB): {took:?}, {more} KiB more, stopped in {stopped:?}");
        assert!(took < DONE, "{name}: {took:?}");
        assert!(more < MEMORY, "{name}: {more} KiB");
    }
}

/// The task may be at work on it.
#[test]
fn f49_null_ends_a_session_that_reads_a_description_bomb() {
    init();
    for (name, sdp) in bombs() {
        let server = MockServer::builder()
            .camera("/cam", Camera::video().sdp(sdp))
            .start();
        let player = Player::playing(&line(&server.url("/cam"), "teardown-timeout=0"));
        assert!(server.wait_until(|view| view.count("DESCRIBE") > 0, PATIENCE));
        let stopping = Instant::now();
        player.set_state(gst::State::Null).unwrap();
        assert!(
            stopping.elapsed() < DONE,
            "{name}: {:?}",
            stopping.elapsed()
        );
    }
}
