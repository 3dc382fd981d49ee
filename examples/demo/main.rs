//! Records many cameras of one server into files, over one RTSP connection, and compares that with
//! rtspsrc.
//!
//! The server is a real gst-rtsp-server inside this process, so the example needs no camera; it
//! also says how many connections were really made. The recorder is a second process
//! (`recorder.rs`), so that what it uses can be told. What a recorder of your own would take from
//! here is `camera.rs`: one pipeline per camera, so that one camera's trouble is its own, and
//! nothing about sharing the connection - `rtspmuxsrc` does that by itself.
//!
//! `cargo run --release --example demo -- --help`

mod camera;
mod check;
mod options;
mod progress;
mod recorder;
mod run;
mod sheet;
mod summary;

#[path = "../../tests/support/gst_server.rs"]
mod gst_server;

use std::error::Error;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gstreamer as gst;

use gst_server::GstServer;
use options::Options;
use run::Run;
use summary::Summary;

/// The element the cameras are played with.
const ELEMENT: &str = "rtspmuxsrc";

/// The element it is compared with.
const REFERENCE: &str = "rtspsrc";

/// Of the cameras, and what a camera of a recorder sends at least.
const KBITS: usize = 2200;

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
    if let Some(url) = &options.record {
        recorder::run(&options, url)?;
        return Ok(true);
    }
    gst::init()?;
    if options.serve {
        serve(&options)?;
        return Ok(true);
    }
    let stop = stop_on_signals()?;
    prepare(&options)?;

    let server = start_server(options.cameras)?;
    println!(
        "{} records {} cameras of {} for {} s",
        options.element,
        options.cameras,
        server.url_of("/cam/..."),
        options.seconds.as_secs()
    );
    let run = run::run(&options, &options.element, &options.output, &server, &stop)?;
    let reference = compare(&options, &server, &stop)?;
    drop(server);

    let summary = Summary::new(&options, run, reference);
    println!("{summary}");
    Ok(summary.is_good())
}

fn start_server(cameras: usize) -> Result<GstServer, Box<dyn Error>> {
    GstServer::builder()
        .mounts(cameras)
        .audio(camera::has_audio)
        .size(640, 360)
        .kbits(KBITS)
        .start()
}

/// For pipelines of the user's own.
fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let server = start_server(options.cameras)?;
    for camera in 0..options.cameras {
        println!("{}", server.url(camera));
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The same with the reference, whose files are not kept. `None` where that is not to be had.
fn compare(
    options: &Options,
    server: &GstServer,
    stop: &AtomicBool,
) -> Result<Option<Run>, Box<dyn Error>> {
    let is_wanted = options.comparison && options.element != REFERENCE;
    if !is_wanted || stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    if gst::ElementFactory::find(REFERENCE).is_none() {
        println!("{REFERENCE} is not installed: no comparison");
        return Ok(None);
    }
    println!("{REFERENCE} records the same cameras, to compare");
    let output = options.output.join(REFERENCE);
    std::fs::create_dir_all(&output)?;
    let run = run::run(options, REFERENCE, &output, server, stop);
    std::fs::remove_dir_all(&output)?;
    run.map(Some)
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
    name.is_some_and(|name| {
        name == summary::SHEET || (name.starts_with("camera-") && name.ends_with(".mkv"))
    })
}
