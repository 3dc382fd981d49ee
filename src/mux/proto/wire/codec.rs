//! Framing: cuts what arrives into interleaved frames (RFC 2326 10.12) and messages, in place.
//!
//! A frame shares the memory it was read into: cutting one costs no copy and no allocation.
//!
//! Sizes are limited before anything is kept. An oversize head or body is discarded as it comes and
//! its message delivered with a [`Defect`], so that it fails its own request and nobody else's.
//! When framing is lost, bytes are skipped up to the next thing that is *plausibly* a frame of ours
//! or an answer; what is skipped is bounded.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{
    header::parse_content_length,
    message::{
        Defect, HTTP_PREFIX, Headers, Message, RESPONSE_PREFIX, StartLine, may_begin_message,
        parse_head,
    },
};
use crate::mux::proto::{event::LimitExceeded, limits::Limits};

/// `$`, channel, length.
pub(crate) const FRAME_HEADER: usize = 4;
const DOLLAR: u8 = b'$';
/// Longest body that is discarded to keep framing; a peer that announces more is not believed.
const LONGEST_DISCARD: usize = 16 * 1024 * 1024;
/// Longest head that is discarded to keep framing.
const LONGEST_HEAD_DISCARD: usize = 1024 * 1024;
/// So many bytes from where a frame or message seems to begin, frames that are known are looked for:
/// behind stray bytes they are not far. A bound for what looking costs where bytes come one by one.
const LOOKED_AT: usize = 16 * 1024;
/// What has to be seen of a frame to find it plausible: header and the first two bytes.
const FRAME_EVIDENCE: usize = FRAME_HEADER + 2;

#[derive(Debug)]
pub(crate) enum Unit {
    Frame {
        channel: u8,
        payload: Bytes,
    },
    Message(Message),
    /// Framing is lost; skipping begins.
    FramingLost,
    /// Framing is found again.
    FramingFound,
}

#[derive(Debug)]
enum DecoderState {
    /// At the beginning of a frame or message. The head, if it is one, was searched so far.
    Boundary { searched: usize },
    /// A head is complete, `length` bytes of body are to come.
    Body { message: Message, length: usize },
    /// The rest of an oversize head is thrown away, up to its blank line.
    DiscardHead(OversizeHead),
    /// The rest of an oversize body is thrown away.
    DiscardBody { message: Message, left: usize },
    /// Framing is lost.
    Lost { skipped: usize },
}

/// A head over the limit whose end has not come.
#[derive(Debug)]
struct OversizeHead {
    /// What its first lines say.
    message: Message,
    /// Length of the body that follows it.
    body: usize,
    /// Bytes thrown away so far.
    discarded: usize,
    line: LineState,
}

/// Where in a head's line we are, while looking for a blank one byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    Empty,
    Filled,
}

#[derive(Debug)]
pub(crate) struct Decoder {
    limits: Limits,
    state: DecoderState,
}

