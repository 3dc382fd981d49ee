//! From packets to pads: buffers, caps and the pads that applications link.
//!
//! ```text
//! feed         packets -> buffers -> pads of the manager, flows combined
//! buffer       one packet as a buffer
//! deliverable  whether packets can be delivered at all
//! pads         the pads that applications link, with ids, caps and segment
//! caps         SDP -> caps
//! sdp_check    keeps descriptions that GStreamer's parser cannot stand from it
//! ```

pub(crate) mod buffer;
pub(crate) mod caps;
pub(crate) mod deliverable;
pub(crate) mod feed;
pub(crate) mod pads;
pub(crate) mod sdp_check;
