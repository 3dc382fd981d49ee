//! The plugin file as users load it: gst-launch-1.0 and gst-inspect-1.0 in processes of their own,
//! against a gst-rtsp-server in this one.
#![allow(clippy::unwrap_used, reason = "a test binary")]

#[path = "gst_launch/breaking_front.rs"]
mod breaking_front;
#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/gst_server.rs"]
mod gst_server;
#[path = "gst_launch/python.rs"]
mod python;
#[path = "gst_launch/recording.rs"]
mod recording;
#[path = "gst_launch/sigpipe.rs"]
mod sigpipe;
mod support;
#[path = "gst_launch/tool.rs"]
mod tool;

use std::path::Path;

use gst_server::GstServer;
use recording::Recording;
use tool::Tool;

fn server() -> GstServer {
    GstServer::builder().mounts(2).start().unwrap()
}

/// The line of the README, with an end after `frames` frames.
fn record(tool: &Tool, source: &str, url: &str, frames: usize, file: &Path) {
    let line = format!(
        "-e {source} location={url} protocols=tcp ! rtph264depay ! h264parse \
         ! identity eos-after={frames} ! matroskamux ! filesink location={}",
        file.display()
    );
    tool.launch(&line).finish();
}

#[test]
fn a_recording_is_that_of_rtspsrc() {
    let server = server();
    let tool = Tool::with_plugin("recording");
    let [ours, theirs] = ["rtspmuxsrc", "rtspsrc"].map(|source| {
        let file = tool.file(&format!("{source}.mkv"));
        record(&tool, source, &server.url(1), 50, &file);
        Recording::play(&file)
    });
    for recording in [&ours, &theirs] {
        recording.assert_consecutive(1);
        assert!((45..=50).contains(&recording.stamps.len()), "{recording:?}");
        assert_eq!(recording.decoded, recording.stamps.len());
    }
    assert_eq!(ours.size, theirs.size);
    assert_eq!(ours.caps, theirs.caps);
    assert!(
        ours.largest_step() < 2 * gst_server::clip::FRAME_DURATION,
        "{ours:?}"
    );
    let counts = server.counts();
    assert_eq!((counts.plays, counts.teardowns), (2, 2), "{counts:?}");
}

#[test]
fn an_interrupted_recording_is_complete() {
    let server = server();
    let tool = Tool::with_plugin("interrupted");
    let file = tool.file("camera.mkv");
    let launched = tool.launch(&format!(
        "-e -v rtspmuxsrc location={} protocols=tcp ! rtph264depay ! h264parse \
         ! identity silent=false ! matroskamux ! filesink location={}",
        server.url(0),
        file.display()
    ));
    launched.wait_for_lines("last-message = chain", 30);
    launched.interrupt();
    launched.finish();
    let recording = Recording::play(&file);
    recording.assert_consecutive(0);
    assert!(recording.stamps.len() >= 29, "{recording:?}");
    assert_eq!(recording.decoded, recording.stamps.len());
    let counts = server.counts();
    assert_eq!((counts.plays, counts.teardowns), (1, 1), "{counts:?}");
}

#[test]
fn decodebin_takes_what_the_element_gives() {
    let server = server();
    let tool = Tool::with_plugin("decodebin");
    tool.launch(&format!(
        "rtspmuxsrc location={} protocols=tcp ! decodebin ! video/x-raw,width=160,height=120 \
         ! identity eos-after=30 ! fakesink",
        server.url(0)
    ))
    .finish();
    assert_eq!(server.counts().plays, 1);
}

/// Programs are looked at with Valgrind, which gives a process no vDSO: a library that reads the auxiliary
/// vector itself crashed there.
#[test]
fn a_pipeline_runs_under_valgrind() {
    let is_installed = std::process::Command::new("valgrind")
        .arg("--version")
        .output()
        .is_ok();
    if !is_installed {
        eprintln!("skipped: valgrind is not installed");
        return;
    }
    let server = server();
    let tool = Tool::with_plugin("valgrind");
    let line = format!(
        "-q --tool=none gst-launch-1.0 rtspmuxsrc location={} protocols=tcp ! rtph264depay ! h264parse \
         ! identity eos-after=10 ! fakesink",
        server.url(0)
    );
    tool.run(Path::new("valgrind"), &line).finish();
    assert_eq!(server.counts().plays, 1);
}

