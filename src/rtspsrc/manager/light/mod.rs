//! A manager without `rtpbin`: over TCP no packet overtakes another, and none is lost on the network.
//!
//! So it needs neither a jitterbuffer nor a thread for each stream: a thread of the [worker
//! pool](crate::rtspsrc::threads) stamps a packet and pushes it out of the stream's pad. Downstream may
//! block that thread for any time. The rest of what rtpbin does is done here by the same rules:
//!
//! ```text
//! timing    RTP time -> running time, with the drift of the sender's clock, and lip-sync
//! rtcp      reads reports, names and BYEs, writes receiver reports; losses, jitter, and when reports are due
//! feedback  asks the camera for a key picture
//! stream    one stream: its pad, the state of its source, and the queue of what is to be pushed
//! ```
//!
//! This file has the manager, and pushes the packets from those queues out of the pads.

mod feedback;
mod rtcp;
mod stream;
mod timing;

use std::{
    sync::{Arc, Mutex, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};
use gstreamer as gst;
use tokio::sync::Notify;

use self::{
    rtcp::Item,
    stream::{Accepted, LightStream, QueuedItem, Taken},
    timing::LipSync,
};
use super::{Manager, ReportSender, StreamReport};
use crate::{
    mux::{Packet, RtpHeader, recovery::OnBye},
    rtspsrc::{
        CAT, guard_weak, lock,
        media::{
            buffer::{self, Marks},
            pads::{PadStream, Pads, Watch},
            relinking::{FlowResult, PacketFate},
            slots::Slots,
        },
        threads::{Task, WorkerPool, timer},
    },
};

/// How long a stream pushes before others have a turn. It is shorter than the time after which the
/// monitor thread of the pool takes a task for blocked.
const TURN: Duration = Duration::from_micros(500);

/// After so many packets it reads the clock.
const LOOK_AFTER: usize = 8;

/// The light path of one element.
pub(crate) struct Light {
    own: Weak<Self>,
    pads: Arc<Pads>,
    streams: Slots<LightStream>,
    /// `None`: downstream decides how fast packets are taken.
    latency: Option<gst::ClockTime>,
    lip_sync: Mutex<LipSync>,
    /// Where receiver reports go; `None` before the first PLAY and after the end.
    reports: Mutex<Option<ReportSender>>,
    /// The CNAME of the receiver in reports.
    name: String,
    room: Notify,
    on_bye: OnBye,
}

impl Light {
    /// Makes the streams of `pads`. `latency_ms` is the latency that downstream sees; `None`: it decides how fast
    /// packets are taken.
    pub(crate) fn build(
        pads: Arc<Pads>,
        latency_ms: Option<u32>,
        on_bye: OnBye,
    ) -> Result<Arc<Self>, glib::BoolError> {
        let latency = latency_ms.map(|ms| gst::ClockTime::from_mseconds(u64::from(ms)));
        let light = Arc::new_cyclic(|own: &Weak<Self>| Self {
            own: own.clone(),
            streams: Slots::default(),
            latency,
            pads,
            lip_sync: Mutex::default(),
            reports: Mutex::default(),
            name: rtcp::new_name(),
            room: Notify::new(),
            on_bye,
        });
        for out in light.pads.streams() {
            light.add(out)?;
        }
        Ok(light)
    }

    fn stream(&self, number: usize) -> Option<&LightStream> {
        self.streams.get(number)
    }

    fn on_item(&self, stream: &LightStream, item: Item<'_>, received: Instant) {
        match item {
            Item::SenderReport { ssrc, report } => {
                if stream.on_sender_report(ssrc, report, received) {
                    self.place_report(stream);
                }
            }
            Item::Name { ssrc, name } if stream.is_source(ssrc) => {
                lock(&self.lip_sync).on_name(stream.out.number, name);
            }
            Item::Bye { ssrc } if stream.is_source(ssrc) => {
                gst::info!(CAT, obj = stream.pad, "the server has ended the stream");
                self.on_end(&stream.out, self.on_bye);
            }
            Item::Name { .. } | Item::Bye { .. } => {}
        }
    }

    /// The stream has a new source, and the sender perhaps another wall clock.
    fn forget_clock(&self, stream: &LightStream) {
        lock(&self.lip_sync).forget(stream.out.number);
        self.streams.values().for_each(LightStream::forget_clock);
    }

    /// Computes the running time of a sender report, and the lip-sync offsets that follow for all
    /// streams.
    fn place_report(&self, stream: &LightStream) {
        let Some((ntp, time)) = stream.place_report() else {
            return;
        };
        lock(&self.lip_sync).on_report(stream.out.number, ntp, time, |number, offset| {
            if let Some(stream) = self.streams.get(number) {
                stream.offset.store(offset, Ordering::Relaxed);
            }
        });
    }

    /// One run of a stream's task on the worker pool: pushes the items of the stream's queue. If that
    /// takes long, the rest is pushed in another turn.
    fn send(&self, number: usize) {
        let Some(stream) = self.stream(number) else {
            return;
        };
        let mut taken = lock(&stream.taken);
        let Taken { messages, life } = &mut *taken;
        // The call for the items in the queue may have come before this turn.
        let mut is_more = !messages.is_empty();
        let mut queue = lock(&stream.queue);
        let mut last = queue.flow;
        if !is_more {
            *life = stream.life();
            queue.take(messages);
        }
        drop(queue);
        if !is_more {
            self.room.notify_one();
        }
        // Buffers leave from the pad that applications see: the way there through its proxy pad costs half as
        // much again as all else here. A state change waits for the proxy pad's lock, and so for the turn.
        let shown = stream.out.shown();
        let proxy = shown.as_ref().and_then(ProxyPadExt::internal);
        let _streaming = proxy.as_ref().map(PadExtManual::stream_lock);
        let outlet = shown.as_ref().map_or(&stream.pad, Cast::upcast_ref);
        let began = timer::now();
        let mut count = 0;
        while let Some(message) = messages.pop_front() {
            match message {
                QueuedItem::Event(event) => _ = stream.pad.push_event(event),
                QueuedItem::Rtp(..) if stream.life() != *life || is_over(last) => {}
                QueuedItem::Rtp(packet, marks) => {
                    let flow = self.push(stream, outlet, packet, marks);
                    if flow != last && stream.life() == *life {
                        lock(&stream.queue).flow = flow;
                        last = flow;
                    }
                }
            }
            count += 1;
            if count % LOOK_AFTER == 0 && timer::now().saturating_duration_since(began) >= TURN {
                is_more = true;
                break;
            }
        }
        if is_more {
            stream.task.call();
        }
    }

    fn push(
        &self,
        stream: &LightStream,
        outlet: &gst::Pad,
        packet: Packet,
        marks: Marks,
    ) -> FlowResult {
        let Some(header) = &packet.header else {
            return Ok(gst::FlowSuccess::Ok);
        };
        if marks.anew || marks.stamp {
            stream.begin(Some(header.ssrc));
            self.forget_clock(stream);
        }
        let Some(accepted) = stream.accept(header, packet.received) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let Accepted {
            is_first,
            has_gap,
            time,
        } = accepted;
        if is_first {
            self.announce(stream, header)?;
        }
        let time = time.unwrap_or_else(|| self.stamp(stream, header, packet.received));
        let time = gst::ClockTime::from_nseconds(time);
        if let Some(gap) = stream.out.timeline.see(time) {
            // An error means that the pad is not linked, and the event has no receiver.
            let _ = stream.pad.push_event(gap.event());
        }
        let fate = stream.out.admit(&packet.payload, header.payload_type);
        if fate == PacketFate::Drop {
            self.ask_for_key_picture(stream, false);
            return Ok(gst::FlowSuccess::Ok);
        }
        let mut buffer = buffer::from_payload(packet.payload);
        let fields = buffer.make_mut();
        fields.set_pts(time);
        if has_gap || marks.discont || fate == PacketFate::Resume {
            fields.set_flags(gst::BufferFlags::DISCONT);
        }
        let flow = outlet.push(buffer);
        stream.out.on_pushed(fate, header.payload_type, flow)
    }

    /// Stamps a packet that is the first of its time.
    fn stamp(&self, stream: &LightStream, header: &RtpHeader, received: Instant) -> u64 {
        let floor = stream.out.timeline.last();
        let arrival = self.arrival(received);
        let stamp = stream.stamp(header.timestamp, arrival.nseconds(), floor.nseconds());
        // A sender report may have come before the first packet.
        self.place_report(stream);
        stamp
    }

    /// The running time at which a packet came; 0 if the element has no clock.
    fn arrival(&self, received: Instant) -> gst::ClockTime {
        let element = self.pads.element().upgrade();
        let now = element.and_then(|element| element.current_running_time());
        let age = timer::now().saturating_duration_since(received);
        let age = gst::ClockTime::try_from(age).unwrap_or_default();
        now.unwrap_or_default().saturating_sub(age)
    }

    /// Pushes the events that a source begins with, and adds the pad if it is the first source.
    fn announce(&self, stream: &LightStream, header: &RtpHeader) -> Result<(), gst::FlowError> {
        let Some(caps) = self.caps(stream, header) else {
            return Ok(());
        };
        let present = stream.pad.current_caps();
        if present.is_none() {
            for event in stream.out.first_events(Some(caps)) {
                stream.pad.push_event(event);
            }
        } else if present.as_ref() != Some(&caps) {
            stream.pad.push_event(gst::event::Caps::new(&caps));
        }
        if let Some(segment) = stream.out.take_segment() {
            stream.pad.push_event(segment);
        }
        // The gate keeps a state change from removing pads while one is being added.
        let gate = lock(&stream.gate);
        if !*gate {
            return Err(gst::FlowError::Flushing);
        }
        if present.is_some() {
            return Ok(());
        }
        let shown = self.pads.expose(&stream.out, &stream.pad, Watch::ByManager);
        shown.map_err(|error| {
            gst::error!(CAT, obj = stream.pad, "cannot be shown: {error}");
            gst::FlowError::Error
        })
    }

    /// The caps of the payload type, with the fields that rtpbin adds.
    fn caps(&self, stream: &LightStream, header: &RtpHeader) -> Option<gst::Caps> {
        let mut caps = stream.out.caps(header.payload_type)?;
        let fields = caps.make_mut();
        fields.set("payload", i32::from(header.payload_type));
        fields.set("ssrc", header.ssrc);
        Some(caps)
    }
}

impl Manager for Light {
    fn add(&self, out: &Arc<PadStream>) -> Result<(), glib::BoolError> {
        let Some(element) = self.pads.element().upgrade() else {
            return Ok(());
        };
        let pool =
            WorkerPool::shared().map_err(|error| glib::bool_error!("no threads: {error}"))?;
        let (own, number) = (self.own.clone(), out.number);
        let task = Task::new(pool, move |_| {
            if let Some(light) = own.upgrade() {
                guard_weak(light.pads.element(), (), |_| light.send(number));
            }
        });
        let own = self.own.clone();
        let on_event = move |event: &gst::Event| {
            if let Some(light) = own.upgrade() {
                light.on_upstream_event(number, event);
            }
        };
        let stream = LightStream::new(&element, out.clone(), self.latency, task, on_event);
        stream.pad.set_active(true)?;
        self.streams.put(number, stream);
        Ok(())
    }

    fn start(&self, reports: ReportSender) -> Result<(), glib::BoolError> {
        let is_again = lock(&self.reports).replace(reports).is_some();
        if is_again {
            self.renew()?;
            for stream in self.pads.streams() {
                stream.timeline.begin_anew();
            }
        } else {
            rtcp::schedule_reports(self.own.clone());
        }
        Ok(())
    }

    fn has_ended(&self, stream: usize) -> bool {
        self.stream(stream)
            .is_some_and(|stream| stream.has_ended.load(Ordering::Acquire))
    }

    fn rtp_pad(&self, stream: usize) -> Option<&gst::Pad> {
        self.stream(stream).map(|stream| &stream.pad)
    }

    fn push_event(&self, stream: usize, event: gst::Event) -> bool {
        let Some(stream) = self.stream(stream) else {
            return false;
        };
        let is_end = event.type_() == gst::EventType::Eos;
        let is_taken = lock(&stream.queue).put(QueuedItem::Event(event));
        if is_taken && is_end {
            stream.has_ended.store(true, Ordering::Release);
        }
        stream.task.call();
        is_taken
    }

    fn has_room(&self, stream: usize, _now: Instant) -> bool {
        self.stream(stream).is_none_or(LightStream::has_room)
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    /// Puts the packet into the stream's send queue. Returns the result of the last packet that was
    /// pushed.
    fn push_rtp(&self, packet: Packet, marks: Marks) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (Some(stream), Some(_)) = (self.stream(packet.stream), packet.header) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        stream.out.has_left.store(false, Ordering::Release);
        let mut queue = lock(&stream.queue);
        if !queue.put(QueuedItem::Rtp(packet, marks)) {
            return Err(gst::FlowError::Flushing);
        }
        let flow = queue.flow;
        drop(queue);
        stream.task.call();
        flow
    }

    fn push_rtcp(&self, packet: Packet) {
        if let Some(stream) = self.stream(packet.stream) {
            rtcp::read(&packet.payload, |item| {
                self.on_item(stream, item, packet.received);
            });
        }
    }

    fn needs_order(&self) -> bool {
        true
    }

    fn renew(&self) -> Result<(), glib::BoolError> {
        for stream in self.streams.values() {
            stream.renew();
            self.forget_clock(stream);
        }
        Ok(())
    }

    fn flush(&self, seqnum: gst::Seqnum) {
        for stream in self.streams.values() {
            let start = gst::event::FlushStart::builder().seqnum(seqnum).build();
            stream.pad.push_event(start);
        }
        for stream in self.streams.values() {
            stream.flush(seqnum);
            self.forget_clock(stream);
        }
        self.room.notify_one();
    }

    fn deactivate(&self) {
        *lock(&self.reports) = None;
        for stream in self.streams.values() {
            stream.close();
            *lock(&stream.gate) = false;
            // Deactivating cannot fail.
            let _ = stream.pad.set_active(false);
        }
        self.room.notify_one();
    }

    fn remove(&self) {
        self.pads.remove();
    }

    fn pads(&self) -> &Arc<Pads> {
        &self.pads
    }

    fn reports(&self) -> Vec<StreamReport> {
        self.streams.values().map(LightStream::report).collect()
    }
}

/// Whether downstream takes no packets of the stream now. It may return the reason only once, so the stream
/// remembers it.
fn is_over(flow: FlowResult) -> bool {
    !matches!(flow, Ok(_) | Err(gst::FlowError::NotLinked))
}

#[cfg(test)]
mod reference_tests;
