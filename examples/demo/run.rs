//! One element plays all cameras: starts the recorder and gathers what it and the server say.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::gst_server::{Counts, GstServer};
use crate::options::Options;
use crate::progress::Progress;
use crate::recorder::{Report, STOP_TIMEOUT, Usage};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) element: String,
    pub(crate) usage: Usage,
    pub(crate) connections: usize,
    pub(crate) sessions: usize,
    pub(crate) teardowns: usize,
    /// By the number of the camera.
    pub(crate) failures: BTreeMap<usize, String>,
}

/// Ended with the demo, however that ends: the recorder stops when its input is closed.
struct Recorder(Child);

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Records with `element` into `output`.
pub(crate) fn run(
    options: &Options,
    element: &str,
    output: &Path,
    server: &GstServer,
    stop: &AtomicBool,
) -> Result<Run, Box<dyn Error>> {
    let before = server.counts();
    let mut recorder = start(options, element, output, &server.url_of("/cam/"))?;
    let reports = recorder.0.stdout.take().ok_or("no output")?;
    let mut progress = Progress::new(options.cameras);
    let mut usage = None;
    let mut failures = BTreeMap::new();
    for line in BufReader::new(reports).lines() {
        match line?.parse()? {
            Report::Progress {
                elapsed,
                playing,
                bytes,
            } => progress.show(elapsed, playing, bytes),
            Report::Used(used) => usage = Some(used),
            Report::Failure(camera, text) => {
                failures.insert(camera, text);
            }
        }
        if stop.load(Ordering::Relaxed) {
            drop(recorder.0.stdin.take());
        }
    }
    progress.finish();
    let status = recorder.0.wait()?;
    let usage = usage.ok_or_else(|| format!("{element} was not measured: {status}"))?;
    let after = settled(server, before);
    Ok(Run {
        element: element.to_owned(),
        usage,
        connections: after.accepted - before.accepted,
        sessions: after.sessions - before.sessions,
        teardowns: after.teardowns - before.teardowns,
        failures,
    })
}

fn start(
    options: &Options,
    element: &str,
    output: &Path,
    url: &str,
) -> Result<Recorder, Box<dyn Error>> {
    use std::os::unix::process::CommandExt;
    let recorder = Command::new(std::env::current_exe()?)
        .args(["--cameras", &options.cameras.to_string()])
        .args(["--seconds", &options.seconds.as_secs().to_string()])
        .args(["--element", element, "--record", url])
        .arg("--output")
        .arg(output)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Ctrl-C is for the demo, which then lets the recorder finish its files.
        .process_group(0)
        .spawn()?;
    Ok(Recorder(recorder))
}

/// The server's counts once every session of this run has been torn down.
fn settled(server: &GstServer, before: Counts) -> Counts {
    let settled = server.wait_until(STOP_TIMEOUT, |counts| {
        let sessions = counts.sessions - before.sessions;
        counts.sessions_now == 0 && counts.teardowns - before.teardowns >= sessions
    });
    settled.unwrap_or_else(|late| late.0)
}
