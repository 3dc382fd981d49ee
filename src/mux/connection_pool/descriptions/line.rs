//! A description as it is kept between runs: URI, base, and the text, percent-encoded.
//!
//! What may hold a secret keeps its description out of the file.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use url::Url;

use crate::mux::{
    ids::PresentationUri,
    proto::{
        Presentation,
        wire::{sdp::parse_presentation, secrets},
    },
};

const KIND: &str = "played";
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// None if it is not to be written down, or would not be the same when it is read.
pub(crate) fn line(uri: &PresentationUri, presentation: &Presentation) -> Option<String> {
    let url: Url = uri.0.parse().ok()?;
    let base = &presentation.base;
    let controls = presentation.streams.iter().map(|stream| &stream.control);
    let mut urls = controls.chain([&url, base, &presentation.aggregate]);
    if urls.any(secrets::may_be_in_url) || secrets::may_be_in_sdp(&presentation.sdp) {
        return None;
    }
    let text = percent_encode(&presentation.sdp, ENCODED);
    let line = format!("{KIND} {url} {base} {text}");
    let read = parse(&line)?;
    (read.0 == *uri && read.1 == *presentation).then_some(line)
}

/// None for a line of something else, or one that cannot be read.
pub(crate) fn parse(line: &str) -> Option<(PresentationUri, Presentation)> {
    let mut words = line.strip_prefix(KIND)?.strip_prefix(' ')?.split(' ');
    let url: Url = words.next()?.parse().ok()?;
    let base: Url = words.next()?.parse().ok()?;
    let sdp: Vec<u8> = percent_decode_str(words.next()?).collect();
    let presentation = parse_presentation(sdp.into(), base).ok()?;
    Some((PresentationUri(url.to_string()), presentation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(base: &str, sdp: &[u8]) -> Presentation {
        parse_presentation(sdp.to_vec().into(), base.parse().unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let uri = PresentationUri("rtsp://nvr/cam/realmonitor?channel=1&subtype=0".to_owned());
        let sdp = b"v=0\r\ns=100%\xff \n\r\nm=video 0 RTP/AVP 96\r\na=control:trackID=1\r\n\0";
        for base in ["rtsp://nvr/1/", "rtsp://nvr/1"] {
            let presentation = described(base, sdp);
            let line = line(&uri, &presentation).unwrap();
            assert!(
                line.bytes()
                    .all(|byte| byte.is_ascii_graphic() || byte == b' ')
            );
            assert_eq!(parse(&line), Some((uri.clone(), presentation)));
        }
    }

    #[test]
    fn what_may_hold_a_secret_is_not_written_down() {
        let plain = "v=0\r\nm=video 0 RTP/AVP 96\r\na=control:1\r\n";
        for (uri, base, sdp) in [
            ("rtsp://nvr/5nPr7RCmueGTKMP7", "rtsp://nvr/", plain),
            (
                "rtsp://nvr/1",
                "rtsp://admin:x@nvr/1?a=b",
                "v=0\r\nu=http://a:b@c/\r\nm=video 0 RTP/AVP 96\r\na=control:1\r\n",
            ),
            ("rtsp://nvr/1", "rtsp://nvr/?token=x", plain),
            (
                "rtsp://nvr/1",
                "rtsp://nvr/",
                "m=video 0 RTP/AVP 96\r\na=control:rtsp://nvr/1?pwd=x\r\n",
            ),
            (
                "rtsp://nvr/1",
                "rtsp://nvr/",
                "m=video 0 RTP/SAVP 96\r\na=control:1\r\na=crypto:1 AES inline:x\r\n",
            ),
        ] {
            let uri = PresentationUri(uri.to_owned());
            assert_eq!(
                line(&uri, &described(base, sdp.as_bytes())),
                None,
                "{}",
                uri.0
            );
        }
    }

    #[test]
    fn a_broken_line_says_nothing() {
        for line in [
            "",
            "played",
            "played rtsp://nvr/1",
            "played rtsp://nvr/1 rtsp://nvr/1",
            "played rtsp://nvr/1 nowhere v=0%0Am=video%200%20RTP/AVP%2096",
            "played rtsp://nvr/1 rtsp://nvr/1 nothing",
            "yes rtsp://nvr/1 rtsp://nvr/1 v=0%0Am=video%200%20RTP/AVP%2096",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
