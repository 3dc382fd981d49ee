//! What waits for one consumer, and who has to go where there is no room. No locks, no wakers.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    Packet,
    budget::Account,
    stream::{Admission, Stream, StreamCount},
};
use crate::mux::{
    config::OverflowPolicy,
    proto::{MediaStream, PacketKind},
};

/// What may wait for one consumer. Whichever is reached first.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;
/// About 2 s of a 16 Mbit/s camera in packets of 500 bytes.
pub(super) const MAX_PACKETS: usize = 8192;
/// What is older is of no use to a live pipeline.
pub(super) const MAX_AGE: Duration = Duration::from_secs(2);

/// RTCP is small, rare and what synchronisation hangs on: it has a place of its own.
pub(super) const MAX_REPORTS: usize = 256;
const MAX_REPORT_BYTES: usize = 64 * 1024;

/// Packets waiting, before a batch comes, beyond which the payloads in it are copied out of their
/// read chunk. A consumer that keeps up gets slices, for which nothing is copied, and be it a whole
/// key picture at once; one that does not would pin 64 KiB with each 1.4 kB.
pub(super) const COPY_BEYOND: usize = 32;

/// Packets of other streams between those of one access unit, within which all of it is found.
const INTERLEAVED: usize = 256;

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    packets: usize,
    bytes: usize,
}

impl Load {
    fn of(packet: &Packet) -> Self {
        Self {
            packets: 1,
            bytes: packet.payload.len(),
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
        }
    }

    fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }

    fn subtract(&mut self, other: Self) {
        self.packets -= other.packets;
        self.bytes -= other.bytes;
    }

    fn is_within(self, packets: usize, bytes: usize) -> bool {
        self.packets <= packets && self.bytes <= bytes
    }
}

/// The queue of one session.
#[derive(Debug)]
pub(super) struct Queue {
    policy: OverflowPolicy,
    waiting: VecDeque<Packet>,
    media: Load,
    reports: Load,
    streams: Vec<Stream>,
    account: Account,
    /// More waited before this batch than a consumer leaves that keeps up.
    is_behind: bool,
    /// Something was taken, and nobody has asked yet.
    was_taken: bool,
    /// Nobody takes anything any more.
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(policy: OverflowPolicy, account: Account) -> Self {
        Self {
            policy,
            waiting: VecDeque::new(),
            media: Load::default(),
            reports: Load::default(),
            streams: Vec::new(),
            account,
            is_behind: false,
            was_taken: false,
            is_closed: false,
        }
    }

