//! F44: servers that fail in every way under one element and under sixteen, from the beginning and after
//! they have played: what reaches the servers, the bus and the processor in the first minute.
//!
//! All of them fail side by side in one process, whose processor time and whose dials are counted, so this
//! is the only test of its binary.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test binary")]

#[path = "storms/away.rs"]
mod away;
#[path = "storms/calls.rs"]
mod calls;
#[path = "support/certificates.rs"]
mod certificates;
#[path = "storms/listener.rs"]
mod listener;
#[allow(dead_code, reason = "what other binaries need of it")]
#[allow(unused_macros, unused_imports, reason = "the same")]
#[path = "element/player.rs"]
mod player;
#[path = "storms/storm.rs"]
mod storm;
mod support;
#[path = "support/tls_front.rs"]
mod tls_front;

use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use rustix::time::{ClockId, clock_gettime};

use listener::Listener;
use player::{Player, Seen};
use storm::{Away, Certificates, Counts, Ends, FAULTS, Fault, Storm};
use support::mock_server::ServerView;

/// Far more than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(40);
/// The first minute, less what it takes to look at it: after a minute another class of reasons is news.
const MINUTE: Duration = Duration::from_secs(58);
/// So long after the server began to fail the tries that are free are over.
const SETTLED: Duration = Duration::from_secs(10);
/// The processor time is looked at for so long at least.
const LOOK: Duration = Duration::from_secs(10);
/// Dials, and requests of each kind, in a minute.
const BUDGET: usize = 30;
/// Messages of a camera about its trouble in the first minute.
const TROUBLE: usize = 3;
/// Those of progress: the steps of the first start and of the first attempts after it.
const PROGRESS: usize = 26;
/// The part of a processor that each storm may take is one percent, that of the server included. All of
/// them together may take less, so that it shows if a single one keeps a thread busy.
const PROCESSOR: f64 = 0.004;

/// Each way to fail with one camera and with many, from the beginning and after having played. What a manager
/// may see differently, with both managers.
fn storms(certificates: &Certificates) -> Vec<Storm> {
    let mut kinds: Vec<_> = FAULTS.map(|fault| (fault, "light")).into();
    for fault in [
        Fault::Away(Away::Refusing),
        Fault::After("PLAY", Ends::Close),
        Fault::After("PLAY", Ends::Goodbye),
    ] {
        kinds.push((fault, "rtpbin"));
    }
    let mut storms = Vec::new();
    for (fault, manager) in kinds {
        for cameras in [1, 16] {
            for has_played in [false, true] {
                let name = format!("s{}", storms.len());
                storms.push(Storm::new(
                    name,
                    fault,
                    cameras,
                    has_played,
                    manager,
                    certificates,
                ));
            }
        }
    }
    storms
}

fn pipeline<'a>(storms: impl Iterator<Item = &'a Storm>, certificates: &Certificates) -> Player {
    let lines: Vec<String> = storms.map(|storm| storm.line(certificates)).collect();
    Player::new(&lines.join(" "))
}

/// Waits until all of them play and each has shown a packet.
fn wait_until_they_play(player: &Player, storms: &[Storm]) {
    for storm in storms.iter().filter(|storm| storm.has_played) {
        let server = storm.server.as_ref().unwrap();
        let all_play = |view: &ServerView| view.playing() == storm.cameras as usize;
        assert!(server.wait_until(all_play, PATIENCE), "{storm}");
        for camera in 1..=storm.cameras {
            let sink = player.element(&format!("sink-{}-{camera}", storm.name));
            let seen = Seen::on(&sink.static_pad("sink").unwrap());
            server.send_packets(&format!("/cam/{camera}"), 2);
            seen.wait_for(1);
        }
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The end of a window that the test measures; it is not a wait for an event.
fn pass(until: Instant) {
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

#[test]
fn f44_no_failure_of_a_server_is_a_storm_for_servers_bus_or_processor() {
    player::init();
    let certificates = Certificates::new();
    let mut storms = storms(&certificates);
    let (listener, number) = (Listener::default(), storms.len());
    let played = pipeline(
        storms.iter().filter(|storm| storm.has_played),
        &certificates,
    );
    let fresh = pipeline(
        storms.iter().filter(|storm| !storm.has_played),
        &certificates,
    );
    for player in [&played, &fresh] {
        listener.listen(&player.pipeline);
    }
    played.set_state(gst::State::Playing).unwrap();
    wait_until_they_play(&played, &storms);
    listener.take();

    let begin = Instant::now();
    for storm in storms.iter_mut().filter(|storm| storm.has_played) {
        storm.strike(&certificates);
    }
    fresh.set_state(gst::State::Playing).unwrap();
    let soon = storms.iter().filter(|storm| storm.is_told_soon());
    let names: Vec<String> = soon.flat_map(Storm::names).collect();
    let silent = listener.wait_for(&names, PATIENCE);
    assert!(silent.is_empty(), "these do not say why: {silent:?}");
    pass(begin + SETTLED);
    let free: Vec<_> = storms.iter().map(Storm::since).collect();
    let (settled, used) = (Instant::now(), processor_time());
    pass((begin + MINUTE).max(settled + LOOK));
    let (time, used) = (settled.elapsed(), processor_time() - used);
    let posted = listener.take();

    let mut findings = Vec::new();
    for (storm, free) in storms.iter().zip(&free) {
        findings.extend(excess(storm, free));
        for name in storm.names() {
            let posted = posted.get(&name).cloned().unwrap_or_default();
            if posted.trouble.len() > TROUBLE || posted.progress > PROGRESS {
                findings.push(format!("{storm}: {name}: {posted:#?}"));
            }
        }
    }
    println!("{used:?} of {time:?}, {number} servers");
    if used > time.mul_f64(PROCESSOR * number as f64) {
        findings.push(format!("{used:?} of {time:?}"));
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

/// What has come since the storm began and is more than the budget, if so much of it was free.
fn excess(storm: &Storm, free: &Counts) -> Vec<String> {
    let most = BUDGET + storm.free();
    let mut findings = Vec::new();
    for (what, count) in storm.since() {
        let late = count - free.get(&what).copied().unwrap_or_default();
        let line = format!("{storm}: {count} {what}, {late} of them late");
        println!("{line}");
        if count > most || late > BUDGET {
            findings.push(line);
        }
    }
    findings
}
