//! Many recorders in one pipeline, and the times of what they recorded.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use crate::PATIENCE;
use crate::gst_server::clip::Stamp;

pub(crate) fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstrtspmux::plugin_register_static().unwrap();
    });
}

/// What a recorder does with pictures and sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Both as they are, into one file.
    Matroska,
    /// Both as they are, into files of two seconds.
    SplitMux,
    /// Decoded and encoded again, into one file.
    X264,
}

impl Kind {
    fn line(self, camera: usize, url: &str, folder: &Path) -> String {
        let file = folder.join(format!("{camera}.mkv"));
        let file = file.display();
        let source = format!("rtspmuxsrc name=source{camera} location={url} latency=200");
        let video = format!(
            "source{camera}. ! application/x-rtp,media=video ! rtph264depay ! h264parse name=video{camera}"
        );
        let audio = format!(
            "source{camera}. ! application/x-rtp,media=audio ! rtppcmadepay name=audio{camera}"
        );
        match self {
            Self::Matroska => format!(
                "{source} matroskamux name=mux{camera} ! filesink location={file} \
                 {video} ! mux{camera}. {audio} ! mux{camera}. "
            ),
            Self::SplitMux => format!(
                "{source} splitmuxsink name=mux{camera} muxer-factory=matroskamux max-size-time=2000000000 \
                   location={}/{camera}-%03d.mkv \
                 {video} ! mux{camera}.video {audio} ! queue ! mux{camera}.audio_0 ",
                folder.display()
            ),
            Self::X264 => format!(
                "{source} matroskamux name=mux{camera} ! filesink location={file} \
                 {video} ! avdec_h264 ! videoconvert ! x264enc tune=zerolatency speed-preset=ultrafast threads=1 \
                   ! mux{camera}. {audio} ! alawdec ! alawenc ! mux{camera}. "
            ),
        }
    }
}

/// One buffer on its way to the file.
#[derive(Clone, Copy, Debug)]
struct Passed {
    at: Instant,
    time: gst::ClockTime,
}

/// What goes to the muxer of one stream.
#[derive(Debug, Default)]
struct Track {
    passed: Vec<Passed>,
    foreign: usize,
}

#[derive(Default)]
struct Tracks {
    /// By camera, pictures then sound.
    all: Mutex<Vec<[Track; 2]>>,
    changed: Condvar,
}

/// The pause in one track.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    /// From the last buffer before it to the first after it, by the file's time.
    pub(crate) recorded: Duration,
    /// The same by the clock on the wall.
    pub(crate) lived: Duration,
    /// When the first one came.
    pub(crate) back: Instant,
}

/// A pipeline of recorders.
pub(crate) struct Recorders {
    pipeline: gst::Pipeline,
    tracks: Arc<Tracks>,
    folder: PathBuf,
    cameras: usize,
}

