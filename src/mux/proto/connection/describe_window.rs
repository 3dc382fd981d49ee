//! How many DESCRIBEs may be outstanding beside sessions that need keep-alives.
//!
//! gst-rtsp-server processes the requests of a connection one by one, and holds a DESCRIBE for 20 s
//! while it waits for a camera that is switched off. After one such DESCRIBE a keep-alive is still
//! in time ([`keep_alive`](super::keep_alive) allows for it), after two in a row it is not. Apart
//! from that, DESCRIBEs are best sent all at once. So quick answers open the window, up to the
//! usual number of sessions of a connection, and a slow answer closes it. A closed window also
//! holds while no session needs keep-alives: sessions of this connection may be set up before the
//! last one is described.

use std::time::Duration;

/// A DESCRIBE that takes longer is slow; live555 takes 0.1 s for a file.
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
    /// True if the window limits a connection whose oldest request is a DESCRIBE that the server
    /// has worked on for `head_time`.
    pub(crate) fn holds(self, has_kept_alive: bool, head_time: Duration) -> bool {
        has_kept_alive || self.has_seen_slow || head_time >= SLOW
    }

    /// If the window holds: true if one more DESCRIBE may be sent beside `under_way`.
    pub(crate) fn admits(self, under_way: usize, head_time: Duration) -> bool {
        under_way == 0 || (under_way < self.size && head_time < SLOW)
    }

    /// The server took this long to answer a DESCRIBE.
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
