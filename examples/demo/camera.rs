//! One camera, one pipeline, one file.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

/// In the embedded server every fourth camera has sound.
pub(crate) fn has_audio(number: usize) -> bool {
    number.is_multiple_of(4)
}

/// Of the file of a camera.
pub(crate) fn file_name(number: usize) -> String {
    format!("camera-{number:02}.mkv")
}

/// Records one camera into one file.
pub(crate) struct Camera {
    number: usize,
    pipeline: gst::Pipeline,
    meter: Arc<Meter>,
    failure: Option<String>,
}

/// Counted where the data passes.
#[derive(Default)]
struct Meter {
    first_frame: OnceLock<Instant>,
    bytes: AtomicU64,
}

impl Camera {
    /// A branch for every stream that is to be recorded stands ready, named like the medium in the
    /// caps of the source's pads. The muxer waits for all of them before it writes its header.
    pub(crate) fn new(
        element: &str,
        number: usize,
        url: &str,
        file: PathBuf,
    ) -> Result<Self, Box<dyn Error>> {
        let video = "rtph264depay name=video ! h264parse name=parser ! queue ! muxer.video_0";
        let audio = if has_audio(number) {
            "rtppcmadepay name=audio ! queue ! muxer.audio_0"
        } else {
            ""
        };
        let pipeline = gst::parse::launch(&format!(
            "{element} name=source protocols=tcp latency=200 \
             matroskamux name=muxer ! filesink name=file {video} {audio}"
        ))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| "not a pipeline")?;
        let named = |name| pipeline.by_name(name).ok_or("missing in the pipeline");
        let (source, sink) = (named("source")?, named("file")?);
        source.set_property("location", url);
        sink.set_property("location", &file);
        source.connect_pad_added({
            let pipeline = pipeline.downgrade();
            move |source, pad| {
                let Some(pipeline) = pipeline.upgrade() else {
                    return;
                };
                if let Err(error) = link(&pipeline, pad) {
                    gst::element_error!(source, gst::StreamError::Failed, ["{error}"]);
                }
            }
        });
        let meter = Arc::<Meter>::default();
        meter.count_bytes(&sink);
        meter.note_first_frame(&named("parser")?);
        Ok(Self {
            number,
            pipeline,
            meter,
            failure: None,
        })
    }

    pub(crate) fn start(&mut self) {
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            self.look_for_errors();
            self.failure.get_or_insert("could not be started".into());
        }
    }

    /// Takes an error from the bus, if there is one; it stays this camera's.
    pub(crate) fn look_for_errors(&mut self) {
        self.wait_for(&[gst::MessageType::Error], Duration::ZERO);
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Why it does not record.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(crate) fn first_frame(&self) -> Option<Instant> {
        self.meter.first_frame.get().copied()
    }

    /// Written to the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.meter.bytes.load(Ordering::Relaxed)
    }

    fn wait_for(&mut self, types: &[gst::MessageType], timeout: Duration) -> bool {
        let timeout = gst::ClockTime::try_from(timeout).unwrap_or_default();
        let message = self
            .pipeline
            .bus()
            .and_then(|bus| bus.timed_pop_filtered(timeout, types));
        let Some(message) = message else {
            return false;
        };
        if let gst::MessageView::Error(error) = message.view() {
            self.failure.get_or_insert(error.error().to_string());
        }
        true
    }
}

/// Ends all files properly, then stops all pipelines. State by state over all of them: on the way
/// to READY every session's TEARDOWN is sent, on the way to NULL the answer is waited for, so many
/// cameras take as long as one.
pub(crate) fn stop_all(cameras: &mut [Camera], timeout: Duration) {
    for camera in &mut *cameras {
        camera.pipeline.send_event(gst::event::Eos::new());
    }
    let deadline = Instant::now() + timeout;
    for camera in &mut *cameras {
        let left = deadline.saturating_duration_since(Instant::now());
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        if camera.failure.is_none() && !camera.wait_for(&ends, left) {
            camera.failure = Some("the file was not finished in time".into());
        }
    }
    for state in [gst::State::Ready, gst::State::Null] {
        for camera in &mut *cameras {
            if camera.pipeline.set_state(state).is_err() {
                camera.failure.get_or_insert("could not be stopped".into());
            }
        }
    }
}

/// Links a new pad of the source to the branch for its medium.
fn link(pipeline: &gst::Pipeline, pad: &gst::Pad) -> Result<(), Box<dyn Error>> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let medium = caps
        .structure(0)
        .and_then(|caps| caps.get::<&str>("media").ok());
    let branch = medium
        .and_then(|medium| pipeline.by_name(medium))
        .and_then(|branch| branch.static_pad("sink"));
    match branch {
        Some(branch) if !branch.is_linked() => {
            pad.link(&branch)?;
        }
        // A stream we have no use for must still have somewhere to go.
        _ => {
            let nowhere = gst::ElementFactory::make("fakesink").build()?;
            pipeline.add(&nowhere)?;
            nowhere.sync_state_with_parent()?;
            pad.link(&nowhere.static_pad("sink").ok_or("no sink pad")?)?;
        }
    }
    Ok(())
}

impl Meter {
    fn count_bytes(self: &Arc<Self>, sink: &gst::Element) {
        let meter = Arc::clone(self);
        on_buffers(sink, "sink", move |buffer| {
            let size = buffer.size() as u64;
            meter.bytes.fetch_add(size, Ordering::Relaxed);
        });
    }

    fn note_first_frame(self: &Arc<Self>, parser: &gst::Element) {
        let meter = Arc::clone(self);
        on_buffers(parser, "src", move |_| {
            meter.first_frame.get_or_init(Instant::now);
        });
    }
}

fn on_buffers(
    element: &gst::Element,
    pad: &str,
    see: impl Fn(&gst::Buffer) + Send + Sync + 'static,
) {
    if let Some(pad) = element.static_pad(pad) {
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer() {
                see(buffer);
            }
            gst::PadProbeReturn::Ok
        });
    }
}
