//! Many cameras in one pipeline, one of which can be held, and all that came out of them.

use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::Instant;

use gst::prelude::*;
use gstreamer as gst;

use crate::PATIENCE;
use crate::gst_server::clip::{FRAME_RATE, Stamp};

pub(crate) fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstrtspmux::plugin_register_static().unwrap();
    });
}

/// What this process has in memory.
pub(crate) fn resident_kb() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// One RTP packet that a pad let through.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    pub(crate) sequence: u16,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) pts: Option<gst::ClockTime>,
    pub(crate) discont: bool,
    pub(crate) at: Instant,
}

impl Delivered {
    fn of(buffer: &gst::BufferRef) -> Self {
        let data = buffer.map_readable().unwrap();
        Self {
            sequence: u16::from_be_bytes([data[2], data[3]]),
            stamp: Stamp::find(&data),
            pts: buffer.pts(),
            discont: buffer.flags().contains(gst::BufferFlags::DISCONT),
            at: Instant::now(),
        }
    }
}

#[derive(Default)]
struct Camera {
    delivered: Vec<Delivered>,
    decoded: usize,
    corrupted: usize,
}

impl Camera {
    fn frames(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        let stamps = self.delivered.iter().filter_map(|packet| packet.stamp);
        stamps.map(|stamp| stamp.frame)
    }
}

#[derive(Default)]
struct State {
    cameras: Vec<Camera>,
    /// Whose pad lets nothing through.
    held: Option<usize>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// Waits until `condition` holds, and gives the state for which it did.
    fn wait_until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let state = self.state.lock().unwrap();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !condition(state))
            .unwrap();
        let frames: Vec<usize> = state.cameras.iter().map(|c| c.frames().count()).collect();
        let is_over = condition(&state);
        drop(state);
        assert!(is_over, "{what}: {frames:?}");
    }

    fn on_packet(&self, camera: usize, buffer: &gst::BufferRef) {
        let mut state = self.state.lock().unwrap();
        // A test that has failed releases no viewer.
        state = self
            .changed
            .wait_timeout_while(state, PATIENCE * 4, |state| state.held == Some(camera))
            .unwrap()
            .0;
        state.cameras[camera].delivered.push(Delivered::of(buffer));
        self.changed.notify_all();
    }
}

/// What a message of that kind says.
#[derive(Debug)]
pub(crate) struct Qos {
    pub(crate) is_live: bool,
    pub(crate) began: Option<gst::ClockTime>,
    pub(crate) gap: Option<gst::ClockTime>,
    pub(crate) processed: i64,
    pub(crate) dropped: i64,
}

/// A pipeline of `rtspmuxsrc ! rtph264depay ! avdec_h264 ! fakesink`, one of them for each URL.
pub(crate) struct Viewers {
    pipeline: gst::Pipeline,
    shared: Arc<Shared>,
}

impl Viewers {
    pub(crate) fn start(urls: &[String], properties: &[(&str, &str)]) -> Self {
        let settings: String = properties
            .iter()
            .map(|(name, value)| format!(" {name}={value}"))
            .collect();
        let branch = |(camera, url): (usize, &String)| {
            format!(
                "rtspmuxsrc name=source{camera} location={url} latency=0{settings} \
                   ! rtph264depay name=depay{camera} ! avdec_h264 max-threads=1 \
                   ! fakesink name=sink{camera} sync=false async=false "
            )
        };
        let line: String = urls.iter().enumerate().map(branch).collect();
        let pipeline = gst::parse::launch(&line).unwrap().downcast().unwrap();
        let viewers = Self {
            pipeline,
            shared: Arc::default(),
        };
        let mut state = viewers.shared.state.lock().unwrap();
        state.cameras.resize_with(urls.len(), Camera::default);
        drop(state);
        (0..urls.len()).for_each(|camera| viewers.watch(camera));
        viewers.pipeline.set_state(gst::State::Playing).unwrap();
        viewers
    }

