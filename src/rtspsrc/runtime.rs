//! The timers of session tasks and of receiver reports.
//!
//! The tasks themselves run on the threads of the [worker pool](super::threads), which downstream may hold; a
//! timer rings all the same. Nor are these the multiplexer's threads, which an application may bring
//! along. The runtime is made by the first element that is started and stays: a plugin is never
//! unloaded.

use std::{io, sync::Mutex};

use tokio::runtime::{Builder, Handle, Runtime};

use super::lock;

/// The runtime of all timers.
///
/// # Errors
///
/// The system gives no thread; the next call tries again.
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
