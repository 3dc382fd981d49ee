//! `scripts/against_server.py` against a gst-rtsp-server in this process: it passes where all is well, and fails where it is
//! not. Without a Python that can load GStreamer (package `python3-gi`) these tests say `skipped` and pass.
#![allow(clippy::unwrap_used, reason = "a test binary")]

#[path = "support/gst_server.rs"]
mod gst_server;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gst_server::{GstServer, clip};

/// A directory of the test's own, with the plugin of this build and the clips of the server's cameras.
struct Workplace(PathBuf);

impl Workplace {
    /// The plugin is linked there alone, because GStreamer looks at everything in a directory of plugins.
    fn new(test: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("against_server")
            .join(test);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("plugins")).unwrap();
        let plugin = std::env::current_exe()
            .unwrap()
            .with_file_name("libgstrtspmux.so");
        assert!(
            plugin.exists(),
            "cargo builds {} with the tests",
            plugin.display()
        );
        symlink(plugin, directory.join("plugins/libgstrtspmux.so")).unwrap();
        Self(directory)
    }

    fn write_clips(&self, cameras: usize) {
        for (camera, clip) in clip::clips(cameras, clip::Format::SMALL)
            .unwrap()
            .iter()
            .enumerate()
        {
            let frames = (0..clip::FRAME_RATE as u64).map(|frame| clip.frame(frame));
            let stream: Vec<u8> = frames
                .flat_map(|frame| frame.map_readable().unwrap().to_vec())
                .collect();
            fs::write(self.0.join(format!("camera{camera}.h264")), stream).unwrap();
        }
    }

    fn clip(&self, camera: &str) -> String {
        self.0
            .join(format!("camera{camera}.h264"))
            .display()
            .to_string()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/against_server.py");
        Command::new("python3")
            .arg(script)
            .args(["--element", "rtspmuxsrc", "--logs"])
            .arg(self.0.join("logs"))
            .args(arguments)
            .env("GST_PLUGIN_PATH", self.0.join("plugins"))
            .env("GST_REGISTRY", self.0.join("registry.bin"))
            .env_remove("GST_DEBUG")
            .output()
            .unwrap()
    }
}

/// Whether this machine's `python3`, or the system's, can load GStreamer.
fn has_python() -> bool {
    let loads = |python: &str| {
        let probe = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst";
        let output = Command::new(python).args(["-c", probe]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = Command::new("python3").arg("--version").output().is_ok()
        && (loads("python3") || loads("/usr/bin/python3"));
    if !found {
        eprintln!("skipped: no Python that can load GStreamer");
    }
    found
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn url(server: &GstServer, camera: &str) -> String {
    server.url(0).replace("/cam/0", &format!("/cam/{camera}"))
}

#[test]
fn a_server_that_shares_passes() {
    if !has_python() {
        return;
    }
    let server = GstServer::builder().mounts(2).start().unwrap();
    let workplace = Workplace::new("passes");
    workplace.write_clips(2);
    let output = workplace.run(&[
        &url(&server, "{n}"),
        "--clip",
        &workplace.clip("{n}"),
        "--only",
        "2 together",
    ]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.trim_end().ends_with("PASS"), "{text}");
    assert_eq!(
        text.matches("PASS\n").count(),
        5,
        "two lines, two rows, the end: {text}"
    );
    assert_eq!(server.counts().plays, 4, "two cameras in two runs: {text}");
}

#[test]
fn pictures_of_another_camera_fail() {
    if !has_python() {
        return;
    }
    let server = GstServer::builder().mounts(2).start().unwrap();
    let workplace = Workplace::new("another-camera");
    workplace.write_clips(2);
    let swapped = ["0", "1"].map(|camera| url(&server, camera));
    let clips = [
        format!("{}={}", swapped[0], workplace.clip("1")),
        format!("{}={}", swapped[1], workplace.clip("0")),
    ];
    let output = workplace.run(&[
        &swapped[0],
        &swapped[1],
        "--clip",
        &clips[0],
        "--clip",
        &clips[1],
        "--only",
        "2 together, separate",
    ]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("slices of another camera"), "{text}");
}

#[test]
fn a_camera_that_does_not_play_fails() {
    if !has_python() {
        return;
    }
    let server = GstServer::builder().mounts(1).start().unwrap();
    let workplace = Workplace::new("does-not-play");
    workplace.write_clips(1);
    let there = url(&server, "0");
    let clip = format!("{there}={}", workplace.clip("0"));
    let missing = url(&server, "missing");
    let output = workplace.run(&[
        &there,
        &missing,
        "--clip",
        &clip,
        "--only",
        "2 together, separate",
    ]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("not all cameras play in 1 of 1 runs"),
        "{text}"
    );
}

#[test]
fn the_parts_of_the_script_work() {
    if !has_python() {
        return;
    }
    let output = Command::new("python3")
        .args(["-m", "unittest", "real_server.tests"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("OK"), "{text}");
}
