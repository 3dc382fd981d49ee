//! Pushes the packets of a session into the pads of its manager, and combines their flow returns.

use gst::glib;
use gstreamer as gst;
use gstreamer_base as gst_base;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::control::{BuildGuard, SessionControl};
use crate::{
    mux::{Packet, PacketKind, Session, proto::wire::rtp},
    rtspsrc::{
        CAT, lock,
        manager::Manager,
        media::{
            alias::Alias,
            buffer::{Marks, Undeliverable},
            numbers::StreamNumbers,
            pads::PadStream,
            payload::PayloadShape,
            sequence::{PayloadKind, Sequencer},
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
    /// No packet, and those that wait for missing ones are to be [pushed](Feed::push_late).
    Late,
    /// The end of the session.
    End,
}

/// Why the feed cannot push any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeedHalt {
    /// The combined flow return of all streams: no pad takes packets any more.
    Flow(gst::FlowError),
    /// All sources sent RTCP BYE, and that is a loss.
    Bye,
}

/// What the feed did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushOutcome {
    /// It was pushed, or dropped because downstream does not take it.
    Delivered,
    /// It was left out, for this reason.
    Left(Undeliverable),
    /// It waits for the packets around it, or came before.
    Waiting,
}

/// One stream.
struct FeedStream {
    out: Arc<PadStream>,
    /// The pad of the manager that packets leave from; `None` if the manager has none.
    pad: Option<gst::Pad>,
    sequencer: Sequencer,
    /// Under which numbers downstream sees it.
    alias: Alias,
    /// The payload type of the last packet, and what packets of that type carry.
    payload: Option<(u8, (PayloadKind, PayloadShape))>,
}

impl FeedStream {
    fn payload(&mut self, payload_type: u8) -> (PayloadKind, PayloadShape) {
        match self.payload {
            Some((of, payload)) if of == payload_type => payload,
            _ => {
                let payload = self.out.payload(payload_type);
                self.payload = Some((payload_type, payload));
                payload
            }
        }
    }

    /// Pushes the packets whose turn it is, and leaves `ready` empty.
    fn push_all(
        &mut self,
        manager: &dyn Manager,
        flows: &mut gst_base::UniqueFlowCombiner,
        ready: &mut Vec<(Packet, Marks)>,
    ) -> Result<PushOutcome, gst::FlowError> {
        let mut outcome = PushOutcome::Waiting;
        for (packet, marks) in ready.drain(..) {
            outcome = self.push(manager, flows, packet, marks)?;
        }
        Ok(outcome)
    }

    fn push(
        &mut self,
        manager: &dyn Manager,
        flows: &mut gst_base::UniqueFlowCombiner,
        mut packet: Packet,
        marks: Marks,
    ) -> Result<PushOutcome, gst::FlowError> {
        let payload_type = packet.header.map_or(0, |header| header.payload_type);
        let (kind, _) = self.payload(payload_type);
        let Some(pad) = &self.pad else {
            return Ok(PushOutcome::Left(Undeliverable::Foreign));
        };
        let rate = kind.clock_rate().unwrap_or_default();
        if self.alias.apply(&mut packet, marks, rate) {
            *lock(&self.out.sources) = self.alias.sources();
        }
        flows.update_pad_flow(pad, manager.push_rtp(packet, marks))?;
        Ok(match kind {
            PayloadKind::Media(_) => PushOutcome::Delivered,
            PayloadKind::Beside => PushOutcome::Left(Undeliverable::Beside(payload_type)),
            PayloadKind::Unknown => PushOutcome::Left(Undeliverable::NoMap(payload_type)),
        })
    }
}

/// Pushes the packets of a session, over all attempts to play it.
pub(crate) struct Feed {
    control: Arc<SessionControl>,
    manager: Arc<dyn Manager>,
    /// By the numbers of their pads, as all streams are here.
    streams: BTreeMap<usize, FeedStream>,
    numbers: StreamNumbers,
    /// A stream whose pad is not linked is no error unless no pad is linked.
    flows: gst_base::UniqueFlowCombiner,
    /// Packets whose turn it is; empty between calls.
    ready: Vec<(Packet, Marks)>,
}

impl Feed {
    pub(crate) fn new(control: Arc<SessionControl>, manager: Arc<dyn Manager>) -> Self {
        Self {
            control,
            manager,
            streams: BTreeMap::new(),
            numbers: StreamNumbers::default(),
            flows: gst_base::UniqueFlowCombiner::new(),
            ready: Vec::new(),
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
            for (stream, pad) in &self.numbers.0 {
                session.set_parked(*stream, full.contains(pad));
            }
        }
        let streams = self.streams.values();
        let due = streams
            .filter_map(|stream| stream.sequencer.deadline())
            .min();
        let mut late = timer::Alarm::at(due);
        tokio::select! {
            biased;
            more = session.next_batch(batch), if is_any_open => match more {
                true => FeedInput::Packets,
                false => FeedInput::End,
            },
            () = self.room(&full), if !full.is_empty() => FeedInput::Room,
            () = late.rings() => FeedInput::Late,
        }
    }

    /// Lets the session hand out the packets of all streams again.
    pub(crate) fn unpark(&self, session: &mut Session) {
        for (stream, _) in &self.numbers.0 {
            session.set_parked(*stream, false);
        }
    }

    /// The streams that are full.
    fn full(&self) -> Vec<usize> {
        let now = timer::now();
        let streams = self.streams.keys().copied();
        streams
            .filter(|stream| !self.manager.has_room(*stream, now))
            .collect()
    }

