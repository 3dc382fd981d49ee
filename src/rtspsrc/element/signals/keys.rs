//! Signals about SRTP keys. The element plays no SRTP, so none of them is emitted; an application that
//! connects a handler, as many do without asking for SRTP, is not refused.

use gst::glib::{self, subclass::Signal};
use gstreamer as gst;

pub(super) fn signals() -> Vec<Signal> {
    let stream = || [glib::Type::U32];
    let key = |name| {
        let signal = Signal::builder(name).param_types(stream());
        signal.return_type::<Option<gst::Caps>>().build()
    };
    let mut signals = vec![key("request-rtcp-key")];
    if gst::version() >= (1, 26, 0, 0) {
        let limit = |name| Signal::builder(name).param_types(stream()).build();
        signals.extend([
            key("request-rtp-key"),
            limit("soft-limit"),
            limit("hard-limit"),
        ]);
    }
    signals
}
