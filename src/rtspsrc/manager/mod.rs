//! Who turns RTP packets into timed RTP buffers: [`Light`], or `rtpbin`.
//!
//! A manager takes the packets of a session and hands its output pads to [`Pads`], which own the caps,
//! ids and times of streams. It is built, restarted and removed only inside the session's
//! [`BuildGuard`](super::session::build_guard::BuildGuard); pushing needs no lock.

mod light;
mod rtpbin;

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use gst::{glib, prelude::*};
use gstreamer as gst;

use light::Light;
use rtpbin::Rtpbin;

use super::{
    RtspMuxSrc,
    media::{buffer::Marks, pads::Pads},
    panics,
};
use crate::mux::{Packet, RtcpSender, recovery::OnBye};

/// `manager`: who is to manage the RTP sessions of an element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxManager")]
pub enum ManagerChoice {
    /// The light one, unless something is asked for that only rtpbin does.
    #[default]
    #[enum_value(name = "Light, unless only rtpbin will do", nick = "auto")]
    Auto,
    /// Without rtpbin.
    #[enum_value(name = "Without rtpbin: no jitterbuffer, no threads", nick = "light")]
    Light,
    /// rtpbin.
    #[enum_value(name = "rtpbin, as in rtspsrc", nick = "rtpbin")]
    Rtpbin,
}

impl ManagerChoice {
    /// Builds it for the streams of `pads`. Nothing that only rtpbin does can be asked for yet: what
    /// looks into it (`new-manager`, `request-rtcp-key`), SRTP, retransmission, RFC 7273 and
    /// `buffer-mode` are to be asked for here.
    pub(super) fn build(
        self,
        element: &RtspMuxSrc,
        pads: Arc<Pads>,
        latency_ms: u32,
        on_bye: OnBye,
    ) -> Result<Arc<dyn Manager>, glib::BoolError> {
        Ok(match self {
            Self::Auto | Self::Light => Arc::new(Light::build(element, pads, latency_ms, on_bye)?),
            Self::Rtpbin => Arc::new(Rtpbin::build(element, pads, latency_ms, on_bye)?),
        })
    }
}

/// The clocks of a sender at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SenderReport {
    /// Wall clock since 1900, in units of 2^-32 s.
    pub(super) ntp: u64,
    /// In units of the stream's clock rate.
    pub(super) time: u32,
}

/// What reports say, and are told, about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamReport {
    pub(super) stream: usize,
    /// Of its source.
    pub(super) ssrc: Option<u32>,
    /// With its cycles in the upper half.
    pub(super) highest_sequence: u32,
    /// Packets that never came.
    pub(super) lost: u64,
    /// In units of the stream's clock rate.
    pub(super) jitter: u32,
    /// The last one.
    pub(super) sender: Option<SenderReport>,
    pub(super) reports_sent: u64,
}

/// Manages the RTP sessions of one element.
pub(crate) trait Manager: Send + Sync {
    /// Takes the state of the element, which may have changed while this was being added to it.
    fn sync_state(&self);

    /// The session plays: reports go to `reports`, and the streams' caps are final. When that is not
    /// for the first time, all streams begin anew, and the pads tell of the outage.
    fn start(&self, reports: RtcpSender) -> Result<(), glib::BoolError>;

    /// Whether the stream has ended: nothing can be sent any more.
    fn has_ended(&self, stream: usize) -> bool;

    /// Whether the stream's source said goodbye, and that was not the end of the stream.
    fn has_left(&self, stream: usize) -> bool;

    /// The pad out of which the stream's RTP packets go, into the manager or out of it.
    fn rtp_pad(&self, stream: usize) -> Option<&gst::Pad>;

    /// Sends a downstream event into the stream, behind its packets; false if it is not taken.
    fn push_event(&self, stream: usize, event: gst::Event) -> bool;

    /// Takes an RTP packet. What is given back may be what came of an earlier one.
    fn push_rtp(&self, packet: Packet, marks: Marks) -> Result<gst::FlowSuccess, gst::FlowError>;

    /// Takes an RTCP packet.
    fn push_rtcp(&self, packet: Packet);

    /// Ready unless so much of the stream was pushed and has not come out that more had better wait
    /// outside. Then `context` is woken when that has changed, or not: ask again now and then.
    fn poll_room(&self, stream: usize, context: &mut Context<'_>, now: Instant) -> Poll<()>;

    /// Begins all streams anew: nothing is left of their sources, times and reports. Waits for no
    /// push that is under way downstream.
    fn renew(&self) -> Result<(), glib::BoolError>;

    /// Whether [`restart`](Self::restart) is not enough where a source begins anew under its old SSRC,
    /// but [`renew`](Self::renew) is.
    fn remembers_sources(&self) -> bool;

    /// Forgets the stream's source and its times: the next packet is the first one again.
    fn restart(&self, stream: usize) -> Result<(), glib::BoolError>;

    /// Makes every push fail with FLUSHING, those under way as well.
    fn deactivate(&self);

    /// Takes all it is made of out of the element, whose state is READY.
    fn remove(&self);

    /// The pads it feeds.
    fn pads(&self) -> &Arc<Pads>;

    /// What is known from reports; nothing if that is rtpbin's own.
    fn reports(&self) -> Vec<StreamReport>;
}

/// Sends a downstream event into all streams; true if one took it.
pub(super) fn push_event(manager: &dyn Manager, event: &gst::Event) -> bool {
    let mut taken = false;
    for stream in manager.pads().streams() {
        taken |= manager.push_event(stream, event.clone());
    }
    taken
}

/// A pad as rtspsrc's of a TCP stream: live, with this latency, and events from downstream end here.
fn src_pad(element: &RtspMuxSrc, name: &str, latency: gst::ClockTime) -> gst::Pad {
    let (queries, events) = (element.downgrade(), element.downgrade());
    gst::Pad::builder(gst::PadDirection::Src)
        .name(name)
        .query_function(move |pad, parent, query| {
            panics::guard_weak(&queries, false, |_| match query.view_mut() {
                gst::QueryViewMut::Latency(query) => {
                    query.set(true, latency, gst::ClockTime::NONE);
                    true
                }
                _ => gst::Pad::query_default(pad, parent, query),
            })
        })
        .event_function(move |_, _, event| {
            panics::guard_weak(&events, false, |_| event.type_() != gst::EventType::Seek)
        })
        .build()
}
