//! From the session's packets to the manager's pads.

use gstreamer as gst;
use gstreamer_base as gst_base;
use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::build_guard::BuildGuard;
use crate::{
    mux::{Packet, PacketKind, Session},
    rtspsrc::{
        CAT, RtspMuxSrc,
        manager::Manager,
        media::{
            buffer::{Marker, PacketAction},
            deliverable::{Shown, Undeliverable},
        },
        threads::timer,
    },
};

/// How often the manager is asked again whether it takes more.
const RECHECK: Duration = Duration::from_secs(1);

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Packets, to be pushed.
    Packets,
    /// No packet yet, but a stream that was held up has room again.
    Room,
    /// The end of the session.
    End,
}

/// Why nothing more can be pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The combined flow of all streams: this session has nowhere to go any more.
    Flow(gst::FlowError),
    /// A source has left that was not to leave.
    Bye,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is on its way, or was dropped because downstream does not take it.
    Delivered,
    /// It was left out.
    Left(Undeliverable),
}

/// One stream.
#[derive(Default)]
struct FeedStream {
    marker: Marker,
    shown: Shown,
}

/// Pushes the packets of a session, over all its lives.
pub(crate) struct Feed {
    build_guard: Arc<BuildGuard>,
    manager: Arc<dyn Manager>,
    streams: BTreeMap<usize, FeedStream>,
    /// One stream that nobody has linked is no error; all of them are.
    flows: gst_base::UniqueFlowCombiner,
}

impl Feed {
    pub(crate) fn new(build_guard: Arc<BuildGuard>, manager: Arc<dyn Manager>) -> Self {
        let mut flows = gst_base::UniqueFlowCombiner::new();
        let mut streams = BTreeMap::new();
        for stream in manager.pads().streams() {
            streams.insert(stream, FeedStream::default());
            if let Some(pad) = manager.rtp_pad(stream) {
                flows.add_pad(pad);
            }
        }
        Self {
            build_guard,
            manager,
            streams,
            flows,
        }
    }

    /// The next packets of streams that have room for them; the others are left waiting in the
    /// session, for a stream that is held up may be waiting for another one, as in a muxer. Dropping
    /// the future loses nothing.
    pub(crate) async fn next_batch(&self, session: &mut Session, batch: &mut Vec<Packet>) -> Next {
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
                true => Next::Packets,
                false => Next::End,
            },
            () = self.room(&full), if !full.is_empty() => Next::Room,
        }
    }

    /// No stream is left waiting any more.
    pub(crate) fn unpark(&self, session: &mut Session) {
        for stream in self.streams.keys() {
            session.set_parked(*stream, false);
        }
    }

    /// The streams that take no more at present.
    fn full(&self) -> Vec<usize> {
        let mut context = Context::from_waker(Waker::noop());
        let mut is_full = |stream: &usize| {
            let room = self.manager.poll_room(*stream, &mut context, timer::now());
            room.is_pending()
        };
        let streams = self.streams.keys().copied();
        streams.filter(|stream| is_full(stream)).collect()
    }

    /// Waits until one of these streams takes more.
    async fn room(&self, full: &[usize]) {
        let waiting = || {
            poll_fn(|context| {
                let mut full = full.iter();
                let has_room = full.any(|stream| {
                    let room = self.manager.poll_room(*stream, context, timer::now());
                    room.is_ready()
                });
                match has_room {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
        };
        while timer::within(RECHECK, waiting()).await.is_none() {}
    }

    /// Whether downstream holds a stream up at present.
    pub(crate) fn is_held_up(&self) -> bool {
        !self.full().is_empty()
    }

    /// After an outage: the manager has begun anew, and so does every stream.
    pub(crate) fn resume(&mut self) {
        for stream in self.streams.values_mut() {
            stream.marker.reset();
        }
        self.flows.reset();
    }

    /// After a pause, or where the source of a stream has begun anew: every stream does.
    pub(crate) fn restart(&mut self) -> Result<(), gst::FlowError> {
        self.resume();
        match self.build_guard.work(|manager| manager.renew()) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                gst::error!(CAT, "the streams cannot begin anew: {error}");
                Err(gst::FlowError::Error)
            }
            None => Err(gst::FlowError::Flushing),
        }
    }

    /// Pushes one packet.
    ///
    /// # Errors
    ///
    /// The session cannot go on.
    pub(crate) fn push(&mut self, element: &RtspMuxSrc, packet: Packet) -> Result<Fate, Halt> {
        match packet.kind {
            PacketKind::Rtp => self.push_rtp(element, packet).map_err(Halt::Flow),
            PacketKind::Rtcp => self.push_rtcp(packet).map(|()| Fate::Delivered),
        }
    }

    /// A report may be the goodbye of the last stream, and then there is no packet more to learn
    /// that from.
    fn push_rtcp(&mut self, packet: Packet) -> Result<(), Halt> {
        let stream = packet.stream;
        let Some(rtp) = self.manager.rtp_pad(stream) else {
            return Ok(());
        };
        self.manager.push_rtcp(packet);
        if self.manager.has_ended(stream) {
            let ended = Err(gst::FlowError::Eos);
            let flow = self.flows.update_pad_flow(rtp, ended);
            return flow.map(drop).map_err(Halt::Flow);
        }
        if self.manager.has_left(stream) {
            return Err(Halt::Bye);
        }
        Ok(())
    }

    fn push_rtp(&mut self, element: &RtspMuxSrc, packet: Packet) -> Result<Fate, gst::FlowError> {
        let (Some(FeedStream { marker, shown }), Some(pad)) = (
            self.streams.get_mut(&packet.stream),
            self.manager.rtp_pad(packet.stream),
        ) else {
            return Ok(Fate::Left(Undeliverable::Foreign));
        };
        // Behind the marker bit (RFC 3550 5.1).
        let payload_type = packet.payload.get(1).map_or(0, |second| second & 0x7f);
        let clock_rate = || self.manager.pads().clock_rate(packet.stream, payload_type);
        let step = marker.handle_packet(
            &packet.payload,
            packet.received,
            packet.discontinuity,
            clock_rate,
        );
        let marks = match step {
            PacketAction::Push(marks) => marks,
            PacketAction::Restart(marks) => {
                gst::info!(CAT, obj = element, "stream {}: new source", packet.stream);
                restart(&self.build_guard, packet.stream)?;
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
            PacketAction::Drop => return Ok(Fate::Left(Undeliverable::Foreign)),
        };
        let described = |payload_type| self.manager.pads().described(packet.stream, payload_type);
        let fate = match shown.judge(payload_type, marks.stamp, described) {
            Ok(()) => Fate::Delivered,
            Err(why) => Fate::Left(why),
        };
        let flow = self.manager.push_rtp(packet, marks);
        self.flows.update_pad_flow(pad, flow).map(|_| fate)
    }
}

/// FLUSHING once the stage is closed: the element is on its way down.
fn restart(build_guard: &BuildGuard, stream: usize) -> Result<(), gst::FlowError> {
    // May wait for the old jitterbuffer's thread, which may be in a sink that takes its time.
    match build_guard.work(|manager| manager.restart(stream)) {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => {
            gst::error!(CAT, "stream {stream} cannot begin anew: {error}");
            Err(gst::FlowError::Error)
        }
        None => Err(gst::FlowError::Flushing),
    }
}
