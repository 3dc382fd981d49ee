//! Makes caps of a session description, for all managers.
//!
//! The core has parsed the description ([`Presentation`]). GStreamer's SDP library gets its attributes and
//! makes caps of them, as then the fields are those of `rtspsrc`: what it makes of `rtpmap` and `fmtp`,
//! all other attributes as `a-*` and `x-*`. To these the `RTP-Info` of PLAY adds some.
//!
//! The library is shown no key: `gst_sdp_media_attributes_to_caps` loops for ever on some `a=key-mgmt`,
//! and the element does not play SRTP. Caps show in logs, dot files and on the terminal of `gst-launch-1.0
//! -v`. So all attributes but those with data for decoders are redacted, as any text of a server that
//! this crate shows.

use gstreamer as gst;
use gstreamer_sdp as gst_sdp;
use std::collections::BTreeMap;

use super::{payload::PayloadShape, seeking::Segment, sequence::PayloadKind};
use crate::mux::{
    MediaStream, Presentation, RtpInfo,
    proto::{
        Profile,
        wire::{
            sdp,
            server_text::{ServerText, is_harmful},
            uri,
        },
    },
};

/// The caps of each payload type of one media stream.
#[derive(Clone, Debug)]
pub(crate) struct PayloadMap {
    /// The payload type of media that the `m=` line lists first.
    default: u8,
    types: BTreeMap<u8, PayloadType>,
}

/// One payload type. What it carries is looked at for each packet, so it is not read from the caps there.
#[derive(Clone, Debug)]
struct PayloadType {
    caps: gst::Caps,
    /// In Hz.
    clock_rate: u32,
    /// Not the stream's media, but something beside it.
    is_beside: bool,
    shape: PayloadShape,
}

impl PayloadMap {
    /// The caps of the payload type listed first.
    pub(crate) fn default_caps(&self) -> Option<&gst::Caps> {
        self.caps(self.default)
    }

    /// The encoding name of the media.
    pub(crate) fn encoding(&self) -> String {
        let caps = self.default_caps().and_then(|caps| caps.structure(0));
        let name = caps.and_then(|fields| fields.get("encoding-name").ok());
        name.unwrap_or_default()
    }

    /// The caps of `payload_type`.
    pub(crate) fn caps(&self, payload_type: u8) -> Option<&gst::Caps> {
        self.types.get(&payload_type).map(|it| &it.caps)
    }

    /// What packets of `payload_type` carry.
    pub(crate) fn kind(&self, payload_type: u8) -> PayloadKind {
        match self.types.get(&payload_type) {
            Some(it) if it.is_beside => PayloadKind::Beside,
            Some(it) => PayloadKind::Media(it.clock_rate),
            None => PayloadKind::Unknown,
        }
    }

    /// What is looked at in packets of `payload_type`.
    pub(crate) fn shape(&self, payload_type: u8) -> PayloadShape {
        let known = self.types.get(&payload_type);
        known.map_or(PayloadShape::Any, |it| it.shape)
    }

    /// The same caps with what the answer to PLAY says of the stream, and what of the recording is played.
    pub(crate) fn with_play_info(
        &self,
        info: Option<&RtpInfo>,
        playing: &Segment,
        is_onvif: bool,
    ) -> Self {
        let (start, stop) = match playing.rate() > 0.0 {
            true => (playing.start(), playing.stop()),
            false => (playing.stop(), playing.start()),
        };
        self.changed(|caps| {
            if let Some(rtp_time) = info.and_then(|info| info.rtptime) {
                caps.set("clock-base", rtp_time);
            }
            if let Some(sequence) = info.and_then(|info| info.seq) {
                caps.set("seqnum-base", u32::from(sequence));
            }
            caps.set("npt-start", start.unwrap_or_default().nseconds());
            if let Some(stop) = stop {
                caps.set("npt-stop", stop.nseconds());
            }
            caps.set("play-speed", playing.rate());
            caps.set("play-scale", playing.applied_rate());
            caps.set("onvif-mode", is_onvif);
        })
    }

    /// The same caps without the first sequence number and RTP time. They are for another source than the
    /// one that the answer to PLAY describes.
    pub(crate) fn without_start(&self) -> Self {
        self.changed(|caps| {
            if let Some(fields) = caps.structure_mut(0) {
                fields.remove_fields(["seqnum-base", "clock-base"]);
            }
        })
    }

    fn changed(&self, change: impl Fn(&mut gst::CapsRef)) -> Self {
        let mut map = self.clone();
        for payload_type in map.types.values_mut() {
            change(payload_type.caps.make_mut());
        }
        map
    }
}

