//! Messages: parses the heads of received ones, tolerantly, and writes those that we send.
//!
//! Framing and header normalisation are our own, not rtsp-types': that crate waits for ever on
//! header lines that end in a bare LF, which cameras send. Method names and header names are
//! rtsp-types'.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use rtsp_types::Method;

use super::octets;
use crate::mux::proto::limits::LimitExceeded;

/// A received message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) start: StartLine,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    /// Why the message cannot be used, although its end was found.
    pub(crate) defect: Option<Defect>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StartLine {
    /// The reason phrase as written.
    Response { code: u16, reason: String },
    /// The URI as written.
    Request { method: Method, uri: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    Limit(LimitExceeded),
    Malformed(&'static str),
}

impl Defect {
    pub(crate) fn limit(what: &'static str, limit: usize) -> Self {
        Self::Limit(LimitExceeded { what, limit })
    }
}

/// Headers in the order received; names compare without case (RFC 2326 4.2).
#[derive(Debug, Default)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first header of this name.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All headers of this name, joined as RFC 2326 4.2 allows for lists.
    pub(crate) fn joined(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self.all(name).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Names and values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Drops headers that are longer. A header that is needed, and then is not there, fails its request.
    pub(crate) fn leave_out_longer_than(&mut self, longest: usize) {
        self.0
            .retain(|(name, value)| name.len() + value.len() <= longest);
    }

    fn push_line(&mut self, line: &str) {
        if line.starts_with([' ', '\t']) {
            // A folded header (RFC 2326 4, which refers to RFC 2068 2.2).
            if let Some((_, value)) = self.0.last_mut() {
                value.push(' ');
                value.push_str(trimmed(line));
            }
        } else if let Some((name, value)) = line.split_once(':') {
            self.0
                .push((trimmed(name).to_owned(), trimmed(value).to_owned()));
        }
    }
}

/// Without blanks around it. Other white space may be part of a value in another encoding.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace())
}

/// The first bytes of every answer.
pub(crate) const RESPONSE_PREFIX: &[u8] = b"RTSP/";
/// The peer answers, but does not speak RTSP: usually it is a camera's web port.
pub(crate) const HTTP_PREFIX: &[u8] = b"HTTP/";
/// Longest method name accepted in a request of the server (`GET_PARAMETER` has 13).
const LONGEST_METHOD: usize = 24;

/// True if `bytes`, the beginning of something that is not an interleaved frame, can be the
/// beginning of a message. For a few bytes, true may only mean "not impossible".
pub(crate) fn may_begin_message(bytes: &[u8]) -> bool {
    let shared = bytes.len().min(RESPONSE_PREFIX.len());
    if bytes.get(..shared) == RESPONSE_PREFIX.get(..shared) {
        return true;
    }
    match bytes
        .iter()
        .position(|byte| !(byte.is_ascii_uppercase() || *byte == b'_'))
    {
        Some(end) => (3..=LONGEST_METHOD).contains(&end) && bytes.get(end) == Some(&b' '),
        None => bytes.len() <= LONGEST_METHOD,
    }
}

/// Parses a head: start line and headers, without the blank line. `None` if the start line is not
/// one.
pub(crate) fn parse_head(head: &[u8]) -> Option<(StartLine, Headers)> {
    let text = octets::decode(head);
    // Two searches for one byte each are much quicker than one for either character.
    let lines = text.split('\n').flat_map(|line| line.split('\r'));
    let mut lines = lines.filter(|line| !line.is_empty());
    let start = parse_start_line(lines.next()?)?;
    let mut headers = Headers::default();
    lines.for_each(|line| headers.push_line(line));
    Some((start, headers))
}

fn parse_start_line(line: &str) -> Option<StartLine> {
    let (first, rest) = line.split_once([' ', '\t'])?;
    if first.starts_with("RTSP/") {
        let rest = rest.trim_start();
        let (code, reason) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        let code = code
            .parse()
            .ok()
            .filter(|code| (100..1000).contains(code))?;
        return Some(StartLine::Response {
            code,
            reason: reason.to_owned(),
        });
    }
    let rest = rest.trim_end();
    let (uri, version) = rest.rsplit_once(' ').unwrap_or(("", rest));
    version.starts_with("RTSP/").then(|| StartLine::Request {
        method: Method::from(first),
        uri: uri.to_owned(),
    })
}

/// Writes one message. CSeq always comes first: old camera firmware looks for it there.
pub(crate) struct MessageWriter<'a> {
    out: &'a mut BytesMut,
}