    /// Waits until one of these streams takes packets again.
    async fn room(&self, full: &[usize]) {
        let has_room = |stream: &usize| self.manager.has_room(*stream, timer::now());
        while !full.iter().any(has_room) {
            let _ = timer::within(RECHECK, self.manager.room().notified()).await;
        }
    }

    /// Whether downstream holds up a stream.
    pub(crate) fn is_held_up(&self) -> bool {
        !self.full().is_empty()
    }

    /// Begins every stream anew in a new session; the manager has done so already.
    pub(crate) fn begin(&mut self, numbers: StreamNumbers) {
        self.numbers = numbers;
        for out in self.manager.pads().streams() {
            if self.streams.contains_key(&out.number) {
                continue;
            }
            let pad = self.manager.rtp_pad(out.number).cloned();
            if let Some(pad) = &pad {
                self.flows.add_pad(pad);
            }
            let stream = FeedStream {
                out: out.clone(),
                pad,
                sequencer: Sequencer::new(self.manager.needs_order()),
                alias: Alias::default(),
                payload: None,
            };
            self.streams.insert(out.number, stream);
        }
        self.resume();
    }

    /// The next packets are from elsewhere: after a pause, or a seek.
    pub(super) fn resume(&mut self) {
        for stream in self.streams.values_mut() {
            stream.sequencer.reset();
            stream.payload = None;
            stream.alias = Alias::new(!self.manager.needs_order());
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
    pub(crate) fn push(&mut self, mut packet: Packet) -> Result<PushOutcome, FeedHalt> {
        let Some(pad) = self.numbers.of_pad(packet.stream) else {
            return Ok(PushOutcome::Left(Undeliverable::Foreign));
        };
        packet.stream = pad;
        match packet.kind {
            PacketKind::Rtp => self.push_rtp(packet).map_err(FeedHalt::Flow),
            PacketKind::Rtcp => self.push_rtcp(packet).map(|()| PushOutcome::Delivered),
        }
    }

    /// An RTCP packet may be the BYE of the last stream. Then no RTP packet follows whose push would
    /// return EOS, so this looks for the end itself.
    fn push_rtcp(&mut self, mut packet: Packet) -> Result<(), FeedHalt> {
        let stream = packet.stream;
        let Some(of) = self.streams.get(&stream) else {
            return Ok(());
        };
        let Some(rtp) = &of.pad else { return Ok(()) };
        if !self.manager.needs_order() {
            packet.payload = of.alias.apply_to_report(packet.payload);
        }
        self.manager.push_rtcp(packet);
        if self.manager.has_ended(stream) {
            let ended = Err(gst::FlowError::Eos);
            let flow = self.flows.update_pad_flow(rtp, ended);
            return flow.map(drop).map_err(FeedHalt::Flow);
        }
        match self.manager.has_left(stream) && self.have_all_left() {
            true => Err(FeedHalt::Bye),
            false => Ok(()),
        }
    }

    /// Whether all sources that have sent media have sent BYE. A BYE is of one source: a camera whose
    /// sound is switched off goes on with the picture.
    fn have_all_left(&self) -> bool {
        let mut streams = self.streams.iter();
        streams
            .all(|(number, stream)| !stream.sequencer.has_begun() || self.manager.has_left(*number))
    }

    fn push_rtp(&mut self, packet: Packet) -> Result<PushOutcome, gst::FlowError> {
        // Depayloaders rely on packets that are as long as their header says, and rtpbin posts a WARNING for
        // each that is not.
        let whole = rtp::payload(&packet.payload).zip(packet.header);
        let (Some(stream), Some((payload, header))) = (self.streams.get_mut(&packet.stream), whole)
        else {
            return Ok(PushOutcome::Left(Undeliverable::Foreign));
        };
        // The session may have moved to where the stream has other caps.
        if packet.discontinuity {
            stream.payload = None;
        }
        let (kind, shape) = stream.payload(header.payload_type);
        if !shape.takes(payload) {
            return Ok(PushOutcome::Left(Undeliverable::Foreign));
        }
        let (manager, flows, ready) = (&*self.manager, &mut self.flows, &mut self.ready);
        match stream.sequencer.pass(&packet, kind) {
            Some(marks) => stream.push(manager, flows, packet, marks),
            None => {
                stream.sequencer.handle_packet(packet, kind, ready);
                stream.push_all(manager, flows, ready)
            }
        }
    }

    /// Pushes the packets that have waited long enough for missing ones.
    pub(crate) fn push_late(&mut self) -> Result<(), FeedHalt> {
        let now = timer::now();
        for stream in self.streams.values_mut() {
            let ready = &mut self.ready;
            stream.sequencer.give_up_waiting(now, ready);
            let pushed = stream.push_all(&*self.manager, &mut self.flows, ready);
            pushed.map_err(FeedHalt::Flow)?;
        }
        Ok(())
    }

    /// The sequence number of the last packet of a stream of the session.
    pub(crate) fn last_number(&self, stream: usize) -> Option<u16> {
        let stream = self.streams.get(&self.numbers.of_pad(stream)?)?;
        stream.sequencer.last_number()
    }

    /// How much media has come in this session, by the RTP time of its longest stream.
    pub(crate) fn passed(&self) -> Duration {
        let streams = self.streams.values();
        let passed = streams.map(|stream| stream.sequencer.passed());
        passed.max().unwrap_or_default()
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