    /// What the streams carry: without it no picture is known from another one.
    pub(super) fn describe(&mut self, streams: &[MediaStream]) {
        for (number, media) in streams.iter().enumerate() {
            self.stream_mut(number).describe(media);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether whoever fills it should stop, with [`OverflowPolicy::Block`].
    pub(super) fn is_blocking(&self) -> bool {
        self.policy == OverflowPolicy::Block
            && !self.is_closed
            && (self.media.packets >= MAX_PACKETS || self.media.bytes >= MAX_BYTES)
    }

    pub(super) fn counts(&self) -> Vec<StreamCount> {
        self.streams.iter().map(|stream| stream.count).collect()
    }

    pub(super) fn count(&self, number: usize) -> Option<StreamCount> {
        self.streams.get(number).map(|stream| stream.count)
    }

    /// The next RTP packet that is taken of a stream follows another session's.
    pub(super) fn begin_anew(&mut self, number: usize) {
        self.stream_mut(number).begin_anew();
    }

    /// Whether an RTP packet waits.
    pub(super) fn has_media(&self) -> bool {
        self.media.packets > 0
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Queues the packets that were read together, or makes room for them, or drops and counts them.
    /// Gives their bytes.
    pub(super) fn push_all(&mut self, packets: &mut Vec<Packet>) -> usize {
        self.is_behind = self.waiting.len() >= COPY_BEYOND;
        let bytes = packets.iter().map(|packet| packet.payload.len()).sum();
        self.account.draw_ahead(bytes);
        match self.is_plain(packets, bytes) && self.account.try_draw_ahead(bytes) {
            true => self.push_whole(packets, bytes),
            false => packets.drain(..).for_each(|packet| self.push(packet)),
        }
        self.account.give_back_rest();
        bytes
    }

    /// Whether nothing is to be decided about any packet of a batch, whose consumer keeps up.
    fn is_plain(&self, packets: &[Packet], bytes: usize) -> bool {
        let is_flowing = |number| self.streams.get(number).is_some_and(Stream::is_flowing);
        self.waiting.is_empty()
            && !self.is_closed
            && packets.len() <= MAX_PACKETS
            && bytes <= MAX_BYTES
            && packets
                .iter()
                .all(|packet| is_media(packet) && is_flowing(packet.stream))
    }

    /// Queues a batch that is plain, and for which room was reserved: no packet is moved.
    fn push_whole(&mut self, packets: &mut Vec<Packet>, bytes: usize) {
        for packet in &*packets {
            let stream = self.stream_mut(packet.stream);
            stream.count.on_received(packet);
            stream.admit(packet, true);
        }
        let packets_read = packets.len();
        self.media.add(Load {
            packets: packets_read,
            bytes,
        });
        let waiting = VecDeque::from(std::mem::take(packets));
        *packets = std::mem::replace(&mut self.waiting, waiting).into();
    }

    /// Whether something was taken since this was asked last.
    pub(super) fn take_was_taken(&mut self) -> bool {
        std::mem::take(&mut self.was_taken)
    }

    /// Queues a packet, or makes room for it, or drops and counts it.
    #[inline]
    fn push(&mut self, packet: Packet) {
        self.stream_mut(packet.stream).count.on_received(&packet);
        if self.is_closed {
            return self.discard(&packet);
        }
        match (packet.kind, self.policy) {
            (PacketKind::Rtcp, _) => self.push_report(packet),
            (PacketKind::Rtp, OverflowPolicy::DropOldest) => self.push_newest(packet),
            (PacketKind::Rtp, OverflowPolicy::DropToKeyframe | OverflowPolicy::Block) => {
                self.push_in_turn(packet);
            }
        }
    }

    /// Hands over everything; false if there is nothing.
    pub(super) fn take(&mut self, taken: &mut VecDeque<Packet>) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        std::mem::swap(&mut self.waiting, taken);
        self.was_taken = true;
        self.media = Load::default();
        self.reports = Load::default();
        self.account.give_back_all();
        for (number, stream) in self.streams.iter_mut().enumerate() {
            let is_next = |packet: &&mut Packet| is_media_of(packet, number);
            if stream.is_gap_ahead()
                && let Some(next) = taken.iter_mut().find(is_next)
            {
                stream.on_gap_passed();
                next.discontinuity = true;
            }
        }
        true
    }

    /// So many packets of a stream came that cannot be queued.
    pub(super) fn note_undescribed(&mut self, stream: usize, payload_type: u8, count: u64) {
        let counts = &mut self.stream_mut(stream).count;
        counts.undescribed = counts.undescribed.saturating_add(count);
        counts.undescribed_type = payload_type;
    }

    /// Nothing more is queued; what waits can still be taken.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        for number in 0..self.streams.len() {
            self.discard_held(number);
        }
    }

    /// Nobody takes anything any more: what waits, and `taken`, counts as dropped.
    pub(super) fn abandon(&mut self, taken: &VecDeque<Packet>) {
        self.close();
        let waiting = std::mem::take(&mut self.waiting);
        for packet in waiting.iter().chain(taken) {
            self.discard(packet);
        }
        self.media = Load::default();
        self.reports = Load::default();
        self.account.give_back_all();
    }

    fn stream_mut(&mut self, number: usize) -> &mut Stream {
        if self.streams.len() <= number {
            self.streams.resize_with(number + 1, Stream::default);
        }
        &mut self.streams[number]
    }

    fn discard(&mut self, packet: &Packet) {
        self.stream_mut(packet.stream).count.on_dropped(packet);
    }

    fn discard_held(&mut self, number: usize) {
        for packet in self.stream_mut(number).take_held() {
            self.discard(&packet);
        }
    }

