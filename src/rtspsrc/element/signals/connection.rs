//! `accept-certificate`, `before-send` and `handle-request`: an application has a say in what the element's connection does.
//! Such a connection serves no other element.

use std::ops::ControlFlow;

use gio::{TlsCertificate, TlsCertificateFlags, TlsConnection};
use gst::{
    glib::{
        Value,
        subclass::{Signal, SignalType},
    },
    prelude::*,
};
use gst_rtsp::rtsp_message::RTSPMessage;
use gstreamer as gst;
use gstreamer_rtsp as gst_rtsp;

pub(super) fn signals() -> [Signal; 3] {
    let certificate = [
        TlsConnection::static_type(),
        TlsCertificate::static_type(),
        TlsCertificateFlags::static_type(),
    ];
    let message = SignalType::with_static_scope(RTSPMessage::static_type());
    let accept_certificate = Signal::builder("accept-certificate")
        .param_types(certificate)
        .return_type::<bool>()
        .run_last()
        .class_handler(|_| Some(false.to_value()))
        // The first handler that accepts it is the last one that is asked.
        .accumulator(|_, _, answer| until(true, answer));
    let before_send = Signal::builder("before-send")
        .param_types([message])
        .return_type::<bool>()
        .run_last()
        .class_handler(|_| Some(true.to_value()))
        // The first handler that holds the request back is the last one that sees it.
        .accumulator(|_, _, answer| until(false, answer));
    let handle_request = Signal::builder("handle-request").param_types([message, message]);
    [
        accept_certificate.build(),
        before_send.build(),
        handle_request.build(),
    ]
}

/// The answer so far, and whether it is the last one.
fn until(last: bool, answer: &Value) -> ControlFlow<Value, Value> {
    match answer.get::<bool>() {
        Ok(answer) if answer == last => ControlFlow::Break(answer.to_value()),
        _ => ControlFlow::Continue(answer.clone()),
    }
}
