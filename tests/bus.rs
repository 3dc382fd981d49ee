//! F53: the bus of an application that may not be read, and whose sync handlers may block. The threads of
//! the process are counted, so one test runs at a time.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test binary")]

mod support;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;
use gstreamer as gst;

use support::{
    mock_server::{Camera, MockServer},
    polling::wait_until,
    thread_names::thread_names,
};

/// Far more than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(40);

const CAMERAS: u32 = 64;

/// Of ours, whatever 64 cameras do.
const MOST_THREADS: usize = 16;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    gst::init().unwrap();
    // Another test may have registered it.
    let _ = gstrtspmux::plugin_register_static();
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of the threads of ours.
fn ours() -> Vec<String> {
    let mut names = thread_names();
    names.retain(|name| name.starts_with("rtspmux"));
    names
}

/// Threads of ours.
fn threads() -> usize {
    ours().len()
}

/// Cameras of a server, each in a bin of a pipeline.
struct Wall {
    pipeline: gst::Pipeline,
    server: MockServer,
    sources: Vec<gst::Element>,
    /// The pads before the sinks.
    pads: Vec<gst::Pad>,
}

impl Wall {
    fn new(cameras: u32) -> Self {
        let server = MockServer::builder().cameras(cameras).start();
        let pipeline = gst::Pipeline::new();
        let (mut sources, mut pads) = (Vec::new(), Vec::new());
        for camera in 1..=cameras {
            let line = format!(
                "rtspmuxsrc name=source location={} latency=0 reconnect-min-delay=1000000 \
                 ! fakesink name=sink sync=false async=false",
                server.url(&format!("/cam/{camera}"))
            );
            let branch = gst::parse::bin_from_description(&line, false).unwrap();
            sources.push(branch.by_name("source").unwrap());
            pads.push(branch.by_name("sink").unwrap().static_pad("sink").unwrap());
            pipeline.add(&branch).unwrap();
        }
        Self {
            pipeline,
            server,
            sources,
            pads,
        }
    }

    fn play(&self) {
        self.pipeline.set_state(gst::State::Playing).unwrap();
        let cameras = self.sources.len();
        let all_play = |view: &support::mock_server::ServerView| view.playing() == cameras;
        assert!(self.server.wait_until(all_play, PATIENCE));
    }

    /// Calls for each buffer, with the number of its camera from 0, on the thread that pushes it.
    fn on_buffer(&self, call: impl Fn(usize, &gst::BufferRef) + Send + Sync + 'static) {
        let call = Arc::new(call);
        for (number, pad) in self.pads.iter().enumerate() {
            let call = Arc::clone(&call);
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                call(number, info.buffer().unwrap());
                gst::PadProbeReturn::Ok
            });
        }
    }

    fn bus(&self) -> gst::Bus {
        self.pipeline.bus().unwrap()
    }
}

