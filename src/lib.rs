//! RTSP session multiplexer.
#![cfg_attr(docsrs, feature(doc_cfg))]
// Clocks, timers and tasks: see clippy.toml.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod mux;
