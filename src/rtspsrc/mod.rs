//! The GStreamer element `rtspmuxsrc`: one camera of a server, over a connection it shares.
//!
//! ```text
//! element   properties, state changes, settings, statistics: what GStreamer sees
//! session   one session of an element: opens, plays, and sets it up again after a loss
//! manager   turns RTP packets into timed buffers: the light path, or rtpbin
//! media     buffers, pads and caps
//! messages  the messages for the bus, and the thread that posts them
//! handlers  calls signal handlers, on threads of their own
//! shim      the same element under the name of `rtspsrc`
//! threads   the threads that run session tasks and push buffers
//! ```
//!
//! The thread `rtspmux-io` reads all connections and pushes packets; the threads `rtspmux-feed` push where
//! downstream is slow or blocks (see `threads`). Neither posts messages: that is the thread `rtspmux-bus` (see `messages::bus_queue`). No state
//! change waits for the server, except READY to NULL: it waits for the answer to TEARDOWN, for
//! `teardown-timeout` at most.

pub(crate) mod element;
pub(crate) mod handlers;
mod manager;
pub(crate) mod media;
pub(crate) mod messages;
pub(crate) mod session;
pub(crate) mod shim;
mod threads;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gst::{glib, prelude::*};
use gstreamer as gst;

pub use self::element::{
    CONTEXT_TYPE, STATE_VARIABLE, pool_context,
    properties::{Multiplex, OverflowPolicy},
};
pub use manager::ManagerChoice;

use crate::mux::lock;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "rtspmuxsrc",
        gst::DebugColorFlags::empty(),
        Some("RTSP source on shared connections"),
    )
});

glib::wrapper! {
    /// The element `rtspmuxsrc`.
    pub struct RtspMuxSrc(ObjectSubclass<element::imp::RtspMuxSrc>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy, gst::URIHandler;
}

/// Whether programs see this element as `rtspsrc`. Does not register the type of the [`shim`].
fn is_shim(element: &RtspMuxSrc) -> bool {
    element.type_() != RtspMuxSrc::static_type()
}

/// A duration as properties, messages and statistics have it.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Registers the element. Its rank is NONE, as that of `rtspsrc`. `playbin` takes the one whose name
/// sorts first, which is `rtspmuxsrc`; `GST_PLUGIN_FEATURE_RANK=rtspsrc:1` makes it take `rtspsrc`.
///
/// # Errors
///
/// Another copy of this crate has registered the element in this process, as when an application links
/// the library and loads the plugin file too. Or GStreamer refuses, and logs the reason.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    claim_types()?;
    element::log::forward();
    gst::Element::register(
        Some(plugin),
        "rtspmuxsrc",
        gst::Rank::NONE,
        RtspMuxSrc::static_type(),
    )
}

/// Makes sure that the types of this crate can be registered, or were registered by this copy of it.
fn claim_types() -> Result<(), glib::BoolError> {
    static OURS: AtomicBool = AtomicBool::new(false);

    // A second registration of a type panics in the bindings, and the panic would cross C code.
    let first = !OURS.swap(true, Ordering::AcqRel);
    if first && glib::Type::from_name("GstRtspMuxSrc").is_some() {
        OURS.store(false, Ordering::Release);
        return Err(glib::bool_error!(
            "another copy of {} has registered rtspmuxsrc in this process",
            env!("CARGO_PKG_NAME")
        ));
    }
    Ok(())
}

/// Calls `body`. If it panics, posts an ERROR and returns `fallback`.
pub(crate) fn guard<T>(element: &RtspMuxSrc, fallback: T, body: impl FnOnce() -> T) -> T {
    // Unwind safety: a panic may leave half done only what is behind mutexes, which `lock` takes even if
    // they are poisoned. After the ERROR an application can only shut the element down.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        report_panic(element, &*panic);
        fallback
    })
}

/// As [`guard`]; returns `fallback` without a call if the element is gone.
pub(crate) fn guard_weak<T>(
    element: &glib::WeakRef<RtspMuxSrc>,
    fallback: T,
    body: impl FnOnce(&RtspMuxSrc) -> T,
) -> T {
    match element.upgrade() {
        Some(element) => guard(&element, fallback, || body(&element)),
        None => fallback,
    }
}

/// Posts the ERROR for a panic.
pub(crate) fn report_panic(element: &RtspMuxSrc, panic: &(dyn Any + Send)) {
    let cause = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    gst::element_error!(element, gst::LibraryError::Failed, ["panicked: {cause}"]);
}

#[cfg(test)]
mod panics_tests {

    use super::*;

    #[test]
    fn a_panic_becomes_an_error_on_the_bus() {
        gst::init().unwrap();
        let element: RtspMuxSrc = glib::Object::new();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        assert_eq!(guard(&element, 1, || 2), 2);
        assert!(bus.pop().is_none());
        let three = 3;
        assert_eq!(guard(&element, 1, || panic!("not {three}")), 1);
        let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!()
        };
        assert!(error.error().matches(gst::LibraryError::Failed));
        assert!(error.debug().unwrap().contains("not 3"));
        element.set_bus(None);
    }

    #[test]
    fn nothing_is_called_for_an_element_that_is_gone() {
        let weak = glib::WeakRef::<RtspMuxSrc>::new();
        assert_eq!(guard_weak(&weak, 1, |_| 2), 1);
    }
}
