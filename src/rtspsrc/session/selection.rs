//! Which streams of a description are set up, as the application wants it.
//!
//! * Handlers of `on-sdp` may change the description; the session then goes by what they have made of it.
//! * Handlers of `select-stream` refuse streams. Those are not set up and have no pad.
//! * A SELECT_STREAMS event chooses among the others, which a STREAM_COLLECTION names. Before SETUP, a
//!   stream that is not chosen is not set up. Later its packets are dropped, and its pad has EOS.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use bytes::Bytes;
use gst::{glib, prelude::*};
use gstreamer as gst;
use gstreamer_sdp as gst_sdp;
use tokio::sync::watch;

use super::streams::playable;
use crate::{
    mux::{Described, Presentation},
    rtspsrc::{
        RtspMuxSrc, handlers, lock, manager::Manager, media::pads::stream_id, messages,
        threads::timer,
    },
};

const ON_SDP: &str = "on-sdp";
const SELECT_STREAM: &str = "select-stream";
pub(super) const NEW_MANAGER: &str = "new-manager";

/// How long SETUP waits until the STREAM_COLLECTION is posted: a sync handler of the bus may answer it.
/// Posting takes microseconds unless a sync handler blocks, perhaps for another element.
const COLLECTION_POSTED: Duration = Duration::from_millis(200);

/// Lets handlers of `on-sdp` see the description and change it.
///
/// # Errors
///
/// What they have made of it cannot be played.
pub(super) async fn edit(
    element: &glib::WeakRef<RtspMuxSrc>,
    described: &mut Described,
) -> Result<(), String> {
    let sdp = described.presentation().sdp.clone();
    let edited = handlers::call(element, ON_SDP, move |element| {
        // A line with text that is not UTF-8 is repaired: bindings of other languages fail on it.
        let text = String::from_utf8_lossy(&sdp);
        let message = gst_sdp::SDPMessage::parse_buffer(text.as_bytes()).ok()?;
        let before = message.as_text().ok()?;
        let after = handlers::emit_on_sdp(element, &message)?.as_text().ok()?;
        (after != before).then(|| Bytes::from(after))
    });
    match edited.await.flatten() {
        Some(sdp) => described.edit(sdp).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

/// A stream that can be played.
#[derive(Clone)]
struct OfferedStream {
    section: usize,
    id: String,
    caps: Option<gst::Caps>,
}

/// The streams of a description that can be played.
pub(super) struct StreamOffer {
    camera: String,
    streams: Vec<OfferedStream>,
}

impl StreamOffer {
    pub(super) fn new(camera: &str, presentation: &Presentation) -> Self {
        let (streams, _) = playable(presentation);
        let streams = streams.iter().map(|stream| OfferedStream {
            section: stream.section,
            id: stream_id(camera, stream.section),
            caps: stream.payloads.default_caps().cloned(),
        });
        Self {
            camera: camera.to_owned(),
            streams: streams.collect(),
        }
    }

    fn collection(&self) -> gst::StreamCollection {
        let id = stream_id(&self.camera, 0);
        let id = id.split_once('/').map(|(id, _)| id);
        let collection = gst::StreamCollection::builder(id);
        let streams = self.streams.iter().map(|stream| {
            let (id, caps, flags) = (&stream.id, stream.caps.as_ref(), gst::StreamFlags::empty());
            gst::Stream::new(Some(id), caps, stream.kind(), flags)
        });
        collection.streams(streams).build()
    }
}

impl OfferedStream {
    fn kind(&self) -> gst::StreamType {
        let caps = self.caps.as_ref().and_then(|caps| caps.structure(0));
        match caps.and_then(|caps| caps.get::<&str>("media").ok()) {
            Some("video") => gst::StreamType::VIDEO,
            Some("audio") => gst::StreamType::AUDIO,
            Some("text") => gst::StreamType::TEXT,
            _ => gst::StreamType::UNKNOWN,
        }
    }
}

/// What the application has selected among the streams of its camera.
pub(crate) struct Selection {
    /// The ids of the streams that it wants; `None`: all.
    chosen: watch::Sender<Option<BTreeSet<String>>>,
    /// What it was offered last.
    offered: Mutex<Option<gst::StreamCollection>>,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            chosen: watch::Sender::new(None),
            offered: Mutex::default(),
        }
    }
}

