//! Any bytes, any cuts, any times: no panic, nothing kept without bound, nothing after the end.
//!
//! `cargo +nightly fuzz run connection_input -- -dict=fuzz/rtsp.dict`
#![no_main]

#[path = "common.rs"]
mod common;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;

/// Stands between reads; what follows it says what happens there.
const MARK: &[u8] = b"\xff\xfe";

fuzz_target!(|data: &[u8]| {
    let mut subject = common::Subject::new();
    let mut rest = data;
    while let Some(at) = rest.windows(MARK.len()).position(|two| two == MARK) {
        let (read, tail) = rest.split_at(at);
        subject.receive(read);
        rest = &tail[MARK.len()..];
        match rest.split_first() {
            Some((what @ 0..=1, tail)) => {
                subject.release(usize::from(*what));
                rest = tail;
            }
            Some((time, tail)) => {
                subject.advance(Duration::from_millis(u64::from(*time) * 100));
                rest = tail;
            }
            None => return,
        }
    }
    subject.receive(rest);
});
