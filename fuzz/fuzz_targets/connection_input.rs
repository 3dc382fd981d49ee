//! `cargo +nightly fuzz run connection_input -- -dict=fuzz/rtsp.dict`
#![no_main]

#[allow(dead_code, reason = "each target uses a part of it")]
#[path = "common.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|data: &[u8]| common::any_input(data));
