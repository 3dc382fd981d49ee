//! The fixed part of an RTP packet (RFC 3550 5.1).

/// What the header of a packet says, as far as it is needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    /// RTP time, in units of the clock rate.
    pub(super) time: u32,
    pub(super) ssrc: u32,
}

impl Header {
    /// Of a packet; none if it is not one: another version, or what it announces does not fit into it
    /// (RFC 3550 A.1). Depayloaders rely on that.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let [first, second, s0, s1, t0, t1, t2, t3, ssrc @ ..] = *packet.first_chunk::<12>()?;
        if first >> 6 != 2 {
            return None;
        }
        let mut length = 12 + 4 * usize::from(first & 0x0f);
        if first & 0x10 != 0 {
            let words = packet.get(length + 2..length + 4)?;
            length += 4 + 4 * usize::from(u16::from_be_bytes(words.try_into().ok()?));
        }
        let padding = match first & 0x20 {
            0 => 0,
            _ => usize::from(*packet.last()?).max(1),
        };
        (length + padding <= packet.len()).then_some(Self {
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            time: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes(ssrc),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: [u8; 14] = [0x80, 0xe0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 4, 9, 9];

    fn with_first(first: u8) -> [u8; 14] {
        let mut packet = PACKET;
        packet[0] = first;
        packet
    }

    #[test]
    fn the_fields_are_read() {
        let header = Header {
            payload_type: 96,
            sequence: 0x102,
            time: 3,
            ssrc: 4,
        };
        assert_eq!(Header::parse(&PACKET), Some(header));
    }

    #[test]
    fn no_prefix_of_a_header_is_one() {
        for length in 0..12 {
            assert_eq!(Header::parse(&PACKET[..length]), None);
        }
    }

    #[test]
    fn what_does_not_fit_is_no_packet() {
        assert_eq!(Header::parse(&with_first(0x40)), None, "another version");
        assert_eq!(Header::parse(&with_first(0x81)), None, "a source too many");
        assert_eq!(Header::parse(&with_first(0x90)), None, "half an extension");
        assert_eq!(Header::parse(&with_first(0xa0)), None, "padded with 9 of 2");
    }

    #[test]
    fn extension_and_padding_that_fit_are_fine() {
        let mut packet = vec![0xb0, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        packet.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4, 0x41, 0, 0, 3]);
        assert!(Header::parse(&packet).is_some());
        packet[15] = 9;
        assert_eq!(Header::parse(&packet), None);
    }
}
