//! `cargo +nightly fuzz run connection_splits -- -dict=fuzz/rtsp.dict`
#![no_main]

#[allow(dead_code, reason = "each target uses a part of it")]
#[path = "common.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, &[u8])| common::any_splits(&input.0, input.1));
