//! Pipelines that users build.

use std::sync::mpsc;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::stage::{PATIENCE, Show, Stage, behaviours, kind, stream_of};

behaviours! {
    a_depayloader_behind_it
    a_parser_and_a_splitmuxsink
    decodebin_behind_it
    decodebin3_behind_it
    a_tee_behind_it
    an_appsink_behind_it
    delayed_linking_with_a_name
    delayed_linking_of_two_branches
    delayed_linking_by_a_filter_on_sound
    delayed_linking_by_a_filter_on_the_encoding
    a_queue_between
    an_unlinked_stream_beside_a_linked_one
    nothing_linked_at_all
    linked_in_pad_added_by_media
    pads_filtered_by_caps_in_pad_added
    link_filtered_in_code
    a_sink_that_synchronises
    two_sources_of_one_server
    a_valve_behind_it
    an_rtpjitterbuffer_behind_it
    a_capsfilter_that_does_not_fit
    a_decoder_that_shows_pictures
    sound_decoded
    an_input_selector_behind_two_sources
    frames_through_a_muxer
    relinked_while_it_plays
    blocked_and_let_go
    a_pad_that_is_unlinked_while_it_plays
    a_payloader_again_behind_it
    gst_child_proxy_names
    dot_dumps
    a_deep_notify
}

/// Plays a line, in which `URL` is a mount, until so many buffers came to the element `sink`.
fn plays(stage: &Stage, mount: &str, line: &str, count: usize) -> Show {
    let line = line.replace(
        "URL",
        &format!("location={} protocols=tcp latency=100", stage.url(mount)),
    );
    let show = stage.line(&line);
    show.watch("sink");
    let result = show.pipeline.set_state(gst::State::Playing);
    stage.note("playing", format!("{result:?}"));
    let passed = show.buffers(1, count).remove(0);
    stage.note("caps", {
        let pad = show.element("sink").static_pad("sink").unwrap();
        let caps = pad.current_caps().unwrap();
        caps.structure(0).unwrap().name().to_string()
    });
    let sorted = passed.buffers.iter().map(|it| it.pts()).is_sorted();
    stage.note("sorted", sorted);
    let error = show
        .pipeline
        .bus()
        .unwrap()
        .pop_filtered(&[gst::MessageType::Error]);
    stage.note("error", format!("{:?}", error.is_some()));
    show
}

macro_rules! lines {
    ($($behaviour:ident: $mount:literal, $count:literal, $line:literal;)*) => {
        $(fn $behaviour(stage: &Stage) {
            drop(plays(stage, $mount, $line, $count));
        })*
    };
}

lines! {
    a_depayloader_behind_it: "h264", 20,
        "SOURCE URL ! rtph264depay ! h264parse ! fakesink name=sink";
    decodebin_behind_it: "h264", 20,
        "SOURCE URL ! decodebin ! fakesink name=sink";
    decodebin3_behind_it: "h264", 20,
        "SOURCE URL ! decodebin3 ! fakesink name=sink";
    a_tee_behind_it: "h264", 20,
        "SOURCE URL ! tee name=t ! queue ! fakesink name=sink t. ! queue ! fakesink";
    delayed_linking_with_a_name: "h264", 20,
        "SOURCE name=src URL src. ! queue ! rtph264depay ! fakesink name=sink";
    delayed_linking_of_two_branches: "av", 20,
        "SOURCE name=src URL src. ! rtph264depay ! fakesink async=false src. ! rtppcmadepay ! fakesink name=sink async=false";
    delayed_linking_by_a_filter_on_sound: "av", 20,
        "SOURCE name=src URL src. ! application/x-rtp,media=audio ! rtppcmadepay ! fakesink name=sink";
    delayed_linking_by_a_filter_on_the_encoding: "av", 20,
        "SOURCE name=src URL src. ! application/x-rtp,encoding-name=H264 ! queue ! fakesink name=sink";
    a_queue_between: "h264", 20,
        "SOURCE URL ! queue max-size-buffers=0 leaky=downstream ! rtph264depay ! fakesink name=sink";
    an_unlinked_stream_beside_a_linked_one: "av", 100,
        "SOURCE name=src URL src. ! rtph264depay ! fakesink name=sink";
    a_sink_that_synchronises: "h264", 60,
        "SOURCE URL ! rtph264depay ! avdec_h264 ! fakesink name=sink sync=true";
    a_valve_behind_it: "h264", 1,
        "SOURCE URL ! valve drop=false ! fakesink name=sink";
    an_rtpjitterbuffer_behind_it: "h264", 20,
        "SOURCE URL ! rtpjitterbuffer latency=50 ! rtph264depay ! fakesink name=sink";
    a_decoder_that_shows_pictures: "mjpeg", 20,
        "SOURCE URL ! rtpjpegdepay ! jpegdec ! videoconvert ! fakesink name=sink";
    sound_decoded: "aac", 20,
        "SOURCE URL ! rtpmp4gdepay ! aacparse ! avdec_aac ! audioconvert ! fakesink name=sink";
    frames_through_a_muxer: "h264", 5,
        "SOURCE URL ! rtph264depay ! h264parse ! matroskamux streamable=true ! fakesink name=sink sync=false";
    a_payloader_again_behind_it: "h264", 20,
        "SOURCE URL ! rtph264depay ! rtph264pay ! fakesink name=sink";
}

