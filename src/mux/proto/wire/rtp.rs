//! RTP packets (RFC 3550 5.1), as far as this crate parses them.

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

#[cfg(test)]
mod tests {
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