impl Decoder {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: DecoderState::Boundary { searched: 0 },
        }
    }

    /// Cuts the next unit off `buffer`. `None`: more bytes are needed. `Err`: framing cannot be
    /// kept; the text says why. `plausible(channel, first two bytes)` tells whether a frame on that
    /// channel would be one of ours.
    #[inline]
    pub(crate) fn decode(
        &mut self,
        buffer: &mut BytesMut,
        plausible: impl Fn(u8, [u8; 2]) -> bool,
    ) -> Result<Option<Unit>, &'static str> {
        // Nearly everything is a frame after a frame: that is the short way.
        if matches!(self.state, DecoderState::Boundary { searched: 0 })
            && buffer.first() == Some(&DOLLAR)
        {
            return Ok(self.decode_frame(buffer, &plausible));
        }
        self.decode_other(buffer, plausible)
    }

    /// A frame, unless it only seems to be one. `None`: it is not complete.
    #[inline]
    fn decode_frame(
        &mut self,
        buffer: &mut BytesMut,
        plausible: &impl Fn(u8, [u8; 2]) -> bool,
    ) -> Option<Unit> {
        let &[_, _, high, low] = buffer.first_chunk::<FRAME_HEADER>()?;
        let end = FRAME_HEADER + usize::from(u16::from_be_bytes([high, low]));
        // Behind nearly every frame the next one begins.
        if buffer.get(end) != Some(&DOLLAR) && is_stray(buffer, end, plausible) {
            self.state = DecoderState::Lost { skipped: 0 };
            return Some(Unit::FramingLost);
        }
        cut_frame(buffer)
    }

    /// Anything but a frame after a frame.
    fn decode_other(
        &mut self,
        buffer: &mut BytesMut,
        plausible: impl Fn(u8, [u8; 2]) -> bool,
    ) -> Result<Option<Unit>, &'static str> {
        loop {
            let unit =
                match std::mem::replace(&mut self.state, DecoderState::Boundary { searched: 0 }) {
                    DecoderState::Boundary { searched } => {
                        self.decode_boundary(buffer, searched, &plausible)?
                    }
                    DecoderState::Body { message, length } => {
                        self.decode_body(buffer, message, length)
                    }
                    DecoderState::DiscardHead(head) => self.discard_head(buffer, head)?,
                    DecoderState::DiscardBody { message, left } => {
                        self.discard_body(buffer, message, left)
                    }
                    DecoderState::Lost { skipped } => self.resync(buffer, skipped, &plausible)?,
                };
            match unit {
                DecodeStep::Unit(unit) => return Ok(Some(unit)),
                DecodeStep::NeedMore => return Ok(None),
                DecodeStep::Again => {}
            }
        }
    }

    fn decode_boundary(
        &mut self,
        buffer: &mut BytesMut,
        searched: usize,
        plausible: &impl Fn(u8, [u8; 2]) -> bool,
    ) -> Result<DecodeStep, &'static str> {
        if searched == 0 {
            skip_padding(buffer);
        }
        match buffer.first() {
            None => Ok(DecodeStep::NeedMore),
            Some(&DOLLAR) => {
                let unit = self.decode_frame(buffer, plausible);
                Ok(unit.map_or(DecodeStep::NeedMore, DecodeStep::Unit))
            }
            Some(_) => self.decode_head(buffer, searched, plausible),
        }
    }

    fn decode_head(
        &mut self,
        buffer: &mut BytesMut,
        searched: usize,
        plausible: &impl Fn(u8, [u8; 2]) -> bool,
    ) -> Result<DecodeStep, &'static str> {
        if buffer.starts_with(HTTP_PREFIX) {
            return Err("the server speaks HTTP, not RTSP: is this its web port?");
        }
        if !may_begin_message(buffer) {
            return Ok(self.lose_framing(0));
        }
        if !start_line_within(buffer, self.limits.start_line) {
            return Ok(self.lose_framing(0));
        }
        let end = find_head_end(buffer, searched);
        if holds_frame(buffer, end.unwrap_or(usize::MAX), plausible) {
            return Ok(self.lose_framing(0));
        }
        // What is over the limit does not depend on how the head came in pieces.
        match end {
            Some(end) if end <= self.limits.headers => self.begin_message(&buffer.split_to(end)),
            None if buffer.len() <= self.limits.headers => {
                self.state = DecoderState::Boundary {
                    searched: buffer.len(),
                };
                Ok(DecodeStep::NeedMore)
            }
            _ => self.begin_discarding_head(buffer),
        }
    }

    fn begin_message(&mut self, head: &[u8]) -> Result<DecodeStep, &'static str> {
        let Some((message, length)) = self.parse_message(head) else {
            return Ok(self.lose_framing(head.len()));
        };
        self.await_body(message, length);
        Ok(DecodeStep::Again)
    }

    /// A message without its body yet, and how long that is.
    fn parse_message(&self, head: &[u8]) -> Option<(Message, usize)> {
        let (start, headers) = parse_head(head)?;
        let (length, defect) = self.body_length(head, &headers);
        let message = Message {
            start,
            headers,
            body: Bytes::new(),
            defect,
        };
        Some((message, length.unwrap_or(0)))
    }

    fn await_body(&mut self, message: Message, length: usize) {
        self.state = match length {
            length if length <= self.limits.body => DecoderState::Body { message, length },
            left => DecoderState::DiscardBody { message, left },
        };
    }

    /// Length of the body that follows, `None` where the head's word on it is not to be believed.
    fn body_length(&self, head: &[u8], headers: &Headers) -> (Option<usize>, Option<Defect>) {
        let over_header_limits = self.header_defect(head);
        let mut lengths = headers.all("Content-Length");
        let Some(first) = lengths.next() else {
            return (Some(0), over_header_limits);
        };
        let exceeded = || {
            Defect::Limit(LimitExceeded {
                what: "body bytes",
                limit: self.limits.body,
            })
        };
        if lengths.any(|other| other != first) {
            return (
                None,
                Some(Defect::Malformed("contradictory Content-Length headers")),
            );
        }
        let length = parse_content_length(first).and_then(|length| usize::try_from(length).ok());
        match length {
            Some(length) if length <= self.limits.body => (Some(length), over_header_limits),
            Some(length) if length <= LONGEST_DISCARD => (Some(length), Some(exceeded())),
            Some(_) => (None, Some(exceeded())),
            None if first.bytes().all(|byte| byte.is_ascii_digit()) => (None, Some(exceeded())),
            None => (None, Some(Defect::Malformed("unusable Content-Length"))),
        }
    }

    fn header_defect(&self, head: &[u8]) -> Option<Defect> {
        let mut lines = head.split(|byte| *byte == b'\n').skip(1);
        if lines
            .clone()
            .any(|line| line.len() > self.limits.header_line)
        {
            let limit = self.limits.header_line;
            return Some(Defect::Limit(LimitExceeded {
                what: "header line bytes",
                limit,
            }));
        }
        let blank_lines = 2;
        lines.nth(self.limits.header_count + blank_lines).map(|_| {
            Defect::Limit(LimitExceeded {
                what: "headers",
                limit: self.limits.header_count,
            })
        })
    }

    fn decode_body(
        &mut self,
        buffer: &mut BytesMut,
        mut message: Message,
        length: usize,
    ) -> DecodeStep {
        if buffer.len() < length {
            self.state = DecoderState::Body { message, length };
            return DecodeStep::NeedMore;
        }
        message.body = buffer.split_to(length).freeze();
        DecodeStep::Unit(Unit::Message(message))
    }

    /// Keeps the whole lines within the limit, which have the CSeq, and throws the others away.
    fn begin_discarding_head(&mut self, buffer: &mut BytesMut) -> Result<DecodeStep, &'static str> {
        let limit = self.limits.headers;
        let lines = buffer.get(..limit).unwrap_or_default();
        let kept = lines
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let kept = buffer.split_to(kept);
        let Some((mut message, body)) = self.parse_message(&kept) else {
            return Ok(self.lose_framing(kept.len()));
        };
        message.defect = Some(Defect::Limit(LimitExceeded {
            what: "header bytes",
            limit,
        }));
        self.state = DecoderState::DiscardHead(OversizeHead {
            message,
            body,
            discarded: 0,
            line: LineState::Empty,
        });
        Ok(DecodeStep::Again)
    }

    fn discard_head(
        &mut self,
        buffer: &mut BytesMut,
        mut head: OversizeHead,
    ) -> Result<DecodeStep, &'static str> {
        let left = LONGEST_HEAD_DISCARD.saturating_sub(head.discarded);
        for (at, byte) in buffer.iter().take(left).enumerate() {
            match (byte, head.line) {
                (b'\n', LineState::Empty) => {
                    buffer.advance(at + 1);
                    let OversizeHead { message, body, .. } = head;
                    self.state = DecoderState::DiscardBody {
                        message,
                        left: body,
                    };
                    return Ok(DecodeStep::Again);
                }
                (b'\n', LineState::Filled) => head.line = LineState::Empty,
                (b'\r', _) => {}
                _ => head.line = LineState::Filled,
            }
        }
        if buffer.len() > left {
            return Err("the head of an answer has no end");
        }
        head.discarded += buffer.len();
        buffer.clear();
        self.state = DecoderState::DiscardHead(head);
        Ok(DecodeStep::NeedMore)
    }

    fn discard_body(&mut self, buffer: &mut BytesMut, message: Message, left: usize) -> DecodeStep {
        let now = left.min(buffer.len());
        buffer.advance(now);
        if now == left {
            return DecodeStep::Unit(Unit::Message(message));
        }
        self.state = DecoderState::DiscardBody {
            message,
            left: left - now,
        };
        DecodeStep::NeedMore
    }

    fn lose_framing(&mut self, skipped: usize) -> DecodeStep {
        self.state = DecoderState::Lost { skipped };
        DecodeStep::Unit(Unit::FramingLost)
    }

    fn resync(
        &mut self,
        buffer: &mut BytesMut,
        skipped: usize,
        plausible: &impl Fn(u8, [u8; 2]) -> bool,
    ) -> Result<DecodeStep, &'static str> {
        // The byte at which framing was lost is no beginning, whatever it looks like.
        let from = usize::from(skipped == 0);
        let (at, found) = find_plausible(buffer, from, plausible);
        buffer.advance(at);
        let skipped = skipped + at;
        if skipped > self.limits.resync {
            return Err("framing was lost and not found again");
        }
        if found {
            return Ok(DecodeStep::Unit(Unit::FramingFound));
        }
        self.state = DecoderState::Lost { skipped };
        Ok(DecodeStep::NeedMore)
    }

    /// Whether a frame or message has begun of which `buffer` holds only a part.
    pub(crate) fn is_mid_unit(&self, buffer: &[u8]) -> bool {
        match self.state {
            DecoderState::Boundary { .. } => !buffer.is_empty(),
            DecoderState::Body { .. }
            | DecoderState::DiscardHead(_)
            | DecoderState::DiscardBody { .. } => true,
            DecoderState::Lost { .. } => false,
        }
    }
}

