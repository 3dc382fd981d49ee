//! The pads of one stream in front of rtpbin: packets go in through them, and receiver reports come out.
//!
//! # Times of arrival
//!
//! From GStreamer 1.25 on the jitterbuffer guesses no time of arrival of a packet that comes without one
//! (commit 832a5179 of GStreamer): it never finds back from an RTP time that was far ahead, and a sender whose clock
//! is fast fills it for ever. So each packet goes in with its time, as with the property `tcp-timestamp` of
//! `rtspsrc`. The DTS of the buffers behind it are as without that property.
//!
//! # How full the jitterbuffer is
//!
//! A jitterbuffer takes every packet at once, and lets it out when downstream takes it. In front of a
//! sink that blocks it grows until memory ends, while the session's queue, which has the rules for
//! dropping, stays empty. So the feed pushes no packets while one has been in the jitterbuffer for longer
//! than the latency explains.
//!
//! Some packets never come out: late ones, repeated ones, those of an unknown payload type. They must not
//! count for ever. They are forgotten with the next packet that comes out. If none comes out though the
//! output pad is free, all are forgotten.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};
use gstreamer as gst;
use tokio::sync::Notify;

use crate::{
    mux::proto::wire::rtp::RtpHeader,
    rtspsrc::{
        CAT, RtspMuxSrc, guard_weak, lock,
        manager::{ReportSender, src_pad},
        media::{alias, pads::PadStream, seeking::Segment},
        threads::timer,
    },
};

/// Where rtpbin's receiver reports go at present.
pub(super) type ReportSink = Arc<Mutex<Option<ReportSender>>>;

/// The pads of one stream. They have no parent, so they live only as long as this.
pub(super) struct RtpbinStream {
    pub(super) out: Arc<PadStream>,
    pub(super) rtp: gst::Pad,
    pub(super) rtcp: gst::Pad,
    /// The pad that takes rtpbin's receiver reports.
    pub(super) reports: gst::Pad,
    /// The SSRC behind the stream's pad.
    pub(super) shown: Mutex<Option<u32>>,
    /// The pad of rtpbin from which the packets of that source come out.
    pub(super) output: Mutex<glib::WeakRef<gst::Pad>>,
    /// The segment that leaves rtpbin in place of its own. It counts in the time of the pipeline, and would take
    /// packets for late by the segment of an ONVIF replay.
    segment: Arc<Mutex<Option<gst::Event>>>,
    /// Which packets of it are in rtpbin.
    fill: Arc<JitterbufferFill>,
}

impl RtpbinStream {
    pub(super) fn new(
        element: &RtspMuxSrc,
        out: Arc<PadStream>,
        fill: JitterbufferFill,
        reports: &ReportSink,
    ) -> Self {
        let index = out.number;
        // Without latency: rtpbin adds its own.
        let src_pad = |kind| {
            let latency = Some(gst::ClockTime::ZERO);
            src_pad(element, &format!("{kind}_{index}"), latency, |_| {})
        };
        let rtp = src_pad("rtp");
        Self {
            rtp,
            fill: Arc::new(fill),
            output: Mutex::default(),
            rtcp: src_pad("rtcp"),
            reports: report_pad(element, out.clone(), reports.clone()),
            out,
            shown: Mutex::new(None),
            segment: Arc::default(),
        }
    }

    pub(super) fn pads(&self) -> [&gst::Pad; 3] {
        [&self.rtp, &self.rtcp, &self.reports]
    }

    /// Sees the packets that come out of `output`.
    pub(super) fn watch_output(&self, element: &RtspMuxSrc, output: &gst::Pad) {
        let (weak, fill, segment) = (element.downgrade(), self.fill.clone(), self.segment.clone());
        let start = self.out.stream_start.clone();
        let what = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        output.add_probe(what, move |_, info| {
            guard_weak(&weak, gst::PadProbeReturn::Ok, |_| {
                let own = match info.event().map(|event| event.type_()) {
                    Some(gst::EventType::Segment) => lock(&segment).clone(),
                    // From GStreamer 1.24 on rtpbin changes the id, which the stream collection has as it is.
                    Some(gst::EventType::StreamStart) => Some(start.clone()),
                    _ => None,
                };
                if let Some(own) = own {
                    info.data = Some(gst::PadProbeData::Event(own));
                }
                if let Some(buffer) = info.buffer_mut() {
                    let mut packet = [0; 12];
                    let read = buffer.copy_to_slice(0, &mut packet).ok();
                    let header = read.and_then(|()| RtpHeader::of(&packet));
                    let came = header.map(|it| fill.on_out(it.sequence, timer::now()));
                    if came != Some(Arrival::Shown) {
                        buffer.make_mut().set_dts(None);
                    }
                }
                gst::PadProbeReturn::Ok
            })
        });
    }

