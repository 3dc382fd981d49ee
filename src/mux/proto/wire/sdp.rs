//! The parts of a session description that the core needs: which streams there are, and their URIs.
//!
//! This scans for the lines `m=`, `s=`, `a=control`, `a=rtpmap`, `a=range`, `a=tool` and the directions;
//! it is no SDP parser. Cameras send text that is not UTF-8, bare LF, trailing NULs, blank lines and
//! lines out of order, and errors in lines that no client reads. sdp-types 0.3 tolerates some of that,
//! but rejects the whole description because of a bad `o=`, `t=`, `b=` or `c=` line, a repeated line or
//! a missing `v=`; to correct all of these first would take more code than to read the kinds of line that
//! matter. gstreamer-sdp makes the caps, elsewhere, from the same bytes.
//!
//! A description is a text that an attacker may have written: sizes are limited, and [`uri`] checks
//! the controls.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use url::Url;

use super::{header::split_param, octets, redacted, server_text::ServerText, uri};
use crate::mux::proto::command::{PlayRange, Profile};

/// The most `m=` lines in one description. Cameras have two to five; a session of 32 streams
/// already needs a quarter of a connection's channels.
const MAX_STREAMS: usize = 32;

/// The description of a presentation. `Debug` shows its URLs redacted, and its text not at all.
#[derive(Clone, PartialEq, Eq)]
pub struct Presentation {
    /// The base against which control attributes are resolved.
    pub base: Url,
    /// The URI of requests for all streams at once (PLAY, PAUSE, TEARDOWN).
    pub aggregate: Url,
    /// The streams that can be set up, in the order of the description.
    pub streams: Vec<MediaStream>,
    /// Those on which the client would send.
    pub(crate) backchannels: Vec<MediaStream>,
    /// The description as received.
    pub sdp: Bytes,
    /// `s=`, cut to 200 characters and without control characters.
    pub session_name: Option<String>,
    /// `a=tool`, cut to 200 characters and without control characters.
    pub tool: Option<String>,
}

impl Presentation {
    /// True if a session that was set up from `other` fits this description; codec parameters are
    /// not compared, because no SETUP depends on them.
    pub(crate) fn is_set_up_like(&self, other: &Self) -> bool {
        self.aggregate == other.aggregate && self.streams == other.streams
    }

    /// The attributes of the whole presentation, each the text behind `a=` (`range:npt=now-`), as
    /// received. Text that is not UTF-8 is repaired.
    pub fn session_attributes(&self) -> impl Iterator<Item = String> {
        attributes(&self.sdp, None)
    }

    /// The attributes of the `m=` section of `stream`, as those of the presentation.
    pub fn attributes(&self, stream: &MediaStream) -> impl Iterator<Item = String> {
        attributes(&self.sdp, Some(stream.index))
    }

    /// Where a session begins to play: at the present where the description says so.
    pub fn play_range(&self) -> PlayRange {
        let first = self.ranges().next().unwrap_or_default();
        match first.to_ascii_lowercase().starts_with("npt=now") {
            true => PlayRange::Now,
            false => PlayRange::Start,
        }
    }

    /// The presentation of a client that sends sound as well: its backchannels are behind the other streams.
    pub(crate) fn with_backchannels(mut self) -> Self {
        self.streams.append(&mut self.backchannels);
        self
    }

    /// True if it begins at the present: nothing else of it can be had.
    pub fn is_live(&self) -> bool {
        self.play_range() == PlayRange::Now
    }

    /// What is described first of the times that it has (`npt=0-7.7`).
    pub fn time_range(&self) -> Option<String> {
        self.ranges().next()
    }

    /// How long the presentation is, if the description says so.
    pub fn announced_length(&self) -> Option<Duration> {
        self.ranges().filter_map(|range| length(&range)).max()
    }

    /// True if the description announces an end: that of a recording does, that of a camera does
    /// not (RFC 2326 C.1.5).
    pub fn announces_end(&self) -> bool {
        self.ranges().any(|range| {
            let end = range.rsplit_once('-');
            end.is_some_and(|(_, end)| end.contains(|c: char| c.is_ascii_digit()))
        })
    }

