//! Decisions, each a table with its tests: no clock, lock, task or I/O. Facts and time are passed in.
//!
//! * [`placement`]: which connection a session gets.
//! * [`sharing`]: whether a server can share connections.
//! * [`next_step`]: what a session does next until it plays.
//! * [`failover`]: where a session turns after a failure.
//! * [`redial`]: when a session tries its server again.
//! * `recovery`: whether a session that ended is set up again, and what counts as its end.
//! * [`credential_gate`]: which connection may try the credentials, and how often.
//! * [`odd_session`]: which session of a connection its losses of framing come from.
//! * [`congestion`]: whether a connection carries more than its path or its server can bear.
//! * [`server_speed`]: how far away a server is and how fast it works.

pub(crate) mod congestion;
pub(super) mod credential_gate;
pub(crate) mod failover;
pub(crate) mod next_step;
pub(super) mod odd_session;
pub(crate) mod placement;
// The library is to offer it to its users later; so far the element alone recovers sessions.
#[cfg(feature = "plugin")]
pub(crate) mod recovery;
pub(super) mod redial;
pub(crate) mod server_speed;
pub(crate) mod sharing;