    /// Whether the session's own caps leave room for RTP.
    #[inline]
    fn has_room(&self, more: Load, received: Instant) -> bool {
        if self.policy == OverflowPolicy::Block {
            // Whoever fills it stops by itself; what it has read by then has to go somewhere.
            return true;
        }
        let oldest = self.waiting.iter().find(|packet| is_media(packet));
        let age = oldest.map(|oldest| received.saturating_duration_since(oldest.received));
        self.media.with(more).is_within(MAX_PACKETS, MAX_BYTES)
            && age.is_none_or(|age| age <= MAX_AGE)
    }

    /// Takes the room, also of what connection and process share.
    fn reserve(&mut self, more: Load, received: Instant) -> bool {
        self.has_room(more, received) && self.account.try_draw(more.bytes)
    }

    /// For which room was reserved.
    #[inline]
    fn enqueue(&mut self, mut packet: Packet) {
        if self.is_behind {
            packet.detach();
        }
        self.load_mut(packet.kind).add(Load::of(&packet));
        self.waiting.push_back(packet);
    }

    #[inline]
    fn load_mut(&mut self, kind: PacketKind) -> &mut Load {
        match kind {
            PacketKind::Rtp => &mut self.media,
            PacketKind::Rtcp => &mut self.reports,
        }
    }

    /// What is taken back out of the queue counts as dropped.
    fn remove(&mut self, at: usize) {
        if let Some(packet) = self.waiting.remove(at) {
            self.release(&packet);
            self.discard(&packet);
        }
    }

    fn release(&mut self, packet: &Packet) {
        self.load_mut(packet.kind).subtract(Load::of(packet));
        self.account.give_back(packet.payload.len());
    }

    /// The newest report is worth most: where too many wait, the oldest goes.
    fn push_report(&mut self, packet: Packet) {
        let load = Load::of(&packet);
        while !self
            .reports
            .with(load)
            .is_within(MAX_REPORTS, MAX_REPORT_BYTES)
        {
            match self.waiting.iter().position(|packet| !is_media(packet)) {
                Some(oldest) => self.remove(oldest),
                None => return self.discard(&packet),
            }
        }
        match self.account.try_draw(load.bytes) {
            true => self.enqueue(packet),
            false => self.discard(&packet),
        }
    }
}

/// A stream may get a queue of its own, and come back.
impl Queue {
    /// Moves a stream, and what waits of it, into another queue.
    pub(super) fn split_off(&mut self, number: usize) -> Self {
        let mut other = Self::new(self.policy, self.account.another());
        *other.stream_mut(number) = std::mem::take(self.stream_mut(number));
        let (own, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|packet| packet.stream == number);
        self.waiting = rest;
        for packet in own {
            let load = Load::of(&packet);
            self.load_mut(packet.kind).subtract(load);
            other.load_mut(packet.kind).add(load);
            self.account.hand_over(load.bytes, &mut other.account);
            other.waiting.push_back(packet);
        }
        other
    }

    /// Takes a stream back, with what waits of it, even if that is more than has room.
    pub(super) fn join(&mut self, number: usize, mut other: Self) {
        *self.stream_mut(number) = std::mem::take(other.stream_mut(number));
        self.media.add(other.media);
        self.reports.add(other.reports);
        other
            .account
            .hand_over(other.media.bytes + other.reports.bytes, &mut self.account);
        self.waiting.append(&mut other.waiting);
    }
}

/// What does not fit is dropped, whole access units of it.
impl Queue {
    #[inline]
    fn push_in_turn(&mut self, packet: Packet) {
        let (number, load) = (packet.stream, Load::of(&packet));
        let has_room = self.has_room(load, packet.received);
        match self.stream_mut(number).admit(&packet, has_room) {
            Admission::Follow => match has_room && self.account.try_draw(load.bytes) {
                true => self.enqueue(packet),
                false => self.begin_gap(packet),
            },
            Admission::Resume => self.resume(packet),
            Admission::Hold => {
                for refused in self.stream_mut(number).hold(packet) {
                    self.discard(&refused);
                }
            }
            Admission::Drop => {
                self.discard_held(number);
                self.discard(&packet);
            }
        }
    }

