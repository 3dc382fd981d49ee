//! What goes over the wire: messages, headers, URIs, SDP and RTP, read and written; and what of them is shown.

pub(crate) mod codec;
pub mod header;
pub(crate) mod message;
pub(crate) mod random_access;
pub(crate) mod redaction;
pub mod rtp;
pub mod sdp;
pub(crate) mod secrets;
pub(crate) mod server_text;
pub mod uri;
pub(crate) mod wire_log;
