//! Events on the pads, in their order.

use gst::prelude::*;
use gstreamer as gst;

use crate::stage::{Passed, Stage, behaviours, kind, stream_of};

behaviours! {
    events_before_the_first_buffer
    sticky_events_of_a_pad
    the_segment_is_in_time_from_zero
    the_stream_start_has_an_id_for_each_stream
    the_streams_have_one_group
    flags_of_stream_start
    a_stream_of_the_collection
    the_stream_id_is_the_same_each_time
    no_more_pads_comes_once
    pads_are_active_and_linked_in_pad_added
    pads_go_with_ready
    eos_when_the_server_ends
    eos_sent_to_the_pipeline_comes_out
    eos_sent_to_the_element_comes_out
    no_flush_and_no_gap_while_it_plays
    events_after_a_pause
    upstream_events_are_taken
    a_custom_event_downstream_passes
    a_latency_event_is_taken
}

fn kinds(passed: &Passed) -> String {
    let kinds: Vec<_> = passed
        .events
        .iter()
        .map(|it| it.type_().name().to_string())
        .collect();
    kinds.join(" ")
}

fn events_before_the_first_buffer(stage: &Stage) {
    let show = stage.play("av", &[]);
    for passed in show.buffers(2, 20) {
        stage.note(&passed.stream, kinds(&passed));
    }
}

/// The events that a pad keeps, without what is said of caps elsewhere.
fn sticky(pad: &gst::Pad) -> Vec<gst::Event> {
    let mut events = Vec::new();
    pad.sticky_events_foreach(|event| {
        events.push(event.clone());
        std::ops::ControlFlow::Continue(gst::EventForeachAction::Keep)
    });
    events
}

fn pads(show: &crate::stage::Show) -> Vec<gst::Pad> {
    let mut pads = show.source().src_pads();
    pads.sort_by_key(|pad| stream_of(&pad.name()));
    pads
}

fn sticky_events_of_a_pad(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 5);
    for pad in pads(&show) {
        for event in sticky(&pad) {
            stage.note(stream_of(&pad.name()), event.type_().name());
        }
    }
}

fn the_segment_is_in_time_from_zero(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 5);
    for pad in pads(&show) {
        let segment = pad.sticky_event::<gst::event::Segment>(0).unwrap();
        let segment = segment.segment();
        stage.note("format", format!("{:?}", segment.format()));
        stage.note("start", segment.start());
        stage.note("stop", segment.stop());
        stage.note("base", segment.base());
        stage.note("time", segment.time());
        stage.note("position", segment.position());
        stage.note("offset", segment.offset());
        stage.note("rate", segment.rate());
        stage.note("applied rate", segment.applied_rate());
        stage.note("flags", format!("{:?}", segment.flags()));
    }
}

fn stream_starts(show: &crate::stage::Show) -> Vec<gst::event::StreamStart<gst::Event>> {
    let pads = pads(show).into_iter();
    pads.map(|pad| pad.sticky_event::<gst::event::StreamStart>(0).unwrap())
        .collect()
}

fn the_stream_start_has_an_id_for_each_stream(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 5);
    let events = stream_starts(&show);
    let ids: Vec<_> = events.iter().map(|it| it.stream_id().to_owned()).collect();
    stage.note("differ", ids[0] != ids[1]);
    stage.note("given", ids.iter().all(|it| !it.is_empty()));
    stage.note("of pad", pads(&show)[0].stream_id().unwrap() == ids[0]);
}

fn the_streams_have_one_group(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 5);
    let groups: Vec<_> = stream_starts(&show)
        .iter()
        .map(|it| it.group_id())
        .collect();
    stage.note("given", groups.iter().all(Option::is_some));
    stage.note("same", groups[0] == groups[1]);
}

fn flags_of_stream_start(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 5);
    for event in stream_starts(&show) {
        stage.note("flags", format!("{:?}", event.stream_flags()));
    }
}

fn a_stream_of_the_collection(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 5);
    for (pad, event) in pads(&show).iter().zip(stream_starts(&show)) {
        stage.note("stream", event.stream().is_some());
        let collection = pad.sticky_event::<gst::event::StreamCollection>(0);
        stage.note("collection", collection.is_some());
        stage.note("tags", pad.sticky_event::<gst::event::Tag>(0).is_some());
        stage.note("toc", pad.sticky_event::<gst::event::Toc>(0).is_some());
    }
}

fn the_stream_id_is_the_same_each_time(stage: &Stage) {
    let ids = || {
        let show = stage.play("av", &[]);
        show.buffers(2, 2);
        let events = stream_starts(&show);
        events
            .iter()
            .map(|it| it.stream_id().to_owned())
            .collect::<Vec<_>>()
    };
    stage.note("same", ids() == ids());
}

fn no_more_pads_comes_once(stage: &Stage) {
    let show = stage.show("av", &[]);
    let (order, told) = std::sync::mpsc::channel();
    let added = order.clone();
    show.source()
        .connect_pad_added(move |_, _| _ = added.send("pad"));
    show.source()
        .connect_no_more_pads(move |_| _ = order.send("no more"));
    let show = show.playing();
    show.buffers(2, 20);
    // In `rtspsrc` the second pad may follow it.
    let order: Vec<_> = told.try_iter().collect();
    stage.note("pads", order.iter().filter(|it| **it == "pad").count());
    stage.note(
        "no more",
        order.iter().filter(|it| **it == "no more").count(),
    );
    stage.note("first", order[0]);
}

