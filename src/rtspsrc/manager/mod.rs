//! The managers, which turn RTP packets into timed RTP buffers: [`Light`], or `rtpbin`.
//!
//! A manager takes the packets of a session and hands its output pads to [`Pads`], which own the caps,
//! ids and times of streams. The session task builds and restarts it only inside the session's
//! [`BuildGuard`](super::session::control::BuildGuard); pushing needs no lock.

mod light;
mod rtpbin;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use gst::{glib, prelude::*};
use gstreamer as gst;
use tokio::sync::Notify;

use light::Light;
use rtpbin::Rtpbin;

use super::{
    RtspMuxSrc, guard_weak,
    media::{
        buffer::Marks,
        numbers::StreamNumbers,
        pads::{PadStream, Pads},
    },
};
use crate::mux::{Packet, RtcpSender, recovery::OnBye};

/// `manager`: which manager an element uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxManager")]
pub enum ManagerChoice {
    /// The light one, unless the user asks for something that only rtpbin does.
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

/// Which manager is built, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct ManagerSettings {
    /// `Auto` stands for the light one: the user asks for nothing that only rtpbin does.
    pub(crate) choice: ManagerChoice,
    pub(crate) latency_ms: u32,
    /// Downstream decides how fast packets are taken, and not a clock.
    pub(crate) follows_downstream: bool,
    /// Receiver reports go to the server.
    pub(crate) sends_reports: bool,
    /// Packets in order until rtpbin accepts a source.
    pub(crate) probation: u32,
    /// rtpbin gets each packet with the time of its arrival, and not only the first one of a source.
    pub(crate) stamps_each_packet: bool,
    /// Properties of rtpbin: name and value, as text.
    pub(crate) rtpbin: Vec<(&'static str, String)>,
}

impl ManagerSettings {
    /// Builds the manager for the streams of `pads`.
    pub(super) fn build(
        &self,
        element: &RtspMuxSrc,
        pads: Arc<Pads>,
        on_bye: OnBye,
    ) -> Result<Arc<dyn Manager>, glib::BoolError> {
        Ok(match self.choice {
            ManagerChoice::Auto | ManagerChoice::Light => {
                let latency = (!self.follows_downstream).then_some(self.latency_ms);
                Light::build(pads, latency, on_bye)?
            }
            ManagerChoice::Rtpbin => Rtpbin::build(element, pads, self.clone(), on_bye)?,
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

/// What RTCP reports say about a stream, in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamReport {
    pub(super) stream: usize,
    /// The SSRC of its source.
    pub(super) ssrc: Option<u32>,
    /// The highest sequence number, with its cycles in the upper half.
    pub(super) highest_sequence: u32,
    /// Packets that never came.
    pub(super) lost: u64,
    /// In units of the stream's clock rate.
    pub(super) jitter: u32,
    /// The last sender report.
    pub(super) sender: Option<SenderReport>,
    pub(super) reports_sent: u64,
}

/// Sends receiver reports for the pads' streams.
#[derive(Clone)]
pub(crate) struct ReportSender {
    pub(crate) session: RtcpSender,
    pub(crate) numbers: StreamNumbers,
    /// The server is to get no reports.
    pub(crate) is_mute: bool,
}

impl ReportSender {
    /// Queues a report for the stream of a pad. Returns false if it was dropped.
    fn try_send(&self, pad: usize, report: impl Into<Bytes>) -> bool {
        if self.is_mute {
            return true;
        }
        let number = self.numbers.of_session(pad);
        number.is_some_and(|number| self.session.try_send(number, report))
    }
}

/// Manages the RTP sessions of one element.
pub(crate) trait Manager: Send + Sync {
    /// Takes the state of the element, which may have changed while the manager was being added to it. For
    /// a manager that has elements.
    fn sync_state(&self) {}

    /// The element that is to manage the streams after the next [`start`](Self::start) or
    /// [`renew`](Self::renew), for the application to see first. Without this call it is made there.
    fn next_element(&self) -> Result<Option<gst::Element>, glib::BoolError> {
        Ok(None)
    }

    /// Adds a stream that the pads have since a later description. It takes packets from the next
    /// [`start`](Self::start) on.
    fn add(&self, out: &Arc<PadStream>) -> Result<(), glib::BoolError>;

    /// The session plays: receiver reports go to `reports`, and the caps of the streams are final. From
    /// the second call on all streams begin anew, and the pads send GAP events for the outage.
    fn start(&self, reports: ReportSender) -> Result<(), glib::BoolError>;

    /// Whether the stream has ended: it takes no more packets.
    fn has_ended(&self, stream: usize) -> bool;

    /// Whether the stream's source has sent BYE and nothing since, and that is a loss and not the end of
    /// the stream.
    fn has_left(&self, stream: usize) -> bool {
        let stream = self.pads().stream(stream);
        stream.is_some_and(|stream| stream.has_left.load(Ordering::Acquire))
    }

    /// A stream's source has sent BYE, or its time is over.
    fn on_end(&self, stream: &PadStream, meaning: OnBye) {
        match meaning {
            OnBye::End => _ = self.push_event(stream.number, gst::event::Eos::new()),
            OnBye::Loss => stream.has_left.store(true, Ordering::Release),
        }
    }

    /// The pad from which the stream's RTP packets are pushed, into the manager or out of it.
    fn rtp_pad(&self, stream: usize) -> Option<&gst::Pad>;

    /// Sends a downstream event into the stream, behind its packets. Returns false if it is not taken.
    fn push_event(&self, stream: usize, event: gst::Event) -> bool;

    /// Takes an RTP packet. The result may be that of an earlier packet.
    fn push_rtp(&self, packet: Packet, marks: Marks) -> Result<gst::FlowSuccess, gst::FlowError>;

    /// Takes an RTCP packet.
    fn push_rtcp(&self, packet: Packet);

    /// False while the manager holds so many packets of the stream that more should wait in the session's
    /// queue.
    fn has_room(&self, stream: usize, now: Instant) -> bool;

    /// Notified when a stream has room again, but not in every case: ask again from time to time.
    fn room(&self) -> &Notify;

    /// Begins all streams anew: forgets their sources, times and reports. Does not wait for a push that
    /// is under way downstream.
    fn renew(&self) -> Result<(), glib::BoolError>;

    /// Begins a seek: drops what the streams hold, downstream too. No other thread pushes packets into the
    /// manager meanwhile. It waits for pushes that are under way downstream.
    fn flush(&self, seqnum: gst::Seqnum);

    /// The next packets are from elsewhere: the streams have other caps and another segment.
    fn on_sought(&self) {}

    /// The streams have other caps from their next source on.
    fn renew_caps(&self) {}

    /// Whether packets are to come in the order of their numbers. A jitterbuffer puts them in order
    /// itself.
    fn needs_order(&self) -> bool {
        false
    }

    /// Makes every push fail with FLUSHING, also those under way.
    fn deactivate(&self);

    /// Removes pads and elements of the manager from the element, whose state is READY.
    fn remove(&self);

    /// The pads it feeds.
    fn pads(&self) -> &Arc<Pads>;

    /// What is known from RTCP reports. Empty with rtpbin, which keeps that to itself.
    fn reports(&self) -> Vec<StreamReport> {
        Vec::new()
    }
}

/// Sends a downstream event into all streams. Returns true if one took it.
pub(super) fn push_event(manager: &dyn Manager, event: &gst::Event) -> bool {
    let mut taken = false;
    for stream in manager.pads().streams() {
        taken |= manager.push_event(stream.number, event.clone());
    }
    taken
}

/// A pad as `rtspsrc` has for a TCP stream: live, with this latency; `None`: not live. Upstream events end at
/// it, in `on_event`.
fn src_pad(
    element: &RtspMuxSrc,
    name: &str,
    latency: Option<gst::ClockTime>,
    on_event: impl Fn(&gst::Event) + Send + Sync + 'static,
) -> gst::Pad {
    let (queries, events) = (element.downgrade(), element.downgrade());
    gst::Pad::builder(gst::PadDirection::Src)
        .name(name)
        .query_function(move |pad, parent, query| {
            guard_weak(&queries, false, |_| match query.view_mut() {
                gst::QueryViewMut::Latency(query) => {
                    let least = latency.unwrap_or_default();
                    query.set(latency.is_some(), least, gst::ClockTime::NONE);
                    true
                }
                _ => gst::Pad::query_default(pad, parent, query),
            })
        })
        .event_function(move |_, _, event| {
            guard_weak(&events, false, |_| {
                on_event(&event);
                event.type_() != gst::EventType::Seek
            })
        })
        .build()
}
