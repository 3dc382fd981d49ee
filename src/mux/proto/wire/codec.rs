//! The decoder: cuts received bytes into interleaved frames (RFC 2326 10.12) and messages, in
//! place.
//!
//! A frame shares the memory it was read into: cutting one costs no copy and no allocation.
//!
//! Sizes are checked before anything is kept. The decoder discards an oversize head or body as it
//! arrives and delivers its message with a [`Defect`], so that only the request it answers fails.
//! When framing is lost, the decoder skips bytes up to the next thing that is *plausibly* a frame
//! of one of our sessions or an answer; the number of skipped bytes is limited.
//!
//! A length may be a lie. On a fast stream what it takes with it is over at once; on a slow one it takes
//! seconds, in which no session gets a packet. So a unit that takes long is [doubted](Decoder::doubt): it
//! is no unit if frames of sessions follow each other inside of it.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{
    header::parse_content_length,
    line_ends::{LONGEST_HEAD_END, LineEnds, is_line_end},
    message::{
        Defect, HTTP_PREFIX, Headers, Message, RESPONSE_PREFIX, StartLine, may_begin_message,
        parse_head,
    },
};
use crate::mux::proto::limits::Limits;

/// `$`, channel, length.
pub(crate) const FRAME_HEADER: usize = 4;
const DOLLAR: u8 = b'$';
/// The longest body that is discarded to keep framing; a longer announced length is taken for a
/// mistake.
const LONGEST_DISCARD: usize = 16 * 1024 * 1024;
/// The longest head that is discarded to keep framing.
const LONGEST_HEAD_DISCARD: usize = 1024 * 1024;
/// How far behind an apparent frame or message head the decoder looks for a known frame: after
/// stray bytes it is close. The limit bounds the cost where bytes arrive one by one.
const LOOKED_AT: usize = 16 * 1024;
/// The bytes needed to judge whether a frame is plausible: the header and the first two bytes.
const FRAME_EVIDENCE: usize = FRAME_HEADER + 2;

#[derive(Debug)]
pub(crate) enum Unit {
    Frame {
        channel: u8,
        payload: Bytes,
    },
    /// In a box, so that a frame is not moved as if it were as large.
    Message(Box<Message>),
    /// Framing is lost; the decoder skips bytes.
    FramingLost,
    /// Framing is found again.
    FramingFound,
}

/// Whether a frame on a channel, with these first two bytes, would belong to one of our sessions.
pub(crate) trait Plausible: Fn(u8, [u8; 2]) -> bool {}

impl<F: Fn(u8, [u8; 2]) -> bool> Plausible for F {}

/// A unit whose length is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// A frame on this channel. Framing is lost, and its next frame is where decoding goes on.
    Frame(u8),
    /// A message: its body ends where the first frame begins.
    Body,
}

/// The next unit, or `None` if more bytes are needed; `Err` if framing cannot be kept, with the reason.
type Decoded = Result<Option<Unit>, &'static str>;

#[derive(Debug)]
enum DecoderState {
    /// At the beginning of a frame or message. If it is a head, its first `searched` bytes hold no
    /// end.
    Boundary { searched: usize },
    /// A head is complete, and its body follows.
    Body(OpenMessage),
    /// The rest of an oversize head is discarded, up to its blank line.
    DiscardHead(OversizeHead),
    /// Framing is lost.
    Lost { skipped: usize },
}

/// A message whose body has not arrived.
#[derive(Debug)]
struct OpenMessage {
    message: Box<Message>,
    /// The length of its body, or of what is left of a body that is discarded.
    left: usize,
    /// The body is over no limit, and neither is the head.
    is_kept: bool,
}

/// A head over the limit, whose end has not arrived.
#[derive(Debug)]
struct OversizeHead {
    /// The message made from its first lines.
    open: OpenMessage,
    /// Bytes discarded so far.
    discarded: usize,
    ends: LineEnds,
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

