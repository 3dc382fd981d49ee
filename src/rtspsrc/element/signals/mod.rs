//! The signals and actions of `rtspsrc`, with its signatures. docs/signals.md says when each is emitted.
//!
//! ```text
//! connection   accept-certificate, before-send, handle-request
//! description  on-sdp, select-stream
//! manager      new-manager
//! keys         request-rtcp-key and what came with it
//! parameters   get-parameter, get-parameters, set-parameter
//! backchannel  push-backchannel-buffer, push-backchannel-sample
//! ```
//!
//! The session emits them, on threads of their own: [`handlers`](crate::rtspsrc::handlers).

mod backchannel;
mod connection;
mod description;
mod keys;
mod manager;
mod parameters;

use std::sync::LazyLock;

use gst::glib::subclass::Signal;
use gstreamer as gst;

/// All signals of the element.
pub(crate) static SIGNALS: LazyLock<Vec<Signal>> = LazyLock::new(|| {
    let mut signals = Vec::new();
    signals.extend(connection::signals());
    signals.extend(description::signals());
    signals.extend(manager::signals());
    signals.extend(keys::signals());
    signals.extend(parameters::signals());
    signals.extend(backchannel::signals());
    signals
});
