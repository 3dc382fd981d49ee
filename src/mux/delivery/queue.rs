//! The packets that wait for one consumer, and which of them are dropped where there is no room. No
//! locks, no wakers.

use std::collections::VecDeque;

use super::{
    Packet,
    budget::BudgetAccount,
    stream::{PacketAdmission, Stream},
};
use crate::mux::{
    config::OverflowPolicy,
    proto::{MediaStream, PacketKind},
    stats::StreamCount,
};

/// The caps of one consumer's queue. Whichever is reached first.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;
/// About 2 s of a 16 Mbit/s camera in packets of 500 bytes. There is no limit in time: a recorder whose
/// disk stalls for 5 s is to lose nothing that fits here.
pub(super) const MAX_PACKETS: usize = 8192;

/// RTCP is small and rare, and synchronisation depends on it: it has a cap of its own.
pub(super) const MAX_REPORTS: usize = 256;
const MAX_REPORT_BYTES: usize = 64 * 1024;

/// If more packets than this wait before a batch comes, its payloads are copied out of their read
/// chunk. A consumer that keeps up gets slices without a copy, even of a whole key picture at once.
/// A consumer that does not keep up would pin 64 KiB with each packet of 1.4 kB.
pub(super) const COPY_BEYOND: usize = 32;

/// The most packets of other streams between two of one access unit for which all of the unit is
/// found.
const INTERLEAVED: usize = 256;

/// A number of packets and their bytes.
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
    account: BudgetAccount,
    /// More packets waited before this batch than a consumer that keeps up leaves.
    is_behind: bool,
    /// Something was taken since the last call of `take_was_taken`.
    was_taken: bool,
    /// The consumer is gone.
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(policy: OverflowPolicy, account: BudgetAccount) -> Self {
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

    /// Sets the media of the streams, without which pictures cannot be told apart.
    pub(super) fn describe(&mut self, streams: &[MediaStream]) {
        for (number, media) in streams.iter().enumerate() {
            self.stream_mut(number).describe(media);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True if the driver should stop reading, with [`OverflowPolicy::Block`].
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

    /// The next RTP packet taken from a stream follows those of another session.
    pub(super) fn begin_anew(&mut self, number: usize) {
        self.stream_mut(number).begin_anew();
    }

    /// True if an RTP packet waits.
    pub(super) fn has_media(&self) -> bool {
        self.media.packets > 0
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Queues the packets of one read, makes room for them, or drops and counts them. Returns their
    /// bytes.
    pub(super) fn push_all(&mut self, packets: &mut VecDeque<Packet>) -> usize {
        let bytes = packets.iter().map(|packet| packet.payload.len()).sum();
        if self.is_plain(packets, bytes) && self.account.try_draw(bytes) {
            self.push_whole(packets, bytes);
            return bytes;
        }
        self.is_behind = self.waiting.len() >= COPY_BEYOND;
        self.account.draw_ahead(bytes);
        packets.drain(..).for_each(|packet| self.push(packet));
        self.account.give_back_rest();
        bytes
    }

    /// True if no packet of a batch needs a decision, and the consumer keeps up.
    fn is_plain(&self, packets: &VecDeque<Packet>, bytes: usize) -> bool {
        let is_flowing = |number| self.streams.get(number).is_some_and(Stream::is_flowing);
        self.waiting.is_empty()
            && !self.is_closed
            && packets.len() <= MAX_PACKETS
            && bytes <= MAX_BYTES
            && packets
                .iter()
                .all(|packet| is_media(packet) && is_flowing(packet.stream))
    }

    /// Queues a plain batch for which room was reserved: no packet is moved.
    fn push_whole(&mut self, packets: &mut VecDeque<Packet>, bytes: usize) {
        for packet in &*packets {
            let stream = self.stream_mut(packet.stream);
            stream.count.on_received(packet);
            stream.note(packet);
        }
        let packets_read = packets.len();
        self.media.add(Load {
            packets: packets_read,
            bytes,
        });
        std::mem::swap(&mut self.waiting, packets);
    }

    /// True if something was taken since the last call.
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

    /// Hands over all packets; false if there are none.
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

    /// Counts packets of a stream that cannot be queued.
    pub(super) fn note_undescribed(&mut self, stream: usize, payload_type: u8, count: u64) {
        let counts = &mut self.stream_mut(stream).count;
        counts.undescribed = counts.undescribed.saturating_add(count);
        counts.undescribed_type = Some(payload_type);
    }

    /// From now on nothing is queued; packets that wait can still be taken.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        for number in 0..self.streams.len() {
            self.discard_held(number);
        }
    }

    /// The consumer is gone: the packets that wait, and `taken`, count as dropped.
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

    /// True if the session's own caps leave room for RTP.
    #[inline]
    fn has_room(&self, more: Load) -> bool {
        // With `Block` the driver stops reading by itself; what it has read until then must be queued.
        self.policy == OverflowPolicy::Block
            || self.media.with(more).is_within(MAX_PACKETS, MAX_BYTES)
    }

    /// Reserves the room, also in the budgets of connection and process.
    fn reserve(&mut self, more: Load) -> bool {
        self.has_room(more) && self.account.try_draw(more.bytes)
    }

    /// Queues a packet for which room was reserved.
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

    /// Removes a packet from the queue, and counts it as dropped.
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

    /// The newest report is worth most: where too many wait, the oldest is dropped.
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
    /// Moves a stream, with its packets that wait, into a new queue.
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

    /// Takes a stream back with its packets that wait, even if they exceed the caps.
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

/// Packets that do not fit are dropped, in whole access units.
impl Queue {
    #[inline]
    fn push_in_turn(&mut self, packet: Packet) {
        let (number, load) = (packet.stream, Load::of(&packet));
        let has_room = self.has_room(load);
        match self.stream_mut(number).admit(&packet, has_room) {
            PacketAdmission::Follow => match has_room && self.account.try_draw(load.bytes) {
                true => self.enqueue(packet),
                false => self.begin_gap(packet),
            },
            PacketAdmission::Resume => self.resume(packet),
            PacketAdmission::Hold => {
                for refused in self.stream_mut(number).hold(packet) {
                    self.discard(&refused);
                }
            }
            PacketAdmission::Drop => {
                self.discard_held(number);
                self.discard(&packet);
            }
        }
    }

    /// `packet` is the first one that does not fit. The queued part of its access unit would be a
    /// broken picture, so it is dropped too, unless the queue holds nothing of the picture yet.
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

    /// Takes out the queued packets of an access unit, if it is the newest of the stream.
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

    /// Lets the stream go on with its held packets and `packet`, if there is room for all of them.
    fn resume(&mut self, mut packet: Packet) {
        let number = packet.stream;
        let held = self.stream_mut(number).held().iter().map(Load::of);
        let load = held.fold(Load::of(&packet), Load::with);
        if !self.reserve(load) {
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

/// The oldest packets make room, in whole access units.
impl Queue {
    fn push_newest(&mut self, packet: Packet) {
        let (number, load) = (packet.stream, Load::of(&packet));
        match self.stream_mut(number).admit(&packet, true) {
            PacketAdmission::Drop | PacketAdmission::Hold => return self.discard(&packet),
            PacketAdmission::Resume => self.stream_mut(number).on_resumed(),
            PacketAdmission::Follow => {}
        }
        while !self.reserve(load) {
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

    /// Drops the access unit that has waited longest, and returns which one it was.
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
