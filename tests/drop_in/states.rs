//! State changes, what they return, and what the server sees of them.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use crate::stage::{PATIENCE, Show, Stage, behaviours};

behaviours! {
    what_state_changes_return
    what_state_changes_of_the_pipeline_return
    a_state_set_twice
    what_a_pause_returns
    paused_sets_up_and_does_not_play
    playing_plays
    paused_again_pauses_at_the_server
    playing_after_a_pause_goes_on
    null_tears_down
    ready_tears_down
    null_while_it_opens
    null_from_paused
    null_right_after_playing
    null_from_a_streaming_thread_is_refused_by_nobody
    null_from_another_thread_while_playing
    the_state_query_while_it_plays
    locked_state_stays
    synced_with_a_parent_that_plays
    added_to_a_pipeline_that_plays
    removed_from_a_pipeline_that_plays
    in_a_bin_with_async_handling
    dropped_in_null_after_playing
    ten_times_up_and_down
    playing_with_a_sink_that_prerolls
    a_lost_state_in_a_live_pipeline
    the_base_time_of_a_pipeline_is_its_own
}

fn changes(stage: &Stage, element: &gst::Element, label: &str) {
    for state in [
        gst::State::Ready,
        gst::State::Paused,
        gst::State::Playing,
        gst::State::Ready,
        gst::State::Playing,
        gst::State::Null,
    ] {
        let result = element.set_state(state);
        stage.note(format!("{label} {state:?}"), format!("{result:?}"));
    }
}

fn what_state_changes_return(stage: &Stage) {
    let show = stage.show("h264", &[]);
    changes(stage, &show.source(), "element");
}

fn what_state_changes_of_the_pipeline_return(stage: &Stage) {
    let show = stage.show("h264", &[]);
    changes(stage, show.pipeline.upcast_ref(), "pipeline");
}

fn a_state_set_twice(stage: &Stage) {
    let show = stage.show("h264", &[]);
    for state in [gst::State::Paused, gst::State::Playing, gst::State::Null] {
        for _ in 0..2 {
            let result = show.source().set_state(state);
            stage.note(format!("{state:?}"), format!("{result:?}"));
        }
    }
}

fn what_a_pause_returns(stage: &Stage) {
    let show = stage.play("h264", &[]);
    let result = show.source().set_state(gst::State::Paused);
    stage.note("paused", format!("{result:?}"));
}

fn methods(stage: &Stage) -> String {
    let mut methods: Vec<_> = stage
        .proxy()
        .requests()
        .into_iter()
        .map(|it| it.method)
        .collect();
    methods.dedup();
    // Whether the server is asked what it can is up to the client.
    methods.retain(|it| it != "OPTIONS");
    methods.join(" ")
}

fn paused_sets_up_and_does_not_play(stage: &Stage) {
    let show = stage.show("av", &[]);
    show.pipeline.set_state(gst::State::Paused).unwrap();
    stage.note("set up", stage.proxy().sees("SETUP", 2));
    show.message(&[gst::MessageType::Progress]);
    stage.note(
        "state",
        format!("{:?}", show.source().state(gst::ClockTime::SECOND)),
    );
    stage.note("methods", methods(stage));
    stage.note("pads", show.source().src_pads().len());
}

fn playing_plays(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 5);
    stage.note("methods", methods(stage));
    stage.note("plays", stage.proxy().count("PLAY"));
}

fn paused_again_pauses_at_the_server(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 10);
    show.pipeline.set_state(gst::State::Paused).unwrap();
    stage.note("pause", stage.proxy().sees("PAUSE", 1));
    stage.note("methods", methods(stage));
}

fn playing_after_a_pause_goes_on(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 10);
    show.pipeline.set_state(gst::State::Paused).unwrap();
    stage.note("pause", stage.proxy().sees("PAUSE", 1));
    show.pipeline.set_state(gst::State::Playing).unwrap();
    stage.note("plays again", stage.proxy().sees("PLAY", 2));
    let before = show.buffers(1, 10)[0].buffers.len();
    show.buffers(1, before + 20);
    stage.note("pads", show.source().src_pads().len());
    stage.note("setups", stage.proxy().count("SETUP"));
}

fn null_tears_down(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 10);
    let begin = Instant::now();
    let result = show.pipeline.set_state(gst::State::Null);
    stage.note("result", format!("{result:?}"));
    stage.note("soon", begin.elapsed() < Duration::from_secs(2));
    stage.note("teardown", stage.proxy().sees("TEARDOWN", 1));
    stage.note("pads", show.source().src_pads().len());
    stage.note(
        "children",
        show.source()
            .downcast::<gst::Bin>()
            .unwrap()
            .children()
            .len(),
    );
}

fn ready_tears_down(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 10);
    let result = show.source().set_state(gst::State::Ready);
    stage.note("result", format!("{result:?}"));
    stage.note("teardown", stage.proxy().sees("TEARDOWN", 1));
    stage.note("pads", show.source().src_pads().len());
}

