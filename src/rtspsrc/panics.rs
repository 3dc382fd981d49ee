//! Turns a panic of this crate into an ERROR on the bus, as it must not unwind into GStreamer.
//!
//! The bindings catch panics in `ElementImpl`. A panic in `set_property`, in the functions of a pad, in a
//! probe or in a signal handler would abort the process; [`guard`] catches those.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use gst::glib;
use gstreamer as gst;

use super::RtspMuxSrc;

/// Calls `body`. If it panics, posts an ERROR and returns `fallback`.
pub(crate) fn guard<T>(element: &RtspMuxSrc, fallback: T, body: impl FnOnce() -> T) -> T {
    // Unwind safety: a panic may leave half done only what is behind mutexes, which `lock` takes even if
    // they are poisoned. After the ERROR an application can only shut the element down.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        report(element, &*panic);
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
pub(crate) fn report(element: &RtspMuxSrc, panic: &(dyn Any + Send)) {
    let cause = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    gst::element_error!(element, gst::LibraryError::Failed, ["panicked: {cause}"]);
}

#[cfg(test)]
mod tests {
    use gst::prelude::*;

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
