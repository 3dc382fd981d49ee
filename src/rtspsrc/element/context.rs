//! Which multiplexer an element uses: the process's, or the one an application hands in.
//!
//! By default all elements of a process share one. An application that has a [`Mux`] of its own -
//! to watch its statistics, to shut it down, to keep two tenants apart - puts it into a
//! [`gst::Context`] of type [`CONTEXT_TYPE`] and sets that on a pipeline, an element or in answer
//! to a `NEED_CONTEXT` message.
//!
//! The context carries a Rust type, so it must come from the copy of this crate that the element is
//! of: an application that links the crate registers the element from it, by
//! `gstrtspmux::plugin_register_static()`, instead of loading the plugin file. With both in one
//! process the type's name is there twice, hence not fixed: registering one twice would panic.

use std::sync::{Mutex, PoisonError};

use gst::{glib, prelude::*};
use gstreamer as gst;

use crate::{mux::Mux, rtspsrc::RtspMuxSrc};

/// The type of the context.
pub const CONTEXT_TYPE: &str = "rtspmux.pool";

/// Environment variable: the file in which the process's own multiplexer keeps what it learns of
/// servers, as [`MuxBuilder::state`](crate::mux::MuxBuilder::state) does.
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

/// The multiplexer in `context`; none if it is of another type or another copy of this crate.
pub(crate) fn mux_of(context: &gst::ContextRef) -> Option<Mux> {
    if context.context_type() != CONTEXT_TYPE {
        return None;
    }
    let shared = context.structure().get::<&SharedMux>(FIELD).ok()?;
    Some(shared.0.clone())
}

/// The process's own, made at first use.
pub(crate) fn global() -> Mux {
    static GLOBAL: Mutex<Option<Mux>> = Mutex::new(None);

    let mut global = GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
    global.get_or_insert_with(make_global).clone()
}

fn make_global() -> Mux {
    let builder = Mux::builder();
    match std::env::var_os(STATE_VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => builder.state(path).build(),
        None => builder.build(),
    }
}

/// Asks whoever is around `element` for a context: it comes through `set_context`, if at all,
/// before this returns.
pub(crate) fn request(element: &RtspMuxSrc) {
    let message = gst::message::NeedContext::builder(CONTEXT_TYPE)
        .src(element)
        .build();
    // An element without a bus or a parent has nobody to ask.
    let _ = element.post_message(message);
}
