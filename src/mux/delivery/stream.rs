//! One stream at the entrance of the queue: its counters, and where it may go on after a loss.

use std::time::{Duration, Instant};

use super::Packet;
use crate::mux::{
    proto::{
        MediaStream, PacketKind,
        wire::rtp::{self, Content, RtpHeader, VideoCoding},
    },
    stats::StreamCount,
};

/// How long a stream waits for a key picture, from when there is room again. Longer than the
/// interval of cameras, even of those that send one in 10 s while nothing moves. After that a
/// broken picture is better than none.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(20);

/// A longer unit is not an access unit: some devices give all packets one timestamp.
const LONGEST_UNIT: Duration = Duration::from_secs(1);

/// The most packets held before a picture, until the picture shows what it is: two delimiters,
/// parameter sets for each slice as some encoders repeat them, messages.
const MAX_AHEAD: usize = 32;
const MAX_AHEAD_BYTES: usize = 16 * 1024;

impl StreamCount {
    pub(super) fn on_received(&mut self, packet: &Packet) {
        match packet.kind {
            PacketKind::Rtp => {
                self.packets += 1;
                self.undescribed = 0;
                self.bytes += packet.payload.len() as u64;
            }
            PacketKind::Rtcp => self.rtcp_packets += 1,
        }
    }

    pub(super) fn on_dropped(&mut self, packet: &Packet) {
        self.dropped += 1;
        self.dropped_bytes += packet.payload.len() as u64;
    }
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketAdmission {
    /// It is queued after the others.
    Follow,
    /// The stream goes on with it, after the [held](Stream::hold) packets.
    Resume,
    /// The next packets will show whether the stream may go on with it.
    Hold,
    /// It is dropped, with the packets held before it.
    Drop,
}

/// Whether a stream's packets are queued.
#[derive(Debug, Default)]
enum Flow {
    #[default]
    On,
    /// This access unit was cut: the stream goes on with the next one.
    Cut { unit: Option<u32>, since: Instant },
    /// The stream goes on with a key picture.
    Awaiting {
        /// Since when there is room for one.
        since: Option<Instant>,
        /// The held packets before the next picture.
        ahead: Vec<Packet>,
        /// They say that decoding can begin there.
        recovers: bool,
    },
}

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) count: StreamCount,
    /// The next packet taken follows a loss.
    is_gap_ahead: bool,
    /// The next packet taken follows those of another session.
    is_beginning: bool,
    /// The coding of each payload type.
    codings: Vec<(u8, VideoCoding)>,
    /// A key picture was recognised, so they can be told from others. Not where the payload is
    /// encrypted.
    has_key_pictures: bool,
    flow: Flow,
}

impl Stream {
    pub(super) fn describe(&mut self, media: &MediaStream) {
        let coding = |(payload_type, name, _): &(u8, String, u32)| {
            Some((*payload_type, VideoCoding::of_encoding(name)?))
        };
        self.codings = media.encodings.iter().filter_map(coding).collect();
    }

    /// Packets at the head of the queue are dropped: those until the next take count as one
    /// overflow.
    pub(super) fn on_gap_ahead(&mut self) {
        if !std::mem::replace(&mut self.is_gap_ahead, true) {
            self.count.overflows += 1;
        }
    }

    /// The stream takes over from another session's: no overflow, but clocks and sequence numbers
    /// differ.
    pub(super) fn begin_anew(&mut self) {
        self.is_beginning = true;
    }

    pub(super) fn is_gap_ahead(&self) -> bool {
        self.is_gap_ahead || self.is_beginning
    }

    pub(super) fn on_gap_passed(&mut self) {
        (self.is_gap_ahead, self.is_beginning) = (false, false);
    }

    /// True if its RTP packets are queued as they come, if they fit.
    pub(super) fn is_flowing(&self) -> bool {
        matches!(self.flow, Flow::On)
    }

    /// A packet of a stream that flows is queued.
    #[inline]
    pub(super) fn note(&mut self, packet: &Packet) {
        if !self.has_key_pictures && !self.codings.is_empty() {
            self.has_key_pictures = self.is_key(packet);
        }
    }

