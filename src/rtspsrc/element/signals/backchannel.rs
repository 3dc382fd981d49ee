//! The action signals `push-backchannel-sample` and `push-backchannel-buffer` of `rtspsrc`.
//!
//! Both take the index of an `m=` line and a sample with one RTP packet, and return a flow return. As in `rtspsrc`
//! the second one, which is deprecated, takes over the caller's reference to the sample.
#![allow(
    unsafe_code,
    reason = "a reference that comes with a signal is not counted in its value"
)]

use bytes::Bytes;
use gst::{glib, prelude::*, subclass::prelude::*};
use gstreamer as gst;

use crate::rtspsrc::{CAT, RtspMuxSrc, guard};

/// The signals.
pub(super) fn signals() -> [glib::subclass::Signal; 2] {
    let signal = |name| {
        glib::subclass::Signal::builder(name)
            .run_last()
            .action()
            .param_types([u32::static_type(), gst::Sample::static_type()])
            .return_type::<gst::FlowReturn>()
    };
    [
        signal("push-backchannel-buffer")
            .deprecated()
            .class_handler(|arguments| {
                let result = push(arguments);
                release(arguments);
                Some(result.to_value())
            })
            .build(),
        signal("push-backchannel-sample")
            .class_handler(|arguments| Some(push(arguments).to_value()))
            .build(),
    ]
}

fn sample(arguments: &[glib::Value]) -> Option<gst::Sample> {
    arguments.get(2)?.get().ok()
}

/// Drops the caller's reference to the sample.
fn release(arguments: &[glib::Value]) {
    if let Some(sample) = sample(arguments) {
        // SAFETY: the signal is documented to take over a reference, which the caller has counted for it.
        drop(unsafe { gst::Sample::from_glib_full(sample.as_ptr()) });
    }
}

/// As in `rtspsrc` a packet that has no place to go is no failure.
fn push(arguments: &[glib::Value]) -> gst::FlowReturn {
    let element = arguments.first().and_then(|it| it.get::<RtspMuxSrc>().ok());
    let stream = arguments.get(1).and_then(|it| it.get::<u32>().ok());
    if let (Some(element), Some(stream), Some(sample)) = (element, stream, sample(arguments)) {
        guard(&element, (), || send(&element, stream, &sample));
    }
    gst::FlowReturn::Ok
}

fn send(element: &RtspMuxSrc, stream: u32, sample: &gst::Sample) {
    let packet = sample
        .buffer()
        .and_then(|buffer| buffer.map_readable().ok());
    let session = element.imp().session();
    let (Some(packet), Some(session)) = (packet, session) else {
        return;
    };
    if !session
        .backchannel
        .send(stream, Bytes::copy_from_slice(&packet))
    {
        gst::log!(
            CAT,
            obj = element,
            "stream {stream}: no packet sent to the server"
        );
    }
}
