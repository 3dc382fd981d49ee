//! Tests of the test support itself: its parser, the reader of transcripts.

mod support;

#[path = "mock/rtsp.rs"]
mod rtsp;
#[path = "mock/transcript.rs"]
mod transcript;
