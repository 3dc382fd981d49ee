//! What the element and the task of its session share: the target that the element sets, and the status
//! that the task keeps for `stats`.

use std::{sync::Mutex, time::Duration};

use tokio::sync::watch;

use crate::{
    mux::{Intent, Mux, SessionOptions, recovery::RecoveryPolicy},
    rtspsrc::{lock, manager::ManagerChoice},
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

/// Where a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// There is no session.
    #[default]
    None,
    /// It is being set up for the first time.
    Opening,
    /// PLAY was answered.
    Playing,
    /// It is being set up again.
    Recovering,
    /// It waits for other credentials.
    Unauthorized,
    /// It is over.
    Ended,
}

impl SessionState {
    /// As `stats` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Opening => "opening",
            Self::Playing => "playing",
            Self::Recovering => "recovering",
            Self::Unauthorized => "unauthorized",
            Self::Ended => "ended",
        }
    }
}

/// What is known of a session's recoveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionStatus {
    pub(crate) state: SessionState,
    /// Times it stopped playing by itself.
    pub(crate) outages: u64,
    /// Attempts in the present outage, or in the last one.
    pub(crate) attempts: u32,
    /// Why it ended last; without secrets.
    pub(crate) last_error: Option<String>,
}

/// The standing of one session, written by its task.
#[derive(Debug, Default)]
pub(crate) struct SharedStatus(Mutex<SessionStatus>);

impl SharedStatus {
    pub(crate) fn change(&self, change: impl FnOnce(&mut SessionStatus)) {
        change(&mut lock(&self.0));
    }

    pub(crate) fn status(&self) -> SessionStatus {
        lock(&self.0).clone()
    }
}
