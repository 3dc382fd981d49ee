//! Why a session ended by itself, and how that is said on the bus.

use gst::glib;
use gstreamer as gst;
use std::time::Duration;

use super::report::ReasonClass;
use crate::{
    mux::{self, recovery::FailureClass},
    rtspsrc::messages::{Failure, SessionPhase},
};

/// Why a session ended by itself.
#[derive(Debug)]
pub(crate) enum EndReason {
    /// The server ended it in good order.
    Regular,
    /// The multiplexer gave it up.
    Mux(SessionPhase, mux::Error),
    /// What the server describes cannot be played.
    Description(String),
    /// What the server describes now does not fit the pads that are there.
    Changed(String),
    /// Nothing came for so long, on a connection that is alive.
    Silent(String, Duration),
    /// Packets came for so long, and none of them can be delivered.
    Undeliverable(String),
    /// A source said goodbye, though the description had announced no end.
    Bye(String),
    /// rtpbin is missing or refuses.
    Manager(glib::BoolError),
    /// Downstream has ended, or does not want data.
    Flow(gst::FlowError),
    /// The element is on its way down or gone.
    Stopped,
}

impl EndReason {
    /// What that is, as far as it decides whether the session is set up again.
    pub(crate) fn failure_class(&self) -> FailureClass {
        match self {
            Self::Mux(_, error) => FailureClass::of(error.kind(), error.retry_after()),
            Self::Description(_) | Self::Silent(..) | Self::Undeliverable(_) | Self::Bye(_) => {
                FailureClass::Refused
            }
            Self::Regular | Self::Changed(_) | Self::Manager(_) | Self::Flow(_) | Self::Stopped => {
                FailureClass::Hopeless
            }
        }
    }

    /// The error that the multiplexer takes into account when the session is set up again.
    pub(crate) fn to_error(&self) -> mux::Error {
        let kind = match self {
            Self::Mux(_, error) => return error.clone(),
            Self::Description(_) | Self::Undeliverable(_) => mux::ErrorKind::Sdp,
            _ => mux::ErrorKind::TimedOut,
        };
        mux::Error::of_session(kind, &self.reason())
    }

    /// In a sentence, without secrets.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Regular => "the server ended the session".to_owned(),
            Self::Mux(_, error) => error.to_string(),
            Self::Description(text) | Self::Changed(text) | Self::Undeliverable(text) => {
                text.clone()
            }
            Self::Silent(camera, silence) => {
                format!("{camera}: no media for {:.1} s", silence.as_secs_f64())
            }
            Self::Bye(camera) => format!("{camera}: the server said goodbye"),
            Self::Manager(error) => error.to_string(),
            Self::Flow(flow) => format!("streaming stopped, reason {flow}"),
            Self::Stopped => "stopped".to_owned(),
        }
    }

    /// Whether somebody wanted it, so that it is no failure.
    pub(crate) fn is_wanted(&self) -> bool {
        matches!(self, Self::Stopped | Self::Flow(gst::FlowError::Flushing))
    }

    /// The class of its reason.
    pub(crate) fn class(&self) -> ReasonClass {
        match self {
            Self::Mux(_, error) => ReasonClass::of(error.kind()),
            Self::Description(_) | Self::Changed(_) | Self::Manager(_) => ReasonClass::Unusable,
            Self::Silent(..) => ReasonClass::Silent,
            Self::Undeliverable(_) => ReasonClass::Undeliverable,
            Self::Regular | Self::Bye(_) | Self::Flow(_) | Self::Stopped => ReasonClass::Ended,
        }
    }

    /// What there is to say on the bus; none if it is no failure.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let failure = |code: &dyn Fn(&str) -> glib::Error| Failure::new(code(&self.reason()));
        Some(match self {
            Self::Stopped
            | Self::Regular
            | Self::Flow(gst::FlowError::Eos | gst::FlowError::Flushing) => return None,
            Self::Mux(phase, error) => Failure::of_mux(*phase, error),
            Self::Description(_) | Self::Changed(_) => {
                failure(&|text| glib::Error::new(gst::StreamError::Format, text))
            }
            Self::Silent(..) | Self::Undeliverable(_) | Self::Bye(_) => {
                failure(&|text| glib::Error::new(gst::ResourceError::Read, text))
            }
            Self::Manager(error) => Failure {
                error: glib::Error::new(gst::CoreError::MissingPlugin, "rtpbin cannot be used"),
                debug: error.to_string(),
                details: None,
            },
            Self::Flow(flow) => Failure::of_flow(*flow),
        })
    }
}