fn a_parser_and_a_splitmuxsink(stage: &Stage) {
    let folder = std::env::temp_dir().join(format!(
        "drop-in-split-{}-{}",
        std::process::id(),
        stage.name()
    ));
    std::fs::create_dir_all(&folder).unwrap();
    let line = format!(
        "SOURCE location={} protocols=tcp latency=100 ! rtph264depay ! h264parse \
         ! splitmuxsink muxer=matroskamux max-size-time=500000000 location={}/%02d.mkv",
        stage.url("h264"),
        folder.display()
    );
    let show = stage.line(&line).playing();
    let mut closed = 0;
    while closed < 2 {
        let message = show.message(&[gst::MessageType::Element, gst::MessageType::Error]);
        let structure = message.structure().map(|it| it.name().to_string());
        if structure.as_deref() == Some("splitmuxsink-fragment-closed") {
            closed += 1;
        } else if message.type_() == gst::MessageType::Error {
            break;
        }
    }
    stage.note("closed", closed);
    stage.note("sent", show.pipeline.send_event(gst::event::Eos::new()));
    let end = show.message(&[gst::MessageType::Eos, gst::MessageType::Error]);
    stage.note("end", kind(&end));
    drop(show);
    let _ = std::fs::remove_dir_all(folder);
}

fn an_appsink_behind_it(stage: &Stage) {
    let line = format!(
        "SOURCE location={} protocols=tcp latency=100 ! rtph264depay ! appsink name=sink sync=false",
        stage.url("h264")
    );
    let show = stage.line(&line).playing();
    let sink = show.element("sink").downcast::<gst_app::AppSink>().unwrap();
    for _ in 0..20 {
        let sample = sink
            .try_pull_sample(gst::ClockTime::try_from(PATIENCE).unwrap())
            .unwrap();
        stage.note("buffer", sample.buffer().unwrap().pts().is_some());
        stage.note("caps", sample.caps().unwrap().structure(0).unwrap().name());
        let segment = sample.segment().unwrap();
        stage.note("segment", format!("{:?}", segment.format()));
    }
}

/// Only in pad-added, and how often a name would link.
fn nothing_linked_at_all(stage: &Stage) {
    let source = stage.make();
    source.set_property("location", stage.url("av"));
    stage.final_in_failure(&source);
    let pipeline = gst::Pipeline::new();
    pipeline.add(&source).unwrap();
    let show = Show::new(pipeline).playing();
    let message = show.message(&[gst::MessageType::Error, gst::MessageType::Eos]);
    stage.note("message", kind(&message));
    if let gst::MessageView::Error(error) = message.view() {
        stage.note("domain", error.error().domain().as_str());
        stage.note(
            "code",
            format!("{:?}", error.error().kind::<gst::StreamError>()),
        );
        let flow = error
            .details()
            .and_then(|it| it.get::<i32>("flow-return").ok());
        stage.note("flow", format!("{flow:?}"));
    }
}

