//! The multiplexer.

pub mod proto;
pub mod server_key;
