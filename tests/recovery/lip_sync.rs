//! Sound and picture after an outage.

use gst::prelude::*;
use gstreamer as gst;

use crate::PATIENCE;
use crate::gst_server::GstServer;
use crate::wall::{self, Wall};

/// A flash in the picture and a beep in the sound happen at the same moment, once a second. What
/// reports said about the time before does not hold any more.
fn sound_and_picture_are_in_sync_after_an_outage(manager: &str) {
    wall::init();
    let server = GstServer::builder()
        .mounts(2)
        .audio(|_| true)
        .start()
        .unwrap();
    let urls = [server.url(0), server.url(1)];
    let wall = Wall::start(&urls, &[("latency", "200"), ("manager", manager)]);
    wall.wait_for_flashes_and_beeps(2, PATIENCE);
    server.close_connections();
    let outages = || {
        let stats = wall
            .sources()
            .map(|source| source.property::<gst::Structure>("stats"));
        stats
            .map(|stats| stats.get::<u64>("outages").unwrap())
            .sum::<u64>()
    };
    server
        .wait_until(PATIENCE, |counts| counts.plays == 4)
        .unwrap();
    assert_eq!(outages(), 2);
    wall.forget_frames();
    wall.wait_for_flashes_and_beeps(4, PATIENCE);
    wall.assert_in_sync();
    wall.stop();
}

#[test]
fn sound_and_picture_are_in_sync_after_an_outage_in_the_light() {
    sound_and_picture_are_in_sync_after_an_outage("light");
}

#[test]
fn sound_and_picture_are_in_sync_after_an_outage_with_rtpbin() {
    sound_and_picture_are_in_sync_after_an_outage("rtpbin");
}
