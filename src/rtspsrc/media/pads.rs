//! The pads that applications link: one for each media stream, the same for all managers. Their template is
//! `stream_%u`.
//!
//! This module decides on stream id, group, caps and segment, so that they do not depend on the manager.
//! A pad appears with the first packet of its stream, as with `rtspsrc`, and stays until the element goes
//! to READY; the manager may exchange the source behind it.
//!
//! # Running times across outages
//!
//! The pipeline's clock goes on during an outage. The first buffer after it has the running time of its
//! arrival, so the gap in a recording is as long as the outage. A GAP event tells elements downstream not
//! to wait for buffers in between.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use gst::{glib, prelude::*};
use gstreamer as gst;

use super::{
    alias::AliasedSource,
    caps::PayloadMap,
    payload::PayloadShape,
    refusals::Refusals,
    relinking::{FlowResult, PacketFate, Relinking},
    seeking::{Seeking, Segment},
    sequence::PayloadKind,
    slots::Slots,
    unwanted::WantedStream,
};
use crate::{
    mux::proto::wire::{
        redaction::without_hashes,
        rtp::{RtpHeader, VideoCoding},
    },
    rtspsrc::{CAT, RtspMuxSrc, guard_weak, is_shim, lock, threads::timer},
};

/// The pads of one session.
pub(crate) struct Pads {
    element: glib::WeakRef<RtspMuxSrc>,
    /// Those of the first description, and those that later ones added.
    streams: Slots<Arc<PadStream>>,
    camera: String,
    seeking: Arc<Seeking>,
    group: gst::GroupId,
    /// Held while a pad is added and announced, so that pads come one at a time. `gst_parse_launch` and
    /// applications link pads as they come, and rely on that with `rtspsrc`; with two at once they link
    /// the wrong pads.
    pub(super) adding: Mutex<()>,
    /// `no-more-pads` was emitted. A stream that comes later has its pad all the same.
    is_complete: AtomicBool,
}

/// What sees the packets that leave a pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// The pad itself.
    ByPad,
    /// The manager calls [`Timeline::see`], and asks the stream.
    ByManager,
}

/// A media stream that is set up.
pub(crate) struct NewStream {
    /// Its number in the session that is set up.
    pub(crate) number: usize,
    /// Which `m=` line it is; its pad is named after it.
    pub(crate) section: usize,
    /// Its profile has feedback (RFC 4585).
    pub(crate) has_feedback: bool,
    /// It may never send: `no-more-pads` does not wait for its pad.
    pub(crate) is_inactive: bool,
    pub(crate) payloads: PayloadMap,
}

/// One stream and its pad.
pub(crate) struct PadStream {
    /// The number of its pad: of a stream that was there first, its number in the first session.
    pub(crate) number: usize,
    pub(crate) section: usize,
    /// Its receiver may ask for a key picture.
    pub(crate) has_feedback: bool,
    is_inactive: bool,
    pub(crate) stream_start: gst::Event,
    /// The segment of what is played, until it is pushed.
    segment: Mutex<Option<gst::Event>>,
    seeking: Arc<Seeking>,
    payloads: Mutex<PayloadMap>,
    /// Under which SSRC downstream sees it.
    pub(crate) sources: Mutex<AliasedSource>,
    pub(super) ghost: Mutex<Option<gst::GhostPad>>,
    pub(super) watch: OnceLock<Watch>,
    /// Whether the application wants it.
    pub(super) wanted: WantedStream,
    /// Its source has sent BYE and nothing since, and that is a loss and not the end of the stream.
    pub(crate) has_left: AtomicBool,
    /// Whether downstream takes what comes.
    relinking: Relinking,
    refusals: Refusals,
    /// What left its pad.
    pub(crate) timeline: Arc<Timeline>,
}

impl PadStream {
    /// Its stream is gone for now: tells downstream not to wait for it. `now` is the running time.
    pub(crate) fn push_gap(&self, now: gst::ClockTime) {
        if let Some(ghost) = self.shown() {
            let start = self.timeline.last();
            let duration = now.saturating_sub(start);
            let gap = Gap { start, duration };
            // An error means that the pad is not linked, and the event has no receiver.
            let _ = ghost.push_event(gap.event());
        }
    }

    /// The pad that applications see, once it is there.
    pub(crate) fn shown(&self) -> Option<gst::GhostPad> {
        lock(&self.ghost).clone()
    }