    /// `packet` is the first one that does not fit. What is queued of its access unit would be a
    /// broken picture, so it goes as well, unless nothing of the picture has come yet.
    fn begin_gap(&mut self, packet: Packet) {
        let mut cut = self.take_tail(packet.stream, packet.unit());
        let to_keyframe = self.policy == OverflowPolicy::DropToKeyframe;
        let stream = self.stream_mut(packet.stream);
        stream.count.overflows += 1;
        stream.cut(&packet, to_keyframe);
        cut.push(packet);
        let is_ahead = cut.iter().all(|packet| stream.is_ahead(packet));
        for packet in cut {
            let refused = match is_ahead {
                true => self.stream_mut(packet.stream).hold(packet),
                false => vec![packet],
            };
            refused.iter().for_each(|packet| self.discard(packet));
        }
    }

    /// Takes out what waits of an access unit, if it is the one that came last of the stream.
    fn take_tail(&mut self, number: usize, unit: Option<u32>) -> Vec<Packet> {
        let is_earlier = |packet: &Packet| is_media_of(packet, number) && !packet.is_of_unit(unit);
        let keep = self.waiting.iter().rposition(is_earlier);
        let tail = self.waiting.split_off(keep.map_or(0, |last| last + 1));
        let (cut, others): (Vec<Packet>, Vec<Packet>) = tail
            .into_iter()
            .partition(|packet| is_media_of(packet, number));
        self.waiting.extend(others);
        cut.iter().for_each(|packet| self.release(packet));
        cut
    }

    /// The stream may go on with what was held of it and `packet`, if there is room for all of that.
    fn resume(&mut self, mut packet: Packet) {
        let number = packet.stream;
        let held = self.stream_mut(number).held().iter().map(Load::of);
        let load = held.fold(Load::of(&packet), Load::with);
        if !self.reserve(load, packet.received) {
            self.discard_held(number);
            self.stream_mut(number).on_refused(&packet);
            return self.discard(&packet);
        }
        let mut held = self.stream_mut(number).take_held();
        self.stream_mut(number).on_resumed();
        held.first_mut().unwrap_or(&mut packet).discontinuity = true;
        held.into_iter().for_each(|packet| self.enqueue(packet));
        self.enqueue(packet);
    }
}

/// What has waited for longest makes room, whole access units of it.
impl Queue {
    fn push_newest(&mut self, packet: Packet) {
        let (number, load) = (packet.stream, Load::of(&packet));
        match self.stream_mut(number).admit(&packet, true) {
            Admission::Drop | Admission::Hold => return self.discard(&packet),
            Admission::Resume => self.stream_mut(number).on_resumed(),
            Admission::Follow => {}
        }
        while !self.reserve(load, packet.received) {
            let dropped = self.drop_oldest();
            // The packet's own access unit has lost its beginning.
            if dropped.is_none_or(|(of, unit)| of == number && packet.is_of_unit(unit)) {
                let stream = self.stream_mut(number);
                stream.cut(&packet, false);
                stream.on_gap_ahead();
                return self.discard(&packet);
            }
        }
        self.enqueue(packet);
    }

    /// Drops the access unit that has waited for longest; tells which one.
    fn drop_oldest(&mut self) -> Option<(usize, Option<u32>)> {
        let mut at = self.waiting.iter().position(is_media)?;
        let oldest = &self.waiting[at];
        let (number, unit) = (oldest.stream, oldest.unit());
        self.remove(at);
        let last = at + INTERLEAVED;
        while let Some(packet) = self.waiting.get(at).filter(|_| at < last) {
            match is_media_of(packet, number) {
                true if packet.is_of_unit(unit) => self.remove(at),
                true => break,
                false => at += 1,
            }
        }
        self.stream_mut(number).on_gap_ahead();
        Some((number, unit))
    }
}

fn is_media(packet: &Packet) -> bool {
    packet.kind == PacketKind::Rtp
}

fn is_media_of(packet: &Packet, number: usize) -> bool {
    is_media(packet) && packet.stream == number
}

#[cfg(test)]
pub(super) mod tests;
