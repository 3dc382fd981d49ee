//! The manager that uses `rtpbin`, and feeds it from pads of this crate.
//!
//! There is no appsrc: the pads have no parent and are linked to `recv_rtp_sink_%u` and
//! `recv_rtcp_sink_%u`, so a push is a function call into rtpbin's jitterbuffer. Receiver reports come
//! out of `send_rtcp_src_%u` into a sink pad of this crate, which hands them to the connection or drops
//! them: the thread belongs to rtpsession and must not wait.

mod stream;

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};
use gstreamer as gst;
use tokio::sync::Notify;

use self::stream::{JitterbufferFill, ReportSink, RtpbinStream};
use super::{Manager, ManagerSettings, ReportSender};
use crate::{
    mux::{Packet, proto::wire::rtp::RtpHeader, recovery::OnBye},
    rtspsrc::{
        CAT, RtspMuxSrc, guard_weak, lock,
        media::{
            buffer::{self, Marks},
            caps::PayloadMap,
            pads::{PadStream, Pads, Watch},
            sequence::PayloadKind,
            slots::Slots,
        },
    },
};

/// The manager that `rtspsrc` has as well: one rtpbin after the other, behind the same pads.
pub(crate) struct Rtpbin {
    own: Weak<Self>,
    /// The rtpbin at present. A leaf in the order of locks.
    bin: Mutex<gst::Element>,
    /// It has pads: it is in use.
    is_linked: AtomicBool,
    /// The one that takes its place. A leaf as well.
    next: Mutex<Option<gst::Element>>,
    pads: Arc<Pads>,
    streams: Slots<RtpbinStream>,
    reports: ReportSink,
    room: Arc<Notify>,
    settings: ManagerSettings,
    on_bye: OnBye,
    /// How often rtpbin was exchanged. Signals of an older one are ignored.
    life: AtomicU32,
}

impl Rtpbin {
    /// Makes an rtpbin for the streams of `pads` and adds it to `element`.
    pub(crate) fn build(
        element: &RtspMuxSrc,
        pads: Arc<Pads>,
        settings: ManagerSettings,
        on_bye: OnBye,
    ) -> Result<Arc<Self>, glib::BoolError> {
        let bin = make(&settings)?;
        let manager = Arc::new_cyclic(|own| Self {
            own: own.clone(),
            bin: Mutex::new(bin.clone()),
            is_linked: AtomicBool::new(false),
            next: Mutex::default(),
            pads,
            streams: Slots::default(),
            reports: ReportSink::default(),
            room: Arc::default(),
            settings,
            on_bye,
            life: AtomicU32::default(),
        });
        for out in manager.pads.streams() {
            manager.add(out)?;
        }
        manager.connect_signals(&bin, 0);
        element.add(&bin)?;
        manager.sync_state();
        Ok(manager)
    }

    fn bin(&self) -> gst::Element {
        lock(&self.bin).clone()
    }

    fn link(&self) -> Result<(), glib::BoolError> {
        let bin = self.bin();
        self.is_linked.store(true, Ordering::Release);
        for stream in self.streams.values() {
            let request = |kind: &str| {
                let name = format!("{kind}_{}", stream.out.number);
                let pad = bin.request_pad_simple(&name);
                pad.ok_or_else(|| glib::bool_error!("rtpbin gives no pad {name}"))
            };
            link(&stream.rtp, &request("recv_rtp_sink")?)?;
            link(&stream.rtcp, &request("recv_rtcp_sink")?)?;
            link(&request("send_rtcp_src")?, &stream.reports)?;
            let number = stream.out.number as u32;
            let session: Option<glib::Object> =
                bin.emit_by_name("get-internal-session", &[&number]);
            if let Some(session) = session {
                session.set_property("probation", self.settings.probation);
                if stream.out.has_feedback {
                    session.set_property_from_str("rtp-profile", "avpf");
                }
            }
        }
        Ok(())
    }

