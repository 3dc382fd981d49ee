//! RTSP session multiplexer: many cameras of one server over **one** RTSP connection.
//!
//! Every other RTSP client opens a TCP connection per stream. This one opens one connection per *server*
//! and runs many SETUP/PLAY sessions on it. Their media is interleaved on the connection (RFC 2326
//! 10.12); the channel number tells the sessions apart. It is a library for tokio ([`mux`]) and a
//! GStreamer source element, `rtspmuxsrc` ([`rtspsrc`], feature `plugin`), that takes the place of
//! `rtspsrc`.
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
//! | `tcp_info` | the only unsafe code: one option of a socket that no crate reads |
//!
//! # One packet, from socket to pad
//!
//! The driver reads into chunks of memory that it uses again. The codec cuts `$ channel length payload`
//! out of them without a copy, and the channel table names session and stream. The driver puts the
//! packets of one read together into the bounded queue of that session; a full queue drops packets and
//! counts them ([`OverflowPolicy`](mux::OverflowPolicy)). **The reader never waits** for a consumer, for
//! the writer, or for a lock that is held across I/O. There are two exceptions: a session with a
//! connection of its own may ask the reader to wait (`block`), and the reader pauses for milliseconds
//! while most of what it reads is for consumers that wait for CPU time. The element's session task takes
//! the packets out of the queue and pushes them, on a worker thread, through the RTP manager to the pad.
//!
//! # One request
//!
//! A handle sends a command to the driver. The protocol state machine gives the request its CSeq,
//! channels, a deadline and an `Authorization`. It finds the answer by CSeq, and the waiting future gets
//! it. A caller that drops the future in the middle of a request leaves nothing behind: when the answer
//! comes, the core sends the TEARDOWN.
//!
//! # What always holds
//!
//! * A packet goes only to the session that was granted its channel.
//! * Two sessions share a connection only if everything that identifies it is equal: server,
//!   credentials, user agent, group.
//! * Every session that the server has given an id gets exactly one TEARDOWN, however it ends.
//! * The failure of one session ends no other session; only the end of the connection does.
//! * Passwords appear nowhere: not in logs, errors, statistics, messages.

// Clocks, timers and tasks have their places: see clippy.toml. Tests of pure code take any time.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod mux;
#[cfg(feature = "plugin")]
pub mod rtspsrc;
#[cfg(target_os = "linux")]
mod tcp_info;

/// The plugin `rtspmux`, file `libgstrtspmux.so`.
#[cfg(feature = "plugin")]
#[expect(
    missing_docs,
    reason = "what the macro makes is described below, where it is shown"
)]
mod plugin {
    use gstreamer as gst;

    use crate::rtspsrc::register;

    gst::plugin_define!(
        rtspmux,
        env!("CARGO_PKG_DESCRIPTION"),
        register,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "MPL",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        "unknown",
        env!("BUILD_REL_DATE")
    );
}

#[cfg(feature = "plugin")]
#[doc(inline)]
/// Registers the element `rtspmuxsrc` from this copy of the crate. It is for applications that link the
/// crate instead of loading the plugin file. Call it after `gst::init`.
pub use plugin::plugin_register_static;