impl Drop for Wall {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Opens once.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let is_open = self.is_open.lock().unwrap();
        let waited = self
            .opened
            .wait_timeout_while(is_open, PATIENCE, |is_open| !*is_open);
        drop(waited.unwrap());
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// A message is one that our element posts from threads of its own.
fn is_ours(message: &gst::Message) -> bool {
    let is_of_thread = matches!(
        message.type_(),
        gst::MessageType::Progress
            | gst::MessageType::Element
            | gst::MessageType::Warning
            | gst::MessageType::Error
            | gst::MessageType::Qos
    );
    let source = message.src().map(|source| source.type_());
    is_of_thread && source.is_some_and(|source| source.name() == "GstRtspMuxSrc")
}

/// Downstream posts a message for each buffer from the thread that pushes it, as `level` does, all
/// sessions are lost once, and the bus is not read.
#[test]
fn f53_64_elements_that_post_on_a_bus_that_is_not_read_need_few_threads() {
    let _alone = alone();
    let wall = Wall::new(CAMERAS);
    let (pushed, pushes) = channel();
    let poster = wall.pipeline.downgrade();
    wall.on_buffer(move |number, _| {
        if let Some(pipeline) = poster.upgrade() {
            for _ in 0..20 {
                let structure = gst::Structure::new_empty("level");
                let message = gst::message::Element::builder(structure).src(&pipeline);
                pipeline.post_message(message.build()).unwrap();
            }
        }
        // At the end the test counts no more.
        let _ = pushed.send(number);
    });
    wall.play();
    let mut most = Vec::new();
    for round in 0..30 {
        if round == 15 {
            wall.server.reset_connections();
            let came_back = |view: &support::mock_server::ServerView| {
                view.playing() == CAMERAS as usize && view.count("PLAY") > CAMERAS as usize
            };
            assert!(wall.server.wait_until(came_back, PATIENCE));
        }
        let sent = wall.server.send_packets_to_all(2);
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..sent {
            // Packets that are under way on a connection are lost when it is reset.
            if pushes.recv_timeout(Duration::from_millis(200)).is_err() {
                break;
            }
            assert!(Instant::now() < deadline);
            most = [most, ours()].into_iter().max_by_key(Vec::len).unwrap();
        }
    }
    assert!(most.len() <= MOST_THREADS, "{}: {most:?}", most.len());
}

/// The handler of our messages never comes back; media go on, and so does all else.
#[test]
fn f53_a_handler_that_takes_its_time_holds_up_no_media_and_no_state_change() {
    let _alone = alone();
    let wall = Wall::new(CAMERAS);
    let gate = Arc::new(Gate::default());
    let (at_gate, (entered, entries)) = (Arc::clone(&gate), channel());
    wall.bus().set_sync_handler(move |_, message| {
        if is_ours(message) {
            entered.send(()).unwrap();
            at_gate.pass();
        }
        gst::BusSyncReply::Drop
    });
    let (pushed, pushes) = channel();
    wall.on_buffer(move |number, _| _ = pushed.send(number));
    wall.play();
    entries.recv_timeout(PATIENCE).unwrap();
    for _ in 0..20 {
        let sent = wall.server.send_packets_to_all(1);
        for _ in 0..sent {
            pushes.recv_timeout(PATIENCE).unwrap();
        }
    }
    assert!(threads() <= MOST_THREADS, "{} threads", threads());
    wall.pipeline.set_state(gst::State::Null).unwrap();
    // One message waits at the gate. None of the others comes any more, though the gate opens now.
    gate.open();
    wait_until(
        || !thread_names().iter().any(|name| name == "rtspmux-bus"),
        PATIENCE,
    );
    assert_eq!(entries.try_iter().count(), 0);
}

/// Stopping the pipeline is what a handler may do about a camera that is lost.
#[test]
fn f53_a_handler_may_stop_the_pipeline() {
    let _alone = alone();
    let wall = Wall::new(4);
    let (stopped, stops): (Sender<bool>, Receiver<bool>) = channel();
    let pipeline = wall.pipeline.downgrade();
    let count = Arc::new(AtomicUsize::new(0));
    let after = Arc::new(AtomicUsize::new(0));
    let (counted, counted_after) = (Arc::clone(&count), Arc::clone(&after));
    wall.bus().set_sync_handler(move |_, message| {
        if is_ours(message) && counted.load(Ordering::SeqCst) > 0 {
            counted_after.fetch_add(1, Ordering::SeqCst);
        }
        let is_lost = message
            .structure()
            .is_some_and(|structure| structure.name() == "rtspmux-session");
        if is_lost && counted.fetch_add(1, Ordering::SeqCst) == 0 {
            let pipeline = pipeline.upgrade().unwrap();
            let is_good = pipeline.set_state(gst::State::Null).is_ok();
            stopped.send(is_good).unwrap();
        }
        gst::BusSyncReply::Drop
    });
    wall.play();
    wall.server.reset_connections();
    assert_eq!(stops.recv_timeout(PATIENCE), Ok(true));
    wait_until(
        || !thread_names().iter().any(|name| name == "rtspmux-bus"),
        PATIENCE,
    );
    assert_eq!(after.load(Ordering::SeqCst), 0, "posted after NULL");
}

/// Also where the bus is slow to take the error.
#[test]
fn an_error_is_on_the_bus_before_the_end_that_it_brings() {
    let _alone = alone();
    let server = MockServer::builder()
        .camera("/cam/1", Camera::video())
        .start();
    let line = format!(
        "rtspmuxsrc location={} latency=0 reconnect=false ! fakesink name=sink sync=false async=false",
        server.url("/cam/1")
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline
        .by_name("sink")
        .unwrap()
        .static_pad("sink")
        .unwrap();
    let (tell, told) = channel();
    let tell_end = tell.clone();
    sink.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if info
            .event()
            .is_some_and(|event| event.type_() == gst::EventType::Eos)
        {
            tell_end.send("end").unwrap();
        }
        gst::PadProbeReturn::Ok
    });
    let (media, came) = channel();
    sink.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        media.send(()).unwrap();
        gst::PadProbeReturn::Ok
    });
    let gate = Arc::new(Gate::default());
    let (at_gate, (entered, entry)) = (Arc::clone(&gate), channel());
    pipeline.bus().unwrap().set_sync_handler(move |_, message| {
        if message.type_() == gst::MessageType::Error {
            entered.send(()).unwrap();
            at_gate.pass();
            tell.send("error").unwrap();
        }
        gst::BusSyncReply::Drop
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    server.send_packets("/cam/1", 1);
    came.recv_timeout(PATIENCE).unwrap();
    server.close_connections();
    entry.recv_timeout(PATIENCE).unwrap();
    gate.open();
    let order = [(); 2].map(|()| told.recv_timeout(PATIENCE).unwrap());
    assert_eq!(order, ["error", "end"]);
    pipeline.set_state(gst::State::Null).unwrap();
}

/// 32 sinks take nothing; through the others all comes, in order.
#[test]
fn of_64_cameras_32_that_are_blocked_cost_the_others_nothing() {
    const PACKETS: u32 = 60;
    let _alone = alone();
    let wall = Wall::new(CAMERAS);
    let gate = Arc::new(Gate::default());
    let at_gate = Arc::clone(&gate);
    let (pushed, pushes) = channel();
    wall.on_buffer(move |number, buffer| {
        if number % 2 == 0 {
            at_gate.pass();
        } else {
            let mut sequence = [0; 2];
            buffer.copy_to_slice(2, &mut sequence).unwrap();
            // At the end the test counts no more.
            let _ = pushed.send((number, u16::from_be_bytes(sequence)));
        }
    });
    wall.play();
    let mut last: Vec<Option<u16>> = vec![None; CAMERAS as usize];
    for _ in 0..PACKETS {
        assert_eq!(wall.server.send_packets_to_all(1), CAMERAS as usize);
        for _ in 0..CAMERAS / 2 {
            let (number, sequence) = pushes.recv_timeout(PATIENCE).unwrap();
            if let Some(last) = last[number].replace(sequence) {
                assert_eq!(sequence, last.wrapping_add(1), "camera {number}");
            }
        }
    }
    assert!(last.iter().flatten().count() == CAMERAS as usize / 2);
    let most = CAMERAS as usize / 2 + MOST_THREADS;
    assert!(threads() <= most, "{} threads", threads());
    gate.open();
}
