//! RTSP/1.0 as a server sees it, written from RFC 2326 and deliberately apart from the library's own codec.
//!
//! The parser is strict: what it refuses here is a fault of the client under test. The builders are lax: they
//! write whatever a test wants to see on the wire.

use std::borrow::Cow;
use std::fmt;

/// Header lines in the order of the wire; names compare without case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of the first header of that name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }

    /// Every value of that name, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }

    /// Is a header of that name there?
    pub fn contains(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Appends a line.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Replaces all headers of that name by one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.push(name, value);
    }

    /// Removes all headers of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// All lines, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The number of lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// `CSeq`, when there is one and it is a number.
    pub fn cseq(&self) -> Option<u32> {
        self.value("CSeq")?.parse().ok()
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
}

/// A request, from the client or (built here) from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `DESCRIBE`, `SETUP` ...
    pub method: String,
    /// As written on the request line.
    pub uri: String,
    /// The header lines.
    pub headers: Headers,
    /// The body; `Content-Length` is added when this is written out.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without headers.
    pub fn new(method: &str, uri: &str) -> Self {
        Self {
            method: method.to_owned(),
            uri: uri.to_owned(),
            headers: Headers::default(),
            body: Vec::new(),
        }
    }

    /// Adds a header line.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The bytes for the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let start = format!("{} {} RTSP/1.0", self.method, self.uri);
        message(&start, &self.headers, &self.body)
    }
}

/// A response, from the server or (parsed here) from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200, 454 ...
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The header lines.
    pub headers: Headers,
    /// The body; `Content-Length` is added when this is written out, unless a header gives one.
    pub body: Vec<u8>,
}

impl Response {
    /// A response with the reason phrase of RFC 2326 and no headers.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            reason: reason_phrase(status).to_owned(),
            headers: Headers::default(),
            body: Vec::new(),
        }
    }

    /// Adds a header line.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Sets the body and its type.
    pub fn content(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.headers.push("Content-Type", content_type);
        self.body = body.into();
        self
    }

    /// The bytes for the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let start = format!("RTSP/1.0 {} {}", self.status, self.reason);
        message(&start, &self.headers, &self.body)
    }
}

fn message(start: &str, headers: &Headers, body: &[u8]) -> Vec<u8> {
    let mut out = format!("{start}\r\n").into_bytes();
    headers.write(&mut out);
    if !body.is_empty() && !headers.contains("Content-Length") {
        out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

/// The reason phrases of RFC 2326, section 7.1.1, that servers in the field use.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        451 => "Parameter Not Understood",
        453 => "Not Enough Bandwidth",
        454 => "Session Not Found",
        455 => "Method Not Valid in This State",
        459 => "Aggregate Operation Not Allowed",
        460 => "Only Aggregate Operation Allowed",
        461 => "Unsupported Transport",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        551 => "Option Not Supported",
        _ => "Status",
    }
}

/// An interleaved frame: RFC 2326, section 10.12.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The channel number.
    pub channel: u8,
    /// The RTP or RTCP packet.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The bytes for the wire.
    ///
    /// # Panics
    /// When the payload does not fit the 16-bit length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length =
            u16::try_from(self.payload.len()).expect("an interleaved frame holds 65535 bytes");
        let mut out = Vec::with_capacity(4 + self.payload.len());
        out.extend_from_slice(&[b'$', self.channel]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }
}

/// An RTP packet to send: RFC 3550, section 5.1, without CSRCs and extension.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RtpPacket {
    /// The payload type, 0 to 127.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
    /// The marker bit.
    pub marker: bool,
    /// What follows the twelve bytes of header.
    pub payload: Vec<u8>,
}

impl RtpPacket {
    /// The packet, without the interleaved header.
    pub fn to_bytes(&self) -> Vec<u8> {
        let marker = if self.marker { 0x80 } else { 0 };
        let mut out = Vec::with_capacity(12 + self.payload.len());
        out.extend_from_slice(&[0x80, marker | (self.payload_type & 0x7f)]);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }

    /// Reads the packets this support code writes: no CSRCs, no extension, no padding.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, payload) = bytes.split_first_chunk::<12>()?;
        let [first, second, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3] = *header;
        (first == 0x80).then(|| Self {
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
            marker: second & 0x80 != 0,
            payload: payload.to_vec(),
        })
    }
}

/// An RTCP sender report without report blocks: RFC 3550, section 6.4.1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SenderReport {
    /// The sender.
    pub ssrc: u32,
    /// 32.32 fixed point, seconds since 1900.
    pub ntp: u64,
    /// The same instant in the RTP clock.
    pub timestamp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload bytes sent so far.
    pub octets: u32,
}

impl SenderReport {
    /// The packet, without the interleaved header.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![0x80, 200, 0, 6];
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&self.ntp.to_be_bytes());
        for word in [self.timestamp, self.packets, self.octets] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out
    }
}