    /// The values of `a=range`, without blanks.
    fn ranges(&self) -> impl Iterator<Item = String> {
        lines(&self.sdp).filter_map(|line| {
            let (name, range) = line.split_at_checked("a=range:".len())?;
            let is_range = name.eq_ignore_ascii_case("a=range:");
            is_range.then(|| range.split_ascii_whitespace().collect())
        })
    }
}

/// The length of a range of time: `npt=0-7.7`, `npt=0:00:10-0:01:00`, `clock=20260101T000000Z-...`.
fn length(range: &str) -> Option<Duration> {
    let (begin, end) = range_times(range)?;
    Duration::try_from_secs_f64(end? - begin).ok()
}

/// Begin and end of a range of time in seconds: since 1900 for `clock`. `now` is at the beginning.
pub(crate) fn range_times(range: &str) -> Option<(f64, Option<f64>)> {
    let range = range.split(';').next()?;
    let (unit, times) = range.split_once('=')?;
    let (begin, end) = times.split_once('-')?;
    let seconds = |time: &str| match (unit.trim(), time.trim()) {
        (_, "now") => Some(0.0),
        ("clock", time) => Some(utc(time)? - utc("19000101T000000Z")?),
        (_, time) => npt(time),
    };
    let end = Some(end.trim()).filter(|end| !end.is_empty());
    Some((seconds(begin)?, end.and_then(seconds)))
}

/// Seconds, or hours, minutes and seconds (RFC 2326 3.6). Nothing is the beginning.
pub(crate) fn npt(time: &str) -> Option<f64> {
    if time.is_empty() {
        return Some(0.0);
    }
    let mut parts = time.split(':');
    parts.try_fold(0.0, |sum, part| {
        Some(sum * 60.0 + part.parse::<f64>().ok()?)
    })
}

/// A time as [`utc`] reads it, as far as 1970 was before it.
pub(crate) fn utc_since_1970(time: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(utc(time.trim())? - utc("19700101T000000Z")?).ok()
}

/// `19961108T142300.25Z` (RFC 2326 3.7), in seconds from some origin.
fn utc(time: &str) -> Option<f64> {
    let (date, time) = time.trim_end_matches('Z').split_once('T')?;
    let number = |text: &str, from, to| text.get(from..to)?.parse::<i32>().ok();
    let (year, month, day) = (
        number(date, 0, 4)?,
        number(date, 4, 6)?,
        number(date, 6, 8)?,
    );
    // Years begin in March here, so that the leap day is the last one.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let hours = 24 * days + number(time, 0, 2)?;
    let seconds = time.get(4..)?.parse::<f64>().ok()?;
    Some((f64::from(hours) * 60.0 + f64::from(number(time, 2, 4)?)) * 60.0 + seconds)
}

impl fmt::Debug for Presentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presentation")
            .field("base", &redacted(&self.base))
            .field("aggregate", &redacted(&self.aggregate))
            .field("streams", &self.streams)
            .field("sdp", &format_args!("{} bytes", self.sdp.len()))
            .field("session_name", &shown(&self.session_name))
            .field("tool", &shown(&self.tool))
            .finish()
    }
}

/// These texts may quote a URL.
fn shown(text: &Option<String>) -> Option<ServerText> {
    text.as_deref().map(ServerText::new)
}

/// One `m=` section: one control URL, one SETUP. `Debug` shows the URL redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct MediaStream {
    /// The index of its `m=` line, skipped ones included.
    pub index: usize,
    /// `video`, `audio`, `application` ...
    pub media: String,
    /// The transport protocol, as written: `RTP/AVP`, `RTP/SAVP` ... See [`profile`](Self::profile).
    pub protocol: String,
    /// The RTP payload types of its packets.
    pub payload_types: Vec<u8>,
    /// `a=inactive`, beside others that are not. Some cameras send on it all the same, and `rtspsrc` plays it.
    pub is_inactive: bool,
    /// The URI of its SETUP.
    pub control: Url,
    /// What that may be where the server refuses it.
    pub other_control: Option<Url>,
    /// `a=rtpmap`: payload type, encoding name in upper case, clock rate in Hz. An impossible rate
    /// is replaced by that of the codec, or by 0 if that has several. Static payload types
    /// (RFC 3551) need none and may be missing.
    pub encodings: Vec<(u8, String, u32)>,
    /// The client sends on it, and the server does not.
    pub is_backchannel: bool,
}

