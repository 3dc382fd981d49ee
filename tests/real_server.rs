//! Sessions of the library, and where that says more of the element, with real servers.
//!
//! Every session is watched as a whole: each packet is of its own camera, and no packet and no frame
//! is missing, whatever is tried meanwhile. How many connections there are is what the server
//! accepted. `tests/cameras` has what elements do with the same server day in, day out.
#![allow(clippy::unwrap_used, reason = "a test binary")]

#[path = "real_server/channels.rs"]
mod channels;
#[path = "real_server/full.rs"]
mod full;
#[path = "support/gst_server.rs"]
mod gst_server;
#[path = "real_server/live555.rs"]
mod live555;
#[path = "real_server/process.rs"]
mod process;
#[path = "real_server/proxy.rs"]
mod proxy;
#[path = "real_server/python.rs"]
mod python;
#[path = "real_server/restart.rs"]
mod restart;
#[path = "real_server/sharing.rs"]
mod sharing;
#[path = "real_server/slow.rs"]
mod slow;
#[path = "real_server/viewer.rs"]
mod viewer;

use std::time::Duration;

/// Far more than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(40);
