//! What the element wants of its session: which state, and what is to be played.

use std::time::Duration;

use tokio::sync::watch;

use crate::{
    mux::{Intent, Mux, SessionOptions, recovery::RecoveryPolicy},
    rtspsrc::manager::ManagerChoice,
};

/// Where the element wants its session to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Set up, or paused.
    Paused,
    /// Playing.
    Playing,
    /// Gone.
    Stopped,
}

/// What a session is to be.
#[derive(Debug)]
pub(crate) struct SessionPlan {
    pub(crate) mux: Mux,
    pub(crate) options: SessionOptions,
    /// Announced the session, for its first attempt.
    pub(crate) intent: Option<Intent>,
    pub(crate) manager: ManagerChoice,
    pub(crate) latency_ms: u32,
    /// `media-timeout`; 0: off.
    pub(crate) media_timeout: Duration,
    pub(crate) policy: RecoveryPolicy,
}

/// Returns once the target is as wanted, or the element is gone.
pub(crate) async fn reached(target: &mut watch::Receiver<Target>, wanted: impl Fn(Target) -> bool) {
    // An error means that the control was dropped: the caller looks at the target again.
    let _ = target.wait_for(|target| wanted(*target)).await;
}
