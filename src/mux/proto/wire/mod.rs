//! The wire formats: messages, headers, URIs, SDP and RTP, parsed and written; and which parts of
//! them may be shown.

pub(crate) mod codec;
pub mod header;
mod line_ends;
pub(crate) mod message;
pub(crate) mod octets;
pub(crate) mod redaction;
pub mod rtp;
pub mod sdp;
pub(crate) mod server_text;
pub mod uri;

pub use redaction::redacted;
