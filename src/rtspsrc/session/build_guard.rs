//! Where a session task builds what belongs to GStreamer, and how a state change takes it away.
//!
//! A task adds elements and pads from its own thread, at a time the network decides. A state change
//! down to READY must not pull them away in the middle, and nothing may be added behind its back.
//! So such work is done in *sections*, one at a time; closing waits for the section in progress, as
//! deactivating a pad waits for its streaming thread, and no other begins.

use std::sync::{Arc, Mutex};

use crate::rtspsrc::{lock, manager::Manager};

/// The stage of one session.
#[derive(Default)]
pub(crate) struct BuildGuard {
    /// Held for a section. Never taken with another lock of ours held.
    section: Mutex<()>,
    /// Held for no call into GStreamer.
    slot: Mutex<Slot>,
}

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Built(Arc<dyn Manager>),
    Closed,
}

impl BuildGuard {
    /// Runs `build` as a section and keeps what it makes; none if the stage is closed.
    pub(crate) fn build<E>(
        &self,
        build: impl FnOnce() -> Result<Arc<dyn Manager>, E>,
    ) -> Option<Result<Arc<dyn Manager>, E>> {
        let _section = lock(&self.section);
        if matches!(*lock(&self.slot), Slot::Closed) {
            return None;
        }
        Some(build().inspect(|manager| *lock(&self.slot) = Slot::Built(manager.clone())))
    }

    /// Runs `work` as a section on what was built; none if there is nothing, or no longer.
    pub(crate) fn work<T>(&self, work: impl FnOnce(&dyn Manager) -> T) -> Option<T> {
        let _section = lock(&self.section);
        let manager = self.manager()?;
        Some(work(&*manager))
    }

    /// What was built. It may be closed while it is used: pushing into it then fails.
    pub(crate) fn manager(&self) -> Option<Arc<dyn Manager>> {
        match &*lock(&self.slot) {
            Slot::Built(manager) => Some(manager.clone()),
            Slot::Empty | Slot::Closed => None,
        }
    }

    /// Waits for the section in progress and lets no other begin; gives what was built.
    pub(crate) fn close(&self) -> Option<Arc<dyn Manager>> {
        let _section = lock(&self.section);
        let manager = self.manager();
        *lock(&self.slot) = Slot::Closed;
        manager
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_built_on_a_closed_stage() {
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
    fn a_build_that_fails_leaves_the_stage_open() {
        let build_guard = BuildGuard::default();
        assert!(matches!(build_guard.build(|| Err("no")), Some(Err("no"))));
        assert!(matches!(
            build_guard.build(|| Err("again")),
            Some(Err("again"))
        ));
    }
}
