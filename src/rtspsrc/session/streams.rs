//! From what a server describes to the streams that are played, and whether they are still the same.

use gstreamer as gst;

use super::end::EndReason;
use crate::{
    mux::{MediaStream, Presentation, recovery::Watchdog},
    rtspsrc::{
        CAT,
        media::{caps, pads::NewStream},
    },
};

/// The streams of the presentation that GStreamer has caps for.
pub(crate) fn playable(
    camera: &str,
    presentation: &Presentation,
) -> Result<Vec<NewStream>, EndReason> {
    let mut maps = caps::payload_maps(&presentation.sdp)
        .map_err(|refused| EndReason::Description(format!("{camera}: DESCRIBE: {refused}")))?;
    let mut streams = Vec::new();
    for (number, stream) in presentation.streams.iter().enumerate() {
        let map = match maps.get_mut(stream.index) {
            Some(map) => std::mem::replace(map, Err(caps::Unusable::Malformed)),
            None => Err(caps::Unusable::Malformed),
        };
        match map {
            Ok(payloads) => streams.push(NewStream {
                number,
                section: stream.index,
                payloads,
            }),
            Err(reason) => {
                gst::warning!(CAT, "{camera}: m= line {} left out: {reason}", stream.index);
            }
        }
    }
    if streams.is_empty() {
        let text =
            format!("{camera}: DESCRIBE: no stream of the session description can be played");
        return Err(EndReason::Description(text));
    }
    Ok(streams)
}

/// What the server describes of the streams that are played.
pub(crate) fn described<'a>(
    presentation: &'a Presentation,
    streams: &[NewStream],
) -> impl Iterator<Item = &'a MediaStream> {
    let of = |stream: &NewStream| presentation.streams.get(stream.number);
    streams.iter().filter_map(of)
}

/// Of the streams that are played, the ones whose silence is a failure.
pub(crate) fn watched(presentation: &Presentation, streams: &[NewStream]) -> Vec<usize> {
    let is_watched = |stream: &&NewStream| {
        let described = presentation.streams.get(stream.number);
        described.is_some_and(Watchdog::watches)
    };
    let watched = streams.iter().filter(is_watched);
    watched.map(|stream| stream.number).collect()
}
