//! The order of the packets of one stream, and where its source begins anew.
//!
//! Packets overtake each other over TCP as well: recorders and relays swap neighbours (WatchNet). In front
//! of a manager without a jitterbuffer a packet behind a gap waits a little for the missing ones.
//!
//! A source begins anew when its encoder was restarted: its numbers or its times jump, forward, far back, or
//! back by a few; or it changes to another payload type. One packet is no proof, as a relay repeats
//! packets and faults of a sender show in single ones. So the first packet of a new beginning is held until
//! the next one follows it, or follows the old ones. It is mostly of a key picture and is not lost.
//!
//! The core lets another SSRC in only if it is the stream's (`mux/proto/connection/sources.rs`). Where its
//! numbers and times go on, nothing begins anew.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::buffer::Marks;
use crate::mux::{
    Packet,
    proto::wire::rtp::{self, RtpHeader},
};

/// How long a packet behind a gap waits for the missing ones, how many may wait, and the largest gap. A
/// packet that was swapped with its neighbour comes at once, or 64 ms later in a stream of sound.
const MAX_WAIT: Duration = Duration::from_millis(100);
const MAX_WAITING: usize = 32;
const MAX_GAP: u16 = 32;

/// The numbers of so many packets are remembered.
const REMEMBERED: u16 = 128;

/// A packet that is so few places late may have a later RTP time than those before it (B pictures).
const SWAPPED: u16 = 16;

/// After a longer gap a packet needs a stamp of its own. A jitterbuffer that misses more than a minute, by
/// the packet rate that it has estimated, begins anew, and then has no time to start from. This is half
/// of its limit, as it works with an estimate.
const LONG_GAP: Duration = Duration::from_secs(30);

/// A source has begun anew also if its RTP time jumps further than this, while the time of arrival does
/// not.
const JUMP: f64 = 1.0;

/// What the packets of a payload type carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadKind {
    /// The stream's media, with this clock rate in Hz.
    Media(u32),
    /// Something beside the media that shares its numbers: comfort noise, telephone events, error
    /// correction. It never decides what the stream is.
    Beside,
    /// The description does not say.
    Unknown,
}

impl PayloadKind {
    /// The clock rate of media.
    pub(crate) fn clock_rate(self) -> Option<u32> {
        match self {
            Self::Media(rate) => Some(rate),
            Self::Beside | Self::Unknown => None,
        }
    }
}

/// The last packet in order.
#[derive(Clone, Copy, Debug)]
struct LastPacket {
    header: RtpHeader,
    received: Instant,
}

/// How a packet follows the last one in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// It is the next one, or so many are missing before it.
    Next(u16),
    /// It is one of the missing ones.
    Late,
    Repeated,
    /// It belongs to a new beginning, if the next packet follows it.
    Doubtful,
    /// It belongs to a new beginning.
    Anew,
}

/// The packets of one stream.
#[derive(Debug)]
pub(crate) struct Sequencer {
    /// Whether packets behind a gap wait for the missing ones.
    puts_in_order: bool,
    last: Option<LastPacket>,
    /// The payload type of the media, and its clock rate in Hz.
    media: Option<(u8, u32)>,
    /// The RTP times of the last packets, by their numbers.
    times: Box<[Option<u32>; REMEMBERED as usize]>,
    /// Packets behind a gap, in order.
    waiting: VecDeque<Packet>,
    /// The first packet of what may be a new beginning.
    doubtful: Option<(Packet, PayloadKind)>,
    /// RTP time that has passed, over all beginnings.
    passed: f64,
}

impl Sequencer {
    pub(crate) fn new(puts_in_order: bool) -> Self {
        Self {
            puts_in_order,
            last: None,
            media: None,
            times: Box::new([None; REMEMBERED as usize]),
            waiting: VecDeque::new(),
            doubtful: None,
            passed: 0.0,
        }
    }