    /// Cuts the next unit off `buffer`.
    #[inline]
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut, plausible: &impl Plausible) -> Decoded {
        // The fast path: nearly every unit is a frame after a frame.
        if matches!(self.state, DecoderState::Boundary { searched: 0 })
            && buffer.first() == Some(&DOLLAR)
        {
            return Ok(self.decode_frame(buffer, plausible));
        }
        self.decode_other(buffer, plausible)
    }

    /// Cuts a frame, unless it only looks like one. `None` if it is not complete.
    #[inline]
    fn decode_frame(&mut self, buffer: &mut BytesMut, plausible: &impl Plausible) -> Option<Unit> {
        let &[_, channel, high, low] = buffer.first_chunk::<FRAME_HEADER>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let end = FRAME_HEADER + length;
        // After nearly every frame the next one begins.
        if buffer.get(end) != Some(&DOLLAR) && is_stray(buffer, end, plausible) {
            return Some(self.lose_framing(0));
        }
        if buffer.len() < end {
            return None;
        }
        buffer.advance(FRAME_HEADER);
        let payload = buffer.split_to(length).freeze();
        Some(Unit::Frame { channel, payload })
    }

    /// Handles everything but a frame after a frame.
    fn decode_other(&mut self, buffer: &mut BytesMut, plausible: &impl Plausible) -> Decoded {
        let at_boundary = DecoderState::Boundary { searched: 0 };
        match std::mem::replace(&mut self.state, at_boundary) {
            DecoderState::Boundary { searched } => {
                if searched == 0 {
                    skip_padding(buffer);
                }
                match buffer.first() {
                    None => Ok(None),
                    Some(&DOLLAR) => Ok(self.decode_frame(buffer, plausible)),
                    Some(_) => self.decode_head(buffer, searched, plausible),
                }
            }
            DecoderState::Body(open) => Ok(self.decode_body(buffer, open)),
            DecoderState::DiscardHead(head) => self.discard_head(buffer, head),
            DecoderState::Lost { skipped } => self.resync(buffer, skipped, plausible),
        }
    }

    fn decode_head(
        &mut self,
        buffer: &mut BytesMut,
        searched: usize,
        plausible: &impl Plausible,
    ) -> Decoded {
        if buffer.starts_with(HTTP_PREFIX) {
            return Err("the server speaks HTTP, not RTSP: is this its web port?");
        }
        if !may_begin_message(buffer) || !start_line_within(buffer, self.limits.start_line) {
            return Ok(Some(self.lose_framing(0)));
        }
        let ends = LineEnds::of(buffer);
        let end = ends.and_then(|ends| ends.find_head_end(buffer, searched));
        if holds_frame(buffer, end.unwrap_or(usize::MAX), plausible) {
            return Ok(Some(self.lose_framing(0)));
        }
        // The result must not depend on the pieces in which the head arrived.
        match end {
            Some(end) if end <= self.limits.headers => {
                let head = buffer.split_to(end);
                let Some(open) = self.parse_message(&head) else {
                    return Ok(Some(self.lose_framing(head.len())));
                };
                Ok(self.decode_body(buffer, open))
            }
            None if buffer.len() <= self.limits.headers => {
                let searched = buffer.len();
                self.state = DecoderState::Boundary { searched };
                Ok(None)
            }
            _ => self.begin_discarding_head(buffer),
        }
    }

    /// Parses a message without its body, and the length of that.
    fn parse_message(&self, head: &[u8]) -> Option<OpenMessage> {
        let (start, mut headers) = parse_head(head)?;
        let most = self.limits.header_count;
        let excess = (headers.iter().nth(most)).map(|_| Defect::limit("headers", most));
        headers.leave_out_longer_than(self.limits.header_line);
        let (left, defect) = self.body_length(&headers);
        let message = Message {
            start,
            headers,
            body: Bytes::new(),
            defect: defect.or(excess),
        };
        Some(OpenMessage {
            message: Box::new(message),
            left,
            is_kept: left <= self.limits.body,
        })
    }

    /// The length of the body; 0 where the head's value cannot be trusted.
    fn body_length(&self, headers: &Headers) -> (usize, Option<Defect>) {
        let mut lengths = headers.all("Content-Length");
        let Some(first) = lengths.next() else {
            return (0, None);
        };
        if lengths.any(|other| other != first) {
            let defect = Defect::Malformed("contradictory Content-Length headers");
            return (0, Some(defect));
        }
        let limit = self.limits.body;
        let exceeded = Some(Defect::limit("body bytes", limit));
        let length = parse_content_length(first).and_then(|length| usize::try_from(length).ok());
        match length {
            Some(length) if length <= limit => (length, None),
            Some(length) if length <= LONGEST_DISCARD => (length, exceeded),
            Some(_) => (0, exceeded),
            // Words in place of a length say that there is no body, as to rtspsrc and FFmpeg.
            None if !first.bytes().any(|byte| byte.is_ascii_digit()) => (0, None),
            None if first.bytes().all(|byte| byte.is_ascii_digit()) => (0, exceeded),
            None => (0, Some(Defect::Malformed("unusable Content-Length"))),
        }
    }

    /// Keeps the body once it is whole, or discards it as it arrives.
    fn decode_body(&mut self, buffer: &mut BytesMut, mut open: OpenMessage) -> Option<Unit> {
        if buffer.len() >= open.left {
            let body = buffer.split_to(open.left);
            if open.is_kept {
                open.message.body = body.freeze();
            }
            return Some(Unit::Message(open.message));
        }
        if !open.is_kept {
            open.left -= buffer.len();
            buffer.clear();
        }
        self.state = DecoderState::Body(open);
        None
    }

    /// Keeps the complete lines within the limit, which include the CSeq, and discards the others.
    fn begin_discarding_head(&mut self, buffer: &mut BytesMut) -> Decoded {
        let limit = self.limits.headers;
        let lines = buffer.get(..limit).unwrap_or_default();
        let kept = (lines.iter().rposition(is_line_end)).map_or(0, |at| at + 1);
        let Some(mut open) = self.parse_message(lines.get(..kept).unwrap_or_default()) else {
            buffer.advance(kept);
            return Ok(Some(self.lose_framing(kept)));
        };
        open.message.defect = Some(Defect::limit("header bytes", limit));
        open.is_kept = false;
        let ends = LineEnds::of(lines).unwrap_or(LineEnds::Lf);
        buffer.advance(kept.saturating_sub(LONGEST_HEAD_END));
        let head = OversizeHead {
            open,
            discarded: 0,
            ends,
        };
        self.discard_head(buffer, head)
    }

    fn discard_head(&mut self, buffer: &mut BytesMut, mut head: OversizeHead) -> Decoded {
        let left = LONGEST_HEAD_DISCARD.saturating_sub(head.discarded);
        let looked_at = buffer.get(..left).unwrap_or(buffer);
        if let Some(end) = head.ends.find_head_end(looked_at, 0) {
            buffer.advance(end);
            return Ok(self.decode_body(buffer, head.open));
        }
        if buffer.len() > left {
            return Err("the head of an answer has no end");
        }
        // The end of the head may have begun.
        let over = buffer.len().saturating_sub(LONGEST_HEAD_END - 1);
        head.discarded += over;
        buffer.advance(over);
        self.state = DecoderState::DiscardHead(head);
        Ok(None)
    }

    fn lose_framing(&mut self, skipped: usize) -> Unit {
        self.state = DecoderState::Lost { skipped };
        Unit::FramingLost
    }

    fn resync(
        &mut self,
        buffer: &mut BytesMut,
        skipped: usize,
        plausible: &impl Plausible,
    ) -> Decoded {
        // The byte at which framing was lost is not the start of a unit, whatever it looks like.
        let from = usize::from(skipped == 0);
        let (at, found) = find_plausible(buffer, from, plausible);
        buffer.advance(at);
        let skipped = skipped + at;
        if skipped > self.limits.resync {
            return Err("framing was lost and not found again");
        }
        if found {
            return Ok(Some(Unit::FramingFound));
        }
        self.state = DecoderState::Lost { skipped };
        Ok(None)
    }

    /// Examines the frame or the body that has begun and takes long. `Some` if it holds frames of
    /// sessions, one behind the other: then its length is wrong, and decoding goes on with them.
    #[cold]
    pub(crate) fn doubt(
        &mut self,
        buffer: &mut BytesMut,
        plausible: &impl Plausible,
    ) -> Option<Lie> {
        match &mut self.state {
            DecoderState::Boundary { searched: 0 } => {
                let &[DOLLAR, channel] = buffer.first_chunk()? else {
                    return None;
                };
                let at = find_frames(buffer, FRAME_HEADER, plausible)?;
                buffer.advance(at);
                self.state = DecoderState::Lost { skipped: at };
                Some(Lie::Frame(channel))
            }
            DecoderState::Body(open) if open.is_kept => {
                open.left = find_frames(buffer, 0, plausible)?;
                Some(Lie::Body)
            }
            _ => None,
        }
    }

    /// True if a frame or message has begun and `buffer` holds only a part of it.
    pub(crate) fn is_mid_unit(&self, buffer: &[u8]) -> bool {
        match self.state {
            DecoderState::Boundary { .. } => !buffer.is_empty(),
            DecoderState::Lost { .. } => false,
            _ => true,
        }
    }
}