enum DecodeStep {
    Unit(Unit),
    NeedMore,
    Again,
}

/// Some firmware pads messages with line ends or NULs (Hikvision).
fn skip_padding(buffer: &mut BytesMut) {
    let padding = buffer
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n' | 0))
        .count();
    buffer.advance(padding);
}

/// Whether what seems to be a frame up to `end` is none of a session, and holds one.
fn is_stray(buffer: &[u8], end: usize, plausible: &impl Fn(u8, [u8; 2]) -> bool) -> bool {
    match buffer.first_chunk::<FRAME_EVIDENCE>() {
        Some(&[_, channel, _, _, first, second]) if !plausible(channel, [first, second]) => {
            holds_frame(buffer, end, plausible)
        }
        _ => false,
    }
}

/// Whether the first `extent` bytes, which seem to be a frame of no session or a head, hold a frame of a
/// session with another one behind it: then they are stray bytes, and what follows them. A camera's
/// `$$$$` would swallow 9252 bytes of its neighbours' frames.
fn holds_frame(buffer: &[u8], extent: usize, plausible: &impl Fn(u8, [u8; 2]) -> bool) -> bool {
    let extent = extent.min(LOOKED_AT).min(buffer.len());
    let looked_at = buffer.get(..extent).unwrap_or_default();
    let is_frame = |at: usize| {
        let rest = looked_at.get(at..).unwrap_or_default();
        let Some(&[_, channel, high, low, first, second]) = rest.first_chunk::<FRAME_EVIDENCE>()
        else {
            return false;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        rest.get(FRAME_HEADER + length) == Some(&DOLLAR) && plausible(channel, [first, second])
    };
    let dollars = looked_at.iter().enumerate().skip(1);
    let mut dollars = dollars.filter(|(_, byte)| **byte == DOLLAR);
    dollars.any(|(at, _)| is_frame(at))
}

/// `None`: the frame is not complete.
#[inline]
fn cut_frame(buffer: &mut BytesMut) -> Option<Unit> {
    let &[_, channel, high, low] = buffer.first_chunk::<FRAME_HEADER>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if buffer.len() < FRAME_HEADER + length {
        return None;
    }
    buffer.advance(FRAME_HEADER);
    let payload = buffer.split_to(length).freeze();
    Some(Unit::Frame { channel, payload })
}

/// End of the head including its blank line. CRLF CRLF, LF LF and their mixtures all end one.
fn find_head_end(buffer: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let mut rest = buffer.get(from..)?;
    let mut offset = from;
    loop {
        let newline = rest.iter().position(|byte| *byte == b'\n')?;
        let after = rest.get(newline + 1..)?;
        offset += newline + 1;
        match after {
            [b'\n', ..] => return Some(offset + 1),
            [b'\r', b'\n', ..] => return Some(offset + 2),
            _ => rest = after,
        }
    }
}

fn start_line_within(buffer: &[u8], limit: usize) -> bool {
    buffer.len() <= limit || buffer.iter().take(limit).any(|byte| *byte == b'\n')
}

/// Position of the first plausible beginning at or after `from`, or of the first byte that more
/// bytes are needed to judge.
fn find_plausible(
    buffer: &[u8],
    from: usize,
    plausible: &impl Fn(u8, [u8; 2]) -> bool,
) -> (usize, bool) {
    for at in from..buffer.len() {
        let rest = buffer.get(at..).unwrap_or_default();
        match rest.first() {
            Some(&DOLLAR) => match rest.first_chunk::<FRAME_EVIDENCE>() {
                Some(&[_, channel, _, _, first, second]) if plausible(channel, [first, second]) => {
                    return (at, true);
                }
                Some(_) => {}
                None => return (at, false),
            },
            Some(b'R') if rest.starts_with(RESPONSE_PREFIX) => return (at, true),
            Some(b'R') if RESPONSE_PREFIX.starts_with(rest) => return (at, false),
            _ => {}
        }
    }
    (buffer.len(), false)
}

/// A frame as it goes on the wire. `None` if the payload does not fit one.
pub(crate) fn write_frame(out: &mut BytesMut, channel: u8, payload: &[u8]) -> Option<()> {
    let length = u16::try_from(payload.len()).ok()?;
    out.reserve(FRAME_HEADER + payload.len());
    out.extend_from_slice(&[DOLLAR, channel]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
    Some(())
}

impl Message {
    /// Start line of an answer.
    pub(crate) fn status(&self) -> Option<(u16, &str)> {
        match &self.start {
            StartLine::Response { code, reason } => Some((*code, reason)),
            StartLine::Request { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
