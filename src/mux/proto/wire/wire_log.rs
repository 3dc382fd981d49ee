//! RTSP messages for the log: line by line, without secrets.
//!
//! Of an `Authorization` only the scheme is shown; of a challenge what tells its kind, but not its
//! nonce. URLs are shown as [`redaction`](super::redaction) shows them, and every line as a
//! [`ServerText`].

use std::fmt;

use super::{
    message::{Headers, Message, StartLine, parse_head},
    redaction::{TextKind, redacted_rtp_info, redacted_text},
    server_text::ServerText,
};
use crate::mux::proto::command::SessionKey;

/// The most bytes of a body that are shown.
const LONGEST_BODY: usize = 4 * 1024;
/// Parameters of a challenge that are shown.
const SHOWN_PARAMETERS: [&str; 4] = ["algorithm", "qop", "stale", "charset"];
/// Parameters whose names are shown and whose values are hidden. Of all others the name is hidden
/// too.
const HIDDEN_PARAMETERS: [&str; 3] = ["nonce", "opaque", "domain"];
/// Headers whose value is a URL.
const URL_HEADERS: [&str; 5] = [
    "Content-Base",
    "Content-Location",
    "Location",
    "Base",
    "Referer",
];
/// Headers whose parameters help to find a fault, and are not part of a URL.
const PROTOCOL_HEADERS: [&str; 20] = [
    "Accept",
    "Accept-Ranges",
    "Allow",
    "Blocksize",
    "Cache-Control",
    "Connection",
    "Content-Length",
    "Content-Type",
    "CSeq",
    "Date",
    "Expires",
    "Last-Modified",
    "Public",
    "Range",
    "Retry-After",
    "Scale",
    "Session",
    "Speed",
    "Transport",
    "User-Agent",
];

/// One RTSP message that was sent or received, without secrets. Its `Display` has one line for each
/// line of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireMessage {
    /// The session of the message, if it is known.
    pub session: Option<SessionKey>,
    /// The sender.
    pub direction: Direction,
    text: String,
}

/// The sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// This library.
    Sent,
    /// The server.
    Received,
}

impl fmt::Display for WireMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.direction {
            Direction::Sent => '>',
            Direction::Received => '<',
        };
        write!(f, "{arrow} {}", self.text)
    }
}

impl WireMessage {
    pub(crate) fn received(session: Option<SessionKey>, message: &Message) -> Self {
        Self {
            session,
            direction: Direction::Received,
            text: shown(&message.start, &message.headers, &message.body),
        }
    }

    /// From the bytes of one message that we send; we send none with a body.
    pub(crate) fn sent(session: Option<SessionKey>, bytes: &[u8]) -> Option<Self> {
        let (start, headers) = parse_head(bytes)?;
        Some(Self {
            session,
            direction: Direction::Sent,
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
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let is_in = |names: &[&str]| names.iter().any(|other| is(other));
    if is("Authorization") || is("Proxy-Authorization") {
        let scheme = value.split(' ').next().unwrap_or_default();
        ServerText::of_identifier(&format!("{scheme} ***"))
    } else if is("WWW-Authenticate") || is("Proxy-Authenticate") {
        ServerText::of_identifier(&shown_challenge(value))
    } else if is("Authentication-Info") || is("Proxy-Authentication-Info") {
        ServerText::of_identifier("***")
    } else if is("RTP-Info") {
        ServerText::of_identifier(&redacted_rtp_info(value))
    } else if is_in(&URL_HEADERS) {
        ServerText::of_reference(value)
    } else if is_in(&PROTOCOL_HEADERS) {
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
        let is_in = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
        let is_bare = scheme.is_empty() && value.is_empty();
        if is_in(&["realm"]) {
            // The camera's owner chooses this text.
            format!("{scheme}{name}={}", redacted_text(value, TextKind::Prose))
        } else if is_bare || is_in(&SHOWN_PARAMETERS) {
            part.to_owned()
        } else if is_in(&HIDDEN_PARAMETERS) {
            format!("{scheme}{name}=***")
        } else {
            format!("{scheme}***")
        }
    };
    let parts: Vec<String> = outside_quotes(value).into_iter().map(shown).collect();
    parts.join(", ")
}

/// The parts between commas outside of quotes.
fn outside_quotes(value: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, c) in value.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                parts.extend(value.get(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(value.get(begin..));
    parts
}

#[cfg(test)]
mod tests {
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
