//! Packets that downstream refuses for what is in them: a decoder that a broken parameter set has brought out
//! of step returns an error or "not negotiated", and goes on with the next good one.
//!
//! A refusal is kept from whatever pushed the packet: a jitterbuffer stops for good at the first one. After it
//! the stream rests for a moment, as each refusal may be a message on the bus. What recovers a decoder is
//! pushed all the same. Downstream that refuses everything for some seconds, or whose caps are others, ends
//! the stream.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gstreamer as gst;

use super::relinking::FlowResult;
use crate::rtspsrc::lock;

/// How long downstream gets no packet after it has refused one.
const REST: Duration = Duration::from_millis(100);

/// How long it may refuse all packets.
const MOST: Duration = Duration::from_secs(5);

/// Whether downstream refuses the packets of one pad.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// It has refused the last packet.
    are_there: AtomicBool,
    /// When it refused the first and the last one of a row.
    row: Mutex<Option<(Instant, Instant)>>,
}

impl Refusals {
    /// Whether the stream rests, and only what recovers a decoder is pushed.
    pub(crate) fn rests(&self, now: impl FnOnce() -> Instant) -> bool {
        let is_soon = |(_, last)| now().saturating_duration_since(last) < REST;
        self.are_there.load(Ordering::Relaxed) && lock(&self.row).is_some_and(is_soon)
    }

    /// A packet was pushed. `is_wanted` tells whether downstream takes its caps. Returns the result as the one who
    /// pushed is to have it.
    pub(crate) fn on_pushed(
        &self,
        flow: FlowResult,
        now: impl FnOnce() -> Instant,
        is_wanted: impl FnOnce() -> bool,
    ) -> FlowResult {
        let Err(gst::FlowError::NotNegotiated | gst::FlowError::Error) = flow else {
            if self.are_there.swap(false, Ordering::Relaxed) {
                *lock(&self.row) = None;
            }
            return flow;
        };
        let last = now();
        self.are_there.store(true, Ordering::Relaxed);
        let mut row = lock(&self.row);
        let first = row.map_or(last, |(first, _)| first);
        *row = Some((first, last));
        drop(row);
        match last.saturating_duration_since(first) < MOST && is_wanted() {
            true => Ok(gst::FlowSuccess::Ok),
            false => flow,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any time will do")]

    use super::*;

    const REFUSED: FlowResult = Err(gst::FlowError::NotNegotiated);
    const TAKEN: FlowResult = Ok(gst::FlowSuccess::Ok);

    #[test]
    fn f51_a_stream_rests_after_a_refusal_and_ends_where_everything_is_refused() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let push = |at, flow| refusals.on_pushed(flow, || start + at, || true);
        let rests = |at| refusals.rests(|| start + at);
        assert!(push(Duration::ZERO, TAKEN).is_ok() && !rests(Duration::ZERO));
        assert_eq!(push(Duration::ZERO, REFUSED), TAKEN);
        assert!(rests(REST / 2) && !rests(REST));
        assert_eq!(push(MOST - REST, REFUSED), TAKEN);
        assert!(rests(MOST - REST));
        assert_eq!(push(MOST - REST, TAKEN), TAKEN);
        assert!(!rests(MOST - REST));
        assert_eq!(push(MOST, REFUSED), TAKEN);
        assert_eq!(push(MOST * 2, REFUSED), REFUSED);
    }

    #[test]
    fn where_downstream_has_other_caps_or_flows_no_more_it_is_said_at_once() {
        let refusals = Refusals::default();
        let push = |flow, is_wanted| refusals.on_pushed(flow, Instant::now, || is_wanted);
        assert_eq!(push(REFUSED, false), REFUSED);
        let flushing = Err(gst::FlowError::Flushing);
        assert_eq!(push(flushing, true), flushing);
    }
}
