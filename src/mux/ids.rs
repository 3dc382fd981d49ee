//! Identifiers and plain values that all modules of the multiplexer use.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

/// An enumeration whose values have names in messages and statistics.
macro_rules! named {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $type:ident { $($(#[$doc:meta])* $value:ident = $name:literal,)* }
    ) => {
        $(#[$meta])*
        $visibility enum $type { $($(#[$doc])* $value,)* }

        impl $type {
            /// As messages and statistics have it.
            $visibility fn name(self) -> &'static str {
                match self { $(Self::$value => $name,)* }
            }
        }
    };
}
pub(crate) use named;

/// Names a connection. Ids rise with every connection and are never reused within a pool; the default is
/// before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// The URI of the presentation for which a connection is first used. It may hold secrets, so
/// `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PresentationUri(pub(crate) String);

impl PresentationUri {
    /// True if a control URL is below this URI, and so belongs to this presentation. The rest of
    /// the URL has to start a new path segment: camera 1 is not above the streams of camera 14.
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

/// One moment on both clocks: the state file dates verdicts by the wall clock, because `Instant`
/// ends with the process.
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

    /// The instant of a wall-clock time. `None` for a time before the machine started, or in the
    /// future.
    pub(crate) fn instant_of(&self, seconds: u64) -> Option<Instant> {
        let then = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
        let age = self.wall.duration_since(then).ok()?;
        self.monotonic.checked_sub(age)
    }
}
