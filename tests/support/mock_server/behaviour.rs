//! How a mock server differs from the well-behaved one: standing habits, and rules for single requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::SessionView;
use super::camera::Source;
use crate::support::rtsp::{Request, Response};

/// A standing habit of the server.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// Every session gets this id (Rockchip firmware: `12345678`).
    SessionId(String),
    /// What follows the id in the Session header; the default is `;timeout=60`.
    SessionSuffix(String),
    /// What stands before it: padding (Hikvision).
    SessionPrefix(String),
    /// The answer to a later SETUP of a session names an id that the server itself does not know (H264DVR).
    OtherIdInLaterSetups,
    /// A request without a session id is for the session that plays its camera on the connection (cameras whose answers
    /// to SETUP have no Session header).
    FindsSessionsByUri,
    /// How the channels of a SETUP are chosen.
    Channels(ChannelPolicy),
    /// So many sessions on one connection; beyond it, this happens.
    SessionsPerConnection(usize, Excess),
    /// So many sessions on the server; beyond it, 503 with `Retry-After: 5`.
    Sessions(usize),
    /// Beyond it, this status instead.
    FullStatus(u16),
    /// Every URI on a connection is answered as the first one (ZLMediaKit, go2rtc).
    LatchesFirst,
    /// A connection has one session. Every DESCRIBE gives it another id; the one before is answered with 454 and a
    /// close. A SETUP of a track that is set up, with no DESCRIBE in between, closes without an answer (ZLMediaKit).
    IdPerDescribe,
    /// A connection has one session, which every SETUP renames and every PLAY plays (go2rtc).
    OneConsumer,
    /// A connection has one session with one id. A SETUP of another camera replaces what it plays, and moves the media
    /// to the channels of that SETUP (aio-rtsp-toolkit).
    OneSource,
    /// No Content-Base in the answer to DESCRIBE: control URLs resolve against the request URI (go2rtc).
    NoContentBase,
    /// A connection that ends without a PLAY, and a TEARDOWN before PLAY, end the stream of the camera that was described
    /// last on the connection: it is described with 200 and without media from then on, as is what never was there (xiu).
    UnpublishesUnplayed,
    /// Every DESCRIBE of a connection adds the media of the first camera once more (go2rtc).
    DescriptionGrows,
    /// The connection is closed behind the answer to any TEARDOWN (go2rtc, ZLMediaKit, aio-rtsp-toolkit).
    CloseOnTeardown,
    /// Only the first DESCRIBE of a connection succeeds; the others get this status (cheap cameras).
    OneDescribe(u16),
    /// The connection is closed after a 404 (MediaMTX, ZLMediaKit).
    CloseOnNotFound,
    /// GET_PARAMETER closes the connection unless one of its sessions plays (go2rtc).
    CloseOnEarlyGetParameter,
    /// A keep-alive gets this status, with the CSeq of the request before it (Tapo).
    KeepAliveWithWrongCSeq(u16),
    /// No `ssrc` in the answer to SETUP (live555).
    OmitSsrc,
    /// Each session has SSRCs of its own, as encoders that start for each client have.
    OwnSsrc,
    /// The sequence numbers of the first session begin here, those of the second one there, and so on, the last one for
    /// all that follow; RTP times begin elsewhere as well, and the answer to PLAY says so.
    SequenceBegins(Vec<u16>),
    /// This line in the head of every description, in place of `s=` if it is one.
    SdpLine(String),
    /// So long is worked on each request of a connection, one after the other.
    ServiceTime(Duration),
    /// A DESCRIBE takes so long, and what comes on the connection meanwhile is handled inside it: one answer more for
    /// each byte where something plays, one where nothing does; several requests hang the server (live555).
    ReentrantDescribe(Duration),
    /// While a session of the connection plays, nothing but OPTIONS is answered (go2rtc).
    MuteWhilePlaying,
    /// Of requests that arrive together, only the first is seen (VLC).
    DropsPipelined,
    /// Packets per track right after the PLAY answer.
    PacketsAfterPlay(u32),
    /// Packets per track right before the PLAY answer.
    PacketsBeforePlayAnswer(u32),
    /// A sender report per track right before the PLAY answer (live555).
    ReportsBeforePlayAnswer,
    /// When a connection ends with sessions on it, their packets go to the next one that comes, on the same channels
    /// (live555 before 2017.06).
    StraysOfTheDead,
    /// Packets on the freed channels right after the TEARDOWN answer.
    PacketsAfterTeardown(u32),
    /// Packets on a channel that no session has set up, right after the PLAY answer.
    StrayPackets {
        /// The channel.
        channel: u8,
        /// How many.
        count: u32,
    },
    /// These bytes before every frame.
    GarbageBetweenFrames(Vec<u8>),
    /// These requests right after the PLAY answer; a CSeq is added.
    RequestsAfterPlay(Vec<Request>),
    /// The Public header of the OPTIONS answer.
    Public(String),
    /// The connection is closed once its last session was torn down.
    CloseAfterLastTeardown,
    /// FIN right after accepting; the server still reads.
    EofOnAccept,
    /// Both directions closed right after accepting.
    CloseOnAccept,
    /// Nothing is read any more after so many requests of a connection, until `release()`.
    StopReadingAfter(usize),
    /// Heads are in Latin-1, and every session id has a letter of it.
    Latin1,
    /// A line for every answer, such as `Server: gortsplib`.
    Header(String, String),
}

