//! Decisions, each a table with its tests: no clock, lock, task or I/O. Facts and time are passed in.
//!
//! * [`credential_gate`]: which connection may try the credentials, and how often.
//! * [`sharing`]: whether a server can share connections.
//! * [`unanswered`]: which URIs are described where nothing plays, because their DESCRIBE was not answered.

pub(crate) mod congestion;
pub(super) mod credential_gate;
pub(crate) mod failover;
pub(super) mod join_history;
pub(super) mod odd_session;
pub(crate) mod placement;
pub(super) mod redial;
pub(crate) mod server_speed;
pub(crate) mod sharing;
pub(super) mod unanswered;
