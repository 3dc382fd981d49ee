//! Names of things that all parts of the multiplexer speak of.

use std::fmt;

/// Names a connection; rises with every connection and is never reused within a pool.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::mux) struct ConnectionId(pub(in crate::mux) u64);

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
pub(in crate::mux) struct PresentationUri(pub(in crate::mux) String);

impl PresentationUri {
    /// Whether a control URL is below this one, and so certainly this presentation's. Camera 1 is
    /// not above the streams of camera 14: what follows has to begin something new.
    pub(in crate::mux) fn is_above(&self, control: &Self) -> bool {
        let rest = control.0.strip_prefix(self.0.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '&', ';']))
    }
}

impl fmt::Debug for PresentationUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}
