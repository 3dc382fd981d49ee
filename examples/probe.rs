//! Reports for cameras of a server of yours: *plays*, *shares*, or why not.
//!
//! `cargo run --release --example probe -- rtsp://user:password@camera/1 rtsp://user:password@camera/2`
//!
//! Two cameras of a server show whether it shares connections; one alone is played twice.

use std::process::ExitCode;

use gstrtspmux::mux::{
    Mux, SessionOptions,
    probe::{ProbePatience, probe},
};

fn main() -> ExitCode {
    let urls: Vec<String> = std::env::args().skip(1).collect();
    if urls.is_empty() || urls.iter().any(|url| url.starts_with('-')) {
        eprintln!("usage: probe URL...");
        return ExitCode::from(2);
    }
    match run(&urls) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("probe: {error}");
            ExitCode::from(2)
        }
    }
}

/// Gives whether each camera plays.
fn run(urls: &[String]) -> Result<bool, Box<dyn std::error::Error>> {
    let cameras = urls.iter().map(|url| SessionOptions::new(url));
    let cameras = cameras.collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mux = Mux::builder().runtime(runtime.handle().clone()).build();
    let report = runtime.block_on(probe(&mux, cameras, ProbePatience::default()))?;
    print!("{report}");
    runtime.block_on(mux.shutdown(std::time::Duration::from_secs(3)));
    Ok(report.all_play())
}
