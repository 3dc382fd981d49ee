//! `rtpbin`, fed from pads of ours.
//!
//! No appsrc: our pads have no parent, are linked to `recv_rtp_sink_%u` and `recv_rtcp_sink_%u`, and
//! a push is a function call into rtpbin's jitterbuffer. Receiver reports come out of
//! `send_rtcp_src_%u` into a sink pad of ours, which hands them to the connection or drops them:
//! that thread is rtpsession's and must not wait.

use gstreamer as gst;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use gst::{glib, prelude::*};

use super::{Goodbye, Manager};
use crate::{
    mux::RtcpSender,
    rtspsrc::{CAT, RtspMuxSrc, lock, pads::Pads, panics},
};

/// The manager that is `rtspsrc`'s as well.
pub(in crate::rtspsrc) struct Rtpbin {
    bin: gst::Element,
    pads: Arc<Pads>,
    streams: Arc<BTreeMap<usize, Stream>>,
    reports: Reports,
    goodbye: Goodbye,
}

/// Who takes rtpbin's reports at present.
type Reports = Arc<Mutex<Option<RtcpSender>>>;

/// Our pads of one stream. They have no parent, so they live only as long as this.
struct Stream {
    rtp: gst::Pad,
    rtcp: gst::Pad,
    /// Where rtpbin's reports come in.
    reports: gst::Pad,
    /// SSRC and payload type behind the stream's pad.
    shown: Mutex<Option<(u32, u8)>>,
    /// Its source said goodbye.
    has_left: AtomicBool,
}

impl Rtpbin {
    /// Makes an rtpbin for the streams of `pads` and adds it to `element`.
    pub(in crate::rtspsrc) fn build(
        element: &RtspMuxSrc,
        pads: Arc<Pads>,
        latency_ms: u32,
        goodbye: Goodbye,
    ) -> Result<Self, glib::BoolError> {
        let bin = gst::ElementFactory::make("rtpbin")
            .name("manager")
            .property("latency", latency_ms)
            .build()?;
        let reports = Reports::default();
        let streams: BTreeMap<_, _> = pads
            .streams()
            .map(|index| (index, Stream::new(element, index, &reports)))
            .collect();
        let manager = Self {
            bin,
            pads,
            streams: Arc::new(streams),
            reports,
            goodbye,
        };
        manager.connect_signals();
        element.add(&manager.bin)?;
        if let Err(error) = manager.link() {
            manager.deactivate();
            manager.remove();
            return Err(error);
        }
        manager.sync_state();
        Ok(manager)
    }

    fn link(&self) -> Result<(), glib::BoolError> {
        for (index, stream) in self.streams.iter() {
            for pad in [&stream.rtp, &stream.rtcp, &stream.reports] {
                pad.set_active(true)?;
            }
            self.link_stream(*index, stream)?;
        }
        Ok(())
    }

    fn link_stream(&self, index: usize, stream: &Stream) -> Result<(), glib::BoolError> {
        self.link_rtp(index, stream)?;
        let rtcp = self.request(&format!("recv_rtcp_sink_{index}"))?;
        link(&stream.rtcp, &rtcp)?;
        let reports = self.request(&format!("send_rtcp_src_{index}"))?;
        link(&reports, &stream.reports)
    }

    /// Gives all pads of a stream back, and with the last of them rtpbin's session of it: source,
    /// jitterbuffer, sequence numbers, goodbyes and what reports have said about the time.
    fn unlink_stream(&self, stream: &Stream) -> Result<(), glib::BoolError> {
        *lock(&stream.shown) = None;
        stream.has_left.store(false, Ordering::Release);
        for pad in [&stream.rtp, &stream.rtcp] {
            if let Some(sink) = pad.peer() {
                pad.unlink(&sink)?;
                self.bin.release_request_pad(&sink);
            }
        }
        if let Some(source) = stream.reports.peer() {
            source.unlink(&stream.reports)?;
            self.bin.release_request_pad(&source);
        }
        Ok(())
    }

    fn link_rtp(&self, index: usize, stream: &Stream) -> Result<(), glib::BoolError> {
        link(
            &stream.rtp,
            &self.request(&format!("recv_rtp_sink_{index}"))?,
        )
    }

