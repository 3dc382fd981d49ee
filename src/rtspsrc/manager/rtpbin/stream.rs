//! The pads of one stream in front of rtpbin: packets go in through them, and receiver reports come out.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gst::{glib, prelude::*};
use gstreamer as gst;

use super::jitterbuffer_fill::JitterbufferFill;
use crate::{
    mux::{RtcpSender, proto::wire::rtp::RtpHeader},
    rtspsrc::{CAT, RtspMuxSrc, lock, manager::src_pad, panics, threads::timer},
};

/// Where rtpbin's receiver reports go at present.
pub(super) type ReportSink = Arc<Mutex<Option<RtcpSender>>>;

/// The pads of one stream. They have no parent, so they live only as long as this.
pub(super) struct RtpbinStream {
    pub(super) rtp: gst::Pad,
    pub(super) rtcp: gst::Pad,
    /// The pad that takes rtpbin's receiver reports.
    pub(super) reports: gst::Pad,
    /// SSRC and payload type behind the stream's pad.
    pub(super) shown: Mutex<Option<(u32, u8)>>,
    /// The pad of rtpbin from which the packets of that source come out.
    output: Mutex<glib::WeakRef<gst::Pad>>,
    /// Which packets of it are in rtpbin.
    fill: Arc<JitterbufferFill>,
    /// Its source has sent BYE.
    pub(super) has_left: AtomicBool,
}

impl RtpbinStream {
    pub(super) fn new(
        element: &RtspMuxSrc,
        index: usize,
        latency: Duration,
        reports: &ReportSink,
    ) -> Self {
        // Without latency: rtpbin adds its own.
        let src_pad = |kind| src_pad(element, &format!("{kind}_{index}"), gst::ClockTime::ZERO);
        let rtp = src_pad("rtp");
        let fill = Arc::new(JitterbufferFill::new(latency));
        Self {
            rtp,
            fill,
            output: Mutex::default(),
            rtcp: src_pad("rtcp"),
            reports: report_pad(element, index, reports.clone()),
            shown: Mutex::new(None),
            has_left: AtomicBool::new(false),
        }
    }

    pub(super) fn pads(&self) -> [&gst::Pad; 3] {
        [&self.rtp, &self.rtcp, &self.reports]
    }

    /// From now on the packets come out of `output`.
    pub(super) fn set_output(&self, element: &RtspMuxSrc, output: &gst::Pad) {
        let (weak, fill) = (element.downgrade(), self.fill.clone());
        output.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            panics::guard_weak(&weak, gst::PadProbeReturn::Ok, |_| {
                let mut packet = [0; 12];
                let read = info.buffer().map(|it| it.copy_to_slice(0, &mut packet));
                if let (Some(Ok(())), Some(header)) = (read, RtpHeader::of(&packet)) {
                    fill.on_out(header.sequence, timer::now());
                }
                gst::PadProbeReturn::Ok
            })
        });
        *lock(&self.output) = output.downgrade();
    }

    /// Pushes an RTP packet into rtpbin.
    pub(super) fn push(
        &self,
        header: Option<RtpHeader>,
        buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        if let Some(header) = header {
            self.fill.on_in(header.sequence, timer::now());
        }
        self.rtp.push(buffer)
    }

    /// Forgets the source behind the pad, and the packets in the jitterbuffer.
    pub(super) fn forget(&self) {
        *lock(&self.shown) = None;
        *lock(&self.output) = glib::WeakRef::new();
        self.fill.clear();
    }

    /// As [`Manager::poll_room`](super::super::Manager::poll_room), for this stream.
    pub(super) fn poll_room(&self, context: &mut Context<'_>, now: Instant) -> Poll<()> {
        self.fill.poll_room(context, now, || {
            let output = lock(&self.output).upgrade();
            output.is_none_or(|output| is_idle(&output))
        })
    }

    /// Unlinks the pads from rtpbin.
    pub(super) fn leave(&self) -> Result<(), glib::BoolError> {
        self.forget();
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

/// Takes rtpbin's receiver reports on rtpsession's thread: send or drop, never wait.
fn report_pad(element: &RtspMuxSrc, index: usize, reports: ReportSink) -> gst::Pad {
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

/// Whether no push out of the pad is under way.
fn is_idle(pad: &gst::Pad) -> bool {
    // On an idle pad GStreamer calls the probe at once, which removes it; otherwise when the pad becomes
    // idle.
    let probe = pad.add_probe(gst::PadProbeType::IDLE, |_, _| gst::PadProbeReturn::Remove);
    match probe {
        None => true,
        Some(probe) => {
            pad.remove_probe(probe);
            false
        }
    }
}

/// The events with which an RTCP stream begins.
pub(super) fn rtcp_events(pad: &gst::Pad, caps: &gst::Caps) -> [gst::Event; 3] {
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    [
        gst::event::StreamStart::new(&pad.name()),
        gst::event::Caps::new(caps),
        gst::event::Segment::new(&segment),
    ]
}
