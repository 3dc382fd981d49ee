//! How many DESCRIBEs may be on their way beside sessions that have to be kept alive.
//!
//! gst-rtsp-server works off a connection's requests one by one and holds a DESCRIBE for 20 s while
//! it waits for a camera that is off. Behind one of these a keep-alive still comes in time
//! ([`keep_alive`](super::keep_alive) reckons with it), behind two in a row it does not. But for that
//! DESCRIBEs are best sent all at once. So the window opens with quick answers, to as many as a
//! connection usually has sessions, and a slow one closes it. From then on it holds also while there
//! is nobody to keep alive: those who wait may be set up before the last of them is described.

use std::time::Duration;

/// A DESCRIBE that takes so long is a slow one; a file costs live555 0.1 s.
const SLOW: Duration = Duration::from_secs(1);
const WIDEST: usize = 16;

/// The window of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DescribeWindow {
    size: usize,
    has_seen_slow: bool,
}

impl Default for DescribeWindow {
    fn default() -> Self {
        Self {
            size: 1,
            has_seen_slow: false,
        }
    }
}

impl DescribeWindow {
    /// Whether it holds for a connection with or without sessions to keep alive, on which the oldest
    /// request is a DESCRIBE that is being worked on for `head_time`.
    pub(crate) fn holds(self, has_kept_alive: bool, head_time: Duration) -> bool {
        has_kept_alive || self.has_seen_slow || head_time >= SLOW
    }

    /// Whether another one may go out beside `under_way`, if it holds.
    pub(crate) fn admits(self, under_way: usize, head_time: Duration) -> bool {
        under_way == 0 || (under_way < self.size && head_time < SLOW)
    }

    /// The server took so long to answer one.
    pub(crate) fn on_answered(&mut self, took: Duration) {
        if took < SLOW {
            self.size = (self.size * 2).min(WIDEST);
        } else {
            self.size = 1;
            self.has_seen_slow = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_with_quick_answers_and_closes_with_a_slow_one() {
        let mut window = DescribeWindow::default();
        assert!(window.admits(0, Duration::ZERO));
        assert!(!window.admits(1, Duration::ZERO));
        for _ in 0..10 {
            window.on_answered(SLOW / 2);
        }
        assert!(window.admits(WIDEST - 1, Duration::ZERO));
        assert!(!window.admits(WIDEST, Duration::ZERO));
        assert!(!window.holds(false, Duration::ZERO) && window.holds(true, Duration::ZERO));
        assert!(window.holds(false, SLOW));
        window.on_answered(SLOW);
        assert!(!window.admits(1, Duration::ZERO));
        assert!(window.holds(false, Duration::ZERO));
    }

    #[test]
    fn behind_one_that_is_slow_nothing_else_goes_out() {
        let mut window = DescribeWindow::default();
        window.on_answered(Duration::ZERO);
        assert!(window.admits(1, Duration::ZERO));
        assert!(!window.admits(1, SLOW));
    }
}
