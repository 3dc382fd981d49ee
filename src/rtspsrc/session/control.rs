//! Starts and controls a session task for the element: the element sets a target, the task keeps a status
//! for `stats`, and a guard keeps state changes and the task apart.
//!
//! # The guard
//!
//! A task adds elements and pads from its own thread, when the answers of the server come. A state change
//! down to READY must not remove them while the task is adding them, and the task must not add any after
//! it. So the task does such work in *sections*, one at a time. [`close`](BuildGuard::close) waits for
//! the section in progress, as deactivating a pad waits for its streaming thread, and lets no other
//! section begin.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::{glib, prelude::*};
use gstreamer as gst;
use tokio::sync::watch;

use super::{
    backchannel::BackchannelSender, seek::OnvifReplay, selection::Selection, task::SessionTask,
};
use crate::{
    mux::{
        Intent, Mux, ParameterSender, ReleaseTracker, SessionMonitor, SessionOptions, named,
        recovery::RecoveryPolicy,
    },
    rtspsrc::{
        RtspMuxSrc, lock,
        manager::{Manager, ManagerSettings},
        media::seeking::Seeking,
        report_panic, threads,
    },
};

/// Controls a session task for the element, and is shared with the task.
pub(crate) struct SessionControl {
    /// The state in which the element wants its session.
    pub(super) target: watch::Sender<TargetState>,
    /// The options of the next attempt. A session that waits for credentials begins an attempt when they
    /// are set.
    pub(crate) options: watch::Sender<SessionOptions>,
    pub(crate) build_guard: BuildGuard,
    /// Seeks, and what queries hear of the recording.
    pub(crate) seeking: Arc<Seeking>,
    pub(crate) backchannel: BackchannelSender,
    /// Statistics.
    pub(crate) monitor: SessionMonitor,
    /// Released when the task has ended, which waits for the answer to the last TEARDOWN.
    pub(crate) ended: ReleaseTracker,
    /// The task writes it, for `stats`.
    pub(crate) status: Mutex<SessionStatus>,
    /// Which of its streams the application wants.
    pub(crate) selection: Selection,
    /// Sends parameters of the present session; `None` before it is set up and after its end.
    parameters: Mutex<Option<ParameterSender>>,
}

impl SessionControl {
    pub(super) fn new(options: SessionOptions, seeking: Arc<Seeking>) -> Arc<Self> {
        Arc::new(Self {
            target: watch::Sender::new(TargetState::Paused),
            options: watch::Sender::new(options),
            build_guard: BuildGuard::default(),
            seeking,
            backchannel: BackchannelSender::default(),
            monitor: SessionMonitor::default(),
            ended: ReleaseTracker::default(),
            status: Mutex::default(),
            selection: Selection::default(),
            parameters: Mutex::default(),
        })
    }

    /// Starts the session of `element`. It has sent nothing when this returns.
    ///
    /// # Errors
    ///
    /// The system cannot start a thread.
    pub(crate) fn start(element: &RtspMuxSrc, plan: SessionPlan) -> std::io::Result<Arc<Self>> {
        // Otherwise the first connection finds out that there are none, and no state change fails.
        let runtime = plan.mux.pool().runtime();
        runtime.map_err(|error| std::io::Error::other(error.to_string()))?;
        let control = Self::new(plan.options.clone(), plan.seeking.clone());
        let task = SessionTask::new(element, plan, control.clone());
        let running = control.ended.guard();
        let task = supervise(element.downgrade(), async move {
            task.run().await;
            drop(running);
        });
        threads::spawn(task)?;
        Ok(control)
    }

    /// Runs a future to its end.
    ///
    /// # Errors
    ///
    /// The system cannot start a thread.
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
        threads::spawn(task)
    }

    pub(crate) fn parameters(&self) -> Option<ParameterSender> {
        lock(&self.parameters).clone()
    }

    pub(super) fn set_parameters(&self, sender: Option<ParameterSender>) {
        *lock(&self.parameters) = sender;
    }

    /// Sets the target of the task. Never blocks.
    pub(crate) fn set(&self, target: TargetState) {
        self.target.send_replace(target);
    }

    /// Ends the session and returns the manager that was built for it. It does not wait for the network,
    /// only for the section in which the task may be building.
    pub(crate) fn stop(&self) -> Option<Arc<dyn Manager>> {
        self.set(TargetState::Stopped);
        self.build_guard.close()
    }
}

/// Runs the task and posts an ERROR if it panics. Without this the worker thread would drop the panic
/// silently.
async fn supervise(element: glib::WeakRef<RtspMuxSrc>, task: impl Future<Output = ()>) {
    let mut task = std::pin::pin!(task);
    let outcome = std::future::poll_fn(|context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(panic)),
        }
    });
    if let (Err(panic), Some(element)) = (outcome.await, element.upgrade()) {
        report_panic(&element, &*panic);
    }
}

/// The state in which the element wants its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetState {
    /// Set up, or paused.
    Paused,
    /// Playing.
    Playing,
    /// Gone.
    Stopped,
}

/// What the session is to play, and how.
#[derive(Debug)]
pub(crate) struct SessionPlan {
    pub(crate) mux: Mux,
    pub(crate) options: SessionOptions,
    /// Has announced the session to the pool, for its first attempt.
    pub(crate) intent: Option<Intent>,
    pub(crate) manager: ManagerSettings,
    pub(crate) seeking: Arc<Seeking>,
    pub(crate) onvif: OnvifReplay,
    /// Property `media-timeout`; 0: off.
    pub(crate) media_timeout: Duration,
    pub(crate) policy: RecoveryPolicy,
}

/// Returns when the target is as wanted.
pub(crate) async fn reached(
    target: &mut watch::Receiver<TargetState>,
    wanted: impl Fn(TargetState) -> bool,
) {
    // The task holds the sender too, so there is no error.
    let _ = target.wait_for(|target| wanted(*target)).await;
}

named! {
    /// The state of a session.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum SessionState {
        /// There is no session.
        #[default]
        None = "none",
        /// The task sets it up for the first time.
        Opening = "opening",
        /// PLAY was answered.
        Playing = "playing",
        /// The task sets it up again, or waits for its turn.
        Recovering = "recovering",
        /// It waits for other credentials.
        Unauthorized = "unauthorized",
        /// It is over.
        Ended = "ended",
    }
}

/// The state of a session and its recoveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionStatus {
    pub(crate) state: SessionState,
    /// How often it stopped playing without being told to.
    pub(crate) outages: u64,
    /// Attempts in this outage, or in the last one.
    pub(crate) attempts: u32,
    /// Why it ended last; without secrets.
    pub(crate) last_error: Option<String>,
}

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
mod build_guard_tests {
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