    /// Pushes an RTP packet into rtpbin. A buffer without a time gets that of its arrival on the way, `now`.
    pub(super) fn push(
        &self,
        header: Option<RtpHeader>,
        mut buffer: gst::Buffer,
        now: impl FnOnce() -> Option<gst::ClockTime>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let arrival = match buffer.dts() {
            Some(_) => Arrival::Shown,
            None => Arrival::Inside,
        };
        if arrival == Arrival::Inside {
            buffer.make_mut().set_dts(now());
        }
        if let Some(header) = header {
            self.fill.on_in(header.sequence, arrival, timer::now());
        }
        self.rtp.push(buffer)
    }

    /// The segment for rtpbin, in place of the one that leaves it.
    pub(super) fn take_segment(&self) -> Option<gst::Event> {
        let shown = self.out.take_segment()?;
        let own = Segment::new();
        let plain = gst::event::Segment::builder(&own).seqnum(shown.seqnum());
        let plain = plain.build();
        *lock(&self.segment) = Some(shown);
        Some(plain)
    }

    /// Sends FLUSH_STOP into rtpbin.
    pub(super) fn stop_flush(&self, seqnum: gst::Seqnum) {
        self.fill.clear();
        self.out.timeline.restart();
        for pad in [&self.rtp, &self.rtcp] {
            let stop = gst::event::FlushStop::builder(true).seqnum(seqnum);
            pad.push_event(stop.build());
        }
    }

    /// As [`Manager::has_room`](super::super::Manager::has_room), for this stream.
    pub(super) fn has_room(&self, now: Instant) -> bool {
        self.fill.has_room(now, || {
            let output = lock(&self.output).upgrade();
            output.is_none_or(|output| is_idle(&output))
        })
    }

