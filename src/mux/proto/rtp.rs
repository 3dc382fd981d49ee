//! What is read of an RTP packet beside what [polices](super::sources) its source.

/// An RTP packet (RFC 3550 5.1), as far as it matters where its stream may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mux) struct RtpPacket<'a> {
    pub(in crate::mux) payload_type: u8,
    /// The same for all packets of an access unit.
    pub(in crate::mux) timestamp: u32,
    pub(in crate::mux) payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Reads a packet; none if it is shorter than it says.
    pub(in crate::mux) fn parse(packet: &'a [u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<12>()?;
        let [flags, marker_and_type, _, _, t0, t1, t2, t3, ..] = *header;
        let mut payload = rest.get(usize::from(flags & 0x0f) * 4..)?;
        if flags & 0x10 != 0 {
            let (extension, rest) = payload.split_first_chunk::<4>()?;
            let words = u16::from_be_bytes([extension[2], extension[3]]);
            payload = rest.get(usize::from(words) * 4..)?;
        }
        if flags & 0x20 != 0 {
            let padding = usize::from(*payload.last()?);
            payload = payload.get(..payload.len().checked_sub(padding)?)?;
        }
        Some(Self {
            payload_type: marker_and_type & 0x7f,
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(flags: u8, rest: &[u8]) -> Vec<u8> {
        [&[flags, 0xe0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 9], rest].concat()
    }

    #[test]
    fn sources_extension_and_padding_are_no_payload() {
        let plain = packet(0x80, b"media");
        let whole = packet(0xb1, b"csrc\xbe\xde\0\x01ext.media\0\0\x03");
        for bytes in [plain, whole] {
            let packet = RtpPacket::parse(&bytes).unwrap();
            assert_eq!((packet.payload_type, packet.timestamp), (96, 7));
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