/// What a server does with the interleaved channels a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelPolicy {
    /// Honoured when free on the connection, else the lowest free pair, else 461 (gst-rtsp-server).
    Reassign,
    /// Honoured, free or not (live555).
    Verbatim,
    /// Twice the number of the track, whatever was asked for (go2rtc, ZLMediaKit).
    PerTrack,
    /// So much more than asked for.
    Shift(u8),
    /// The highest free pair, whatever was asked for.
    Own,
    /// Honoured, and not mentioned in the answer.
    Omit,
    /// Honoured, and only the first number mentioned.
    SingleNumber,
}

/// What a server does with a session more than it can carry on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// 400, then the connection is closed (gortsplib, MediaMTX).
    BadRequestAndClose,
    /// No answer (EvoStream).
    Swallow,
    /// This status; the connection stays.
    Status(u16),
}

/// The habits of one server, gathered from its [`Behaviour`]s.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    pub(super) session_id: Option<String>,
    pub(super) session_prefix: String,
    pub(super) session_suffix: String,
    pub(super) other_id_in_later_setups: bool,
    pub(super) finds_sessions_by_uri: bool,
    pub(super) channels: ChannelPolicy,
    pub(super) per_connection: Option<(usize, Excess)>,
    pub(super) sessions: usize,
    pub(super) full_status: u16,
    pub(super) latches_first: bool,
    pub(super) id_per_describe: bool,
    pub(super) one_consumer: bool,
    pub(super) one_source: bool,
    pub(super) no_content_base: bool,
    pub(super) unpublishes_unplayed: bool,
    pub(super) description_grows: bool,
    pub(super) close_on_teardown: bool,
    pub(super) one_describe: Option<u16>,
    pub(super) close_on_not_found: bool,
    pub(super) close_on_early_get_parameter: bool,
    pub(super) keep_alive_with_wrong_cseq: Option<u16>,
    pub(super) omit_ssrc: bool,
    pub(super) own_ssrc: bool,
    pub(super) sequence_begins: Vec<u16>,
    pub(super) sdp_lines: Vec<String>,
    pub(super) service_time: Duration,
    pub(super) reentrant_describe: Option<Duration>,
    pub(super) mute_while_playing: bool,
    pub(super) drops_pipelined: bool,
    pub(super) after_play: u32,
    pub(super) before_play_answer: u32,
    pub(super) reports_before_play_answer: bool,
    pub(super) strays_of_the_dead: bool,
    pub(super) after_teardown: u32,
    pub(super) stray: Option<(u8, u32)>,
    pub(super) garbage: Vec<u8>,
    pub(super) requests_after_play: Vec<Request>,
    pub(super) public: String,
    pub(super) close_after_last_teardown: bool,
    pub(super) eof_on_accept: bool,
    pub(super) close_on_accept: bool,
    pub(super) stop_reading_after: Option<usize>,
    pub(super) latin1: bool,
    pub(super) headers: Vec<(String, String)>,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            session_id: None,
            session_prefix: String::new(),
            session_suffix: ";timeout=60".to_owned(),
            other_id_in_later_setups: false,
            finds_sessions_by_uri: false,
            channels: ChannelPolicy::Reassign,
            per_connection: None,
            sessions: usize::MAX,
            full_status: 503,
            latches_first: false,
            id_per_describe: false,
            one_consumer: false,
            one_source: false,
            no_content_base: false,
            unpublishes_unplayed: false,
            description_grows: false,
            close_on_teardown: false,
            one_describe: None,
            close_on_not_found: false,
            close_on_early_get_parameter: false,
            keep_alive_with_wrong_cseq: None,
            omit_ssrc: false,
            own_ssrc: false,
            sequence_begins: Vec::new(),
            sdp_lines: Vec::new(),
            service_time: Duration::ZERO,
            reentrant_describe: None,
            mute_while_playing: false,
            drops_pipelined: false,
            after_play: 0,
            before_play_answer: 0,
            reports_before_play_answer: false,
            strays_of_the_dead: false,
            after_teardown: 0,
            stray: None,
            garbage: Vec::new(),
            requests_after_play: Vec::new(),
            public: "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER"
                .to_owned(),
            close_after_last_teardown: false,
            eof_on_accept: false,
            close_on_accept: false,
            stop_reading_after: None,
            latin1: false,
            headers: Vec::new(),
        }
    }
}

