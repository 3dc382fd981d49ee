//! Nothing is left of an element: no object, thread, descriptor or connection.
//!
//! Counted in a process of its own, started from here with the leaks tracer: other tests have
//! objects and threads as well.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use crate::gst_server::GstServer;
use crate::player::{PATIENCE, Player, init};
use crate::support::thread_names::thread_names;

const CHILD: &str = "leaks::child";

#[test]
fn nothing_is_left_of_an_element() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--ignored", "--nocapture"])
        .env("GST_TRACERS", "leaks(check-refs=false)")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by nothing_is_left_of_an_element"]
fn child() {
    init();
    let server = GstServer::builder()
        .mounts(4)
        .audio(|_| true)
        .start()
        .unwrap();
    // A first run, for what a process makes only once.
    round(&server);
    let tracer = gst::active_tracers()
        .into_iter()
        .next()
        .expect("the leaks tracer");
    tracer.emit_by_name::<()>("activity-start-tracking", &[]);
    let before = (threads(), descriptors());
    let mut objects = Objects::default();
    for _ in 0..10 {
        round(&server);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        objects.count(&tracer.emit_by_name("activity-get-checkpoint", &[]));
        let now = (threads(), descriptors());
        if objects.left().is_empty() && is_within(&now.0, &before.0) && now.1 <= before.1 {
            break;
        }
        let left = objects.left();
        assert!(
            Instant::now() < deadline,
            "{left:#?}, {now:#?} instead of {before:#?}"
        );
        // GLib's threads end when they like.
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn player(url: &str) -> Player {
    Player::new(&format!(
        "rtspmuxsrc idle-connection-timeout=0 reconnect-max-delay=100000000 location={url} latency=50 \
         ! fakesink name=sink sync=false"
    ))
}

/// Four elements that lose their connection, stopped at four moments, and one whose server is away
/// (fault F31).
fn round(server: &GstServer) {
    let mut players: Vec<Player> = (0..4).map(|camera| player(&server.url(camera))).collect();
    let plays = server.counts().plays;
    for player in &players {
        player.set_state(gst::State::Playing).unwrap();
    }
    let has_played = |times: usize| {
        let played = server.wait_until(PATIENCE, |counts| counts.plays >= plays + 4 * times);
        played.unwrap();
    };
    has_played(1);
    players[0].seen_by("sink").wait_for(5);
    server.close_connections();
    has_played(2);
    players[0].seen_by("sink").wait_for(5);
    players.push(player("rtsp://127.0.0.1:1/away"));
    players[4].set_state(gst::State::Playing).unwrap();
    // Its first attempt has failed.
    players[4].message(gst::MessageType::Element);
    players[1].set_state(gst::State::Paused).unwrap();
    players[2].set_state(gst::State::Ready).unwrap();
    drop(players);
    server
        .wait_until(PATIENCE, |counts| counts.open == 0 && counts.media_now == 0)
        .unwrap();
}

/// Objects made less objects gone, by type.
#[derive(Default)]
struct Objects(BTreeMap<String, i64>);

impl Objects {
    fn count(&mut self, checkpoint: &gst::Structure) {
        for (field, sign) in [("objects-created-list", 1), ("objects-removed-list", -1)] {
            let list = checkpoint.get::<gst::List>(field).unwrap();
            for object in list.iter() {
                let object = object.get::<gst::Structure>().unwrap();
                let name = object.get::<String>("type-name").unwrap();
                *self.0.entry(name).or_default() += sign;
            }
        }
    }

    fn left(&self) -> Vec<(&str, i64)> {
        self.0
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, count)| (name.as_str(), *count))
            .collect()
    }
}

fn is_within(now: &BTreeMap<String, usize>, before: &BTreeMap<String, usize>) -> bool {
    now.iter()
        .all(|(name, count)| before.get(name).is_some_and(|before| count <= before))
}

fn threads() -> BTreeMap<String, usize> {
    let mut threads = BTreeMap::new();
    for name in thread_names() {
        *threads.entry(name).or_default() += 1;
    }
    threads
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