    /// Takes the next packet for the first one: after a pause, or in a new session.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.puts_in_order);
    }

    /// The number of the last packet in order.
    pub(crate) fn last_number(&self) -> Option<u16> {
        self.last.map(|last| last.header.sequence)
    }

    /// Whether a packet has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// How much media has come, by RTP time.
    pub(crate) fn passed(&self) -> Duration {
        Duration::try_from_secs_f64(self.passed).unwrap_or_default()
    }

    /// When packets that wait are not to wait any more.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.waiting
            .front()
            .map(|packet| packet.received + MAX_WAIT)
    }

    /// Looks at a packet that follows the last one while none waits, as nearly all do: it need not be
    /// taken in to be passed on. `None`: it is to be [taken in](Self::handle_packet).
    pub(crate) fn pass(&mut self, packet: &Packet, kind: PayloadKind) -> Option<Marks> {
        let header = packet.header?;
        if self.doubtful.is_some() || !self.waiting.is_empty() {
            return None;
        }
        // The picture of the last packet goes on.
        if let Some(last) = &mut self.last
            && !packet.discontinuity
            && header
                == (RtpHeader {
                    sequence: last.header.sequence.wrapping_add(1),
                    ..last.header
                })
        {
            last.header = header;
            last.received = packet.received;
            self.remember(header);
            return Some(Marks::default());
        }
        let is_next = self.relation(packet, kind) == Relation::Next(0);
        is_next.then(|| self.note(header, packet, false))
    }

    /// Takes an RTP packet; `kind` is that of its payload type. Adds to `out` the packets whose turn it is.
    pub(crate) fn handle_packet(
        &mut self,
        packet: Packet,
        kind: PayloadKind,
        out: &mut Vec<(Packet, Marks)>,
    ) {
        let Some(header) = packet.header else { return };
        self.give_up_waiting(packet.received, out);
        if let Some((doubtful, its_kind)) = self.doubtful.take() {
            let old = self.relation(&packet, kind);
            if follows(&doubtful, &packet, kind)
                || matches!(old, Relation::Doubtful | Relation::Anew)
            {
                self.begin(doubtful, its_kind, out);
            }
        }
        match self.relation(&packet, kind) {
            Relation::Next(missing) => self.take_next(packet, missing, out),
            Relation::Late if self.puts_in_order => {}
            Relation::Late => {
                self.remember(header);
                out.push((packet, Marks::default()));
            }
            Relation::Repeated => {}
            Relation::Doubtful => {
                self.flush(out);
                self.doubtful = Some((packet, kind));
            }
            Relation::Anew => {
                self.flush(out);
                self.begin(packet, kind, out);
            }
        }
    }

    /// Gives out the packets that have waited for too long.
    pub(crate) fn give_up_waiting(&mut self, now: Instant, out: &mut Vec<(Packet, Marks)>) {
        while self.deadline().is_some_and(|due| due <= now) || self.waiting.len() > MAX_WAITING {
            self.take_first_waiting(out);
        }
    }

    fn flush(&mut self, out: &mut Vec<(Packet, Marks)>) {
        while !self.waiting.is_empty() {
            self.take_first_waiting(out);
        }
    }

    fn take_first_waiting(&mut self, out: &mut Vec<(Packet, Marks)>) {
        if let Some(first) = self.waiting.pop_front() {
            self.accept(first, true, out);
        }
        self.take_waiting_in_order(out);
    }

    fn take_waiting_in_order(&mut self, out: &mut Vec<(Packet, Marks)>) {
        while let (Some(next), Some(last)) = (self.waiting.front(), self.last)
            && next.header.is_some_and(|it| step(last.header, it) == 1)
            && let Some(next) = self.waiting.pop_front()
        {
            self.accept(next, false, out);
        }
    }

    fn take_next(&mut self, packet: Packet, missing: u16, out: &mut Vec<(Packet, Marks)>) {
        let is_known_loss = packet.discontinuity || missing > MAX_GAP || !self.puts_in_order;
        // A jitterbuffer finds small gaps itself, and those that are none.
        let has_gap = missing > MAX_GAP || missing > 0 && self.puts_in_order;
        if missing == 0 || is_known_loss {
            if is_known_loss && missing > 0 {
                self.flush(out);
            }
            self.accept(packet, has_gap, out);
            return self.take_waiting_in_order(out);
        }
        let number = |packet: &Packet| packet.header.map_or(0, |header| header.sequence);
        let own = number(&packet);
        let is_before = |it: &Packet| own.wrapping_sub(number(it)).cast_signed() >= 0;
        let at = self.waiting.iter().rposition(is_before);
        match at {
            Some(at) if number(&self.waiting[at]) == own => {}
            at => self.waiting.insert(at.map_or(0, |at| at + 1), packet),
        }
    }

    /// The packet goes on from the last one.
    fn accept(&mut self, packet: Packet, has_gap: bool, out: &mut Vec<(Packet, Marks)>) {
        let Some(header) = packet.header else { return };
        let marks = self.note(header, &packet, has_gap);
        out.push((packet, marks));
    }

    /// Makes the packet the last one in order.
    fn note(&mut self, header: RtpHeader, packet: &Packet, has_gap: bool) -> Marks {
        let mut marks = Marks {
            discont: packet.discontinuity || has_gap,
            ..Marks::default()
        };
        if let Some(last) = self.last {
            marks.stamp = packet.discontinuity && passed(&last, packet) >= LONG_GAP;
            for skipped in 1..step(last.header, header).min(REMEMBERED) {
                let number = header.sequence.wrapping_sub(skipped);
                self.times[usize::from(number % REMEMBERED)] = None;
            }
            let units = header.timestamp.wrapping_sub(last.header.timestamp);
            if let Some((_, rate)) = self.media
                && units != 0
            {
                self.passed += f64::from(units.cast_signed()) / f64::from(rate);
            }
        }
        self.remember(header);
        self.last = Some(LastPacket {
            header,
            received: packet.received,
        });
        marks
    }

    /// The source begins anew with the packet.
    fn begin(&mut self, packet: Packet, kind: PayloadKind, out: &mut Vec<(Packet, Marks)>) {
        let Some(header) = packet.header else { return };
        let before = self.last.replace(LastPacket {
            header,
            received: packet.received,
        });
        self.times.fill(None);
        self.remember(header);
        if let PayloadKind::Media(rate) = kind {
            self.media = Some((header.payload_type, rate));
        }
        let marks = Marks {
            stamp: before.is_none_or(|before| passed(&before, &packet) >= LONG_GAP),
            discont: true,
            anew: true,
        };
        out.push((packet, marks));
    }

    fn remember(&mut self, header: RtpHeader) {
        self.times[usize::from(header.sequence % REMEMBERED)] = Some(header.timestamp);
    }

    fn relation(&self, packet: &Packet, kind: PayloadKind) -> Relation {
        let (Some(last), Some(header)) = (self.last, packet.header) else {
            return Relation::Anew;
        };
        let is_other = header.ssrc != last.header.ssrc;
        let doubt = match packet.discontinuity || is_other || self.media.is_none() {
            true => Relation::Anew,
            false => Relation::Doubtful,
        };
        let rate = kind.clock_rate();
        let media_type = self.media.map(|(payload_type, _)| payload_type);
        let is_other_type = rate.is_some() && media_type != Some(header.payload_type);
        let step = step(last.header, header);
        if rtp::goes_up(last.header.sequence, header.sequence) && step > 0 {
            return match is_other_type || is_time_jump(&last, packet, rate) {
                _ if is_other && step > MAX_GAP => Relation::Anew,
                true => doubt,
                false => Relation::Next(step - 1),
            };
        }
        let back = step.wrapping_neg();
        // The numbers of a session that has moved may be those of its last packets.
        if back >= REMEMBERED || is_other || packet.discontinuity {
            return doubt;
        }
        let ahead = header.timestamp.wrapping_sub(last.header.timestamp);
        match self.times[usize::from(header.sequence % REMEMBERED)] {
            Some(time) if time == header.timestamp => Relation::Repeated,
            Some(_) => doubt,
            None if back > SWAPPED && ahead.cast_signed() > 0 => doubt,
            None => Relation::Late,
        }
    }
}

