//! What a process uses.

use std::time::Duration;

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

/// How often the threads that this process has now began to wait.
pub(super) fn waits() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task");
    tasks
        .into_iter()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter_map(|status| {
            let mut lines = status.lines();
            let waits = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            waits.trim().parse::<f64>().ok()
        })
        .sum()
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