#[test]
fn two_elements_of_one_line_share_a_connection() {
    let server = server();
    let tool = Tool::with_plugin("two");
    let branch = |camera: usize| {
        format!(
            "rtspmuxsrc location={} protocols=tcp ! rtph264depay ! h264parse \
             ! identity eos-after=20 ! fakesink ",
            server.url(camera)
        )
    };
    tool.launch(&(branch(0) + &branch(1))).finish();
    let counts = server.counts();
    assert_eq!((counts.accepted, counts.plays), (1, 2), "{counts:?}");
}

/// The second line shares from the first moment on: the first one has left what it learned.
#[test]
fn what_one_line_learned_of_the_server_the_next_one_knows() {
    let server = server();
    let tool = Tool::with_plugin("state");
    for _ in 0..2 {
        let branch = |camera: usize| {
            format!(
                "rtspmuxsrc location={} protocols=tcp latency=0 ! identity eos-after=5 ! fakesink sync=false ",
                server.url(camera)
            )
        };
        tool.launch(&(branch(0) + &branch(1))).finish();
        let known = std::fs::read_to_string(tool.file("servers")).unwrap();
        assert!(
            known.contains(&format!("yes 127.0.0.1:{}", server.port())),
            "{known}"
        );
    }
}

#[test]
fn an_error_ends_the_line_and_names_the_camera() {
    let server = server();
    let tool = Tool::with_plugin("error");
    let launched = tool.launch(&format!(
        "rtspmuxsrc location={} ! fakesink",
        server
            .url_of("/nothing?password=hunter2")
            .replace("rtsp://", "rtsp://u:hunter2@")
    ));
    let output = launched.fail();
    assert!(
        output.contains("/nothing") && output.contains("404"),
        "{output}"
    );
    // gst-launch itself prints properties only with -v.
    assert!(!output.contains("hunter2"), "{output}");
}

#[test]
fn gst_inspect_shows_the_element() {
    let tool = Tool::with_plugin("inspect");
    let shown = tool.inspect(&["rtspmuxsrc"]);
    for line in [
        "Rank                     none (0)",
        "Klass                    Source/Network",
        "Name                     rtspmux",
        "License                  MPL",
        "stream_%u",
        "rtspt",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    for property in [
        "location",
        "user-id",
        "user-pw",
        "protocols",
        "latency",
        "timeout",
        "tcp-timeout",
        "teardown-timeout",
        "user-agent",
        "do-rtsp-keep-alive",
        "tls-validation-flags",
        "tls-ca-file",
        "tls-client-certificate",
        "enable-connection-pooling",
        "max-connections-per-server",
        "idle-connection-timeout",
        "multiplex",
        "max-sessions-per-connection",
        "stats",
    ] {
        let begins = |line: &str| {
            line.trim_start()
                .strip_prefix(property)
                .is_some_and(|rest| rest.trim_start().starts_with(':'))
        };
        assert!(shown.lines().any(begins), "{property}: {shown}");
    }
    let plugin = tool.inspect(&["rtspmux"]);
    assert!(plugin.contains("1 features"), "{plugin}");
}

/// What plays an RTSP URL where the user names no element; ranks as `GST_PLUGIN_FEATURE_RANK`.
fn source_of_uridecodebin(test: &str, ranks: &str) -> String {
    let server = server();
    let mut tool = Tool::with_plugin(test);
    tool.set_ranks(ranks);
    let output = tool
        .launch(&format!(
            "-v uridecodebin uri={} ! identity eos-after=10 ! fakesink",
            server.url(0)
        ))
        .finish();
    let source = output.lines().find(|line| line.contains("source = "));
    source.expect("its source").to_owned()
}

/// From GStreamer 1.24 on `rtspsrc` has the rank PRIMARY, 256.
#[test]
fn the_user_decides_by_rank_what_plays_an_rtsp_url() {
    let source = source_of_uridecodebin("theirs", "rtspsrc:1");
    assert!(source.contains("GstRTSPSrc"), "{source}");
    let source = source_of_uridecodebin("ours", "rtspmuxsrc:257");
    assert!(source.contains("GstRtspMuxSrc"), "{source}");
}
