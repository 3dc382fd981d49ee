//! The element as GStreamer sees it: properties, state changes, messages, statistics, log.
//!
//! ```text
//! backchannel      the signals that send sound to the camera
//! certificates     asks the application about certificates
//! imp              properties, URI, state changes; translates, decides nothing
//! properties       the table of properties
//! rtsp_message     the messages that handlers of `before-send` get
//! settings         their values -> the options of a session
//! stats            the property `stats`
//! signals          signals and actions
//! log              forwards the log of the multiplexer to that of GStreamer
//! ```
//!
//! # Which multiplexer
//!
//! By default all elements of a process share one. An application may have a [`Mux`] of its own, to watch
//! its statistics, to shut it down, or to keep two tenants apart. It puts the `Mux` into a
//! [`gst::Context`] of type [`CONTEXT_TYPE`] and sets that on a pipeline or an element, also in answer to
//! a `NEED_CONTEXT` message.
//!
//! The context carries a Rust type, so it must come from the same copy of this crate as the element. An
//! application that links the crate registers the element by `gstrtspmux::plugin_register_static()`
//! instead of loading the plugin file. If both copies are in one process, each registers the type. With a
//! fixed name the second registration would panic, so the bindings may change the name.

mod certificates;
pub(crate) mod imp;
pub(crate) mod log;
pub(crate) mod properties;
mod rtsp_message;
pub(crate) mod settings;
pub(crate) mod signals;
pub(crate) mod stats;

use std::sync::Mutex;

use gst::{glib, prelude::*};
use gstreamer as gst;

use crate::{
    mux::Mux,
    rtspsrc::{RtspMuxSrc, lock, threads},
};

/// The type of the context.
pub const CONTEXT_TYPE: &str = "rtspmux.pool";

/// Environment variable: the file in which the multiplexer of the process keeps what it learns of
/// servers, as with [`MuxBuilder::state`](crate::mux::MuxBuilder::state).
pub const STATE_VARIABLE: &str = "RTSPMUX_STATE";

/// The field of the context's structure.
const FIELD: &str = "pool";

#[derive(Clone, glib::Boxed)]
#[boxed_type(name = "GstRtspMuxPool", allow_name_conflict)]
struct SharedMux(Mux);

/// A context that makes elements use `mux`.
///
/// It holds a reference on `mux` for as long as an element or a pipeline keeps it.
pub fn pool_context(mux: &Mux) -> gst::Context {
    let mut context = gst::Context::new(CONTEXT_TYPE, true);
    context
        .make_mut()
        .structure_mut()
        .set(FIELD, SharedMux(mux.clone()));
    context
}

/// The multiplexer in `context`; `None` if the context is of another type or from another copy of this
/// crate.
pub(crate) fn mux_of(context: &gst::ContextRef) -> Option<Mux> {
    if context.context_type() != CONTEXT_TYPE {
        return None;
    }
    let shared = context.structure().get::<&SharedMux>(FIELD).ok()?;
    Some(shared.0.clone())
}

/// The multiplexer of the process, made at first use.
pub(crate) fn global() -> Mux {
    static GLOBAL: Mutex<Option<Mux>> = Mutex::new(None);

    let make = || {
        let mut builder = Mux::builder();
        // Without it the connections have a thread of their own.
        if let Ok(runtime) = threads::runtime() {
            builder = builder.runtime(runtime);
        }
        match std::env::var_os(STATE_VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => builder.state(path).build(),
            None => builder.build(),
        }
    };
    lock(&GLOBAL).get_or_insert_with(make).clone()
}

/// Asks the application and the bins around `element` for a context. If they have one they call
/// `set_context` before this returns.
pub(crate) fn request(element: &RtspMuxSrc) {
    let message = gst::message::NeedContext::builder(CONTEXT_TYPE)
        .src(element)
        .build();
    // The message is lost if the element has neither bus nor parent.
    let _ = element.post_message(message);
}
