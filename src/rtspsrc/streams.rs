//! From what a server describes to the streams that are played, and whether they are still the same.

use gstreamer as gst;

use super::{
    CAT,
    caps::{self, PayloadMap},
    end::End,
    pads::{NewStream, Pads},
};
use crate::mux::Presentation;

/// The streams of the presentation that GStreamer has caps for.
pub(super) fn playable(camera: &str, presentation: &Presentation) -> Result<Vec<NewStream>, End> {
    let mut maps = caps::payload_maps(&presentation.sdp)
        .map_err(|refused| End::Description(format!("{camera}: DESCRIBE: {refused}")))?;
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
        return Err(End::Description(text));
    }
    Ok(streams)
}

/// What a stream carries, as the pipeline behind its pad was built for it.
pub(super) fn media(payloads: &PayloadMap) -> Option<&str> {
    payloads.default_caps()?.structure(0)?.get("media").ok()
}

/// Of these, the ones that send all the time, unlike metadata.
pub(super) fn steady(streams: &[NewStream]) -> Vec<usize> {
    streams
        .iter()
        .filter(|stream| matches!(media(&stream.payloads), Some("video" | "audio")))
        .map(|stream| stream.number)
        .collect()
}

/// Whether the pads of a session that is set up again can go on with `streams`: as many, and each of
/// the kind that it was. Another codec is new caps on the same pad.
pub(super) fn fit(camera: &str, pads: &Pads, streams: &[NewStream]) -> Result<(), End> {
    let before: Vec<_> = pads.streams().collect();
    let now: Vec<_> = streams.iter().map(|stream| stream.number).collect();
    if before != now {
        return Err(End::Changed(format!(
            "{camera}: the streams have changed, and the pads cannot follow: {} before, {} now",
            before.len(),
            now.len()
        )));
    }
    for stream in streams {
        let kind = media(&stream.payloads).map(str::to_owned);
        let was = pads.media(stream.number);
        if kind != was {
            return Err(End::Changed(format!(
                "{camera}: the streams have changed, and the pads cannot follow: stream {} was {}, and is {} now",
                stream.section,
                was.as_deref().unwrap_or("unknown"),
                kind.as_deref().unwrap_or("unknown"),
            )));
        }
    }
    Ok(())
}

/// Whether the description announces an end: a recording, unlike a camera (RFC 2326 C.1.5).
pub(super) fn has_end(sdp: &[u8]) -> bool {
    sdp.split(|byte| matches!(byte, b'\r' | b'\n'))
        .filter_map(|line| line.strip_prefix(b"a=range:"))
        .any(|range| {
            let end = range.iter().rposition(|byte| *byte == b'-');
            end.is_some_and(|dash| range[dash + 1..].iter().any(u8::is_ascii_digit))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_has_no_end_a_recording_has() {
        for live in [
            "",
            "a=range:npt=now-\r\n",
            "a=range:npt=0-\r\n",
            "a=range:clock=20260101T000000Z-\r\n",
        ] {
            assert!(
                !has_end(format!("v=0\r\n{live}m=video 0 RTP/AVP 96\r\n").as_bytes()),
                "{live}"
            );
        }
        for recorded in [
            "a=range:npt=0-7.741\r\n",
            "a=range:clock=20260101T000000Z-20260101T010000Z\r\n",
        ] {
            assert!(
                has_end(format!("v=0\r\n{recorded}").as_bytes()),
                "{recorded}"
            );
        }
    }
}
