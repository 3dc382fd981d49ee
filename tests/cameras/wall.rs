//! Many cameras in one pipeline, and what they gave.

use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::Duration;

use gstreamer as gst;

use gst::prelude::*;

use crate::gst_server::clip::{self, Stamp};

pub(crate) fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstrtspmux::plugin_register_static().unwrap();
    });
}

/// What one camera gave.
#[derive(Default)]
struct Received {
    stamps: Vec<Stamp>,
    flashes: Vec<gst::ClockTime>,
    beeps: Vec<gst::ClockTime>,
    /// Whether the last sound packet was a beep: a beep is where one begins.
    is_beeping: bool,
}

impl Received {
    fn take(&mut self, media: &str, buffer: &gst::Buffer) {
        let data = buffer.map_readable().unwrap();
        let (Some(payload), Some(pts)) = (data.get(12..), buffer.pts()) else {
            return;
        };
        if media == "audio" {
            let is_beep = clip::is_beep(payload);
            if is_beep && !self.is_beeping {
                self.beeps.push(pts);
            }
            self.is_beeping = is_beep;
        } else if let Some(stamp) = Stamp::find(payload) {
            if stamp.frame % clip::FRAME_RATE as u64 == 0 {
                self.flashes.push(pts);
            }
            self.stamps.push(stamp);
        }
    }
}

#[derive(Default)]
struct Shared {
    cameras: Mutex<Vec<Received>>,
    changed: Condvar,
}

/// A pipeline of `rtspmuxsrc ! fakesink`, one of them for each URL.
pub(crate) struct Wall {
    pipeline: gst::Pipeline,
    sources: Vec<(usize, gst::Element)>,
    shared: Arc<Shared>,
}

impl Wall {
    pub(crate) fn start(urls: &[String], properties: &[(&str, &str)]) -> Self {
        let pipeline = gst::Pipeline::new();
        let shared = Arc::<Shared>::default();
        shared
            .cameras
            .lock()
            .unwrap()
            .resize_with(urls.len(), Received::default);
        let add = |(camera, url): (usize, &String)| {
            (
                camera,
                add_camera(&pipeline, camera, url, properties, &shared),
            )
        };
        let sources = urls.iter().enumerate().map(add).collect();
        pipeline.set_state(gst::State::Playing).unwrap();
        Self {
            pipeline,
            sources,
            shared,
        }
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = &gst::Element> {
        self.sources.iter().map(|(_, source)| source)
    }

    pub(crate) fn wait_for_frames(&self, count: usize, patience: Duration) {
        self.wait_for(patience, |camera| camera.stamps.len() >= count);
    }

    pub(crate) fn wait_for_flashes_and_beeps(&self, count: usize, patience: Duration) {
        self.wait_for(patience, |camera| {
            camera.flashes.len().min(camera.beeps.len()) >= count
        });
    }

    fn wait_for(&self, patience: Duration, is_enough: impl Fn(&Received) -> bool) {
        let present: Vec<usize> = self.sources.iter().map(|(camera, _)| *camera).collect();
        let is_over =
            |cameras: &Vec<Received>| present.iter().all(|camera| is_enough(&cameras[*camera]));
        let cameras = self.shared.cameras.lock().unwrap();
        let (cameras, _) = self
            .shared
            .changed
            .wait_timeout_while(cameras, patience, |cameras| !is_over(cameras))
            .unwrap();
        let frames: Vec<usize> = cameras.iter().map(|camera| camera.stamps.len()).collect();
        assert!(
            is_over(&cameras),
            "frames by camera: {frames:?}; {:?}",
            self.first_error()
        );
    }

    fn first_error(&self) -> Option<String> {
        let message = self
            .pipeline
            .bus()?
            .pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        }
    }

    pub(crate) fn forget_frames(&self) {
        self.shared
            .cameras
            .lock()
            .unwrap()
            .iter_mut()
            .for_each(|camera| *camera = Received::default());
    }

    /// Every frame of every element is of its own camera.
    pub(crate) fn assert_own_frames(&self) {
        for (camera, received) in self.shared.cameras.lock().unwrap().iter().enumerate() {
            assert!(
                received.stamps.iter().all(|stamp| stamp.camera == camera),
                "camera {camera}"
            );
        }
    }

    /// Sound and picture are in sync: one packet of sound is 20 ms long.
    pub(crate) fn assert_in_sync(&self) {
        for (camera, apart) in self.flash_to_beep().into_iter().enumerate() {
            let limit = gst::ClockTime::from_mseconds(25);
            assert!(apart < limit, "camera {camera}: {apart}");
        }
    }

    /// For each camera the largest distance between a flash and the beep nearest to it.
    fn flash_to_beep(&self) -> Vec<gst::ClockTime> {
        let cameras = self.shared.cameras.lock().unwrap();
        let apart = |camera: &Received| {
            let nearest = |flash: &gst::ClockTime| {
                camera
                    .beeps
                    .iter()
                    .map(|beep| flash.absdiff(*beep))
                    .min()
                    .unwrap()
            };
            // The first flash may have come before the sound did, the last one's beep is to come.
            let last = *camera.beeps.last().unwrap() + gst::ClockTime::from_mseconds(500);
            let flashes = camera.flashes.iter().skip(1);
            let with_beep = flashes.filter(|flash| **flash < last);
            with_beep.map(nearest).max().unwrap()
        };
        cameras.iter().map(apart).collect()
    }

    /// Takes one camera away while the others play.
    pub(crate) fn remove(&mut self, camera: usize) {
        let at = self
            .sources
            .iter()
            .position(|(number, _)| *number == camera)
            .unwrap();
        let (_, source) = self.sources.remove(at);
        source.set_state(gst::State::Null).unwrap();
        self.pipeline.remove(&source).unwrap();
    }

    pub(crate) fn stop(self) {
        assert_eq!(self.first_error(), None);
        self.pipeline.set_state(gst::State::Null).unwrap();
    }
}

fn add_camera(
    pipeline: &gst::Pipeline,
    camera: usize,
    url: &str,
    properties: &[(&str, &str)],
    shared: &Arc<Shared>,
) -> gst::Element {
    let mut source = gst::ElementFactory::make("rtspmuxsrc")
        .name(format!("camera{camera}"))
        .property("location", url)
        .property_from_str("protocols", "tcp")
        .property("latency", 0u32);
    for (name, value) in properties {
        source = source.property_from_str(name, value);
    }
    let source = source.build().unwrap();
    pipeline.add(&source).unwrap();
    let (pipeline, shared) = (pipeline.downgrade(), Arc::clone(shared));
    source.connect_pad_added(move |_, pad| {
        if let Some(pipeline) = pipeline.upgrade() {
            add_sink(&pipeline, pad, camera, &shared);
        }
    });
    source
}

fn add_sink(pipeline: &gst::Pipeline, pad: &gst::Pad, camera: usize, shared: &Arc<Shared>) {
    let caps = pad.current_caps().expect("caps before pad-added");
    let media = caps.structure(0).unwrap().get::<String>("media").unwrap();
    let sink = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .property("async", false)
        .build()
        .unwrap();
    pipeline.add(&sink).unwrap();
    sink.sync_state_with_parent().unwrap();
    pad.link(&sink.static_pad("sink").unwrap()).unwrap();
    let shared = Arc::clone(shared);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            shared.cameras.lock().unwrap()[camera].take(&media, buffer);
            shared.changed.notify_all();
        }
        gst::PadProbeReturn::Ok
    });
}
