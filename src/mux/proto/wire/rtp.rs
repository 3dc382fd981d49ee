//! RTP packets (RFC 3550 5.1), as far as this crate parses them; and where in a video stream a
//! decoder can begin, as far as a single packet shows it.
//!
//! H.264 (RFC 6184) and H.265 (RFC 7798) in their usual modes: single NAL units, aggregates
//! (STAP-A, AP) and fragments (FU-A, FU). The interleaved modes, which no camera was seen to use,
//! are treated as unknown: no picture begins there.
//!
//! A picture may be in several slices, and each of them in packets of its own. Only the first one
//! begins the picture: the first bit of a slice header says so, in H.264 as `first_mb_in_slice` = 0
//! (7.3.3), in H.265 as `first_slice_segment_in_pic_flag` (7.3.6.1).

const VERSION: u8 = 2;

/// The fixed header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// The version; 2 for RTP.
    pub version: u8,
    /// The payload type, 0 to 127.
    pub payload_type: u8,
    /// Rises by one with each packet.
    pub sequence: u16,
    /// In units of the clock rate; the same for all packets of an access unit.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
}

impl RtpHeader {
    /// Parses the header; `None` if the packet is shorter than an RTP header.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let [flags, kind, s0, s1, t0, t1, t2, t3, ssrc @ ..] = *packet.first_chunk::<12>()?;
        Some(Self {
            version: flags >> 6,
            payload_type: kind & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes(ssrc),
        })
    }

    /// Parses the header of a complete RTP packet of version 2. Depayloaders rely on that.
    pub fn of_whole(packet: &[u8]) -> Option<Self> {
        let header = RtpPacket::parse(packet)?.header;
        (header.version == VERSION).then_some(header)
    }
}

/// A packet that is as long as its header says (RFC 3550 A.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// Its fixed header.
    pub header: RtpHeader,
    /// Its payload, without contributing sources, extension and padding.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Parses a packet; `None` if it is shorter than its header says.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let header = RtpHeader::of(packet)?;
        let flags = *packet.first()?;
        let mut payload = packet.get(12 + usize::from(flags & 0x0f) * 4..)?;
        if flags & 0x10 != 0 {
            let (extension, rest) = payload.split_first_chunk::<4>()?;
            let words = u16::from_be_bytes([extension[2], extension[3]]);
            payload = rest.get(usize::from(words) * 4..)?;
        }
        if flags & 0x20 != 0 {
            let padding = usize::from(*payload.last()?);
            payload = payload.get(..payload.len().checked_sub(padding)?)?;
        }
        Some(Self { header, payload })
    }
}

/// The video codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VideoCoding {
    H264,
    H265,
}

/// What a packet means for the search for a place to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// NAL units before a picture: parameter sets, delimiters, messages. `recovers`: one of them
    /// says that decoding can begin with the next picture. Streams without key pictures (gradual
    /// refresh, open groups of pictures) send that now and then.
    Ahead { recovers: bool },
    /// The first bytes of a picture; `is_key` if decoding can begin with it.
    Picture { is_key: bool },
    /// Anything else.
    Rest,
}

/// The kind of one NAL unit.
enum Unit {
    Ahead,
    Message,
    Slice { is_key: bool },
    Unknown,
}

/// The message that announces a recovery point (H.264 D.1.8, H.265 D.2.8).
const RECOVERY_POINT: usize = 6;

impl VideoCoding {
    /// By the encoding name of `a=rtpmap`, in upper case.
    pub(crate) fn of_encoding(name: &str) -> Option<Self> {
        match name {
            "H264" => Some(Self::H264),
            "H265" => Some(Self::H265),
            _ => None,
        }
    }

    /// Examines the payload of an RTP packet.
    pub(crate) fn look(self, payload: &[u8]) -> Content {
        match self {
            Self::H264 => self.look_at_h264(payload),
            Self::H265 => self.look_at_h265(payload),
        }
        .unwrap_or(Content::Rest)
    }

