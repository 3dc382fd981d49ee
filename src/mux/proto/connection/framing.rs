//! Losses of framing: bytes that belong to nothing, and frames that are shorter than they say.
//!
//! Cameras are reported that send stray bytes between frames every two seconds, for hours (Canon
//! VB-H47). As long as the next frame is found at once that costs next to nothing, so losses are not
//! counted; only the way to the next frame is bounded, by [`Limits::resync`] and [`Timeouts::resync`].
//!
//! The frame before a loss tells whose it is: a recorder passes a camera's stray bytes on behind that
//! camera's frames, and a frame that was cut is the last one before its successor's bytes are found
//! where no frame begins. Stray bytes may also come before a camera's frames: then the frame that is found
//! behind them tells. What follows from that is decided outside, see
//! [`poll_framing_loss`](Connection::poll_framing_loss).
//!
//! [`Limits::resync`]: crate::mux::proto::Limits::resync
//! [`Timeouts::resync`]: crate::mux::proto::Timeouts::resync

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Connection, Timer};
use crate::mux::proto::{
    command::SessionKey,
    event::{CloseReason, FramingLoss},
};

/// Losses so soon after another one are the same: stray bytes may look like a frame, whose end is then
/// in the middle of something else.
const SAME_LOSS: Duration = Duration::from_millis(50);

/// Losses that are kept until the driver polls them, which it does after each read.
const MOST_KEPT: usize = 16;

/// Longest gap between two reads that counts as bytes arriving: after a stall of the link bytes come
/// in bulk.
const LONGEST_GAP: Duration = Duration::from_secs(3);

/// The same between two drops of a drip, which come however well the link is.
const LONGEST_GAP_OF_DRIP: Duration = Duration::from_secs(6);

/// The shortest RTCP packet. Shorter payloads are what single bytes look like behind half a frame
/// header.
const SHORTEST_PAYLOAD: usize = 8;

/// A drop of a drip: so few bytes, after so long. A slow link brings more.
const DROP: usize = 16;
const SHORTEST_GAP: Duration = Duration::from_millis(200);

/// So few bytes end a unit by chance. More do so behind another drop only: the first ones after a stall
/// of the link may be the rest of a short frame.
const SMALL_DROP: usize = 4;

/// How long a drip is suffered. With drops up to 6 s apart, the first one later than this comes within
/// 12 s.
const DRIP_PATIENCE: Duration = Duration::from_secs(8);

#[derive(Debug, Default)]
pub(super) struct Framing {
    /// Channel of the frame with RTP or RTCP that came last; none if a message came behind it. What
    /// holds neither may be stray bytes.
    last_frame: Option<u8>,
    last_loss: Option<Instant>,
    /// The loss that is under way, with the owner of the frame that came before it, if it is told.
    under_way: Option<Option<SessionKey>>,
    losses: VecDeque<FramingLoss>,
    /// Since a unit began that is incomplete or framing was lost, and nothing whole has come: how long
    /// bytes arrived.
    stalled: Option<Duration>,
    /// Bytes left by the last read.
    left: usize,
    /// It ended in the middle of a unit.
    is_mid_unit: bool,
}

impl Framing {
    pub(super) fn on_frame(&mut self, channel: u8) {
        self.last_frame = Some(channel);
    }

    pub(super) fn on_message(&mut self) {
        self.last_frame = None;
    }

    pub(super) fn is_mid_unit(&self) -> bool {
        self.is_mid_unit
    }
}

/// Whether a frame shows that the connection is understood: it holds RTP or RTCP, of any session.
pub(super) fn is_sound(payload: &[u8]) -> bool {
    payload.len() >= SHORTEST_PAYLOAD && payload.first().is_some_and(|first| first >> 6 == 2)
}

impl Connection {
    /// The next loss of framing, once the bytes up to the next frame have been skipped. Of losses within a moment only the first is told.
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

    /// The next frame or message is found, and begins like this.
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

    /// Bytes came and are nothing. Where nothing has come since, the next frame of a session that plays
    /// may be the one that is found.
    pub(super) fn on_resync_due(&mut self, now: Instant) {
        let wait = self.config.timeouts.resync;
        let is_quiet = now.saturating_duration_since(self.last_byte) >= wait;
        let mut sessions = self.sessions.values();
        if is_quiet && sessions.any(|session| session.is_playing()) {
            return self.timers.set(Timer::Resync, now + wait);
        }
        self.lose(CloseReason::Protocol(
            "framing was lost and not found again",
        ));
    }

    /// How many bytes have come since the last call.
    pub(super) fn count_new(&mut self, unread: usize) -> usize {
        unread.saturating_sub(self.framing.left)
    }

    /// Fault F35: a unit that has begun must be complete in time. Only time in which bytes arrive
    /// counts: a stall of the whole link is no offence. What a drip may make of half a unit - padding,
    /// an empty frame, at last a whole one - is no end of it (fault F42).
    pub(super) fn watch_unit(&mut self, read: Read) {
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
            return;
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
    }
}

/// What came with one read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    /// Since the one before.
    pub(super) quiet: Duration,
    /// Bytes.
    pub(super) new: usize,
    /// Units that show that the connection is understood.
    pub(super) sound: u32,
    /// Bytes that are left.
    pub(super) left: usize,
    /// They are the beginning of a unit, or what follows them is its end.
    pub(super) is_mid_unit: bool,
}
