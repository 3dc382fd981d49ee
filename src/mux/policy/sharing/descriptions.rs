//! Whether what a server described for one URI may be the presentation of another URI.
//!
//! Some servers stay with the first URI that they were asked for on a connection and answer every
//! later one for it: ZLMediaKit with the same description, go2rtc with one that has the first
//! camera's media once more for each DESCRIBE. A session that plays such a description shows another
//! camera's picture. Control URLs do not always tell: without Content-Base a relative control
//! attribute resolves against the URI that was asked for. But cameras of one model describe
//! themselves alike as well, so a likeness is a suspicion and no evidence. Evidence is that the same
//! URI is described differently on a fresh connection.
//!
//! Where a server describes two URIs alike, one session describes its URI once more on a new connection,
//! for all sessions of that server. If both descriptions of the URI are the same, likeness is harmless at
//! this server: its cameras are of one model. That is learned once. If they differ, the server shows one
//! camera for several URIs.

use crate::mux::proto::{FirstAsked, Presentation, wire::sdp};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

/// What a description says apart from the lines that name the camera or differ at each DESCRIBE
/// (`o=`, `s=`, `i=`, `a=ssrc`): for each medium its `m=` line, mapping, parameters and control
/// attribute as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Of what stands before the first `m=` line.
    session: u64,
    media: Vec<MediaSignature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct MediaSignature {
    /// `video`, `audio` ...
    kind: String,
    hash: u64,
}

impl Signature {
    /// The signature of a description as received.
    pub(crate) fn of(description: &[u8]) -> Self {
        let mut signature = Self::default();
        let mut hasher = DefaultHasher::new();
        let mut kind: Option<String> = None;
        for line in sdp::lines(description) {
            if let Some(media) = line.strip_prefix("m=") {
                signature.close(kind.take(), &hasher);
                hasher = DefaultHasher::new();
                // The port says nothing, and some servers fill it in.
                let mut words = media.split_ascii_whitespace();
                kind = Some(words.next().unwrap_or_default().to_ascii_lowercase());
                let _port = words.next();
                words.for_each(|word| word.hash(&mut hasher));
            } else if is_of_signature(&line) {
                line.hash(&mut hasher);
            }
        }
        signature.close(kind, &hasher);
        signature
    }

    fn close(&mut self, kind: Option<String>, hasher: &DefaultHasher) {
        let hash = hasher.finish();
        match kind {
            Some(kind) => self.media.push(MediaSignature { kind, hash }),
            None => self.session = hash,
        }
    }

    /// Whether it has a kind of medium more often than `first`.
    fn has_grown_from(&self, first: &Self) -> bool {
        let (own, before) = (self.counts(), first.counts());
        own.iter()
            .any(|(kind, count)| before.get(kind).is_none_or(|before| count > before))
    }

    fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for media in &self.media {
            *counts.entry(media.kind.as_str()).or_default() += 1;
        }
        counts
    }
}

fn is_of_signature(line: &str) -> bool {
    ["a=rtpmap:", "a=fmtp:", "a=control:"]
        .iter()
        .any(|name| line.starts_with(name))
}

/// How one URI was described on one connection. Two such accounts of one URI are equal unless the
/// server described another presentation for one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) signature: Signature,
    /// Where its media are set up. A hash each: they may hold secrets.
    controls: Vec<u64>,
}

impl Account {
    pub(crate) fn of(presentation: &Presentation) -> Self {
        let hash_of = |control: &str| {
            let mut hasher = DefaultHasher::new();
            control.hash(&mut hasher);
            hasher.finish()
        };
        let controls = presentation.streams.iter();
        Self {
            signature: Signature::of(&presentation.sdp),
            controls: controls
                .map(|media| hash_of(media.control.as_str()))
                .collect(),
        }
    }
}