    /// `None` if the payload is cut short.
    fn look_at_h264(self, payload: &[u8]) -> Option<Content> {
        const STAP_A: u8 = 24;
        const FU_A: u8 = 28;
        match payload.first()? & 0x1f {
            STAP_A => self.look_at_aggregate(payload.get(1..)?),
            FU_A => self.look_at_fragment(*payload.get(1)?, 0x1f, payload.get(2..)?),
            kind => Some(self.look_at_unit(kind, payload.get(1..)?)),
        }
    }

    fn look_at_h265(self, payload: &[u8]) -> Option<Content> {
        const AP: u8 = 48;
        const FU: u8 = 49;
        match h265_kind(*payload.first()?) {
            AP => self.look_at_aggregate(payload.get(2..)?),
            FU => self.look_at_fragment(*payload.get(2)?, 0x3f, payload.get(3..)?),
            kind => Some(self.look_at_unit(kind, payload.get(2..)?)),
        }
    }

    /// `header` is the fragment's header: start, end and kind of the unit.
    fn look_at_fragment(self, header: u8, kinds: u8, body: &[u8]) -> Option<Content> {
        const START: u8 = 0x80;
        let kind = header & kinds;
        if header & START != 0 {
            return Some(self.look_at_unit(kind, body));
        }
        Some(match self.classify(kind) {
            Unit::Ahead | Unit::Message => Content::Ahead { recovers: false },
            Unit::Slice { .. } | Unit::Unknown => Content::Rest,
        })
    }

    /// The first slice decides, together with the units before it.
    fn look_at_aggregate(self, mut rest: &[u8]) -> Option<Content> {
        let mut recovers = false;
        while !rest.is_empty() {
            let (size, after) = rest.split_first_chunk::<2>()?;
            let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
            rest = after;
            let content = match self {
                Self::H264 => self.look_at_unit(unit.first()? & 0x1f, unit.get(1..)?),
                Self::H265 => self.look_at_unit(h265_kind(*unit.first()?), unit.get(2..)?),
            };
            match content {
                Content::Ahead { recovers: says_so } => recovers |= says_so,
                Content::Picture { is_key } => {
                    return Some(Content::Picture {
                        is_key: is_key || recovers,
                    });
                }
                Content::Rest => return Some(Content::Rest),
            }
        }
        Some(Content::Ahead { recovers })
    }

    /// `body` is what follows the header of the NAL unit.
    fn look_at_unit(self, kind: u8, body: &[u8]) -> Content {
        match self.classify(kind) {
            Unit::Ahead => Content::Ahead { recovers: false },
            Unit::Message => Content::Ahead {
                recovers: announces_recovery(body),
            },
            Unit::Slice { is_key } if body.first().is_some_and(|first| first & 0x80 != 0) => {
                Content::Picture { is_key }
            }
            Unit::Slice { .. } | Unit::Unknown => Content::Rest,
        }
    }

    fn classify(self, kind: u8) -> Unit {
        match (self, kind) {
            (Self::H264, 5) => Unit::Slice { is_key: true },
            // 2 is the first partition of a slice; 3 and 4 follow it.
            (Self::H264, 1 | 2) => Unit::Slice { is_key: false },
            (Self::H264, 6) | (Self::H265, 39) => Unit::Message,
            // Parameter sets, delimiters, prefixes.
            (Self::H264, 7..=9 | 13..=15) | (Self::H265, 32..=35) => Unit::Ahead,
            // BLA, IDR and CRA pictures, and the types reserved for similar ones.
            (Self::H265, 16..=23) => Unit::Slice { is_key: true },
            (Self::H265, 0..=9) => Unit::Slice { is_key: false },
            _ => Unit::Unknown,
        }
    }
}

fn h265_kind(first: u8) -> u8 {
    first >> 1 & 0x3f
}