fn pads_are_active_and_linked_in_pad_added(stage: &Stage) {
    let show = stage.show("av", &[]);
    let (order, told) = std::sync::mpsc::channel();
    show.source().connect_pad_added(move |source, pad| {
        let facts = (
            pad.is_active(),
            pad.is_linked(),
            pad.direction(),
            pad.presence_of_template(),
            pad.parent().as_ref() == Some(source.upcast_ref()),
            pad.is::<gst::GhostPad>(),
            pad.stream_id().is_some(),
        );
        let _ = order.send(format!("{facts:?}"));
    });
    let show = show.playing();
    show.buffers(2, 2);
    for facts in told.try_iter() {
        stage.note("pad", facts);
    }
}

trait Template {
    fn presence_of_template(&self) -> Option<(String, gst::PadPresence)>;
}

impl Template for gst::Pad {
    fn presence_of_template(&self) -> Option<(String, gst::PadPresence)> {
        let template = self.pad_template()?;
        Some((template.name_template().to_string(), template.presence()))
    }
}

fn pads_go_with_ready(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 5);
    let (removed, told) = std::sync::mpsc::channel();
    show.source().connect_pad_removed(move |_, pad| {
        let _ = removed.send((stream_of(&pad.name()), pad.is_active()));
    });
    show.source().set_state(gst::State::Ready).unwrap();
    let mut told: Vec<_> = told.try_iter().collect();
    told.sort();
    stage.note("removed", format!("{told:?}"));
}

fn has_eos(passed: &[Passed]) -> bool {
    let is_eos = |event: &gst::Event| event.type_() == gst::EventType::Eos;
    !passed.is_empty() && passed.iter().all(|it| it.events.iter().any(is_eos))
}

fn eos_when_the_server_ends(stage: &Stage) {
    let show = stage.show("ends", &[]);
    stage.final_in_failure(&show.source());
    let show = show.playing();
    let passed = show.wait("EOS", has_eos).remove(0);
    stage.note("events", kinds(&passed));
    let times = passed.buffers.iter().filter_map(|it| it.pts());
    stage.note(
        "frames",
        times.collect::<std::collections::BTreeSet<_>>().len(),
    );
    let message = show.message(&[gst::MessageType::Eos, gst::MessageType::Error]);
    stage.note("message", kind(&message));
}

fn eos_sent_to_the_pipeline_comes_out(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 10);
    // `rtspsrc` may say no, and ends all the same.
    let _ = show.pipeline.send_event(gst::event::Eos::new());
    show.wait("EOS", has_eos);
    let message = show.message(&[gst::MessageType::Eos, gst::MessageType::Error]);
    stage.note("message", kind(&message));
}

fn eos_sent_to_the_element_comes_out(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 10);
    stage.note("sent", show.source().send_event(gst::event::Eos::new()));
    let passed = show.wait("EOS", has_eos);
    stage.note("events", kinds(&passed[0]));
}

fn no_flush_and_no_gap_while_it_plays(stage: &Stage) {
    let show = stage.play("av", &[]);
    for passed in show.buffers(2, 100) {
        stage.note(&passed.stream, kinds(&passed));
    }
}

fn events_after_a_pause(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 10);
    show.pipeline.set_state(gst::State::Paused).unwrap();
    stage.note("pauses", stage.proxy().sees("PAUSE", 1));
    show.pipeline.set_state(gst::State::Playing).unwrap();
    stage.note("plays", stage.proxy().sees("PLAY", 2));
    let before = show.buffers(1, 10)[0].buffers.len();
    let passed = show.buffers(1, before + 20).remove(0);
    let after: Vec<_> = passed
        .events
        .iter()
        .skip(3)
        .map(|it| it.type_().name().to_string())
        .collect();
    stage.note("after", after.join(" "));
}

fn upstream_events_are_taken(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    let pad = pads(&show).remove(0);
    let custom = gst::Structure::new_empty("custom");
    let key_unit = gst::Structure::builder("GstForceKeyUnit")
        .field("all-headers", true)
        .build();
    let qos = gst::event::Qos::new(gst::QOSType::Underflow, 1.0, 0, gst::ClockTime::ZERO);
    for (name, event) in [
        ("custom", gst::event::CustomUpstream::new(custom.clone())),
        ("custom both", gst::event::CustomBoth::new(custom)),
        ("key unit", gst::event::CustomUpstream::new(key_unit)),
        ("reconfigure", gst::event::Reconfigure::new()),
        ("qos", qos),
    ] {
        let sent = pad.send_event(event);
        stage.note(name, sent);
    }
}

fn a_custom_event_downstream_passes(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    let event = gst::event::CustomDownstream::new(gst::Structure::new_empty("mark"));
    stage.note("sent", show.source().send_event(event));
    show.wait("the mark", |passed| {
        let is_mark = |event: &gst::Event| event.type_() == gst::EventType::CustomDownstream;
        passed[0].events.iter().any(is_mark)
    });
}

fn a_latency_event_is_taken(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    let pad = pads(&show).remove(0);
    let sent = pad.send_event(gst::event::Latency::new(gst::ClockTime::SECOND));
    stage.note("pad", sent);
    stage.note("recalculated", show.pipeline.recalculate_latency().is_ok());
}
