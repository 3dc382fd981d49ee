//! Whether a file can be played: every frame of it is decoded, and has to be its camera's.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gst::prelude::*;
use gstreamer as gst;

use crate::gst_server::clip::{FRAME_RATE, Stamp};
use crate::sheet::{TILE, Tile};

const TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// What is in a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// Decoded.
    pub(crate) frames: u64,
    /// Missing between the first and the last.
    pub(crate) lost: u64,
    pub(crate) has_audio: bool,
    /// Of the pictures, without the container.
    pub(crate) video_bytes: u64,
    /// One of the last pictures, for the contact sheet.
    pub(crate) picture: Option<Tile>,
}

/// Where the pads of a file report to.
#[derive(Debug, Default)]
struct Seen {
    stamps: Mutex<Vec<Stamp>>,
    video_bytes: AtomicU64,
    frames: AtomicU64,
    samples: AtomicU64,
    picture: Mutex<Option<Tile>>,
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

    let seen = Arc::<Seen>::default();
    demuxer.connect_pad_added({
        let (pipeline, seen) = (pipeline.downgrade(), Arc::clone(&seen));
        move |demuxer, pad| {
            let Some(pipeline) = pipeline.upgrade() else {
                return;
            };
            let decoded = if pad.name().starts_with("video") {
                decode_video(&pipeline, pad, &seen)
            } else {
                decode_audio(&pipeline, pad, &seen)
            };
            if let Err(error) = decoded {
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

    let stamps = seen.stamps.lock().unwrap_or_else(PoisonError::into_inner);
    let frames = seen.frames.load(Ordering::Relaxed);
    let mut picture = seen.picture.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Content {
        frames,
        lost: lost(&stamps, camera, frames)?,
        has_audio: seen.samples.load(Ordering::Relaxed) > 0,
        video_bytes: seen.video_bytes.load(Ordering::Relaxed),
        picture: picture.take(),
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

/// Counts and decodes every frame; one in a second goes on to be scaled for the contact sheet.
fn decode_video(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    seen: &Arc<Seen>,
) -> Result<(), Box<dyn Error>> {
    collect_stamps(pad, seen);
    let bin = gst::parse::bin_from_description(
        &format!(
            "queue ! h264parse ! avdec_h264 name=decoder max-threads=1 ! videoconvert ! videoscale \
             ! video/x-raw,format=I420,width={},height={},pixel-aspect-ratio=1/1 \
             ! fakesink name=end sync=false",
            TILE.0, TILE.1
        ),
        true,
    )?;
    on_buffers(&bin, "decoder", "src", {
        let seen = Arc::clone(seen);
        move |_| {
            let frame = seen.frames.fetch_add(1, Ordering::Relaxed) as usize;
            // The first one belongs to the pictures in case the recording is that short.
            if frame == 0 || frame % FRAME_RATE == FRAME_RATE / 2 {
                gst::PadProbeReturn::Ok
            } else {
                gst::PadProbeReturn::Drop
            }
        }
    })?;
    on_buffers(&bin, "end", "sink", {
        let seen = Arc::clone(seen);
        move |buffer| {
            if let Ok(data) = buffer.map_readable() {
                let mut picture = seen.picture.lock().unwrap_or_else(PoisonError::into_inner);
                *picture = Some(data.to_vec());
            }
            gst::PadProbeReturn::Ok
        }
    })?;
    link(pipeline, pad, &bin)
}

fn decode_audio(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    seen: &Arc<Seen>,
) -> Result<(), Box<dyn Error>> {
    let bin =
        gst::parse::bin_from_description("queue ! alawdec ! fakesink name=end sync=false", true)?;
    on_buffers(&bin, "end", "sink", {
        let seen = Arc::clone(seen);
        move |_| {
            seen.samples.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        }
    })?;
    link(pipeline, pad, &bin)
}

fn collect_stamps(pad: &gst::Pad, seen: &Arc<Seen>) {
    let seen = Arc::clone(seen);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(data) = info.buffer().and_then(|buffer| buffer.map_readable().ok()) {
            seen.video_bytes
                .fetch_add(data.len() as u64, Ordering::Relaxed);
            if let Some(stamp) = Stamp::find(&data) {
                let mut stamps = seen.stamps.lock().unwrap_or_else(PoisonError::into_inner);
                stamps.push(stamp);
            }
        }
        gst::PadProbeReturn::Ok
    });
}

fn on_buffers(
    bin: &gst::Bin,
    element: &str,
    pad: &str,
    see: impl Fn(&gst::Buffer) -> gst::PadProbeReturn + Send + Sync + 'static,
) -> Result<(), Box<dyn Error>> {
    let element = bin.by_name(element).ok_or("missing in the bin")?;
    let pad = element.static_pad(pad).ok_or("no such pad")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        info.buffer().map_or(gst::PadProbeReturn::Ok, &see)
    });
    Ok(())
}

fn link(pipeline: &gst::Pipeline, pad: &gst::Pad, bin: &gst::Bin) -> Result<(), Box<dyn Error>> {
    pipeline.add(bin)?;
    pad.link(&bin.static_pad("sink").ok_or("no sink pad")?)?;
    bin.sync_state_with_parent()?;
    Ok(())
}
