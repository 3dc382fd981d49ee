//! `new-manager`: an application that has connected it gets each rtpbin before packets do.

use gst::{glib, prelude::*};
use gstreamer as gst;

use super::{control::SessionControl, selection::NEW_MANAGER};
use crate::rtspsrc::{RtspMuxSrc, handlers};

impl SessionControl {
    /// Emits `new-manager` for the rtpbin that comes into use next, and returns when the handlers have
    /// returned. No section is held meanwhile: a handler may change the state of the element.
    ///
    /// # Errors
    ///
    /// rtpbin cannot be made.
    pub(super) async fn announce_manager(
        &self,
        element: &glib::WeakRef<RtspMuxSrc>,
    ) -> Result<(), glib::BoolError> {
        if !handlers::are_connected_weak(element, NEW_MANAGER) {
            return Ok(());
        }
        let next = self.build_guard.work(|manager| manager.next_element());
        if let Some(next) = next.transpose()?.flatten() {
            let emitted = handlers::call(element, NEW_MANAGER, move |element| {
                element.emit_by_name::<()>(NEW_MANAGER, &[&next]);
            });
            emitted.await;
        }
        Ok(())
    }
}
