//! The element as GStreamer sees it: properties, state changes, messages, statistics, log.
//!
//! ```text
//! imp              properties, URI, state changes; translates, decides nothing
//! properties       the table of properties
//! settings         what the user set -> what the multiplexer is asked for
//! context          which multiplexer: the process's, or an application's
//! messages         what is posted: ERROR, WARNING, PROGRESS, element messages
//! server_messages  tells each pipeline once what concerns a whole server
//! bus_queue        messages on their way to a bus, and the thread that posts them
//! stats            the property `stats`
//! log              log lines of the library in GStreamer's log
//! panics           a panic becomes an ERROR of its element
//! ```

pub(crate) mod bus_queue;
pub(crate) mod context;
pub(crate) mod imp;
pub(crate) mod log;
pub(crate) mod messages;
pub(crate) mod panics;
pub(crate) mod properties;
pub(crate) mod server_messages;
pub(crate) mod settings;
pub(crate) mod stats;
