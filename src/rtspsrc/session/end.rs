//! Why a session ended by itself, and how that is said on the bus.

use gst::glib;
use gstreamer as gst;
use std::time::Duration;

use crate::{
    mux::{self, ErrorKind, recovery::FailureClass},
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

/// Why a session does not come up, as far as another failure of the same class is no news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReasonClass {
    /// There is no connection to the server, or it went.
    Unreachable,
    /// There is no TLS with the server.
    Tls,
    /// The server does not answer.
    NoAnswer,
    /// The server has answered with an error.
    Refused,
    /// It wants other credentials.
    Credentials,
    /// It sends the session elsewhere, and nowhere it plays.
    Redirects,
    /// A limit, of ours or of the user's, is reached.
    Limit,
    /// What it describes, or answers, cannot be used.
    Unusable,
    /// No media came.
    Silent,
    /// Media came that cannot be delivered.
    Undeliverable,
    /// The server ended the session.
    Ended,
}

impl ReasonClass {
    /// Of an error of the multiplexer.
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
            // What is added to the list is about answers.
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
