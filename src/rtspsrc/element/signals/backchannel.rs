//! The action signals `push-backchannel-sample` and `push-backchannel-buffer` of `rtspsrc`.
//!
//! Both take the index of an `m=` line and a sample with one RTP packet, and return a flow return. `rtspsrc` unrefs
//! the sample of the second one, which is deprecated; this element leaves it to its owner.

use bytes::Bytes;
use gst::{glib, prelude::*, subclass::prelude::*};
use gstreamer as gst;

use crate::rtspsrc::{CAT, RtspMuxSrc, guard};

/// The signals.
pub(super) fn signals() -> [glib::subclass::Signal; 2] {
    ["push-backchannel-buffer", "push-backchannel-sample"].map(|name| {
        glib::subclass::Signal::builder(name)
            .run_last()
            .action()
            .param_types([u32::static_type(), gst::Sample::static_type()])
            .return_type::<gst::FlowReturn>()
            .class_handler(|arguments| Some(push(arguments).to_value()))
            .build()
    })
}

/// As in `rtspsrc` a packet that has no place to go is no failure.
fn push(arguments: &[glib::Value]) -> gst::FlowReturn {
    let element = arguments.first().and_then(|it| it.get::<RtspMuxSrc>().ok());
    let stream = arguments.get(1).and_then(|it| it.get::<u32>().ok());
    let sample = arguments.get(2).and_then(|it| it.get::<gst::Sample>().ok());
    if let (Some(element), Some(stream), Some(sample)) = (element, stream, sample) {
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
