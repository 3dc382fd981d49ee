//! The pads out of which a manager's packets go.

use gstreamer as gst;

use gst::prelude::*;

use crate::rtspsrc::{RtspMuxSrc, panics};

/// A pad as rtspsrc's of a TCP stream: live, with this latency, and events from downstream end here.
pub(super) fn src_pad(element: &RtspMuxSrc, name: &str, latency: gst::ClockTime) -> gst::Pad {
    let (queries, events) = (element.downgrade(), element.downgrade());
    gst::Pad::builder(gst::PadDirection::Src)
        .name(name)
        .query_function(move |pad, parent, query| {
            panics::guard_weak(&queries, false, |_| match query.view_mut() {
                gst::QueryViewMut::Latency(query) => {
                    query.set(true, latency, gst::ClockTime::NONE);
                    true
                }
                _ => gst::Pad::query_default(pad, parent, query),
            })
        })
        .event_function(move |_, _, event| {
            panics::guard_weak(&events, false, |_| event.type_() != gst::EventType::Seek)
        })
        .build()
}
