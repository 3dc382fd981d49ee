//! Cleans the SDP of a server before GStreamer's C parser sees it.
//!
//! `gst_sdp_media_attributes_to_caps` loops for ever on some `a=key-mgmt` lines, parsing an empty SDP
//! raises a CRITICAL, and accessors of the bindings panic on text that is not UTF-8. So the SDP that goes
//! through is bounded, not empty, UTF-8 (repaired if it is not), free of control characters and of
//! `key-mgmt`, and cut into sections, so that one odd section cannot shift the numbers of others.

use std::{borrow::Cow, fmt};

use crate::mux::proto::wire::server_text::{ServerText, is_harmful};

/// The largest SDP that goes through, in bytes. The largest that was seen has 579 KB.
const MAX_SIZE: usize = 1024 * 1024;

/// Further sections are ignored: a connection has 128 channel pairs at most.
const MAX_SECTIONS: usize = 128;

/// Why an SDP was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is empty or has only blanks.
    Empty,
    /// It has more than [`MAX_SIZE`] bytes.
    TooLarge(usize),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the session description is empty"),
            Self::TooLarge(size) => {
                write!(
                    f,
                    "the session description has {size} bytes, more than {MAX_SIZE}"
                )
            }
        }
    }
}

impl std::error::Error for Refused {}

/// An SDP that is safe for GStreamer, in sections.
#[derive(Debug)]
pub(crate) struct Sections {
    session: String,
    media: Vec<String>,
}

impl Sections {
    /// Cleans `sdp` and cuts it at its `m=` lines.
    pub(crate) fn new(sdp: &[u8]) -> Result<Self, Refused> {
        if sdp.len() > MAX_SIZE {
            return Err(Refused::TooLarge(sdp.len()));
        }
        let text = String::from_utf8_lossy(sdp);
        let mut sections = Self {
            session: String::new(),
            media: Vec::new(),
        };
        for line in text.split(['\r', '\n']).filter_map(clean_line) {
            if line.starts_with("m=") {
                if sections.media.len() == MAX_SECTIONS {
                    break;
                }
                sections.media.push(String::new());
            }
            let section = sections.media.last_mut().unwrap_or(&mut sections.session);
            section.push_str(&line);
            section.push_str("\r\n");
        }
        if sections.session.is_empty() && sections.media.is_empty() {
            return Err(Refused::Empty);
        }
        Ok(sections)
    }

    /// How many `m=` sections there are.
    pub(crate) fn len(&self) -> usize {
        self.media.len()
    }

    /// A description with the section `index` alone: the lines of the session part and those of the
    /// section.
    pub(crate) fn description(&self, index: usize) -> Option<String> {
        Some(format!("{}{}", self.session, self.media.get(index)?))
    }

    /// The words of the section's `m=` line: media, port, protocol, formats.
    pub(crate) fn media_line(&self, index: usize) -> Option<MediaLine<'_>> {
        let line = self.media.get(index)?.lines().next()?;
        let mut words = line.strip_prefix("m=")?.split_ascii_whitespace();
        let (_media, _port) = (words.next()?, words.next()?);
        Some(MediaLine {
            protocol: words.next()?,
            formats: words.collect(),
        })
    }
}

/// What the caps layer needs of an `m=` line (RFC 4566 5.14).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MediaLine<'a> {
    pub(crate) protocol: &'a str,
    pub(crate) formats: Vec<&'a str>,
}

/// One line as GStreamer may see it; `None` if it is left out. GStreamer logs the lines and makes caps of
/// them, which show in logs, dot files and on the terminal of `gst-launch-1.0 -v`. So all lines but those
/// with data for decoders are redacted, as any text of a server that this crate shows.
fn clean_line(line: &str) -> Option<Cow<'_, str>> {
    let line = line.trim();
    // GStreamer expects `x=`; its parser stops at other lines or skips them.
    if line.as_bytes().get(1) != Some(&b'=') || is_key_management(line) || is_key(line) {
        return None;
    }
    let line = match line.contains(is_harmful) {
        true => Cow::Owned(line.replace(is_harmful, "")),
        false => Cow::Borrowed(line),
    };
    if is_data(&line) {
        return Some(line);
    }
    let shown = ServerText::of_sdp_line(&line);
    match shown == *line {
        true => Some(line),
        false => Some(Cow::Owned(shown.into())),
    }
}

