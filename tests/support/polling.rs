//! Waiting for what no event tells.

use std::time::{Duration, Instant};

/// Polls until it is so.
///
/// # Panics
///
/// It is not so within `limit`.
pub fn wait_until(is_so: impl Fn() -> bool, limit: Duration) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {limit:?}");
        std::thread::yield_now();
    }
}
