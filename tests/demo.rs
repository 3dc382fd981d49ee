//! The demonstration: what it shows is what happened, and after a signal every session is torn down and every file is finished.
#![allow(clippy::unwrap_used, reason = "a test binary")]

#[allow(
    dead_code,
    unreachable_pub,
    reason = "included by several binaries, none of which uses all of it"
)]
#[path = "support/gst_clip.rs"]
mod clip;

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use rustix::process::{Pid, Signal, kill_process};

/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Killed if it is still there when the test ends.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Cargo builds examples together with all tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/demo");
    assert!(program.exists(), "run `cargo build --example demo` first");
    program
}

fn demo_ended_by(signal: Signal, name: &str) -> String {
    let recordings = std::env::temp_dir().join(format!("rtspmux-{name}-{}", std::process::id()));
    let child = Command::new(program())
        .args(["--cameras", "4", "--seconds", "600", "--output"])
        .arg(&recordings)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut demo = Demo(child);
    let mut output = BufReader::new(demo.0.stdout.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        while !line.contains("4 of 4 cameras playing") {
            line.clear();
            assert_ne!(
                output.read_line(&mut line).unwrap(),
                0,
                "it ended by itself"
            );
        }
        sender.send(String::new()).unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        sender.send(rest).unwrap();
    });
    receiver.recv_timeout(PATIENCE).expect("it plays");
    let process = Pid::from_child(&demo.0);
    kill_process(process, signal).unwrap();
    let rest = receiver.recv_timeout(PATIENCE).expect("it ends");
    let status = demo.0.wait().unwrap();
    std::fs::remove_dir_all(recordings).unwrap();
    assert!(status.success(), "{status}: {rest}");
    rest
}

#[test]
fn a_signal_tears_all_sessions_down_and_finishes_the_files() {
    for (signal, name) in [(Signal::TERM, "term"), (Signal::INT, "int")] {
        let summary = demo_ended_by(signal, name);
        assert!(summary.contains("for 4 sessions; 4 TEARDOWNs"), "{summary}");
        assert!(summary.contains("4 of 4 playable"), "{summary}");
    }
}

/// Records four cameras for two seconds, with rtspsrc too.
fn demo(recordings: &Path) -> String {
    let output = Command::new(program())
        .args(["--cameras", "4", "--seconds", "2", "--output"])
        .arg(recordings)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {text}", output.status);
    text
}

/// The numbers of a row of the table: rtspmuxsrc's and rtspsrc's.
fn row(summary: &str, name: &str) -> [f64; 2] {
    let line = summary.lines().find_map(|line| line.strip_prefix(name));
    let numbers: Vec<f64> = line
        .unwrap_or_else(|| panic!("no row {name:?} in {summary}"))
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    numbers.try_into().unwrap()
}

/// Luma, width and height of a PNG.
fn luma(png: &Path) -> (Vec<u8>, usize, usize) {
    let pipeline = gst::parse::launch(&format!(
        "filesrc location={} ! pngdec ! videoconvert ! video/x-raw,format=GRAY8 ! appsink name=out sync=false",
        png.display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let sink = clip::child::<gst_app::AppSink>(&pipeline, "out").unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let sample = sink.pull_sample().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    let caps = sample.caps().unwrap().structure(0).unwrap().to_owned();
    let side = |name| usize::try_from(caps.get::<i32>(name).unwrap()).unwrap();
    let data = sample.buffer().unwrap().map_readable().unwrap().to_vec();
    (data, side("width"), side("height"))
}

#[test]
fn the_table_and_the_contact_sheet_show_what_was_recorded() {
    gst::init().unwrap();
    let recordings = std::env::temp_dir().join(format!("rtspmux-table-{}", std::process::id()));
    let summary = demo(&recordings);
    assert_eq!(row(&summary, "connections"), [1.0, 4.0], "{summary}");
    for name in [
        "CPU, % of a core",
        "threads",
        "memory, MB",
        "all have a picture after, ms",
    ] {
        assert!(
            row(&summary, name).iter().all(|&number| number > 0.0),
            "{summary}"
        );
    }
    assert!(
        summary.contains("4 of 4 playable, 1 with sound"),
        "{summary}"
    );
    assert!(summary.contains(" 0 lost"), "{summary}");
    let rate = summary.split("from cameras of ").nth(1).unwrap();
    let rate: f64 = rate.split(' ').next().unwrap().parse().unwrap();
    assert!(rate >= 2.0, "{summary}");

    let (sheet, width, height) = luma(&recordings.join("contact-sheet.png"));
    assert_eq!((width, height), (640, 360), "2 by 2 pictures");
    for camera in 0..4 {
        let corner = camera / 2 * 180 * width + camera % 2 * 320;
        let number = clip::number_in(&sheet[corner..], width, 180);
        assert_eq!(number, Some(camera), "{}", recordings.display());
    }
    let left: Vec<_> = std::fs::read_dir(&recordings)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 5, "recordings and sheet alone: {left:?}");
    std::fs::remove_dir_all(recordings).unwrap();
}
