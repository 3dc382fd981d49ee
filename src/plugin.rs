//! The plugin `rtspmux`, file `libgstrtspmux.so`.
#![expect(
    missing_docs,
    reason = "what the macro makes is described in lib.rs, where it is shown"
)]

use gstreamer as gst;

use crate::rtspsrc;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
    rtspsrc::register(plugin)
}

gst::plugin_define!(
    rtspmux,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    env!("CARGO_PKG_VERSION"),
    "MPL",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    "unknown"
);