impl MediaStream {
    /// Whether its media is that of `other`: its medium, and the encoding that is listed first.
    pub(crate) fn is_same_media(&self, other: &Self) -> bool {
        let encoding = |stream: &Self| {
            let first = stream.payload_types.first().copied()?;
            let mut encodings = stream.encodings.iter();
            let named = encodings.find(|(number, _, _)| *number == first);
            Some(named.map_or_else(|| first.to_string(), |(_, name, _)| name.clone()))
        };
        self.media == other.media && encoding(self) == encoding(other)
    }

    /// Whether it sends all the time, so that its silence is a failure: metadata comes with events only,
    /// and may be silent for hours.
    pub(crate) fn sends_all_the_time(&self) -> bool {
        !self.is_inactive && matches!(self.media.as_str(), "video" | "audio")
    }

    /// The RTP profile that its protocol names.
    pub fn profile(&self) -> Profile {
        Profile::of(&self.protocol).unwrap_or_default()
    }
}

impl fmt::Debug for MediaStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaStream")
            .field("index", &self.index)
            .field("media", &self.media)
            .field("protocol", &self.protocol)
            .field("payload_types", &self.payload_types)
            .field("control", &redacted(&self.control))
            .field("encodings", &self.encodings)
            .finish()
    }
}

/// Why a description cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSdp {
    /// It holds only white space.
    #[error("the session description is empty")]
    Empty,
    /// It has no `m=` line.
    #[error("the session description has no media (m= line)")]
    NoMedia,
    /// Of its `m=` lines, this many, none can be set up.
    #[error("none of the {0} media of the session description is RTP with a usable control URL")]
    NothingUsable(usize),
    /// It has this many `m=` lines, more than 32.
    #[error("the session description has {0} media, more than {MAX_STREAMS}")]
    TooManyStreams(usize),
}

/// Parses a description. `described` is what [`uri::presentation_base`] made of the answer's headers.
pub fn parse_presentation(sdp: Bytes, described: Url) -> Result<Presentation, InvalidSdp> {
    let (session, sections) = split_sections(&sdp)?;
    let control = session.control.as_deref();
    // Only a whole URL is a base for the streams, as in rtspsrc and FFmpeg.
    let base = control.and_then(uri::absolute_control);
    let base = base.unwrap_or_else(|| uri::named_uri(&described));
    let relative = control.filter(|control| !uri::is_absolute(control));
    let aggregate = uri::resolve_control(&base, relative).unwrap_or_else(|| base.clone());

    let count = sections.len();
    let unsent = unsent_direction(&sections);
    let is_sent = |section: &Section| unsent.is_none() || section.direction != unsent;
    let sections = sections.into_iter().enumerate();
    let (sent, unsent): (Vec<_>, Vec<_>) = sections.partition(|(_, section)| is_sent(section));
    let is_backchannel = |section: &Section| section.direction == Some(Direction::SendOnly);
    let backchannels = unsent.into_iter().filter(|(_, it)| is_backchannel(it));
    let backchannels = backchannels.filter_map(|(index, section)| {
        let stream = section.into_stream(index, &base)?;
        Some(MediaStream {
            is_backchannel: true,
            ..stream
        })
    });
    let backchannels: Vec<_> = backchannels.collect();
    let mut streams: Vec<_> = sent
        .into_iter()
        .filter_map(|(index, section)| section.into_stream(index, &base))
        .collect();
    if streams.is_empty() {
        return Err(InvalidSdp::NothingUsable(count));
    }
    // Where no other picture or sound is left, a camera that plays at all sends these.
    if !streams.iter().any(MediaStream::sends_all_the_time) {
        streams.iter_mut().for_each(|it| it.is_inactive = false);
    }
    Ok(Presentation {
        base,
        aggregate,
        streams,
        backchannels,
        session_name: session.name,
        tool: session.tool,
        sdp,
    })
}

/// `a=sendonly` and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    SendOnly,
    ReceiveOnly,
    SendReceive,
    Inactive,
}

