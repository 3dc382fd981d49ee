//! `waiting-for` in `stats`: why a camera does not play yet.

use gst::prelude::*;
use gstreamer as gst;

use crate::one_camera::{line, one_camera};
use crate::player::{PATIENCE, Player, init};
use crate::support::mock_server::{Reaction, Rule};
use crate::support::polling::wait_until;

fn waiting_for(player: &Player) -> Option<String> {
    let stats: gst::Structure = player.element("source").property("stats");
    stats.get::<String>("waiting-for").ok()
}

#[test]
fn an_operator_sees_what_a_camera_waits_for_until_it_plays() {
    init();
    let server = one_camera();
    server.add_rule(Rule::new("DESCRIBE", Reaction::Hold).times(1));
    let player = Player::playing(&line(&server.url("/cam"), ""));
    assert!(server.wait_until(|view| view.count("DESCRIBE") == 1, PATIENCE));
    wait_until(
        || waiting_for(&player).as_deref() == Some("answer"),
        PATIENCE,
    );
    server.release();
    let seen = player.seen_by("sink");
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    server.send_packets("/cam", 10);
    seen.wait_for(10);
    assert_eq!(waiting_for(&player), None);
}
