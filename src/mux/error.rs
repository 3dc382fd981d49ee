//! Errors: what failed, who caused it, and whether trying again can help.

use std::{fmt, sync::Arc, time::Duration};

use rtsp_types::Method;

use super::proto::{CloseReason, Failure, FailureKind};
use crate::mux::ids::ConnectionId;

/// An error of a session or its connection; cheap to clone, free of secrets.
///
/// `Display` is one sentence that names camera, request and status.
#[derive(Clone, Debug)]
pub struct Error(Arc<Detail>);

#[derive(Clone, Debug)]
struct Detail {
    kind: ErrorKind,
    scope: Scope,
    initiator: Initiator,
    explanation: String,
    request: Option<Method>,
    cseq: Option<u32>,
    reason: Option<String>,
    retry_after: Option<Duration>,
    camera: Option<String>,
    connection: Option<ConnectionId>,
    is_behind_redirect: bool,
}

/// The kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The URL cannot be played.
    InvalidUrl,
    /// The host's name has no address.
    Resolve,
    /// The connection could not be established.
    Connect,
    /// The TCP connection was established, but not TLS on it.
    Tls(TlsFailure),
    /// The server answered with this status.
    Status(u16),
    /// The server asks for credentials, or does not accept those that were given.
    Unauthorized,
    /// User and password are not tried for some time: the server has not refused them, but its answers
    /// to other sessions did not say whether they are right.
    CredentialsOnHold,
    /// The server did not answer in time.
    TimedOut,
    /// The server's description cannot be used.
    Sdp,
    /// The server's answer exceeds one of our limits.
    LimitExceeded,
    /// The server's answer cannot be understood.
    Malformed,
    /// `max-connections-per-server` is reached, and no connection can take the session.
    ServerLimit,
    /// The server cannot carry several sessions on one connection, and the session's options forbid
    /// a connection of its own.
    CannotShare,
    /// The connection ended.
    ConnectionLost,
    /// The session's options contradict each other.
    Options,
    /// Too many redirects, a loop of them, or one that must not be followed.
    Redirects,
    /// The session was dropped or torn down before the step was done.
    Cancelled,
    /// The multiplexer was shut down.
    ShutDown,
    /// The system could not start a runtime.
    Runtime,
}

/// Why there is no TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailure {
    /// No authority that we trust has issued the server's certificate.
    UnknownAuthority,
    /// The certificate is for other host names.
    WrongName,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet; or the clock of this machine was not set yet.
    NotYetValid,
    /// The certificate cannot be used, for another reason.
    Certificate,
    /// The certificate is not the one whose fingerprint the options name.
    OtherFingerprint,
    /// The peer does not speak TLS.
    NotTls,
    /// The server refuses the handshake, or supports no version or cipher that we support.
    Refused,
    /// The connection ended during the handshake.
    Interrupted,
    /// The handshake took longer than the connect timeout.
    TimedOut,
}

impl TlsFailure {
    /// True if it may pass without a change of configuration.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Interrupted | Self::TimedOut | Self::NotYetValid)
    }
}

/// What an error ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The connection with all its sessions.
    Connection,
    /// One session.
    Session,
    /// One request; the session goes on.
    Request,
}

/// Who caused an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// What the user asked for.
    User,
    /// A decision or limit of this library.
    Library,
    /// The server, or the network path to it.
    Server,
}

impl ErrorKind {
    /// What errors of this kind end, and who causes them, unless their maker says otherwise.
    fn usual(self) -> (Scope, Initiator) {
        use Initiator::{Library, Server, User};

        match self {
            Self::InvalidUrl | Self::Options | Self::ShutDown => (Scope::Session, User),
            Self::Unauthorized | Self::Sdp | Self::CannotShare | Self::Redirects => {
                (Scope::Session, Server)
            }
            Self::CredentialsOnHold | Self::ServerLimit => (Scope::Session, Library),
            Self::Cancelled => (Scope::Request, User),
            Self::Status(_) | Self::TimedOut | Self::LimitExceeded | Self::Malformed => {
                (Scope::Request, Server)
            }
            Self::Resolve | Self::Connect | Self::Tls(_) | Self::ConnectionLost => {
                (Scope::Connection, Server)
            }
            Self::Runtime => (Scope::Connection, Library),
        }
    }
}

