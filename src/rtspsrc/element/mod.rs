//! The element as GStreamer sees it: properties, state changes, messages, statistics, log.
//!
//! ```text
//! imp              properties, URI, state changes; translates, decides nothing
//! properties       the table of properties
//! settings         what the user set -> what the multiplexer is asked for
//! context          which multiplexer: the process's, or an application's
//! server_messages  tells each pipeline once what concerns a whole server
//! stats            the property `stats`
//! log              log lines of the library in GStreamer's log
//! ```

pub(crate) mod context;
pub(crate) mod imp;
pub(crate) mod log;
pub(crate) mod properties;
pub(crate) mod server_messages;
pub(crate) mod settings;
pub(crate) mod stats;
