//! From packets to pads: buffers, caps and the pads that applications link.
//!
//! ```text
//! buffer       one packet as a buffer
//! pads         the pads that applications link, with ids, caps and segment
//! caps         SDP -> caps
//! ```

pub(crate) mod alias;
pub(crate) mod buffer;
pub(crate) mod caps;
pub(crate) mod numbers;
pub(crate) mod pads;
pub(crate) mod sequence;
