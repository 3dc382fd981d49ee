//! Notices that a session whose connection is alive sends no media any more (fault F28). Pure.

use std::time::{Duration, Instant};

use crate::mux::proto::MediaStream;

/// Watches the streams of one session that send all the time: video and audio. A stream of metadata
/// sends on events only and may be silent for hours.
#[derive(Debug)]
pub(crate) struct Watchdog {
    timeout: Option<Duration>,
    streams: Vec<usize>,
    last: Instant,
}

impl Watchdog {
    /// Whether a stream sends all the time, so that its silence is a failure.
    pub(crate) fn watches(stream: &MediaStream) -> bool {
        matches!(stream.media.as_str(), "video" | "audio")
    }

    /// Watches `streams` from `now` on. It is off if `timeout` is 0 or there is no stream to watch.
    pub(crate) fn new(timeout: Duration, streams: Vec<usize>, now: Instant) -> Self {
        let is_on = !timeout.is_zero() && !streams.is_empty();
        Self {
            timeout: is_on.then_some(timeout),
            streams,
            last: now,
        }
    }

    /// Counts the silence from `now` on, after a pause for instance.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.last = now;
    }

    /// An RTP packet of `stream` came.
    pub(crate) fn on_packet(&mut self, stream: usize, received: Instant) {
        if received > self.last && self.streams.contains(&stream) {
            self.last = received;
        }
    }

    /// When the silence will have lasted for too long; `None`: never.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timeout.map(|timeout| self.last + timeout)
    }

    /// How long the silence has lasted, if that is too long.
    pub(crate) fn silence(&self, now: Instant) -> Option<Duration> {
        let silence = now.saturating_duration_since(self.last);
        self.timeout
            .is_some_and(|timeout| silence >= timeout)
            .then_some(silence)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any time will do")]

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn f28_silence_is_found_when_the_timeout_is_over() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(20 * S, vec![0], start);
        watchdog.on_packet(0, start + S);
        assert_eq!(watchdog.deadline(), Some(start + 21 * S));
        assert_eq!(watchdog.silence(start + 20 * S), None);
        assert_eq!(watchdog.silence(start + 21 * S), Some(20 * S));
    }

    #[test]
    fn only_the_streams_that_are_watched_count() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(20 * S, vec![0], start);
        watchdog.on_packet(1, start + S);
        assert_eq!(watchdog.deadline(), Some(start + 20 * S));
    }

    #[test]
    fn it_is_off_by_0_and_without_a_stream_to_watch() {
        let start = Instant::now();
        for watchdog in [
            Watchdog::new(Duration::ZERO, vec![0], start),
            Watchdog::new(20 * S, Vec::new(), start),
        ] {
            assert_eq!(watchdog.deadline(), None);
            assert_eq!(watchdog.silence(start + 3600 * S), None);
        }
    }

    #[test]
    fn a_pause_is_no_silence() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(20 * S, vec![0], start);
        watchdog.restart(start + 60 * S);
        assert_eq!(watchdog.silence(start + 79 * S), None);
    }
}
