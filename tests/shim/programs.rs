//! Programs and launch lines as they are published, with the URL of the test's server.

use std::process::Command;

use super::{script, shim};
use crate::{gst_server::GstServer, tool::Tool};

fn server(mounts: usize) -> GstServer {
    GstServer::builder().mounts(mounts).start().unwrap()
}

fn source(element: &str, how: &str) {
    let server = server(1);
    let tool = shim(&format!("{element}_{how}"));
    let arguments = format!("{element} {how} {}", server.url(0));
    if let Some(script) = script(&tool, "source.py", &arguments) {
        let printed = script.finish();
        assert!(printed.contains("configured True\npicture"), "{printed}");
        let counts = server.counts();
        assert_eq!((counts.accepted, counts.plays), (1, 1), "{counts:?}");
    }
}

#[test]
fn playbin_finds_its_source_by_the_factory() {
    source("playbin", "factory");
}

#[test]
fn playbin3_finds_its_source_by_the_type() {
    source("playbin3", "type");
}

#[test]
fn uridecodebin3_finds_its_source_by_the_type() {
    source("uridecodebin3", "type");
}

#[test]
fn deepstreams_python_samples_find_the_source_of_uridecodebin_by_its_name() {
    source("uridecodebin", "child");
}

/// With Debian's python3-opencv, which is not installed for the tests.
#[test]
fn opencv_reads_frames_by_url_and_by_pipeline() {
    let server = server(3);
    let tool = shim("opencv");
    let urls: Vec<String> = (0..3).map(|camera| server.url(camera)).collect();
    let Some(script) = script(&tool, "opencv.py", &urls.join(" ")) else {
        return;
    };
    let (_, printed) = script.end();
    if !printed.contains("opencv ") {
        return eprintln!("skipped: python3-opencv is not installed");
    }
    assert_eq!(printed.matches("frames 10").count(), 4, "{printed}");
    let counts = server.counts();
    assert_eq!((counts.accepted, counts.plays), (1, 4), "{counts:?}");
}

#[test]
fn gst_discoverer_discovers() {
    if Command::new("gst-discoverer-1.0")
        .arg("--help")
        .output()
        .is_err()
    {
        return eprintln!("skipped: gst-discoverer-1.0 is not installed");
    }
    let server = server(1);
    let tool = shim("discoverer");
    let output = tool
        .command("gst-discoverer-1.0")
        .arg(server.url(0))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("H.264"), "{output:?}");
    assert!(server.counts().plays >= 1);
}

#[test]
fn sixteen_sources_of_one_program_have_one_connection() {
    let server = server(16);
    let tool = shim("sixteen");
    let cameras = (0..16).map(|camera| {
        format!(
            "rtspsrc location={} latency=100 ! rtph264depay ! h264parse ! fakesink num-buffers=20 ",
            server.url(camera)
        )
    });
    tool.launch(&cameras.collect::<String>()).finish();
    let counts = server.counts();
    assert_eq!((counts.accepted, counts.plays), (1, 16), "{counts:?}");
}

/// Compiles the stand-ins into the directory of plugins.
fn add_stand_ins(tool: &Tool) {
    let flags = Command::new("pkg-config")
        .args(["--cflags", "--libs", "gstreamer-base-1.0"])
        .output()
        .unwrap();
    let flags = String::from_utf8(flags.stdout).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(tool.file("plugins").join("libgststandins.so"))
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/shim/standins.c"
        ))
        .args(flags.split_whitespace())
        .status();
    assert!(compiled.unwrap().success());
}

#[test]
fn documented_launch_lines_run() {
    let server = server(1);
    let tool = shim("lines");
    add_stand_ins(&tool);
    let url = server.url(0);
    let lines = [
        // Amazon Kinesis Video Streams, C++ producer: an RTSP camera.
        format!(
            "-v rtspsrc location={url} short-header=TRUE ! rtph264depay ! h264parse \
             ! kvssink name=last stream-name=camera storage-size=128 access-key=a secret-key=b aws-region=c"
        ),
        // DL Streamer, gvadetect on a camera.
        format!(
            "-v urisourcebin buffer-size=4096 uri={url} ! decodebin ! gvadetect model=m.xml device=CPU \
             ! queue ! gvafpscounter ! fakesink name=last async=false"
        ),
        // QGroundControl: a parser chosen at run time behind a source with little latency.
        format!(
            "-v rtspsrc location={url} latency=17 ! parsebin ! tee ! queue ! fakesink name=last"
        ),
    ];
    for line in lines {
        let launched = tool.launch(&line);
        launched.wait_for_lines("last.GstPad:sink: caps = video/", 1);
        launched.interrupt();
        let (_, printed) = launched.end();
        assert!(!printed.contains("ERROR"), "{line}: {printed}");
    }
    let counts = server.counts();
    assert_eq!((counts.plays, counts.teardowns), (3, 3), "{counts:?}");
}
