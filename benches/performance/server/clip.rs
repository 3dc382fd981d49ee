//! Access units as interleaved RTP packets (RFC 6184), made once; a session writes its own channel,
//! numbers and times into a copy.

use std::path::Path;

use crate::Outcome;

/// Payload of an RTP packet at most: what fits an Ethernet frame.
const PAYLOAD: usize = 1400;
/// `$`, channel, length.
const INTERLEAVED: usize = 4;
const HEADER: usize = 12;
pub(super) const PAYLOAD_TYPE: u8 = 96;

pub(super) struct Clip {
    frames: Vec<Frame>,
    /// Parameter sets, for the description.
    parameters: Vec<Vec<u8>>,
}

/// An access unit.
#[derive(Default)]
struct Frame {
    bytes: Vec<u8>,
    /// Where its packets begin.
    packets: Vec<usize>,
}

/// What a session writes into its packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) channel: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
}

impl Clip {
    pub(super) fn read(file: &Path) -> Outcome<Self> {
        let bytes = std::fs::read(file)?;
        let mut clip = Self {
            frames: Vec::new(),
            parameters: Vec::new(),
        };
        let mut rest = bytes.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let (unit, after) = after
                .split_at_checked(length)
                .ok_or("a clip that is cut off")?;
            clip.add(unit);
            rest = after;
        }
        if clip.frames.is_empty() || clip.parameters.len() < 2 {
            return Err("a clip without pictures or parameter sets".into());
        }
        Ok(clip)
    }

    fn add(&mut self, unit: &[u8]) {
        let units = nal_units(unit);
        if self.parameters.is_empty() {
            let parameters = units.iter().filter(|unit| matches!(unit[0] & 0x1F, 7 | 8));
            self.parameters = parameters.map(|unit| unit.to_vec()).collect();
        }
        let mut frame = Frame::default();
        for (index, unit) in units.iter().enumerate() {
            frame.add(unit, index + 1 == units.len());
        }
        self.frames.push(frame);
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Appends an access unit's packets, stamped; gives how many they are.
    pub(super) fn write(&self, frame: usize, stamp: Stamp, out: &mut Vec<u8>) -> u16 {
        let frame = &self.frames[frame % self.frames.len()];
        let start = out.len();
        out.extend_from_slice(&frame.bytes);
        let mut sequence = stamp.sequence;
        for packet in &frame.packets {
            let packet = &mut out[start + packet..];
            packet[1] = stamp.channel;
            let header = &mut packet[INTERLEAVED..INTERLEAVED + HEADER];
            header[2..4].copy_from_slice(&sequence.to_be_bytes());
            header[4..8].copy_from_slice(&stamp.timestamp.to_be_bytes());
            header[8..12].copy_from_slice(&stamp.ssrc.to_be_bytes());
            sequence = sequence.wrapping_add(1);
        }
        frame.packets.len() as u16
    }

    pub(super) fn description(&self) -> String {
        let sets: Vec<String> = self.parameters.iter().map(|set| base64(set)).collect();
        let level: String = self.parameters[0]
            .iter()
            .skip(1)
            .take(3)
            .map(|byte| format!("{byte:02X}"))
            .collect();
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=load\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
             m=video 0 RTP/AVP {PAYLOAD_TYPE}\r\na=rtpmap:{PAYLOAD_TYPE} H264/90000\r\n\
             a=fmtp:{PAYLOAD_TYPE} packetization-mode=1;profile-level-id={level};\
             sprop-parameter-sets={}\r\na=control:video\r\n",
            sets.join(",")
        )
    }
}

impl Frame {
    /// As a packet, or in fragments (RFC 6184 5.8, FU-A).
    fn add(&mut self, unit: &[u8], is_last: bool) {
        if unit.len() <= PAYLOAD {
            return self.packet(&[], unit, is_last);
        }
        let (indicator, kind) = (unit[0] & 0xE0 | 28, unit[0] & 0x1F);
        let pieces = unit[1..].chunks(PAYLOAD - 2);
        let last = pieces.len() - 1;
        for (index, piece) in pieces.enumerate() {
            let start = if index == 0 { 0x80 } else { 0 };
            let end = if index == last { 0x40 } else { 0 };
            self.packet(
                &[indicator, start | end | kind],
                piece,
                is_last && index == last,
            );
        }
    }

    fn packet(&mut self, head: &[u8], payload: &[u8], marker: bool) {
        self.packets.push(self.bytes.len());
        let length = HEADER + head.len() + payload.len();
        self.bytes.extend_from_slice(&[b'$', 0]);
        self.bytes.extend_from_slice(&(length as u16).to_be_bytes());
        let marker = if marker { 0x80 } else { 0 };
        self.bytes.extend_from_slice(&[0x80, marker | PAYLOAD_TYPE]);
        self.bytes.extend_from_slice(&[0; HEADER - 2]);
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(payload);
    }
}

/// What is between the start codes (H.264, annex B), without delimiters.
fn nal_units(bytes: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = (0..bytes.len().saturating_sub(3))
        .filter(|&at| bytes[at..at + 3] == [0, 0, 1])
        .collect();
    starts.push(bytes.len());
    starts
        .windows(2)
        .map(|pair| {
            let unit = &bytes[(pair[0] + 3).min(pair[1])..pair[1]];
            let zeros = unit.iter().rev().take_while(|&&byte| byte == 0).count();
            &unit[..unit.len() - zeros]
        })
        .filter(|unit| unit.first().is_some_and(|head| head & 0x1F != 9))
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes(word);
        for digit in 0..4 {
            let value = word >> (18 - 6 * digit) & 0x3F;
            let is_padding = digit > chunk.len();
            text.push(if is_padding {
                '='
            } else {
                DIGITS[value as usize] as char
            });
        }
    }
    text
}
