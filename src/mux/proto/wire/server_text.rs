//! A text of the peer, made safe to show, and RTSP messages for the log.
//!
//! A server's text may hold escape sequences, which a terminal obeys; direction marks, which change
//! what a log line says; the user's own keys, quoted; and a megabyte of data. So a server's text
//! gets into an error, an event, a log or a message only as a [`ServerText`].
//!
//! The log shows messages line by line. Of an `Authorization` it shows only the scheme; of a challenge
//! what tells its kind, but not its nonce. URLs are shown as [`redaction`] shows them,
//! and every line as a [`ServerText`].

use std::{borrow::Cow, fmt, ops::Deref};

use super::{
    message::{Headers, Message, StartLine, parse_head},
    octets,
    redaction::{self, TextKind, cut, is_in, redacted_rtp_info, redacted_text},
};
use crate::mux::proto::command::SessionKey;

/// The most bytes of one text that are read; far more than can be shown.
const LONGEST_READ: usize = 4 * 1024;

/// A server's text: without secrets, control characters and direction marks, at most 200
/// characters; the last one is `…` if there were more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerText(String);

impl ServerText {
    /// From a text meant for people, which may quote a URL.
    pub fn new(text: &str) -> Self {
        Self::shown(text, |text| redacted_text(text, TextKind::Prose))
    }

    /// From a text in a standard format, such as a `Transport` header.
    pub(crate) fn of_protocol(text: &str) -> Self {
        Self::shown(text, |text| redacted_text(text, TextKind::Protocol))
    }

    /// From a line of a session description.
    pub(crate) fn of_sdp_line(text: &str) -> Self {
        Self::shown(text, redaction::redacted_sdp_line)
    }

    /// From an absolute or relative URL.
    pub(crate) fn of_reference(text: &str) -> Self {
        Self::shown(text, redaction::redacted_reference)
    }

    /// From a text that is an identifier and holds no secret.
    pub fn of_identifier(text: &str) -> Self {
        Self::shown(text, str::to_owned)
    }

    fn shown(text: &str, redacted: impl Fn(&str) -> String) -> Self {
        Self(cut(&redacted(&harmless(beginning(text)))))
    }
}

impl Deref for ServerText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<ServerText> for String {
    fn from(text: ServerText) -> Self {
        text.0
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
    let end = text.floor_char_boundary(LONGEST_READ);
    text.get(..end).unwrap_or_default()
}

/// Replaces each character that a terminal obeys or that is invisible by U+FFFD, and escapes bytes that
/// are not UTF-8.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    match text.contains(is_harmful) {
        true => Cow::Owned(octets::escape(text).replace(is_harmful, "\u{fffd}")),
        false => octets::escape(text),
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

/// The most bytes of a body that are shown.
const LONGEST_BODY: usize = 4 * 1024;
/// Parameters of a challenge that are shown.
const SHOWN_PARAMETERS: &str = "algorithm qop stale charset";
/// Parameters whose names are shown and whose values are hidden. Of all others the name is hidden
/// too.
const HIDDEN_PARAMETERS: &str = "nonce opaque domain";
/// Headers whose value is a URL.
const URL_HEADERS: &str = "Content-Base Content-Location Location Base Referer";
/// Headers whose parameters help to find a fault, and are not part of a URL.
const PROTOCOL_HEADERS: &str = "Accept Accept-Ranges Allow Blocksize Cache-Control Connection \
    Content-Length Content-Type CSeq Date Expires Last-Modified Public Range Retry-After Scale \
    Session Speed Transport User-Agent";

/// One RTSP message that was sent (`>`) or received (`<`), without secrets. Its `Display` has one line
/// for each line of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireMessage {
    /// The session of the message, if it is known.
    pub session: Option<SessionKey>,
    arrow: char,
    text: String,
}

impl fmt::Display for WireMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.arrow, self.text)
    }
}

impl WireMessage {
    pub(crate) fn received(session: Option<SessionKey>, message: &Message) -> Self {
        Self {
            session,
            arrow: '<',
            text: shown(&message.start, &message.headers, &message.body),
        }
    }

    /// From the bytes of one message that we send, without its body.
    pub(crate) fn sent(session: Option<SessionKey>, bytes: &[u8]) -> Option<Self> {
        let (start, headers) = parse_head(bytes)?;
        Some(Self {
            session,
            arrow: '>',
            text: shown(&start, &headers, &[]),
        })
    }
}

fn shown(start: &StartLine, headers: &Headers, body: &[u8]) -> String {
    let mut lines = vec![match start {
        StartLine::Response { code, reason } => {
            format!("RTSP/1.0 {code} {}", ServerText::new(reason))
        }
        StartLine::Request { method, uri } => {
            let method = ServerText::of_identifier(<&str>::from(method));
            format!("{method} {} RTSP/1.0", ServerText::of_reference(uri))
        }
    }];
    let header = |(name, value): (&str, &str)| {
        let shown = shown_header(name, value);
        format!("{}: {shown}", ServerText::of_identifier(name))
    };
    lines.extend(headers.iter().map(header));
    if !body.is_empty() {
        let part = body.get(..LONGEST_BODY).unwrap_or(body);
        let content = headers.first("Content-Type").unwrap_or("application/sdp");
        let is_sdp = content.to_ascii_lowercase().starts_with("application/sdp");
        let line = |line: &str| match is_sdp {
            true => ServerText::of_sdp_line(line).into(),
            false => ServerText::new(line).into(),
        };
        lines.push(String::new());
        lines.extend(String::from_utf8_lossy(part).lines().map(line));
        if part.len() < body.len() {
            lines.push(format!("... ({} bytes in all)", body.len()));
        }
    }
    lines.join("\n")
}