    /// Unlinks the pads from rtpbin. Forgets the source behind the stream's pad, and the packets in the
    /// jitterbuffer.
    pub(super) fn leave(&self) -> Result<(), glib::BoolError> {
        *lock(&self.shown) = None;
        *lock(&self.output) = glib::WeakRef::new();
        *lock(&self.out.sources) = None;
        self.fill.clear();
        self.out.has_left.store(false, Ordering::Release);
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
fn report_pad(element: &RtspMuxSrc, out: Arc<PadStream>, reports: ReportSink) -> gst::Pad {
    let (weak, index) = (element.downgrade(), out.number);
    gst::Pad::builder(gst::PadDirection::Sink)
        .name(format!("reports_{index}"))
        .chain_function(move |_, _, buffer| {
            guard_weak(&weak, Err(gst::FlowError::Error), |element| {
                let reports = lock(&reports).clone();
                let sent = match (reports, buffer.map_readable()) {
                    (Some(reports), Ok(report)) => {
                        let sources = *lock(&out.sources);
                        reports.try_send(index, alias::undo_in_report(sources, &report))
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

/// Whether the time of a packet's arrival leaves rtpbin as DTS of its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It does: the first packet of a source, as with `rtspsrc`.
    Shown,
    /// It is for the jitterbuffer alone.
    Inside,
}

/// How much longer than the latency a packet may be in the jitterbuffer.
const TOLERANCE: Duration = Duration::from_secs(2);

/// The packets of one stream in the jitterbuffer.
#[derive(Debug)]
pub(super) struct JitterbufferFill {
    /// The longest time that a packet may be in it.
    limit: Duration,
    /// Notified when more packets may go in.
    room: Arc<Notify>,
    state: Mutex<FillState>,
}

#[derive(Debug, Default)]
struct FillState {
    /// Sequence numbers, and when the packets went in.
    packets: VecDeque<(u16, Arrival, Instant)>,
    last_out: Option<Instant>,
}

impl JitterbufferFill {
    pub(super) fn new(latency: Duration, room: Arc<Notify>) -> Self {
        Self {
            limit: latency + TOLERANCE,
            room,
            state: Mutex::default(),
        }
    }

    pub(super) fn on_in(&self, sequence: u16, arrival: Arrival, now: Instant) {
        let packet = (sequence, arrival, now);
        lock(&self.state).packets.push_back(packet);
    }

    /// A packet came out; returns how it had gone in. All packets that went in before it are forgotten as well.
    pub(super) fn on_out(&self, sequence: u16, now: Instant) -> Arrival {
        let mut state = lock(&self.state);
        state.last_out = Some(now);
        let mut packets = state.packets.iter();
        let at = packets.position(|(inside, ..)| *inside == sequence);
        let found = at.and_then(|at| state.packets.drain(..=at).next_back());
        let has_room = !state.is_older_than(self.limit, now);
        drop(state);
        if has_room {
            self.room.notify_one();
        }
        found.map_or(Arrival::Inside, |(_, arrival, _)| arrival)
    }

    /// The jitterbuffer is empty.
    pub(super) fn clear(&self) {
        lock(&self.state).packets.clear();
        self.room.notify_one();
    }

    /// Whether more packets may go in. `is_free` tells whether no push out of the output pad is under way:
    /// then packets that have not come out for a while never do.
    pub(super) fn has_room(&self, now: Instant, is_free: impl FnOnce() -> bool) -> bool {
        if !lock(&self.state).is_older_than(self.limit, now) {
            return true;
        }
        // Called without the lock, as it adds a probe to a pad.
        let is_free = is_free();
        let mut state = lock(&self.state);
        let age = |last: Instant| now.saturating_duration_since(last);
        if is_free && state.last_out.is_none_or(|last| age(last) >= TOLERANCE) {
            state.packets.clear();
        }
        !state.is_older_than(self.limit, now)
    }
}

impl FillState {
    fn is_older_than(&self, limit: Duration, now: Instant) -> bool {
        let oldest = self.packets.front();
        oldest.is_some_and(|(.., at)| now.saturating_duration_since(*at) > limit)
    }
}

#[cfg(test)]
mod jitterbuffer_fill_tests {
    #![expect(clippy::disallowed_methods, reason = "any time will do")]

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn fill() -> JitterbufferFill {
        JitterbufferFill::new(S, Arc::default())
    }

    fn has_room(fill: &JitterbufferFill, now: Instant, is_free: bool) -> bool {
        fill.has_room(now, || is_free)
    }

    #[test]
    fn f33_it_is_full_while_a_packet_stays_longer_than_the_latency_explains() {
        let (fill, start) = (fill(), Instant::now());
        for n in 0..50 {
            let at = start + u32::from(n) * S / 10;
            fill.on_in(65_530_u16.wrapping_add(n), Arrival::Inside, at);
        }
        assert!(has_room(&fill, start + 3 * S, false));
        assert!(!has_room(&fill, start + 4 * S, false));
        fill.on_out(65_530, start + 4 * S);
        assert!(!has_room(&fill, start + 4 * S, false));
        // The packets between were late, or came twice.
        fill.on_out(10, start + 4 * S);
        assert!(has_room(&fill, start + 4 * S, false));
    }

    #[test]
    fn a_time_of_arrival_is_shown_where_it_was_shown_before() {
        let (fill, now) = (fill(), Instant::now());
        fill.on_in(1, Arrival::Shown, now);
        fill.on_in(2, Arrival::Inside, now);
        assert_eq!(
            [1, 2, 3].map(|it| fill.on_out(it, now)),
            [Arrival::Shown, Arrival::Inside, Arrival::Inside]
        );
    }

    #[test]
    fn packets_that_never_come_out_are_forgotten_if_the_output_is_free() {
        let (fill, start) = (fill(), Instant::now());
        fill.on_in(1, Arrival::Inside, start);
        assert!(!has_room(&fill, start + 60 * S, false));
        assert!(has_room(&fill, start + 60 * S, true));
        fill.on_in(2, Arrival::Inside, start + 60 * S);
        fill.on_in(3, Arrival::Inside, start + 60 * S);
        // Slow, but a packet comes out.
        fill.on_out(2, start + 64 * S);
        assert!(!has_room(&fill, start + 65 * S, true));
    }
}