impl Error {
    /// An error of this kind, which ends what such errors mostly end.
    pub(crate) fn new(kind: ErrorKind, explanation: impl Into<String>) -> Self {
        let (scope, initiator) = kind.usual();
        Self(Arc::new(Detail {
            kind,
            scope,
            initiator,
            explanation: explanation.into(),
            request: None,
            cseq: None,
            reason: None,
            retry_after: None,
            camera: None,
            connection: None,
            is_behind_redirect: false,
        }))
    }

    pub(crate) fn invalid_url(explanation: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidUrl, explanation)
    }

    pub(crate) fn shut_down() -> Self {
        Self::new(ErrorKind::ShutDown, "the multiplexer was shut down")
    }

    /// All sessions that waited for a connection attempt have gone; no session sees this error.
    pub(crate) fn abandoned() -> Self {
        let explanation = "no session waits for the connection any more";
        Self::new(ErrorKind::Cancelled, explanation)
    }

    /// The driver ended without a close reason: it panicked, or its runtime was shut down.
    pub(crate) fn driver_died() -> Self {
        let explanation = "the connection's task ended unexpectedly";
        Self::new(ErrorKind::ConnectionLost, explanation).caused_by(Initiator::Library)
    }

    /// A connection ended while sessions used it.
    pub(crate) fn connection_lost(reason: &CloseReason) -> Self {
        let error = Self::new(ErrorKind::ConnectionLost, reason.to_string());
        match reason {
            CloseReason::Local | CloseReason::Suspended => error.caused_by(Initiator::Library),
            _ => error,
        }
    }

    /// A request failed.
    pub(crate) fn from_failure(failure: &Failure) -> Self {
        let error = match &failure.kind {
            FailureKind::ConnectionLost(reason) => Self::connection_lost(reason),
            kind => Self::new(kind_of(kind), kind.to_string()),
        };
        error.with(|detail| {
            (detail.request, detail.cseq) = (Some(failure.method.clone()), failure.cseq);
            detail.reason = match &failure.kind {
                FailureKind::Status { reason, .. } => Some(reason.clone()),
                FailureKind::Unauthorized { reason, .. } if !reason.is_empty() => {
                    Some(reason.clone())
                }
                _ => None,
            };
            detail.retry_after = match failure.kind {
                FailureKind::Status { retry_after, .. }
                | FailureKind::Unauthorized { retry_after, .. } => retry_after,
                FailureKind::CredentialsOnHold { retry_after, .. } => Some(retry_after),
                _ => None,
            };
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Detail)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Not the usual initiator of errors of this kind.
    pub(crate) fn caused_by(self, initiator: Initiator) -> Self {
        self.with(|detail| detail.initiator = initiator)
    }

    /// Names the camera, by an URL without secrets.
    pub(crate) fn of_camera(self, camera: &str) -> Self {
        self.with(|detail| _ = detail.camera.get_or_insert_with(|| camera.to_owned()))
    }

    /// Names the request whose answer is at fault.
    pub(crate) fn in_request(self, request: &str) -> Self {
        self.with(|detail| detail.request = Some(request.into()))
    }

    /// Names the connection.
    pub(crate) fn on(self, connection: ConnectionId) -> Self {
        self.with(|detail| _ = detail.connection.get_or_insert(connection))
    }

    /// What kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the error ends.
    pub fn scope(&self) -> Scope {
        self.0.scope
    }

    /// Who caused the error.
    pub fn initiator(&self) -> Initiator {
        self.0.initiator
    }

    /// The error occurred at a server to which the server that the user named had redirected.
    pub(crate) fn behind_redirect(self) -> Self {
        self.with(|detail| detail.is_behind_redirect = true)
    }

    pub(crate) fn is_behind_redirect(&self) -> bool {
        self.0.is_behind_redirect
    }

    /// True if the connection could not be established.
    pub(crate) fn is_of_dialling(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Connect | ErrorKind::Resolve | ErrorKind::Tls(_)
        )
    }

    /// True if a dial error concerns every session that needs a connection to this server; false if
    /// only those with the same TLS options.
    pub(crate) fn concerns_server(&self) -> bool {
        match self.0.kind {
            ErrorKind::Tls(failure) => {
                matches!(failure, TlsFailure::Interrupted | TlsFailure::TimedOut)
            }
            _ => true,
        }
    }

    /// The server's status code, if it answered with one.
    pub fn status(&self) -> Option<u16> {
        match self.0.kind {
            ErrorKind::Status(code) => Some(code),
            ErrorKind::Unauthorized => Some(401),
            _ => None,
        }
    }

    /// The server's reason phrase, if it answered with one.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// When the server wants to be asked again, if it said so; or when refused credentials may be
    /// tried again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The request that failed, such as `DESCRIBE`.
    pub fn request(&self) -> Option<&str> {
        self.0.request.as_ref().map(Into::into)
    }

    /// The CSeq of the request, to find it in a capture.
    pub fn cseq(&self) -> Option<u32> {
        self.0.cseq
    }

    /// The camera's URL without secrets.
    pub fn camera(&self) -> Option<&str> {
        self.0.camera.as_deref()
    }

    /// The number of the connection, as in [`MuxStats`](super::MuxStats).
    pub fn connection(&self) -> Option<u64> {
        self.0.connection.map(|id| id.0)
    }

    /// True if the same request may succeed later without a change of configuration.
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Resolve
            | ErrorKind::Connect
            | ErrorKind::TimedOut
            | ErrorKind::CredentialsOnHold
            | ErrorKind::ServerLimit
            | ErrorKind::ConnectionLost => true,
            ErrorKind::Tls(failure) => failure.is_passing(),
            // Timeout, not enough bandwidth, session not found: these pass. Other 4xx mean that the
            // request itself is wrong.
            ErrorKind::Status(code) => code >= 500 || matches!(code, 408 | 453 | 454),
            _ => false,
        }
    }
}

