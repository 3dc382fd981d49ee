//! Plain values that all parts of the multiplexer speak of.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

/// Names a connection; rises with every connection and is never reused within a pool.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a connection is used for first. It may hold secrets, and shows nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PresentationUri(pub(crate) String);

impl PresentationUri {
    /// Whether a control URL is below this one, and so certainly this presentation's. Camera 1 is
    /// not above the streams of camera 14: what follows has to begin something new.
    pub(crate) fn is_above(&self, control: &Self) -> bool {
        let rest = control.0.strip_prefix(self.0.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '&', ';']))
    }
}

impl fmt::Debug for PresentationUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// One moment on both clocks: verdicts are dated by the one that stops with the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) monotonic: Instant,
    pub(crate) wall: SystemTime,
}

impl Moment {
    /// The wall clock's time at `at`, in seconds since 1970.
    pub(crate) fn seconds_at(&self, at: Instant) -> u64 {
        let age = self.monotonic.saturating_duration_since(at);
        self.wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .saturating_sub(age)
            .as_secs()
    }

    /// The instant of a time of the wall clock. None for what is from before the machine started, or from the future.
    pub(crate) fn instant_of(&self, seconds: u64) -> Option<Instant> {
        let then = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
        let age = self.wall.duration_since(then).ok()?;
        self.monotonic.checked_sub(age)
    }
}