    /// Whether downstream takes packets of a payload type at all, as far as their caps tell.
    fn is_wanted(&self, payload_type: u8) -> bool {
        match (self.shown(), self.caps(payload_type)) {
            (Some(ghost), Some(caps)) => ghost.peer_query_accept_caps(&caps),
            _ => true,
        }
    }

    /// Decides on an RTP packet that is to leave its pad.
    pub(crate) fn admit(&self, packet: &[u8], payload_type: u8) -> PacketFate {
        if self.wanted.is_dropped() {
            return PacketFate::Drop;
        }
        let rests = self.refusals.rests(timer::now);
        let coding = || self.coding(payload_type);
        self.relinking.admit(timer::now, packet, coding, rests)
    }

    /// The packet was pushed. Returns the result as the one who pushed is to have it.
    pub(crate) fn on_pushed(
        &self,
        fate: PacketFate,
        payload_type: u8,
        flow: FlowResult,
    ) -> FlowResult {
        let is_wanted = || self.is_wanted(payload_type);
        let flow = self.refusals.on_pushed(flow, timer::now, is_wanted);
        self.relinking.on_pushed(fate, flow, timer::now)
    }

    /// Its id, as STREAM_START has it.
    pub(crate) fn id(&self) -> String {
        match self.stream_start.view() {
            gst::EventView::StreamStart(start) => start.stream_id().to_owned(),
            _ => String::new(),
        }
    }

    /// Its stream is gone for good.
    pub(crate) fn push_eos(&self) {
        if let Some(ghost) = self.shown() {
            let _ = ghost.push_event(gst::event::Eos::new());
        }
    }

    /// Replaces the caps, before the first packet.
    pub(crate) fn set_payloads(&self, change: impl FnOnce(&PayloadMap) -> PayloadMap) {
        let mut payloads = lock(&self.payloads);
        *payloads = change(&payloads);
    }

    /// The caps of a payload type.
    pub(crate) fn caps(&self, payload_type: u8) -> Option<gst::Caps> {
        lock(&self.payloads).caps(payload_type).cloned()
    }

    /// How to tell the key pictures of a payload type, if that is known.
    fn coding(&self, payload_type: u8) -> Option<VideoCoding> {
        let caps = self.caps(payload_type)?;
        VideoCoding::of_encoding(caps.structure(0)?.get("encoding-name").ok()?)
    }

    /// The caps of the payload type that is listed first.
    pub(crate) fn default_caps(&self) -> Option<gst::Caps> {
        lock(&self.payloads).default_caps().cloned()
    }

    /// What packets of a payload type carry.
    pub(crate) fn kind(&self, payload_type: u8) -> PayloadKind {
        lock(&self.payloads).kind(payload_type)
    }

    /// What packets of a payload type carry, and what is looked at in them.
    pub(crate) fn payload(&self, payload_type: u8) -> (PayloadKind, PayloadShape) {
        let payloads = lock(&self.payloads);
        (payloads.kind(payload_type), payloads.shape(payload_type))
    }

    /// The session plays from elsewhere.
    pub(crate) fn set_segment(&self, segment: gst::Event) {
        *lock(&self.segment) = Some(segment);
    }

    /// The segment that is to be pushed before the next packet.
    pub(crate) fn take_segment(&self) -> Option<gst::Event> {
        lock(&self.segment).take()
    }

    /// The events before the first packet: stream-start, caps, segment.
    pub(crate) fn first_events(&self, caps: Option<gst::Caps>) -> impl Iterator<Item = gst::Event> {
        let caps = caps.as_ref().map(gst::event::Caps::new);
        let segment = self.take_segment();
        let segment = segment.unwrap_or_else(|| gst::event::Segment::new(&Segment::new()));
        [Some(self.stream_start.clone()), caps, Some(segment)]
            .into_iter()
            .flatten()
    }
}

impl Pads {
    /// The stream ids are made of `camera`: a camera has the same ids in every run.
    pub(crate) fn new(
        element: &RtspMuxSrc,
        camera: &str,
        streams: Vec<NewStream>,
        seeking: Arc<Seeking>,
    ) -> Self {
        let pads = Self {
            element: element.downgrade(),
            streams: Slots::default(),
            camera: camera.to_owned(),
            seeking,
            group: gst::GroupId::next(),
            adding: Mutex::default(),
            is_complete: AtomicBool::new(false),
        };
        for stream in streams {
            pads.add(stream.number, stream);
        }
        pads
    }

