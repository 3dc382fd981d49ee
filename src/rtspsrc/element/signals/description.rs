//! `on-sdp` and `select-stream`: an application sees, changes and chooses what is played.

use std::ops::ControlFlow;

use gst::{
    glib::{
        self,
        subclass::{Signal, SignalType},
    },
    prelude::*,
};
use gstreamer as gst;
use gstreamer_sdp::SDPMessage;

use crate::rtspsrc::handlers;

pub(super) fn signals() -> [Signal; 2] {
    let message = SignalType::with_static_scope(SDPMessage::static_type());
    let on_sdp = Signal::builder("on-sdp")
        .param_types([message])
        .run_cleanup()
        .class_handler(|args| {
            let edited = args.get(1).and_then(|edited| edited.get().ok());
            handlers::keep_edited(edited);
            None
        });
    let select_stream = Signal::builder("select-stream")
        .param_types([glib::Type::U32, gst::Caps::static_type()])
        .return_type::<bool>()
        .run_last()
        .class_handler(|_| Some(true.to_value()))
        // The first handler that refuses a stream is the last one that is asked.
        .accumulator(|_, _, answer| match answer.get() {
            Ok(true) => ControlFlow::Continue(answer.clone()),
            _ => ControlFlow::Break(answer.clone()),
        });
    [on_sdp.build(), select_stream.build()]
}
