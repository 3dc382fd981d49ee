//! RTP packets (RFC 3550 5.1): their header, their payload, the order of their sequence numbers; and where
//! in a video stream a decoder can begin, as far as a single packet shows it.
//!
//! The core parses the header once. It goes with the packet to every other part that needs it.
//!
//! H.264 (RFC 6184) and H.265 (RFC 7798) in their usual modes: single NAL units, aggregates
//! (STAP-A, AP) and fragments (FU-A, FU). The interleaved modes, which no camera was seen to use,
//! are treated as unknown: no picture begins there.
//!
//! A picture may be in several slices, and each of them in packets of its own. Only the first one
//! begins the picture: the first bit of a slice header says so, in H.264 as `first_mb_in_slice` = 0
//! (7.3.3), in H.265 as `first_slice_segment_in_pic_flag` (7.3.6.1).

/// The fixed header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
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
        let [_, kind, s0, s1, t0, t1, t2, t3, ssrc @ ..] = *packet.first_chunk::<12>()?;
        Some(Self {
            payload_type: kind & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes(ssrc),
        })
    }
}

/// The payload of a packet, without contributing sources, extension and padding; `None` if the packet is
/// shorter than its header says (RFC 3550 A.1). Depayloaders rely on that check.
pub fn payload(packet: &[u8]) -> Option<&[u8]> {
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
    Some(payload)
}

/// A sequence number so far ahead is not that of a packet behind lost ones, and one that is further
/// behind is not that of a late packet: the sender has begun anew (RFC 3550 A.1).
const MAX_DROPOUT: i16 = 3000;
const MAX_MISORDER: i16 = 100;

/// Whether the sequence number does not go back, and at most so far ahead as behind lost packets.
pub fn goes_up(before: u16, sequence: u16) -> bool {
    (0..MAX_DROPOUT).contains(&sequence.wrapping_sub(before).cast_signed())
}

/// The sequence numbers of one source (RFC 3550 A.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceTracker {
    /// The highest number since the source began (anew).
    highest: Option<u16>,
    /// A number far behind. If the next packet has the next number, the sender has begun anew.
    suspect: Option<u16>,
}

impl SequenceTracker {
    /// A packet of the source has come. Returns how many packets are missing before it.
    pub fn on_packet(&mut self, sequence: u16) -> u16 {
        let before = *self.highest.get_or_insert(sequence);
        let step = sequence.wrapping_sub(before).cast_signed();
        let is_far_behind = step < -MAX_MISORDER;
        // Over TCP no packet overtakes another one: a packet far ahead needs no second one that confirms
        // it. A packet far behind does, as senders repeat packets.
        let is_confirmed = is_far_behind && self.suspect == Some(sequence.wrapping_sub(1));
        self.suspect = (is_far_behind && !is_confirmed).then_some(sequence);
        if step > 0 || is_confirmed {
            self.highest = Some(sequence);
        }
        match step {
            1..MAX_DROPOUT => step.unsigned_abs() - 1,
            _ => 0,
        }
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
enum NalUnit {
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
        self.look_at(payload).unwrap_or(Content::Rest)
    }

    /// `None` if the payload is cut short.
    fn look_at(self, payload: &[u8]) -> Option<Content> {
        let (aggregate, fragment, kinds) = match self {
            // STAP-A, FU-A
            Self::H264 => (24, 28, 0x1f),
            // AP, FU
            Self::H265 => (48, 49, 0x3f),
        };
        let (kind, rest) = self.split_unit(payload)?;
        if kind == aggregate {
            return self.look_at_aggregate(rest);
        }
        if kind != fragment {
            return Some(self.look_at_unit(kind, rest));
        }
        let (header, body) = rest.split_first()?;
        Some(self.look_at_fragment(*header, header & kinds, body))
    }

    /// The kind of a NAL unit, and what follows its header.
    fn split_unit(self, unit: &[u8]) -> Option<(u8, &[u8])> {
        let first = *unit.first()?;
        Some(match self {
            Self::H264 => (first & 0x1f, unit.get(1..)?),
            Self::H265 => (first >> 1 & 0x3f, unit.get(2..)?),
        })
    }

    /// `header` is the fragment's header: start, end and kind of the unit.
    fn look_at_fragment(self, header: u8, kind: u8, body: &[u8]) -> Content {
        const START: u8 = 0x80;
        if header & START != 0 {
            return self.look_at_unit(kind, body);
        }
        match self.classify(kind) {
            NalUnit::Ahead | NalUnit::Message => Content::Ahead { recovers: false },
            NalUnit::Slice { .. } | NalUnit::Unknown => Content::Rest,
        }
    }

    /// The first slice decides, together with the units before it.
    fn look_at_aggregate(self, mut rest: &[u8]) -> Option<Content> {
        let mut recovers = false;
        while !rest.is_empty() {
            let (size, after) = rest.split_first_chunk::<2>()?;
            let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
            rest = after;
            let (kind, body) = self.split_unit(unit)?;
            match self.look_at_unit(kind, body) {
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
            NalUnit::Ahead => Content::Ahead { recovers: false },
            NalUnit::Message => Content::Ahead {
                recovers: announces_recovery(body),
            },
            NalUnit::Slice { is_key } if body.first().is_some_and(|first| first & 0x80 != 0) => {
                Content::Picture { is_key }
            }
            NalUnit::Slice { .. } | NalUnit::Unknown => Content::Rest,
        }
    }

    fn classify(self, kind: u8) -> NalUnit {
        match (self, kind) {
            (Self::H264, 5) => NalUnit::Slice { is_key: true },
            // 2 is the first partition of a slice; 3 and 4 follow it.
            (Self::H264, 1 | 2) => NalUnit::Slice { is_key: false },
            (Self::H264, 6) | (Self::H265, 39) => NalUnit::Message,
            // Parameter sets, delimiters, prefixes.
            (Self::H264, 7..=9 | 13..=15) | (Self::H265, 32..=35) => NalUnit::Ahead,
            // BLA, IDR and CRA pictures, and the types reserved for similar ones.
            (Self::H265, 16..=23) => NalUnit::Slice { is_key: true },
            (Self::H265, 0..=9) => NalUnit::Slice { is_key: false },
            _ => NalUnit::Unknown,
        }
    }
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
            payload_type: 96,
            sequence: 0x102,
            timestamp: 3,
            ssrc: 4,
        };
        assert_eq!(RtpHeader::of(&PACKET), Some(header));
        assert_eq!(payload(&PACKET), Some(&[9, 9][..]));
    }

