//! Events that the multiplexer reports without being asked.

use std::{fmt, path::PathBuf};

use super::ids::named;
use tokio::sync::broadcast::{self, error::RecvError};

named! {
    /// Whether a server may carry several sessions on one connection.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub enum SharingVerdict {
        /// Not known yet.
        #[default]
        Unknown = "unknown",
        /// The server can share connections.
        Yes = "yes",
        /// The server cannot: each of its sessions gets a connection of its own.
        No = "no",
    }
}

/// A server's verdict has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharingChange {
    /// Host and port.
    pub server: String,
    /// The present verdict.
    pub verdict: SharingVerdict,
    /// Why the server cannot share, if it cannot.
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

named! {
    /// Why a connection is congested.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
    #[non_exhaustive]
    pub enum Congestion {
        /// The network path to the server loses segments, and one TCP window is too small for the data
        /// rate of the connection.
        #[error("the path to the server loses segments")]
        Path = "path",
        /// The server leaves out packets of several sessions at once.
        #[error("the server leaves out packets of several sessions")]
        Losses = "losses",
        /// The server answers late: its answers wait behind the media.
        #[error("the server answers late")]
        LateAnswers = "late-answers",
    }
}

/// A limit that the user set is too low: sessions of a server are congested, and would not be on
/// one more connection. Reported once in ten minutes for each server while that is so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{limit}={value} holds up sessions of {server}: {reason}")]
pub struct ConnectionLimit {
    /// Host and port.
    pub server: String,
    /// The setting: `max-connections-per-server`.
    pub limit: &'static str,
    /// Its value.
    pub value: u32,
    /// Why the sessions are congested.
    pub reason: Congestion,
}

/// The [state file](super::MuxBuilder::state) cannot be used: what was learned is lost when the
/// process ends. Reported once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("state file {}: {reason}", .path.display())]
pub struct StateFileProblem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with the file.
    pub reason: String,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MuxEvent {
    /// A server's verdict has changed.
    Sharing(SharingChange),
    /// A limit that the user set is too low.
    Limit(ConnectionLimit),
    /// The state file cannot be used.
    StateFile(StateFileProblem),
}

/// The events of a [`Mux`](super::Mux), from its construction on. The first one says what was wrong
/// with its state file, if anything was. A receiver that does not keep up loses the oldest events.
#[derive(Debug)]
pub struct MuxEvents {
    receiver: broadcast::Receiver<MuxEvent>,
    /// The problem existed before the receiver, and is reported first.
    earlier: Option<StateFileProblem>,
}

impl MuxEvents {
    pub(crate) fn new(
        receiver: broadcast::Receiver<MuxEvent>,
        earlier: Option<StateFileProblem>,
    ) -> Self {
        Self { receiver, earlier }
    }

    /// The next event; `None` once the last clone of the [`Mux`](super::Mux) is dropped. Dropping
    /// the future loses nothing.
    pub async fn next(&mut self) -> Option<MuxEvent> {
        if let Some(problem) = self.earlier.take() {
            return Some(MuxEvent::StateFile(problem));
        }
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
