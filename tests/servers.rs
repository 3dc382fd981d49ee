//! Every family of servers, with one camera and with many, started together and one after another.
//!
//! Over TCP, through the public API, with the default options. In every case each camera plays or fails with its
//! own error, no packet reaches another camera's session, and a session that plays gets every packet the server
//! sends it while others are tried.
#![allow(clippy::unwrap_used, reason = "a test binary")]

mod support;

#[path = "servers/case.rs"]
mod case;
#[path = "servers/families.rs"]
mod families;
#[path = "servers/figures.rs"]
mod figures;
#[path = "servers/watch.rs"]
mod watch;
