//! A manager without `rtpbin`: over TCP no packet overtakes another, and none is lost on the network.
//!
//! So it needs neither a jitterbuffer nor a thread for each stream: a thread of the [worker
//! pool](crate::rtspsrc::threads) stamps a packet and pushes it out of the stream's pad. Downstream may
//! block that thread for any time. The rest of what rtpbin does is done here by the same rules:
//!
//! ```text
//! send_queue     what is to be pushed next, for each stream
//! reception      order, losses, jitter
//! timing         RTP time -> running time
//! skew           the drift of the sender's clock
//! lip_sync       synchronises the streams of a session by their sender reports
//! rtcp           reads sender reports, names and BYEs, writes receiver reports
//! stream         one stream: its pad, and the state of its source
//! stream_sender  pushes from the queue out of the pad, on worker threads
//! reporter       when receiver reports are due: one timer for all sessions
//! ```
//!
//! `reception`, `timing`, `skew`, `lip_sync` and `rtcp` use no GStreamer object and no clock.

mod lip_sync;
mod reception;
mod reporter;
mod rtcp;
mod send_queue;
mod skew;
mod stream;
mod stream_sender;
mod timing;

#[cfg(test)]
mod reference_tests;

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Instant,
};

use gst::glib;
use gstreamer as gst;

use self::{rtcp::Item, stream::LightStream, stream_sender::StreamSender};
use super::{Manager, StreamReport};
use crate::{
    mux::{Packet, RtcpSender, proto::wire::rtp, recovery::OnBye},
    rtspsrc::{
        CAT, RtspMuxSrc, lock,
        media::{buffer::Marks, pads::Pads},
    },
};

/// The light path of one element.
pub(crate) struct Light {
    sender: Arc<StreamSender>,
    on_bye: OnBye,
}

impl Light {
    /// Makes the streams of `pads`. `latency_ms` is the latency that downstream sees.
    pub(crate) fn build(
        element: &RtspMuxSrc,
        pads: Arc<Pads>,
        latency_ms: u32,
        on_bye: OnBye,
    ) -> Result<Self, glib::BoolError> {
        let latency = gst::ClockTime::from_mseconds(u64::from(latency_ms));
        let sender = StreamSender::build(element, pads, latency)?;
        Ok(Self { sender, on_bye })
    }

    fn stream(&self, number: usize) -> Option<&LightStream> {
        self.sender.streams.get(&number)
    }

    fn on_item(&self, stream: &LightStream, item: Item<'_>, received: Instant) {
        match item {
            Item::SenderReport { ssrc, ntp, time } => {
                if stream.on_sender_report(ssrc, ntp, time, received) {
                    self.sender.place_report(stream);
                }
            }
            Item::Name { ssrc, name } => {
                if stream.is_source(ssrc) {
                    lock(&self.sender.lip_sync).on_name(stream.number, name);
                }
            }
            Item::Bye { ssrc } => {
                if stream.is_source(ssrc) {
                    self.handle_bye(stream);
                }
            }
        }
    }

    fn handle_bye(&self, stream: &LightStream) {
        gst::info!(CAT, obj = stream.pad, "the server has ended the stream");
        match self.on_bye {
            OnBye::End => _ = self.push_event(stream.number, gst::event::Eos::new()),
            OnBye::Loss => stream.has_left.store(true, Ordering::Release),
        }
    }
}

impl Manager for Light {
    /// The light path has no state.
    fn sync_state(&self) {}

    fn start(&self, reports: RtcpSender) -> Result<(), glib::BoolError> {
        let is_again = lock(&self.sender.reports).replace(reports).is_some();
        if is_again {
            self.renew()?;
            for number in self.sender.pads.streams() {
                self.sender.pads.begin_anew(number);
            }
        } else {
            reporter::schedule_reports(&self.sender);
        }
        Ok(())
    }

    fn has_ended(&self, stream: usize) -> bool {
        self.stream(stream)
            .is_some_and(|stream| stream.has_ended.load(Ordering::Acquire))
    }

    fn has_left(&self, stream: usize) -> bool {
        self.stream(stream)
            .is_some_and(|stream| stream.has_left.load(Ordering::Acquire))
    }

    fn rtp_pad(&self, stream: usize) -> Option<&gst::Pad> {
        self.stream(stream).map(|stream| &stream.pad)
    }

    fn push_event(&self, stream: usize, event: gst::Event) -> bool {
        let Some(stream) = self.stream(stream) else {
            return false;
        };
        let is_end = event.type_() == gst::EventType::Eos;
        let is_taken = lock(&stream.queue).put_event(event);
        if is_taken && is_end {
            stream.has_ended.store(true, Ordering::Release);
        }
        stream.errand.call();
        is_taken
    }

    fn poll_room(&self, stream: usize, context: &mut Context<'_>, _now: Instant) -> Poll<()> {
        match self.stream(stream) {
            Some(stream) => self.sender.poll_room(stream, context),
            None => Poll::Ready(()),
        }
    }

    /// Puts the packet into the stream's send queue. Returns the result of the last packet that was
    /// pushed.
    fn push_rtp(&self, packet: Packet, marks: Marks) -> Result<gst::FlowSuccess, gst::FlowError> {
        // Depayloaders rely on packets that are as long as their header says.
        let whole = rtp::payload(&packet.payload).and(packet.header);
        let (Some(stream), Some(header)) = (self.stream(packet.stream), whole) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        if !lock(&stream.queue).put(header, packet, marks) {
            return Err(gst::FlowError::Flushing);
        }
        stream.errand.call();
        stream.flow()
    }

    fn push_rtcp(&self, packet: Packet) {
        if let Some(stream) = self.stream(packet.stream) {
            rtcp::read(&packet.payload, |item| {
                self.on_item(stream, item, packet.received);
            });
        }
    }

    fn renew(&self) -> Result<(), glib::BoolError> {
        for stream in self.sender.streams.values() {
            stream.renew();
            lock(&self.sender.lip_sync).forget(stream.number);
        }
        Ok(())
    }

    fn remembers_sources(&self) -> bool {
        false
    }

    /// Nothing to do: the next packet is marked as the first one.
    fn restart(&self, _stream: usize) -> Result<(), glib::BoolError> {
        Ok(())
    }

    fn deactivate(&self) {
        self.sender.close();
    }

    fn remove(&self) {
        self.sender.pads.remove();
    }

    fn pads(&self) -> &Arc<Pads> {
        &self.sender.pads
    }

    fn reports(&self) -> Vec<StreamReport> {
        self.sender
            .streams
            .values()
            .map(LightStream::report)
            .collect()
    }
}
