//! Our pads of one stream: packets go out of them into rtpbin, and its reports come back.

use gstreamer as gst;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use gst::{glib, prelude::*};

use crate::{
    mux::RtcpSender,
    rtspsrc::{CAT, RtspMuxSrc, lock, panics},
};

/// Who takes rtpbin's reports at present.
pub(super) type Reports = Arc<Mutex<Option<RtcpSender>>>;

/// Our pads of one stream. They have no parent, so they live only as long as this.
pub(super) struct Stream {
    pub(super) rtp: gst::Pad,
    pub(super) rtcp: gst::Pad,
    /// Where rtpbin's reports come in.
    pub(super) reports: gst::Pad,
    /// SSRC and payload type behind the stream's pad.
    pub(super) shown: Mutex<Option<(u32, u8)>>,
    /// Its source said goodbye.
    pub(super) has_left: AtomicBool,
}

impl Stream {
    pub(super) fn new(element: &RtspMuxSrc, index: usize, reports: &Reports) -> Self {
        Self {
            rtp: src_pad(element, &format!("rtp_{index}")),
            rtcp: src_pad(element, &format!("rtcp_{index}")),
            reports: report_pad(element, index, reports.clone()),
            shown: Mutex::new(None),
            has_left: AtomicBool::new(false),
        }
    }

    pub(super) fn pads(&self) -> [&gst::Pad; 3] {
        [&self.rtp, &self.rtcp, &self.reports]
    }

    /// Lets go of the rtpbin it is linked to.
    pub(super) fn leave(&self) -> Result<(), glib::BoolError> {
        *lock(&self.shown) = None;
        self.has_left.store(false, Ordering::Release);
        for pad in [&self.rtp, &self.rtcp] {
            if let Some(sink) = pad.peer() {
                pad.unlink(&sink)?;
            }
        }
        match self.reports.peer() {
            Some(source) => source.unlink(&self.reports),
            None => Ok(()),
        }
    }
}

/// A pad as rtspsrc's of a TCP stream: live, without latency, and events from downstream end here.
fn src_pad(element: &RtspMuxSrc, name: &str) -> gst::Pad {
    let weak = element.downgrade();
    let events = element.downgrade();
    gst::Pad::builder(gst::PadDirection::Src)
        .name(name)
        .query_function(move |pad, parent, query| {
            panics::guard_weak(&weak, false, |_| match query.view_mut() {
                gst::QueryViewMut::Latency(latency) => {
                    latency.set(true, gst::ClockTime::ZERO, gst::ClockTime::NONE);
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

/// Takes rtpbin's receiver reports on rtpsession's thread: send or drop, never wait.
fn report_pad(element: &RtspMuxSrc, index: usize, reports: Reports) -> gst::Pad {
    let weak = element.downgrade();
    gst::Pad::builder(gst::PadDirection::Sink)
        .name(format!("reports_{index}"))
        .chain_function(move |_, _, buffer| {
            panics::guard_weak(&weak, Err(gst::FlowError::Error), |element| {
                let reports = lock(&reports).clone();
                let sent = match (reports, buffer.map_readable()) {
                    (Some(reports), Ok(report)) => {
                        reports.try_send(index, Bytes::copy_from_slice(&report))
                    }
                    _ => false,
                };
                if !sent {
                    gst::log!(
                        CAT,
                        obj = element,
                        "stream {index}: report of {} octets dropped",
                        buffer.size()
                    );
                }
                Ok(gst::FlowSuccess::Ok)
            })
        })
        .build()
}

/// A stream of its own for RTCP, as rtpbin has it.
pub(super) fn rtcp_events(pad: &gst::Pad, caps: &gst::Caps) -> [gst::Event; 3] {
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    [
        gst::event::StreamStart::new(&pad.name()),
        gst::event::Caps::new(caps),
        gst::event::Segment::new(&segment),
    ]
}
