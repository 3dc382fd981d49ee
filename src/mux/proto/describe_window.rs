//! How many DESCRIBEs may be on their way beside sessions that have to be kept alive.
//!
//! gst-rtsp-server works off a connection's requests one by one and holds a DESCRIBE for 20 s while
//! it waits for a camera that is off. Behind one of these a keep-alive still comes in time
//! ([`keep_alive`](super::keep_alive) reckons with it), behind two in a row it does not. But for that
//! DESCRIBEs are best sent all at once. So the window opens with quick answers, to as many as a
//! connection usually has sessions, and a slow one closes it.

use std::time::Duration;

/// A DESCRIBE that takes so long is a slow one; a file costs live555 0.1 s.
pub(super) const SLOW: Duration = Duration::from_secs(1);
const WIDEST: usize = 16;

/// The window of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DescribeWindow(usize);

impl Default for DescribeWindow {
    fn default() -> Self {
        Self(1)
    }
}

impl DescribeWindow {
    /// Whether another one may go out beside `under_way`, of which the oldest is being worked on for
    /// `head_time`.
    pub(super) fn admits(self, under_way: usize, head_time: Duration) -> bool {
        under_way == 0 || (under_way < self.0 && head_time < SLOW)
    }

    /// The server took so long to answer one, or has not answered it by now.
    pub(super) fn on_taken(&mut self, time: Duration) {
        self.0 = if time < SLOW {
            (self.0 * 2).min(WIDEST)
        } else {
            1
        };
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
            window.on_taken(SLOW / 2);
        }
        assert!(window.admits(WIDEST - 1, Duration::ZERO));
        assert!(!window.admits(WIDEST, Duration::ZERO));
        window.on_taken(SLOW);
        assert!(!window.admits(1, Duration::ZERO));
    }

    #[test]
    fn behind_one_that_is_slow_nothing_else_goes_out() {
        let mut window = DescribeWindow::default();
        window.on_taken(Duration::ZERO);
        assert!(window.admits(1, Duration::ZERO));
        assert!(!window.admits(1, SLOW));
    }
}
