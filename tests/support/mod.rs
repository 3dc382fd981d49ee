//! What the tests share: a server-side RTSP parser of its own, the reader of transcripts, the mock server.
//!
//! Nothing here uses `src/` or rtsp-types: a mistake in the library must not hide in the test of it.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses a part of the support code"
)]
#![allow(
    unreachable_pub,
    reason = "`pub` says what the tests may use; a test binary exports nothing"
)]

pub mod mock_server;
pub mod polling;
pub mod random;
pub mod rtsp;
pub mod thread_names;
pub mod transcript;