/// Why a description may be that of another URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Its control URLs are those of another URI that was asked for on the connection.
    NamesAnother,
    /// The connection was asked for another URI first, and how that one is described is not known.
    FirstUnknown,
    /// Another URI was described there in the same words.
    SameDescription,
    /// It has a medium more often than the first description there.
    Grown,
}

/// Whether a description is in doubt, where `first_asked` is what the connection was asked for first, and
/// `others` what other URIs were described as there. `names_another`: its control URLs are below another
/// URI that was asked for there, and not below its own. The description of the first URI never is: that is the one the server stays with. A
/// server that stays with a first URI which it refused to describe refuses all.
pub(crate) fn doubt<'a>(
    own: &Signature,
    first_asked: &FirstAsked,
    names_another: bool,
    mut others: impl Iterator<Item = &'a Signature>,
) -> Option<Doubt> {
    let first = match first_asked {
        FirstAsked::Own => return None,
        FirstAsked::Described(first) => Some(Signature::of(first)),
        FirstAsked::Refused | FirstAsked::Unanswered => None,
    };
    if names_another {
        Some(Doubt::NamesAnother)
    } else if first.as_ref() == Some(own) || others.any(|other| other == own) {
        Some(Doubt::SameDescription)
    } else if first.is_some_and(|first| own.has_grown_from(&first)) {
        Some(Doubt::Grown)
    } else if *first_asked == FirstAsked::Unanswered {
        Some(Doubt::FirstUnknown)
    } else {
        None
    }
}

/// Whether a description that is in no doubt shows that the server does not stay with the first URI of
/// the connection: each of the two has a medium with parameters that the other one does not have.
/// Payload types and control attributes do not count: go2rtc makes new ones for the same camera.
pub(crate) fn shows_another_camera(description: &[u8], first: &FirstAsked) -> bool {
    let FirstAsked::Described(first) = first else {
        return false;
    };
    let (own, first) = (parameters(description), parameters(first));
    let has_more = |one: &[String], other: &[String]| one.iter().any(|it| !other.contains(it));
    has_more(&own, &first) && has_more(&first, &own)
}