    fn request(&self, name: &str) -> Result<gst::Pad, glib::BoolError> {
        self.bin
            .request_pad_simple(name)
            .ok_or_else(|| glib::bool_error!("rtpbin gives no pad {name}"))
    }

    fn connect_signals(&self) {
        let pads = Arc::downgrade(&self.pads);
        let streams = Arc::downgrade(&self.streams);
        self.bin.connect_pad_added(move |_, pad| {
            guarded(&pads, (), |pads| on_pad_added(pads, &streams, pad));
        });
        let pads = Arc::downgrade(&self.pads);
        self.bin.connect("request-pt-map", false, move |args| {
            let caps = guarded(&pads, None, |pads| {
                let (session, payload_type) = numbers(args)?;
                pads.caps(session as usize, u8::try_from(payload_type).ok()?)
            });
            Some(caps.to_value())
        });
        // The end of a stream, as rtspsrc sees it: a BYE, or the end of what DESCRIBE announced.
        for (signal, meaning) in [("on-bye-ssrc", self.goodbye), ("on-npt-stop", Goodbye::End)] {
            let pads = Arc::downgrade(&self.pads);
            let streams = Arc::downgrade(&self.streams);
            self.bin.connect(signal, false, move |args| {
                guarded(&pads, (), |_| on_end(&streams, args, meaning));
                None
            });
        }
    }
}

impl Manager for Rtpbin {
    fn sync_state(&self) {
        if let Err(error) = self.bin.sync_state_with_parent() {
            gst::warning!(CAT, obj = self.bin, "{error}");
        }
    }

    fn start(&self, reports: RtcpSender) -> Result<(), glib::BoolError> {
        let again = lock(&self.reports).replace(reports).is_some();
        for (index, stream) in self.streams.iter() {
            if again {
                self.unlink_stream(stream)?;
                self.link_stream(*index, stream)?;
                self.pads.begin_anew(*index);
            }
            for event in self.pads.first_events(*index) {
                stream.rtp.push_event(event);
            }
            let caps = gst::Caps::new_empty_simple("application/x-rtcp");
            for event in rtcp_events(&stream.rtcp, &caps) {
                stream.rtcp.push_event(event);
            }
        }
        Ok(())
    }

    fn has_left(&self, stream: usize) -> bool {
        self.streams
            .get(&stream)
            .is_some_and(|stream| stream.has_left.load(Ordering::Acquire))
    }

    fn rtp_pad(&self, stream: usize) -> Option<&gst::Pad> {
        self.streams.get(&stream).map(|stream| &stream.rtp)
    }

    fn rtcp_pad(&self, stream: usize) -> Option<&gst::Pad> {
        self.streams.get(&stream).map(|stream| &stream.rtcp)
    }

    /// Gives the sink back and asks for it anew. With that the old source's jitterbuffer and its
    /// threads go; keeping the sink would leave them there for every new source.
    fn restart(&self, index: usize) -> Result<(), glib::BoolError> {
        let Some(stream) = self.streams.get(&index) else {
            return Ok(());
        };
        *lock(&stream.shown) = None;
        if let Some(sink) = stream.rtp.peer() {
            stream.rtp.unlink(&sink)?;
            self.bin.release_request_pad(&sink);
        }
        self.link_rtp(index, stream)
    }

    fn deactivate(&self) {
        for stream in self.streams.values() {
            for pad in [&stream.rtp, &stream.rtcp, &stream.reports] {
                // Deactivating cannot fail.
                let _ = pad.set_active(false);
            }
        }
    }

    fn remove(&self) {
        // Neither can going down.
        let _ = self.bin.set_state(gst::State::Null);
        for stream in self.streams.values() {
            for pad in [&stream.rtp, &stream.rtcp, &stream.reports] {
                if let Some(peer) = pad.peer() {
                    self.bin.release_request_pad(&peer);
                }
            }
        }
        self.pads.remove();
        if let Some(element) = self.pads.element().upgrade() {
            let _ = element.remove(&self.bin);
        }
    }

    fn pads(&self) -> &Arc<Pads> {
        &self.pads
    }
}