/// How far the number of `next` is ahead of that of `before`.
fn step(before: RtpHeader, next: RtpHeader) -> u16 {
    next.sequence.wrapping_sub(before.sequence)
}

fn passed(before: &LastPacket, packet: &Packet) -> Duration {
    packet.received.saturating_duration_since(before.received)
}

/// Whether `next` is the packet behind `first`.
fn follows(first: &Packet, next: &Packet, kind: PayloadKind) -> bool {
    let (Some(one), Some(two)) = (first.header, next.header) else {
        return false;
    };
    let first = LastPacket {
        header: one,
        received: first.received,
    };
    step(one, two) == 1
        && (one.ssrc, one.payload_type) == (two.ssrc, two.payload_type)
        && !is_time_jump(&first, next, kind.clock_rate())
}

/// Whether RTP time does not go on from that of the last packet. It goes back a little where pictures are
/// sent behind those that they refer to.
fn is_time_jump(last: &LastPacket, packet: &Packet, rate: Option<u32>) -> bool {
    let (Some(rate), Some(header)) = (rate, packet.header) else {
        return false;
    };
    let units = header.timestamp.wrapping_sub(last.header.timestamp);
    if units == 0 {
        return false;
    }
    let step = f64::from(units.cast_signed()) / f64::from(rate);
    step.abs() > JUMP && (step - passed(last, packet).as_secs_f64()).abs() > JUMP
}

#[cfg(test)]
mod tests;
