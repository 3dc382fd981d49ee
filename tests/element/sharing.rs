//! What a server can do is told on the bus, once.

use gst::prelude::*;
use gstreamer as gst;
use gstrtspmux::mux::Mux;
use gstrtspmux::rtspsrc::pool_context;

use crate::gst_server::GstServer;
use crate::player::{PATIENCE, Player, init};
use crate::support::mock_server::{Family, MockServer};

const NAME: &str = "rtspmux-sharing";

/// The next message about a verdict.
fn news(player: &Player) -> gst::Structure {
    loop {
        let message = player.message(gst::MessageType::Element);
        let structure = message.structure().unwrap();
        if structure.name() == NAME {
            return structure.to_owned();
        }
    }
}

/// Those that wait on the bus.
fn more_news(player: &Player) -> usize {
    let bus = player.pipeline.bus().unwrap();
    std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element]))
        .filter(|message| message.structure().is_some_and(|it| it.name() == NAME))
        .count()
}

/// One pipeline with these cameras, playing with a multiplexer that knows nothing yet.
fn playing(mux: &Mux, urls: &[String]) -> Player {
    let line: Vec<String> = urls
        .iter()
        .enumerate()
        .map(|(number, url)| {
            format!("rtspmuxsrc location=\"{url}\" latency=0 ! fakesink name=sink{number} sync=false async=false")
        })
        .collect();
    let player = Player::new(&line.join(" "));
    player.pipeline.set_context(&pool_context(mux));
    player.set_state(gst::State::Playing).unwrap();
    player
}

#[test]
fn a_server_that_shares_is_told_once_however_many_play() {
    init();
    let server = GstServer::builder().mounts(3).start().unwrap();
    let mux = Mux::builder().build();
    let urls: Vec<String> = (0..3).map(|camera| server.url(camera)).collect();
    let player = playing(&mux, &urls);
    let seen: Vec<_> = (0..3)
        .map(|number| player.seen_by(&format!("sink{number}")))
        .collect();
    let told = news(&player);
    assert_eq!(told.get::<&str>("verdict"), Ok("yes"));
    assert!(server.url(0).contains(told.get::<&str>("server").unwrap()));
    assert!(!told.has_field("reason"));
    seen.iter().for_each(|seen| drop(seen.wait_for(5)));
    assert_eq!(more_news(&player), 0);
}

#[test]
fn a_server_that_cannot_share_is_told_with_the_reason_to_every_pipeline() {
    init();
    let server = MockServer::builder()
        .family(Family::MediaMtx)
        .camera_of(Family::MediaMtx, 1)
        .start();
    let mux = Mux::builder().build();
    let waiting = Player::new(&format!(
        "rtspmuxsrc location={} ! fakesink async=false",
        server.url(&Family::MediaMtx.path(1))
    ));
    waiting.pipeline.set_context(&pool_context(&mux));
    waiting.set_state(gst::State::Ready).unwrap();
    let player = playing(&mux, &[server.url(&Family::MediaMtx.path(1))]);
    for player in [&player, &waiting] {
        let told = news(player);
        assert_eq!(told.get::<&str>("verdict"), Ok("no"));
        let reason = told.get::<&str>("reason").unwrap();
        assert!(reason.contains("gortsplib"), "{reason}");
    }
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    assert_eq!(more_news(&player) + more_news(&waiting), 0);
}

#[test]
fn who_went_back_to_null_hears_nothing() {
    init();
    let server = MockServer::builder()
        .family(Family::MediaMtx)
        .camera_of(Family::MediaMtx, 1)
        .start();
    let mux = Mux::builder().build();
    let url = server.url(&Family::MediaMtx.path(1));
    let gone = Player::new(&format!("rtspmuxsrc location={url} ! fakesink async=false"));
    gone.pipeline.set_context(&pool_context(&mux));
    gone.pipeline.set_property("auto-flush-bus", false);
    gone.set_state(gst::State::Ready).unwrap();
    gone.set_state(gst::State::Null).unwrap();
    let player = playing(&mux, &[url]);
    assert_eq!(news(&player).get::<&str>("verdict"), Ok("no"));
    assert_eq!(more_news(&gone), 0);
}
