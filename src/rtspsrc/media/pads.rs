//! The pads that applications link: one `stream_%u` for each media stream, the same for all managers.
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
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use gst::{glib, prelude::*};
use gstreamer as gst;

use super::{alias::Alias, caps::PayloadMap, sequence::PayloadKind};
use crate::{
    mux::proto::wire::redaction::without_hashes,
    rtspsrc::{CAT, RtspMuxSrc, guard_weak, lock},
};

/// The pads of one session.
pub(crate) struct Pads {
    element: glib::WeakRef<RtspMuxSrc>,
    /// In the order of the description.
    pub(crate) streams: Vec<Arc<PadStream>>,
    /// Held while a pad is added and announced, so that pads come one at a time. `gst_parse_launch` and
    /// applications link pads as they come, and rely on that with `rtspsrc`; with two at once they link
    /// the wrong pads.
    adding: Mutex<()>,
    exposed: AtomicUsize,
}

/// How the timeline of a stream learns what leaves its pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// By a probe on the pad.
    ByPad,
    /// The manager calls [`Timeline::see`].
    ByManager,
}

/// A media stream that is set up.
pub(crate) struct NewStream {
    /// Its number in the session; packets carry it.
    pub(crate) number: usize,
    /// Which `m=` line it is; its pad is named after it.
    pub(crate) section: usize,
    pub(crate) payloads: PayloadMap,
}

/// One stream and its pad.
pub(crate) struct PadStream {
    /// Its number in the session.
    pub(crate) number: usize,
    section: usize,
    stream_start: gst::Event,
    payloads: Mutex<PayloadMap>,
    /// Under which numbers downstream sees it.
    pub(crate) alias: Mutex<Alias>,
    ghost: Mutex<Option<gst::GhostPad>>,
    /// What left its pad.
    pub(crate) timeline: Arc<Timeline>,
}

impl PadStream {
    /// Its stream is gone for now: tells downstream not to wait for it. `now` is the running time.
    pub(crate) fn push_gap(&self, now: gst::ClockTime) {
        if let Some(ghost) = lock(&self.ghost).clone() {
            let start = self.timeline.last();
            let duration = now.saturating_sub(start);
            let gap = Gap { start, duration };
            // An error means that the pad is not linked, and the event has no receiver.
            let _ = ghost.push_event(gap.event());
        }
    }

