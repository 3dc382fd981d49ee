//! `accept-certificate`: an application accepts a certificate that the checks refuse.

use std::ops::ControlFlow;

use gio::{TlsCertificate, TlsCertificateFlags, TlsConnection};
use gst::{glib::subclass::Signal, prelude::*};
use gstreamer as gst;

pub(super) fn signals() -> [Signal; 1] {
    let accept_certificate = Signal::builder("accept-certificate")
        .param_types([
            TlsConnection::static_type(),
            TlsCertificate::static_type(),
            TlsCertificateFlags::static_type(),
        ])
        .return_type::<bool>()
        .run_last()
        .class_handler(|_| Some(false.to_value()))
        // The first handler that accepts it is the last one that is asked.
        .accumulator(|_, _, answer| match answer.get() {
            Ok(true) => ControlFlow::Break(answer.clone()),
            _ => ControlFlow::Continue(answer.clone()),
        });
    [accept_certificate.build()]
}