    /// Adds a stream with this number. `None` if there is no place for it.
    pub(crate) fn add(&self, number: usize, stream: NewStream) -> Option<&Arc<PadStream>> {
        let is_free = |section: &usize| self.streams.values().all(|it| it.section != *section);
        let section = (stream.section..).find(is_free)?;
        let id = stream_id(&self.camera, section);
        let stream_start = gst::event::StreamStart::builder(&id).group_id(self.group);
        let added = Arc::new(PadStream {
            number,
            section,
            has_feedback: stream.has_feedback,
            is_inactive: stream.is_inactive,
            stream_start: stream_start.build(),
            segment: Mutex::default(),
            seeking: self.seeking.clone(),
            payloads: Mutex::new(stream.payloads),
            sources: Mutex::default(),
            ghost: Mutex::default(),
            watch: OnceLock::new(),
            wanted: WantedStream::default(),
            has_left: AtomicBool::default(),
            relinking: Relinking::default(),
            refusals: Refusals::default(),
            timeline: Arc::default(),
        });
        let is_added = self.streams.put(number, added);
        self.streams.get(number).filter(|_| is_added)
    }

    /// The element, unless it is gone.
    pub(crate) fn element(&self) -> &glib::WeakRef<RtspMuxSrc> {
        &self.element
    }

    /// The stream with this number.
    pub(crate) fn stream(&self, number: usize) -> Option<&Arc<PadStream>> {
        self.streams.get(number)
    }

    /// All streams.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &Arc<PadStream>> {
        self.streams.values()
    }

    /// The number of the next stream that is added.
    pub(crate) fn next_number(&self) -> Option<usize> {
        self.streams.next()
    }

    /// The running time for the first packet of a new source: now, but not before the last buffer of the
    /// old source, which may have come in a burst.
    pub(crate) fn first_time(&self, stream: &PadStream) -> Option<gst::ClockTime> {
        Some(self.now()?.max(stream.timeline.last()))
    }

    /// The running time, if there is a clock.
    pub(crate) fn now(&self) -> Option<gst::ClockTime> {
        self.element.upgrade()?.current_running_time()
    }

    /// Makes `target` the source of the stream's pad. Adds the pad if there is none yet, and emits
    /// `no-more-pads` after the last one.
    ///
    /// The stream's streaming thread calls this and holds none of the small locks.
    pub(crate) fn expose(
        &self,
        stream: &Arc<PadStream>,
        target: &gst::Pad,
        watch: Watch,
    ) -> Result<(), glib::BoolError> {
        let Some(element) = self.element.upgrade() else {
            return Ok(());
        };
        if let Some(ghost) = stream.shown() {
            gst::debug!(CAT, obj = ghost, "new source {}", target.name());
            return ghost.set_target(Some(target));
        }
        let _adding = lock(&self.adding);
        let _ = stream.watch.set(watch);
        let ghost = ghost_pad(&element, stream, target, watch)?;
        *lock(&stream.ghost) = Some(ghost.clone());
        ghost.set_active(true)?;
        copy_sticky_events(target, &ghost, stream);
        gst::debug!(
            CAT,
            obj = element,
            "adding {} with {:?}",
            ghost.name(),
            target.current_caps()
        );
        element.add_pad(&ghost)?;
        let is_there = |it: &Arc<PadStream>| it.is_inactive || lock(&it.ghost).is_some();
        let are_all = self.streams().all(is_there);
        if stream.wanted.is_dropped() {
            let _ = ghost.push_event(gst::event::Eos::new());
        }
        if are_all && !self.is_complete.swap(true, Ordering::AcqRel) {
            element.no_more_pads();
        }
        Ok(())
    }

    /// Removes all pads. No thread pushes any more.
    pub(crate) fn remove(&self) {
        for stream in self.streams() {
            let ghost = lock(&stream.ghost).take();
            if let (Some(ghost), Some(element)) = (ghost, self.element.upgrade()) {
                // Both fail only if the application has done it before.
                let _ = ghost.set_active(false);
                let _ = element.remove_pad(&ghost);
            }
        }
    }
}

