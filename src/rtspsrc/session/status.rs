//! How a session stands, for those who look at the element from outside.

use std::sync::Mutex;

use crate::rtspsrc::lock;

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
