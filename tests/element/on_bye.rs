//! What an RTCP BYE means, where the description announces no end.

use gstreamer as gst;

use crate::gst_server::{GstServer, clip::Stamp};
use crate::player::{PATIENCE, Player, Seen, for_both_managers, init};

/// 3 s, and then BYE; from the beginning again for each session.
const FRAMES: u64 = 75;

fn playing(on_bye: &str) -> (GstServer, Player, std::sync::Arc<Seen>) {
    init();
    let server = GstServer::builder().shared(false).frames(FRAMES);
    let server = server.start().unwrap();
    let player = Player::playing(&format!(
        "rtspmuxsrc on-bye={on_bye} latency=0 location={} ! fakesink name=sink sync=false async=false",
        server.url(0)
    ));
    let seen = player.seen_by("sink");
    (server, player, seen)
}

fn frames(seen: &Seen) -> Vec<u64> {
    let buffers = seen.wait_for(0);
    let stamp = |buffer: &gst::Buffer| Stamp::find(&buffer.map_readable().unwrap());
    buffers
        .iter()
        .filter_map(stamp)
        .map(|it| it.frame)
        .collect()
}

for_both_managers!(content_that_begins_again_after_a_bye_has_ended);
fn content_that_begins_again_after_a_bye_has_ended() {
    let (server, player, seen) = playing("auto");
    player.message(gst::MessageType::Eos);
    let expected: Vec<u64> = (0..FRAMES).collect();
    assert_eq!(frames(&seen), expected);
    assert_eq!(server.counts().plays, 2);
}

for_both_managers!(with_eos_a_bye_is_the_end);
fn with_eos_a_bye_is_the_end() {
    let (server, player, seen) = playing("eos");
    player.message(gst::MessageType::Eos);
    let expected: Vec<u64> = (0..FRAMES).collect();
    assert_eq!(frames(&seen), expected);
    assert_eq!(server.counts().plays, 1);
}

for_both_managers!(with_reconnect_what_begins_again_is_played_again);
fn with_reconnect_what_begins_again_is_played_again() {
    let (server, player, seen) = playing("reconnect");
    server
        .wait_until(PATIENCE, |counts| counts.plays == 3)
        .unwrap();
    let frames = frames(&seen);
    let firsts = frames.iter().filter(|frame| **frame == 0).count();
    assert!(firsts >= 2, "{frames:?}");
    player.assert_no_error();
}
