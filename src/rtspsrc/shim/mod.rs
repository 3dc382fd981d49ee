//! The shim: `rtspmuxsrc` under the name of `rtspsrc`, for programs that cannot be changed.
//!
//! GStreamer derives the name of a plugin from the name of its file. A link named `libgstrtsp.so` to the file of
//! this crate is the plugin `rtsp`; in a directory that stands in `GST_PLUGIN_PATH` it is found before
//! GStreamer's own, which then is not loaded. It registers the factory `rtspsrc` and a type *named*
//! `GstRTSPSrc`, because programs ask for either. That type is derived from the element's own, and differs
//! in what programs see:
//!
//! | | `rtspmuxsrc` | `rtspsrc` of the shim |
//! |---|---|---|
//! | rank | NONE | PRIMARY |
//! | default of `protocols` | tcp | tcp+udp-mcast+udp; TCP is chosen |
//! | default of `connect-failure` | retry | error |
//! | `location`, `user-pw`, ... | read back without secrets | read back as they were set; dumps leave them out |
//! | enumerations | names of its own | names of `rtspsrc`'s |
//! | pads | `stream_0` | `recv_rtp_src_0_<ssrc>_96` |
//! | URIs | those that it plays | those of `rtspsrc`; what it does not play is an ERROR that says how to go back |
//!
//! [`PROPERTIES_VARIABLE`] sets properties of all its elements.

mod ffi;
mod imp;
mod specs;

use std::sync::atomic::{AtomicBool, Ordering};

use gst::{glib, prelude::*};
use gstreamer as gst;

use super::{RtspMuxSrc, claim_types, element};

/// Environment variable: properties for all elements of the shim, as in `manager=rtpbin,latency=200`. A program
/// that sets a property itself overrides it.
pub(crate) const PROPERTIES_VARIABLE: &str = "RTSPMUX_PROPERTIES";

/// The type as programs know it.
const TYPE: &str = "GstRTSPSrc";

glib::wrapper! {
    /// The element `rtspsrc` of the shim.
    pub struct RtspSrc(ObjectSubclass<imp::RtspSrc>)
        @extends RtspMuxSrc, gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy, gst::URIHandler;
}

/// Registers `rtspsrc`. Its rank is PRIMARY, as that of GStreamer's own from 1.22.11 on.
///
/// # Errors
///
/// GStreamer's plugin, or another copy of this crate, is loaded in this process.
fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    static OURS: AtomicBool = AtomicBool::new(false);

    claim_types()?;
    if !OURS.load(Ordering::Acquire) {
        let names = specs::ENUMS.iter().map(|(_, name)| *name);
        let taken = names
            .chain([TYPE])
            .find(|name| glib::Type::from_name(*name).is_some());
        if let Some(name) = taken {
            return Err(glib::bool_error!(
                "{name} is registered: another plugin with rtspsrc is loaded in this process"
            ));
        }
    }
    OURS.store(true, Ordering::Release);
    element::log::forward();
    gst::Element::register(
        Some(plugin),
        "rtspsrc",
        gst::Rank::PRIMARY,
        RtspSrc::static_type(),
    )
}