impl Direction {
    fn of(attribute: &str) -> Option<Self> {
        let name = attribute.to_ascii_lowercase();
        Some(match name.as_str() {
            "sendonly" => Self::SendOnly,
            "recvonly" => Self::ReceiveOnly,
            "sendrecv" => Self::SendReceive,
            "inactive" => Self::Inactive,
            _ => return None,
        })
    }
}

/// The direction of the sections on which the client would send. ONVIF writes directions as the client
/// sees them: a backchannel is `sendonly`, all others `recvonly`. Where a picture is `sendonly` the
/// server writes them as it sees them, as in an offer (RFC 3264). Where nothing would be left the
/// directions mean nothing.
fn unsent_direction(sections: &[Section]) -> Option<Direction> {
    let is_picture_sent = |section: &Section| {
        section.media == "video" && section.direction == Some(Direction::SendOnly)
    };
    let unsent = match sections.iter().any(is_picture_sent) {
        true => Direction::ReceiveOnly,
        false => Direction::SendOnly,
    };
    let is_sent = |section: &Section| section.direction != Some(unsent);
    sections.iter().any(is_sent).then_some(unsent)
}

fn split_sections(sdp: &[u8]) -> Result<(SessionPart, Vec<Section>), InvalidSdp> {
    if lines(sdp).next().is_none() {
        return Err(InvalidSdp::Empty);
    }
    // Checked before anything is kept.
    match lines(sdp).filter(|line| line.starts_with("m=")).count() {
        0 => return Err(InvalidSdp::NoMedia),
        count if count > MAX_STREAMS => return Err(InvalidSdp::TooManyStreams(count)),
        _ => {}
    }
    let mut session = SessionPart::default();
    let mut sections: Vec<Section> = Vec::new();
    for line in lines(sdp) {
        let Some((kind, value)) = line.split_once('=') else {
            continue;
        };
        match (kind, sections.last_mut()) {
            ("m", _) => sections.push(Section::new(value)),
            (_, None) => session.on_line(kind, value),
            ("a", Some(section)) => section.on_attribute(value),
            _ => {}
        }
    }
    for section in &mut sections {
        section.direction = section.direction.or(session.direction);
    }
    Ok((session, sections))
}

/// The lines that are not empty, whatever ends them.
pub(crate) fn lines(sdp: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    raw_lines(sdp).map(octets::decode)
}

fn raw_lines(sdp: &[u8]) -> impl Iterator<Item = &[u8]> {
    sdp.split(|byte| matches!(byte, b'\r' | b'\n' | 0))
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
}

/// The attributes of one `m=` section, or of the part before the first. What is outside costs next to
/// nothing: a description may have 4 MiB and 32 sections (fault F49).
fn attributes(sdp: &[u8], section: Option<usize>) -> impl Iterator<Item = String> {
    let is_media = |line: &&[u8]| line.starts_with(b"m=");
    let mut lines = raw_lines(sdp);
    let is_there =
        section.is_none_or(|section| lines.by_ref().filter(is_media).nth(section).is_some());
    let own = lines.take_while(move |line| is_there && !is_media(line));
    own.filter_map(|line| Some(String::from_utf8_lossy(line.strip_prefix(b"a=")?).into_owned()))
}

/// The part before the first `m=` line.
#[derive(Debug, Default)]
struct SessionPart {
    control: Option<String>,
    name: Option<String>,
    tool: Option<String>,
    direction: Option<Direction>,
}

impl SessionPart {
    fn on_line(&mut self, kind: &str, value: &str) {
        match (kind, split_param(value, ':')) {
            ("s", _) => self.name = self.name.take().or_else(|| text(value)),
            ("a", ("tool", tool)) => self.tool = self.tool.take().or_else(|| text(tool)),
            ("a", ("control", control)) => self.on_control(control),
            ("a", (name, "")) => self.direction = self.direction.or_else(|| Direction::of(name)),
            _ => {}
        }
    }

    /// The first whole URL takes precedence over the first control of all.
    fn on_control(&mut self, control: &str) {
        let is_better = match &self.control {
            None => true,
            Some(known) => !uri::is_absolute(known) && uri::is_absolute(control),
        };
        if is_better {
            self.control = Some(control.to_owned());
        }
    }
}

