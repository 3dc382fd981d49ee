//! From packets to pads: buffers, caps and the pads that applications link.
//!
//! ```text
//! buffer       one packet as a buffer
//! deliverable  whether the packets of a stream can be delivered at all
//! pads         the pads that applications link, with ids, caps and segment
//! timeline     the running time of a pad, across outages
//! caps         SDP -> caps
//! ```

pub(crate) mod buffer;
pub(crate) mod caps;
pub(crate) mod deliverable;
pub(crate) mod pads;
pub(crate) mod timeline;
