//! From packets to pads: buffers, caps and the pads that applications link.
//!
//! ```text
//! caps         SDP -> caps
//! numbers      which stream of the session plays on which pad
//! sequence     the order of the packets of a stream, and where its source begins anew
//! alias        the sequence numbers, times and SSRC under which downstream sees a stream
//! buffer       one packet as a buffer; counts those that cannot be delivered
//! pads         the pads that applications link, with ids, caps and segment
//! seeking      what queries hear of a recording, and how a seek comes to the session
//! relinking    a pad that is unlinked while it plays, and linked again
//! refusals     packets that downstream refuses for what is in them
//! unwanted     streams that the application does not want at present
//! slots        a table of pads that grows while threads read it
//! ```

pub(crate) mod alias;
pub(crate) mod buffer;
pub(crate) mod caps;
pub(crate) mod numbers;
pub(crate) mod pads;
pub(crate) mod payload;
pub(crate) mod refusals;
pub(crate) mod relinking;
pub(crate) mod seeking;
pub(crate) mod sequence;
pub(crate) mod slots;
pub(crate) mod unwanted;
