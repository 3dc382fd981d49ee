//! Records many cameras of one server into files, over one RTSP connection.
//!
//! The server is a real gst-rtsp-server inside this process, so the example needs no camera; it
//! also says how many connections were really made. What a recorder of your own would take from
//! here is `camera.rs`: one pipeline per camera, so that one camera's trouble is its own, and
//! nothing about sharing the connection - `rtspmuxsrc` does that by itself.
//!
//! `cargo run --release --example demo -- --help`

mod camera;
mod check;
mod options;
mod progress;
mod summary;

#[path = "../../tests/support/gst_server.rs"]
mod gst_server;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gstreamer as gst;

use camera::Camera;
use gst_server::GstServer;
use options::Options;
use progress::Progress;
use summary::Summary;

/// The element the cameras are played with.
const ELEMENT: &str = "rtspmuxsrc";

/// How often we look at the cameras and at the signals.
const TICK: Duration = Duration::from_millis(100);

/// How long the files may take to be finished, and the sessions to be torn down.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives whether everything is as it should be.
fn run() -> Result<bool, Box<dyn Error>> {
    let Some(options) = Options::parse(std::env::args().skip(1))? else {
        println!("{}", options::HELP);
        return Ok(true);
    };
    gst::init()?;
    gstrtspmux::plugin_register_static()?;
    let stop = stop_on_signals()?;
    prepare(&options)?;

    let server = GstServer::builder()
        .mounts(options.cameras)
        .audio(camera::has_audio)
        .size(320, 240)
        .start()?;
    println!(
        "{} records {} cameras of {} for {} s",
        options.element,
        options.cameras,
        server.url_of("/cam/..."),
        options.seconds.as_secs()
    );
    let mut cameras = (0..options.cameras)
        .map(|number| {
            let file = options.output.join(format!("camera-{number:02}.mkv"));
            Camera::new(&options.element, number, &server.url(number), file)
        })
        .collect::<Result<Vec<_>, _>>()?;

    let started = Instant::now();
    for camera in &mut cameras {
        camera.start();
    }
    record(&mut cameras, started, options.seconds, &stop);
    camera::stop_all(&mut cameras, STOP_TIMEOUT);
    let torn_down = server.wait_until(STOP_TIMEOUT, |counts| {
        counts.sessions_now == 0 && counts.teardowns >= counts.sessions
    });
    let counts = torn_down.unwrap_or_else(|late| late.0);
    drop(server);

    let summary = Summary::new(&options, &cameras, started, counts);
    println!("{summary}");
    Ok(summary.is_good())
}

/// SIGINT and SIGTERM set the flag; a second one ends the process at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// An output directory without recordings of another run.
fn prepare(options: &Options) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(&options.output)
        .map_err(|error| format!("{}: {error}", options.output.display()))?;
    if options.keep {
        return Ok(());
    }
    for entry in std::fs::read_dir(&options.output)? {
        let path = entry?.path();
        if is_recording(&path) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn is_recording(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("camera-") && name.ends_with(".mkv"))
}

/// Until the time is up, a signal came, or no camera is left.
fn record(cameras: &mut [Camera], started: Instant, seconds: Duration, stop: &AtomicBool) {
    let mut progress = Progress::new(started);
    while started.elapsed() < seconds && !stop.load(Ordering::Relaxed) {
        for camera in &mut *cameras {
            camera.look_for_errors();
        }
        if cameras.iter().all(|camera| camera.failure().is_some()) {
            break;
        }
        progress.show(cameras);
        std::thread::sleep(TICK);
    }
    progress.finish(cameras);
}