fn linked_in_pad_added_by_media(stage: &Stage) {
    let source = stage.make();
    source.set_property("location", stage.url("av"));
    let sink = gst::ElementFactory::make("fakesink")
        .name("sink")
        .property("async", false)
        .build();
    let sink = sink.unwrap();
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &sink]).unwrap();
    let (told, medias) = mpsc::channel();
    let target = sink.clone();
    source.connect_pad_added(move |_, pad| {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let media: String = caps.structure(0).unwrap().get("media").unwrap();
        if media == "audio" {
            pad.link(&target.static_pad("sink").unwrap()).unwrap();
        }
        let _ = told.send(media);
    });
    let show = Show::new(pipeline);
    show.watch("sink");
    let show = show.playing();
    show.buffers(1, 20);
    let mut medias: Vec<_> = medias.try_iter().collect();
    medias.sort();
    stage.note("medias", medias.join(" "));
}

fn pads_filtered_by_caps_in_pad_added(stage: &Stage) {
    let show = stage.show("av", &[]);
    let (told, facts) = mpsc::channel();
    show.source().connect_pad_added(move |_, pad| {
        let filter = gst::Caps::builder("application/x-rtp")
            .field("media", "video")
            .build();
        let filtered = pad.query_caps(Some(&filter));
        let _ = told.send((
            stream_of(&pad.name()),
            filtered.is_empty(),
            pad.query_accept_caps(&filter),
        ));
    });
    let show = show.playing();
    show.buffers(2, 5);
    let mut facts: Vec<_> = facts.try_iter().collect();
    facts.sort();
    stage.note("facts", format!("{facts:?}"));
}

fn link_filtered_in_code(stage: &Stage) {
    let source = stage.make();
    source.set_property("location", stage.url("av"));
    let sink = gst::ElementFactory::make("fakesink")
        .name("sink")
        .property("async", false)
        .build();
    let sink = sink.unwrap();
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &sink]).unwrap();
    let target = sink.clone();
    source.connect_pad_added(move |source, pad| {
        let filter = gst::Caps::builder("application/x-rtp")
            .field("media", "video")
            .build();
        let _ = source.link_pads_filtered(Some(&pad.name()), &target, None, &filter);
    });
    let show = Show::new(pipeline);
    show.watch("sink");
    let show = show.playing();
    show.buffers(1, 20);
    let filters = show.pipeline.children().into_iter();
    let kinds = filters.filter(|it| it.factory().is_some_and(|it| it.name() == "capsfilter"));
    stage.note("filters", kinds.count());
}

fn two_sources_of_one_server(stage: &Stage) {
    let line = format!(
        "SOURCE location={} protocols=tcp latency=100 ! fakesink name=one async=false \
         SOURCE location={} protocols=tcp latency=100 ! fakesink name=two async=false",
        stage.url("h264"),
        stage.url("aac")
    );
    let show = stage.line(&line);
    show.watch("one");
    show.watch("two");
    let show = show.playing();
    show.buffers(2, 20);
    stage.note("play", stage.proxy().count("PLAY"));
}

fn a_capsfilter_that_does_not_fit(stage: &Stage) {
    let line = format!(
        "SOURCE location={} protocols=tcp ! application/x-rtp,media=audio ! fakesink name=sink",
        stage.url("h264")
    );
    let show = stage.line(&line);
    stage.final_in_failure(&show.source());
    let show = show.playing();
    let message = show.message(&[gst::MessageType::Error, gst::MessageType::Eos]);
    stage.note("message", kind(&message));
    if let gst::MessageView::Error(error) = message.view() {
        stage.note("domain", error.error().domain().as_str());
        stage.note(
            "code",
            format!("{:?}", error.error().kind::<gst::StreamError>()),
        );
    }
}

