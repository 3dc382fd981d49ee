//! Calls the handlers that an application has connected to signals.
//!
//! A handler may take any time, and may change the state of its element. So none runs on a thread that
//! serves others, as those of sockets, session tasks and the bus do: each emission has a thread of its own,
//! and the session task waits for it without a thread. Without a handler nothing is emitted.

use std::{cell::RefCell, io, thread};

use gst::{
    glib::{self, subclass::SignalId},
    prelude::*,
};
use gstreamer as gst;
use gstreamer_sdp as gst_sdp;
use tokio::sync::oneshot;

use super::{CAT, RtspMuxSrc};

/// Whether a handler is connected.
pub(crate) fn are_connected(element: &RtspMuxSrc, signal: &str) -> bool {
    let id = SignalId::lookup(signal, RtspMuxSrc::static_type());
    id.is_some_and(|id| glib::signal::signal_has_handler_pending(element, id, None, false))
}

/// As [`are_connected`]; false if the element is gone.
pub(crate) fn are_connected_weak(element: &glib::WeakRef<RtspMuxSrc>, signal: &str) -> bool {
    element
        .upgrade()
        .is_some_and(|it| are_connected(&it, signal))
}

/// Calls `body` on a thread of its own.
///
/// # Errors
///
/// The system gives no thread.
pub(crate) fn spawn(body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name("rtspmux-signal".to_owned());
    thread.spawn(body).map(drop)
}

/// Calls `emit` with the element on a thread of its own, if a handler of `signal` is connected. `None`
/// without one, or if the element is gone. Dropping the future does not end the handler.
pub(crate) async fn call<T: Send + 'static>(
    element: &glib::WeakRef<RtspMuxSrc>,
    signal: &str,
    emit: impl FnOnce(&RtspMuxSrc) -> T + Send + 'static,
) -> Option<T> {
    let (done, outcome) = oneshot::channel();
    {
        let element = element.upgrade()?;
        if !are_connected(&element, signal) {
            return None;
        }
        let emitting = spawn(move || {
            // An error means that the session has ended meanwhile.
            let _ = done.send(emit(&element));
        });
        if let Err(error) = emitting {
            gst::error!(CAT, "no thread for the handlers of {signal}: {error}");
        }
    }
    outcome.await.ok()
}

thread_local! {
    /// The message of an `on-sdp` that is emitted on this thread, as its handlers have left it.
    static EDITED: RefCell<Option<gst_sdp::SDPMessage>> = const { RefCell::new(None) };
}

/// The last handler of `on-sdp`, the element's own. Handlers get the message itself, and the caller of the
/// emission a copy, so this keeps what they have made of it.
pub(crate) fn keep_edited(message: Option<gst_sdp::SDPMessage>) {
    EDITED.set(message);
}

/// Emits `on-sdp` and returns the message as the handlers have left it.
pub(crate) fn emit_on_sdp(
    element: &RtspMuxSrc,
    message: &gst_sdp::SDPMessage,
) -> Option<gst_sdp::SDPMessage> {
    element.emit_by_name::<()>("on-sdp", &[message]);
    EDITED.take()
}