/// Pushes a buffer out of a pad that sees what leaves it.
fn push(
    stream: &PadStream,
    pad: &gst::ProxyPad,
    parent: Option<&gst::Object>,
    mut buffer: gst::Buffer,
) -> Result<gst::FlowSuccess, gst::FlowError> {
    let (payload_type, fate) = match buffer.map_readable() {
        Ok(packet) => {
            let payload_type = RtpHeader::of(&packet).map_or(0, |header| header.payload_type);
            (payload_type, stream.admit(&packet, payload_type))
        }
        Err(_) => (0, PacketFate::Follow),
    };
    if fate == PacketFate::Drop {
        return Ok(gst::FlowSuccess::Ok);
    }
    if fate == PacketFate::Resume {
        buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
    }
    let gap = buffer.pts().and_then(|time| stream.timeline.see(time));
    if let (Some(gap), Some(ghost)) = (gap, parent.and_then(|it| it.downcast_ref::<gst::Pad>())) {
        // An error means that the pad is not linked, and the event has no receiver.
        let _ = ghost.push_event(gap.event());
    }
    let flow = gst::ProxyPad::chain_default(pad, parent, buffer);
    stream.on_pushed(fate, payload_type, flow)
}

/// A hash, because stream ids go into files and logs, and a URL may hold secrets. It is made of the part
/// of the URL that is shown anyway: otherwise an attacker could try passwords until the hash comes out.
/// It is the same in each run; the hashes within `camera` are not, so they are left out.
pub(crate) fn stream_id(camera: &str, section: usize) -> String {
    let camera = without_hashes(camera);
    let camera = glib::compute_checksum_for_string(glib::ChecksumType::Sha256, &camera);
    format!("{}/{section:03}", camera.unwrap_or_default())
}

pub(super) fn ghost_pad(
    element: &RtspMuxSrc,
    stream: &Arc<PadStream>,
    target: &gst::Pad,
    watch: Watch,
) -> Result<gst::GhostPad, glib::BoolError> {
    let template = element
        .pad_template("stream_%u")
        .ok_or_else(|| glib::bool_error!("no pad template"))?;
    let (weak, owner, sought) = (
        element.downgrade(),
        element.downgrade(),
        element.downgrade(),
    );
    let (seeking, timeline) = (stream.seeking.clone(), stream.timeline.clone());
    let seeker = seeking.clone();
    let seen = (watch == Watch::ByPad).then(|| {
        let stream = stream.clone();
        move |pad: &gst::ProxyPad, parent: Option<&gst::Object>, buffer| {
            guard_weak(&owner, Err(gst::FlowError::Flushing), |_| {
                push(&stream, pad, parent, buffer)
            })
        }
    });
    let ghost = gst::GhostPad::builder_from_template_with_target(&template, target)?
        .name(pad_name(element, stream, target))
        .proxy_pad_chain_function_if_some(seen)
        .query_function(move |pad, parent, query| {
            guard_weak(&weak, false, |element| {
                let answered = seeking.query(query, &timeline);
                answered.unwrap_or_else(|| src_query(element, pad, parent, query))
            })
        })
        .event_function(move |pad, parent, event| match event.type_() {
            gst::EventType::Seek => guard_weak(&sought, false, |_| seeker.on_event(&event)),
            gst::EventType::SelectStreams => {
                guard_weak(&sought, false, |element| element.send_event(event))
            }
            _ => gst::Pad::event_default(pad, parent, event),
        })
        .build();
    Ok(ghost)
}

/// `stream_0`; or, for programs that know `rtspsrc`, the name that it takes over from rtpbin: the source's
/// first SSRC and payload type are in it, and stay in it.
fn pad_name(element: &RtspMuxSrc, stream: &PadStream, target: &gst::Pad) -> String {
    let section = stream.section;
    if !is_shim(element) {
        return format!("stream_{section}");
    }
    let ssrc = lock(&stream.sources).map_or(0, |(shown, _)| shown);
    let caps = target.current_caps().or_else(|| stream.default_caps());
    let payload = caps.and_then(|caps| caps.structure(0)?.get::<i32>("payload").ok());
    format!("recv_rtp_src_{section}_{ssrc}_{}", payload.unwrap_or(0))
}

/// Answers queries for the URI.
fn src_query(
    element: &RtspMuxSrc,
    pad: &gst::GhostPad,
    parent: Option<&gst::Object>,
    query: &mut gst::QueryRef,
) -> bool {
    match query.view_mut() {
        gst::QueryViewMut::Uri(query) => {
            let uri: Option<String> = element.property("location");
            query.set_uri(uri.as_deref());
            true
        }
        _ => gst::Pad::query_default(pad, parent, query),
    }
}

