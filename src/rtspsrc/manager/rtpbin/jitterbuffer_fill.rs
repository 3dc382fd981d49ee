//! How full the jitterbuffer of rtpbin is.
//!
//! A jitterbuffer takes every packet at once, and lets it out when downstream takes it. In front of a
//! sink that blocks it grows until memory ends, while the session's queue, which has the rules for
//! dropping, stays empty. So the feed pushes no packets while one has been in the jitterbuffer for longer
//! than the latency explains.
//!
//! Some packets never come out: late ones, repeated ones, those of an unknown payload type. They must not
//! count for ever. They are forgotten with the next packet that comes out. If none comes out though the
//! output pad is free, all are forgotten.

use std::{
    collections::VecDeque,
    sync::Mutex,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crate::rtspsrc::lock;

/// How much longer than the latency a packet may be in the jitterbuffer.
const TOLERANCE: Duration = Duration::from_secs(2);

/// The packets of one stream in the jitterbuffer.
#[derive(Debug)]
pub(super) struct JitterbufferFill {
    /// The longest time that a packet may be in it.
    limit: Duration,
    state: Mutex<FillState>,
}

#[derive(Debug, Default)]
struct FillState {
    /// Sequence numbers, and when the packets went in.
    packets: VecDeque<(u16, Instant)>,
    last_out: Option<Instant>,
    waker: Option<Waker>,
}

impl JitterbufferFill {
    pub(super) fn new(latency: Duration) -> Self {
        Self {
            limit: latency + TOLERANCE,
            state: Mutex::default(),
        }
    }

    pub(super) fn on_in(&self, sequence: u16, now: Instant) {
        lock(&self.state).packets.push_back((sequence, now));
    }

    /// A packet came out. All packets that went in before it are forgotten as well.
    pub(super) fn on_out(&self, sequence: u16, now: Instant) {
        let mut state = lock(&self.state);
        state.last_out = Some(now);
        let mut packets = state.packets.iter();
        if let Some(at) = packets.position(|(inside, _)| *inside == sequence) {
            state.packets.drain(..=at);
        }
        let waker = match state.is_older_than(self.limit, now) {
            true => None,
            false => state.waker.take(),
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The jitterbuffer is empty.
    pub(super) fn clear(&self) {
        let waker = {
            let mut state = lock(&self.state);
            state.packets.clear();
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready if more packets may go in. Otherwise it wakes `context` when they may, but not if the
    /// packets in it never come out: ask again from time to time. `is_free` tells whether no push out of
    /// the output pad is under way.
    pub(super) fn poll_room(
        &self,
        context: &mut Context<'_>,
        now: Instant,
        is_free: impl FnOnce() -> bool,
    ) -> Poll<()> {
        if !lock(&self.state).is_older_than(self.limit, now) {
            return Poll::Ready(());
        }
        // Called without the lock, as it adds a probe to a pad.
        let is_free = is_free();
        let mut state = lock(&self.state);
        let age = |last: Instant| now.saturating_duration_since(last);
        if is_free && state.last_out.is_none_or(|last| age(last) >= TOLERANCE) {
            state.packets.clear();
        }
        if !state.is_older_than(self.limit, now) {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl FillState {
    fn is_older_than(&self, limit: Duration, now: Instant) -> bool {
        let oldest = self.packets.front();
        oldest.is_some_and(|(_, at)| now.saturating_duration_since(*at) > limit)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any time will do")]

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn has_room(fill: &JitterbufferFill, now: Instant, is_free: bool) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        fill.poll_room(&mut context, now, || is_free).is_ready()
    }

    #[test]
    fn f33_it_is_full_while_a_packet_stays_longer_than_the_latency_explains() {
        let (fill, start) = (JitterbufferFill::new(S), Instant::now());
        for n in 0..50 {
            fill.on_in(65_530_u16.wrapping_add(n), start + u32::from(n) * S / 10);
        }
        assert!(has_room(&fill, start + 3 * S, false));
        assert!(!has_room(&fill, start + 4 * S, false));
        fill.on_out(65_530, start + 4 * S);
        assert!(!has_room(&fill, start + 4 * S, false));
        // The packets between were late, or came twice.
        fill.on_out(10, start + 4 * S);
        assert!(has_room(&fill, start + 4 * S, false));
    }

    #[test]
    fn packets_that_never_come_out_are_forgotten_if_the_output_is_free() {
        let (fill, start) = (JitterbufferFill::new(S), Instant::now());
        fill.on_in(1, start);
        assert!(!has_room(&fill, start + 60 * S, false));
        assert!(has_room(&fill, start + 60 * S, true));
        fill.on_in(2, start + 60 * S);
        fill.on_in(3, start + 60 * S);
        // Slow, but a packet comes out.
        fill.on_out(2, start + 64 * S);
        assert!(!has_room(&fill, start + 65 * S, true));
    }
}