    #[test]
    fn no_prefix_of_a_header_is_one() {
        for length in 0..12 {
            assert_eq!(RtpHeader::of(&PACKET[..length]), None);
            assert_eq!(payload(&PACKET[..length]), None);
        }
    }

    #[test]
    fn extension_and_padding_that_fit_are_fine() {
        let mut packet = vec![0xb0, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        packet.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4, 0x41, 0, 0, 3]);
        assert_eq!(payload(&packet), Some(&[0x41][..]));
        packet[15] = 9;
        assert_eq!(payload(&packet), None);
    }

    #[test]
    fn sources_extension_and_padding_are_no_payload() {
        let plain = packet(0x80, b"media");
        let whole = packet(0xb1, b"csrc\xbe\xde\0\x01ext.media\0\0\x03");
        for bytes in [plain, whole] {
            let header = RtpHeader::of(&bytes).unwrap();
            assert_eq!((header.payload_type, header.timestamp), (96, 7));
            assert_eq!(payload(&bytes), Some(&b"media"[..]));
        }
    }

    #[test]
    fn a_packet_shorter_than_it_says_has_no_payload() {
        for (flags, rest) in [
            (0x81, &b"csr"[..]),
            (0x90, b"\xbe\xde\0"),
            (0x90, b"\xbe\xde\0\x02word"),
            (0xa0, b""),
            (0xa0, b"\0\x03"),
        ] {
            assert_eq!(payload(&packet(flags, rest)), None);
        }
    }

    /// The highest number after these packets, and how many are missing before each.
    fn missing<const N: usize>(sequences: [u16; N]) -> (Option<u16>, [u16; N]) {
        let mut tracker = SequenceTracker::default();
        let missing = sequences.map(|sequence| tracker.on_packet(sequence));
        (tracker.highest, missing)
    }

    #[test]
    fn sequence_numbers_wrap() {
        assert_eq!(missing([65_534, 65_535, 0, 1]), (Some(1), [0; 4]));
    }

    #[test]
    fn before_repeated_and_late_packets_none_are_missing() {
        let (highest, missing) = missing([10, 11, 11, 10, 12, 112, 12, 113]);
        assert_eq!(missing, [0, 0, 0, 0, 0, 99, 0, 0]);
        assert_eq!(highest, Some(113));
    }

    #[test]
    fn a_sender_that_begins_far_behind_is_believed_at_its_second_packet() {
        let (highest, missing) = missing([30_000, 30_001, 5, 30_002, 7, 8, 9, 11]);
        assert_eq!(missing, [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(highest, Some(11));
    }

    /// A sender that begins anew at 5 behind 60 000 is 5 541 ahead: those are no lost packets.
    #[test]
    fn a_sender_that_begins_far_ahead_is_believed_at_once() {
        let (highest, missing) = missing([60_000, 5, 6, 3_005, 6_005]);
        assert_eq!(missing, [0, 0, 0, 2_998, 0]);
        assert_eq!(highest, Some(6_005));
    }

    #[test]
    fn only_what_is_a_little_ahead_goes_up() {
        assert!(goes_up(6, 6) && goes_up(65_535, 2_998) && goes_up(6, 3_005));
        assert!(!goes_up(6, 5) && !goes_up(6, 3_006));
    }
}

#[cfg(test)]
mod tests;
