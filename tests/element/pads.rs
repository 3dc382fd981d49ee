//! Pads: names, caps, events, and when they come.

use std::sync::{Arc, Condvar, Mutex, mpsc};

use gst::prelude::*;
use gstreamer as gst;

use crate::gst_server::GstServer;
use crate::player::{PATIENCE, PROMPT, Player, for_both_managers, init};

/// What a pad had when it was added.
struct Added {
    name: String,
    caps: gst::Caps,
    stream_id: String,
    group: gst::GroupId,
    segment: gst::Segment,
}

/// Plays a camera until there are no more pads.
fn pads_of(url: &str) -> Vec<Added> {
    let player = Player::new(&format!(
        "rtspmuxsrc name=source latency=0 location={url} fakesrc is-live=true num-buffers=1 ! fakesink async=false"
    ));
    let source = player.element("source");
    let pipeline = player.pipeline.downgrade();
    let (added, pads) = mpsc::channel();
    source.connect_pad_added(move |_, pad| {
        let start = pad.sticky_event::<gst::event::StreamStart>(0).unwrap();
        let segment = pad.sticky_event::<gst::event::Segment>(0).unwrap();
        let pad_added = Added {
            name: pad.name().into(),
            caps: pad.current_caps().unwrap(),
            stream_id: start.stream_id().into(),
            group: start.group_id().unwrap(),
            segment: segment.segment().clone(),
        };
        let sink = gst::ElementFactory::make("fakesink")
            .property("async", false)
            .build()
            .unwrap();
        pipeline.upgrade().unwrap().add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        added.send(pad_added).unwrap();
    });
    let (done, no_more_pads) = mpsc::channel();
    source.connect_no_more_pads(move |_| done.send(()).unwrap());
    player.set_state(gst::State::Playing).unwrap();
    no_more_pads.recv_timeout(PATIENCE).unwrap();
    player.assert_no_error();
    let mut pads: Vec<Added> = pads.try_iter().collect();
    pads.sort_by(|a, b| a.name.cmp(&b.name));
    pads
}

for_both_managers!(there_is_one_for_each_stream_with_all_that_autopluggers_look_at);
fn there_is_one_for_each_stream_with_all_that_autopluggers_look_at() {
    init();
    let server = GstServer::builder().audio(|_| true).start().unwrap();
    let pads = pads_of(&server.url(0));
    let names: Vec<&str> = pads.iter().map(|pad| pad.name.as_str()).collect();
    assert_eq!(names, ["stream_0", "stream_1"]);
    assert_eq!(pads[0].group, pads[1].group);
    assert_ne!(pads[0].stream_id, pads[1].stream_id);
    assert!(
        pads.iter()
            .all(|pad| pad.segment.format() == gst::Format::Time)
    );

    let video = pads[0].caps.structure(0).unwrap();
    assert_eq!(video.name(), "application/x-rtp");
    assert_eq!(video.get::<&str>("encoding-name"), Ok("H264"));
    assert_eq!(video.get::<i32>("clock-rate"), Ok(90_000));
    assert!(video.get::<&str>("sprop-parameter-sets").is_ok());
    // From RTP-Info.
    assert!(video.get::<u32>("clock-base").is_ok(), "{video}");
    assert!(video.get::<u32>("seqnum-base").is_ok(), "{video}");
    assert_eq!(video.get::<u32>("ssrc"), Ok(crate::gst_server::ssrc(0, 0)));
    let audio = pads[1].caps.structure(0).unwrap();
    assert_eq!(audio.get::<&str>("encoding-name"), Ok("PCMA"));
}

#[test]
fn stream_ids_are_the_same_in_every_run() {
    init();
    let server = GstServer::builder().mounts(2).start().unwrap();
    let (once, again) = (pads_of(&server.url(0)), pads_of(&server.url(0)));
    assert_eq!(once[0].stream_id, again[0].stream_id);
    assert_ne!(once[0].stream_id, pads_of(&server.url(1))[0].stream_id);
}

for_both_managers!(caps_are_those_of_rtspsrc);
/// The caps of `rtspsrc`, field by field, but for what differs by nature.
fn caps_are_those_of_rtspsrc() {
    init();
    let server = GstServer::builder().start().unwrap();
    let ours = pads_of(&server.url(0)).remove(0).caps;
    let player = Player::playing(&format!(
        "rtspsrc location={} protocols=tcp latency=0 ! fakesink name=sink sync=false",
        server.url(0)
    ));
    player.seen_by("sink").wait_for(1);
    let theirs = player
        .element("sink")
        .static_pad("sink")
        .unwrap()
        .current_caps()
        .unwrap();
    let (ours, theirs) = (ours.structure(0).unwrap(), theirs.structure(0).unwrap());
    for (name, value) in theirs.iter() {
        // Fields about the moment of joining, about the sender, and those that this element has not.
        let differs = ["clock-base", "seqnum-base", "onvif-mode"].contains(&name.as_str());
        if differs || name.ends_with("-cname") {
            continue;
        }
        let mine = ours
            .value(name)
            .unwrap_or_else(|_| panic!("no {name} in {ours}"));
        assert_eq!(
            mine.serialize().unwrap(),
            value.serialize().unwrap(),
            "{name}"
        );
    }
}

for_both_managers!(queries_are_answered);
fn queries_are_answered() {
    init();
    let server = GstServer::builder().start().unwrap();
    let player = Player::playing(&format!(
        "rtspmuxsrc location={} latency=150 ! fakesink name=sink sync=false",
        server.url(0)
    ));
    player.seen_by("sink").wait_for(1);
    let pad = player.element("sink").static_pad("sink").unwrap();
    let mut latency = gst::query::Latency::new();
    assert!(pad.peer_query(&mut latency));
    let (live, least, _) = latency.result();
    assert_eq!((live, least), (true, gst::ClockTime::from_mseconds(150)));
    let mut seeking = gst::query::Seeking::new(gst::Format::Time);
    assert!(pad.peer_query(&mut seeking));
    assert!(!seeking.result().0);
    let mut uri = gst::query::Uri::new();
    assert!(pad.peer_query(&mut uri));
    assert_eq!(uri.uri().unwrap(), server.url(0));
}

for_both_managers!(pads_are_added_one_at_a_time);
/// What links pads as they come, as `gst_parse_launch` does, looks at all pads each time: two at a
/// time would take each other's.
fn pads_are_added_one_at_a_time() {
    init();
    let server = GstServer::builder().audio(|_| true).start().unwrap();
    let player = Player::new(&format!(
        "rtspmuxsrc name=source latency=0 location={} fakesrc is-live=true num-buffers=1 ! fakesink async=false",
        server.url(0)
    ));
    let inside = Arc::<(Mutex<usize>, Condvar)>::default();
    let (added, all) = mpsc::channel();
    player.element("source").connect_pad_added(move |_, _| {
        let (count, changed) = &*inside;
        let mut count = count.lock().unwrap();
        *count += 1;
        changed.notify_all();
        // Gives the other pad time to be added, which must not happen meanwhile.
        let alone = changed.wait_timeout_while(count, PROMPT / 4, |count| *count == 1);
        let (mut count, waited) = alone.unwrap();
        *count -= 1;
        let _ = added.send(waited.timed_out());
    });
    player.set_state(gst::State::Playing).unwrap();
    for _ in 0..2 {
        assert!(all.recv_timeout(PATIENCE).unwrap(), "two at a time");
    }
}
