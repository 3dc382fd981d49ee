//! From what a server describes to the streams that are played, and whether they are still the same.

use std::fmt;

use gstreamer as gst;

use super::end::EndReason;
use crate::{
    mux::{Presentation, proto::ServerText},
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

/// What a stream carries, as the pipeline behind its pad was built for it: `video`, `audio` ...
fn media(stream: &NewStream) -> Option<&str> {
    let caps = stream.payloads.default_caps()?;
    caps.structure(0)?.get("media").ok()
}

/// Which streams there are, and what they carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape(Vec<(usize, Option<String>)>);

impl Shape {
    pub(crate) fn of(streams: &[NewStream]) -> Self {
        let shown = |media: &str| String::from(ServerText::new(media));
        let kind = |stream: &NewStream| (stream.section, media(stream).map(shown));
        Self(streams.iter().map(kind).collect())
    }

    /// Whether the pads of a session that described itself like this can go on with `now`: as many
    /// streams, each of the kind that it was. Another codec is new caps on the same pad.
    pub(crate) fn fit(&self, camera: &str, now: &Self) -> Result<(), EndReason> {
        if self == now {
            return Ok(());
        }
        Err(EndReason::Changed(format!(
            "{camera}: the streams have changed, and the pads cannot follow: {now} instead of {self}"
        )))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.0.iter().map(|(_, kind)| kind.as_deref());
        let kinds: Vec<&str> = kinds.map(|kind| kind.unwrap_or("unknown")).collect();
        f.write_str(&kinds.join(", "))
    }
}

/// Of these, the ones that send all the time, unlike metadata.
pub(crate) fn steady(streams: &[NewStream]) -> Vec<usize> {
    streams
        .iter()
        .filter(|stream| matches!(media(stream), Some("video" | "audio")))
        .map(|stream| stream.number)
        .collect()
}

/// Whether the description announces an end: a recording, unlike a camera (RFC 2326 C.1.5).
pub(crate) fn has_end(sdp: &[u8]) -> bool {
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
