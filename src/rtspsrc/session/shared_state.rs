//! What the element and the task of its session share: the target that the element sets, and the status
//! that the task keeps for `stats`.

use std::{sync::Mutex, time::Duration};

use tokio::sync::watch;

use crate::{
    mux::{Intent, Mux, SessionOptions, recovery::RecoveryPolicy},
    rtspsrc::{lock, manager::ManagerChoice},
};

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
    pub(crate) manager: ManagerChoice,
    pub(crate) latency_ms: u32,
    /// Property `media-timeout`; 0: off.
    pub(crate) media_timeout: Duration,
    pub(crate) policy: RecoveryPolicy,
}

/// Returns when the target is as wanted, or the element is gone.
pub(crate) async fn reached(
    target: &mut watch::Receiver<TargetState>,
    wanted: impl Fn(TargetState) -> bool,
) {
    // An error means that the control was dropped: the caller looks at the target again.
    let _ = target.wait_for(|target| wanted(*target)).await;
}

/// The state of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// There is no session.
    #[default]
    None,
    /// The task sets it up for the first time.
    Opening,
    /// PLAY was answered.
    Playing,
    /// The task sets it up again, or waits for its turn.
    Recovering,
    /// It waits for other credentials.
    Unauthorized,
    /// It is over.
    Ended,
}

impl SessionState {
    /// Its name in `stats`.
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

/// The status of one session, which its task writes.
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
