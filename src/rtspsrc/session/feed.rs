//! Pushes the packets of a session into the pads of its manager, and combines their flow returns.

use gst::glib;
use gstreamer as gst;
use gstreamer_base as gst_base;
use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::control::{BuildGuard, SessionControl};
use crate::{
    mux::{Packet, PacketKind, Session},
    rtspsrc::{
        CAT, RtspMuxSrc,
        manager::Manager,
        media::{
            buffer::{Marker, PacketAction, Shown, Undeliverable},
            pads::PadStream,
        },
        threads::timer,
    },
};

/// How often the feed asks the manager again whether a full stream takes more.
const RECHECK: Duration = Duration::from_secs(1);

/// What the wait for packets brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeedInput {
    /// Packets, to be pushed.
    Packets,
    /// No packet yet, but a stream that was full takes packets again.
    Room,
    /// The end of the session.
    End,
}

/// Why the feed cannot push any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeedHalt {
    /// The combined flow return of all streams: no pad takes packets any more.
    Flow(gst::FlowError),
    /// A source sent RTCP BYE, and that is a loss.
    Bye,
}

/// What the feed did with a packet: it was pushed, or dropped because downstream does not take it; or it was
/// left out, for this reason.
pub(crate) type PushOutcome = Result<(), Undeliverable>;

/// One stream.
struct FeedStream {
    out: Arc<PadStream>,
    marker: Marker,
    shown: Shown,
}

/// Pushes the packets of a session, over all attempts to play it.
pub(crate) struct Feed {
    control: Arc<SessionControl>,
    manager: Arc<dyn Manager>,
    streams: BTreeMap<usize, FeedStream>,
    /// A stream whose pad is not linked is no error unless no pad is linked.
    flows: gst_base::UniqueFlowCombiner,
}

impl Feed {
    pub(crate) fn new(control: Arc<SessionControl>, manager: Arc<dyn Manager>) -> Self {
        let mut flows = gst_base::UniqueFlowCombiner::new();
        let mut streams = BTreeMap::new();
        for out in &manager.pads().streams {
            let stream = FeedStream {
                out: out.clone(),
                marker: Marker::default(),
                shown: Shown::default(),
            };
            streams.insert(out.number, stream);
            if let Some(pad) = manager.rtp_pad(out.number) {
                flows.add_pad(pad);
            }
        }
        Self {
            control,
            manager,
            streams,
            flows,
        }
    }

    /// Waits for packets of the streams that take some. The packets of full streams stay in the session's
    /// queue, so that a full stream does not hold up the others: in front of a muxer it may be waiting
    /// for one of them. Dropping the future loses nothing.
    pub(crate) async fn next_batch(
        &self,
        session: &mut Session,
        batch: &mut Vec<Packet>,
    ) -> FeedInput {
        let full = self.full();
        let is_any_open = full.is_empty() || full.len() < self.streams.len();
        if is_any_open {
            for stream in self.streams.keys() {
                session.set_parked(*stream, full.contains(stream));
            }
        }
        tokio::select! {
            biased;
            more = session.next_batch(batch), if is_any_open => match more {
                true => FeedInput::Packets,
                false => FeedInput::End,
            },
            () = self.room(&full), if !full.is_empty() => FeedInput::Room,
        }
    }

    /// Lets the session hand out the packets of all streams again.
    pub(crate) fn unpark(&self, session: &mut Session) {
        for stream in self.streams.keys() {
            session.set_parked(*stream, false);
        }
    }

    /// The streams that are full.
    fn full(&self) -> Vec<usize> {
        let mut context = Context::from_waker(Waker::noop());
        let mut is_full = |stream: &usize| {
            let room = self.manager.poll_room(*stream, &mut context, timer::now());
            room.is_pending()
        };
        let streams = self.streams.keys().copied();
        streams.filter(|stream| is_full(stream)).collect()
    }