/// The part from one `m=` line to the next.
#[derive(Debug)]
struct Section {
    media: String,
    protocol: String,
    payload_types: Vec<u8>,
    control: Option<String>,
    direction: Option<Direction>,
    encodings: Vec<(u8, String, u32)>,
}

impl Section {
    /// `video 0 RTP/AVP 96 97`. The port says nothing in RTSP: 0 does not mean "rejected".
    fn new(line: &str) -> Self {
        let mut words = line.split_ascii_whitespace();
        let media = words.next().and_then(text).unwrap_or_default();
        let _port = words.next();
        let protocol = words.next().and_then(text).unwrap_or_default();
        let mut payload_types: Vec<u8> = Vec::new();
        for payload_type in words.filter_map(payload_type) {
            if !payload_types.contains(&payload_type) {
                payload_types.push(payload_type);
            }
        }
        Self {
            media: media.to_ascii_lowercase(),
            protocol,
            payload_types,
            control: None,
            direction: None,
            encodings: Vec::new(),
        }
    }

    fn on_attribute(&mut self, line: &str) {
        match split_param(line, ':') {
            ("control", control) if self.control.is_none() => {
                self.control = Some(control.to_owned());
            }
            ("rtpmap", map) => {
                let encoding = rtpmap(map);
                let is_new = |new: &(u8, String, u32)| !self.encodings.iter().any(|e| e.0 == new.0);
                self.encodings.extend(encoding.filter(is_new));
            }
            (name, "") => self.direction = self.direction.or_else(|| Direction::of(name)),
            _ => {}
        }
    }

    /// The stream, if it is carried over RTP and its control attribute can be used.
    fn into_stream(self, index: usize, base: &Url) -> Option<MediaStream> {
        Profile::of(&self.protocol)?;
        let control = uri::resolve_control(base, self.control.as_deref())?;
        Some(MediaStream {
            index,
            is_backchannel: false,
            other_control: uri::other_control(base, self.control.as_deref(), &control),
            control,
            is_inactive: self.direction == Some(Direction::Inactive),
            media: self.media,
            protocol: self.protocol,
            payload_types: self.payload_types,
            encodings: self.encodings,
        })
    }
}

fn text(value: &str) -> Option<String> {
    let text = String::from(ServerText::of_identifier(value));
    (!text.is_empty()).then_some(text)
}

fn payload_type(word: &str) -> Option<u8> {
    word.parse().ok().filter(|number| *number < 128)
}

/// Rates of real codecs, from T.140 text to 27 MHz. Cameras write none, 0, or their frame rate.
const CLOCK_RATES: std::ops::RangeInclusive<u32> = 1_000..=27_000_000;

/// `96 H264/90000`; channels may follow.
pub(crate) fn rtpmap(value: &str) -> Option<(u8, String, u32)> {
    let (number, encoding) = value.split_once(|c: char| c.is_ascii_whitespace())?;
    let mut parts = encoding.trim().split('/').map(str::trim);
    let name = parts.next().and_then(text)?.to_ascii_uppercase();
    let clock = parts.next().and_then(|clock| clock.parse().ok());
    let clock = clock.filter(|clock| CLOCK_RATES.contains(clock));
    let clock = clock.unwrap_or_else(|| own_clock_rate(&name));
    Some((payload_type(number)?, name, clock))
}

/// The clock rate of a codec that has only one; else 0.
fn own_clock_rate(name: &str) -> u32 {
    match name {
        "H261" | "H263" | "H263-1998" | "H263-2000" | "H264" | "H265" | "H266" | "JPEG" | "AV1"
        | "JPEG2000" | "MPV" | "MPA" | "MP2T" | "MP4V-ES" | "VP8" | "VP9"
        | "VND.ONVIF.METADATA" => 90_000,
        "PCMU" | "PCMA" | "G722" | "G723" | "G729" | "GSM" | "AMR" | "CN" | "TELEPHONE-EVENT"
        | "G726-16" | "G726-24" | "G726-32" | "G726-40" => 8_000,
        "AMR-WB" => 16_000,
        "OPUS" => 48_000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
