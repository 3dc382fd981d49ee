//! What can be seen while it records: one line that changes, or a line a second where there is no
//! terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::camera::Camera;

pub(crate) struct Progress {
    started: Instant,
    is_terminal: bool,
    /// When the next line is due.
    next: Duration,
}

impl Progress {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            is_terminal: std::io::stdout().is_terminal(),
            next: Duration::from_secs(1),
        }
    }

    pub(crate) fn show(&mut self, cameras: &[Camera]) {
        let elapsed = self.started.elapsed();
        if self.is_terminal {
            print!("\r\x1b[K{}", line(cameras, elapsed));
            // A terminal that is gone is no reason to stop recording.
            let _ = std::io::stdout().flush();
        } else if elapsed >= self.next {
            self.next += Duration::from_secs(1);
            println!("{}", line(cameras, elapsed));
        }
    }

    pub(crate) fn finish(&mut self, cameras: &[Camera]) {
        if self.is_terminal {
            self.show(cameras);
            println!();
        }
    }
}

fn line(cameras: &[Camera], elapsed: Duration) -> String {
    let playing = cameras
        .iter()
        .filter(|camera| camera.first_frame().is_some() && camera.failure().is_none())
        .count();
    let bytes: u64 = cameras.iter().map(Camera::bytes).sum();
    format!(
        "{:5.1} s   {playing} of {} cameras playing   {}",
        elapsed.as_secs_f32(),
        cameras.len(),
        megabytes(bytes)
    )
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
