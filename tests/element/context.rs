//! An application's multiplexer instead of the process's.

use gst::prelude::*;
use gstreamer as gst;
use gstrtspmux::mux::Mux;
use gstrtspmux::rtspsrc::{CONTEXT_TYPE, pool_context};

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