/// Encodings of what shares a stream with its media: comfort noise, telephone events, error correction,
/// redundancy, retransmission.
const BESIDE: [&str; 10] = [
    "CN",
    "TELEPHONE-EVENT",
    "TONE",
    "RED",
    "ULPFEC",
    "FLEXFEC",
    "FLEXFEC-03",
    "PARITYFEC",
    "X-ULPFECUC",
    "RTX",
];

/// What the answer to PLAY says about the stream `number` of `streams`.
///
/// Servers write the URL of the stream in full, relative, or not at all. If a stream's URL matches no
/// entry and there are as many entries as streams, their order counts.
pub(crate) fn play_info<'a>(
    rtp_info: &'a [RtpInfo],
    streams: &[MediaStream],
    number: usize,
) -> Option<&'a RtpInfo> {
    let control = uri::wire(&streams.get(number)?.control);
    let by_url = rtp_info.iter().find(|info| is_url_of(&info.url, &control));
    let by_order = rtp_info.get(number);
    by_url.or(by_order.filter(|_| rtp_info.len() == streams.len()))
}

/// Scheme and host are not compared, because servers write them in other ways.
fn is_url_of(written: &str, control: &str) -> bool {
    let written = path(written).trim_matches('/');
    let control = path(control).trim_matches('/');
    match control.strip_suffix(written) {
        Some(before) => !written.is_empty() && (before.is_empty() || before.ends_with('/')),
        None => false,
    }
}

fn path(url: &str) -> &str {
    let (host, path) = uri::split_scheme(url).map_or(("", url), |(_, rest)| {
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    });
    if path.is_empty() { host } else { path }
}

/// Why a media stream cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// Its transport protocol is not supported (`RTP/SAVP`, ...).
    #[error("protocol \"{}\" is not supported", ServerText::new(.0))]
    Protocol(String),
    /// No payload type has a known format and clock rate.
    #[error("no payload type with a known format and clock rate")]
    NoPayload,
}

/// The payload types of a stream of `presentation`.
pub(crate) fn payload_map(
    presentation: &Presentation,
    stream: &MediaStream,
) -> Result<PayloadMap, Unusable> {
    if !matches!(stream.profile(), Profile::Avp | Profile::Avpf) {
        return Err(Unusable::Protocol(stream.protocol.clone()));
    }
    let mut session = gst_sdp::SDPMessage::new();
    let of_session = presentation.session_attributes();
    for (name, value) in of_session.take(MAX_TEXTS).filter_map(shown) {
        session.add_attribute(&name, Some(&value));
    }
    let mut media = gst_sdp::SDPMedia::new();
    media.set_media(&stream.media);
    let mut data = BTreeMap::new();
    let mut texts = Vec::new();
    for attribute in presentation.attributes(stream) {
        match data_of(&attribute) {
            Some((name, number)) if stream.payload_types.contains(&number) => {
                let same: &mut Vec<_> = data.entry((name, number)).or_default();
                same.push(attribute);
                same.truncate(MAX_FEEDBACKS);
            }
            Some(_) => {}
            None if texts.len() < MAX_TEXTS => texts.push(attribute),
            None => {}
        }
    }
    let described = data.into_values().flatten().chain(texts);
    for (name, value) in described.filter_map(shown) {
        let value = match name.as_str() {
            "rtpmap" => with_possible_rate(value),
            _ => value,
        };
        media.add_attribute(&name, Some(&value));
    }
    let mut attributes = gst::Caps::new_empty_simple("application/x-unknown");
    // An error means that one attribute could not be parsed; the others are in the caps.
    let _ = session.attributes_to_caps(attributes.make_mut());
    let _ = media.attributes_to_caps(attributes.make_mut());

    let numbers = stream.payload_types.iter().copied();
    let described = numbers.clone().filter_map(|number| {
        let payload_type = payload_type(&media, number, &attributes)?;
        Some((number, payload_type))
    });
    let mut types: BTreeMap<u8, PayloadType> = described.collect();
    if types.values().all(|it| it.is_beside) {
        // A stream that has nothing else has it for media.
        types.values_mut().for_each(|it| it.is_beside = false);
    }
    let is_media = |number: &u8| types.get(number).is_some_and(|it| !it.is_beside);
    let default = numbers.clone().find(is_media);
    let default = default.ok_or(Unusable::NoPayload)?;
    Ok(PayloadMap { default, types })
}

/// So many attributes of a section go into the caps, beside those with the data of its payload types.
/// GStreamer's work and memory for them grow with media times payload times attributes: 192 kB of
/// attributes, 32 media and 32 types took 17 s and 391 MB (fault F49). Cameras send twenty.
const MAX_TEXTS: usize = 64;
/// So many of one name and payload type: `rtcp-fb` may be repeated.
const MAX_FEEDBACKS: usize = 8;