/// An RTCP BYE of one source: RFC 3550, section 6.6.
pub fn rtcp_bye(ssrc: u32) -> Vec<u8> {
    let mut out = vec![0x81, 203, 0, 1];
    out.extend_from_slice(&ssrc.to_be_bytes());
    out
}

/// Does this payload look like RTCP (packet types 200 to 204)?
pub fn is_rtcp(payload: &[u8]) -> bool {
    matches!(payload, [first, 200..=204, ..] if first >> 6 == 2)
}

/// What a client may put on the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A request.
    Request(Request),
    /// The answer to a request of the server.
    Response(Response),
    /// An interleaved frame: RTCP receiver reports, or media of a back channel.
    Frame(Frame),
}

impl Incoming {
    /// One line for a failure message.
    pub fn summary(&self) -> String {
        let (start, headers) = match self {
            Self::Request(r) => (format!("{} {}", r.method, r.uri), &r.headers),
            Self::Response(r) => (format!("{} {}", r.status, r.reason), &r.headers),
            Self::Frame(f) => {
                let payload = f.payload.escape_ascii();
                return format!("frame on channel {}: \"{payload}\"", f.channel);
            }
        };
        headers.iter().fold(start, |line, (name, value)| {
            format!("{line} | {name}: {value}")
        })
    }
}

/// Why the client's bytes are not RTSP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError(pub String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not RTSP: {}", self.0)
    }
}

/// Cuts the client's bytes into messages and frames.
#[derive(Debug, Default)]
pub struct Parser {
    buffer: Vec<u8>,
}

impl Parser {
    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that belong to no complete message yet.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// The next complete message or frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes cannot become RTSP any more; the parser is then of no further use.
    pub fn next(&mut self) -> Result<Option<Incoming>, ParseError> {
        match self.buffer.first() {
            None => Ok(None),
            Some(b'$') => Ok(self.frame().map(Incoming::Frame)),
            Some(_) => self.message(),
        }
    }

    fn frame(&mut self) -> Option<Frame> {
        let &[_, channel, high, low] = self.buffer.first_chunk::<4>()?;
        let end = 4 + usize::from(u16::from_be_bytes([high, low]));
        let payload = self.buffer.get(4..end)?.to_vec();
        self.buffer.drain(..end);
        Some(Frame { channel, payload })
    }

    fn message(&mut self) -> Result<Option<Incoming>, ParseError> {
        let Some(head_len) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") else {
            return self.check_unfinished();
        };
        let head = &self.buffer[..head_len];
        let head = match std::str::from_utf8(head) {
            Ok(head) => Cow::Borrowed(head),
            // Latin-1.
            Err(_) => head.iter().copied().map(char::from).collect(),
        };
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = parse_headers(lines)?;
        let length = match headers.value("Content-Length") {
            Some(v) => v
                .parse::<usize>()
                .map_err(|_| ParseError(format!("Content-Length {v:?}")))?,
            None => 0,
        };
        let end = head_len + 4 + length;
        let Some(body) = self.buffer.get(head_len + 4..end).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        self.buffer.drain(..end);
        start_line(&start, headers, body).map(Some)
    }

    /// A client that writes nonsense must not make a test wait for the end of it.
    fn check_unfinished(&self) -> Result<Option<Incoming>, ParseError> {
        if self.buffer.len() > 64 * 1024 {
            return Err(ParseError("64 KiB and no end of the headers".to_owned()));
        }
        if !self.buffer[0].is_ascii_uppercase() {
            return Err(ParseError(format!(
                "a message starts with {:?}",
                self.buffer[..self.buffer.len().min(16)]
                    .escape_ascii()
                    .to_string()
            )));
        }
        Ok(None)
    }
}

fn parse_headers<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Headers, ParseError> {
    let mut headers = Headers::default();
    for line in lines {
        if line.contains(['\r', '\n']) {
            return Err(ParseError(format!("a bare CR or LF in {line:?}")));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| ParseError(format!("a header without a colon: {line:?}")))?;
        let is_token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        if !is_token {
            return Err(ParseError(format!("header name {name:?}")));
        }
        headers.push(name, value.trim());
    }
    Ok(headers)
}

fn start_line(line: &str, headers: Headers, body: Vec<u8>) -> Result<Incoming, ParseError> {
    let bad = || ParseError(format!("start line {line:?}"));
    if let Some(rest) = line.strip_prefix("RTSP/1.0 ") {
        let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let is_status = status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit());
        return match status.parse() {
            Ok(status) if is_status => Ok(Incoming::Response(Response {
                status,
                reason: reason.to_owned(),
                headers,
                body,
            })),
            _ => Err(bad()),
        };
    }
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(uri), Some("RTSP/1.0"), None)
            if !uri.is_empty()
                && !method.is_empty()
                && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') =>
        {
            Ok(Incoming::Request(Request {
                method: method.to_owned(),
                uri: uri.to_owned(),
                headers,
                body,
            }))
        }
        _ => Err(bad()),
    }
}
