//! Inputs of the core: names of sessions and requests, and what a session can ask for.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use rtsp_types::Method;
use url::Url;

use super::wire::redacted;

/// Names a session on one connection; never reused on that connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub(crate) u32);

impl SessionKey {
    /// Counts from 0 in the order of opening.
    pub fn index(self) -> usize {
        self.0 as usize
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

/// The configuration of a session, which the core needs before anything is sent.
#[derive(Clone)]
pub struct SessionConfig {
    /// The presentation to play, without userinfo.
    pub url: Url,
    /// True if the core sends keep-alives; without them the server ends the session after its
    /// timeout.
    pub keep_alive: bool,
    /// The size of packets that each SETUP asks for (`Blocksize`, RFC 2326 12.7).
    pub block_size: Option<u32>,
}

impl fmt::Debug for SessionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionConfig")
            .field("url", &redacted(&self.url))
            .field("keep_alive", &self.keep_alive)
            .field("block_size", &self.block_size)
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
        /// The RTP profile of the stream.
        profile: Profile,
        /// The payload types of the stream. Packets with another type are foreign. Empty accepts
        /// all.
        payload_types: Vec<u8>,
        /// Which sources the stream accepts packets from, by what describes the presentation.
        sources: SourcePolicy,
    },
    /// PLAY of all streams that were set up, under aggregate control.
    Play {
        /// The aggregate control URL.
        aggregate: Url,
        /// Where it begins.
        range: PlayRange,
    },
    /// PAUSE of the session; it stays kept alive.
    Pause,
    /// GET_PARAMETER or SET_PARAMETER of the session, with a body.
    Parameters(ParameterRequest),
    /// TEARDOWN of the session: the last thing it does.
    Teardown,
}

/// A request before it is sent. `Debug` shows its method alone: URI, headers and body may hold secrets.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutgoingRequest {
    /// `DESCRIBE`, `SETUP`, ...
    pub method: String,
    /// As it is written.
    pub uri: String,
    /// Names and values, in order; without `CSeq` and `Authorization`, which come when it is sent. Of the
    /// changes to `Session`, `Content-Length` and the channels in `Transport` none counts.
    pub headers: Vec<(String, String)>,
    /// Of SET_PARAMETER and GET_PARAMETER; it stays as it is.
    pub body: Bytes,
}

impl fmt::Debug for OutgoingRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.method)
    }
}

/// A request of the server. `Debug` shows its method alone.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerRequest {
    /// `OPTIONS`, `ANNOUNCE`, ...
    pub method: String,
    /// As written.
    pub uri: String,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// What comes with it.
    pub body: Bytes,
}

impl fmt::Debug for ServerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.method)
    }
}

/// The answer to a [`ServerRequest`]. `Debug` shows its code alone.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerAnswer {
    /// The status code.
    pub code: u16,
    /// The reason phrase.
    pub reason: String,
    /// Names and values, in order; without `CSeq`, `Session` and `Content-Length`, which are not the user's.
    pub headers: Vec<(String, String)>,
    /// What goes with it.
    pub body: Bytes,
}

impl ServerAnswer {
    /// The library's own.
    pub(super) fn usual(method: &Method) -> Self {
        let (code, reason) = match method {
            Method::Options
            | Method::GetParameter
            | Method::SetParameter
            | Method::Announce
            | Method::Redirect
            | Method::Teardown => (200, "OK"),
            _ => (501, "Not Implemented"),
        };
        Self {
            code,
            reason: reason.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }
}

impl fmt::Debug for ServerAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)
    }
}

/// A question for parameters of a session, or a change of one (RFC 2326 10.8, 10.9). `Debug` shows no
/// value: it may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ParameterRequest {
    /// SET_PARAMETER instead of GET_PARAMETER.
    pub is_change: bool,
    /// The `Content-Type` of the body.
    pub content_type: String,
    /// The parameters.
    pub body: Bytes,
}

impl ParameterRequest {
    pub(crate) fn method(&self) -> Method {
        match self.is_change {
            true => Method::SetParameter,
            false => Method::GetParameter,
        }
    }
}

impl fmt::Debug for ParameterRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(<&str>::from(&self.method()))
    }
}

/// The answer to a [`ParameterRequest`], whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterAnswer {
    /// The status code.
    pub code: u16,
    /// What the server sent with it.
    pub body: Bytes,
}

