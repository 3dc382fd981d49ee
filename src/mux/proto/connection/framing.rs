//! Interleaved frames, and the losses of framing between them.
//!
//! # Losses
//!
//! Bytes that belong to no frame or message, and frames that are shorter than their length.
//!
//! Some cameras send stray bytes between frames every two seconds, for hours (Canon VB-H47). If the
//! next frame is found at once, that costs next to nothing, so the number of losses is not limited.
//! Only the distance to the next frame is, by [`Limits::resync`] and [`Timeouts::resync`].
//!
//! The frame before a loss shows which session caused it: a recorder passes on a camera's stray
//! bytes after that camera's frames, and a frame that was cut is the last one before the loss.
//! Stray bytes may also come before a camera's frames; then the frame found after them shows the
//! session. The pool decides what follows from a loss, see
//! [`poll_framing_loss`](Connection::poll_framing_loss).
//!
//! [`Limits::resync`]: crate::mux::proto::Limits::resync
//! [`Timeouts::resync`]: crate::mux::proto::Timeouts::resync
//!
//! # Frames
//!
//! The table of channels judges each frame. RTP packets with a payload type that the description of their
//! stream does not name (fault F41) are not delivered: a channel that another session had before may
//! bring packets of that session's media. But if a camera sends nothing else, its description is wrong,
//! and the session can report why it gets no media.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{Connection, Timer, route::FrameVerdict};
use crate::mux::proto::{
    command::SessionKey,
    event::{CloseReason, Event, FramingLoss, Packet, Undescribed},
    wire::codec::Lie,
};

/// A loss so soon after another one is the same loss: stray bytes may look like a frame, whose end
/// is then inside the next one.
const SAME_LOSS: Duration = Duration::from_millis(50);

/// The most losses that are kept until the driver polls them, which it does after each read.
const MOST_KEPT: usize = 16;

/// The longest pause between two reads that counts as time in which bytes arrive: after a stall of
/// the network bytes arrive in bulk.
const LONGEST_GAP: Duration = Duration::from_secs(3);

/// The same between two drops of a drip, which arrive slowly on a good network too.
const LONGEST_GAP_OF_DRIP: Duration = Duration::from_secs(6);

/// The shortest RTCP packet. Single bytes after half a frame header look like shorter payloads.
const SHORTEST_PAYLOAD: usize = 8;

/// A drip brings so few bytes at a time, after a pause. A slow network brings more.
const DROP: usize = 16;
const SHORTEST_GAP: Duration = Duration::from_millis(200);

/// So few bytes may complete a unit by chance. More bytes count as a drop only after another drop:
/// the first ones after a stall of the network may be the rest of a short frame.
const SMALL_DROP: usize = 4;

/// How long a unit may take before its length is doubted, and how often it is then examined: a lie holds up
/// all sessions of the connection.
const DOUBT_AFTER: Duration = Duration::from_millis(500);
const DOUBT_EVERY: Duration = Duration::from_millis(200);

/// How long a drip is tolerated. With drops up to 6 s apart, the first one later than this comes
/// within 12 s.
const DRIP_PATIENCE: Duration = Duration::from_secs(8);

#[derive(Debug, Default)]
pub(super) struct Framing {
    /// The channel of the last frame with RTP or RTCP; `None` if a message came after it. Frames
    /// with neither may be stray bytes.
    pub(super) last_frame: Option<u8>,
    last_loss: Option<Instant>,
    /// The present loss, with the session of the frame before it, if that is to be reported.
    under_way: Option<Option<SessionKey>>,
    losses: VecDeque<FramingLoss>,
    /// For how long bytes have arrived since a unit began or framing was lost, without a complete
    /// unit.
    stalled: Option<Duration>,
    /// The unit under way was last doubted after so much of that time.
    doubted: Duration,
    /// The number of bytes that the last read left undecoded.
    left: usize,
    /// The last read ended inside a unit.
    pub(super) is_mid_unit: bool,
}

/// True if a frame holds RTP or RTCP, of any session: then framing is intact.
pub(super) fn is_sound(payload: &[u8]) -> bool {
    payload.len() >= SHORTEST_PAYLOAD && payload.first().is_some_and(|first| first >> 6 == 2)
}

impl Connection {
    /// The next loss of framing, once the bytes up to the next frame were skipped. Of several
    /// losses in quick succession only the first is reported.
    pub fn poll_framing_loss(&mut self) -> Option<FramingLoss> {
        self.framing.losses.pop_front()
    }

    pub(super) fn is_framing_lost(&self) -> bool {
        self.timers.is_set(Timer::Resync)
    }

    pub(super) fn on_framing_lost(&mut self, now: Instant) {
        self.counters.resyncs += 1;
        self.on_unasked(now);
        self.timers
            .set(Timer::Resync, now + self.config.timeouts.resync);
        let is_same = |last: Instant| now.saturating_duration_since(last) < SAME_LOSS;
        if self.framing.last_loss.is_some_and(is_same) {
            return;
        }
        self.framing.last_loss = Some(now);
        let last_frame = self.framing.last_frame;
        self.framing.under_way = Some(last_frame.and_then(|channel| self.channels.owner(channel)));
    }

    /// The next frame or message was found, and begins with these bytes.
    pub(super) fn on_framing_found(&mut self, beginning: &[u8]) {
        self.timers.clear(Timer::Resync);
        let Some(after) = self.framing.under_way.take() else {
            return;
        };
        let before = match beginning {
            [b'$', channel, ..] => self.channels.owner(*channel),
            _ => None,
        };
        if self.framing.losses.len() < MOST_KEPT {
            self.framing.losses.push_back(FramingLoss { after, before });
        }
    }

