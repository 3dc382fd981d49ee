//! The streams of a session and the pads on which they play, over all descriptions of a camera.
//!
//! The first description makes the pads. What of a later one still matches goes on on its pad, a new stream
//! gets a pad of its own, and a pad whose stream is gone waits for it for a minute
//! ([`GonePads`](crate::mux::recovery::GonePads)).

use std::{collections::BTreeSet, time::Instant};

use gst::prelude::*;
use gstreamer as gst;

use super::report::EndReason;
use crate::{
    mux::{
        Error, MediaStream, Presentation, Ready,
        proto::Profile,
        recovery::{AskedAgain, GonePads, StreamKind, StreamKinds},
    },
    rtspsrc::{
        CAT, RtspMuxSrc,
        manager::Manager,
        media::{caps, numbers::StreamNumbers, pads::NewStream},
        messages,
    },
};

/// Of so many streams of a description that cannot be played the bus hears.
const MOST_LEFT_TOLD: usize = 4;

/// The streams of the sessions of one element.
#[derive(Default)]
pub(crate) struct SessionStreams {
    /// The streams that the pads were made for, by the numbers of their pads.
    pub(super) kinds: Option<StreamKinds>,
    /// The sections that the application does not want.
    pub(crate) refused: BTreeSet<usize>,
    /// Which stream of the present session plays on which pad.
    pub(crate) numbers: StreamNumbers,
    /// The pads without a stream.
    pub(crate) gone: GonePads,
    /// The streams whose silence is a failure.
    pub(crate) watched: Vec<usize>,
    /// The last description had nothing in common with the pads.
    is_other_camera: bool,
    /// The server has refused a stream that has a pad, and all streams were asked for once more since.
    is_asked_twice: bool,
    /// A WARNING was posted for streams that cannot be played.
    is_left_told: bool,
    /// The change that was reported last.
    told: String,
}

/// What is described, and what of it is played.
pub(crate) struct FollowedStreams {
    pub(crate) streams: Vec<NewStream>,
    pub(super) kinds: StreamKinds,
}

impl SessionStreams {
    /// Finds out which streams of a description play on which pads, and leaves out the others. A stream that
    /// has no pad, as its first SETUP was refused, is left out again.
    ///
    /// # Errors
    ///
    /// Nothing of it can be played, or it is another one and the session is not to `follow`.
    pub(crate) fn follow(
        &mut self,
        camera: &str,
        presentation: &Presentation,
        (element, manager, follows): (&RtspMuxSrc, Option<&dyn Manager>, bool),
    ) -> Result<FollowedStreams, EndReason> {
        let (mut streams, left_out) = playable(presentation);
        let is_any = !streams.is_empty();
        streams.retain(|stream| !self.refused.contains(&stream.section));
        if is_any && streams.is_empty() {
            let text = format!("{camera}: the application has selected no stream");
            return Err(EndReason::NothingSelected(text));
        }
        if streams.is_empty() {
            let why = left_out.first().map_or("", String::as_str);
            let text = format!(
                "{camera}: DESCRIBE: no stream of the session description can be played: {why}"
            );
            return Err(EndReason::Description(text));
        }
        if !std::mem::replace(&mut self.is_left_told, !left_out.is_empty()) {
            for text in left_out.iter().take(MOST_LEFT_TOLD) {
                messages::left_out(element, &format!("{camera}: {text}"));
            }
        }
        let kinds = StreamKinds(streams.iter().map(|it| kind(presentation, it)).collect());
        let (Some(before), Some(manager)) = (&self.kinds, manager) else {
            let same = |stream: &NewStream| (stream.number, stream.number);
            self.numbers = StreamNumbers(streams.iter().map(same).collect());
            return Ok(FollowedStreams { streams, kinds });
        };
        let changes = before.compare(&kinds);
        let is_changed = !changes.gone.is_empty() || !changes.new.is_empty();
        let text = format!("{camera}: the streams have changed: {kinds} instead of {before}");
        let is_other = changes.kept.is_empty();
        if is_other && follows && !self.is_other_camera {
            // A camera that has just started may describe itself in full a moment later.
            self.is_other_camera = true;
            return Err(EndReason::Description(text));
        }
        if is_other || is_changed && !follows {
            let text = text.replace("the streams", "the pads cannot follow: the streams");
            return Err(EndReason::Changed(text));
        }
        self.is_other_camera = false;
        if !changes.gone.is_empty() && self.told != text {
            messages::left_out(element, &text);
            self.told.clone_from(&text);
        }
        let mut kept = changes.kept;
        kept.retain(|(_, pad)| manager.pads().stream(*pad).is_some() && !manager.has_ended(*pad));
        let free = manager
            .pads()
            .next_number()
            .into_iter()
            .flat_map(|next| next..);
        kept.extend(changes.new.into_iter().zip(free));
        streams.retain(|stream| kept.iter().any(|(number, _)| *number == stream.number));
        self.numbers = StreamNumbers(kept);
        Ok(FollowedStreams { streams, kinds })
    }