    /// Exchanges rtpbin. With the old one go sources, jitterbuffers, sequence numbers, BYEs, and the
    /// times of sender reports.
    ///
    /// A thread of the old one may be in a muxer, where it waits for packets of another stream. Those
    /// come out of the new rtpbin, so this must not wait for the thread; [`retire`] ends the old one on a
    /// thread of its own.
    fn exchange(&self) -> Result<(), glib::BoolError> {
        let Some(element) = self.pads.element().upgrade() else {
            return Ok(());
        };
        let bin = match lock(&self.next).take() {
            Some(bin) => bin,
            None => self.make_next()?,
        };
        self.life.fetch_add(1, Ordering::AcqRel);
        for stream in self.streams.values() {
            stream.leave()?;
        }
        let old = std::mem::replace(&mut *lock(&self.bin), bin.clone());
        element.remove(&old)?;
        retire(old);
        element.add(&bin)?;
        self.link()?;
        self.sync_state();
        Ok(())
    }

    /// Makes the rtpbin of the next life.
    fn make_next(&self) -> Result<gst::Element, glib::BoolError> {
        let bin = make(&self.settings)?;
        self.connect_signals(&bin, self.life.load(Ordering::Acquire) + 1);
        Ok(bin)
    }

    /// Signals of an rtpbin that was exchanged are ignored.
    fn connect_signals(&self, bin: &gst::Element, life: u32) {
        let own = self.own.clone();
        bin.connect_pad_added(move |_, pad| {
            guarded(&own, life, (), |manager| manager.on_pad_added(pad));
        });
        let own = self.own.clone();
        bin.connect("request-pt-map", false, move |args| {
            let caps = guarded(&own, life, None, |manager| {
                let (session, payload_type) = numbers(args)?;
                let stream = manager.streams.get(session as usize)?;
                stream.out.caps(u8::try_from(payload_type).ok()?)
            });
            Some(caps.to_value())
        });
        // The end of a stream, as `rtspsrc` sees it: a BYE, or the end that the description announces.
        for (signal, meaning) in [("on-bye-ssrc", self.on_bye), ("on-npt-stop", OnBye::End)] {
            let own = self.own.clone();
            bin.connect(signal, false, move |args| {
                guarded(&own, life, (), |manager| {
                    manager.on_end_signal(args, meaning)
                });
                None
            });
        }
    }

    /// rtpbin has a new source.
    fn on_pad_added(&self, pad: &gst::Pad) {
        let Some((index, ssrc, payload_type)) = output(&pad.name()) else {
            return;
        };
        let Some(stream) = self.streams.get(index) else {
            return;
        };
        if stream.out.kind(payload_type) == PayloadKind::Beside {
            // Comfort noise or telephone events beside the audio. A pad without a peer would end the
            // stream as not linked, so a probe drops them.
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
        *lock(&stream.shown) = Some(ssrc);
        if let Some(element) = self.pads.element().upgrade() {
            stream.watch_output(&element, pad);
        }
        self.show(stream, pad);
        // The source may change to another payload type and back: rtpbin has a pad for each.
        let own = self.own.clone();
        let life = self.life.load(Ordering::Acquire);
        let blocked = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
        pad.add_probe(blocked, move |pad, _| {
            guarded(&own, life, (), |manager| {
                if let Some(stream) = manager.streams.get(index)
                    && lock(&stream.output).upgrade().as_ref() != Some(pad)
                {
                    manager.show(stream, pad);
                }
            });
            gst::PadProbeReturn::Pass
        });
    }

    /// From now on the packets of the stream come out of `pad`.
    fn show(&self, stream: &RtpbinStream, pad: &gst::Pad) {
        *lock(&stream.output) = pad.downgrade();
        if let Err(error) = self.pads.expose(&stream.out, pad, Watch::ByPad) {
            gst::error!(CAT, obj = pad, "cannot be shown: {error}");
        }
    }

    /// A source has sent BYE, or its time is over. This counts if the source is the one behind the pad, or
    /// if there is none yet: a BYE right after PLAY comes before the jitterbuffer's thread has added the
    /// pad, and rtpbin reports only sources that have sent something.
    fn on_end_signal(&self, args: &[glib::Value], meaning: OnBye) {
        let Some((session, ssrc)) = numbers(args) else {
            return;
        };
        let Some(stream) = self.streams.get(session as usize) else {
            return;
        };
        if lock(&stream.shown).is_none_or(|shown| shown == ssrc) {
            gst::info!(
                CAT,
                obj = stream.rtp,
                "the server has ended stream {session}"
            );
            self.on_end(&stream.out, meaning);
        }
    }
}

impl Manager for Rtpbin {
    /// The first one is in the element already, as with `rtspsrc`; a later one takes the name of the one
    /// before, and so comes into the element in its place.
    fn next_element(&self) -> Result<Option<gst::Element>, glib::BoolError> {
        if !self.is_linked.load(Ordering::Acquire) {
            return Ok(Some(self.bin()));
        }
        let next = self.make_next()?;
        *lock(&self.next) = Some(next.clone());
        Ok(Some(next))
    }

