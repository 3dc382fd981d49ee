//! Samples the health of a connection once in a period, while its sessions play, and counts the RTP
//! packets that the server has left out. Over TCP packets are lost nowhere else.
//!
//! The driver samples only after a read, so a silent connection costs nothing.

use std::time::{Duration, Instant};

use crate::mux::{
    delivery::Budget,
    proto::{
        Measures,
        wire::rtp::{RtpHeader, SequenceTracker},
    },
    stats::{HealthSample, PathInfo},
};

/// How often a connection is sampled.
const PERIOD: Duration = Duration::from_secs(2);

/// Up to this many bytes waiting for consumers are usual. Beyond it packets may be late because of
/// our consumers, not because of the network.
const BEHIND: usize = 4 * 1024 * 1024;

/// Takes samples of one connection.
#[derive(Debug, Default)]
pub(super) struct HealthSampler {
    next: Option<Instant>,
    /// The count at the last sample.
    bytes: u64,
    answers: u64,
    out_of_order: u32,
    since: Option<Instant>,
}

impl HealthSampler {
    /// Takes a sample, if it is time to.
    pub(super) fn sample(
        &mut self,
        now: Instant,
        bytes: u64,
        measures: impl FnOnce() -> (Measures, Option<PathInfo>),
        budget: &Budget,
        take_losses: impl FnOnce(&mut HealthSample),
    ) -> Option<HealthSample> {
        if !self.is_due(now) {
            return None;
        }
        let since = self.since.replace(now);
        let (measures, path) = measures();
        let out_of_order = path.map_or(0, |path| path.out_of_order);
        let is_answered = measures.lone_answers != self.answers;
        let mut sample = HealthSample {
            time: since.map_or_else(Default::default, |since| {
                now.saturating_duration_since(since)
            }),
            bytes: bytes.saturating_sub(self.bytes),
            answer: measures.last_answer.filter(|_| is_answered),
            round_trip: measures.round_trip,
            out_of_order: out_of_order.wrapping_sub(self.out_of_order),
            path,
            is_behind: budget.used() > BEHIND,
            ..HealthSample::default()
        };
        take_losses(&mut sample);
        (self.bytes, self.answers, self.out_of_order) =
            (bytes, measures.lone_answers, out_of_order);
        // The first period has no start, so its sample is dropped.
        since.map(|_| sample)
    }

    /// True once in a period; then the next period begins.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next.is_some_and(|at| now >= at);
        if is_due || self.next.is_none() {
            self.next = Some(now + PERIOD);
        }
        is_due
    }
}

/// The most streams that are tracked; no session has more.
const MOST_STREAMS: usize = 64;

/// Watches the sequence numbers of one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Sequence {
    ssrc: u32,
    tracker: SequenceTracker,
    /// Packets came since the last call of `take`.
    is_heard: bool,
    /// Packets came since the last call of `take` or before it. A stream that was paused may go on
    /// with any sequence number.
    is_known: bool,
}

impl Sequence {
    /// Returns how many packets are missing before this one.
    fn on_packet(&mut self, header: &RtpHeader) -> u16 {
        if !self.is_known || self.ssrc != header.ssrc {
            (self.ssrc, self.tracker) = (header.ssrc, SequenceTracker::default());
        }
        (self.is_heard, self.is_known) = (true, true);
        self.tracker.on_packet(header.sequence)
    }
}

/// The streams of one session.
#[derive(Debug, Default)]
pub(super) struct LossCounter {
    streams: Vec<Sequence>,
    /// Packets missing since the last call of `take`.
    lost: u64,
}

impl LossCounter {
    /// An RTP packet has come.
    #[inline]
    pub(super) fn on_packet(&mut self, stream: usize, header: &RtpHeader) {
        if let Some(sequence) = self.streams.get_mut(stream) {
            self.lost += u64::from(sequence.on_packet(header));
        } else if stream < MOST_STREAMS {
            self.streams.resize(stream + 1, Sequence::default());
            self.on_packet(stream, header);
        }
    }

    /// Whether packets came since the last call, and how many were missing.
    pub(super) fn take(&mut self) -> (bool, u64) {
        let mut had_any = false;
        for sequence in &mut self.streams {
            sequence.is_known = std::mem::take(&mut sequence.is_heard);
            had_any |= sequence.is_known;
        }
        (had_any, std::mem::take(&mut self.lost))
    }
}

#[cfg(test)]
mod health_tests {
    use super::*;

    #[test]
    fn a_sample_is_due_once_in_a_period() {
        let (start, mut sampler) = (Instant::now(), HealthSampler::default());
        assert!(!sampler.is_due(start));
        assert!(!sampler.is_due(start + PERIOD / 2));
        assert!(sampler.is_due(start + PERIOD));
        assert!(!sampler.is_due(start + PERIOD));
    }
}

#[cfg(test)]
mod loss_tests {
    use super::*;

    fn packet(ssrc: u32, sequence: u16) -> RtpHeader {
        RtpHeader {
            payload_type: 96,
            sequence,
            timestamp: 0,
            ssrc,
        }
    }

    #[test]
    fn what_is_missing_between_packets_is_counted() {
        let mut losses = LossCounter::default();
        for sequence in [65_530, 65_531, 65_535, 0, 2, 1, 3] {
            losses.on_packet(0, &packet(7, sequence));
        }
        assert_eq!(losses.take(), (true, 4), "one came late");
        assert_eq!(losses.take(), (false, 0));
    }

    #[test]
    fn new_beginnings_are_no_losses() {
        let mut losses = LossCounter::default();
        losses.on_packet(0, &packet(7, 100));
        losses.on_packet(1, &packet(7, 500));
        losses.on_packet(0, &packet(8, 900));
        losses.on_packet(0, &packet(8, 30_000));
        losses.on_packet(0, &packet(8, 30_001));
        assert_eq!(losses.take(), (true, 0));
        losses.on_packet(0, &packet(8, 30_003));
        assert_eq!(losses.take(), (true, 1), "a look is no pause");
        assert_eq!(losses.take(), (false, 0));
        losses.on_packet(0, &packet(8, 30_100));
        assert_eq!(losses.take(), (true, 0), "it was paused");
    }

    #[test]
    fn no_more_streams_are_tracked_than_a_session_has() {
        let mut losses = LossCounter::default();
        losses.on_packet(usize::MAX, &packet(7, 1));
        assert_eq!(losses.take(), (false, 0));
    }
}
