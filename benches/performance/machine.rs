//! The machine: what it is, and which processor a process may use.

use std::{fmt, num::NonZero, thread::available_parallelism};

use gstreamer as gst;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{Outcome, arguments::Arguments};

/// Restricts the process, as long as it has one thread, to the processor `cpu=`, if there is one.
pub(crate) fn pin(arguments: &Arguments) -> Outcome {
    if let Some(cpu) = arguments.optional("cpu")? {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set)?;
    }
    Ok(())
}

/// What figures depend on.
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    load: String,
    receive_buffer: String,
    congestion: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let information = read("/proc/cpuinfo");
        let model = information
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split(':').nth(1));
        Self {
            processor: model.unwrap_or(std::env::consts::ARCH).trim().to_owned(),
            cores: available_parallelism().map_or(1, NonZero::get),
            kernel: read("/proc/sys/kernel/osrelease"),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or("?")
                .to_owned(),
            receive_buffer: read("/proc/sys/net/core/rmem_max"),
            congestion: read("/proc/sys/net/ipv4/tcp_congestion_control"),
        }
    }

    /// Whether server and client can have a core each.
    pub(crate) fn can_pin(&self) -> bool {
        self.cores >= 2
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, micro, _) = gst::version();
        write!(
            f,
            "{}, {} cores, Linux {}, GStreamer {major}.{minor}.{micro}, rmem_max {}, congestion control {}; \
             load {} at the start",
            self.processor,
            self.cores,
            self.kernel,
            self.receive_buffer,
            self.congestion,
            self.load
        )
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
