//! The running times on a pad across outages: how long each outage was, and that time does not go back.
//!
//! The pipeline's clock goes on during an outage. The first buffer after it has the running time of its
//! arrival, so the gap in a recording is as long as the outage. A GAP event tells elements downstream not
//! to wait for buffers in between.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gstreamer as gst;

/// The times of the buffers that left one pad, over all sources of its stream.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// In nanoseconds.
    last: AtomicU64,
    has_begun: AtomicBool,
    is_anew: AtomicBool,
}

/// A span of time without buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    start: gst::ClockTime,
    duration: gst::ClockTime,
}

impl Gap {
    /// The event for downstream.
    pub(crate) fn event(&self) -> gst::Event {
        gst::event::Gap::builder(self.start)
            .duration(self.duration)
            .build()
    }
}

impl Timeline {
    /// The next buffer is the first after an outage.
    pub(crate) fn begin_anew(&self) {
        self.is_anew.store(true, Ordering::Release);
    }

    /// A buffer with this time leaves the pad. Returns the outage that it ends.
    pub(crate) fn see(&self, time: gst::ClockTime) -> Option<Gap> {
        let start =
            gst::ClockTime::from_nseconds(self.last.swap(time.nseconds(), Ordering::Relaxed));
        let is_first = !self.has_begun.swap(true, Ordering::Relaxed);
        if !self.is_anew.swap(false, Ordering::AcqRel) || is_first {
            return None;
        }
        let duration = time.checked_sub(start).filter(|gap| !gap.is_zero())?;
        Some(Gap { start, duration })
    }

    /// The time of the last buffer; later buffers must not go back behind it.
    pub(crate) fn last(&self) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(self.last.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: gst::ClockTime = gst::ClockTime::SECOND;

    #[test]
    fn an_outage_is_as_long_as_nothing_came() {
        let timeline = Timeline::default();
        assert_eq!(timeline.see(S), None);
        assert_eq!(timeline.see(2 * S), None);
        timeline.begin_anew();
        let gap = Gap {
            start: 2 * S,
            duration: 5 * S,
        };
        assert_eq!(timeline.see(7 * S), Some(gap));
        assert_eq!(timeline.see(8 * S), None);
        assert_eq!(timeline.last(), 8 * S);
    }

    #[test]
    fn before_the_first_buffer_there_is_no_gap() {
        let timeline = Timeline::default();
        timeline.begin_anew();
        assert_eq!(timeline.see(5 * S), None);
        timeline.begin_anew();
        assert_eq!(timeline.see(5 * S), None, "nor one of no length");
    }
}