    /// Its stream is gone for good.
    pub(crate) fn push_eos(&self) {
        if let Some(ghost) = lock(&self.ghost).clone() {
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

    /// The caps of the payload type that is listed first.
    pub(crate) fn default_caps(&self) -> Option<gst::Caps> {
        lock(&self.payloads).default_caps().cloned()
    }

    /// What packets of a payload type carry.
    pub(crate) fn kind(&self, payload_type: u8) -> PayloadKind {
        lock(&self.payloads).kind(payload_type)
    }

    /// The events before the first packet: stream-start, caps, segment.
    pub(crate) fn first_events(&self, caps: Option<gst::Caps>) -> impl Iterator<Item = gst::Event> {
        let caps = caps.as_ref().map(gst::event::Caps::new);
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        [
            Some(self.stream_start.clone()),
            caps,
            Some(gst::event::Segment::new(&segment)),
        ]
        .into_iter()
        .flatten()
    }
}

impl Pads {
    /// The stream ids are made of `camera`: a camera has the same ids in every run.
    pub(crate) fn new(element: &RtspMuxSrc, camera: &str, streams: Vec<NewStream>) -> Self {
        let group = gst::GroupId::next();
        let streams = streams.into_iter().map(|stream| {
            let id = stream_id(camera, stream.section);
            let stream_start = gst::event::StreamStart::builder(&id).group_id(group);
            Arc::new(PadStream {
                number: stream.number,
                section: stream.section,
                stream_start: stream_start.build(),
                payloads: Mutex::new(stream.payloads),
                alias: Mutex::default(),
                ghost: Mutex::default(),
                timeline: Arc::default(),
            })
        });
        Self {
            element: element.downgrade(),
            streams: streams.collect(),
            adding: Mutex::default(),
            exposed: AtomicUsize::new(0),
        }
    }

    /// The element, unless it is gone.
    pub(crate) fn element(&self) -> &glib::WeakRef<RtspMuxSrc> {
        &self.element
    }

    /// The stream with this number.
    pub(crate) fn stream(&self, number: usize) -> Option<&Arc<PadStream>> {
        self.streams.iter().find(|stream| stream.number == number)
    }

    /// The running time for the first packet of a new source: now, but not before the last buffer of the
    /// old source, which may have come in a burst.
    pub(crate) fn first_time(&self, stream: &PadStream) -> Option<gst::ClockTime> {
        let now = self.element.upgrade()?.current_running_time()?;
        Some(now.max(stream.timeline.last()))
    }

    /// Makes `target` the source of the stream's pad. Adds the pad if there is none yet, and emits
    /// `no-more-pads` after the last one.
    ///
    /// The stream's streaming thread calls this and holds none of the small locks.
    pub(crate) fn expose(
        &self,
        stream: &PadStream,
        target: &gst::Pad,
        watch: Watch,
    ) -> Result<(), glib::BoolError> {
        let Some(element) = self.element.upgrade() else {
            return Ok(());
        };
        let present = lock(&stream.ghost).clone();
        if let Some(ghost) = present {
            gst::debug!(CAT, obj = ghost, "new source {}", target.name());
            return ghost.set_target(Some(target));
        }
        let _adding = lock(&self.adding);
        let ghost = ghost_pad(&element, stream.section, target)?;
        if watch == Watch::ByPad {
            see_all(&ghost, stream.timeline.clone(), element.downgrade());
        }
        *lock(&stream.ghost) = Some(ghost.clone());
        ghost.set_active(true)?;
        copy_sticky_events(target, &ghost);
        gst::debug!(
            CAT,
            obj = element,
            "adding {} with {:?}",
            ghost.name(),
            target.current_caps()
        );
        element.add_pad(&ghost)?;
        if self.exposed.fetch_add(1, Ordering::AcqRel) + 1 == self.streams.len() {
            element.no_more_pads();
        }
        Ok(())
    }

    /// Removes all pads. No thread pushes any more.
    pub(crate) fn remove(&self) {
        for stream in &self.streams {
            let ghost = lock(&stream.ghost).take();
            if let (Some(ghost), Some(element)) = (ghost, self.element.upgrade()) {
                // Both fail only if the application has done it before.
                let _ = ghost.set_active(false);
                let _ = element.remove_pad(&ghost);
            }
        }
    }
}

/// Adds a probe that shows the timeline what leaves a pad.
fn see_all(ghost: &gst::GhostPad, timeline: Arc<Timeline>, element: glib::WeakRef<RtspMuxSrc>) {
    ghost.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        guard_weak(&element, gst::PadProbeReturn::Ok, |_| {
            let gap = info.buffer().and_then(|buffer| timeline.see(buffer.pts()?));
            if let Some(gap) = gap {
                // An error means that the pad is not linked, and the event has no receiver.
                let _ = pad.push_event(gap.event());
            }
            gst::PadProbeReturn::Ok
        })
    });
}

/// A hash, because stream ids go into files and logs, and a URL may hold secrets. It is made of the part
/// of the URL that is shown anyway: otherwise an attacker could try passwords until the hash comes out.
/// It is the same in each run; the hashes within `camera` are not, so they are left out.
fn stream_id(camera: &str, section: usize) -> String {
    let camera = without_hashes(camera);
    let camera = glib::compute_checksum_for_string(glib::ChecksumType::Sha256, &camera);
    format!("{}/{section:03}", camera.unwrap_or_default())
}

fn ghost_pad(
    element: &RtspMuxSrc,
    section: usize,
    target: &gst::Pad,
) -> Result<gst::GhostPad, glib::BoolError> {
    let template = element
        .pad_template("stream_%u")
        .ok_or_else(|| glib::bool_error!("no pad template"))?;
    let weak = element.downgrade();
    let ghost = gst::GhostPad::builder_from_template_with_target(&template, target)?
        .name(format!("stream_{section}"))
        .query_function(move |pad, parent, query| {
            guard_weak(&weak, false, |element| {
                src_query(element, pad, parent, query)
            })
        })
        .build();
    Ok(ghost)
}

/// Answers queries for the URI and for seeking: a camera cannot be sought.
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
        gst::QueryViewMut::Seeking(query) => {
            let format = query.format();
            query.set(
                false,
                gst::GenericFormattedValue::none_for_format(format),
                gst::GenericFormattedValue::none_for_format(format),
            );
            true
        }
        _ => gst::Pad::query_default(pad, parent, query),
    }
}

/// The pad has the events before it is announced: `decodebin` looks at the caps in `pad-added`.
fn copy_sticky_events(from: &gst::Pad, to: &gst::GhostPad) {
    from.sticky_events_foreach(|event| {
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

    /// A buffer with this time leaves the pad. Returns the outage that it ends.
    pub(crate) fn see(&self, time: gst::ClockTime) -> Option<Gap> {
        let start =
            gst::ClockTime::from_nseconds(self.last.swap(time.nseconds(), Ordering::Relaxed));
        let is_first = !self.has_begun.swap(true, Ordering::Relaxed);
        if !self.is_anew.swap(false, Ordering::AcqRel) || is_first {
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
