//! `new-manager`: an application gets each rtpbin before packets do.

use gst::{glib::subclass::Signal, prelude::*};
use gstreamer as gst;

pub(super) fn signals() -> [Signal; 1] {
    let new_manager = Signal::builder("new-manager").param_types([gst::Element::static_type()]);
    [new_manager.build()]
}
