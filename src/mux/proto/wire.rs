//! Messages as they may be shown: whole, but without secrets.
//!
//! Out of an `Authorization` only the scheme is left, out of a challenge what says which kind it is,
//! not its nonce. URLs, wherever they stand, lose user, password and the values of parameters that
//! hold such.

use std::{borrow::Cow, fmt};

use super::{
    command::SessionKey,
    message::{Headers, Message, StartLine, parse_head},
    uri::redacted_text,
};

/// Bytes of a body that are shown.
const LONGEST_BODY: usize = 4 * 1024;
/// What a challenge may show.
const SHOWN_PARAMETERS: [&str; 5] = ["realm", "algorithm", "qop", "stale", "charset"];
/// What it may have whose values are nobody's business; of the rest not even the name is shown.
const HIDDEN_PARAMETERS: [&str; 3] = ["nonce", "opaque", "domain"];
/// Lines of a description that hold keys.
const KEY_LINES: [&str; 3] = ["k=", "a=crypto:", "a=key-mgmt:"];

/// One RTSP message that was sent or received, without secrets. Its `Display` has one line for each
/// line of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireMessage {
    /// Whose message it is, as far as that is known.
    pub session: Option<SessionKey>,
    /// Who sent it.
    pub direction: Direction,
    text: String,
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// We did.
    Sent,
    /// The server did.
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
    pub(super) fn received(session: Option<SessionKey>, message: &Message) -> Self {
        Self {
            session,
            direction: Direction::Received,
            text: shown(&message.start, &message.headers, &message.body),
        }
    }

    /// From the bytes of one message of ours; we send none with a body.
    pub(super) fn sent(session: Option<SessionKey>, bytes: &[u8]) -> Option<Self> {
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
            format!("RTSP/1.0 {code} {}", redacted_text(reason))
        }
        StartLine::Request { method, uri } => {
            let uri = redacted_text(uri);
            format!("{} {uri} RTSP/1.0", <&str>::from(method))
        }
    }];
    let header = |(name, value): (&str, &str)| format!("{name}: {}", shown_header(name, value));
    lines.extend(headers.iter().map(header));
    if !body.is_empty() {
        let part = body.get(..LONGEST_BODY).unwrap_or(body);
        lines.push(String::new());
        lines.extend(String::from_utf8_lossy(part).lines().map(shown_line));
        if part.len() < body.len() {
            lines.push(format!("... ({} bytes in all)", body.len()));
        }
    }
    let text = lines.join("\n");
    // A terminal would obey them.
    text.replace(|c: char| c.is_control() && c != '\n', "?")
}

fn shown_header<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    if is("Authorization") || is("Proxy-Authorization") {
        let scheme = value.split(' ').next().unwrap_or_default();
        return Cow::Owned(format!("{scheme} ***"));
    }
    if is("WWW-Authenticate") || is("Proxy-Authenticate") {
        return Cow::Owned(shown_challenge(value));
    }
    if is("Authentication-Info") || is("Proxy-Authentication-Info") {
        return Cow::Borrowed("***");
    }
    Cow::Owned(redacted_text(value))
}

/// `Digest realm="cam", nonce=***`; a list of several is shown as well.
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
        if is_bare || is_in(&SHOWN_PARAMETERS) {
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

/// The parts between commas that are not in quotes.
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

fn shown_line(line: &str) -> String {
    match KEY_LINES.iter().find(|key| line.starts_with(**key)) {
        Some(key) => format!("{key}***"),
        None => redacted_text(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_nonces_are_not_shown() {
        let request = b"DESCRIBE rtsp://u:hunter2@nvr/1?pwd=hunter2 RTSP/1.0\r\nCSeq: 1\r\n\
            Authorization: Digest username=\"u\", nonce=\"n0\", response=\"r0\"\r\n\r\n";
        let shown = WireMessage::sent(None, request).unwrap().to_string();
        assert_eq!(
            shown,
            "> DESCRIBE rtsp://***@nvr/1?pwd=*** RTSP/1.0\nCSeq: 1\nAuthorization: Digest ***"
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
            shown_challenge(value),
            r#"Digest realm="a, b\", nonce=x", nonce=***, qop="auth,auth-int", opaque=***, Basic realm="c", Negotiate"#
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
        let body = "v=0\r\nk=clear:key0\r\na=control:rtsp://nvr/1?token=t0&x=1\r\n\x1b[2J\r\n";
        assert_eq!(
            shown(&start, &headers, body.as_bytes()),
            "RTSP/1.0 200 OK\nContent-Base: rtsp://***@nvr/\n\n\
             v=0\nk=***\na=control:rtsp://nvr/1?token=***&x=1\n?[2J"
        );
        let long = vec![b'x'; LONGEST_BODY + 1];
        let shown = shown(&start, &headers, &long);
        assert!(
            shown.ends_with("x\n... (4097 bytes in all)"),
            "{}",
            shown.len()
        );
    }
}
