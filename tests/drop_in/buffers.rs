//! A thousand frames of each medium: the same payload, flags and times.

use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;

use crate::stage::{Passed, Stage, behaviours};

behaviours! {
    a_thousand_frames_of_h264
    a_thousand_frames_of_h265
    a_thousand_frames_of_aac
    a_thousand_frames_of_opus
    a_thousand_frames_of_mjpeg
    frames_of_mp2t
    frames_of_pcmu
    frames_of_latm
    frames_of_vp8
    buffers_are_rtp_packets
    the_first_buffer_is_a_discontinuity
    picture_and_sound_begin_together
    buffers_in_the_first_second_are_as_late_as_the_latency_says
    frames_behind_a_depayloader
}

/// FNV-1a: a line for each packet would be long.
fn hash(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn flags(buffer: &gst::Buffer) -> String {
    let flags = buffer.flags() - gst::BufferFlags::TAG_MEMORY;
    format!("{flags:?}")
}

/// The buffers from the first frame on up to as many frames, told by their RTP time.
fn frames(passed: &Passed, count: usize) -> Vec<(gst::Buffer, Vec<u8>, u32)> {
    let (mut frames, mut last) = (0, None);
    let mut taken = Vec::new();
    for buffer in &passed.buffers {
        let data = buffer.map_readable().unwrap().to_vec();
        let time = u32::from_be_bytes(data[4..8].try_into().unwrap());
        if last != Some(time) {
            frames += 1;
            last = Some(time);
        }
        if frames > count {
            break;
        }
        taken.push((buffer.clone(), data, time));
    }
    taken
}

/// RTP time since the first packet, in seconds.
fn since(first: u32, time: u32, rate: i32) -> f64 {
    f64::from(time.wrapping_sub(first).cast_signed()) / f64::from(rate)
}

fn compare(stage: &Stage, mount: &str, count: usize, step: Duration) {
    let show = stage.play(mount, &[]);
    let passed = show.wait("frames", |passed| {
        let buffers = passed.first().map(|it| &it.buffers[..]).unwrap_or_default();
        let frames = buffers.chunk_by(|one, two| one.pts() == two.pts());
        // One PTS may be that of two frames.
        buffers.len() > count && frames.count() > count + count / 20
    });
    let passed = &passed[0];
    let pad = show.source().src_pads().remove(0);
    let caps = pad.current_caps().unwrap();
    let rate: i32 = caps.structure(0).unwrap().get("clock-rate").unwrap();
    let taken = frames(passed, count);
    let first = &taken[0];
    let begin = first.0.pts().unwrap();
    stage.note("packets", taken.len());
    let (mut hashes, mut apart) = (Vec::new(), Vec::new());
    let frame = step.as_secs_f64() * 1e3;
    for (index, (buffer, data, time)) in taken.iter().enumerate() {
        hashes.extend(hash(data).to_be_bytes());
        if flags(buffer) != flags(&taken[1].0) || index == 0 {
            stage.note(format!("flags {index}"), flags(buffer));
        }
        // How far its PTS is from the sender's clock.
        let passed = buffer.pts().unwrap().nseconds() as f64 - begin.nseconds() as f64;
        apart.push(passed / 1e6 - 1e3 * since(first.2, *time, rate));
        if buffer.dts().is_some() != first.0.dts().is_some() {
            stage.note(format!("DTS {index}"), buffer.dts().is_some());
        }
    }
    stage.note("hash", hash(&hashes));
    stage.note("flags", flags(&taken[1].0));
    stage.note("DTS", first.0.dts().is_some());
    if let Some(dts) = first.0.dts() {
        stage.note("DTS is PTS", Some(dts) == first.0.pts());
    }
    stage.note("duration", format!("{:?}", first.0.duration()));
    stage.note(
        "offset",
        format!("{} {}", first.0.offset(), first.0.offset_end()),
    );
    stage.note("memories", first.0.n_memory());
    // From one packet to the next PTS goes on as the sender's clock does, within a frame, but where the
    // server was late.
    let steps = apart.windows(2).filter(|it| (it[1] - it[0]).abs() > frame);
    stage.near("steps", steps.count() as f64, 1.0 + count as f64 / 100.0);
    // The first packets of a session come in a burst of their own, which both elements even out.
    apart.sort_by(f64::total_cmp);
    stage.near("PTS", apart[apart.len() / 2], frame.max(80.0));
}

macro_rules! mounts {
    ($($behaviour:ident: $mount:literal, $count:literal, $micros:literal;)*) => {
        $(fn $behaviour(stage: &Stage) {
            compare(stage, $mount, $count, Duration::from_micros($micros));
        })*
    };
}

mounts! {
    a_thousand_frames_of_h264: "h264", 1_000, 10_000;
    a_thousand_frames_of_h265: "h265", 1_000, 10_000;
    a_thousand_frames_of_aac: "aac", 1_000, 10_667;
    a_thousand_frames_of_opus: "opus", 1_000, 5_000;
    a_thousand_frames_of_mjpeg: "mjpeg", 1_000, 10_000;
    frames_of_mp2t: "mp2t", 50, 20_000;
    frames_of_pcmu: "pcmu", 50, 20_000;
    frames_of_latm: "latm", 50, 10_667;
    frames_of_vp8: "vp8", 50, 10_000;
}

fn buffers_are_rtp_packets(stage: &Stage) {
    let show = stage.play("h264", &[]);
    let passed = show.buffers(1, 20).remove(0);
    for buffer in &passed.buffers[..20] {
        let data = buffer.map_readable().unwrap();
        stage.note("header", format!("{:?}", &data[..12]));
        let meta: Vec<_> = buffer
            .iter_meta::<gst::Meta>()
            .map(|it| it.api().name())
            .collect();
        stage.note("meta", meta.join(" "));
        let lists = buffer.is_writable();
        let _ = lists;
    }
}

fn the_first_buffer_is_a_discontinuity(stage: &Stage) {
    let show = stage.play("av", &[]);
    for passed in show.buffers(2, 20) {
        for buffer in &passed.buffers[..20] {
            stage.note(&passed.stream, flags(buffer));
        }
    }
}

fn picture_and_sound_begin_together(stage: &Stage) {
    let show = stage.play("av", &[]);
    let passed = show.buffers(2, 20);
    let first = |passed: &Passed| passed.buffers[0].pts().unwrap().nseconds() as f64 / 1e6;
    stage.near("apart in ms", first(&passed[0]) - first(&passed[1]), 40.0);
}

fn buffers_in_the_first_second_are_as_late_as_the_latency_says(stage: &Stage) {
    let show = stage.play("h264", &[("latency", "300")]);
    let passed = show.buffers(1, 50).remove(0);
    let first = passed.buffers[0].pts().unwrap();
    stage.note("within a second", first < gst::ClockTime::from_seconds(3));
    let sorted = passed.buffers.iter().map(|it| it.pts()).is_sorted();
    stage.note("sorted", sorted);
}

fn frames_behind_a_depayloader(stage: &Stage) {
    let line = format!(
        "SOURCE location={} protocols=tcp latency=100 ! rtph264depay \
         ! video/x-h264,stream-format=byte-stream,alignment=au ! fakesink name=sink sync=false",
        stage.url("h264")
    );
    let show = stage.line(&line);
    show.watch("sink");
    let show = show.playing();
    let passed = show.buffers(1, 300).remove(0);
    let begin = passed.buffers[0].pts().unwrap();
    for (index, buffer) in passed.buffers[..300].iter().enumerate() {
        let data = buffer.map_readable().unwrap();
        stage.note(index, format!("{:x} {}", hash(&data), flags(buffer)));
        let passed = buffer.pts().unwrap() - begin;
        stage.near(index, passed.nseconds() as f64 / 1e6, 10.0);
    }
}
