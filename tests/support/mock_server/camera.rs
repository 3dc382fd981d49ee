//! What a camera of the mock server looks like: its description, its tracks, its packets.

use std::fmt::Write as _;

use crate::support::rtsp::RtpPacket;

/// H.264 parameter sets of a 640x480 picture, so that parsers downstream find what they look for.
const SPROP: &str = "Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==";

/// One presentation of the server.
#[derive(Debug, Clone)]
pub struct Camera {
    number: u32,
    tracks: Vec<Track>,
    description: Description,
    is_of_one_model: bool,
}

/// One media stream of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// The last part of its control URL.
    pub control: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Payload type 96, 90 kHz, 30 packets a second.
    H264,
    /// Payload type 8, 8 kHz, 20 ms a packet.
    Pcma,
}

#[derive(Debug, Clone)]
enum Description {
    /// Written from the tracks.
    Tracks,
    /// Written from the tracks, filled up with attributes to this size.
    AtLeast(usize),
    /// Exactly these bytes.
    Raw(Vec<u8>),
}

/// What the packets of one session differ in from those of other sessions of its camera.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// Changes the SSRC.
    pub(super) ssrc: u32,
    /// The first sequence number.
    pub(super) sequence: u16,
}

impl Source {
    /// The RTP time for one that begins with 0: it jumps with the sequence numbers.
    pub(super) fn timestamp(self, timestamp: u32) -> u32 {
        timestamp.wrapping_add(u32::from(self.sequence).wrapping_mul(90_001))
    }
}

impl Camera {
    /// One H.264 track, `stream=0`.
    pub fn video() -> Self {
        Self::with_tracks(&[("stream=0", Kind::H264)])
    }

    /// An H.264 track `stream=0` and a PCMA track `stream=1`.
    pub fn av() -> Self {
        Self::with_tracks(&[("stream=0", Kind::H264), ("stream=1", Kind::Pcma)])
    }

    /// An H.264 track `stream=0`, and PCMA tracks `stream=1` and `stream=2`.
    pub fn with_two_sounds() -> Self {
        Self::with_tracks(&[
            ("stream=0", Kind::H264),
            ("stream=1", Kind::Pcma),
            ("stream=2", Kind::Pcma),
        ])
    }

    /// A description without any `m=` section.
    pub fn without_media() -> Self {
        Self::with_tracks(&[])
    }

    fn with_tracks(tracks: &[(&str, Kind)]) -> Self {
        let tracks = tracks.iter().map(|&(control, kind)| Track {
            control: control.to_owned(),
            kind,
        });
        Self {
            number: 0,
            tracks: tracks.collect(),
            description: Description::Tracks,
            is_of_one_model: false,
        }
    }

    /// The number every packet of this camera carries: see [`Camera::number_of`].
    pub fn number(mut self, number: u32) -> Self {
        self.number = number;
        self
    }

    /// Described with the media of every other camera of its model: only the session lines name it.
    pub fn of_one_model(mut self) -> Self {
        self.is_of_one_model = true;
        self
    }

    /// Answers DESCRIBE with exactly these bytes, UTF-8 or not.
    pub fn sdp(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.description = Description::Raw(bytes.into());
        self
    }

    /// Fills the description up to at least this size.
    pub fn sdp_size(mut self, bytes: usize) -> Self {
        self.description = Description::AtLeast(bytes);
        self
    }

    /// The tracks, in the order of the description.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// The number of the camera that sent this RTP packet; `None` when it is no packet of a mock camera.
    pub fn number_of(packet: &[u8]) -> Option<u32> {
        let payload = RtpPacket::parse(packet)?.payload;
        let number = payload.get(1..5)?;
        number.try_into().ok().map(u32::from_be_bytes)
    }

    /// Which packet of its track this is in its session, from 0; `None` when it is no packet of a mock camera.
    pub fn index_of(packet: &[u8]) -> Option<u32> {
        let payload = RtpPacket::parse(packet)?.payload;
        let index = payload.get(5..9)?;
        index.try_into().ok().map(u32::from_be_bytes)
    }

    /// The SSRC of a track of the camera of that number.
    pub fn ssrc(number: u32, track: usize) -> u32 {
        0x4d00_0000 | (number << 4) | u32::try_from(track).unwrap_or_default()
    }

