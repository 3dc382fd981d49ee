//! What can be seen while it records: one line that changes, or a line a second where there is no
//! terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

pub(crate) struct Progress {
    cameras: usize,
    is_terminal: bool,
    /// When the next line is due.
    next: Duration,
}

impl Progress {
    pub(crate) fn new(cameras: usize) -> Self {
        Self {
            cameras,
            is_terminal: std::io::stdout().is_terminal(),
            next: Duration::from_secs(1),
        }
    }

    pub(crate) fn show(&mut self, elapsed: Duration, playing: usize, bytes: u64) {
        let line = format!(
            "{:5.1} s   {playing} of {} cameras playing   {}",
            elapsed.as_secs_f32(),
            self.cameras,
            megabytes(bytes)
        );
        if self.is_terminal {
            print!("\r\x1b[K{line}");
            // A terminal that is gone is no reason to stop recording.
            let _ = std::io::stdout().flush();
        } else if elapsed >= self.next {
            self.next += Duration::from_secs(1);
            println!("{line}");
        }
    }

    pub(crate) fn finish(&self) {
        if self.is_terminal {
            println!();
        }
    }
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
