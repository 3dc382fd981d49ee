//! Who turns RTP packets into timed RTP buffers: the seam for something lighter than `rtpbin`.
//!
//! A manager takes the packets of a session and hands its output pads to [`Pads`], which own the caps,
//! ids and times of streams. It is built, restarted and removed only inside the session's
//! [`Stage`](super::stage::Stage); pushing needs no lock.

mod rtpbin;
mod stream;

use gstreamer as gst;
use std::sync::Arc;

use gst::glib;

pub(super) use rtpbin::Rtpbin;

use super::{buffer::Marks, pads::Pads};
use crate::mux::{Packet, RtcpSender};

/// What it means if a source says goodbye (RTCP BYE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// The end of the stream, as `rtspsrc` has it.
    End,
    /// The loss of the session: cameras have no end.
    Loss,
}

/// Manages the RTP sessions of one element.
pub(super) trait Manager: Send + Sync {
    /// Takes the state of the element, which may have changed while this was being added to it.
    fn sync_state(&self);

    /// The session plays: reports go to `reports`, and the streams' caps are final. When that is not
    /// for the first time, all streams begin anew, and the pads tell of the outage.
    fn start(&self, reports: RtcpSender) -> Result<(), glib::BoolError>;

    /// Whether the stream's source said goodbye, and that was not the end of the stream.
    fn has_left(&self, stream: usize) -> bool;

    /// The pad out of which the stream's RTP packets go, into the manager or out of it. Events for
    /// the stream begin there, and an end of stream stays on it.
    fn rtp_pad(&self, stream: usize) -> Option<&gst::Pad>;

    /// Takes an RTP packet; may block for as long as downstream likes.
    fn push_rtp(&self, packet: Packet, marks: Marks) -> Result<gst::FlowSuccess, gst::FlowError>;

    /// Takes an RTCP packet.
    fn push_rtcp(&self, packet: Packet);

    /// Begins all streams anew: nothing is left of their sources, times and reports. Waits for no
    /// push that is under way downstream.
    fn renew(&self) -> Result<(), glib::BoolError>;

    /// Forgets the stream's source and its times: the next packet is the first one again.
    fn restart(&self, stream: usize) -> Result<(), glib::BoolError>;

    /// Makes every push fail with FLUSHING, those under way as well.
    fn deactivate(&self);

    /// Takes all it is made of out of the element, whose state is READY.
    fn remove(&self);

    /// The pads it feeds.
    fn pads(&self) -> &Arc<Pads>;
}

/// Sends a downstream event into all streams; true if one took it.
pub(super) fn push_event(manager: &dyn Manager, event: &gst::Event) -> bool {
    use gst::prelude::*;

    let mut taken = false;
    for pad in manager
        .pads()
        .streams()
        .filter_map(|stream| manager.rtp_pad(stream))
    {
        taken |= pad.push_event(event.clone());
    }
    taken
}
