//! Guards the elements and pads that a session task builds against state changes.
//!
//! A task adds elements and pads from its own thread, when the answers of the server come. A state change
//! down to READY must not remove them while the task is adding them, and the task must not add any after
//! it. So the task does such work in *sections*, one at a time. [`close`](BuildGuard::close) waits for
//! the section in progress, as deactivating a pad waits for its streaming thread, and lets no other
//! section begin.

use std::sync::{Arc, Mutex};

use crate::rtspsrc::{lock, manager::Manager};

/// The guard of one session.
#[derive(Default)]
pub(crate) struct BuildGuard {
    /// Held during a section. No thread takes it while it holds another lock of this crate.
    section: Mutex<()>,
    /// No thread holds it during a call into GStreamer.
    slot: Mutex<GuardState>,
}

#[derive(Default)]
enum GuardState {
    #[default]
    Empty,
    Built(Arc<dyn Manager>),
    Closed,
}

impl BuildGuard {
    /// Runs `build` as a section and keeps the manager that it makes. Returns `None` if the guard is
    /// closed.
    pub(crate) fn build<E>(
        &self,
        build: impl FnOnce() -> Result<Arc<dyn Manager>, E>,
    ) -> Option<Result<Arc<dyn Manager>, E>> {
        let _section = lock(&self.section);
        if matches!(*lock(&self.slot), GuardState::Closed) {
            return None;
        }
        Some(build().inspect(|manager| *lock(&self.slot) = GuardState::Built(manager.clone())))
    }

    /// Runs `work` as a section on the manager. Returns `None` if there is none, or the guard is closed.
    pub(crate) fn work<T>(&self, work: impl FnOnce(&dyn Manager) -> T) -> Option<T> {
        let _section = lock(&self.section);
        let manager = self.manager()?;
        Some(work(&*manager))
    }

    /// The manager that was built. A state change may close the guard while a thread uses the manager:
    /// its pushes then fail.
    pub(crate) fn manager(&self) -> Option<Arc<dyn Manager>> {
        match &*lock(&self.slot) {
            GuardState::Built(manager) => Some(manager.clone()),
            GuardState::Empty | GuardState::Closed => None,
        }
    }

    /// Waits for the section in progress and lets no other begin. Returns the manager that was built.
    pub(crate) fn close(&self) -> Option<Arc<dyn Manager>> {
        let _section = lock(&self.section);
        let manager = self.manager();
        *lock(&self.slot) = GuardState::Closed;
        manager
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_built_with_a_closed_guard() {
        let build_guard = BuildGuard::default();
        assert!(build_guard.close().is_none());
        assert!(
            build_guard
                .build(|| -> Result<_, ()> { unreachable!() })
                .is_none()
        );
        assert!(build_guard.work(|_| ()).is_none());
        assert!(build_guard.manager().is_none());
    }

    #[test]
    fn a_build_that_fails_leaves_the_guard_open() {
        let build_guard = BuildGuard::default();
        assert!(matches!(build_guard.build(|| Err("no")), Some(Err("no"))));
        assert!(matches!(
            build_guard.build(|| Err("again")),
            Some(Err("again"))
        ));
    }
}
