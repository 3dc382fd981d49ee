//! How many threads feed the pads of many elements. Alone in its process: those of other tests would
//! be counted too.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test binary")]

mod support;

use std::{
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use gst::prelude::*;
use gstreamer as gst;

use support::{mock_server::MockServer, thread_names::thread_names};

/// Far more than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(40);

const CAMERAS: u32 = 32;

/// The threads of this process that run session tasks and push.
fn workers() -> usize {
    let names = thread_names();
    names.iter().filter(|name| *name == "rtspmux-feed").count()
}

/// A sink keeps its first buffer, and the thread that brought it, until all sinks of the pipeline have
/// one.
#[test]
fn threads_that_only_the_start_has_needed_go() {
    gst::init().unwrap();
    gstrtspmux::plugin_register_static().unwrap();
    let server = MockServer::builder().cameras(CAMERAS).start();
    let pipeline = gst::Pipeline::new();
    let (pushed, pushes) = channel();
    for camera in 1..=CAMERAS {
        let line = format!(
            "rtspmuxsrc location={} latency=0 ! fakesink name=sink sync=false",
            server.url(&format!("/cam/{camera}"))
        );
        let branch = gst::parse::bin_from_description(&line, false).unwrap();
        let pad = branch.by_name("sink").unwrap().static_pad("sink").unwrap();
        let pushed = pushed.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            // At the end the receiver is gone, and the test counts no more.
            let _ = pushed.send(camera);
            gst::PadProbeReturn::Ok
        });
        pipeline.add(&branch).unwrap();
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    assert!(server.wait_until(|view| view.playing() == CAMERAS as usize, PATIENCE));
    for camera in 1..CAMERAS {
        server.send_packets(&format!("/cam/{camera}"), 1);
    }
    for _ in 1..CAMERAS {
        pushes.recv_timeout(PATIENCE).unwrap();
    }
    assert!(
        workers() >= CAMERAS as usize - 1,
        "each is held in its sink"
    );

    // As many threads as there are processors, and for a moment some in place of those that wait.
    let few = std::thread::available_parallelism().unwrap().get() + 6;
    let deadline = Instant::now() + PATIENCE;
    // The surplus threads end while these are at work.
    loop {
        server.send_packets_to_all(1);
        for _ in 0..CAMERAS {
            pushes.recv_timeout(PATIENCE).unwrap();
        }
        let workers = workers();
        if workers <= few {
            break;
        }
        assert!(Instant::now() < deadline, "{workers} threads");
    }
    pipeline.set_state(gst::State::Null).unwrap();
}