/// Some firmware pads messages with line ends or NULs (Hikvision).
fn skip_padding(buffer: &mut BytesMut) {
    let padding = buffer
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n' | 0))
        .count();
    buffer.advance(padding);
}

/// True if the apparent frame up to `end` belongs to no session, and holds a frame of one.
fn is_stray(buffer: &[u8], end: usize, plausible: &impl Plausible) -> bool {
    buffer.len() >= FRAME_EVIDENCE
        && frame_at(buffer, 0, plausible).is_none()
        && holds_frame(buffer, end, plausible)
}

/// The end of the frame of a session that begins at `at`, whether it is whole or not.
fn frame_at(buffer: &[u8], at: usize, plausible: &impl Plausible) -> Option<usize> {
    let &[DOLLAR, channel, high, low, first, second] = buffer.get(at..)?.first_chunk()? else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    plausible(channel, [first, second]).then_some(at + FRAME_HEADER + length)
}

/// True if the first `extent` bytes, which look like a head or like a frame of no session, hold a
/// frame of a session followed by another one: then they are stray bytes and the frames after them.
/// A camera's `$$$$` would hide 9252 bytes of the frames of other sessions.
fn holds_frame(buffer: &[u8], extent: usize, plausible: &impl Plausible) -> bool {
    let extent = extent.min(LOOKED_AT).min(buffer.len());
    let looked_at = buffer.get(..extent).unwrap_or_default();
    // `contains` is several times as fast as the search below, and hardly any head has a `$`.
    if !looked_at
        .get(1..)
        .is_some_and(|rest| rest.contains(&DOLLAR))
    {
        return false;
    }
    let is_frame = |at: usize| {
        let end = frame_at(looked_at, at, plausible);
        end.is_some_and(|end| looked_at.get(end) == Some(&DOLLAR))
    };
    (1..extent).any(is_frame)
}

