//! The element as GStreamer sees it: properties, state changes, messages, statistics, log.
//!
//! ```text
//! imp              properties, URI, state changes; translates, decides nothing
//! properties       the table of properties
//! settings         the values of the properties -> the options of a session
//! context          which multiplexer: that of the process, or that of the application
//! server_messages  messages that concern a whole server, once for each pipeline
//! stats            the property `stats`
//! log              forwards the log of the multiplexer to that of GStreamer
//! ```

pub(crate) mod context;
pub(crate) mod imp;
pub(crate) mod log;
pub(crate) mod properties;
pub(crate) mod server_messages;
pub(crate) mod settings;
pub(crate) mod stats;