fn null_while_it_opens(stage: &Stage) {
    // Takes connections and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}/x", listener.local_addr().unwrap());
    let show = stage.show("", &[("location", &url)]);
    let result = show.pipeline.set_state(gst::State::Playing);
    stage.note("playing", format!("{result:?}"));
    let begin = Instant::now();
    let _connected = listener.accept().unwrap();
    let result = show.pipeline.set_state(gst::State::Null);
    stage.note("null", format!("{result:?}"));
    stage.note("soon", begin.elapsed() < Duration::from_secs(2));
}

fn null_from_paused(stage: &Stage) {
    let show = stage.show("h264", &[]);
    show.pipeline.set_state(gst::State::Paused).unwrap();
    stage.note("set up", stage.proxy().sees("SETUP", 1));
    progress(&show, "Opened Stream");
    let result = show.pipeline.set_state(gst::State::Null);
    stage.note("null", format!("{result:?}"));
    stage.note("teardown", stage.proxy().sees("TEARDOWN", 1));
    stage.note("plays", stage.proxy().count("PLAY"));
}

/// Waits for a PROGRESS message with this text.
fn progress(show: &Show, wanted: &str) {
    loop {
        let message = show.message(&[gst::MessageType::Progress]);
        if let gst::MessageView::Progress(progress) = message.view()
            && progress.get().2 == wanted
        {
            return;
        }
    }
}

fn null_right_after_playing(stage: &Stage) {
    for _ in 0..5 {
        let show = stage.play("h264", &[]);
        let begin = Instant::now();
        let result = show.pipeline.set_state(gst::State::Null);
        stage.note("null", format!("{result:?}"));
        stage.note("soon", begin.elapsed() < Duration::from_secs(3));
        stage.note("pads", show.source().src_pads().len());
    }
}

fn null_from_a_streaming_thread_is_refused_by_nobody(stage: &Stage) {
    let show = stage.show("h264", &[]);
    let (done, is_done) = mpsc::channel();
    let pipeline = show.pipeline.downgrade();
    show.source().connect_pad_added(move |_, pad| {
        let (pipeline, done) = (pipeline.clone(), done.clone());
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            let Some(pipeline) = pipeline.upgrade() else {
                return gst::PadProbeReturn::Remove;
            };
            let done = done.clone();
            pipeline.call_async(move |pipeline| {
                let _ = done.send(pipeline.set_state(gst::State::Null));
            });
            gst::PadProbeReturn::Remove
        });
    });
    let show = show.playing();
    let result = is_done.recv_timeout(PATIENCE);
    stage.note("null", format!("{:?}", result.unwrap()));
    stage.note("teardown", stage.proxy().sees("TEARDOWN", 1));
    drop(show);
}

fn null_from_another_thread_while_playing(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    let source = show.source();
    let result = std::thread::spawn(move || {
        let locked = source.set_locked_state(true);
        (locked, source.set_state(gst::State::Null))
    });
    stage.note("null", format!("{:?}", result.join().unwrap()));
    stage.note(
        "pipeline",
        format!("{:?}", show.pipeline.state(gst::ClockTime::SECOND).1),
    );
    stage.note("teardown", stage.proxy().sees("TEARDOWN", 1));
}

fn the_state_query_while_it_plays(stage: &Stage) {
    let show = stage.show("h264", &[]);
    let source = show.source();
    show.pipeline.set_state(gst::State::Paused).unwrap();
    stage.note(
        "paused",
        format!("{:?}", source.state(gst::ClockTime::SECOND)),
    );
    stage.note(
        "pipeline",
        format!("{:?}", show.pipeline.state(gst::ClockTime::SECOND)),
    );
    show.pipeline.set_state(gst::State::Playing).unwrap();
    stage.note(
        "playing",
        format!("{:?}", source.state(gst::ClockTime::SECOND)),
    );
    show.buffers(1, 5);
    stage.note(
        "later",
        format!("{:?}", source.state(gst::ClockTime::SECOND)),
    );
    stage.note(
        "pipeline",
        format!("{:?}", show.pipeline.state(gst::ClockTime::SECOND)),
    );
}

fn locked_state_stays(stage: &Stage) {
    let show = stage.show("h264", &[]);
    let source = show.source();
    stage.note("locks", source.set_locked_state(true));
    let result = show.pipeline.set_state(gst::State::Playing);
    stage.note("playing", format!("{result:?}"));
    stage.note("source", format!("{:?}", source.current_state()));
    source.set_locked_state(false);
    stage.note("synced", source.sync_state_with_parent().is_ok());
    show.buffers(1, 5);
    stage.note("later", format!("{:?}", source.current_state()));
}

fn synced_with_a_parent_that_plays(stage: &Stage) {
    let show = stage.show("h264", &[]);
    let source = show.source();
    show.pipeline.remove(&source).unwrap();
    let result = show.pipeline.set_state(gst::State::Playing);
    stage.note("empty", format!("{result:?}"));
    show.pipeline.add(&source).unwrap();
    stage.note("synced", source.sync_state_with_parent().is_ok());
    show.buffers(1, 5);
    stage.note("state", format!("{:?}", source.current_state()));
}

