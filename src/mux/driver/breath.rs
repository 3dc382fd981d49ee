//! Lets consumers catch up with a reader that is far ahead of them.
//!
//! A reader that never waits fills all queues with what a server sends faster than consumers take it,
//! and then has packets dropped: on one processor it takes from its own consumers the time that they
//! need. So while what waits is much and becomes more with each read, a moment passes between reads; the
//! rest waits in the socket, and TCP slows the server down. It is no wait for a consumer: one that
//! stands still has a queue that does not grow any more, and a connection goes on at half a
//! gigabit a second in any case.

use std::time::Duration;

/// So much waiting for the consumers of one connection is normal: first pictures of 16 cameras come at once.
const FAR_AHEAD: usize = 512 * 1024;

/// A moment. With one read of 64 KiB in each, 500 Mbit/s.
pub(super) const MOMENT: Duration = Duration::from_millis(1);

/// Whether it is time to take breath.
#[derive(Debug, Default)]
pub(super) struct Breath {
    /// What waited after the last read.
    before: usize,
    is_due: bool,
}

impl Breath {
    /// Something was read, and now so many octets wait for consumers. True if no more is to be read
    /// at once.
    pub(super) fn on_read(&mut self, waiting: usize) -> bool {
        let before = std::mem::replace(&mut self.before, waiting);
        self.is_due = waiting > FAR_AHEAD && waiting > before;
        self.is_due
    }

    /// Whether a moment is to pass now, once.
    pub(super) fn take(&mut self) -> bool {
        std::mem::take(&mut self.is_due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_passes_while_what_waits_is_much_and_becomes_more() {
        let mut breath = Breath::default();
        assert!(!breath.on_read(FAR_AHEAD));
        assert!(breath.on_read(FAR_AHEAD + 1));
        assert!(breath.take() && !breath.take());
        assert!(!breath.on_read(FAR_AHEAD + 1), "full, and nobody takes");
        assert!(breath.on_read(2 * FAR_AHEAD));
        assert!(!breath.on_read(FAR_AHEAD + 1), "they catch up");
        assert!(!breath.take());
    }
}
