//! Descriptions of what was played before: a session that plays it again need not wait for DESCRIBE.
//!
//! They are kept only for servers that share, where a SETUP does not depend on what was described on its
//! connection before, and used only at servers to which a SETUP may be sent behind an unanswered DESCRIBE
//! (gst-rtsp-server; of others it is known that the URI is there). The session asks for the description
//! all the same, together with the SETUP, since it may have changed. So every caller that asks for a URI
//! may use the description that an earlier process received: the server has to give it to this caller as
//! well.
//!
//! The state file keeps a description as one line: URI, base, and the text, percent-encoded. A description
//! that may hold a secret is not written to it.

use crate::mux::{
    ids::PresentationUri,
    proto::{
        Presentation,
        wire::{redaction, sdp::parse_presentation},
    },
    server_key::ConnectionKey,
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use std::{cmp::Reverse, collections::HashMap};
use url::Url;

/// More cameras than one process plays.
const MOST: usize = 1024;
/// Bytes of SDP, so that a few huge ones cannot fill the memory.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// The key of the session that played a presentation (none: an earlier process did), and the URI of
/// it.
type Name = (Option<ConnectionKey>, PresentationUri);

#[derive(Debug)]
struct Remembered {
    presentation: Presentation,
    /// The number of the use in which it was last used.
    used: u64,
}

/// Descriptions, by the sessions that may see them and by URI; the least recently used are dropped
/// first.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    known: HashMap<Name, Remembered>,
    bytes: usize,
    uses: u64,
}

impl Descriptions {
    /// A presentation was played. True if this description of it is new.
    pub(super) fn remember(
        &mut self,
        key: &ConnectionKey,
        uri: &PresentationUri,
        presentation: &Presentation,
    ) -> bool {
        let known = self.find(key, uri);
        let is_new = known.is_none_or(|known| known.presentation != *presentation);
        self.forget(key, uri);
        self.insert((Some(key.clone()), uri.clone()), presentation.clone());
        is_new
    }

    fn insert(&mut self, name: Name, presentation: Presentation) {
        self.remove(&name);
        self.bytes += presentation.sdp.len();
        self.uses += 1;
        let used = self.uses;
        self.known.insert(name, Remembered { presentation, used });
        while self.known.len() > MOST || self.bytes > MOST_BYTES {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            let Some((oldest, _)) = oldest else { return };
            self.remove(&oldest.clone());
        }
    }

    fn remove(&mut self, name: &Name) {
        if let Some(gone) = self.known.remove(name) {
            self.bytes -= gone.presentation.sdp.len();
        }
    }

    /// The last description of it.
    pub(super) fn recall(
        &mut self,
        key: &ConnectionKey,
        uri: &PresentationUri,
    ) -> Option<Presentation> {
        let uses = self.uses + 1;
        let remembered = self.find(key, uri)?;
        remembered.used = uses;
        let presentation = remembered.presentation.clone();
        self.uses = uses;
        Some(presentation)
    }

    /// Prefers the description that this process received to that of an earlier process.
    fn find(&mut self, key: &ConnectionKey, uri: &PresentationUri) -> Option<&mut Remembered> {
        let own = (Some(key.clone()), uri.clone());
        let name = match self.known.contains_key(&own) {
            true => own,
            false => (None, own.1),
        };
        self.known.get_mut(&name)
    }

    /// The presentation that this process played last over the same kind of connection, other than
    /// this one.
    pub(super) fn another(
        &self,
        key: &ConnectionKey,
        uri: &PresentationUri,
    ) -> Option<(Url, Presentation)> {
        let others = self.known.iter().filter_map(|((by, other), known)| {
            let is_other = by.as_ref() == Some(key) && other != uri;
            let url = Url::parse(&other.0).ok().filter(|_| is_other)?;
            Some((known.used, url, &known.presentation))
        });
        let (_, url, presentation) = others.max_by_key(|(used, ..)| *used)?;
        Some((url, presentation.clone()))
    }

    /// Whether it was played.
    pub(super) fn has(&self, key: &ConnectionKey, uri: &PresentationUri) -> bool {
        let own = (Some(key.clone()), uri.clone());
        self.known.contains_key(&own) || self.known.contains_key(&(None, own.1))
    }

    /// The description does not hold any more.
    pub(super) fn forget(&mut self, key: &ConnectionKey, uri: &PresentationUri) {
        self.remove(&(Some(key.clone()), uri.clone()));
        self.remove(&(None, uri.clone()));
    }