/// Whether the line has data that decoders need.
fn is_data(line: &str) -> bool {
    const BEGINNINGS: [&str; 6] = [
        "m=",
        "a=rtpmap:",
        "a=fmtp:",
        "a=rtcp-fb:",
        "a=extmap:",
        "a=framesize:",
    ];
    BEGINNINGS.iter().any(|begin| begins_with(line, begin))
}

/// Whether the line has a key of media. It is not needed, as the element does not play SRTP.
fn is_key(line: &str) -> bool {
    ["k=", "a=crypto"]
        .iter()
        .any(|begin| begins_with(line, begin))
}

fn begins_with(line: &str, begin: &str) -> bool {
    let beginning = line.get(..begin.len());
    beginning.is_some_and(|it| it.eq_ignore_ascii_case(begin))
}

/// Matches more lines than it must: no line that looks like this one is needed.
fn is_key_management(line: &str) -> bool {
    const NAME: &[u8] = b"key-mgmt";
    let line: Vec<u8> = line
        .bytes()
        .filter(|byte| !byte.is_ascii_control())
        .collect();
    line.first()
        .is_some_and(|first| first.eq_ignore_ascii_case(&b'a'))
        && line
            .windows(NAME.len())
            .any(|window| window.eq_ignore_ascii_case(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert_eq!(Sections::new(b"").unwrap_err(), Refused::Empty);
        assert_eq!(Sections::new(b" \r\n\0\r\n").unwrap_err(), Refused::Empty);
        let large = vec![b'a'; MAX_SIZE + 1];
        assert_eq!(
            Sections::new(&large).unwrap_err(),
            Refused::TooLarge(large.len())
        );
    }

    #[test]
    fn sections_are_cut_at_media_lines_whatever_ends_a_line() {
        let sdp = b"v=0\ns=x\rm=video 0 RTP/AVP 96\r\na=one\n\nm=audio 0 RTP/AVP 8 0\na=two";
        let sections = Sections::new(sdp).unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!(
            sections.description(1).unwrap(),
            "v=0\r\ns=x\r\nm=audio 0 RTP/AVP 8 0\r\na=two\r\n"
        );
        assert_eq!(
            sections.media_line(1),
            Some(MediaLine {
                protocol: "RTP/AVP",
                formats: vec!["8", "0"]
            })
        );
        assert_eq!(sections.description(2), None);
    }

    #[test]
    fn key_management_is_taken_out_however_it_is_written() {
        for line in [
            "a=key-mgmt:mikey AQAd",
            " a=Key-Mgmt:x",
            "a= key-mgmt",
            "a=\0key\x01-mgmt:",
        ] {
            let sdp = format!("v=0\r\n{line}\r\nm=video 0 RTP/AVP 96\r\n{line}\r\n");
            let sections = Sections::new(sdp.as_bytes()).unwrap();
            assert_eq!(
                sections.description(0).unwrap(),
                "v=0\r\nm=video 0 RTP/AVP 96\r\n",
                "{line:?}"
            );
        }
    }

    #[test]
    fn f54_gstreamer_is_shown_data_as_it_is_and_of_texts_what_may_be_logged() {
        let long = "Z".repeat(400);
        let sdp = format!(
            "v=0\ns=x\u{202e}y /cam?k=hunter2\nk=clear:hunter2\na=crypto:1 hunter2\n\
             a=control:/user=hunter2&password=hunter2\na=x-long:{long}\n\
             m=video 0 RTP/AVP 96\na=fmtp:96 sprop-parameter-sets={long}\u{2066}\n"
        );
        let sections = Sections::new(sdp.as_bytes()).unwrap();
        let shown = sections.description(0).unwrap();
        assert!(shown.contains(&format!("\r\na=fmtp:96 sprop-parameter-sets={long}\r\n")));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("\r\ns=xy /cam?~"), "{shown}");
        assert!(shown.contains("ZZ…\r\n"), "{shown}");
    }

    #[test]
    fn text_that_is_not_utf8_is_repaired() {
        let sections = Sections::new(b"s=caf\xe9\nm=video 0 RTP/AVP 96\n").unwrap();
        assert!(
            sections
                .description(0)
                .unwrap()
                .starts_with("s=caf\u{fffd}\r\n")
        );
    }
}
