//! The same element again.

use gst::prelude::*;
use gstreamer as gst;

use crate::stage::{Stage, behaviours, kind, stream_of};

behaviours! {
    played_again_after_null
    played_again_after_ready
    another_location_in_null
    another_location_in_ready
    another_location_while_it_plays
    another_uri_while_it_plays
    another_latency_the_next_time
    played_again_after_an_error
    played_again_after_the_end
    paused_and_played_after_null
    pads_have_the_same_names_the_next_time
    moved_to_another_pipeline
    two_threads_that_set_states
}

fn medium(stage: &Stage, show: &crate::stage::Show) -> String {
    let pads = show.source().src_pads();
    let names: Vec<String> = pads
        .iter()
        .filter_map(|pad| pad.current_caps()?.structure(0)?.get("encoding-name").ok())
        .collect();
    stage.note("pads", pads.len());
    names.join(" ")
}

/// Sets PLAYING and waits for buffers of a pad that was not there before.
fn play(show: &crate::stage::Show, pads: usize) {
    show.pipeline.set_state(gst::State::Playing).unwrap();
    show.buffers(pads, 5);
}

fn played_again(stage: &Stage, state: gst::State) {
    let show = stage.show("h264", &[]);
    for time in 1..=3 {
        play(&show, time);
        stage.note("medium", medium(stage, &show));
        show.pipeline.set_state(state).unwrap();
        stage.note("torn down", stage.proxy().sees("TEARDOWN", time));
        stage.note("left", show.source().src_pads().len());
    }
}

fn played_again_after_null(stage: &Stage) {
    played_again(stage, gst::State::Null);
}

fn played_again_after_ready(stage: &Stage) {
    played_again(stage, gst::State::Ready);
}

fn another_location(stage: &Stage, state: gst::State) {
    let show = stage.show("h264", &[]);
    play(&show, 1);
    stage.note("first", medium(stage, &show));
    show.pipeline.set_state(state).unwrap();
    show.source().set_property("location", stage.url("mjpeg"));
    play(&show, 2);
    stage.note("second", medium(stage, &show));
    let location: String = show.source().property("location");
    stage.note("location", stage.clean(&location));
}

fn another_location_in_null(stage: &Stage) {
    another_location(stage, gst::State::Null);
}

fn another_location_in_ready(stage: &Stage) {
    another_location(stage, gst::State::Ready);
}

fn another_location_while_it_plays(stage: &Stage) {
    let show = stage.show("h264", &[]);
    play(&show, 1);
    show.source().set_property("location", stage.url("mjpeg"));
    let location: String = show.source().property("location");
    stage.note("location", stage.clean(&location));
    let before = show.buffers(1, 5)[0].buffers.len();
    show.buffers(1, before + 10);
    show.pipeline.set_state(gst::State::Null).unwrap();
    play(&show, 2);
    stage.note("next", medium(stage, &show));
}

fn another_uri_while_it_plays(stage: &Stage) {
    let show = stage.show("h264", &[]);
    play(&show, 1);
    let source = show.source();
    let handler = source.dynamic_cast_ref::<gst::URIHandler>().unwrap();
    stage.note("taken", handler.set_uri(&stage.url("mjpeg")).is_ok());
    stage.note("uri", stage.clean(&handler.uri().unwrap_or_default()));
}

fn another_latency_the_next_time(stage: &Stage) {
    let show = stage.show("h264", &[]);
    play(&show, 1);
    show.pipeline.set_state(gst::State::Null).unwrap();
    show.source().set_property("latency", 250u32);
    play(&show, 2);
    let mut query = gst::query::Latency::new();
    stage.note("answered", show.source().src_pads()[0].query(&mut query));
    stage.note("latency", query.result().1);
}

fn played_again_after_an_error(stage: &Stage) {
    let show = stage.show("unknown", &[]);
    stage.final_in_failure(&show.source());
    show.pipeline.set_state(gst::State::Playing).unwrap();
    let message = show.message(&[gst::MessageType::Error]);
    stage.note("error", kind(&message));
    show.pipeline.set_state(gst::State::Null).unwrap();
    show.source().set_property("location", stage.url("h264"));
    play(&show, 1);
    stage.note("then", medium(stage, &show));
}

fn played_again_after_the_end(stage: &Stage) {
    let show = stage.show("ends", &[]);
    stage.final_in_failure(&show.source());
    for _ in 0..2 {
        show.pipeline.set_state(gst::State::Playing).unwrap();
        let end = show.message(&[gst::MessageType::Eos, gst::MessageType::Error]);
        stage.note("end", kind(&end));
        show.pipeline.set_state(gst::State::Null).unwrap();
        // The pipeline ends when all its sinks have: the next pad gets another one.
        let sinks: Vec<_> = show.pipeline.iterate_sinks().into_iter().collect();
        for sink in sinks {
            show.pipeline.remove(&sink.unwrap()).unwrap();
        }
    }
}

fn paused_and_played_after_null(stage: &Stage) {
    let show = stage.show("h264", &[]);
    for time in 1..=2 {
        let paused = show.pipeline.set_state(gst::State::Paused);
        stage.note("paused", format!("{paused:?}"));
        stage.note("set up", stage.proxy().sees("SETUP", time));
        play(&show, time);
        show.pipeline.set_state(gst::State::Null).unwrap();
    }
}

fn pads_have_the_same_names_the_next_time(stage: &Stage) {
    let show = stage.show("av", &[]);
    let names = || {
        let mut names: Vec<_> = show
            .source()
            .src_pads()
            .iter()
            .map(|it| it.name())
            .collect();
        names.sort();
        names
    };
    play(&show, 2);
    let first = names();
    show.pipeline.set_state(gst::State::Null).unwrap();
    play(&show, 4);
    stage.note("same", first == names());
    let streams: Vec<_> = first.iter().map(|it| stream_of(it)).collect();
    stage.note("streams", streams.join(", "));
}

fn moved_to_another_pipeline(stage: &Stage) {
    let show = stage.show("h264", &[]);
    play(&show, 1);
    show.pipeline.set_state(gst::State::Null).unwrap();
    let source = show.source();
    show.pipeline.remove(&source).unwrap();
    let other = gst::Pipeline::new();
    other.add(&source).unwrap();
    let (told, came) = std::sync::mpsc::channel();
    source.connect_pad_added(move |_, pad| drop(told.send(stream_of(&pad.name()))));
    other.set_state(gst::State::Playing).unwrap();
    stage.note("pad", came.recv_timeout(crate::stage::PATIENCE).unwrap());
    stage.note("null", format!("{:?}", other.set_state(gst::State::Null)));
}

fn two_threads_that_set_states(stage: &Stage) {
    let show = stage.show("h264", &[]);
    let pipeline = show.pipeline.clone();
    let other = std::thread::spawn(move || {
        for _ in 0..5 {
            let _ = pipeline.set_state(gst::State::Playing);
            let _ = pipeline.set_state(gst::State::Ready);
        }
    });
    for _ in 0..5 {
        let _ = show.pipeline.set_state(gst::State::Paused);
        let _ = show.pipeline.set_state(gst::State::Null);
    }
    other.join().unwrap();
    let stopped = show.pipeline.set_state(gst::State::Null);
    stage.note("null", format!("{stopped:?}"));
    stage.note("pads", show.source().src_pads().len());
}
