//! Outputs of the core: packets, completions, and events of sessions and the connection.

use std::{
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtsp_types::Method;
use url::Url;

use super::{
    auth::{CredentialReport, credentials::Credentials},
    command::{
        OutgoingRequest, ParameterAnswer, RequestId, ServerAnswer, ServerRequest, SessionKey,
    },
    limits::LimitExceeded,
    wire::{header::RtpInfo, redacted, rtp::RtpHeader},
};

/// One event. Drain them with [`Connection::poll_event`](super::Connection::poll_event).
#[derive(Debug)]
pub enum Event {
    /// Media of a session.
    Packet(Packet),
    /// A packet that was held because it was not known whether its source is that of its stream.
    HeldPacket {
        /// The packet.
        packet: Packet,
        /// When it was read.
        received: Instant,
    },
    /// A request of a session is over; exactly one for each [`RequestId`].
    Completed {
        /// The session of the request.
        session: SessionKey,
        /// Which one.
        request: RequestId,
        /// How it ended.
        result: Result<Reply, Failure>,
    },
    /// The server ended a session that was playing or ready; the connection lives.
    SessionLost {
        /// Which one.
        session: SessionKey,
        /// Why.
        failure: Failure,
    },
    /// The server sends a session elsewhere; the session lives until it is released.
    Redirected {
        /// Which one.
        session: SessionKey,
        /// Where to.
        redirect: Redirect,
    },
    /// The server can have nothing of this session any more, and the core has forgotten it. Comes
    /// exactly once for every released session.
    SessionClosed(SessionKey),
    /// What the connection asks or has learned of the credentials. Answer what it asks with
    /// [`Connection::handle_credential_status`](super::Connection::handle_credential_status).
    Credentials(CredentialReport),
    /// The connection should take no further session. Those it has go on.
    NoMoreSessions(Retirement),
    /// A request that is about to be sent, on a connection that shows them
    /// ([`shows_requests`](super::ConnectionConfig::shows_requests)). Nothing is sent before
    /// [`handle_seen`](super::Connection::handle_seen) is called with this number.
    BeforeSend {
        /// Counts up.
        number: u64,
        /// What is to be sent.
        request: OutgoingRequest,
    },
    /// A request of the server, on a connection whose user
    /// [answers](super::ConnectionConfig::asks_for_answers). Without
    /// [`handle_server_answer`](super::Connection::handle_server_answer) within 2 s the core answers.
    ServerRequest {
        /// Counts up.
        number: u64,
        /// What the server asks.
        request: ServerRequest,
        /// What the core answers, if the user does not change it.
        answer: ServerAnswer,
    },
    /// A [`probe`](super::Connection::probe) is over.
    Probed(ProbeOutcome),
    /// The idle timeout has passed. The driver closes with
    /// [`Connection::close`](super::Connection::close), or does nothing if a session has taken a
    /// reference meanwhile.
    IdleExpired,
    /// The last event: the connection is over, and so is every session on it. Everything outstanding
    /// was completed before it; what is asked for later completes at once.
    Closed(CloseReason),
}

/// One RTP or RTCP packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The session it belongs to.
    pub session: SessionKey,
    /// The stream, as numbered at its SETUP.
    pub stream: usize,
    /// RTP or RTCP.
    pub kind: PacketKind,
    /// The header of an RTP packet; `None` for RTCP.
    pub header: Option<RtpHeader>,
    /// The packet without the four bytes of interleaving; shares the memory it was read into.
    pub payload: Bytes,
}

/// What an interleaved packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// Media (RFC 3550 5).
    Rtp,
    /// Control (RFC 3550 6).
    Rtcp,
}

/// A request succeeded.
pub enum Reply {
    /// Answer to DESCRIBE.
    Described {
        /// The description, as received.
        sdp: Bytes,
        /// `Content-Base`, if any.
        content_base: Option<String>,
        /// `Content-Location`, if any.
        content_location: Option<String>,
        /// The result for the first URL of the connection: a server that stays with its first URL
        /// (go2rtc, ZLMediaKit) may have described that one in place of this session's URL.
        first: FirstAsked,
    },
    /// Answer to SETUP.
    SetUp(StreamGrant),
    /// Answer to PLAY.
    Playing(PlayAnswer),
    /// Answer to PAUSE.
    Paused,
    /// Answer to GET_PARAMETER or SET_PARAMETER, also one that refuses.
    Parameters(ParameterAnswer),
    /// Answer to TEARDOWN.
    TornDown,
}