fn kind_of(failure: &FailureKind) -> ErrorKind {
    match failure {
        FailureKind::Status { code, .. } => ErrorKind::Status(*code),
        FailureKind::Redirect { .. } => ErrorKind::Redirects,
        FailureKind::Unauthorized { .. } => ErrorKind::Unauthorized,
        FailureKind::CredentialsOnHold { .. } => ErrorKind::CredentialsOnHold,
        FailureKind::TimedOut(_) | FailureKind::Ignored => ErrorKind::TimedOut,
        FailureKind::LimitExceeded(_) => ErrorKind::LimitExceeded,
        FailureKind::Malformed(_) => ErrorKind::Malformed,
        FailureKind::ChannelsExhausted => ErrorKind::ServerLimit,
        FailureKind::CannotShare(_) => ErrorKind::CannotShare,
        FailureKind::ConnectionLost(_) => ErrorKind::ConnectionLost,
        FailureKind::Withheld => ErrorKind::Options,
        FailureKind::Cancelled => ErrorKind::Cancelled,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = &*self.0;
        if let Some(camera) = &detail.camera {
            write!(f, "{camera}: ")?;
        }
        if let Some(request) = self.request() {
            write!(f, "{request} failed: ")?;
        }
        f.write_str(&detail.explanation)?;
        match (detail.connection, detail.cseq) {
            (Some(connection), Some(cseq)) => write!(f, " (connection {connection}, CSeq {cseq})"),
            (Some(connection), None) => write!(f, " (connection {connection})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use rtsp_types::Method;

    use super::*;

    fn failure(kind: FailureKind) -> Failure {
        Failure {
            method: Method::Describe,
            cseq: Some(7),
            kind,
        }
    }

    #[test]
    fn a_sentence_names_camera_request_and_status() {
        let kind = FailureKind::Status {
            code: 404,
            reason: "Not Found".into(),
            retry_after: None,
        };
        let error = Error::from_failure(&failure(kind))
            .of_camera("rtsp://nvr/1")
            .on(ConnectionId(3));
        assert_eq!(
            error.to_string(),
            "rtsp://nvr/1: DESCRIBE failed: the server answered 404 Not Found (connection c3, CSeq 7)"
        );
        assert_eq!(
            (error.status(), error.request()),
            (Some(404), Some("DESCRIBE"))
        );
        assert!(!error.is_retryable());
    }

    #[test]
    fn what_passes_by_itself_is_retryable() {
        for code in [408, 453, 454, 500, 503] {
            let kind = FailureKind::Status {
                code,
                reason: String::new(),
                retry_after: None,
            };
            assert!(Error::from_failure(&failure(kind)).is_retryable(), "{code}");
        }
        assert!(Error::connection_lost(&CloseReason::PeerClosed).is_retryable());
        let tried = FailureKind::Unauthorized {
            tried: true,
            explanation: "no".into(),
            reason: "Unauthorized".into(),
            retry_after: None,
        };
        assert!(!Error::from_failure(&failure(tried)).is_retryable());
    }

    #[test]
    fn what_was_said_first_about_camera_and_connection_stays() {
        let error = Error::shut_down()
            .of_camera("rtsp://a/")
            .of_camera("rtsp://b/");
        assert_eq!(error.camera(), Some("rtsp://a/"));
    }
}