impl Selection {
    /// Takes the ids of a SELECT_STREAMS. Returns false if none of them is one of the streams, as where
    /// the event is meant for a demuxer behind.
    pub(crate) fn choose(&self, ids: impl IntoIterator<Item = impl AsRef<str>>) -> bool {
        let Some(offered) = lock(&self.offered).clone() else {
            return false;
        };
        let is_offered = |id: &String| {
            let mut streams = offered.iter();
            streams.any(|stream| stream.stream_id().is_some_and(|it| it == *id))
        };
        let ids = ids.into_iter().map(|id| id.as_ref().to_owned());
        let ids: BTreeSet<String> = ids.filter(is_offered).collect();
        if ids.is_empty() {
            return false;
        }
        self.chosen.send_replace(Some(ids));
        true
    }

    fn wants(&self, id: &str) -> bool {
        let chosen = self.chosen.borrow();
        chosen.as_ref().is_none_or(|chosen| chosen.contains(id))
    }

    /// Changes of it, from what is chosen now on.
    pub(super) fn changes(&self) -> watch::Receiver<Option<BTreeSet<String>>> {
        let mut changes = self.chosen.subscribe();
        if changes.borrow().is_some() {
            changes.mark_changed();
        }
        changes
    }

    /// Asks which streams are not to be set up, and gives their sections. A stream that has a pad is set up
    /// also if it is not selected at present: it may be selected again.
    pub(super) async fn refused(
        &self,
        element: &glib::WeakRef<RtspMuxSrc>,
        mut offer: StreamOffer,
        has_pad: impl Fn(usize) -> bool,
    ) -> BTreeSet<usize> {
        let asked = offer.streams.clone();
        let refused = handlers::call(element, SELECT_STREAM, move |element| {
            let is_refused = |stream: &OfferedStream| {
                let section = u32::try_from(stream.section).unwrap_or(u32::MAX);
                !element.emit_by_name::<bool>(SELECT_STREAM, &[&section, &stream.caps])
            };
            let refused = asked.iter().filter(|stream| is_refused(stream));
            refused.map(|stream| stream.section).collect()
        });
        let mut refused: BTreeSet<usize> = refused.await.unwrap_or_default();
        offer
            .streams
            .retain(|stream| !refused.contains(&stream.section));
        self.offer(element, &offer).await;
        let unwanted = offer
            .streams
            .iter()
            .filter(|stream| !self.wants(&stream.id) && !has_pad(stream.section));
        refused.extend(unwanted.map(|stream| stream.section));
        refused
    }

    /// Posts the STREAM_COLLECTION if there is something to select, and it is not as before.
    async fn offer(&self, element: &glib::WeakRef<RtspMuxSrc>, offer: &StreamOffer) {
        let collection = offer.collection();
        let is_known = |known: &gst::StreamCollection| {
            let ids = |it: &gst::StreamCollection| {
                let ids = it.iter().map(|stream| stream.stream_id());
                ids.collect::<Vec<_>>()
            };
            ids(known) == ids(&collection)
        };
        let before = lock(&self.offered).replace(collection.clone());
        let is_news = offer.streams.len() > 1 && !before.as_ref().is_some_and(is_known);
        let Some(element) = element.upgrade().filter(|_| is_news) else {
            return;
        };
        messages::collection(&element, &collection);
        let posted = messages::bus_queue::posted(&element);
        let _ = timer::within(COLLECTION_POSTED, posted).await;
    }

    /// Drops what comes of the streams that are not wanted, and ends their pads; those that are wanted
    /// again get new pads. Posts STREAMS_SELECTED.
    pub(super) fn apply(&self, element: &RtspMuxSrc, manager: &dyn Manager) {
        let pads = manager.pads();
        for stream in pads.streams() {
            pads.set_wanted(stream, self.wants(&stream.id()));
        }
        let Some(collection) = lock(&self.offered).clone() else {
            return;
        };
        let selected = collection.iter().filter(|stream| {
            let id = stream.stream_id();
            id.is_some_and(|id| self.wants(&id))
        });
        let selected: Vec<gst::Stream> = selected.collect();
        messages::selected(element, &collection, selected);
    }
}
