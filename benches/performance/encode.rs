//! The clip that the load server plays: four seconds of noise, H.264 at a given rate.

use std::{io::Write as _, path::Path};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::Outcome;

pub(crate) const FRAME_RATE: u32 = 25;

/// Encodes into a file of access units, each after its length (32 bits, big endian). A keyframe
/// every two seconds, with parameter sets.
pub(crate) fn encode(kbits: u32, file: &Path) -> Outcome {
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc pattern=snow num-buffers={} ! video/x-raw,width=640,height=360,framerate={FRAME_RATE}/1 \
         ! x264enc bitrate={kbits} key-int-max={} tune=zerolatency speed-preset=ultrafast vbv-buf-capacity=600 \
         ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au \
         ! appsink name=sink sync=false",
        4 * FRAME_RATE,
        2 * FRAME_RATE
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline")?;
    let sink = pipeline
        .by_name("sink")
        .and_then(|sink| sink.downcast::<gst_app::AppSink>().ok())
        .ok_or("no sink")?;
    pipeline.set_state(gst::State::Playing)?;
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    let mut units = 0;
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().ok_or("a sample without a buffer")?;
        let bytes = buffer.map_readable()?;
        out.write_all(&u32::try_from(bytes.len())?.to_be_bytes())?;
        out.write_all(&bytes)?;
        units += 1;
    }
    pipeline.set_state(gst::State::Null)?;
    out.flush()?;
    if units != 4 * FRAME_RATE {
        return Err("the clip could not be encoded".into());
    }
    Ok(())
}
