//! An application's multiplexer instead of the process's.

use gst::prelude::*;
use gstreamer as gst;
use gstrtspmux::mux::Mux;
use gstrtspmux::rtspsrc::{CONTEXT_TYPE, pool_context};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::gst_server::GstServer;
use crate::player::{Player, init};

fn line(server: &GstServer) -> String {
    format!(
        "rtspmuxsrc location={} latency=0 ! fakesink name=sink sync=false",
        server.url(0)
    )
}

fn connections(mux: &Mux) -> usize {
    mux.stats()
        .servers
        .iter()
        .map(|server| server.connections.len())
        .sum()
}

#[test]
fn a_context_of_the_pipeline_reaches_its_elements() {
    init();
    let server = GstServer::builder().start().unwrap();
    let mux = Mux::builder().build();
    let player = Player::new(&line(&server));
    player.pipeline.set_context(&pool_context(&mux));
    player.set_state(gst::State::Playing).unwrap();
    player.seen_by("sink").wait_for(1);
    assert_eq!(connections(&mux), 1);
}

#[test]
fn who_is_asked_for_a_context_may_answer() {
    init();
    let server = GstServer::builder().start().unwrap();
    let mux = Mux::builder().build();
    let player = Player::new(&line(&server));
    let context = pool_context(&mux);
    player
        .pipeline
        .bus()
        .unwrap()
        .set_sync_handler(move |_, message| {
            if let gst::MessageView::NeedContext(need) = message.view()
                && need.context_type() == CONTEXT_TYPE
            {
                let element = message
                    .src()
                    .unwrap()
                    .downcast_ref::<gst::Element>()
                    .unwrap();
                element.set_context(&context);
            }
            gst::BusSyncReply::Pass
        });
    player.set_state(gst::State::Playing).unwrap();
    player.seen_by("sink").wait_for(1);
    assert_eq!(connections(&mux), 1);
}

#[test]
fn multiplexers_share_nothing() {
    init();
    let server = GstServer::builder().start().unwrap();
    let muxes = [Mux::builder().build(), Mux::builder().build()];
    let players: Vec<Player> = muxes
        .iter()
        .map(|mux| {
            let player = Player::new(&line(&server));
            player.pipeline.set_context(&pool_context(mux));
            player.set_state(gst::State::Playing).unwrap();
            player
        })
        .collect();
    players
        .iter()
        .for_each(|player| drop(player.seen_by("sink").wait_for(1)));
    assert_eq!(server.counts().accepted, 2);
}

/// Opening a FIFO waits until something opens its other end, if one does not take care.
#[test]
fn f48_a_fifo_in_place_of_the_state_file_holds_up_nothing_and_is_told_once() {
    init();
    let server = GstServer::builder().mounts(2).start().unwrap();
    let name = format!("rtspmux-element-fifo-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mux = Mux::builder().state(&path).build();
    let source = |camera, sink| {
        let url = server.url(camera);
        format!("rtspmuxsrc location={url} latency=0 ! fakesink name={sink} sync=false ")
    };
    let player = Player::new(&(source(0, "one") + &source(1, "two")));
    player.pipeline.set_context(&pool_context(&mux));
    player.set_state(gst::State::Playing).unwrap();
    player.seen_by("one").wait_for(1);
    player.seen_by("two").wait_for(1);
    let warning = player.message(gst::MessageType::Warning);
    let bus = player.pipeline.bus().unwrap();
    let more = bus.pop_filtered(&[gst::MessageType::Warning]);
    std::fs::remove_file(&path).unwrap();
    assert!(more.is_none(), "{more:?}");
    let gst::MessageView::Warning(warning) = warning.view() else {
        unreachable!()
    };
    assert!(warning.error().matches(gst::ResourceError::Settings));
    let details = warning.details().unwrap();
    assert_eq!(details.name(), "rtspmux-state-file");
    assert_eq!(details.get::<&str>("path").unwrap(), path.to_str().unwrap());
    assert_eq!(
        details.get::<&str>("reason").unwrap(),
        "not read: it is no regular file"
    );
}