impl Recorders {
    pub(crate) fn start(kind: Kind, port: u16, cameras: usize) -> Self {
        init();
        let folder =
            std::env::temp_dir().join(format!("rtspmux-recovery-{}-{kind:?}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut line = String::new();
        for camera in 0..cameras {
            let url = format!("rtsp://127.0.0.1:{port}/cam/{camera}");
            let _ = line.write_str(&kind.line(camera, &url, &folder));
        }
        let pipeline = gst::parse::launch(&line).unwrap();
        let recorders = Self {
            pipeline: pipeline.downcast().unwrap(),
            tracks: Arc::default(),
            folder,
            cameras,
        };
        recorders.watch();
        recorders.pipeline.set_state(gst::State::Playing).unwrap();
        recorders
    }

    /// Behind depayloader and parser: what goes on to muxer or decoder.
    fn watch(&self) {
        let mut all = self.tracks.all.lock().unwrap();
        for camera in 0..self.cameras {
            all.push(<[Track; 2]>::default());
            for (track, name) in ["video", "audio"].into_iter().enumerate() {
                let element = self.pipeline.by_name(&format!("{name}{camera}")).unwrap();
                let tracks = Arc::clone(&self.tracks);
                element.static_pad("src").unwrap().add_probe(
                    gst::PadProbeType::BUFFER,
                    move |_, info| {
                        if let Some(buffer) = info.buffer() {
                            tracks.take(camera, track, buffer);
                        }
                        gst::PadProbeReturn::Ok
                    },
                );
            }
        }
    }

    fn bus(&self) -> gst::Bus {
        self.pipeline.bus().unwrap()
    }

    /// Lets the time pass, and fails on an error meanwhile.
    pub(crate) fn pass(&self, time: Duration) {
        let time = gst::ClockTime::try_from(time).unwrap();
        let error = self
            .bus()
            .timed_pop_filtered(time, &[gst::MessageType::Error, gst::MessageType::Eos]);
        assert!(error.is_none(), "{error:?}");
    }

    /// How much was recorded of each track.
    pub(crate) fn counts(&self) -> Vec<[usize; 2]> {
        let all = self.tracks.all.lock().unwrap();
        all.iter()
            .map(|tracks| tracks.each_ref().map(|track| track.passed.len()))
            .collect()
    }

    /// Waits until every track has so much more than `before`.
    pub(crate) fn wait_for(&self, before: &[[usize; 2]], more: usize) {
        let is_there = |all: &[[Track; 2]]| {
            all.iter().zip(before).all(|(tracks, before)| {
                tracks
                    .iter()
                    .zip(before)
                    .all(|(track, before)| track.passed.len() >= before + more)
            })
        };
        let all = self.tracks.all.lock().unwrap();
        let (all, _) = self
            .tracks
            .changed
            .wait_timeout_while(all, PATIENCE, |all| !is_there(all))
            .unwrap();
        let is_there = is_there(&all);
        drop(all);
        let error = self.bus().pop_filtered(&[gst::MessageType::Error]);
        assert!(error.is_none(), "{error:?}");
        assert!(
            is_there,
            "{:?}, not {more} more than {before:?}",
            self.counts()
        );
    }

    /// The pause that each track made after it had so many buffers, by camera.
    pub(crate) fn gaps(&self, before: &[[usize; 2]]) -> Vec<[Gap; 2]> {
        let all = self.tracks.all.lock().unwrap();
        all.iter()
            .zip(before)
            .map(|(tracks, before)| [0, 1].map(|track| tracks[track].gap(before[track])))
            .collect()
    }

    /// Nothing went back in time, nothing was another camera's.
    pub(crate) fn assert_in_order(&self) {
        for (camera, tracks) in self.tracks.all.lock().unwrap().iter().enumerate() {
            for track in tracks {
                let times = track.passed.iter().map(|passed| passed.time);
                assert!(times.is_sorted(), "camera {camera}");
                assert_eq!(track.foreign, 0, "camera {camera}");
            }
        }
    }

    /// Ends the recordings in good order, and plays one back to its end.
    pub(crate) fn finish(self) {
        assert!(self.pipeline.send_event(gst::event::Eos::new()));
        let patience = gst::ClockTime::try_from(PATIENCE).unwrap();
        let end = self
            .bus()
            .timed_pop_filtered(patience, &[gst::MessageType::Eos, gst::MessageType::Error]);
        let end = end.expect("an end");
        assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
        self.pipeline.set_state(gst::State::Null).unwrap();
        let files = std::fs::read_dir(&self.folder).unwrap();
        let file = files.map(|file| file.unwrap().path()).min().unwrap();
        play_back(&file);
    }
}

fn play_back(file: &Path) {
    let line = format!(
        "filesrc location={} ! matroskademux name=demux ! fakesink async=false sync=false",
        file.display()
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let patience = gst::ClockTime::try_from(PATIENCE).unwrap();
    let end = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(patience, &[gst::MessageType::Eos, gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
}

impl Drop for Recorders {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Tracks {
    fn take(&self, camera: usize, track: usize, buffer: &gst::BufferRef) {
        let Some(time) = buffer.pts() else { return };
        let at = Instant::now();
        let is_foreign = track == 0
            && buffer
                .map_readable()
                .ok()
                .and_then(|data| Stamp::find(&data))
                .is_some_and(|stamp| stamp.camera != camera);
        let mut all = self.all.lock().unwrap();
        let track = &mut all[camera][track];
        track.passed.push(Passed { at, time });
        track.foreign += usize::from(is_foreign);
        self.changed.notify_all();
    }
}

impl Track {
    /// The longest pause between two buffers, the first of which is not before number `from`. A
    /// picture that was cut in two may come out only with the next one: what was waited for is then
    /// the one, and the step in time the other.
    fn gap(&self, from: usize) -> Gap {
        let pairs = || self.passed[from.saturating_sub(1)..].windows(2);
        let waited = pairs().max_by_key(|pair| pair[1].at - pair[0].at).unwrap();
        let steps = pairs().map(|pair| pair[1].time.saturating_sub(pair[0].time));
        Gap {
            recorded: Duration::from_nanos(steps.max().unwrap().nseconds()),
            lived: waited[1].at - waited[0].at,
            back: waited[1].at,
        }
    }
}