impl Habits {
    /// The value of a Session header.
    pub(super) fn session_header(&self, id: &str) -> String {
        format!("{}{id}{}", self.session_prefix, self.session_suffix)
    }

    /// What the packets of a session differ in from those of other sessions of its camera.
    pub(super) fn source(&self, session: &SessionView) -> Source {
        let (first, last) = (
            session.number.saturating_sub(1),
            self.sequence_begins.last(),
        );
        let begins = self.sequence_begins.get(first).or(last);
        Source {
            ssrc: if self.own_ssrc {
                (session.number as u32) << 16
            } else {
                0
            },
            sequence: begins.copied().unwrap_or_default(),
        }
    }

    /// A description with the lines of this server.
    pub(super) fn sdp(&self, sdp: Vec<u8>) -> Vec<u8> {
        if self.sdp_lines.is_empty() {
            return sdp;
        }
        let mut lines: Vec<String> = String::from_utf8_lossy(&sdp)
            .lines()
            .map(str::to_owned)
            .collect();
        for line in &self.sdp_lines {
            match lines.iter_mut().find(|old| old.starts_with("s=")) {
                Some(old) if line.starts_with("s=") => old.clone_from(line),
                _ => {
                    let at = lines.iter().position(|old| old.starts_with("a=control"));
                    lines.insert(at.unwrap_or(lines.len()), line.clone());
                }
            }
        }
        format!("{}\r\n", lines.join("\r\n")).into_bytes()
    }