    /// Waits until one of these streams takes packets again.
    async fn room(&self, full: &[usize]) {
        let waiting = || {
            poll_fn(|context| {
                let mut full = full.iter();
                let has_room = full.any(|stream| {
                    let room = self.manager.poll_room(*stream, context, timer::now());
                    room.is_ready()
                });
                if has_room {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
        };
        while timer::within(RECHECK, waiting()).await.is_none() {}
    }

    /// Whether downstream holds up a stream.
    pub(crate) fn is_held_up(&self) -> bool {
        !self.full().is_empty()
    }

    /// Begins every stream anew after an outage; the manager has done so already.
    pub(crate) fn resume(&mut self) {
        for stream in self.streams.values_mut() {
            stream.marker.reset();
        }
        self.flows.reset();
    }

    /// Begins every stream and the manager anew: after a pause, or when the source of a stream restarted.
    pub(crate) fn restart(&mut self) -> Result<(), gst::FlowError> {
        self.resume();
        begin_anew(&self.control.build_guard, |manager| manager.renew())
    }

    /// Pushes one packet.
    ///
    /// # Errors
    ///
    /// The session cannot go on.
    pub(crate) fn push(
        &mut self,
        element: &RtspMuxSrc,
        packet: Packet,
    ) -> Result<PushOutcome, FeedHalt> {
        match packet.kind {
            PacketKind::Rtp => self.push_rtp(element, packet).map_err(FeedHalt::Flow),
            PacketKind::Rtcp => self.push_rtcp(packet).map(Ok),
        }
    }

    /// An RTCP packet may be the BYE of the last stream. Then no RTP packet follows whose push would
    /// return EOS, so this looks for the end itself.
    fn push_rtcp(&mut self, packet: Packet) -> Result<(), FeedHalt> {
        let stream = packet.stream;
        let Some(rtp) = self.manager.rtp_pad(stream) else {
            return Ok(());
        };
        self.manager.push_rtcp(packet);
        if self.manager.has_ended(stream) {
            let ended = Err(gst::FlowError::Eos);
            let flow = self.flows.update_pad_flow(rtp, ended);
            return flow.map(drop).map_err(FeedHalt::Flow);
        }
        if self.manager.has_left(stream) {
            return Err(FeedHalt::Bye);
        }
        Ok(())
    }

    fn push_rtp(
        &mut self,
        element: &RtspMuxSrc,
        packet: Packet,
    ) -> Result<PushOutcome, gst::FlowError> {
        let (Some(FeedStream { out, marker, shown }), Some(pad), Some(header)) = (
            self.streams.get_mut(&packet.stream),
            self.manager.rtp_pad(packet.stream),
            packet.header,
        ) else {
            return Ok(Err(Undeliverable::Foreign));
        };
        let payload_type = header.payload_type;
        let clock_rate = || out.clock_rate(payload_type);
        let (received, discontinuity) = (packet.received, packet.discontinuity);
        let marks = match marker.handle_packet(header, received, discontinuity, clock_rate) {
            PacketAction::Push(marks) => marks,
            PacketAction::Restart(marks) => {
                gst::info!(CAT, obj = element, "stream {}: new source", packet.stream);
                // This may wait for the thread of the old jitterbuffer, which a slow sink may be
                // holding.
                let restart = |manager: &dyn Manager| manager.restart(packet.stream);
                begin_anew(&self.control.build_guard, restart)?;
                marks
            }
            PacketAction::Renew(marks) => {
                gst::info!(CAT, obj = element, "stream {}: begins anew", packet.stream);
                if self.manager.remembers_sources() {
                    self.restart()?;
                    return self.push_rtp(element, packet);
                }
                marks
            }
            PacketAction::Drop => return Ok(Err(Undeliverable::Foreign)),
        };
        let fate = shown.judge(payload_type, marks.stamp, |it| out.described(it).map(drop));
        let flow = self.manager.push_rtp(packet, marks);
        self.flows.update_pad_flow(pad, flow).map(|_| fate)
    }
}

/// Lets the manager forget sources. FLUSHING if the build guard is closed: the element goes to READY.
fn begin_anew(
    build_guard: &BuildGuard,
    forget: impl FnOnce(&dyn Manager) -> Result<(), glib::BoolError>,
) -> Result<(), gst::FlowError> {
    let forgotten = build_guard.work(forget).ok_or(gst::FlowError::Flushing)?;
    forgotten.map_err(|error| {
        gst::error!(CAT, "the streams cannot begin anew: {error}");
        gst::FlowError::Error
    })
}