    /// All descriptions, for the next process: the one that was used last comes first.
    pub(super) fn latest_first(&self) -> Vec<(PresentationUri, Presentation)> {
        let mut known: Vec<_> = self.known.iter().collect();
        known.sort_unstable_by_key(|(_, known)| Reverse(known.used));
        let known = known.into_iter();
        known
            .map(|((_, uri), known)| (uri.clone(), known.presentation.clone()))
            .collect()
    }

    /// Takes over what an earlier process has played.
    pub(super) fn load(&mut self, uri: PresentationUri, presentation: Presentation) {
        self.insert((None, uri), presentation);
    }
}

const KIND: &str = "played";
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// None if the description is not to be written down, or would not be read back the same.
pub(crate) fn line(uri: &PresentationUri, presentation: &Presentation) -> Option<String> {
    let url: Url = uri.0.parse().ok()?;
    let base = &presentation.base;
    let controls = presentation.streams.iter().map(|stream| &stream.control);
    let mut urls = controls.chain([&url, base, &presentation.aggregate]);
    if urls.any(redaction::may_be_in_url) || redaction::may_be_in_sdp(&presentation.sdp) {
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
    use crate::mux::{SessionOptions, proto::wire::sdp::parse_presentation};

    fn key(url: &str) -> ConnectionKey {
        SessionOptions::new(url).unwrap().connection_key().unwrap()
    }

    fn uri(number: usize) -> PresentationUri {
        PresentationUri(format!("rtsp://nvr/{number}"))
    }

    fn presentation(bytes: usize) -> Presentation {
        let mut sdp = "v=0\r\ns=x\r\nm=video 0 RTP/AVP 96\r\na=control:1\r\n".to_owned();
        sdp.push_str(&format!("i={}\r\n", "x".repeat(bytes)));
        parse_presentation(sdp.into(), "rtsp://nvr/1".parse().unwrap()).unwrap()
    }

    fn lines(known: &Descriptions) -> impl Iterator<Item = String> {
        let all = known.latest_first().into_iter();
        all.filter_map(|(uri, presentation)| line(&uri, &presentation))
    }

    fn load(known: &mut Descriptions, line: &str) {
        let (uri, presentation) = parse(line).unwrap();
        known.load(uri, presentation);
    }

    #[test]
    fn it_is_for_those_who_may_share_a_connection_only() {
        let mut known = Descriptions::default();
        let (admin, guest) = (key("rtsp://admin:a@nvr/1"), key("rtsp://guest:b@nvr/1"));
        known.remember(&admin, &uri(1), &presentation(1));
        assert!(known.recall(&guest, &uri(1)).is_none());
        assert!(known.recall(&admin, &uri(2)).is_none());
        assert!(known.recall(&admin, &uri(1)).is_some());
        known.forget(&admin, &uri(1));
        assert!(known.recall(&admin, &uri(1)).is_none());
        assert_eq!(known.bytes, 0);
    }

    #[test]
    fn what_an_earlier_process_played_is_known_to_all_until_it_holds_no_more() {
        let mut before = Descriptions::default();
        let (admin, guest) = (key("rtsp://admin:a@nvr/1"), key("rtsp://guest:b@nvr/1"));
        assert!(before.remember(&admin, &uri(1), &presentation(1)));
        assert!(!before.remember(&admin, &uri(1), &presentation(1)));
        let mut now = Descriptions::default();
        lines(&before).for_each(|line| load(&mut now, &line));
        assert_eq!(now.recall(&guest, &uri(1)), Some(presentation(1)));
        assert!(!now.remember(&admin, &uri(1), &presentation(1)));
        assert!(
            now.recall(&guest, &uri(1)).is_none(),
            "it is the admin's now"
        );
        lines(&before).for_each(|line| load(&mut now, &line));
        now.forget(&guest, &uri(1));
        assert!(now.recall(&guest, &uri(1)).is_none());
        assert_eq!(now.bytes, presentation(1).sdp.len());
    }

    #[test]
    fn the_least_recently_used_go_when_it_is_too_much() {
        let mut known = Descriptions::default();
        let (key, small) = (key("rtsp://nvr/1"), presentation(1));
        assert!((0..MOST).all(|number| known.remember(&key, &uri(number), &small)));
        assert!(known.recall(&key, &uri(0)).is_some());
        known.remember(&key, &uri(MOST), &small);
        assert!(known.recall(&key, &uri(1)).is_none());
        assert!(known.recall(&key, &uri(0)).is_some());
        let large = presentation(200_000);
        assert!((0..100).all(|number| known.remember(&key, &uri(number), &large)));
        assert!(known.bytes <= MOST_BYTES);
        assert!(known.recall(&key, &uri(99)).is_some());
    }

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
