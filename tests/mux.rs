//! The multiplexer over TCP, against the mock server and a real gst-rtsp-server.
//!
//! How many connections there are is what the *server* accepted, never our own word. Nothing
//! sleeps: tests wait for what a server or a session has come to.
#![allow(clippy::unwrap_used, reason = "a test binary")]

#[path = "support/certificates.rs"]
mod certificates;
#[cfg(feature = "plugin")]
#[path = "support/gst_server.rs"]
mod gst_server;
#[path = "support/odd_setups.rs"]
mod odd_setups;
mod support;
#[path = "support/tls_front.rs"]
mod tls_front;

#[path = "mux/account.rs"]
mod account;
#[path = "mux/congestion.rs"]
mod congestion;
#[path = "mux/connection_pool.rs"]
mod connection_pool;
#[path = "mux/describing.rs"]
mod describing;
#[path = "mux/disconnects.rs"]
mod disconnects;
#[path = "mux/errors.rs"]
mod errors;
#[path = "mux/fallback.rs"]
mod fallback;
#[path = "mux/hooks.rs"]
mod hooks;
#[path = "mux/moving.rs"]
mod moving;
#[path = "mux/numbering.rs"]
mod numbering;
#[path = "mux/odd_camera.rs"]
mod odd_camera;
#[path = "mux/odd_sources.rs"]
mod odd_sources;
#[path = "mux/odd_streams.rs"]
mod odd_streams;
#[path = "mux/overflow.rs"]
mod overflow;
#[path = "mux/placement.rs"]
mod placement;
#[path = "mux/player.rs"]
mod player;
#[path = "mux/pool_concurrent.rs"]
mod pool_concurrent;
#[path = "mux/pool_reuse.rs"]
mod pool_reuse;
#[path = "mux/probe.rs"]
mod probe;
#[path = "mux/redirects.rs"]
mod redirects;
#[path = "mux/secrets.rs"]
mod secrets;
#[path = "mux/server_redirect.rs"]
mod server_redirect;
#[path = "mux/sessions.rs"]
mod sessions;
#[path = "mux/shutdown.rs"]
mod shutdown;
#[cfg(target_os = "linux")]
#[path = "mux/state_file.rs"]
mod state_file;
#[path = "mux/tls.rs"]
mod tls;
#[path = "mux/turns.rs"]
mod turns;
#[path = "mux/waiting_for.rs"]
mod waiting_for;