    pub(super) fn add(&mut self, behaviour: Behaviour) {
        match behaviour {
            Behaviour::SessionId(id) => self.session_id = Some(id),
            Behaviour::SessionSuffix(suffix) => self.session_suffix = suffix,
            Behaviour::SessionPrefix(prefix) => self.session_prefix = prefix,
            Behaviour::OtherIdInLaterSetups => self.other_id_in_later_setups = true,
            Behaviour::FindsSessionsByUri => self.finds_sessions_by_uri = true,
            Behaviour::Channels(policy) => self.channels = policy,
            Behaviour::SessionsPerConnection(most, excess) => {
                self.per_connection = Some((most, excess))
            }
            Behaviour::Sessions(most) => self.sessions = most,
            Behaviour::FullStatus(status) => self.full_status = status,
            Behaviour::LatchesFirst => self.latches_first = true,
            Behaviour::IdPerDescribe => self.id_per_describe = true,
            Behaviour::OneConsumer => self.one_consumer = true,
            Behaviour::OneSource => self.one_source = true,
            Behaviour::NoContentBase => self.no_content_base = true,
            Behaviour::UnpublishesUnplayed => self.unpublishes_unplayed = true,
            Behaviour::DescriptionGrows => self.description_grows = true,
            Behaviour::CloseOnTeardown => self.close_on_teardown = true,
            Behaviour::OneDescribe(status) => self.one_describe = Some(status),
            Behaviour::CloseOnNotFound => self.close_on_not_found = true,
            Behaviour::CloseOnEarlyGetParameter => self.close_on_early_get_parameter = true,
            Behaviour::KeepAliveWithWrongCSeq(status) => {
                self.keep_alive_with_wrong_cseq = Some(status)
            }
            Behaviour::OmitSsrc => self.omit_ssrc = true,
            Behaviour::OwnSsrc => self.own_ssrc = true,
            Behaviour::SequenceBegins(numbers) => self.sequence_begins = numbers,
            Behaviour::SdpLine(line) => self.sdp_lines.push(line),
            Behaviour::ServiceTime(time) => self.service_time = time,
            Behaviour::ReentrantDescribe(time) => self.reentrant_describe = Some(time),
            Behaviour::MuteWhilePlaying => self.mute_while_playing = true,
            Behaviour::DropsPipelined => self.drops_pipelined = true,
            Behaviour::PacketsAfterPlay(count) => self.after_play = count,
            Behaviour::PacketsBeforePlayAnswer(count) => self.before_play_answer = count,
            Behaviour::ReportsBeforePlayAnswer => self.reports_before_play_answer = true,
            Behaviour::StraysOfTheDead => self.strays_of_the_dead = true,
            Behaviour::PacketsAfterTeardown(count) => self.after_teardown = count,
            Behaviour::StrayPackets { channel, count } => self.stray = Some((channel, count)),
            Behaviour::GarbageBetweenFrames(bytes) => self.garbage = bytes,
            Behaviour::RequestsAfterPlay(requests) => self.requests_after_play = requests,
            Behaviour::Public(methods) => self.public = methods,
            Behaviour::CloseAfterLastTeardown => self.close_after_last_teardown = true,
            Behaviour::EofOnAccept => self.eof_on_accept = true,
            Behaviour::CloseOnAccept => self.close_on_accept = true,
            Behaviour::StopReadingAfter(requests) => self.stop_reading_after = Some(requests),
            Behaviour::Latin1 => self.latin1 = true,
            Behaviour::Header(name, value) => self.headers.push((name, value)),
        }
    }
}

/// What happens to single requests, in place of or around the ordinary answer.
#[derive(Clone)]
pub enum Reaction {
    /// This answer; the CSeq is added, and the request has no effect.
    Answer(Response),
    /// This answer, then the connection is closed.
    AnswerAndClose(Response),
    /// Exactly these bytes instead of an answer; the request has no effect.
    Raw(Vec<u8>),
    /// The ordinary answer, changed on its way out.
    Edit(Arc<dyn Fn(&mut Response) + Send + Sync>),
    /// The ordinary answer, its bytes changed on their way out.
    Rewrite(fn(&[u8]) -> Vec<u8>),
    /// 401 for every user: none may see this camera.
    Unauthorized,
    /// These bytes, then the ordinary answer: garbage, 1xx, a request of the server.
    Before(Vec<u8>),
    /// The ordinary answer, then these bytes.
    After(Vec<u8>),
    /// The ordinary answer, and once more.
    Twice,
    /// The request takes effect and is never answered.
    Unanswered,
    /// The request has neither effect nor answer.
    Ignore,
    /// This request and all that follow on its connection wait for `release()`: head of line.
    /// Nor is the end of the connection noticed before.
    Hold,
    /// The request takes effect; its answer waits for `release()`, later ones overtake it.
    Defer,
    /// The ordinary answer goes out after that to the next request.
    Swap,
    /// The connection is closed instead of an answer.
    Close,
    /// The ordinary answer, then FIN; the server still reads.
    HalfClose,
    /// The ordinary answer, then the server's own TEARDOWN of the session that it names, which is over then.
    Teardown,
    /// The ordinary answer, then an RTCP BYE of each source of that session, which sends nothing more.
    Goodbye,
}

