//! The embedded gst-rtsp-server leaves no thread behind. Alone in its process: the threads of
//! other tests would be counted too.

#![allow(clippy::unwrap_used, reason = "a test binary")]

#[path = "support/gst_server.rs"]
mod gst_server;
#[path = "support/thread_names.rs"]
mod thread_names;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use gst_server::GstServer;
use thread_names::thread_names;

const PATIENCE: Duration = Duration::from_secs(20);

/// The names of this process's threads, without those GIO starts once for a process.
fn threads() -> BTreeSet<String> {
    thread_names()
        .into_iter()
        .filter(|name| !["gmain", "gdbus", "dconf worker"].contains(&name.as_str()))
        .collect()
}

#[test]
fn no_thread_is_left_after_stop() {
    let mut before = threads();
    // GLib's own, once it has a pool of threads; it stays.
    before.insert("pool-spawner".to_owned());
    let server = GstServer::builder().mounts(4).start().unwrap();
    let pipelines: Vec<_> = (0..4)
        .map(|camera| {
            let url = server.url(camera);
            let line = format!("rtspsrc location={url} protocols=tcp ! fakesink sync=false");
            gst::parse::launch(&line).unwrap()
        })
        .collect();
    for pipeline in &pipelines {
        pipeline.set_state(gst::State::Playing).unwrap();
    }
    server.wait_until(PATIENCE, |c| c.plays == 4).unwrap();
    assert!(threads().contains("rtsp-server"));
    for pipeline in pipelines {
        pipeline.set_state(gst::State::Null).unwrap();
    }
    server.stop();
    assert!(!threads().contains("rtsp-server"));
    // Nothing tells of the end of GLib's threads: look again.
    let deadline = Instant::now() + PATIENCE;
    while !threads().is_subset(&before) {
        let now = threads();
        assert!(Instant::now() < deadline, "{now:?} instead of {before:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