    /// The stream is linked with the next rtpbin.
    fn add(&self, out: &Arc<PadStream>) -> Result<(), glib::BoolError> {
        let Some(element) = self.pads.element().upgrade() else {
            return Ok(());
        };
        let latency = Duration::from_millis(self.settings.latency_ms.into());
        let fill = JitterbufferFill::new(latency, self.room.clone());
        let stream = RtpbinStream::new(&element, out.clone(), fill, &self.reports);
        for pad in stream.pads() {
            pad.set_active(true)?;
        }
        self.streams.put(out.number, stream);
        Ok(())
    }

    fn sync_state(&self) {
        let bin = self.bin();
        if let Err(error) = bin.sync_state_with_parent() {
            gst::warning!(CAT, obj = bin, "{error}");
        }
    }

    fn start(&self, reports: ReportSender) -> Result<(), glib::BoolError> {
        let is_again = lock(&self.reports).replace(reports).is_some();
        if !is_again {
            self.link()?;
        } else {
            self.exchange()?;
            for stream in self.pads.streams() {
                stream.timeline.begin_anew();
            }
        }
        for stream in self.streams.values() {
            stream.take_segment();
            for event in stream.out.first_events(stream.out.default_caps()) {
                stream.rtp.push_event(event);
            }
            let caps = gst::Caps::new_empty_simple("application/x-rtcp");
            let segment = gst::FormattedSegment::<gst::ClockTime>::new();
            let id = stream.rtcp.name();
            stream.rtcp.push_event(gst::event::StreamStart::new(&id));
            stream.rtcp.push_event(gst::event::Caps::new(&caps));
            stream.rtcp.push_event(gst::event::Segment::new(&segment));
        }
        Ok(())
    }

    /// Also removes the first sequence number, which the answer to PLAY gave: a new jitterbuffer would
    /// take lower numbers for late packets.
    fn renew(&self) -> Result<(), glib::BoolError> {
        for stream in self.streams.values() {
            stream.out.set_payloads(PayloadMap::without_start);
            if let Some(caps) = stream.out.default_caps() {
                // Only a flushing pad refuses the event, and it gets its events again.
                let _ = stream.rtp.store_sticky_event(&gst::event::Caps::new(&caps));
            }
        }
        self.exchange()
    }

    fn flush(&self, seqnum: gst::Seqnum) {
        for stream in self.streams.values() {
            for pad in [&stream.rtp, &stream.rtcp] {
                let start = gst::event::FlushStart::builder().seqnum(seqnum).build();
                pad.push_event(start);
            }
        }
        for stream in self.streams.values() {
            stream.stop_flush(seqnum);
        }
        self.room.notify_one();
    }

    fn on_sought(&self) {
        for stream in self.streams.values() {
            let caps = stream.out.default_caps();
            if let Some(caps) = caps {
                stream.rtp.push_event(gst::event::Caps::new(&caps));
            }
            if let Some(segment) = stream.take_segment() {
                stream.rtp.push_event(segment.clone());
                stream.rtcp.push_event(segment);
            }
        }
        let bin = self.bin();
        bin.emit_by_name::<()>("reset-sync", &[]);
        bin.emit_by_name::<()>("clear-pt-map", &[]);
    }

    fn renew_caps(&self) {
        self.bin().emit_by_name::<()>("clear-pt-map", &[]);
    }

    fn has_ended(&self, stream: usize) -> bool {
        self.rtp_pad(stream)
            .is_some_and(|pad| pad.pad_flags().contains(gst::PadFlags::EOS))
    }