/// What the answer to PLAY says of the media. What the server leaves out is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlayAnswer {
    /// `RTP-Info`.
    pub rtp_info: Vec<RtpInfo>,
    /// `Range`: what is played, which need not be what was asked for.
    pub range: Option<String>,
    /// `Scale` (RFC 2326 12.34).
    pub scale: Option<f64>,
    /// `Speed` (RFC 2326 12.35).
    pub speed: Option<f64>,
}

/// Shows nothing of a description: it may hold secrets, and its length tells enough.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Described { sdp, .. } => write!(f, "Described({} bytes)", sdp.len()),
            Self::SetUp(grant) => f.debug_tuple("SetUp").field(grant).finish(),
            Self::Playing(answer) => f.debug_tuple("Playing").field(&answer.rtp_info).finish(),
            Self::Paused => f.write_str("Paused"),
            Self::Parameters(answer) => write!(f, "Parameters({})", answer.code),
            Self::TornDown => f.write_str("TornDown"),
        }
    }
}

/// What the server had answered for the first URL of a connection, when another URL was described
/// there. The first URL is that of the request written first, even if its session is gone.
#[derive(Clone, PartialEq, Eq)]
pub enum FirstAsked {
    /// The URL that was described is the first one.
    Own,
    /// The first URL got this description.
    Described(Bytes),
    /// The server has refused to describe the first URL.
    Refused,
    /// The first URL was not described, or is not answered yet.
    Unanswered,
}

/// Shows no description.
impl fmt::Debug for FirstAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "Own",
            Self::Described(_) => "Described",
            Self::Refused => "Refused",
            Self::Unanswered => "Unanswered",
        })
    }
}

/// What the server granted to a SETUP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamGrant {
    /// The stream, as numbered by the caller.
    pub stream: usize,
    /// Channel of its RTP packets.
    pub rtp_channel: u8,
    /// Channel of its RTCP packets; `None` beyond channel 255.
    pub rtcp_channel: Option<u8>,
    /// SSRC the server announced, if any.
    pub ssrc: Option<u32>,
    /// The session's id, as it goes into the `Session` header.
    pub session_id: String,
    /// The session timeout: announced, or the default.
    pub session_timeout: Duration,
}

/// A request failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What kind of request.
    pub method: Method,
    /// Its CSeq; `None` if it was never sent.
    pub cseq: Option<u32>,
    /// Why.
    pub kind: FailureKind,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, kind) = (<&str>::from(&self.method), &self.kind);
        match self.cseq {
            Some(cseq) => write!(f, "{method} (CSeq {cseq}): {kind}"),
            None => write!(f, "{method} (not sent): {kind}"),
        }
    }
}

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailureKind {
    /// The server answered with an error status.
    #[error("the server answered {code} {reason}")]
    Status {
        /// The status code, 300 to 999.
        code: u16,
        /// The reason phrase as sent, shortened and without control characters.
        reason: String,
        /// `Retry-After`, if given in seconds.
        retry_after: Option<Duration>,
    },
    /// The server answered 3xx with a usable `Location`.
    #[error("the server answered {code}: moved to {}", redacted(.location))]
    Redirect {
        /// The status code.
        code: u16,
        /// The target, without userinfo.
        location: Url,
        /// The userinfo of the target, for that server only.
        credentials: Option<Box<Credentials>>,
    },
    /// The server refused the credentials, or asks for credentials and none were given.
    #[error("{explanation}")]
    Unauthorized {
        /// Whether credentials were sent.
        tried: bool,
        /// What is wrong, in words.
        explanation: String,
        /// The reason phrase of the answer, as in `Status`; empty if another request was refused.
        reason: String,
        /// When they may be tried again.
        retry_after: Option<Duration>,
    },
    /// The credentials are not tried for some time, although the server has not refused them: its
    /// answers so far say nothing about them.
    #[error("{explanation}")]
    CredentialsOnHold {
        /// Why, in words.
        explanation: String,
        /// For how long.
        retry_after: Duration,
    },
    /// No answer within the response deadline.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The server has answered a later request and not this one (go2rtc, EvoStream): it ignores it.
    /// If its answer comes after all, the answer is dropped, and a session that it made is torn down.
    #[error("the server ignores it, and answers what was sent later")]
    Ignored,
    /// The answer, or a part of it, exceeds a limit.
    #[error("{0}")]
    LimitExceeded(LimitExceeded),
    /// The answer cannot be used.
    #[error("the answer cannot be used: {0}")]
    Malformed(String),
    /// No channel pair is left: the session needs another connection.
    #[error("no interleaved channels left on the connection")]
    ChannelsExhausted,
    /// The answer shows that the server mixes up sessions of one connection.
    #[error("{0}")]
    CannotShare(SharingViolation),
    /// The connection ended first.
    #[error("{0}")]
    ConnectionLost(CloseReason),
    /// The user has held the request back.
    #[error("the application has held the request back")]
    Withheld,
    /// The session was released or torn down first, or its state does not allow the request.
    #[error("cancelled")]
    Cancelled,
}

