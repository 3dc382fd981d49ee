//! Starts and controls a session task for the element.

use std::{panic::AssertUnwindSafe, sync::Arc};

use gst::{glib, prelude::*};
use gstreamer as gst;
use tokio::sync::watch;

use super::{
    build_guard::BuildGuard,
    shared_state::{SessionPlan, SessionStatus, SharedStatus, TargetState},
    task::{SessionTask, TaskEnds},
};
use crate::{
    mux::{SessionMonitor, SessionOptions},
    rtspsrc::{RtspMuxSrc, manager::Manager, panics, threads},
};

/// Controls a session task for the element. Dropping it stops the task.
pub(crate) struct SessionControl {
    target: watch::Sender<TargetState>,
    options: watch::Sender<SessionOptions>,
    build_guard: Arc<BuildGuard>,
    monitor: SessionMonitor,
    status: Arc<SharedStatus>,
}

impl SessionControl {
    /// Starts the session of `element`. It has sent nothing when this returns.
    ///
    /// # Errors
    ///
    /// The system cannot start a thread.
    pub(crate) fn start(element: &RtspMuxSrc, plan: SessionPlan) -> std::io::Result<Self> {
        let (target, targets) = watch::channel(TargetState::Paused);
        let (options, latest) = watch::channel(plan.options.clone());
        let control = Self {
            target,
            options,
            build_guard: Arc::default(),
            monitor: SessionMonitor::default(),
            status: Arc::default(),
        };
        let ends = TaskEnds {
            target: targets,
            latest,
            build_guard: Arc::clone(&control.build_guard),
            monitor: control.monitor.clone(),
            status: Arc::clone(&control.status),
        };
        let task = SessionTask::new(element, plan, ends);
        let task = supervise(element.downgrade(), task.run());
        threads::spawn(task)?;
        Ok(control)
    }

    /// Sets the target of the task. Never blocks.
    pub(crate) fn set(&self, target: TargetState) {
        self.target.send_replace(target);
    }

    /// Sets the options of the next attempt. A session that waits for credentials begins an attempt.
    pub(crate) fn set_options(&self, options: SessionOptions) {
        self.options.send_replace(options);
    }

    /// Ends the session and returns the manager that was built for it. It does not wait for the network,
    /// only for the section in which the task may be building.
    pub(crate) fn stop(&self) -> Option<Arc<dyn Manager>> {
        self.set(TargetState::Stopped);
        self.build_guard.close()
    }

    /// The manager that was built for the session, if it has come so far.
    pub(crate) fn manager(&self) -> Option<Arc<dyn Manager>> {
        self.build_guard.manager()
    }

    /// Statistics, and the wait for the answer to the last TEARDOWN.
    pub(crate) fn monitor(&self) -> &SessionMonitor {
        &self.monitor
    }

    /// The status of the session.
    pub(crate) fn status(&self) -> SessionStatus {
        self.status.status()
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
        panics::report(&element, &*panic);
    }
}
