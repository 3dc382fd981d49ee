//! RTSP session multiplexer: many cameras of one server over **one** RTSP connection.
//!
//! Every other RTSP client opens a TCP connection per stream. This one opens a connection per
//! *server* and runs many SETUP/PLAY sessions on it, their media interleaved (RFC 2326 10.12) and
//! told apart by channel. It is a library for tokio ([`mux`]) and a GStreamer source element,
//! `rtspmuxsrc` ([`rtspsrc`], feature `plugin`), that takes the place of `rtspsrc`.
//!
//! # Layout
//!
//! Dependencies point one way: `rtspsrc -> mux -> mux::proto`; `docs/architecture.md` has the map.
//!
//! | module | what is in it |
//! |---|---|
//! | [`mux`] | the public face of the multiplexer: [`Mux`](mux::Mux), sessions, errors, statistics |
//! | `mux::session` | one session, from open to teardown |
//! | `mux::connection_pool` | the shared state: connections, references, limits, servers |
//! | `mux::policy` | pure decisions: which connection, whether to share, when to try again |
//! | `mux::driver` | one task per connection: socket, TLS, timer |
//! | `mux::delivery` | the bounded queue between the reader and one session's consumer |
//! | [`mux::proto`] | the protocol as a state machine without I/O: bytes and time in, bytes and events out |
//! | [`rtspsrc`] | everything GStreamer: the element, caps from SDP, pads, the RTP manager |
//!
//! # One packet, from socket to pad
//!
//! The driver reads into chunks that go round. The codec cuts `$ channel length payload` out of
//! them without a copy; the channel table names session and stream; the packet goes, with all that
//! was read together, into that session's bounded queue, and if the queue is full something is
//! dropped there and counted ([`OverflowPolicy`](mux::OverflowPolicy)). **The reader never waits**,
//! save where a session has asked for that and has the connection for itself: not for a consumer,
//! not for a lock held across I/O, not for the writer. It does pause, for milliseconds, while most
//! of what it reads is for consumers that are behind and only need the processor. The
//! element's task takes what is queued and pushes it, on threads of its own, through the RTP manager
//! to the pad.
//!
//! # One request
//!
//! A handle sends a command to the driver; the protocol gives it CSeq, channels, a deadline and an
//! `Authorization`; its answer is found by CSeq, and the waiting future gets it. A caller that goes
//! away in mid-request leaves nothing behind: when the answer comes, the server gets its TEARDOWN.
//!
//! # What always holds
//!
//! * A packet goes only to the session that was granted its channel.
//! * Two sessions share a connection only if everything that identifies it is equal: server,
//!   credentials, user agent, group.
//! * Every session the server ever named an id for gets exactly one TEARDOWN, however it ends.
//! * A session's failure is its own; only the end of the connection ends others.
//! * Passwords appear nowhere: not in logs, errors, statistics, messages.

// Clocks, timers and tasks have their places: see clippy.toml. Tests of pure code take any time.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod mux;
#[cfg(feature = "plugin")]
mod plugin;
#[cfg(feature = "plugin")]
pub mod rtspsrc;

#[cfg(feature = "plugin")]
#[doc(inline)]
/// Registers the element `rtspmuxsrc` from this copy of the crate, for applications that link it
/// instead of loading the plugin file. Call it after `gst::init`.
pub use plugin::plugin_register_static;