/// The position, at or after `from`, of a frame of a session that is whole and followed by another one, or by
/// nothing yet.
fn find_frames(buffer: &[u8], from: usize, plausible: &impl Plausible) -> Option<usize> {
    let is_first = |at: &usize| {
        let end = frame_at(buffer, *at, plausible).filter(|end| *end <= buffer.len());
        end.is_some_and(|end| match buffer.get(end..) {
            None | Some([]) => true,
            Some(rest) if rest.len() < FRAME_EVIDENCE => rest.first() == Some(&DOLLAR),
            Some(_) => frame_at(buffer, end, plausible).is_some(),
        })
    };
    (from..buffer.len()).find(is_first)
}

fn start_line_within(buffer: &[u8], limit: usize) -> bool {
    buffer.len() <= limit || buffer.iter().take(limit).any(is_line_end)
}

/// The position of the first plausible start at or after `from`, or of the first byte that cannot
/// be judged without more bytes.
fn find_plausible(buffer: &[u8], from: usize, plausible: &impl Plausible) -> (usize, bool) {
    for at in from..buffer.len() {
        let rest = buffer.get(at..).unwrap_or_default();
        match rest.first() {
            Some(&DOLLAR) if rest.len() < FRAME_EVIDENCE => return (at, false),
            Some(&DOLLAR) if frame_at(buffer, at, plausible).is_some() => return (at, true),
            Some(b'R') if rest.starts_with(RESPONSE_PREFIX) => return (at, true),
            Some(b'R') if RESPONSE_PREFIX.starts_with(rest) => return (at, false),
            _ => {}
        }
    }
    (buffer.len(), false)
}

/// Writes a frame. `None` if the payload does not fit into one.
pub(crate) fn write_frame(out: &mut BytesMut, channel: u8, payload: &[u8]) -> Option<()> {
    let length = u16::try_from(payload.len()).ok()?;
    out.reserve(FRAME_HEADER + payload.len());
    out.extend_from_slice(&[DOLLAR, channel]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
    Some(())
}

impl Message {
    /// Status code and reason phrase of an answer.
    pub(crate) fn status(&self) -> Option<(u16, &str)> {
        match &self.start {
            StartLine::Response { code, reason } => Some((*code, reason)),
            StartLine::Request { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
