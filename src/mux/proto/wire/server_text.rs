//! A text of the peer, made safe to show.
//!
//! A server's text may hold escape sequences, which a terminal obeys; direction marks, which change
//! what a log line says; the user's own keys, quoted; and a megabyte of data. So a server's text
//! gets into an error, an event, a log or a message only as a [`ServerText`].

use std::{borrow::Cow, fmt, ops::Deref};

use super::redaction::{self, TextKind, cut};

/// The most bytes of one text that are read; far more than can be shown.
const LONGEST_READ: usize = 4 * 1024;

/// A server's text: without secrets, control characters and direction marks, at most 200
/// characters; the last one is `…` if there were more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerText(String);

impl ServerText {
    /// From a text meant for people, which may quote a URL.
    pub fn new(text: &str) -> Self {
        Self::redacted(text, TextKind::Prose)
    }

    /// From a text in a standard format, such as a `Transport` header.
    pub(crate) fn of_protocol(text: &str) -> Self {
        Self::redacted(text, TextKind::Protocol)
    }

    /// From a line of a session description.
    pub(crate) fn of_sdp_line(text: &str) -> Self {
        let text = harmless(beginning(text));
        Self(cut(&redaction::redacted_sdp_line(&text)))
    }

    /// From an absolute or relative URL.
    pub(crate) fn of_reference(text: &str) -> Self {
        let text = harmless(beginning(text));
        Self(cut(&redaction::redacted_reference(&text)))
    }

    /// From a text that is an identifier and holds no secret.
    pub fn of_identifier(text: &str) -> Self {
        Self(cut(&harmless(beginning(text))))
    }

    fn redacted(text: &str, kind: TextKind) -> Self {
        let text = harmless(beginning(text));
        Self(cut(&redaction::redacted_text(&text, kind)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for ServerText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ServerText {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<ServerText> for String {
    fn from(text: ServerText) -> Self {
        text.0
    }
}

impl PartialEq<str> for ServerText {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for ServerText {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for ServerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// As much of a text as is read, without invisible characters at either end.
fn beginning(text: &str) -> &str {
    let text = text.trim_matches(|c: char| c.is_whitespace() || is_harmful(c));
    match text.len() <= LONGEST_READ {
        true => text,
        false => text
            .get(..text.floor_char_boundary(LONGEST_READ))
            .unwrap_or_default(),
    }
}

/// Replaces each character that a terminal obeys or that is invisible by U+FFFD.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    match text.contains(is_harmful) {
        true => Cow::Owned(text.replace(is_harmful, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

/// Control characters (C0, DEL, C1); direction marks, embeddings, overrides and isolates; line and
/// paragraph separators; characters without width; tags.
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f54_what_a_terminal_obeys_is_not_shown() {
        for (raw, shown) in [
            ("x\x1b[2J\x1b]0;title\x07gone", "x?[2J?]0;title?gone"),
            ("a\u{9b}31mb\u{85}c", "a?31mb?c"),
            ("abc\u{202e}fed\u{2066}x\u{2069}\u{200f}", "abc?fed?x"),
            (
                "one\u{2028}two\u{2029}three\r\nfour\0",
                "one?two?three??four",
            ),
            (" Größe 5° 中文 ", "Größe 5° 中文"),
        ] {
            let shown = shown.replace('?', "\u{fffd}");
            assert_eq!(ServerText::of_identifier(raw), shown.as_str());
            assert!(!ServerText::new(raw).contains(is_harmful));
            assert!(!ServerText::of_reference(raw).contains(is_harmful));
            assert!(!ServerText::of_sdp_line(raw).contains(is_harmful));
        }
    }

    #[test]
    fn f54_a_text_is_cut_at_200_characters_and_says_so() {
        for letter in ["x", "ö", "中", "🎥"] {
            assert_eq!(
                ServerText::new(&letter.repeat(200)),
                letter.repeat(200).as_str()
            );
            for length in [201, 1023, 1365, 2000, 100_000] {
                let text = ServerText::new(&letter.repeat(length));
                assert_eq!(text.chars().count(), 200);
                let kept = text.strip_suffix('…').unwrap();
                assert_eq!(kept, letter.repeat(199));
            }
        }
    }

    #[test]
    fn f54_a_key_is_not_half_shown_where_a_text_is_cut() {
        let text = ServerText::new(&format!("{} /cam?key=hunter2", "x".repeat(185)));
        assert!(!text.contains("hunter") && text.ends_with('…'), "{text}");
    }

    /// Any text, cut into any pieces.
    #[test]
    fn f54_any_text_is_shown_within_the_rules() {
        const PIECES: [&str; 24] = [
            "rtsp://", "a:b@", "/", "?", "&", ";", "=", ":", "#", "%3D", "%", "user", "token",
            "channel", "1", "~", "\u{202e}", "\x1b[", "\u{85}", " ", "\"", "ö", "🎥", "url=",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize % below
        };
        for _ in 0..20_000 {
            let count = random(40);
            let mut text: String = (0..count).map(|_| PIECES[random(PIECES.len())]).collect();
            let hides = [
                "?zz=hunter2key",
                "&k=hunter2key",
                ";hunter2key=1",
                "=hunter2key@h",
            ];
            text.push_str(hides[random(hides.len())]);
            for shown in [
                ServerText::new(&text),
                ServerText::of_reference(&text),
                ServerText::of_protocol(&redaction::redacted_rtp_info(&format!("url={text}"))),
                ServerText::of_sdp_line(&format!("a=control:{text}")),
                ServerText::of_sdp_line(&format!("s={text}")),
            ] {
                assert!(!shown.contains("hunter2key"), "{text:?}: {shown}");
                assert!(!shown.contains(is_harmful), "{text:?}: {shown}");
                assert!(
                    shown.chars().count() <= redaction::LONGEST,
                    "{text:?}: {shown}"
                );
            }
            redaction::redacted_text(&text, TextKind::Protocol);
        }
    }
}