    /// Bytes arrived and belong to no unit. If nothing has arrived since then, the next frame of a
    /// session that plays may be the one that is found.
    pub(super) fn on_resync_due(&mut self, now: Instant) {
        let wait = self.config.timeouts.resync;
        let is_quiet = now.saturating_duration_since(self.last_byte) >= wait;
        let mut sessions = self.sessions.values();
        if is_quiet && sessions.any(|session| session.is_playing()) {
            return self.timers.set(Timer::Resync, now + wait);
        }
        self.break_off("framing was lost and not found again");
    }

    /// The number of bytes that have arrived since the last call.
    pub(super) fn count_new(&mut self, unread: usize) -> usize {
        unread.saturating_sub(self.framing.left)
    }

    /// Fault F35: a unit that has begun must be complete in time. Only time in which bytes arrive
    /// counts, because a stall of the network is not the server's fault. A drip can complete half a
    /// unit with padding or an empty frame, and even a whole unit: that does not end the watch
    /// (fault F42). True if the unit under way has taken so long that its length is to be doubted.
    pub(super) fn watch_unit(&mut self, read: Read) -> bool {
        let framing = &mut self.framing;
        (framing.left, framing.is_mid_unit) = (read.left, read.is_mid_unit);
        let is_drop = read.new <= DROP && read.quiet >= SHORTEST_GAP;
        let has_waited = framing.stalled.is_some_and(|time| !time.is_zero());
        let is_chance = is_drop && (read.new <= SMALL_DROP || has_waited);
        let is_over = read.sound > 0 && !is_chance;
        let Some(stalled) = framing.stalled.filter(|_| !is_over) else {
            let is_left = is_drop && framing.stalled.is_some();
            let begins = read.is_mid_unit || is_left || self.timers.is_set(Timer::Resync);
            framing.stalled = begins.then_some(Duration::ZERO);
            framing.doubted = Duration::ZERO;
            return false;
        };
        let (longest_gap, patience) = match is_drop {
            true => (LONGEST_GAP_OF_DRIP, DRIP_PATIENCE),
            false => (LONGEST_GAP, self.config.timeouts.message),
        };
        let stalled = stalled + read.quiet.min(longest_gap);
        framing.stalled = Some(stalled);
        if stalled >= patience {
            self.lose(CloseReason::Dead(
                "a message or frame has begun and does not come to an end",
            ));
        }
        let is_due = stalled >= DOUBT_AFTER.max(self.framing.doubted + DOUBT_EVERY);
        if is_due {
            self.framing.doubted = stalled;
        }
        is_due && read.is_mid_unit
    }

    /// Examines the unit under way. True if its length is wrong and decoding goes on behind its beginning.
    pub(super) fn doubt_unit(&mut self, now: Instant, buffer: &mut BytesMut) -> bool {
        let channels = &self.channels;
        let plausible = |channel, first| channels.is_plausible(channel, first);
        let Some(lie) = self.decoder.doubt(buffer, &plausible) else {
            return false;
        };
        if let Lie::Frame(channel) = lie {
            self.framing.last_frame = Some(channel);
            self.on_framing_lost(now);
        }
        true
    }
}

/// The result of one read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    /// The time since the read before it.
    pub(super) quiet: Duration,
    /// The number of bytes read.
    pub(super) new: usize,
    /// Units that show that framing is intact.
    pub(super) sound: u32,
    /// The number of bytes left undecoded.
    pub(super) left: usize,
    /// The bytes left are the beginning of a unit, or the bytes that follow are its end.
    pub(super) is_mid_unit: bool,
}

/// The most streams that are kept until the driver polls them, which it does after each read.
const MOST_UNDESCRIBED: usize = 64;

impl Connection {
    /// The packet in a frame, if no event has to come before it.
    #[inline]
    pub(super) fn on_frame(&mut self, now: Instant, channel: u8, payload: Bytes) -> Option<Packet> {
        match self.channels.judge(channel, &payload, now) {
            FrameVerdict::Deliver(owner) => return self.in_order(owner.packet(payload)),
            FrameVerdict::TakeOver(owner) => {
                let packet = owner.packet(payload);
                self.release_held(channel, &packet);
                return self.in_order(packet);
            }
            FrameVerdict::Hold(owner) => self.hold(now, channel, owner.packet(payload)),
            FrameVerdict::Unknown => {
                self.counters.unknown_frames += 1;
                self.on_unasked(now);
            }
            FrameVerdict::Foreign => self.counters.foreign_frames += 1,
            FrameVerdict::OtherType(found) => {
                self.counters.foreign_frames += 1;
                self.note_undescribed(found);
            }
            FrameVerdict::Quarantined => self.counters.late_frames += 1,
        }
        None
    }

    /// The packet, unless events have to come before it: then it is one of them.
    #[inline]
    fn in_order(&mut self, packet: Packet) -> Option<Packet> {
        if self.events.is_empty() {
            return Some(packet);
        }
        self.events.push_back(Event::Packet(packet));
        None
    }

    /// Packets since the last call that were not delivered because of their payload types.
    pub fn poll_undescribed(&mut self) -> Option<Undescribed> {
        self.undescribed.pop()
    }

    fn note_undescribed(&mut self, found: Undescribed) {
        let mut known = self.undescribed.iter_mut();
        let of = |it: &Undescribed| (it.session, it.stream);
        if let Some(known) = known.find(|it| of(it) == of(&found)) {
            known.payload_type = found.payload_type;
            known.count += found.count;
        } else if self.undescribed.len() < MOST_UNDESCRIBED {
            self.undescribed.push(found);
        }
    }
}
