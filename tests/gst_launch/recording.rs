//! What is in a recorded file, looked at with GStreamer's own elements.

use std::path::Path;
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstreamer as gst;

use crate::gst_server::clip::Stamp;

/// What a file turned out to contain.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The stamp of every access unit, in the order of the file.
    pub(crate) stamps: Vec<Stamp>,
    times: Vec<gst::ClockTime>,
    /// Width and height.
    pub(crate) size: (i32, i32),
    /// Of the video, without what differs between two recordings.
    pub(crate) caps: String,
    /// Frames that came out of a decoder.
    pub(crate) decoded: usize,
}

#[derive(Default)]
struct Seen {
    stamps: Vec<Stamp>,
    times: Vec<gst::ClockTime>,
    decoded: usize,
}

impl Recording {
    pub(crate) fn play(file: &Path) -> Self {
        let pipeline = gst::parse::launch(&format!(
            "filesrc location={} ! matroskademux ! h264parse name=coded ! decodebin \
             ! fakesink name=decoded sync=false",
            file.display()
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let coded = pipeline
            .by_name("coded")
            .unwrap()
            .static_pad("sink")
            .unwrap();
        let to_seen = Arc::clone(&seen);
        on_buffer(&coded, move |buffer| {
            let data = buffer.map_readable().unwrap();
            let mut seen = to_seen.lock().unwrap();
            seen.stamps
                .push(Stamp::find(&data).expect("a stamp in every access unit"));
            seen.times.push(buffer.pts().unwrap());
        });
        let decoded = pipeline
            .by_name("decoded")
            .unwrap()
            .static_pad("sink")
            .unwrap();
        let to_seen = Arc::clone(&seen);
        on_buffer(&decoded, move |_| to_seen.lock().unwrap().decoded += 1);
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = pipeline.bus().unwrap().timed_pop_filtered(
            gst::ClockTime::from_seconds(40),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        );
        let end = end.expect("the end of the file");
        assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
        let mut caps = coded.current_caps().unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        let structure = caps.make_mut().structure_mut(0).unwrap();
        // As the muxer estimated it.
        structure.remove_field("framerate");
        let size = (
            structure.get("width").unwrap(),
            structure.get("height").unwrap(),
        );
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        Self {
            stamps: seen.stamps,
            times: seen.times,
            size,
            caps: caps.to_string(),
            decoded: seen.decoded,
        }
    }

    /// Asserts that the frames are of that camera, and none is lost or repeated.
    pub(crate) fn assert_consecutive(&self, camera: usize) {
        assert!(
            self.stamps
                .iter()
                .zip(self.stamps[0].frame..)
                .all(|(stamp, frame)| *stamp == Stamp { camera, frame }),
            "{self:?}"
        );
    }

    /// The longest time between two frames.
    pub(crate) fn largest_step(&self) -> gst::ClockTime {
        let steps = self
            .times
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]));
        steps.max().unwrap_or_default()
    }
}

fn on_buffer(pad: &gst::Pad, mut act: impl FnMut(&gst::Buffer) + Send + 'static) {
    let act = Mutex::new(move |buffer: &gst::Buffer| act(buffer));
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            (act.lock().unwrap())(buffer);
        }
        gst::PadProbeReturn::Ok
    });
}
