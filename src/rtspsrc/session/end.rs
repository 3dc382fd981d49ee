//! Why a session ended without being told to, and the ERROR for that.

use gst::glib;
use gstreamer as gst;
use std::time::Duration;

use crate::{
    mux::{self, ErrorKind, recovery::FailureClass},
    rtspsrc::messages::{FailureMessage, SessionPhase},
};

/// Why a session ended without being told to.
#[derive(Debug)]
pub(crate) enum EndReason {
    /// The server ended it without an error.
    Regular,
    /// The multiplexer ended it with an error.
    Mux(SessionPhase, mux::Error),
    /// The element cannot play what the server describes.
    Description(String),
    /// The server describes other streams than those that the pads were made for.
    Changed(String),
    /// No media came for this time, on a connection that is alive.
    Silent(String, Duration),
    /// Packets came, and none of them could be delivered; the text says why.
    Undeliverable(String),
    /// A source sent RTCP BYE, though the description announced no end.
    Bye(String),
    /// rtpbin is missing or cannot be set up.
    Manager(glib::BoolError),
    /// Downstream has ended, or does not want data.
    Flow(gst::FlowError),
    /// A state change has stopped the session, or the element is gone.
    Stopped,
}

impl EndReason {
    /// The class by which `mux::recovery` decides whether the session is set up again.
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

    /// The error that [`Mux::turn`](crate::mux::Mux::turn) takes into account when the session asks for
    /// its turn.
    pub(crate) fn to_error(&self) -> mux::Error {
        let kind = match self {
            Self::Mux(_, error) => return error.clone(),
            Self::Description(_) | Self::Undeliverable(_) => mux::ErrorKind::Sdp,
            _ => mux::ErrorKind::TimedOut,
        };
        mux::Error::of_session(kind, &self.reason())
    }

    /// The reason in one sentence, without secrets.
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
            Self::Bye(camera) => format!("{camera}: the server ended a stream (RTCP BYE)"),
            Self::Manager(error) => error.to_string(),
            Self::Flow(flow) => format!("streaming stopped, reason {flow}"),
            Self::Stopped => "stopped".to_owned(),
        }
    }

    /// Whether the application or the pipeline wanted the end, so that it is no failure.
    pub(crate) fn is_wanted(&self) -> bool {
        matches!(self, Self::Stopped | Self::Flow(gst::FlowError::Flushing))
    }

    /// The class by which [`ReportHistory`](super::report::ReportHistory) decide how often the bus hears of it.
    pub(crate) fn class(&self) -> ReasonClass {
        match self {
            Self::Mux(_, error) => ReasonClass::of(error.kind()),
            Self::Description(_) | Self::Changed(_) | Self::Manager(_) => ReasonClass::Unusable,
            Self::Silent(..) => ReasonClass::Silent,
            Self::Undeliverable(_) => ReasonClass::Undeliverable,
            Self::Regular | Self::Bye(_) | Self::Flow(_) | Self::Stopped => ReasonClass::Ended,
        }
    }

    /// The ERROR or WARNING for it; `None` if it is no failure.
    pub(crate) fn failure(&self) -> Option<FailureMessage> {
        let failure =
            |code: &dyn Fn(&str) -> glib::Error| FailureMessage::new(code(&self.reason()));
        Some(match self {
            Self::Stopped
            | Self::Regular
            | Self::Flow(gst::FlowError::Eos | gst::FlowError::Flushing) => return None,
            Self::Mux(phase, error) => FailureMessage::of_mux(*phase, error),
            Self::Description(_) | Self::Changed(_) => {
                failure(&|text| glib::Error::new(gst::StreamError::Format, text))
            }
            Self::Silent(..) | Self::Undeliverable(_) | Self::Bye(_) => {
                failure(&|text| glib::Error::new(gst::ResourceError::Read, text))
            }
            Self::Manager(error) => FailureMessage {
                error: glib::Error::new(gst::CoreError::MissingPlugin, "rtpbin cannot be used"),
                debug: error.to_string(),
                details: None,
            },
            Self::Flow(flow) => FailureMessage::of_flow(*flow),
        })
    }
}

/// The class of the reason for which a session does not come up. A second failure of the same class is no
/// news for the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReasonClass {
    /// The server could not be reached, or its connection was lost.
    Unreachable,
    /// TLS with the server failed.
    Tls,
    /// The server does not answer.
    NoAnswer,
    /// The server has answered with an error.
    Refused,
    /// The server wants other credentials.
    Credentials,
    /// The server redirects the session, and it plays at none of the targets.
    Redirects,
    /// A limit of the user, of this crate or of the system is reached.
    Limit,
    /// The description, or another answer, cannot be used.
    Unusable,
    /// No media came.
    Silent,
    /// Media came, and none of it could be delivered.
    Undeliverable,
    /// The server ended the session.
    Ended,
}

impl ReasonClass {
    /// The class of an error of the multiplexer.
    pub(crate) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Resolve | ErrorKind::Connect | ErrorKind::ConnectionLost => {
                Self::Unreachable
            }
            ErrorKind::Tls(_) => Self::Tls,
            ErrorKind::TimedOut => Self::NoAnswer,
            ErrorKind::Unauthorized
            | ErrorKind::CredentialsOnHold
            | ErrorKind::Status(401 | 403 | 407) => Self::Credentials,
            ErrorKind::Status(_) => Self::Refused,
            ErrorKind::Redirects => Self::Redirects,
            ErrorKind::ServerLimit | ErrorKind::CannotShare | ErrorKind::Runtime => Self::Limit,
            ErrorKind::Cancelled | ErrorKind::ShutDown => Self::Ended,
            // Kinds that are added later will be about answers.
            _ => Self::Unusable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ReasonClass as Class, *};

    #[test]
    fn reasons_of_a_kind_are_of_one_class() {
        use crate::mux::{ErrorKind as Kind, TlsFailure};
        let table = [
            (Kind::Resolve, Class::Unreachable),
            (Kind::Connect, Class::Unreachable),
            (Kind::ConnectionLost, Class::Unreachable),
            (Kind::Tls(TlsFailure::Expired), Class::Tls),
            (Kind::TimedOut, Class::NoAnswer),
            (Kind::Unauthorized, Class::Credentials),
            (Kind::CredentialsOnHold, Class::Credentials),
            (Kind::Status(403), Class::Credentials),
            (Kind::Status(404), Class::Refused),
            (Kind::Status(461), Class::Refused),
            (Kind::Status(503), Class::Refused),
            (Kind::Redirects, Class::Redirects),
            (Kind::ServerLimit, Class::Limit),
            (Kind::Sdp, Class::Unusable),
            (Kind::Malformed, Class::Unusable),
        ];
        for (kind, class) in table {
            assert_eq!(ReasonClass::of(kind), class, "{kind:?}");
        }
    }
}
