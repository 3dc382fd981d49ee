//! The threads that feed pads.
//!
//! Whatever waits for the network runs on a runtime, never in a state change. It is not the
//! multiplexer's: pushing a buffer runs downstream's code, which may block for as long as it likes,
//! and the tasks that read sockets must not stand behind it. So there are two: the multiplexer's
//! drives sockets, this one, shared by all elements of the process, runs their session tasks.
//! It is made by the first element that is started and stays: a plugin is never unloaded.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use tokio::runtime::{Builder, Handle, Runtime};

/// With `rtpbin` a push ends in the jitterbuffer's queue, so one thread feeds 64 streams; the
/// second one keeps the others going while the first is in an application's `pad-added` handler.
const FEEDERS: usize = 2;

/// The runtime of all session tasks.
///
/// # Errors
///
/// The system gives no threads; the next call tries again.
pub(super) fn feeders() -> io::Result<Handle> {
    static FEED: Mutex<Option<Runtime>> = Mutex::new(None);

    let mut feed = FEED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = feed.as_ref() {
        return Ok(runtime.handle().clone());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(FEEDERS)
        .thread_name("rtspmux-feed")
        .enable_time()
        .build()?;
    Ok(feed.insert(runtime).handle().clone())
}