/// True if a SEI unit holds the recovery point message. Emulation prevention does not matter: it
/// cannot occur within the types and sizes of short messages; a long message is skipped by a few
/// bytes too few, which at worst misses what follows it.
fn announces_recovery(mut body: &[u8]) -> bool {
    while let Some((kind, after)) = number(body) {
        if kind == RECOVERY_POINT {
            return true;
        }
        let Some((size, after)) = number(after) else {
            return false;
        };
        body = after.get(size..).unwrap_or_default();
    }
    false
}

/// Parses a number as SEI codes it: bytes of 255, then a last one (H.264 7.3.2.3.1).
fn number(body: &[u8]) -> Option<(usize, &[u8])> {
    let full = body.iter().take_while(|byte| **byte == 0xff).count();
    let last = usize::from(*body.get(full)?);
    Some((full * 0xff + last, body.get(full + 1..)?))
}

#[cfg(test)]
mod rtp_tests {
    use super::*;

    const PACKET: [u8; 14] = [0x80, 0xe0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 4, 9, 9];

    fn packet(flags: u8, rest: &[u8]) -> Vec<u8> {
        [&[flags, 0xe0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 9], rest].concat()
    }

    #[test]
    fn the_fields_are_read() {
        let header = RtpHeader {
            version: 2,
            payload_type: 96,
            sequence: 0x102,
            timestamp: 3,
            ssrc: 4,
        };
        assert_eq!(RtpHeader::of(&PACKET), Some(header));
        assert_eq!(RtpPacket::parse(&PACKET).map(|it| it.header), Some(header));
    }

    #[test]
    fn no_prefix_of_a_header_is_one() {
        for length in 0..12 {
            assert_eq!(RtpHeader::of(&PACKET[..length]), None);
            assert_eq!(RtpHeader::of_whole(&PACKET[..length]), None);
        }
    }

    fn with_first(first: u8) -> [u8; 14] {
        let mut packet = PACKET;
        packet[0] = first;
        packet
    }

    #[test]
    fn what_does_not_fit_is_no_packet() {
        let of_whole = |first| RtpHeader::of_whole(&with_first(first));
        assert_eq!(RtpHeader::of_whole(&PACKET), RtpHeader::of(&PACKET));
        assert_eq!(of_whole(0x40), None, "another version");
        assert_eq!(of_whole(0x81), None, "a source too many");
        assert_eq!(of_whole(0x90), None, "half an extension");
        assert_eq!(of_whole(0xa0), None, "padded with 9 of 2");
    }

    #[test]
    fn extension_and_padding_that_fit_are_fine() {
        let mut packet = vec![0xb0, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        packet.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4, 0x41, 0, 0, 3]);
        assert!(RtpHeader::of_whole(&packet).is_some());
        packet[15] = 9;
        assert_eq!(RtpHeader::of_whole(&packet), None);
    }

    #[test]
    fn sources_extension_and_padding_are_no_payload() {
        let plain = packet(0x80, b"media");
        let whole = packet(0xb1, b"csrc\xbe\xde\0\x01ext.media\0\0\x03");
        for bytes in [plain, whole] {
            let packet = RtpPacket::parse(&bytes).unwrap();
            let header = packet.header;
            assert_eq!((header.payload_type, header.timestamp), (96, 7));
            assert_eq!(packet.payload, b"media");
        }
    }

    #[test]
    fn a_packet_shorter_than_it_says_is_none() {
        for (flags, rest) in [
            (0x81, &b"csr"[..]),
            (0x90, b"\xbe\xde\0"),
            (0x90, b"\xbe\xde\0\x02word"),
            (0xa0, b""),
            (0xa0, b"\0\x03"),
        ] {
            assert_eq!(RtpPacket::parse(&packet(flags, rest)), None);
        }
        assert_eq!(RtpPacket::parse(&[0x80; 11]), None);
    }
}

#[cfg(test)]
mod tests;
