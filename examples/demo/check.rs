//! Whether a file can be played: every frame of it is decoded, and has to be its camera's.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gst::prelude::*;
use gstreamer as gst;

use crate::gst_server::clip::Stamp;

const TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// What is in a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Content {
    /// Decoded.
    pub(crate) frames: u64,
    /// Missing between the first and the last.
    pub(crate) lost: u64,
    pub(crate) has_audio: bool,
}

/// Plays the file of camera number `camera` as fast as it goes.
pub(crate) fn play(path: &Path, camera: usize) -> Result<Content, Box<dyn Error>> {
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("filesrc")
        .property("location", path)
        .build()?;
    let demuxer = gst::ElementFactory::make("matroskademux").build()?;
    pipeline.add_many([&source, &demuxer])?;
    source.link(&demuxer)?;

    let stamps = Arc::new(Mutex::new(Vec::new()));
    let frames = Arc::new(AtomicU64::new(0));
    let samples = Arc::new(AtomicU64::new(0));
    demuxer.connect_pad_added({
        let (pipeline, stamps) = (pipeline.downgrade(), Arc::clone(&stamps));
        let (frames, samples) = (Arc::clone(&frames), Arc::clone(&samples));
        move |demuxer, pad| {
            let Some(pipeline) = pipeline.upgrade() else {
                return;
            };
            let is_video = pad.name().starts_with("video");
            if is_video {
                collect_stamps(pad, Arc::clone(&stamps));
            }
            let (chain, counter) = if is_video {
                ("h264parse ! avdec_h264 max-threads=1", &frames)
            } else {
                ("alawdec", &samples)
            };
            if let Err(error) = decode(&pipeline, pad, chain, Arc::clone(counter)) {
                gst::element_error!(demuxer, gst::StreamError::Failed, ["{error}"]);
            }
        }
    });
    pipeline.set_state(gst::State::Playing)?;
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline
        .bus()
        .and_then(|bus| bus.timed_pop_filtered(TIMEOUT, &ends));
    pipeline.set_state(gst::State::Null)?;
    if let gst::MessageView::Error(error) = end.ok_or("has no end")?.view() {
        return Err(error.error().to_string().into());
    }

    let stamps = stamps.lock().unwrap_or_else(PoisonError::into_inner);
    let frames = frames.load(Ordering::Relaxed);
    Ok(Content {
        frames,
        lost: lost(&stamps, camera, frames)?,
        has_audio: samples.load(Ordering::Relaxed) > 0,
    })
}

/// Frames that are not there, by the numbers the embedded server wrote into them.
fn lost(stamps: &[Stamp], camera: usize, frames: u64) -> Result<u64, String> {
    let (Some(first), Some(last)) = (stamps.first(), stamps.last()) else {
        return Err("no pictures".to_owned());
    };
    if let Some(stranger) = stamps.iter().find(|stamp| stamp.camera != camera) {
        return Err(format!("pictures of camera {}", stranger.camera));
    }
    if frames != stamps.len() as u64 {
        return Err(format!("{frames} of {} frames decoded", stamps.len()));
    }
    if stamps.is_sorted_by(|a, b| a.frame < b.frame) {
        Ok(last.frame - first.frame + 1 - frames)
    } else {
        Err("frames out of order".to_owned())
    }
}

fn collect_stamps(pad: &gst::Pad, stamps: Arc<Mutex<Vec<Stamp>>>) {
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let data = info.buffer().and_then(|buffer| buffer.map_readable().ok());
        if let Some(stamp) = data.and_then(|data| Stamp::find(&data)) {
            let mut stamps = stamps.lock().unwrap_or_else(PoisonError::into_inner);
            stamps.push(stamp);
        }
        gst::PadProbeReturn::Ok
    });
}

/// Links `pad ! chain ! fakesink` and counts what the chain gives.
fn decode(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    chain: &str,
    counter: Arc<AtomicU64>,
) -> Result<(), Box<dyn Error>> {
    let description = format!("queue ! {chain} ! fakesink name=end sync=false");
    let bin = gst::parse::bin_from_description(&description, true)?;
    let end = bin.by_name("end").and_then(|end| end.static_pad("sink"));
    end.ok_or("no end")?
        .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
    pipeline.add(&bin)?;
    pad.link(&bin.static_pad("sink").ok_or("no sink pad")?)?;
    bin.sync_state_with_parent()?;
    Ok(())
}
