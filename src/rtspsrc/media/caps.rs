//! Makes caps of a session description, for all managers.
//!
//! The fields are those of `rtspsrc`: what GStreamer's SDP library makes of `rtpmap` and `fmtp`, all
//! other attributes as `a-*` and `x-*`, and what the `RTP-Info` of PLAY adds.

use gstreamer as gst;
use gstreamer_sdp as gst_sdp;
use std::collections::BTreeMap;

use super::sdp_check::{MediaLine, Refused, Sections};
use crate::mux::{MediaStream, RtpInfo, proto::ServerText};

/// The caps of each payload type of one media stream.
#[derive(Clone, Debug)]
pub(crate) struct PayloadMap {
    /// The payload type that the `m=` line lists first.
    default: u8,
    caps: BTreeMap<u8, gst::Caps>,
}

impl PayloadMap {
    /// The caps of the payload type listed first.
    pub(crate) fn default_caps(&self) -> Option<&gst::Caps> {
        self.caps(self.default)
    }

    /// The caps of `payload_type`.
    pub(crate) fn caps(&self, payload_type: u8) -> Option<&gst::Caps> {
        self.caps.get(&payload_type)
    }

    /// The same caps with what the answer to PLAY says.
    pub(crate) fn with_play_info(&self, info: &PlayInfo) -> Self {
        let mut map = self.clone();
        for caps in map.caps.values_mut() {
            info.apply(caps.make_mut());
        }
        map
    }
}

impl PayloadMap {
    /// The same caps without the first sequence number and RTP time. They are for another source than the
    /// one that the answer to PLAY describes.
    pub(crate) fn without_start(&self) -> Self {
        let mut map = self.clone();
        for caps in map.caps.values_mut() {
            if let Some(fields) = caps.make_mut().structure_mut(0) {
                fields.remove_fields(["seqnum-base", "clock-base"]);
            }
        }
        map
    }
}

/// What the answer to PLAY says about a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlayInfo {
    /// Sequence number of the first packet (`seq` of `RTP-Info`).
    pub(crate) sequence: Option<u16>,
    /// RTP time that corresponds to the start (`rtptime` of `RTP-Info`).
    pub(crate) rtp_time: Option<u32>,
}

impl PlayInfo {
    fn apply(&self, caps: &mut gst::CapsRef) {
        if let Some(rtp_time) = self.rtp_time {
            caps.set("clock-base", rtp_time);
        }
        if let Some(sequence) = self.sequence {
            caps.set("seqnum-base", u32::from(sequence));
        }
        caps.set("npt-start", 0u64);
        caps.set("play-speed", 1.0f64);
        caps.set("play-scale", 1.0f64);
    }
}

/// What `rtp_info` says about each of `streams`, by number.
///
/// Servers write the URL of the stream in full, relative, or not at all. If a stream's URL matches no
/// entry and there are as many entries as streams, their order counts.
pub(crate) fn play_info(rtp_info: &[RtpInfo], streams: &[MediaStream]) -> Vec<(usize, PlayInfo)> {
    let find = |number: usize, stream: &MediaStream| {
        let control = stream.control.as_str();
        rtp_info
            .iter()
            .find(|info| is_url_of(&info.url, control))
            .or_else(|| {
                rtp_info
                    .get(number)
                    .filter(|_| rtp_info.len() == streams.len())
            })
    };
    let info = |info: Option<&RtpInfo>| {
        info.map_or_else(PlayInfo::default, |info| PlayInfo {
            sequence: info.seq,
            rtp_time: info.rtptime,
        })
    };
    let streams = streams.iter().enumerate();
    streams
        .map(|(number, stream)| (number, info(find(number, stream))))
        .collect()
}

fn is_url_of(written: &str, control: &str) -> bool {
    let written = written.trim_matches('/');
    let control = control.trim_end_matches('/');
    match control.strip_suffix(written) {
        Some(before) => !written.is_empty() && (before.is_empty() || before.ends_with('/')),
        None => false,
    }
}