fn an_input_selector_behind_two_sources(stage: &Stage) {
    let line = format!(
        "input-selector name=s ! fakesink name=sink sync=false async=false \
         SOURCE location={one} protocols=tcp latency=100 ! rtph264depay ! s. \
         SOURCE location={one} protocols=tcp latency=100 ! rtph264depay ! s.",
        one = stage.url("h264")
    );
    let show = stage.line(&line);
    show.watch("sink");
    let show = show.playing();
    show.buffers(1, 20);
    stage.note("plays", stage.proxy().sees("PLAY", 2));
}

fn relinked_while_it_plays(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 10);
    let pad = show.source().src_pads().remove(0);
    let (done, is_done) = mpsc::channel();
    let pipeline = show.pipeline.downgrade();
    pad.add_probe(gst::PadProbeType::IDLE, move |pad, _| {
        let Some(pipeline) = pipeline.upgrade() else {
            return gst::PadProbeReturn::Remove;
        };
        let old = pad.peer().unwrap();
        pad.unlink(&old).unwrap();
        let sink = gst::ElementFactory::make("fakesink")
            .property("async", false)
            .build()
            .unwrap();
        pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        let linked = pad.link(&sink.static_pad("sink").unwrap());
        let _ = done.send(linked.is_ok());
        gst::PadProbeReturn::Remove
    });
    stage.note("linked", is_done.recv_timeout(PATIENCE).unwrap());
    let before = show.buffers(1, 10)[0].buffers.len();
    show.buffers(1, before + 20);
}

fn blocked_and_let_go(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 10);
    let pad = show.source().src_pads().remove(0);
    let (blocked, is_blocked) = mpsc::channel();
    let probe = pad.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, move |_, _| {
        let _ = blocked.send(());
        gst::PadProbeReturn::Ok
    });
    stage.note("blocked", is_blocked.recv_timeout(PATIENCE).is_ok());
    stage.note("is blocking", pad.is_blocked());
    pad.remove_probe(probe.unwrap());
    let before = show.buffers(1, 10)[0].buffers.len();
    let passed = show.buffers(1, before + 20).remove(0);
    let sorted = passed.buffers.iter().map(|it| it.pts()).is_sorted();
    stage.note("sorted", sorted);
}

fn a_pad_that_is_unlinked_while_it_plays(stage: &Stage) {
    let show = stage.play("av", &[]);
    show.buffers(2, 10);
    let mut pads = show.source().src_pads();
    pads.sort_by_key(|pad| stream_of(&pad.name()));
    let pad = &pads[1];
    pad.unlink(&pad.peer().unwrap()).unwrap();
    let count = || {
        let passed = show.buffers(2, 10);
        passed[0].buffers.len()
    };
    let before = count();
    show.wait("pictures", |passed| {
        passed.iter().any(|it| it.buffers.len() > before + 30)
    });
    stage.note("goes on", true);
}

fn gst_child_proxy_names(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    let proxy = show.pipeline.dynamic_cast_ref::<gst::ChildProxy>().unwrap();
    let name = show.source().name();
    stage.note("found", proxy.child_by_name(&name).is_some());
    stage.note(
        "latency",
        proxy
            .child_by_name(&name)
            .unwrap()
            .property::<u32>("latency"),
    );
}

fn dot_dumps(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 5);
    let dot = show
        .pipeline
        .debug_to_dot_data(gst::DebugGraphDetails::all());
    stage.note("names it", dot.contains(show.source().name().as_str()));
    stage.note("has caps", dot.contains("encoding-name"));
    stage.note("is one", dot.starts_with("digraph"));
}

fn a_deep_notify(stage: &Stage) {
    let show = stage.show("h264", &[]);
    let (told, names) = mpsc::channel();
    let source = show.source();
    let of = source.clone();
    let _watch = show
        .pipeline
        .connect_deep_notify(None, move |_, object, spec| {
            if object == of.upcast_ref::<gst::Object>() {
                let _ = told.send(spec.name().to_owned());
            }
        });
    source.set_property("latency", 123u32);
    source.set_property("drop-on-latency", true);
    let mut names: Vec<_> = names.try_iter().collect();
    names.dedup();
    stage.note("names", names.join(" "));
}