impl<'a> MessageWriter<'a> {
    pub(crate) fn request(out: &'a mut BytesMut, method: &Method, uri: &str, cseq: u32) -> Self {
        let mut writer = Self { out };
        writer.put(&[<&str>::from(method), " "]);
        writer.put_received(uri);
        writer.put(&[" RTSP/1.0\r\nCSeq: ", &cseq.to_string(), "\r\n"]);
        writer
    }

    pub(crate) fn response(out: &'a mut BytesMut, code: u16, reason: &str, cseq: &str) -> Self {
        let mut writer = Self { out };
        writer.put(&["RTSP/1.0 ", &code.to_string(), " ", reason, "\r\n"]);
        writer.header("CSeq", cseq);
        writer
    }

    pub(crate) fn header(&mut self, name: &str, value: &str) {
        // A peer's text was checked where it was received; this is the last check that it cannot
        // add a header.
        let is_safe = !value.bytes().any(|byte| byte.is_ascii_control());
        debug_assert!(is_safe, "control character in {name}");
        let value = match is_safe {
            true => Cow::Borrowed(value),
            false => Cow::Owned(value.replace(|c: char| c.is_ascii_control(), "")),
        };
        self.put(&[name, ": "]);
        self.put_received(&value);
        self.put(&["\r\n"]);
    }

    pub(crate) fn finish(mut self) {
        self.put(&["\r\n"]);
    }

    fn put(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    /// What may hold octets of a received head.
    fn put_received(&mut self, text: &str) {
        self.out.extend_from_slice(&octets::encode(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> (StartLine, Headers) {
        parse_head(text.as_bytes()).expect("a head")
    }

    #[test]
    fn status_line_with_and_without_reason() {
        let response = |code, reason: &str| StartLine::Response {
            code,
            reason: reason.to_owned(),
        };
        assert_eq!(head("RTSP/1.0 200 OK\r\nCSeq: 1").0, response(200, "OK"));
        assert_eq!(head("RTSP/1.0 454\r\n").0, response(454, ""));
        assert_eq!(
            head("RTSP/1.0  404 Stream Not Found").0,
            response(404, "Stream Not Found")
        );
        assert!(parse_head(b"RTSP/1.0 2000 OK").is_none());
        assert!(parse_head(b"RTSP/1.0 xyz OK").is_none());
        assert!(parse_head(b"").is_none());
    }

    #[test]
    fn headers_are_found_without_case_with_bare_lf_and_folded() {
        let (_, headers) =
            head("RTSP/1.0 200 OK\ncseq:5\nPublic: OPTIONS,\r\n PLAY\r\nno colon\r\n");
        assert_eq!(headers.first("CSeq"), Some("5"));
        assert_eq!(headers.first("Public"), Some("OPTIONS, PLAY"));
        assert_eq!(headers.first("no colon"), None);
    }

    #[test]
    fn repeated_headers_are_joined_in_order() {
        let (_, headers) =
            head("RTSP/1.0 401 U\r\nWWW-Authenticate: Basic a\r\nWWW-Authenticate: Digest b");
        assert_eq!(
            headers.joined("www-authenticate").as_deref(),
            Some("Basic a, Digest b")
        );
        assert_eq!(headers.joined("Missing"), None);
    }

    #[test]
    fn requests_of_the_server_are_told_from_garbage() {
        assert_eq!(
            head("OPTIONS * RTSP/1.0\r\nCSeq: 1").0,
            StartLine::Request {
                method: Method::Options,
                uri: "*".to_owned(),
            }
        );
        assert!(parse_head(b"OPTIONS * HTTP/1.1").is_none());
        assert!(
            may_begin_message(b"R")
                && may_begin_message(b"RTSP/1.0")
                && may_begin_message(b"GET_PARAMETER ")
        );
        assert!(may_begin_message(b"OPT") && may_begin_message(b"REDIRECT rtsp"));
        assert!(
            !may_begin_message(b"rtsp/1.0")
                && !may_begin_message(b"AB cd")
                && !may_begin_message(b"\x80\x60")
        );
        assert!(!may_begin_message(&[b'A'; 64]));
    }

    #[test]
    fn cseq_is_written_first() {
        let mut out = BytesMut::new();
        let mut writer = MessageWriter::request(&mut out, &Method::Describe, "rtsp://nvr/1", 7);
        writer.header("Accept", "application/sdp");
        writer.finish();
        assert_eq!(
            &out[..],
            b"DESCRIBE rtsp://nvr/1 RTSP/1.0\r\nCSeq: 7\r\nAccept: application/sdp\r\n\r\n"
        );
    }
}