impl Stream {
    fn new(element: &RtspMuxSrc, index: usize, reports: &Reports) -> Self {
        Self {
            rtp: src_pad(element, &format!("rtp_{index}")),
            rtcp: src_pad(element, &format!("rtcp_{index}")),
            reports: report_pad(element, index, reports.clone()),
            shown: Mutex::new(None),
            has_left: AtomicBool::new(false),
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

/// rtpbin has a new source.
fn on_pad_added(pads: &Pads, streams: &Weak<BTreeMap<usize, Stream>>, pad: &gst::Pad) {
    let (Some(streams), Some((index, ssrc, payload_type))) =
        (streams.upgrade(), output(&pad.name()))
    else {
        return;
    };
    let Some(stream) = streams.get(&index) else {
        return;
    };
    let another_payload = {
        let mut shown = lock(&stream.shown);
        let another = shown.is_some_and(|(shown, _)| shown == ssrc);
        if !another {
            *shown = Some((ssrc, payload_type));
        }
        another
    };
    if another_payload {
        // Comfort noise or telephone events beside the audio. Without a peer they would end the
        // stream as not linked.
        gst::info!(
            CAT,
            obj = pad,
            "payload type {payload_type} beside the stream's own is dropped"
        );
        pad.add_probe(gst::PadProbeType::DATA_DOWNSTREAM, |_, _| {
            gst::PadProbeReturn::Drop
        });
        return;
    }
    if let Err(error) = pads.expose(index, pad) {
        gst::error!(CAT, obj = pad, "cannot be shown: {error}");
    }
}

/// The numbers in the name of an output pad, `recv_rtp_src_<session>_<ssrc>_<pt>`.
fn output(name: &str) -> Option<(usize, u32, u8)> {
    let mut numbers = name.strip_prefix("recv_rtp_src_")?.split('_');
    let output = (
        numbers.next()?.parse().ok()?,
        numbers.next()?.parse().ok()?,
        numbers.next()?.parse().ok()?,
    );
    numbers.next().is_none().then_some(output)
}

/// A source has said goodbye, or its time is over: if it is the one that is shown.
fn on_end(streams: &Weak<BTreeMap<usize, Stream>>, args: &[glib::Value], meaning: Goodbye) {
    let (Some(streams), Some((session, ssrc))) = (streams.upgrade(), numbers(args)) else {
        return;
    };
    let Some(stream) = streams.get(&(session as usize)) else {
        return;
    };
    let is_shown = lock(&stream.shown).is_some_and(|(shown, _)| shown == ssrc);
    if is_shown {
        gst::info!(
            CAT,
            obj = stream.rtp,
            "the server has ended stream {session}"
        );
        match meaning {
            Goodbye::End => _ = stream.rtp.push_event(gst::event::Eos::new()),
            Goodbye::Loss => stream.has_left.store(true, Ordering::Release),
        }
    }
}

/// The two numbers after the object in the arguments of rtpbin's signals.
fn numbers(args: &[glib::Value]) -> Option<(u32, u32)> {
    Some((args.get(1)?.get().ok()?, args.get(2)?.get().ok()?))
}

/// A stream of its own for RTCP, as rtpbin has it.
fn rtcp_events(pad: &gst::Pad, caps: &gst::Caps) -> [gst::Event; 3] {
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    [
        gst::event::StreamStart::new(&pad.name()),
        gst::event::Caps::new(caps),
        gst::event::Segment::new(&segment),
    ]
}

fn link(src: &gst::Pad, sink: &gst::Pad) -> Result<(), glib::BoolError> {
    match src.link(sink) {
        Ok(_) => Ok(()),
        Err(error) => Err(glib::bool_error!(
            "cannot link {} to {}: {error}",
            src.name(),
            sink.name()
        )),
    }
}

fn guarded<T>(pads: &Weak<Pads>, fallback: T, body: impl FnOnce(&Pads) -> T) -> T {
    match pads.upgrade() {
        Some(pads) => panics::guard_weak(pads.element(), fallback, |_| body(&pads)),
        None => fallback,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_pads_are_told_from_the_others_by_name() {
        assert_eq!(
            output("recv_rtp_src_1_4294967295_96"),
            Some((1, u32::MAX, 96))
        );
        for other in [
            "recv_rtp_sink_0",
            "send_rtcp_src_0",
            "recv_rtp_src_0_1",
            "recv_rtp_src_0_1_96_x",
            "recv_rtp_src_a_1_96",
        ] {
            assert_eq!(output(other), None, "{other}");
        }
    }
}