/// Attributes with data for decoders, ...
const DATA: [&str; 5] = ["rtpmap:", "fmtp:", "rtcp-fb:", "framesize:", "extmap:"];

/// ... and which of them, and of which payload type.
fn data_of(attribute: &str) -> Option<(&'static str, u8)> {
    let is_it = |name: &&&str| {
        attribute
            .get(..name.len())
            .is_some_and(|it| it.eq_ignore_ascii_case(name))
    };
    let name = DATA[..4].iter().find(is_it)?;
    let number = attribute
        .get(name.len()..)?
        .split_ascii_whitespace()
        .next()?;
    Some((name, number.parse().ok()?))
}

/// Name and value of an attribute as GStreamer may see them; `None` if it is left out: if it has a key, or
/// looks as if it had one. No attribute that does is needed.
fn shown(attribute: String) -> Option<(String, String)> {
    let attribute = attribute.replace(is_harmful, "");
    let lower = attribute.to_ascii_lowercase();
    if lower.contains("key-mgmt") || lower.starts_with("crypto") {
        return None;
    }
    let shown = match DATA.iter().any(|begin| lower.starts_with(begin)) {
        true => attribute,
        false => String::from(ServerText::of_sdp_line(&format!("a={attribute}"))),
    };
    let shown = shown.strip_prefix("a=").unwrap_or(&shown);
    let (name, value) = shown.split_once(':').unwrap_or((shown, ""));
    Some((name.trim_start().to_owned(), value.to_owned()))
}

/// The value of `rtpmap` with the clock rate that the core has taken for it.
fn with_possible_rate(value: String) -> String {
    match sdp::rtpmap(&value) {
        Some((payload_type, name, rate))
            if value.split('/').nth(1).map(str::trim) != Some(&rate.to_string()) =>
        {
            format!("{payload_type} {name}/{rate}")
        }
        _ => value,
    }
}

/// Whether `rtpmap` names a codec with several rates, and none that is possible.
fn has_unknown_rate(media: &gst_sdp::SDPMediaRef, number: u8) -> bool {
    media
        .attributes()
        .filter(|attribute| attribute.key() == "rtpmap")
        .filter_map(|attribute| sdp::rtpmap(attribute.value()?))
        .any(|(payload_type, _, rate)| payload_type == number && rate == 0)
}

fn payload_type(
    media: &gst_sdp::SDPMediaRef,
    number: u8,
    attributes: &gst::Caps,
) -> Option<PayloadType> {
    // GStreamer 1.26 takes the rate of a static payload type, or of a table by medium, for a rate of 0: sound at the wrong speed.
    if has_unknown_rate(media, number) {
        return None;
    }
    let described = media.caps_from_media(i32::from(number))?;
    // The intersection adds the missing fields. It is empty if the two disagree on a field.
    let merged = described.intersect(attributes);
    let mut caps = if merged.is_empty() { described } else { merged };
    let structure = caps.make_mut().structure_mut(0)?;
    structure.set_name("application/x-rtp");
    if let Some((encoding, clock_rate)) = static_payload(number) {
        if !structure.has_field("encoding-name") {
            structure.set("encoding-name", encoding);
        }
        if !structure.has_field("clock-rate") {
            structure.set("clock-rate", clock_rate);
        }
    }
    let clock_rate = structure.get::<i32>("clock-rate").ok()?;
    let encoding = structure.get::<&str>("encoding-name").ok()?;
    Some(PayloadType {
        is_beside: BESIDE.contains(&encoding),
        clock_rate: u32::try_from(clock_rate).ok().filter(|rate| *rate > 0)?,
        shape: PayloadShape::of(structure),
        caps,
    })
}

/// Encoding and clock rate of a payload type that needs no `rtpmap` (RFC 3551 6), as far as there
/// is a depayloader for it. GStreamer's SDP library knows none of them.
fn static_payload(payload_type: u8) -> Option<(&'static str, i32)> {
    Some(match payload_type {
        0 => ("PCMU", 8_000),
        3 => ("GSM", 8_000),
        4 => ("G723", 8_000),
        5 => ("DVI4", 8_000),
        6 => ("DVI4", 16_000),
        8 => ("PCMA", 8_000),
        // The clock rate of G.722 is 8000 because of an old mistake in the standard (RFC 3551 4.5.2).
        9 => ("G722", 8_000),
        10 | 11 => ("L16", 44_100),
        14 => ("MPA", 90_000),
        18 => ("G729", 8_000),
        26 => ("JPEG", 90_000),
        31 => ("H261", 90_000),
        32 => ("MPV", 90_000),
        33 => ("MP2T", 90_000),
        34 => ("H263", 90_000),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
