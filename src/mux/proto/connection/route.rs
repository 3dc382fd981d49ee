//! Where the packets of a channel go, which packets fit there, and what is done with a frame.

use bytes::Bytes;

use crate::mux::proto::{
    command::SessionKey,
    event::{Packet, PacketKind, Undescribed},
    wire::rtp::RtpHeader,
};

/// Which payload types a stream may carry. Empty: any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PayloadTypes(u128);

impl FromIterator<u8> for PayloadTypes {
    fn from_iter<I: IntoIterator<Item = u8>>(types: I) -> Self {
        Self(
            types
                .into_iter()
                .fold(0, |set, payload_type| set | 1 << (payload_type & 0x7f)),
        )
    }
}

impl PayloadTypes {
    fn allows(self, payload_type: u8) -> bool {
        self.0 == 0 || self.0 & (1 << (payload_type & 0x7f)) != 0
    }
}

/// Where the packets of a channel go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) session: SessionKey,
    pub(crate) stream: u32,
    pub(crate) kind: PacketKind,
    pub(super) payload_types: PayloadTypes,
    /// The stream's RTP channel, under which its sources are kept.
    pub(super) rtp_channel: u8,
}

/// A packet that fits its channel, with its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Rtp(RtpHeader),
    Rtcp(u32),
}

impl Route {
    fn plausible_kind(&self, [first, second]: [u8; 2]) -> Option<PacketKind> {
        if !has_rtp_version(first) {
            return None;
        }
        if RTCP_TYPES.contains(&second) {
            // RTCP on the RTP channel is seen in the wild; RTP on the RTCP channel is garbage.
            return Some(PacketKind::Rtcp);
        }
        (self.kind == PacketKind::Rtp && self.payload_types.allows(second & 0x7f))
            .then_some(PacketKind::Rtp)
    }

    pub(super) fn is_plausible(&self, first: [u8; 2]) -> bool {
        self.plausible_kind(first).is_some()
    }

    /// `OtherType` if only the payload type of an RTP packet is wrong, or else `Foreign`.
    pub(super) fn of_other_type(&self, packet: &[u8]) -> FrameVerdict {
        match RtpHeader::of(packet).filter(|_| is_rtp(packet)) {
            Some(header) if self.kind == PacketKind::Rtp => FrameVerdict::OtherType(Undescribed {
                session: self.session,
                stream: self.stream as usize,
                payload_type: header.payload_type,
                count: 1,
            }),
            _ => FrameVerdict::Foreign,
        }
    }

    pub(super) fn heard(&self, packet: &[u8]) -> Option<Heard> {
        match self.plausible_kind(*packet.first_chunk()?)? {
            PacketKind::Rtp => RtpHeader::of(packet).map(Heard::Rtp),
            PacketKind::Rtcp => {
                let ssrc = packet.get(4..RTCP_HEADER)?.first_chunk()?;
                Some(Heard::Rtcp(u32::from_be_bytes(*ssrc)))
            }
        }
    }
}

/// RTP and RTCP share the version field: 2, in the two top bits (RFC 3550 5.1, 6.4.1).
fn has_rtp_version(first: u8) -> bool {
    first >> 6 == 2
}

#[inline]
pub(super) fn is_rtp(packet: &[u8]) -> bool {
    matches!(packet, [first, second, ..] if has_rtp_version(*first) && !RTCP_TYPES.contains(second))
}

/// Second bytes that mean RTCP, where RTP has marker and payload type (RFC 5761 4).
const RTCP_TYPES: std::ops::RangeInclusive<u8> = 200..=207;
const RTCP_HEADER: usize = 8;

/// Whose packet is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PacketOwner {
    pub(crate) session: SessionKey,
    pub(crate) stream: u32,
    /// That of an RTP packet; `None`: it is an RTCP packet.
    pub(crate) header: Option<RtpHeader>,
}

impl PacketOwner {
    /// The packet with this payload.
    pub(crate) fn packet(self, payload: Bytes) -> Packet {
        Packet {
            session: self.session,
            stream: self.stream as usize,
            kind: match self.header {
                Some(_) => PacketKind::Rtp,
                None => PacketKind::Rtcp,
            },
            header: self.header,
            payload,
        }
    }
}

/// What is done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameVerdict {
    Deliver(PacketOwner),
    /// The same for an RTP packet whose source takes the stream over: the packets of the stream that
    /// are held come before it.
    TakeOver(PacketOwner),
    /// An RTP packet that is to be held, as it may be of the stream's next source.
    Hold(PacketOwner),
    /// The channel has no owner.
    Unknown,
    /// The channel has an owner, but this packet does not belong to it.
    Foreign,
    /// An RTP packet whose payload type is not in the description of the channel's stream.
    OtherType(Undescribed),
    /// The channel's owner was torn down.
    Quarantined,
}
