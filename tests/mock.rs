//! Tests of the test support itself: its parser, the reader of transcripts, the mock server.

mod support;

#[path = "mock/auth.rs"]
mod auth;
#[path = "mock/client.rs"]
mod client;
#[path = "mock/play.rs"]
mod play;
#[path = "mock/rtsp.rs"]
mod rtsp;
#[path = "mock/server.rs"]
mod server;
#[path = "mock/transcript.rs"]
mod transcript;