    /// Decides on an RTP packet; `has_room` says whether it would fit.
    pub(super) fn admit(&mut self, packet: &Packet, has_room: bool) -> PacketAdmission {
        match self.flow {
            Flow::On => {
                self.note(packet);
                PacketAdmission::Follow
            }
            Flow::Cut { unit, since } => {
                let age = packet.received.saturating_duration_since(since);
                match packet.is_of_unit(unit) && age < LONGEST_UNIT {
                    true => PacketAdmission::Drop,
                    false => PacketAdmission::Resume,
                }
            }
            Flow::Awaiting { .. } => self.admit_key(packet, has_room),
        }
    }

    fn admit_key(&mut self, packet: &Packet, has_room: bool) -> PacketAdmission {
        let content = self.look(packet);
        let Flow::Awaiting {
            since, recovers, ..
        } = &mut self.flow
        else {
            return PacketAdmission::Follow;
        };
        if has_room {
            since.get_or_insert(packet.received);
        }
        let waited = since.map(|since| packet.received.saturating_duration_since(since));
        match content {
            Content::Ahead { recovers: says_so } => {
                *recovers |= says_so;
                PacketAdmission::Hold
            }
            Content::Picture { is_key } => {
                let is_enough = waited.is_some_and(|waited| waited >= MAX_WAIT);
                match is_key || *recovers || is_enough {
                    true => PacketAdmission::Resume,
                    false => PacketAdmission::Drop,
                }
            }
            // If the payload is not what was described, no picture ever begins.
            Content::Rest if waited.is_some_and(|waited| waited >= 2 * MAX_WAIT) => {
                PacketAdmission::Resume
            }
            Content::Rest => PacketAdmission::Drop,
        }
    }

    /// A part of the access unit of `packet` is missing. With `to_keyframe` pictures go on with a
    /// key picture, otherwise with the next one.
    pub(super) fn cut(&mut self, packet: &Packet, to_keyframe: bool) {
        self.flow = match to_keyframe && self.has_key_pictures {
            true => Flow::Awaiting {
                since: None,
                ahead: Vec::new(),
                recovers: false,
            },
            false => Flow::Cut {
                unit: packet.unit(),
                since: packet.received,
            },
        };
    }

    /// The stream could have gone on with it, but there was no room.
    pub(super) fn on_refused(&mut self, packet: &Packet) {
        if matches!(self.flow, Flow::Cut { .. }) {
            self.cut(packet, false);
        }
    }

    /// The stream goes on.
    pub(super) fn on_resumed(&mut self) {
        self.flow = Flow::On;
    }

    /// Holds a packet that comes before a picture; returns packets for which there is no place.
    pub(super) fn hold(&mut self, mut packet: Packet) -> Vec<Packet> {
        let Flow::Awaiting { ahead, .. } = &mut self.flow else {
            return vec![packet];
        };
        let bytes: usize = ahead.iter().map(|packet| packet.payload.len()).sum();
        let is_too_much =
            ahead.len() >= MAX_AHEAD || bytes + packet.payload.len() > MAX_AHEAD_BYTES;
        if is_too_much {
            let mut refused = self.take_held();
            refused.push(packet);
            return refused;
        }
        packet.detach();
        ahead.push(packet);
        Vec::new()
    }

    /// Takes the held packets before the picture that comes.
    pub(super) fn take_held(&mut self) -> Vec<Packet> {
        match &mut self.flow {
            Flow::Awaiting {
                ahead, recovers, ..
            } => {
                *recovers = false;
                std::mem::take(ahead)
            }
            Flow::On | Flow::Cut { .. } => Vec::new(),
        }
    }

    pub(super) fn held(&self) -> &[Packet] {
        match &self.flow {
            Flow::Awaiting { ahead, .. } => ahead,
            Flow::On | Flow::Cut { .. } => &[],
        }
    }

    /// True if the packet belongs before a picture and holds no part of one.
    pub(super) fn is_ahead(&self, packet: &Packet) -> bool {
        matches!(self.look(packet), Content::Ahead { .. })
    }

    fn is_key(&self, packet: &Packet) -> bool {
        matches!(
            self.look(packet),
            Content::Picture { is_key: true } | Content::Ahead { recovers: true }
        )
    }

    fn look(&self, packet: &Packet) -> Content {
        let content = |header: RtpHeader| {
            let mut codings = self.codings.iter();
            let (_, coding) = codings.find(|(kind, _)| *kind == header.payload_type)?;
            Some(coding.look(rtp::payload(&packet.payload)?))
        };
        packet.header.and_then(content).unwrap_or(Content::Rest)
    }
}