fn added_to_a_pipeline_that_plays(stage: &Stage) {
    let show = stage
        .line("fakesrc is-live=true num-buffers=3 ! fakesink async=false name=other")
        .playing();
    let source = stage.make();
    source.set_property("location", stage.url("h264"));
    let sink = gst::ElementFactory::make("fakesink")
        .name("sink")
        .property("async", false)
        .build();
    let sink = sink.unwrap();
    show.pipeline.add_many([&source, &sink]).unwrap();
    let target = sink.clone();
    source.connect_pad_added(move |_, pad| {
        pad.link(&target.static_pad("sink").unwrap()).unwrap();
    });
    show.watch("sink");
    stage.note("sink", sink.sync_state_with_parent().is_ok());
    stage.note("source", source.sync_state_with_parent().is_ok());
    let passed = show.buffers(1, 5);
    let first = passed[0].buffers[0].pts().unwrap();
    stage.note("on time", first < gst::ClockTime::from_seconds(5));
}

fn removed_from_a_pipeline_that_plays(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    let source = show.source();
    show.pipeline.remove(&source).unwrap();
    stage.note("pads", source.src_pads().len());
    stage.note("null", format!("{:?}", source.set_state(gst::State::Null)));
    stage.note("teardown", stage.proxy().sees("TEARDOWN", 1));
    stage.note("pipeline", format!("{:?}", show.pipeline.current_state()));
}

fn in_a_bin_with_async_handling(stage: &Stage) {
    let bin = gst::Bin::builder().name("camera").build();
    bin.set_property("async-handling", true);
    let source = stage.make();
    source.set_property("location", stage.url("h264"));
    bin.add(&source).unwrap();
    let ghost = gst::GhostPad::builder(gst::PadDirection::Src)
        .name("src")
        .build();
    bin.add_pad(&ghost).unwrap();
    let target = ghost.clone();
    source.connect_pad_added(move |_, pad| target.set_target(Some(pad)).unwrap());
    let sink = gst::ElementFactory::make("fakesink")
        .name("sink")
        .build()
        .unwrap();
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([bin.upcast_ref(), &sink]).unwrap();
    bin.link(&sink).unwrap();
    let show = Show::new(pipeline);
    show.watch("sink");
    stage.note(
        "bin",
        format!("{:?}", show.pipeline.set_state(gst::State::Playing)),
    );
    show.buffers(1, 10);
    let state = show.pipeline.state(gst::ClockTime::from_seconds(5));
    stage.note("state", format!("{state:?}"));
}

fn dropped_in_null_after_playing(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    show.pipeline.set_state(gst::State::Null).unwrap();
    let (gone, is_gone) = std::sync::mpsc::channel();
    let _notify = show.source().add_weak_ref_notify(move || _ = gone.send(()));
    drop(show);
    stage.note("gone", is_gone.recv_timeout(PATIENCE).is_ok());
}

fn ten_times_up_and_down(stage: &Stage) {
    let show = stage.show("h264", &[]);
    for _ in 0..10 {
        show.pipeline.set_state(gst::State::Playing).unwrap();
        let plays = stage.proxy().count("PLAY");
        stage.note("plays", stage.proxy().sees("PLAY", plays.max(1)));
        show.pipeline.set_state(gst::State::Null).unwrap();
    }
    let lives = stage.proxy().count("TEARDOWN");
    stage.note("torn down", lives > 0);
    stage.note("pads", show.source().src_pads().len());
}

fn playing_with_a_sink_that_prerolls(stage: &Stage) {
    let line = format!(
        "SOURCE location={} protocols=tcp latency=50 ! rtph264depay ! fakesink name=sink sync=true",
        stage.url("h264")
    );
    let show = stage.line(&line);
    show.watch("sink");
    let result = show.pipeline.set_state(gst::State::Playing);
    stage.note("playing", format!("{result:?}"));
    show.buffers(1, 20);
    let state = show.pipeline.state(gst::ClockTime::from_seconds(5));
    stage.note("state", format!("{state:?}"));
}

fn a_lost_state_in_a_live_pipeline(stage: &Stage) {
    let show = stage.show("h264", &[]);
    let sink = gst::ElementFactory::make("fakesink")
        .name("late")
        .build()
        .unwrap();
    show.pipeline.add(&sink).unwrap();
    let result = show.pipeline.set_state(gst::State::Paused);
    stage.note("paused", format!("{result:?}"));
    let state = show.pipeline.state(gst::ClockTime::from_mseconds(100));
    stage.note("state", format!("{state:?}"));
}

fn the_base_time_of_a_pipeline_is_its_own(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    let (pipeline, source) = (&show.pipeline, show.source());
    stage.note("base", pipeline.base_time() == source.base_time());
    stage.note("clock", pipeline.clock() == source.clock());
    stage.note("provides", source.provide_clock().is_some());
    let name = pipeline.clock().unwrap().type_().name();
    stage.note("kind", name);
}
