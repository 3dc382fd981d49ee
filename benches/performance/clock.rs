//! The clock that server and client share, and how late buffers are by it.

use std::{
    iter::repeat_with,
    sync::atomic::{AtomicU64, Ordering},
};

use gstreamer as gst;
use rustix::time::{ClockId, clock_gettime};

/// The units of RTP times of video, in a millisecond.
const PER_MS: f64 = 90.0;
/// What is later counts as so late: a second.
const LATEST: usize = 90_000;

/// The time of the machine, in units of RTP times of video. It is the same in all processes.
pub(crate) fn rtp_time() -> u32 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64 * 90_000 + time.tv_nsec as u64 * 9 / 100_000) as u32
}

/// How many buffers were so late, in units of RTP times.
pub(crate) struct Latencies(Box<[AtomicU64]>);

impl Default for Latencies {
    fn default() -> Self {
        Self(repeat_with(AtomicU64::default).take(LATEST + 1).collect())
    }
}

impl Latencies {
    /// An RTP packet, whose time is the one at which it was sent.
    pub(crate) fn on_buffer(&self, buffer: &gst::BufferRef) {
        let mut time = [0; 4];
        if buffer.copy_to_slice(4, &mut time).is_ok() {
            let late = rtp_time().wrapping_sub(u32::from_be_bytes(time)) as usize;
            self.0[late.min(LATEST)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets what was counted.
    pub(crate) fn clear(&self) {
        self.0
            .iter()
            .for_each(|count| count.store(0, Ordering::Relaxed));
    }

    /// The latency in ms that `share` of all buffers do not exceed; none without buffers.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        let all: u64 = counts.clone().sum();
        let mut left = (all as f64 * share).ceil() as u64;
        let at = counts.into_iter().position(|count| {
            left = left.saturating_sub(count);
            left == 0
        })?;
        (all > 0).then_some(at as f64 / PER_MS)
    }
}
