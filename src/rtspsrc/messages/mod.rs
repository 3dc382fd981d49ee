//! The messages of the element: errors with their codes and details, warnings, progress.
//!
//! `bus_queue` has the thread that posts them, `overflow` the QOS messages.

pub(crate) mod bus_queue;
pub(crate) mod overflow;

use std::time::Duration;

use gst::glib::{self, translate::IntoGlib};
use gstreamer as gst;

use self::bus_queue::Topic;
use super::{CAT, RtspMuxSrc};
use crate::mux::{self, Congestion, SharingVerdict};

/// As it is called in messages and statistics.
pub(crate) fn congestion_name(congestion: Congestion) -> &'static str {
    match congestion {
        Congestion::Path => "path",
        Congestion::Losses => "losses",
        Congestion::LateAnswers => "late-answers",
    }
}

/// As it is called in messages and statistics.
pub(crate) fn verdict_name(verdict: SharingVerdict) -> &'static str {
    match verdict {
        SharingVerdict::Unknown => "unknown",
        SharingVerdict::Yes => "yes",
        SharingVerdict::No => "no",
    }
}

/// How far a session had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionPhase {
    /// Up to the last SETUP.
    Opening,
    /// From the first PLAY on.
    Playing,
}

/// The steps in PROGRESS messages, with the names that `rtspsrc` uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressStep {
    /// From the first connection to the last SETUP.
    Open,
    /// One request or a batch of them.
    Request,
}

impl ProgressStep {
    fn code(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Request => "request",
        }
    }
}

/// Posts PROGRESS.
pub(crate) fn progress(
    element: &RtspMuxSrc,
    kind: gst::ProgressType,
    step: ProgressStep,
    text: &str,
) {
    let message = gst::message::Progress::builder(kind, step.code(), text);
    bus_queue::post(element, Topic::Progress, message.src(element).build());
}

/// Posts `rtspmux-sharing`: the sharing verdict of a server has changed. Fields: `server` (host and
/// port), `verdict` (`yes`, `no`, `unknown`) and, for a `no`, `reason`.
pub(crate) fn sharing(element: &RtspMuxSrc, change: &mux::SharingChange) {
    let structure = gst::Structure::builder("rtspmux-sharing")
        .field("server", &change.server)
        .field("verdict", verdict_name(change.verdict))
        .field_if_some("reason", change.reason.as_deref())
        .build();
    let message = gst::message::Element::builder(structure);
    bus_queue::post(element, Topic::Server, message.src(element).build());
}

/// Posts a WARNING: a limit that the user has set holds up the sessions of a server. Its details are
/// `rtspmux-limit` with `server` (host and port), `limit` (the property), `value` and `reason` (`path`,
/// `losses`, `late-answers`).
pub(crate) fn limit(element: &RtspMuxSrc, limit: &mux::ConnectionLimit) {
    let details = gst::Structure::builder("rtspmux-limit")
        .field("server", &limit.server)
        .field("limit", limit.limit)
        .field("value", limit.value)
        .field("reason", congestion_name(limit.reason))
        .build();
    let text = format!("{} does not suffice", limit.limit);
    let message = gst::message::Warning::builder(gst::ResourceError::Busy, &text)
        .debug(&limit.to_string())
        .details(details)
        .src(element)
        .build();
    bus_queue::post(element, Topic::Warning(text), message);
}

/// Posts a WARNING: the multiplexer cannot use the state file. Its details are `rtspmux-state-file` with
/// `path` and `reason`.
pub(crate) fn state_file(element: &RtspMuxSrc, problem: &mux::StateFileProblem) {
    let path = problem.path.display().to_string();
    let details = gst::Structure::builder("rtspmux-state-file")
        .field("path", &path)
        .field("reason", &problem.reason)
        .build();
    let text = format!("What is learned of servers is not kept: {problem}");
    let message = gst::message::Warning::builder(gst::ResourceError::Settings, &text)
        .details(details)
        .src(element)
        .build();
    bus_queue::post(element, Topic::Warning(text), message);
}

/// What happens to a session that is set up again after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionChange {
    /// It stopped playing without being told to.
    Lost,
    /// An attempt to set it up again begins.
    Retrying,
    /// Media has come again.
    Recovered,
}

impl SessionChange {
    fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Retrying => "retrying",
            Self::Recovered => "recovered",
        }
    }
}

/// The contents of `rtspmux-session`.
#[derive(Debug)]
pub(crate) struct SessionNews<'a> {
    pub(crate) change: SessionChange,
    /// The reason, without secrets.
    pub(crate) reason: Option<&'a str>,
    /// Attempts in this outage.
    pub(crate) attempt: u32,
    /// Outages so far, this one included.
    pub(crate) outages: u64,
    /// How long this outage lasts, or lasted.
    pub(crate) duration: Duration,
}

impl SessionNews<'_> {
    fn structure(&self) -> gst::structure::Builder {
        let duration = u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX);
        gst::Structure::builder("rtspmux-session")
            .field("state", self.change.name())
            .field_if_some("reason", self.reason)
            .field("attempt", self.attempt)
            .field("outages", self.outages)
            .field("duration", duration)
    }
}

