//! What goes into the core: names of things and the requests a session can make.

use std::fmt;

use rtsp_types::Method;
use url::Url;

use super::wire::uri::redacted;

/// Names a session on one connection; never reused on that connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub(super) u32);

impl SessionKey {
    /// Counts from 0 in the order of opening.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// Chosen by the caller of [`Connection::request`](super::Connection::request); comes back in
/// [`Event::Completed`](super::Event::Completed), exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// One session as the core has to know it before anything is sent.
#[derive(Clone)]
pub struct SessionConfig {
    /// The presentation to play, without userinfo.
    pub url: Url,
    /// Whether the core keeps the session alive; without it the server ends it after its timeout.
    pub keep_alive: bool,
}

impl fmt::Debug for SessionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionConfig")
            .field("url", &redacted(&self.url))
            .field("keep_alive", &self.keep_alive)
            .finish()
    }
}

/// What a session can ask of the server.
#[derive(Clone)]
pub enum SessionRequest {
    /// DESCRIBE of the session's URL.
    Describe,
    /// SETUP of one media stream, interleaved on channels that the core chooses.
    Setup {
        /// The caller's number of the stream; packets carry it.
        stream: usize,
        /// The stream's control URL.
        control: Url,
        /// Payload types of the stream; packets with another one are foreign. Empty: all are taken.
        payload_types: Vec<u8>,
    },
    /// PLAY of all streams that were set up, under aggregate control.
    Play {
        /// The aggregate control URL.
        aggregate: Url,
    },
    /// PAUSE of the session; it stays kept alive.
    Pause,
    /// TEARDOWN of the session: the last thing it does.
    Teardown,
}

/// Shows which request it is, and no URL.
impl fmt::Debug for SessionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Describe => "Describe",
            Self::Setup { .. } => "Setup",
            Self::Play { .. } => "Play",
            Self::Pause => "Pause",
            Self::Teardown => "Teardown",
        })
    }
}

impl SessionRequest {
    pub(super) fn method(&self) -> Method {
        match self {
            Self::Describe => Method::Describe,
            Self::Setup { .. } => Method::Setup,
            Self::Play { .. } => Method::Play,
            Self::Pause => Method::Pause,
            Self::Teardown => Method::Teardown,
        }
    }
}
