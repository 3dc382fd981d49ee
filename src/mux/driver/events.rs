//! What a driver tells of its connection, and what it asks. The pool implements it.

use std::{fmt, time::Instant};

use crate::mux::{
    health::HealthSample,
    proto::{CredentialReport, FramingLoss, ProbeOutcome},
};

/// Something that happened to a connection.
#[derive(Debug)]
pub(crate) enum DriverEvent {
    /// The connection is there.
    Connected,
    /// No session is to get the connection any more: the driver saw EOF or an error, or closes it.
    Retired,
    /// The sessions that the connection has go on, others must not be added.
    NoMoreSessions,
    /// What the connection asks or has learned of the credentials.
    Credentials(Instant, CredentialReport),
    /// What the connection has shown in a period while its sessions played.
    Sampled(Instant, HealthSample),
    /// Framing was lost.
    FramingLost(Instant, FramingLoss),
    /// The server has ended one of several sessions.
    SessionLost(Instant),
    /// The machine was suspended. What breaks off now is not held against the session added last.
    Suspended,
    /// What a DESCRIBE of nothing does to connections of this server.
    Probed(ProbeOutcome),
    /// The server asked for Digest.
    DigestSeen,
}

/// Hears what happens to one connection. Dropped with the driver, however that ends: then the connection
/// is over.
pub(crate) trait DriverEvents: fmt::Debug + Send + Sync {
    fn handle(&self, event: DriverEvent);

    /// True if no session references the connection; then none ever will.
    fn try_retire(&self) -> bool;
}