/// Posts `rtspmux-session`. Fields: `state` (`lost`, `retrying`, `recovered`), `attempt`, `outages`,
/// `duration` in nanoseconds and, while it lasts, `reason`.
pub(crate) fn session(element: &RtspMuxSrc, news: &SessionNews<'_>) {
    let message = gst::message::Element::builder(news.structure().build());
    bus_queue::post(element, Topic::Session, message.src(element).build());
}

/// Posts WARNING: a session has not come up, and the element tries again later. Its details are those of
/// `rtspmux-session`, and the status that the server answered, if it answered one.
pub(crate) fn not_up(element: &RtspMuxSrc, failure: FailureMessage, news: &SessionNews<'_>) {
    let text = failure.error.message().to_owned();
    let mut details = news.structure().build();
    if let Some(status) = &failure.details {
        details.extend(status.iter().map(|(name, value)| (name, value.clone())));
    }
    gst::warning!(CAT, obj = element, "{text}");
    let message = gst::message::Warning::builder_from_error(failure.error)
        .debug(&failure.debug)
        .details(details)
        .src(element)
        .build();
    bus_queue::post(element, Topic::Warning(text), message);
}

/// Posts WARNING: no packet of one stream can be delivered. The session goes on.
pub(crate) fn left_out(element: &RtspMuxSrc, text: &str) {
    gst::warning!(CAT, obj = element, "{text}");
    let message = gst::message::Warning::builder(gst::StreamError::Format, text);
    let topic = Topic::Warning(text.to_owned());
    bus_queue::post(element, topic, message.src(element).build());
}

/// The contents of an ERROR or WARNING about a session.
#[derive(Debug)]
pub(crate) struct FailureMessage {
    pub(crate) error: glib::Error,
    pub(crate) debug: String,
    pub(crate) details: Option<gst::Structure>,
}

impl FailureMessage {
    pub(crate) fn new(error: glib::Error) -> Self {
        Self {
            error,
            debug: "the session has ended".to_owned(),
            details: None,
        }
    }

    /// A failure of the multiplexer.
    pub(crate) fn of_mux(phase: SessionPhase, error: &mux::Error) -> Self {
        Self {
            error: glib_error(phase, error),
            debug: debug_text(error),
            details: details(error),
        }
    }

    /// A flow return that ends streaming, with the texts that every source uses.
    pub(crate) fn of_flow(flow: gst::FlowError) -> Self {
        let details = gst::Structure::builder("details")
            .field("flow-return", gst::FlowReturn::from(flow).into_glib())
            .build();
        Self {
            error: glib::Error::new(gst::StreamError::Failed, "Internal data stream error."),
            debug: format!("streaming stopped, reason {flow}"),
            details: Some(details),
        }
    }
}

/// Posts ERROR.
pub(crate) fn error(element: &RtspMuxSrc, failure: FailureMessage) {
    let text = failure.error.message().to_owned();
    gst::error!(CAT, obj = element, "{text}");
    let message = gst::message::Error::builder_from_error(failure.error)
        .debug(&failure.debug)
        .details_if_some(failure.details)
        .src(element)
        .build();
    bus_queue::post(element, Topic::Error(text), message);
}

/// What the sentence of the error does not say, for a reader of the log.
fn debug_text(error: &mux::Error) -> String {
    let what = format!(
        "{:?} of the {:?}, by the {:?}",
        error.kind(),
        error.scope(),
        error.initiator()
    );
    let again = if error.is_retryable() {
        "may succeed later"
    } else {
        "will not succeed by itself"
    };
    match error.retry_after() {
        Some(wait) => format!("{what}; {again}, not before {} s", wait.as_secs()),
        None => format!("{what}; {again}"),
    }
}

/// The text is the error's own sentence: it names camera, request and status.
fn glib_error(phase: SessionPhase, error: &mux::Error) -> glib::Error {
    let text = error.to_string();
    match domain(phase, error) {
        Domain::Resource(code) => glib::Error::new(code, &text),
        Domain::Stream(code) => glib::Error::new(code, &text),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    Resource(gst::ResourceError),
    Stream(gst::StreamError),
}

/// The code of the error. By it an application tells apart: not found, not authorized, busy, not opened,
/// lost while it played.
fn domain(phase: SessionPhase, error: &mux::Error) -> Domain {
    use gst::ResourceError as Resource;
    use mux::ErrorKind as Kind;

    Domain::Resource(match error.kind() {
        Kind::Unauthorized | Kind::Status(401 | 403 | 407) => Resource::NotAuthorized,
        Kind::InvalidUrl | Kind::Status(404 | 410) => Resource::NotFound,
        Kind::ServerLimit | Kind::CredentialsOnHold | Kind::Status(453 | 503) => Resource::Busy,
        Kind::Sdp => return Domain::Stream(gst::StreamError::Format),
        Kind::Resolve | Kind::Connect | Kind::Tls(_) | Kind::Redirects => Resource::OpenRead,
        _ => match phase {
            SessionPhase::Opening => Resource::OpenRead,
            SessionPhase::Playing => Resource::Read,
        },
    })
}

/// `rtsp-status-code` and `rtsp-status-reason`, as in the messages of `rtspsrc`.
fn details(error: &mux::Error) -> Option<gst::Structure> {
    let status = error.status()?;
    Some(
        gst::Structure::builder("details")
            .field("rtsp-status-code", u32::from(status))
            .field("rtsp-status-reason", error.reason().unwrap_or_default())
            .build(),
    )
}