/// What each medium is said to be encoded with.
fn parameters(description: &[u8]) -> Vec<String> {
    let mut media: Vec<String> = Vec::new();
    for line in sdp::lines(description) {
        if line.starts_with("m=") {
            media.push(String::new());
        }
        let attribute = ["a=rtpmap:", "a=fmtp:"]
            .into_iter()
            .find_map(|name| line.strip_prefix(name));
        let parameters = attribute.and_then(|attribute| attribute.split_once(' '));
        if let (Some((_, parameters)), Some(medium)) = (parameters, media.last_mut()) {
            medium.push_str(parameters.trim());
            medium.push('\n');
        }
    }
    // Of a medium without any, such as PCMA by its static payload type, nothing is said.
    media.retain(|medium| !medium.is_empty());
    media
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn text(media: &str) -> String {
        format!("v=0\r\no=- 1 1 IN IP4 x\r\ns=1\r\n{media}")
    }

    fn signature(media: &str) -> Signature {
        Signature::of(text(media).as_bytes())
    }

    fn first(media: &str) -> FirstAsked {
        FirstAsked::Described(Bytes::from(text(media)))
    }

    fn video(payload_type: u8, sprop: &str, track: u8) -> String {
        format!(
            "m=video 0 RTP/AVP {payload_type}\r\na=rtpmap:{payload_type} H264/90000\r\n\
             a=fmtp:{payload_type} sprop-parameter-sets={sprop}\r\na=control:trackID={track}\r\n"
        )
    }

    fn doubt_of(own: &str, first: &FirstAsked, others: &[&str]) -> Option<Doubt> {
        let own = signature(own);
        let others: Vec<Signature> = others.iter().map(|other| signature(other)).collect();
        doubt(&own, first, false, others.iter())
    }

    #[test]
    fn what_names_the_camera_or_changes_each_time_is_no_difference() {
        let one = b"v=0\r\no=- 1 1 IN IP4 a\r\ns=one\r\ni=1\r\nt=0 0\r\na=control:*\r\n\
            m=video 0 RTP/AVP 96\r\nb=AS:5\r\na=rtpmap:96 H264/90000\r\na=ssrc:7 cname:x\r\n";
        let two = b"v=0\no=- 2 9 IN IP4 b\ns=two\nt=0 0\na=control:*\n\
            m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\na=ssrc:8 cname:y\n";
        assert_eq!(Signature::of(one), Signature::of(two));
    }

    #[test]
    fn codec_parameters_controls_and_media_are_differences() {
        let one = signature(&video(96, "aaaa", 0));
        for other in [
            video(97, "aaaa", 0),
            video(96, "bbbb", 0),
            video(96, "aaaa", 1),
            video(96, "aaaa", 0) + "m=audio 0 RTP/AVP 8\r\n",
            format!("a=control:rtsp://nvr/1\r\n{}", video(96, "aaaa", 0)),
        ] {
            assert_ne!(one, signature(&other), "{other}");
        }
    }

    #[test]
    fn f11_the_first_one_asked_for_is_never_in_doubt() {
        let (own, other) = (video(96, "aaaa", 0), video(96, "aaaa", 0));
        assert_eq!(doubt_of(&own, &FirstAsked::Own, &[&other]), None);
    }

    #[test]
    fn f11_what_go2rtc_describes_is_in_doubt() {
        let one = video(96, "aaaa", 0);
        let grown = one.clone() + &video(97, "aaaa", 1);
        let doubt = doubt_of(&grown, &first(&one), &[]);
        assert_eq!(doubt, Some(Doubt::Grown));
        let av = one + "m=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\n";
        let both = av.clone() + &av;
        assert_eq!(doubt_of(&both, &first(&av), &[]), Some(Doubt::Grown));
    }

    #[test]
    fn f08_the_same_words_for_another_uri_are_in_doubt() {
        let one = video(96, "aaaa", 0);
        let doubt = doubt_of(&one, &first(&one), &[]);
        assert_eq!(doubt, Some(Doubt::SameDescription));
        // Also the control URLs of a URI that was not the first.
        let other = video(96, "bbbb", 0);
        let doubt = doubt_of(&other, &first(&one), &[&other]);
        assert_eq!(doubt, Some(Doubt::SameDescription));
    }

    #[test]
    fn f11_a_first_camera_that_was_not_described_yet_may_be_what_is_described() {
        let own = video(96, "aaaa", 0);
        let doubt = doubt_of(&own, &FirstAsked::Unanswered, &[]);
        assert_eq!(doubt, Some(Doubt::FirstUnknown));
        assert_eq!(doubt_of(&own, &FirstAsked::Refused, &[]), None);
    }

    #[test]
    fn f11_parameters_of_its_own_show_another_camera_and_numbers_do_not() {
        let shows = |own: &str, of_first: &str| {
            shows_another_camera(text(own).as_bytes(), &first(of_first))
        };
        let (one, other) = (video(96, "aaaa", 0), video(96, "bbbb", 0));
        assert!(shows(&other, &one));
        assert!(!shows(&video(97, "aaaa", 1), &one), "the same camera");
        let both = one.clone() + &other;
        assert!(!shows(&both, &one), "grown");
        assert!(!shows(&one, &both), "fewer");
        let audio = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/8000\r\n";
        assert!(shows(&(other + audio), &(one + audio)));
        let unknown = FirstAsked::Unanswered;
        assert!(!shows_another_camera(text(&both).as_bytes(), &unknown));
    }

    #[test]
    fn cameras_of_two_models_are_in_no_doubt() {
        let (one, other) = (video(96, "aaaa", 0), video(96, "bbbb", 0));
        assert_eq!(doubt_of(&other, &first(&one), &[&one]), None);
        let av = one + "m=audio 0 RTP/AVP 8\r\n";
        assert_eq!(doubt_of(&other, &first(&av), &[&av]), None, "fewer");
    }
}