    fn has_room(&self, stream: usize, now: Instant) -> bool {
        let stream = self.streams.get(stream);
        stream.is_none_or(|stream| stream.has_room(now))
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    fn rtp_pad(&self, stream: usize) -> Option<&gst::Pad> {
        self.streams.get(stream).map(|stream| &stream.rtp)
    }

    fn push_event(&self, stream: usize, event: gst::Event) -> bool {
        self.rtp_pad(stream)
            .is_some_and(|pad| pad.push_event(event))
    }

    fn push_rtp(
        &self,
        packet: Packet,
        mut marks: Marks,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Some(stream) = self.streams.get(packet.stream) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        stream.out.has_left.store(false, Ordering::Release);
        let shown = RtpHeader::of(&packet.payload);
        marks.stamp |= self.settings.stamps_each_packet;
        let mut buffer = buffer::from_payload(packet.payload);
        buffer::mark(&mut buffer, marks, || self.pads.first_time(&stream.out));
        stream.push(shown, buffer, || self.pads.now())
    }

    fn push_rtcp(&self, packet: Packet) {
        if let Some(stream) = self.streams.get(packet.stream) {
            // A failure here is no error: without reports there is no lip-sync, but media.
            let _ = stream.rtcp.push(buffer::from_payload(packet.payload));
        }
    }

    fn deactivate(&self) {
        for pad in self.streams.values().flat_map(RtpbinStream::pads) {
            // Deactivating cannot fail.
            let _ = pad.set_active(false);
        }
    }

    fn remove(&self) {
        let bin = self.bin();
        // A change of state to NULL cannot fail either.
        let _ = bin.set_state(gst::State::Null);
        for pad in self.streams.values().flat_map(RtpbinStream::pads) {
            if let Some(peer) = pad.peer() {
                bin.release_request_pad(&peer);
            }
        }
        self.pads.remove();
        if let Some(element) = self.pads.element().upgrade() {
            let _ = element.remove(&bin);
        }
    }

    fn pads(&self) -> &Arc<Pads> {
        &self.pads
    }
}

fn make(settings: &ManagerSettings) -> Result<gst::Element, glib::BoolError> {
    let bin = gst::ElementFactory::make("rtpbin")
        .name("manager")
        .property("latency", settings.latency_ms)
        .build()?;
    for (name, value) in &settings.rtpbin {
        // Earlier versions lack some.
        let has_it = bin.find_property(name).is_some();
        // `auto` is what rtpbin does by itself.
        if has_it && value != "auto" {
            bin.set_property_from_str(name, value);
        }
    }
    Ok(bin)
}

/// Ends an rtpbin that is not in use any more, on a thread of its own, which may wait for downstream.
fn retire(bin: gst::Element) {
    let down = {
        let bin = bin.clone();
        // A change of state to NULL cannot fail.
        move || _ = bin.set_state(gst::State::Null)
    };
    let thread = std::thread::Builder::new().name("rtspmux-retire".to_owned());
    if let Err(error) = thread.spawn(down) {
        gst::warning!(CAT, obj = bin, "no thread to end it: {error}");
        let _ = bin.set_state(gst::State::Null);
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

/// The two numbers after the object in the arguments of rtpbin's signals.
fn numbers(args: &[glib::Value]) -> Option<(u32, u32)> {
    Some((args.get(1)?.get().ok()?, args.get(2)?.get().ok()?))
}

fn link(src: &gst::Pad, sink: &gst::Pad) -> Result<(), glib::BoolError> {
    let names = (src.name(), sink.name());
    src.link(sink)
        .map(drop)
        .map_err(|error| glib::bool_error!("cannot link {} to {}: {error}", names.0, names.1))
}

/// Calls `body` from a signal of the rtpbin of this life.
fn guarded<T>(own: &Weak<Rtpbin>, life: u32, fallback: T, body: impl FnOnce(&Rtpbin) -> T) -> T {
    let own = own.upgrade();
    match own.filter(|own| own.life.load(Ordering::Acquire) == life) {
        Some(own) => guard_weak(own.pads.element(), fallback, |_| body(&own)),
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
