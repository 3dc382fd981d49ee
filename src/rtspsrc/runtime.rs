//! The timers of session tasks and of receiver reports.
//!
//! The tasks themselves run on the threads of the [worker pool](super::threads). A sink may block all of
//! those, and the timers still have to ring, so they have a thread of their own. It is not a thread of
//! the multiplexer either, as an application may supply those. The first element that starts makes the
//! runtime, and it stays for the life of the process: GStreamer never unloads a plugin.

use std::{io, sync::Mutex};

use tokio::runtime::{Builder, Handle, Runtime};

use super::lock;

/// The runtime of all timers.
///
/// # Errors
///
/// The system cannot start a thread. The next call tries again.
pub(crate) fn timers() -> io::Result<Handle> {
    static TIMERS: Mutex<Option<Runtime>> = Mutex::new(None);

    let mut timers = lock(&TIMERS);
    if let Some(runtime) = timers.as_ref() {
        return Ok(runtime.handle().clone());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("rtspmux-time")
        .enable_time()
        .build()?;
    Ok(timers.insert(runtime).handle().clone())
}
