//! What the multiplexer tells of its own accord.

use tokio::sync::broadcast::{self, error::RecvError};

use super::sharing;

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

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MuxEvent {
    /// A server's verdict has changed.
    Sharing(SharingChange),
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