    pub(super) fn own_number(&self) -> u32 {
        self.number
    }

    /// The track a SETUP is about, from what follows the camera's path; the aggregate URL will do for a single one.
    pub(super) fn track(&self, control: &str) -> Option<usize> {
        // A folder that a test puts before it.
        let control = control.strip_prefix("\u{e9}/").unwrap_or(control);
        match control {
            "" if self.tracks.len() == 1 => Some(0),
            _ => self
                .tracks
                .iter()
                .position(|track| track.control == control),
        }
    }

    pub(super) fn timestamp(&self, track: usize, index: u32) -> u32 {
        match self.tracks.get(track).map(|t| t.kind) {
            Some(Kind::Pcma) => index.wrapping_mul(160),
            _ => index.wrapping_mul(3000),
        }
    }

    pub(super) fn packet(&self, track: usize, index: u32) -> Vec<u8> {
        self.packet_of(Source::default(), track, index)
    }

    /// The same of one session, which may have a source of its own.
    pub(super) fn packet_of(&self, source: Source, track: usize, index: u32) -> Vec<u8> {
        let kind = self.tracks.get(track).map_or(Kind::H264, |t| t.kind);
        let (payload_type, first) = match kind {
            Kind::H264 => (96, 0x65),
            Kind::Pcma => (8, 0xd5),
        };
        let mut payload = vec![first];
        payload.extend_from_slice(&self.number.to_be_bytes());
        payload.extend_from_slice(&index.to_be_bytes());
        RtpPacket {
            payload_type,
            sequence: source.sequence.wrapping_add(index as u16),
            timestamp: source.timestamp(self.timestamp(track, index)),
            ssrc: Self::ssrc(self.number, track) ^ source.ssrc,
            marker: kind == Kind::H264,
            payload,
        }
        .to_bytes()
    }

    pub(super) fn description(&self) -> Vec<u8> {
        match &self.description {
            Description::Raw(bytes) => bytes.clone(),
            Description::Tracks => self.sdp_text(0).into_bytes(),
            Description::AtLeast(size) => self.sdp_text(*size).into_bytes(),
        }
    }

    fn sdp_text(&self, size: usize) -> String {
        let mut sdp = format!(
            "v=0\r\no=- {number} 1 IN IP4 127.0.0.1\r\ns=Camera {number}\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
             a=control:*\r\na=range:npt=now-\r\n",
            number = self.number
        );
        while sdp.len() < size {
            sdp.push_str("a=x-filler:0123456789abcdef0123456789abcdef0123456789abcdef\r\n");
        }
        for track in &self.tracks {
            let media = self.media_lines(track.kind, 96);
            let _ = write!(sdp, "{media}a=control:{}\r\n", track.control);
        }
        sdp
    }

    /// As go2rtc describes it on a connection of which this is the DESCRIBE of that number, from 1: the media of the
    /// camera that often, each with the next payload type and track number.
    pub(super) fn grown_description(&self, times: usize) -> Vec<u8> {
        let mut sdp =
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n".to_owned();
        let media = (0..times).flat_map(|_| &self.tracks);
        for (number, (track, payload_type)) in media.zip(96u8..=127).enumerate() {
            let media = self.media_lines(track.kind, payload_type);
            let _ = write!(sdp, "{media}a=recvonly\r\na=control:trackID={number}\r\n");
        }
        sdp.into_bytes()
    }

    fn media_lines(&self, kind: Kind, dynamic: u8) -> String {
        match kind {
            Kind::H264 => {
                // The largest bit rate: an encoder of its own for each camera that is not of one model.
                let rate = match self.is_of_one_model {
                    true => String::new(),
                    false => format!(";max-br={}", 1200 + self.number),
                };
                format!(
                    "m=video 0 RTP/AVP {dynamic}\r\na=rtpmap:{dynamic} H264/90000\r\n\
                     a=fmtp:{dynamic} packetization-mode=1;profile-level-id=42c01e;\
                     sprop-parameter-sets={SPROP}{rate}\r\n"
                )
            }
            Kind::Pcma => "m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n".to_owned(),
        }
    }
}
