//! What a process uses.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// CPU time of this process, all threads and the kernel for them.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of another process, of the threads it has now.
pub(super) fn cpu_time_of(process: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let nanoseconds = tasks
        .into_iter()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(nanoseconds)
}

/// How often each thread of this process began to wait so far, by its number.
pub(super) struct Waits(BTreeMap<OsString, u64>);

impl Waits {
    pub(super) fn now() -> Self {
        let tasks = std::fs::read_dir("/proc/self/task");
        let tasks = tasks.into_iter().flatten().flatten();
        let waits = tasks.filter_map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let mut lines = status.lines();
            let waits = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            Some((task.file_name(), waits.trim().parse().ok()?))
        });
        Self(waits.collect())
    }

    /// How often the threads that are there now have waited since `before`.
    pub(super) fn since(&self, before: &Self) -> u64 {
        let threads = self.0.iter();
        let waits = threads.map(|(thread, waits)| {
            let before = before.0.get(thread).copied().unwrap_or_default();
            waits.saturating_sub(before)
        });
        waits.sum()
    }
}

/// Threads and resident memory in MB, of this process or another one.
pub(super) fn threads_and_memory(process: &str) -> (f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let threads = value("Threads:").unwrap_or(0.0);
    (threads, value("VmRSS:").unwrap_or(0.0) / 1000.0)
}