/// The same sentence as [`Display`](fmt::Display): a redirect's URL may hold a secret.
impl fmt::Debug for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FailureKind({self})")
    }
}

/// How a server showed that it cannot carry several sessions on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharingViolation {
    /// Two sessions of the connection have one id (Rockchip firmware: always `12345678`).
    #[error("the server gave two sessions of one connection the same id")]
    SameSessionId,
    /// Two answers name one channel (go2rtc, ZLMediaKit). No session of the connection can be addressed
    /// any more.
    #[error("the server gave two streams of one connection the same channels")]
    SameChannels,
}

/// What the server does with a connection after a DESCRIBE of a resource that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It answers the DESCRIBE and the request after it.
    Stands,
    /// It closes the connection, or answers no second DESCRIBE.
    Fails,
    /// It is still unknown.
    Undecided,
}

/// Why a connection takes no further session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retirement {
    /// The server cannot share it.
    CannotShare(SharingViolation),
    /// A TEARDOWN was not answered: the server may still have the session.
    TeardownUnanswered,
    /// Too many of its channels are in quarantine.
    Quarantine,
    /// The server sent something unasked while the connection was idle.
    SpokeUnasked,
    /// The server sends all its sessions elsewhere.
    Redirected,
}

/// Where the server sends a session (RFC 2326 10.10).
#[derive(Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The URL there, without userinfo; `None`: the same one, on another connection.
    pub location: Option<Url>,
    /// The userinfo of the target, for that server only.
    pub credentials: Option<Box<Credentials>>,
    /// When the session is to leave.
    pub when: RedirectTime,
}

/// When a session is to leave for where the server sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectTime {
    /// After this time.
    After(Duration),
    /// At this time since 1970, of the server's clock.
    At(Duration),
}

/// Shows its URL redacted.
impl fmt::Debug for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirect")
            .field("location", &self.location.as_ref().map(redacted))
            .field("when", &self.when)
            .finish_non_exhaustive()
    }
}

/// A loss of framing: bytes that belong to no frame or message, where one should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramingLoss {
    /// The session of the frame right before them. `None` if a message came before them, or a frame
    /// of no session.
    pub after: Option<SessionKey>,
    /// The session of the frame found after them, in the same way.
    pub before: Option<SessionKey>,
}

/// RTP packets of a stream that were not delivered because its description does not name their payload
/// types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undescribed {
    /// The session of their channel.
    pub session: SessionKey,
    /// The caller's number of the stream.
    pub stream: usize,
    /// The payload type of the last one.
    pub payload_type: u8,
    /// The number of packets.
    pub count: u64,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// We closed it: idle, or shut down.
    #[error("we closed the connection: it was idle, or shut down")]
    Local,
    /// The server closed it.
    #[error("the server closed the connection")]
    PeerClosed,
    /// The socket failed; the text is the system's.
    #[error("the connection broke: {0}")]
    Io(String),
    /// The server let a deadline pass; the text says which.
    #[error("the connection is dead: {0}")]
    Dead(&'static str),
    /// The server's bytes cannot be understood; the text says why.
    #[error("the server's bytes cannot be understood: {0}")]
    Protocol(&'static str),
    /// The machine was suspended, and the server has not kept the connection.
    #[error("this machine slept, and the server has given the connection up meanwhile")]
    Suspended,
    /// The server closed the connection after a 401, whose challenge can be answered on another
    /// connection.
    #[error("the server closed the connection behind its 401")]
    Challenged,
}
