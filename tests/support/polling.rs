//! Waiting for what no event tells, and looking at what is there without waiting.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
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

/// The output of a future that is ready at once.
pub fn ready<F: Future>(future: F) -> Option<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
