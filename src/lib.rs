//! RTSP session multiplexer.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod mux;
#[cfg(feature = "plugin")]
mod plugin;
#[cfg(feature = "plugin")]
pub mod rtspsrc;

#[cfg(feature = "plugin")]
#[doc(inline)]
/// Registers the element `rtspmuxsrc` from this copy of the crate, for applications that link it
/// instead of loading the plugin file. Call it after `gst::init`.
pub use plugin::plugin_register_static;
