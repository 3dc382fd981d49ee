//! Queries at the pads, the element and the pipeline.

use gst::prelude::*;
use gstreamer as gst;

use crate::stage::{Show, Stage, behaviours};

behaviours! {
    latency_is_that_of_the_property
    latency_of_zero
    latency_of_the_element
    latency_of_the_pipeline
    latency_that_is_changed_while_it_plays
    duration_of_a_live_stream
    position_of_a_live_stream
    seeking_in_a_live_stream
    scheduling_of_a_pad
    the_uri_of_a_pad
    queries_of_other_kinds
    queries_before_it_plays
    allocation_is_answered_downstream
}

fn pad(show: &Show) -> gst::Pad {
    show.buffers(1, 5);
    show.source().src_pads().remove(0)
}

fn note_latency(stage: &Stage, label: &str, query: &gst::query::Latency, answered: bool) {
    stage.note(format!("{label} answered"), answered);
    let (live, min, max) = query.result();
    stage.note(format!("{label} live"), live);
    stage.note(format!("{label} min"), min);
    stage.note(format!("{label} max"), format!("{max:?}"));
}

fn latency_is_that_of_the_property(stage: &Stage) {
    for latency in ["2000", "77"] {
        let show = stage.play("h264", &[("latency", latency)]);
        // The default keeps the first buffer for two seconds.
        let mut query = gst::query::Latency::new();
        let answered = pad(&show).query(&mut query);
        note_latency(stage, latency, &query, answered);
    }
}

fn latency_of_zero(stage: &Stage) {
    let show = stage.play("h264", &[("latency", "0")]);
    let mut query = gst::query::Latency::new();
    let answered = pad(&show).query(&mut query);
    note_latency(stage, "pad", &query, answered);
}

fn latency_of_the_element(stage: &Stage) {
    let show = stage.play("av", &[("latency", "150")]);
    show.buffers(2, 5);
    let mut query = gst::query::Latency::new();
    let answered = show.source().query(&mut query);
    note_latency(stage, "element", &query, answered);
}

fn latency_of_the_pipeline(stage: &Stage) {
    let show = stage.play("av", &[("latency", "150")]);
    show.buffers(2, 5);
    let mut query = gst::query::Latency::new();
    let answered = show.pipeline.query(&mut query);
    note_latency(stage, "pipeline", &query, answered);
}

fn latency_that_is_changed_while_it_plays(stage: &Stage) {
    let show = stage.play("h264", &[("latency", "100")]);
    let pad = pad(&show);
    show.source().set_property("latency", 300u32);
    stage.note("property", show.source().property::<u32>("latency"));
    let mut query = gst::query::Latency::new();
    let answered = pad.query(&mut query);
    note_latency(stage, "pad", &query, answered);
}

fn duration_of_a_live_stream(stage: &Stage) {
    let show = stage.play("live", &[]);
    let pad = pad(&show);
    stage.note(
        "pad",
        format!("{:?}", pad.query_duration::<gst::ClockTime>()),
    );
    stage.note(
        "bytes",
        format!("{:?}", pad.query_duration::<gst::format::Bytes>()),
    );
    let mut query = gst::query::Duration::new(gst::Format::Time);
    stage.note("answered", pad.query(&mut query));
    stage.note(
        "by pipeline",
        format!("{:?}", show.pipeline.query_duration::<gst::ClockTime>()),
    );
}

fn position_of_a_live_stream(stage: &Stage) {
    let show = stage.play("live", &[]);
    let pad = pad(&show);
    stage.note("pad", pad.query_position::<gst::ClockTime>().is_some());
    stage.note(
        "bytes",
        pad.query_position::<gst::format::Bytes>().is_some(),
    );
    stage.note(
        "pipeline",
        show.pipeline.query_position::<gst::ClockTime>().is_some(),
    );
}

fn seeking_in_a_live_stream(stage: &Stage) {
    let show = stage.play("live", &[]);
    let pad = pad(&show);
    for format in [gst::Format::Time, gst::Format::Bytes] {
        let mut query = gst::query::Seeking::new(format);
        stage.note(format!("{format:?}"), pad.query(&mut query));
        stage.note(
            format!("{format:?} result"),
            format!("{:?}", query.result()),
        );
    }
}

fn scheduling_of_a_pad(stage: &Stage) {
    let show = stage.play("h264", &[]);
    let pad = pad(&show);
    let mut query = gst::query::Scheduling::new();
    stage.note("answered", pad.query(&mut query));
    stage.note("pull", query.has_scheduling_mode(gst::PadMode::Pull));
    stage.note("mode", format!("{:?}", pad.mode()));
}

fn the_uri_of_a_pad(stage: &Stage) {
    let show = stage.play("h264", &[]);
    let mut query = gst::query::Uri::new();
    stage.note("answered", pad(&show).query(&mut query));
    let uri = query.uri().unwrap_or_default();
    stage.note("uri", stage.clean(&uri));
}

fn queries_of_other_kinds(stage: &Stage) {
    let show = stage.play("h264", &[]);
    let pad = pad(&show);
    let mut segment = gst::query::Segment::new(gst::Format::Time);
    stage.note("segment", pad.query(&mut segment));
    let mut buffering = gst::query::Buffering::new(gst::Format::Time);
    stage.note("buffering", pad.query(&mut buffering));
    let mut formats = gst::query::Formats::new();
    stage.note("formats", pad.query(&mut formats));
    let mut custom = gst::query::Custom::new(gst::Structure::new_empty("mine"));
    stage.note("custom", pad.query(&mut custom));
    let mut context = gst::query::Context::new("mine");
    stage.note("context", pad.query(&mut context));
    let mut convert = gst::query::Convert::new(gst::ClockTime::SECOND, gst::Format::Bytes);
    stage.note("convert", pad.query(&mut convert));
}

fn queries_before_it_plays(stage: &Stage) {
    let element = stage.make();
    stage.note(
        "duration",
        format!("{:?}", element.query_duration::<gst::ClockTime>()),
    );
    stage.note(
        "position",
        format!("{:?}", element.query_position::<gst::ClockTime>()),
    );
    let mut latency = gst::query::Latency::new();
    let answered = element.query(&mut latency);
    note_latency(stage, "element", &latency, answered);
    let mut seeking = gst::query::Seeking::new(gst::Format::Time);
    stage.note("seeking", element.query(&mut seeking));
}

fn allocation_is_answered_downstream(stage: &Stage) {
    let show = stage.play("h264", &[]);
    let pad = pad(&show);
    let caps = pad.current_caps().unwrap();
    let mut query = gst::query::Allocation::new(Some(&caps), true);
    stage.note("downstream", pad.peer_query(&mut query));
    stage.note("accepts", pad.peer_query_accept_caps(&caps));
}