    fn watch(&self, camera: usize) {
        let pad = |element: String| {
            let element = self.pipeline.by_name(&element).unwrap();
            element.static_pad("sink").unwrap()
        };
        let shared = Arc::clone(&self.shared);
        pad(format!("depay{camera}")).add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            shared.on_packet(camera, info.buffer().unwrap());
            gst::PadProbeReturn::Ok
        });
        let shared = Arc::clone(&self.shared);
        pad(format!("sink{camera}")).add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let flags = info.buffer().unwrap().flags();
            let mut state = shared.state.lock().unwrap();
            let camera = &mut state.cameras[camera];
            camera.decoded += 1;
            camera.corrupted += usize::from(flags.contains(gst::BufferFlags::CORRUPTED));
            gst::PadProbeReturn::Ok
        });
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.state.lock().unwrap().cameras.len()
    }

    /// The next packet of this camera does not come through.
    pub(crate) fn hold(&self, camera: usize) {
        self.shared.state.lock().unwrap().held = Some(camera);
    }

    pub(crate) fn release(&self) {
        self.shared.state.lock().unwrap().held = None;
        self.shared.changed.notify_all();
    }

    pub(crate) fn delivered(&self, camera: usize) -> Vec<Delivered> {
        self.shared.state.lock().unwrap().cameras[camera]
            .delivered
            .clone()
    }

    pub(crate) fn newest_frame(&self, camera: usize) -> u64 {
        let state = self.shared.state.lock().unwrap();
        state.cameras[camera].frames().next_back().unwrap()
    }

    pub(crate) fn wait_for_more_frames(&self, cameras: &[usize], count: usize) {
        let state = self.shared.state.lock().unwrap();
        let before: Vec<usize> = state.cameras.iter().map(|c| c.frames().count()).collect();
        drop(state);
        let has_more = |state: &State, camera: &usize| {
            state.cameras[*camera].frames().count() >= before[*camera] + count
        };
        self.shared.wait_until("frames", |state| {
            cameras.iter().all(|camera| has_more(state, camera))
        });
    }

    /// This one or a later one.
    pub(crate) fn wait_for_frame(&self, camera: usize, frame: u64) {
        self.shared.wait_until("a frame", |state| {
            let newest = state.cameras[camera].frames().next_back();
            newest.is_some_and(|newest| newest >= frame)
        });
    }

    pub(crate) fn wait_for_keyframe_after_gap(&self, camera: usize) {
        self.shared.wait_until("a keyframe after a gap", |state| {
            let frames: Vec<u64> = state.cameras[camera].frames().collect();
            let mut pairs = frames.iter().zip(frames.iter().skip(1));
            pairs.any(|(one, next)| *next > one + 1 && next % FRAME_RATE as u64 == 0)
        });
    }

    /// Of the camera's only stream, in the `stats` of its element.
    pub(crate) fn stat(&self, camera: usize, name: &str) -> u64 {
        let source = self.pipeline.by_name(&format!("source{camera}")).unwrap();
        let stats: gst::Structure = source.property("stats");
        let streams = stats.get::<gst::Array>("streams").unwrap();
        streams[0]
            .get::<gst::Structure>()
            .unwrap()
            .get(name)
            .unwrap()
    }

    /// How often the camera's session was lost.
    pub(crate) fn outages(&self, camera: usize) -> u64 {
        let source = self.pipeline.by_name(&format!("source{camera}")).unwrap();
        let stats: gst::Structure = source.property("stats");
        stats.get("outages").unwrap()
    }

    /// All pictures that came could be decoded, but for those that came last.
    pub(crate) fn assert_decoded(&self, camera: usize) {
        let state = self.shared.state.lock().unwrap();
        let camera = &state.cameras[camera];
        let frames = camera.frames().count();
        assert_eq!(camera.corrupted, 0, "of {frames}");
        assert!(
            camera.decoded + 3 >= frames,
            "{} of {frames}",
            camera.decoded
        );
    }

    /// The last message of the camera's element that says that it dropped something.
    pub(crate) fn qos(&self, camera: usize) -> Qos {
        let bus = self.pipeline.bus().unwrap();
        let messages = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Qos]));
        let name = format!("source{camera}");
        let is_of_camera = |message: &gst::Message| {
            message
                .src()
                .is_some_and(|source| source.name() == name.as_str())
        };
        let message = messages.filter(is_of_camera).last().expect("a QOS message");
        let gst::MessageView::Qos(qos) = message.view() else {
            unreachable!()
        };
        let (is_live, _, _, began, gap) = qos.get();
        let (processed, dropped) = qos.stats();
        Qos {
            is_live,
            began,
            gap,
            processed: processed.value(),
            dropped: dropped.value(),
        }
    }

    pub(crate) fn stop(self) {
        let bus = self.pipeline.bus().unwrap();
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        assert!(error.is_none(), "{error:?}");
        self.pipeline.set_state(gst::State::Null).unwrap();
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        self.release();
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