fn shown_header(name: &str, value: &str) -> ServerText {
    let is_of = |names| is_in(names, name);
    if is_of("Authorization Proxy-Authorization") {
        let scheme = value.split(' ').next().unwrap_or_default();
        ServerText::of_identifier(&format!("{scheme} ***"))
    } else if is_of("WWW-Authenticate Proxy-Authenticate") {
        ServerText::of_identifier(&shown_challenge(value))
    } else if is_of("Authentication-Info Proxy-Authentication-Info") {
        ServerText::of_identifier("***")
    } else if is_of("RTP-Info") {
        ServerText::of_identifier(&redacted_rtp_info(value))
    } else if is_of(URL_HEADERS) {
        ServerText::of_reference(value)
    } else if is_of(PROTOCOL_HEADERS) {
        ServerText::of_protocol(value)
    } else {
        ServerText::new(value)
    }
}

/// `Digest realm="cam", nonce=***`; also for a list of several challenges.
fn shown_challenge(value: &str) -> String {
    let shown = |part: &str| {
        let part = part.trim();
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (scheme, name) = match name.trim().split_once(' ') {
            Some((scheme, name)) => (format!("{scheme} "), name.trim()),
            None => (String::new(), name.trim()),
        };
        let is_bare = scheme.is_empty() && value.is_empty();
        if is_in("realm", name) {
            // The camera's owner chooses this text.
            format!("{scheme}{name}={}", redacted_text(value, TextKind::Prose))
        } else if is_bare || is_in(SHOWN_PARAMETERS, name) {
            part.to_owned()
        } else if is_in(HIDDEN_PARAMETERS, name) {
            format!("{scheme}{name}=***")
        } else {
            format!("{scheme}***")
        }
    };
    let parts: Vec<String> = outside_quotes(value).map(shown).collect();
    parts.join(", ")
}

/// The parts between commas outside of quotes.
fn outside_quotes(value: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    value.split(move |c| {
        let was_escaped = is_escaped;
        is_escaped = c == '\\' && is_quoted && !was_escaped;
        is_quoted ^= c == '"' && !was_escaped;
        c == ',' && !is_quoted && !was_escaped
    })
}

#[cfg(test)]
mod server_text_tests {
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
            assert_eq!(&*ServerText::of_identifier(raw), shown.as_str());
            assert!(!ServerText::new(raw).contains(is_harmful));
            assert!(!ServerText::of_reference(raw).contains(is_harmful));
            assert!(!ServerText::of_sdp_line(raw).contains(is_harmful));
        }
    }

    #[test]
    fn f54_a_text_is_cut_at_200_characters_and_says_so() {
        for letter in ["x", "ö", "中", "🎥"] {
            assert_eq!(&*ServerText::new(&letter.repeat(200)), letter.repeat(200));
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

#[cfg(test)]
mod wire_log_tests {
    use super::*;
    use crate::mux::proto::wire::redaction::{redacted_reference, without_hashes};

    #[test]
    fn credentials_and_nonces_are_not_shown() {
        let request = b"DESCRIBE rtsp://u:hunter2@nvr/1?pwd=hunter2 RTSP/1.0\r\nCSeq: 1\r\n\
            Authorization: Digest username=\"u\", nonce=\"n0\", response=\"r0\"\r\n\r\n";
        let shown = WireMessage::sent(None, request).unwrap().to_string();
        assert_eq!(
            shown,
            format!(
                "> DESCRIBE {} RTSP/1.0\nCSeq: 1\nAuthorization: Digest ***",
                redacted_reference("rtsp://nvr/1?pwd=hunter2")
            )
        );
        let basic = b"PLAY rtsp://nvr/1 RTSP/1.0\r\nAuthorization: Basic dTpw\r\nSession: a1\r\n";
        let shown = WireMessage::sent(None, basic).unwrap().to_string();
        assert!(
            !shown.contains("dTpw") && shown.ends_with("Session: a1"),
            "{shown}"
        );
    }

    #[test]
    fn a_challenge_shows_its_kind() {
        let value = r#"Digest realm="a, b\", nonce=x", nonce="n0", qop="auth,auth-int", opaque=o0, Basic realm="c", Negotiate"#;
        assert_eq!(
            without_hashes(&shown_challenge(value)),
            r#"Digest realm="a, b\", nonce=~", nonce=***, qop="auth,auth-int", opaque=***, Basic realm="c", Negotiate"#
        );
        assert_eq!(shown_challenge(r#"Digest nonce="n0""#), "Digest nonce=***");
        assert_eq!(shown_challenge("Digest Nonce = n0"), "Digest Nonce=***");
        assert_eq!(shown_challenge("Digest x=n0, y"), "Digest ***, y");
        assert_eq!(shown_challenge("NTLM dG9rZW4="), "NTLM ***");
    }

    #[test]
    fn a_description_is_shown_up_to_a_limit() {
        let (start, headers) =
            parse_head(b"RTSP/1.0 200 OK\r\nContent-Base: rtsp://u:p@nvr/").unwrap();
        let body = "v=0\r\nk=clear:key0\r\na=control:rtsp://nvr/1?token=t0&x=1\r\nx\x1b[2J\r\n";
        assert_eq!(
            shown(&start, &headers, body.as_bytes()),
            format!(
                "RTSP/1.0 200 OK\nContent-Base: rtsp://nvr/\n\n\
                 v=0\nk=***\na=control:{}\nx\u{fffd}[2J",
                redacted_reference("rtsp://nvr/1?token=t0&x=1")
            )
        );
        let long = vec![b'x'; LONGEST_BODY + 1];
        let shown = shown(&start, &headers, &long);
        assert!(shown.ends_with("xx…\n... (4097 bytes in all)"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 200));
    }
}
