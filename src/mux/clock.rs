//! Time, timers, threads and random numbers, for all modules of `mux` that are not pure.
//!
//! Only this file and the [driver](super::driver), which has the timers of its connection, read a
//! clock, set a timer or start a thread; `clippy.toml` bans that elsewhere. Pure code gets the time
//! as an argument.
#![expect(clippy::disallowed_methods, reason = "clocks and timers belong here")]

use std::{
    collections::hash_map::RandomState,
    future::Future,
    hash::BuildHasher,
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::watch,
    time::{Timeout, sleep_until},
};

use super::{
    error::{Error, ErrorKind},
    ids::Moment,
};

/// The present time. Follows tokio's clock, which tests can stop.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The time on both clocks.
pub(crate) fn moment() -> Moment {
    Moment {
        monotonic: now(),
        wall: std::time::SystemTime::now(),
    }
}

/// The time of the system's clock.
pub(crate) fn since_1970() -> Duration {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    wall.unwrap_or_default()
}

/// The future's output, or an error if it takes longer than `limit`. The timer belongs to the
/// runtime, so the result may be awaited on any thread.
pub(crate) fn within<F: Future>(runtime: &Handle, limit: Duration, future: F) -> Timeout<F> {
    let _context = runtime.enter();
    tokio::time::timeout(limit, future)
}

/// Runs `work` after `wait`, if the runtime still exists then.
pub(crate) fn later(runtime: &Handle, wait: Duration, work: impl FnOnce() + Send + 'static) {
    let _context = runtime.enter();
    let due = tokio::time::Instant::now() + wait;
    runtime.spawn(async move {
        sleep_until(due).await;
        work();
    });
}

/// Runs `work`, which may block, on a new thread.
pub(crate) fn in_background(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(drop)
}

/// An error if the system gives no thread. A runtime that is built then would panic.
fn try_thread() -> io::Result<()> {
    let thread = std::thread::Builder::new().name("rtspmux-try".to_owned());
    // Joined, so that there is room for one more thread. It does not panic.
    thread.spawn(|| {}).map(|thread| _ = thread.join())
}

/// The future's output; `None` as soon as one of the two watched values changes, or after `limit`.
pub(crate) async fn unless_changed<F: Future, A, B>(
    runtime: &Handle,
    limit: Option<Duration>,
    future: Pin<&mut F>,
    one: &mut watch::Receiver<A>,
    other: &mut watch::Receiver<B>,
) -> Option<F::Output> {
    let first = async {
        tokio::select! {
            biased;
            output = future => Some(output),
            // The sender is gone, so the value will not change.
            Ok(()) = one.changed() => None,
            Ok(()) = other.changed() => None,
            else => None,
        }
    };
    match limit {
        Some(limit) => within(runtime, limit, first).await.ok().flatten(),
        None => first.await,
    }
}

/// 128 random bits, from the system's random keys for hash tables.
pub(crate) fn random_seed() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(0_u8));
    (half() << 64) | half()
}

/// A random number from 0 to 1.
pub(crate) fn chance() -> f64 {
    f64::from(random_seed() as u32) / f64::from(u32::MAX)
}

/// The runtime of all [`Mux`](super::Mux) that were built without one; made when the first of them
/// connects. One thread is enough for all connections: it only moves bytes.
pub(crate) fn shared_runtime() -> Result<Handle, Error> {
    static SHARED: Mutex<Option<Runtime>> = Mutex::new(None);

    let mut slot = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*slot {
        return Ok(runtime.handle().clone());
    }
    let build = || {
        try_thread()?;
        let mut builder = Builder::new_multi_thread();
        let builder = builder.worker_threads(1).thread_name("rtspmux-io");
        builder.enable_all().build()
    };
    let runtime = build().map_err(|error| {
        let explanation = format!("cannot start the runtime: {error}");
        Error::new(ErrorKind::Runtime, explanation)
    })?;
    Ok(slot.insert(runtime).handle().clone())
}
