//! The process that records. It is a process of its own so that what it uses is what the element
//! and its pipelines use, without the server. It reports to the process that started it by lines
//! on its standard output, and ends early when its standard input is closed.

use std::error::Error;
use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gstreamer as gst;
use rustix::time::{ClockId, clock_gettime};

use crate::camera::{self, Camera};
use crate::options::Options;

/// How often the cameras are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long the files may take to be finished, and the sessions to be torn down.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A line that the recorder writes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Report {
    /// While it records.
    Progress {
        elapsed: Duration,
        playing: usize,
        bytes: u64,
    },
    /// Once, at the end of the recording.
    Used(Usage),
    /// Of a camera.
    Failure(usize, String),
}

/// What the recorder used.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) recorded: Duration,
    /// Of all threads, from the start of the pipelines to the end of the recording.
    pub(crate) cpu: Duration,
    pub(crate) threads: u64,
    /// The most resident memory.
    pub(crate) memory_kb: u64,
    /// From the start of the pipelines until the last camera had a picture.
    pub(crate) first_pictures: Option<Duration>,
    pub(crate) bytes: u64,
}

/// Records until the time is up, standard input is closed, or no camera is left.
pub(crate) fn run(options: &Options, url: &str) -> Result<(), Box<dyn Error>> {
    gst::init()?;
    if options.element == crate::ELEMENT {
        gstrtspmux::plugin_register_static()?;
    }
    let stop = stop_when_stdin_closes();
    let mut cameras = (0..options.cameras)
        .map(|number| {
            let file = options.output.join(camera::file_name(number));
            Camera::new(&options.element, number, &format!("{url}{number}"), file)
        })
        .collect::<Result<Vec<_>, _>>()?;

    let cpu = cpu_time();
    let started = Instant::now();
    for camera in &mut cameras {
        camera.start();
    }
    while started.elapsed() < options.seconds && !stop.load(Ordering::Relaxed) {
        for camera in &mut cameras {
            camera.look_for_errors();
        }
        if cameras.iter().all(|camera| camera.failure().is_some()) {
            break;
        }
        report(&progress(&cameras, started.elapsed()))?;
        std::thread::sleep(TICK);
    }
    report(&progress(&cameras, started.elapsed()))?;
    let mut usage = Usage {
        recorded: started.elapsed(),
        cpu: cpu_time().saturating_sub(cpu),
        threads: status("Threads:"),
        memory_kb: status("VmHWM:"),
        first_pictures: first_pictures(&cameras, started),
        bytes: 0,
    };
    camera::stop_all(&mut cameras, STOP_TIMEOUT);
    usage.bytes = cameras.iter().map(Camera::bytes).sum();
    report(&Report::Used(usage))?;
    for camera in &cameras {
        if let Some(failure) = camera.failure() {
            let text = failure.replace(['\n', '\r'], " ");
            report(&Report::Failure(camera.number(), text))?;
        }
    }
    Ok(())
}

/// Fails when the process that reads the reports is gone.
fn report(report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{report}")?;
    out.flush()
}

fn stop_when_stdin_closes() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            // An error means the same as the end: no caller can ask for anything any more.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stop.store(true, Ordering::Relaxed);
        }
    });
    stop
}

fn progress(cameras: &[Camera], elapsed: Duration) -> Report {
    let playing = cameras
        .iter()
        .filter(|camera| camera.first_frame().is_some() && camera.failure().is_none())
        .count();
    Report::Progress {
        elapsed,
        playing,
        bytes: cameras.iter().map(Camera::bytes).sum(),
    }
}

/// `None` as long as a camera has none.
fn first_pictures(cameras: &[Camera], started: Instant) -> Option<Duration> {
    cameras
        .iter()
        .map(Camera::first_frame)
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .max()
        .map(|last| last.duration_since(started))
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A number of this process that the kernel tells.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Progress {
                elapsed,
                playing,
                bytes,
            } => write!(f, "progress {} {playing} {bytes}", elapsed.as_micros()),
            Self::Used(usage) => write!(
                f,
                "used {} {} {} {} {} {}",
                usage.recorded.as_micros(),
                usage.cpu.as_micros(),
                usage.threads,
                usage.memory_kb,
                usage.first_pictures.map_or(0, |time| time.as_micros()),
                usage.bytes
            ),
            Self::Failure(camera, text) => write!(f, "failure {camera} {text}"),
        }
    }
}

impl FromStr for Report {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let unknown = || format!("the recorder said {line:?}");
        let (kind, rest) = line.split_once(' ').ok_or_else(unknown)?;
        if kind == "failure" {
            let (camera, text) = rest.split_once(' ').ok_or_else(unknown)?;
            let camera = camera.parse().map_err(|_| unknown())?;
            return Ok(Self::Failure(camera, text.to_owned()));
        }
        let numbers = rest.split(' ').map(str::parse::<u64>);
        let numbers = numbers.collect::<Result<Vec<_>, _>>();
        match (kind, numbers.map_err(|_| unknown())?.as_slice()) {
            ("progress", &[elapsed, playing, bytes]) => Ok(Self::Progress {
                elapsed: Duration::from_micros(elapsed),
                playing: playing as usize,
                bytes,
            }),
            ("used", &[recorded, cpu, threads, memory_kb, first, bytes]) => Ok(Self::Used(Usage {
                recorded: Duration::from_micros(recorded),
                cpu: Duration::from_micros(cpu),
                threads,
                memory_kb,
                first_pictures: (first > 0).then(|| Duration::from_micros(first)),
                bytes,
            })),
            _ => Err(unknown()),
        }
    }
}
