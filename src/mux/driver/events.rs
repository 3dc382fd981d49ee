//! The events that a driver reports of its connection, and the one question it asks. The pool
//! implements the trait.

use std::{fmt, time::Instant};

use crate::mux::{
    health::HealthSample,
    proto::{CredentialReport, FramingLoss, ProbeOutcome},
};

/// Something that happened to a connection.
#[derive(Debug)]
pub(crate) enum DriverEvent {
    /// The connection is established.
    Connected,
    /// The pool must give the connection to no further session: the driver saw EOF or an error, or
    /// closes it.
    Retired,
    /// The sessions of the connection go on, but no session may be added.
    NoMoreSessions,
    /// What the connection asks for, or has learned, about the credentials.
    Credentials(Instant, CredentialReport),
    /// One health sample of the connection, taken while its sessions play.
    Sampled(Instant, HealthSample),
    /// Framing was lost.
    FramingLost(Instant, FramingLoss),
    /// The server has ended one of several sessions.
    SessionLost(Instant),
    /// The machine was suspended. If the connection breaks now, that is not held against the
    /// session added last.
    Suspended,
    /// How connections of this server react to a DESCRIBE of a resource that does not exist.
    Probed(ProbeOutcome),
    /// The server asked for Digest.
    DigestSeen,
}

/// Receives the events of one connection. The driver drops it when it ends, however it ends; the
/// drop means that the connection is over.
pub(crate) trait DriverEvents: fmt::Debug + Send + Sync {
    fn handle(&self, event: DriverEvent);

    /// True if no session references the connection; then no session ever will.
    fn try_retire(&self) -> bool;
}