/// A media stream that cannot be played, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Its transport protocol is not supported (`RTP/SAVP`, `UDP`, ...).
    Protocol(String),
    /// No payload type has a known format.
    NoPayload,
    /// The section is missing or cannot be parsed.
    Malformed,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Protocol(protocol) => {
                let protocol = ServerText::new(protocol);
                write!(f, "protocol \"{protocol}\" is not supported")
            }
            Self::NoPayload => f.write_str("no payload type with a known format"),
            Self::Malformed => f.write_str("the section cannot be parsed"),
        }
    }
}

/// The payload types of every `m=` section of `sdp`, in its order.
pub(crate) fn payload_maps(sdp: &[u8]) -> Result<Vec<Result<PayloadMap, Unusable>>, Refused> {
    let sections = Sections::new(sdp)?;
    Ok((0..sections.len())
        .map(|index| payload_map(&sections, index))
        .collect())
}

fn payload_map(sections: &Sections, index: usize) -> Result<PayloadMap, Unusable> {
    let line = sections.media_line(index).ok_or(Unusable::Malformed)?;
    if !matches!(line.protocol, "RTP/AVP" | "RTP/AVPF") {
        return Err(Unusable::Protocol(line.protocol.to_owned()));
    }
    let description = sections.description(index).ok_or(Unusable::Malformed)?;
    let message = gst_sdp::SDPMessage::parse_buffer(description.as_bytes())
        .map_err(|_| Unusable::Malformed)?;
    let media = message.media(0).ok_or(Unusable::Malformed)?;

    let attributes = attributes(&message, media);
    let mut caps = BTreeMap::new();
    let mut default = None;
    for payload_type in payload_types(&line) {
        if let Some(described) = payload_caps(media, payload_type, &attributes) {
            default.get_or_insert(payload_type);
            caps.entry(payload_type).or_insert(described);
        }
    }
    let default = default.ok_or(Unusable::NoPayload)?;
    Ok(PayloadMap { default, caps })
}

/// The payload types of the line that fit the seven bits of RTP (RFC 3550 5.1).
fn payload_types<'a>(line: &'a MediaLine<'a>) -> impl Iterator<Item = u8> + 'a {
    line.formats
        .iter()
        .filter_map(|format| format.parse().ok())
        .filter(|payload_type| *payload_type < 128)
}

/// All attributes of session and media as `a-*` and `x-*`, under the name the SDP library uses.
fn attributes(message: &gst_sdp::SDPMessageRef, media: &gst_sdp::SDPMediaRef) -> gst::Caps {
    let mut caps = gst::Caps::new_empty_simple("application/x-unknown");
    let attributes = caps.make_mut();
    // An error means that one attribute could not be parsed; the others are in the caps.
    let _ = message.attributes_to_caps(attributes);
    let _ = media.attributes_to_caps(attributes);
    caps
}

fn payload_caps(
    media: &gst_sdp::SDPMediaRef,
    payload_type: u8,
    attributes: &gst::Caps,
) -> Option<gst::Caps> {
    let described = media.caps_from_media(i32::from(payload_type))?;
    // The intersection adds the missing fields. It is empty if the two disagree on a field.
    let merged = described.intersect(attributes);
    let mut caps = if merged.is_empty() { described } else { merged };
    let structure = caps.make_mut().structure_mut(0)?;
    structure.set_name("application/x-rtp");
    if let Some((encoding, clock_rate)) = static_payload(payload_type) {
        if !structure.has_field("encoding-name") {
            structure.set("encoding-name", encoding);
        }
        if !structure.has_field("clock-rate") {
            structure.set("clock-rate", clock_rate);
        }
    }
    let is_known = structure.has_field("encoding-name") && structure.has_field("clock-rate");
    is_known.then_some(caps)
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
