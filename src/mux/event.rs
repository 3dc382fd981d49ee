//! What the multiplexer tells of its own accord.

use std::fmt;

use tokio::sync::broadcast::{self, error::RecvError};

use super::{sharing, strain::Strain};

/// Whether a server may carry several sessions on one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SharingVerdict {
    /// It has not shown yet.
    #[default]
    Unknown,
    /// It can.
    Yes,
    /// It cannot: its sessions get a connection each.
    No,
}

impl From<sharing::Verdict> for SharingVerdict {
    fn from(verdict: sharing::Verdict) -> Self {
        match verdict {
            sharing::Verdict::Unknown => Self::Unknown,
            sharing::Verdict::Yes { .. } => Self::Yes,
            sharing::Verdict::No { .. } => Self::No,
        }
    }
}

/// A server's verdict has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharingChange {
    /// Host and port.
    pub server: String,
    /// What it is now.
    pub verdict: SharingVerdict,
    /// Why it cannot share, if so.
    pub reason: Option<String>,
}

impl fmt::Display for SharingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, reason) = (&self.server, self.reason.as_deref().unwrap_or_default());
        match self.verdict {
            SharingVerdict::Yes => write!(f, "{server}: sessions share connections"),
            SharingVerdict::No => write!(f, "{server}: sessions get a connection each: {reason}"),
            SharingVerdict::Unknown => write!(f, "{server}: whether sessions share is open again"),
        }
    }
}

/// A limit of the user's stands in the way: sessions of a server suffer, and would not on one more
/// connection. Told once in ten minutes for a server, as long as it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLimit {
    /// Host and port.
    pub server: String,
    /// The setting: `max-connections-per-server`.
    pub limit: &'static str,
    /// Its value.
    pub value: u32,
    /// What the sessions suffer from.
    pub reason: Strain,
}

impl fmt::Display for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
            limit,
            value,
            reason,
        } = self;
        write!(f, "{limit}={value} holds up sessions of {server}: {reason}")
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MuxEvent {
    /// A server's verdict has changed.
    Sharing(SharingChange),
    /// A limit of the user's stands in the way.
    Limit(ConnectionLimit),
}

/// The events of a [`Mux`](super::Mux), from the moment it was made on. Who does not keep up loses
/// the oldest.
#[derive(Debug)]
pub struct MuxEvents(broadcast::Receiver<MuxEvent>);

impl MuxEvents {
    pub(super) fn new(receiver: broadcast::Receiver<MuxEvent>) -> Self {
        Self(receiver)
    }

    /// The next event; none once the last clone of the [`Mux`](super::Mux) is gone. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<MuxEvent> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The next event if there is one.
    pub fn try_next(&mut self) -> Option<MuxEvent> {
        loop {
            match self.0.try_recv() {
                Ok(event) => return Some(event),
                Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return None,
            }
        }
    }
}
