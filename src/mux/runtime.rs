//! The runtime that drivers run on.

use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Handle, Runtime};

use super::error::{Error, ErrorKind, Initiator, Scope};

/// The runtime shared by all [`Mux`](super::Mux) that were built without one; made when the first
/// of them connects.
static SHARED: Mutex<Option<Runtime>> = Mutex::new(None);

/// The user's runtime, or the shared one from its first use on.
#[derive(Debug, Default)]
pub(crate) struct RuntimeChoice(OnceLock<Handle>);

impl RuntimeChoice {
    pub(crate) fn new(handle: Option<Handle>) -> Self {
        Self(handle.map_or_else(OnceLock::new, OnceLock::from))
    }

    /// The runtime, if it has been used.
    pub(crate) fn get(&self) -> Option<&Handle> {
        self.0.get()
    }

    pub(crate) fn handle(&self) -> Result<&Handle, Error> {
        if let Some(handle) = self.0.get() {
            return Ok(handle);
        }
        let shared = shared()?;
        Ok(self.0.get_or_init(|| shared))
    }
}

fn shared() -> Result<Handle, Error> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*shared {
        return Ok(runtime.handle().clone());
    }
    // One thread is enough for all connections: it only moves bytes.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("rtspmux-io")
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| {
        let explanation = format!("cannot start the runtime: {error}");
        Error::new(
            ErrorKind::Runtime,
            Scope::Connection,
            Initiator::Library,
            explanation,
        )
    })?;
    Ok(shared.insert(runtime).handle().clone())
}