impl Reaction {
    /// This status without further headers.
    pub fn status(status: u16) -> Self {
        Self::Answer(Response::new(status))
    }

    /// 302 to that URL.
    pub fn redirect(url: &str) -> Self {
        Self::Answer(Response::new(302).header("Location", url))
    }

    /// The ordinary answer, changed on its way out.
    pub fn edit(edit: impl Fn(&mut Response) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(edit))
    }

    /// The ordinary answer to SETUP, but with these channels.
    pub fn channels(interleaved: &'static str) -> Self {
        Self::edit(move |response| {
            let mut edited = Response::new(response.status);
            for (name, value) in response.headers.iter() {
                let transport = format!("RTP/AVP/TCP;unicast;interleaved={interleaved}");
                let is_it = name.eq_ignore_ascii_case("Transport");
                edited = edited.header(name, if is_it { &transport } else { value });
            }
            *response = edited;
        })
    }

    /// The ordinary answer with so many headers more, of so many bytes each.
    pub fn header_flood(count: usize, length: usize) -> Self {
        Self::edit(move |response| {
            for index in 0..count {
                response
                    .headers
                    .push(format!("X-Flood-{index}"), "x".repeat(length));
            }
        })
    }
}

impl fmt::Debug for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Answer(response) => return write!(f, "Answer({})", response.status),
            Self::AnswerAndClose(response) => {
                return write!(f, "AnswerAndClose({})", response.status);
            }
            Self::Raw(_) => "Raw",
            Self::Edit(_) => "Edit",
            Self::Unauthorized => "Unauthorized",
            Self::Before(_) => "Before",
            Self::After(_) => "After",
            Self::Twice => "Twice",
            Self::Unanswered => "Unanswered",
            Self::Ignore => "Ignore",
            Self::Hold => "Hold",
            Self::Defer => "Defer",
            Self::Swap => "Swap",
            Self::Close => "Close",
            Self::HalfClose => "HalfClose",
            Self::Teardown => "Teardown",
            Self::Goodbye => "Goodbye",
            Self::Rewrite(_) => "Rewrite",
        };
        f.write_str(name)
    }
}

/// Which requests a reaction is for: every one of a method, or less.
#[derive(Debug, Clone)]
pub struct Rule {
    method: String,
    camera: Option<String>,
    scheme: Option<String>,
    control: Option<String>,
    skip: usize,
    times: usize,
    reaction: Reaction,
}

impl Rule {
    /// For every request of that method (`*`: of any).
    pub fn new(method: &str, reaction: Reaction) -> Self {
        Self {
            method: method.to_owned(),
            camera: None,
            scheme: None,
            control: None,
            skip: 0,
            times: usize::MAX,
            reaction,
        }
    }

    /// Only when the URI is of this camera.
    pub fn camera(mut self, path: &str) -> Self {
        self.camera = Some(path.to_owned());
        self
    }

    /// Only when the URI is of this scheme.
    pub fn scheme(mut self, scheme: &str) -> Self {
        self.scheme = Some(format!("{scheme}://"));
        self
    }

    /// Only when the URI ends in this control.
    pub fn control(mut self, control: &str) -> Self {
        self.control = Some(control.to_owned());
        self
    }

    /// Not for the first so many.
    pub fn skip(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// Only so often.
    pub fn times(mut self, requests: usize) -> Self {
        self.times = requests;
        self
    }

    pub(super) fn is_of(&self, camera: &str) -> bool {
        self.camera.as_deref() == Some(camera)
    }

    pub(super) fn apply(&mut self, request: &Request, camera: Option<&str>) -> Option<Reaction> {
        let control = self.control.as_deref().unwrap_or_default();
        let is_for = (self.method == "*" || self.method == request.method)
            && (self.camera.is_none() || self.camera.as_deref() == camera)
            && (self.scheme.as_deref()).is_none_or(|scheme| request.uri.starts_with(scheme))
            && request.uri.ends_with(control);
        if !is_for || self.times == 0 {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.reaction.clone())
    }
}