/// Where PLAY begins. Behind a PAUSE it resumes (RFC 2326 10.5), unless it is [`Given`](Self::Given).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PlayRange {
    /// `npt=0.000-`
    #[default]
    Start,
    /// `npt=now-`, as the description says; some cameras refuse any other with 457.
    Now,
    /// None.
    Unnamed,
    /// A seek: by these headers, on a session that has played as well.
    Given(PlayHeaders),
}

/// Names and values of the headers of a PLAY that say from where, how fast and how media is played:
/// `Range`, `Scale`, `Speed`, `Rate-Control`, `Frames`.
pub type PlayHeaders = Arc<[(&'static str, String)]>;

/// The RTP profile of a stream (RFC 3551, 4585, 3711, 5124), which its SETUP names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Neither feedback nor encryption.
    #[default]
    Avp,
    /// With feedback.
    Avpf,
    /// With encryption.
    Savp,
    /// With both.
    Savpf,
}

impl Profile {
    /// As written in `Transport`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avp => "AVP",
            Self::Avpf => "AVPF",
            Self::Savp => "SAVP",
            Self::Savpf => "SAVPF",
        }
    }

    /// That of a protocol: `RTP/AVP`, and what cameras write: `RTP/AVP/TCP`, `RTP/AVP/UDP`,
    /// `TCP/RTP/AVPF`, `rtp/avp`.
    pub(super) fn of(protocol: &str) -> Option<Self> {
        let (mut is_rtp, mut profile) = (false, None);
        for part in protocol.split('/') {
            match part.to_ascii_uppercase().as_str() {
                "RTP" => is_rtp = true,
                "TCP" | "UDP" => {}
                "AVP" => profile = Some(Self::Avp),
                "AVPF" => profile = Some(Self::Avpf),
                "SAVP" => profile = Some(Self::Savp),
                "SAVPF" => profile = Some(Self::Savpf),
                _ => return None,
            }
        }
        profile.filter(|_| is_rtp)
    }
}

/// From which sources (SSRCs) a stream accepts packets. `connection/sources.rs` does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourcePolicy {
    /// Packets of another source are held until it is clear whether it takes the stream over, and
    /// are never lost by that. Those of the channel's previous owner are dropped.
    #[default]
    Any,
    /// One source at a time, for live555 before 2017.06.04 and the cameras it is in (many of
    /// Reolink).
    ///
    /// The stream belongs to the first source heard once PLAY is at the head of the line, or to the one that
    /// the answer to PLAY names: until then packets are held. It passes to another one
    /// * at once if that has a better standing: the server has named it, or it was not heard before PLAY;
    /// * else when its own has been silent for 2 s - an encoder that starts again under a new SSRC - or
    ///   for 10 s, if the other is known for a stray.
    ///
    /// Two sources of equal standing that both go on cannot be told apart: the first one keeps the
    /// stream. It takes a server that names neither an SSRC nor, in `RTP-Info`, the first packet,
    /// and a stray that was not heard before PLAY. live555 does send `RTP-Info`.
    OneAtATime,
}

impl SourcePolicy {
    /// Chooses by the `a=tool` of the description, wherever the presentation was described: a session
    /// may be set up on another connection.
    pub fn of_tool(tool: Option<&str>) -> Self {
        match tool.and_then(live555_version) {
            Some(version) if version < MENDED => Self::OneAtATime,
            _ => Self::Any,
        }
    }
}

/// The first live555 that does not write packets of sessions whose connection has died into other
/// connections.
const MENDED: (u16, u8, u8) = (2017, 6, 4);

/// `LIVE555 Streaming Media v2017.06.04` gives (2017, 6, 4).
fn live555_version(tool: &str) -> Option<(u16, u8, u8)> {
    if !tool.starts_with("LIVE555") {
        return None;
    }
    let (_, version) = tool.rsplit_once('v')?;
    let mut parts = version.trim().split('.');
    let year = parts.next()?.parse().ok()?;
    let month = parts.next()?.parse().ok()?;
    let day = parts.next()?.parse().ok()?;
    Some((year, month, day))
}

/// Shows which request it is, and no URL.
impl fmt::Debug for SessionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(<&str>::from(&self.method()))
    }
}

impl SessionRequest {
    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Describe => Method::Describe,
            Self::Setup { .. } => Method::Setup,
            Self::Play { .. } => Method::Play,
            Self::Pause => Method::Pause,
            Self::Parameters(parameters) => parameters.method(),
            Self::Teardown => Method::Teardown,
        }
    }
}