    /// The session is set up: leaves out the streams that the server has refused.
    ///
    /// # Errors
    ///
    /// A stream that has a pad was refused, for the first time since it played: another attempt may set it
    /// up.
    pub(crate) fn on_set_up(
        &mut self,
        ready: &Ready,
        followed: &mut FollowedStreams,
        (element, manager): (&RtspMuxSrc, Option<&dyn Manager>),
    ) -> Result<(), Error> {
        let pad_of = |number| self.numbers.of_pad(number);
        let has_pad = |pad: usize| manager.is_some_and(|it| it.pads().stream(pad).is_some());
        let mut is_pad_refused = false;
        for (number, error) in ready.failed_streams() {
            gst::warning!(CAT, "stream {number} left out: {error}");
            let pad = pad_of(*number).filter(|pad| has_pad(*pad));
            is_pad_refused |= pad.is_some();
            if pad.is_some() && !self.is_asked_twice {
                self.is_asked_twice = true;
                return Err(error.clone());
            }
            let is_told = pad.is_some_and(|pad| self.gone.pads().any(|gone| gone == pad));
            let described = ready.presentation().streams.get(*number);
            if let Some(MediaStream { media, index, .. }) = described.filter(|_| !is_told) {
                let text = format!("{error}: stream {number} ({media}, m= line {index}) left out");
                messages::left_out(element, &text);
            }
        }
        self.is_asked_twice = is_pad_refused;
        let is_granted = |number| ready.streams().iter().any(|grant| grant.stream == number);
        followed.streams.retain(|stream| is_granted(stream.number));
        self.numbers.0.retain(|(number, _)| is_granted(*number));
        self.watched = watched(ready.presentation(), &followed.streams);
        Ok(())
    }

    /// Adds pads for streams that have none, and sets the caps of the others.
    pub(crate) fn extend(
        &mut self,
        followed: FollowedStreams,
        manager: &dyn Manager,
    ) -> Result<(), gst::glib::BoolError> {
        let described = followed.kinds.0;
        for stream in followed.streams {
            let Some(pad) = self.numbers.of_pad(stream.number) else {
                continue;
            };
            if let Some(out) = manager.pads().stream(pad) {
                out.set_payloads(|_| stream.payloads);
                continue;
            }
            let kind = described.iter().find(|it| it.number == stream.number);
            let Some(out) = manager.pads().add(pad, stream) else {
                continue;
            };
            manager.add(out)?;
            if let (Some(kinds), Some(kind)) = (&mut self.kinds, kind) {
                kinds.0.push(StreamKind {
                    number: pad,
                    ..kind.clone()
                });
            }
        }
        Ok(())
    }

    /// The session plays: from now on the pads that it has no stream for wait.
    pub(crate) fn on_playing(&mut self, now: Instant, manager: &dyn Manager) {
        let without = manager.pads().streams().map(|stream| stream.number);
        let without = without
            .filter(|pad| self.numbers.of_session(*pad).is_none() && !manager.has_ended(*pad));
        let without: Vec<usize> = without.collect();
        let ended = self.gone.on_set_up(now, &without);
        self.end(&ended, manager);
    }

    /// Tells downstream not to wait for streams that are gone: a muxer would hold up the others.
    pub(crate) fn fill(&self, manager: &dyn Manager) {
        let Some(element) = manager.pads().element().upgrade() else {
            return;
        };
        let now = element.current_running_time().unwrap_or_default();
        for stream in self
            .gone
            .pads()
            .filter_map(|pad| manager.pads().stream(pad))
        {
            stream.push_gap(now);
        }
    }

    /// The server was asked once more how it describes the camera. Returns true if a stream is there again
    /// that a pad waits for, and then the session is to be set up again.
    pub(crate) fn on_asked(
        &mut self,
        now: Instant,
        (described, manager): (Option<&Presentation>, &dyn Manager),
    ) -> bool {
        let gone = described
            .zip(self.kinds.as_ref())
            .map(|(described, before)| {
                let (streams, _) = playable(described);
                let kinds = streams.iter().map(|it| kind(described, it)).collect();
                before.compare(&StreamKinds(kinds)).gone
            });
        match self.gone.on_asked(now, gone.as_deref()) {
            AskedAgain::IsBack => true,
            AskedAgain::Ended(pads) => {
                self.end(&pads, manager);
                false
            }
        }
    }

    /// Ends pads. A stream like theirs is a new one from now on.
    fn end(&mut self, pads: &[usize], manager: &dyn Manager) {
        for pad in pads {
            if let Some(stream) = manager.pads().stream(*pad) {
                manager.push_event(*pad, gst::event::Eos::new());
                stream.push_eos();
            }
        }
        if let Some(kinds) = &mut self.kinds {
            kinds.0.retain(|kind| !pads.contains(&kind.number));
        }
    }
}

/// The streams of the presentation for which GStreamer has caps, and why the others are left out.
pub(super) fn playable(presentation: &Presentation) -> (Vec<NewStream>, Vec<String>) {
    let (mut streams, mut left_out) = (Vec::new(), Vec::new());
    let streams_sent = presentation.streams.iter().enumerate();
    for (number, stream) in streams_sent.filter(|(_, it)| !it.is_backchannel) {
        let MediaStream { media, index, .. } = stream;
        match caps::payload_map(presentation, stream) {
            Ok(payloads) => streams.push(NewStream {
                number,
                section: *index,
                has_feedback: matches!(stream.profile(), Profile::Avpf | Profile::Savpf),
                is_inactive: stream.is_inactive,
                payloads,
            }),
            Err(reason) => left_out.push(format!(
                "stream {number} ({media}, m= line {index}) left out: {reason}"
            )),
        }
    }
    (streams, left_out)
}

/// A stream, as later descriptions are compared with it.
fn kind(presentation: &Presentation, stream: &NewStream) -> StreamKind {
    let described = presentation.streams.get(stream.number);
    StreamKind {
        number: stream.number,
        media: described.map_or_else(String::new, |stream| stream.media.clone()),
        encoding: stream.payloads.encoding(),
    }
}

/// Of the streams that are played, the ones whose silence is a failure.
fn watched(presentation: &Presentation, streams: &[NewStream]) -> Vec<usize> {
    let described = |number: &usize| presentation.streams.get(*number);
    let is_watched =
        |number: &usize| described(number).is_some_and(MediaStream::sends_all_the_time);
    let numbers = streams.iter().map(|stream| stream.number);
    numbers.filter(is_watched).collect()
}