/// The pad has the events before it is announced: `decodebin` looks at the caps in `pad-added`.
pub(super) fn copy_sticky_events(from: &gst::Pad, to: &gst::GhostPad, stream: &PadStream) {
    from.sticky_events_foreach(|event| {
        let event = match event.type_() {
            gst::EventType::StreamStart => &stream.stream_start,
            _ => event,
        };
        // Fails only on a flushing pad, which does not need the event.
        let _ = to.store_sticky_event(event);
        std::ops::ControlFlow::Continue(gst::EventForeachAction::Keep)
    });
}

/// The times of the buffers that left one pad, over all sources of its stream.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// In nanoseconds.
    last: AtomicU64,
    first: AtomicU64,
    has_begun: AtomicBool,
    is_anew: AtomicBool,
}

/// A span of time without buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    start: gst::ClockTime,
    duration: gst::ClockTime,
}

impl Gap {
    /// The event for downstream.
    pub(crate) fn event(&self) -> gst::Event {
        gst::event::Gap::builder(self.start)
            .duration(self.duration)
            .build()
    }
}

impl Timeline {
    /// The next buffer is the first after an outage.
    pub(crate) fn begin_anew(&self) {
        self.is_anew.store(true, Ordering::Release);
    }

    /// The pipeline was flushed, and running time begins again.
    pub(crate) fn restart(&self) {
        self.has_begun.store(false, Ordering::Relaxed);
        self.is_anew.store(false, Ordering::Release);
        self.last.store(0, Ordering::Relaxed);
    }

    /// The time from the first buffer to the last one.
    pub(crate) fn passed(&self) -> Option<gst::ClockTime> {
        let has_begun = self.has_begun.load(Ordering::Relaxed);
        let first = gst::ClockTime::from_nseconds(self.first.load(Ordering::Relaxed));
        has_begun.then(|| self.last().saturating_sub(first))
    }

    /// A buffer with this time leaves the pad. Returns the outage that it ends.
    pub(crate) fn see(&self, time: gst::ClockTime) -> Option<Gap> {
        let start = self.last();
        let is_first = !self.has_begun.load(Ordering::Relaxed);
        // Only the thread that pushes out of the pad is here: nothing need be swapped.
        self.last.store(time.nseconds(), Ordering::Relaxed);
        if is_first {
            self.first.store(time.nseconds(), Ordering::Relaxed);
            self.has_begun.store(true, Ordering::Relaxed);
        }
        if !self.is_anew.load(Ordering::Acquire) {
            return None;
        }
        self.is_anew.store(false, Ordering::Relaxed);
        if is_first {
            return None;
        }
        let duration = time.checked_sub(start).filter(|gap| !gap.is_zero())?;
        Some(Gap { start, duration })
    }

    /// The time of the last buffer; later buffers must not go back behind it.
    pub(crate) fn last(&self) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(self.last.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::proto::wire::redacted;

    #[test]
    fn stream_ids_are_stable_and_tell_cameras_and_streams_apart() {
        assert_eq!(stream_id("rtsp://nvr/1", 0), stream_id("rtsp://nvr/1", 0));
        assert_ne!(stream_id("rtsp://nvr/1", 0), stream_id("rtsp://nvr/2", 0));
        assert_ne!(stream_id("rtsp://nvr/1", 0), stream_id("rtsp://nvr/1", 1));
        assert!(!stream_id("rtsp://nvr/1", 0).contains("nvr"));
        let shown = |url: &str| redacted(&url.parse().unwrap());
        let (one, other) = (shown("rtsp://nvr/1?key=x"), shown("rtsp://nvr/1?key=y"));
        assert_ne!(one, other);
        assert_eq!(stream_id(&one, 0), stream_id(&other, 0));
    }
}

#[cfg(test)]
mod timeline_tests {
    use super::*;

    const S: gst::ClockTime = gst::ClockTime::SECOND;

    #[test]
    fn an_outage_is_as_long_as_nothing_came() {
        let timeline = Timeline::default();
        assert_eq!(timeline.see(S), None);
        assert_eq!(timeline.see(2 * S), None);
        timeline.begin_anew();
        let gap = Gap {
            start: 2 * S,
            duration: 5 * S,
        };
        assert_eq!(timeline.see(7 * S), Some(gap));
        assert_eq!(timeline.see(8 * S), None);
        assert_eq!(timeline.last(), 8 * S);
    }

    #[test]
    fn before_the_first_buffer_there_is_no_gap() {
        let timeline = Timeline::default();
        timeline.begin_anew();
        assert_eq!(timeline.see(5 * S), None);
        timeline.begin_anew();
        assert_eq!(timeline.see(5 * S), None, "nor one of no length");
    }
}
