//! A request before it is written: what it is for, whose it is, and how long its caller waits.

use std::time::Duration;

use rtsp_types::Method;
use url::Url;

use crate::mux::proto::{
    auth::AuthTrail,
    command::{RequestId, SessionKey},
};

/// The purpose of a request, which decides what its answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Describe,
    Setup {
        stream: usize,
        /// The RTP channel asked for; the RTCP channel is the next one.
        asked: u8,
        payload_types: Vec<u8>,
    },
    Play,
    Pause,
    Teardown,
    /// Keeps a session alive.
    KeepAlive,
    /// Checks that the server still answers: before reuse, or in silence.
    Ping,
    /// Its answer shows that the server has ignored all unanswered requests before it.
    Fence,
    /// A DESCRIBE of a resource that does not exist; what counts is what the server does with the
    /// connection.
    Probe,
    /// Its answer shows that the connection has survived the probe before it.
    ProbeFence,
    /// Ends a session without an owner: its id came with the late answer to an ignored SETUP.
    Undo {
        id: String,
    },
}

/// A request that can be written; again, if it gets a 401.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) purpose: Purpose,
    /// The session of the request; `None` if it is the connection's own.
    pub(crate) session: Option<SessionKey>,
    /// The caller to notify; `None` if there is none any more.
    pub(crate) caller: Option<RequestId>,
    pub(crate) deadline: Duration,
    /// How long its caller waits, if less than that.
    pub(crate) patience: Option<Duration>,
    /// The 401s that the request got.
    pub(crate) auth: AuthTrail,
    /// True if it was sent before and ignored.
    pub(crate) is_repeated: bool,
}
