//! What the element says on the bus: errors with their codes and details, progress.

use gst::{
    glib::{self, translate::IntoGlib},
    prelude::*,
};
use gstreamer as gst;

use std::time::Duration;

use super::{RtspMuxSrc, settings::Invalid, stats};
use crate::mux;

/// How far a session was when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Up to the last SETUP.
    Opening,
    /// From the first PLAY on.
    Playing,
}

/// What `rtspsrc` calls its steps in PROGRESS messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// From the first connection to the last SETUP.
    Open,
    /// One request or a batch of them.
    Request,
}

impl Step {
    fn code(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Request => "request",
        }
    }
}

/// Posts PROGRESS.
pub(super) fn progress(element: &RtspMuxSrc, kind: gst::ProgressType, step: Step, text: &str) {
    let message = gst::message::Progress::builder(kind, step.code(), text);
    post(element, message.src(element).build());
}

/// Posts `rtspmux-sharing`: what a server can do is known anew. Fields: `server` (host and port),
/// `verdict` (`yes`, `no`, `unknown`) and, for a `no`, `reason`.
pub(super) fn sharing(element: &RtspMuxSrc, change: &mux::SharingChange) {
    let structure = gst::Structure::builder("rtspmux-sharing")
        .field("server", &change.server)
        .field("verdict", stats::sharing(change.verdict))
        .field_if_some("reason", change.reason.as_deref())
        .build();
    let message = gst::message::Element::builder(structure);
    post(element, message.src(element).build());
}

/// Posts a WARNING: a limit of the user's holds up the sessions of a server. Its details are
/// `rtspmux-limit` with `server` (host and port), `limit` (the property), `value` and `reason`
/// (`path`, `losses`, `late-answers`).
pub(super) fn limit(element: &RtspMuxSrc, limit: &mux::ConnectionLimit) {
    let details = gst::Structure::builder("rtspmux-limit")
        .field("server", &limit.server)
        .field("limit", limit.limit)
        .field("value", limit.value)
        .field("reason", stats::strain(limit.reason))
        .build();
    let text = format!("{} does not suffice", limit.limit);
    let message = gst::message::Warning::builder(gst::ResourceError::Busy, &text)
        .debug(&limit.to_string())
        .details(details)
        .src(element)
        .build();
    post(element, message);
}

/// Posts a WARNING: the state file cannot be used. Its details are `rtspmux-state-file` with `path` and
/// `reason`.
pub(super) fn state_file(element: &RtspMuxSrc, problem: &mux::StateFileProblem) {
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
    post(element, message);
}

/// What happens to a session that is recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It stopped playing by itself.
    Lost,
    /// An attempt to set it up again begins.
    Retrying,
    /// Media has come again.
    Recovered,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Retrying => "retrying",
            Self::Recovered => "recovered",
        }
    }
}

/// What there is to say about that.
#[derive(Debug)]
pub(super) struct News<'a> {
    pub(super) change: Change,
    /// Why, without secrets.
    pub(super) reason: Option<&'a str>,
    /// Attempts in this outage.
    pub(super) attempt: u32,
    /// Outages so far, this one included.
    pub(super) outages: u64,
    /// How long this one lasts, or lasted.
    pub(super) duration: Duration,
}

/// Posts `rtspmux-session`. Fields: `state` (`lost`, `retrying`, `recovered`), `attempt`, `outages`,
/// `duration` in nanoseconds and, while it lasts, `reason`.
pub(super) fn session(element: &RtspMuxSrc, news: &News<'_>) {
    let duration = u64::try_from(news.duration.as_nanos()).unwrap_or(u64::MAX);
    let structure = gst::Structure::builder("rtspmux-session")
        .field("state", news.change.name())
        .field_if_some("reason", news.reason)
        .field("attempt", news.attempt)
        .field("outages", news.outages)
        .field("duration", duration)
        .build();
    let message = gst::message::Element::builder(structure);
    post(element, message.src(element).build());
}

/// Packets of a stream that were not taken in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow {
    /// How long ago the gap began.
    pub(super) ago: Duration,
    /// How long it is.
    pub(super) gap: Duration,
    /// How late the first packet after it is.
    pub(super) late: Duration,
    /// RTP packets of the stream passed on so far in this session.
    pub(super) processed: u64,
    /// And dropped.
    pub(super) dropped: u64,
}

/// Posts QOS: one for each overflow, at the end of its gap, and a second apart at least. Times are
/// those of the gap, counts those of the session so far.
pub(super) fn overflow(element: &RtspMuxSrc, overflow: &Overflow) {
    let now = element.current_running_time();
    let began = now.map(|now| now.saturating_sub(clock_time(overflow.ago)));
    let jitter = i64::try_from(overflow.late.as_nanos()).unwrap_or(i64::MAX);
    let message = gst::message::Qos::builder(true)
        .running_time(began)
        .stream_time(began)
        .timestamp(began)
        .duration(clock_time(overflow.gap))
        .values(jitter, 1.0, 1_000_000)
        .stats(buffers(overflow.processed), buffers(overflow.dropped))
        .src(element)
        .build();
    post(element, message);
}

fn clock_time(duration: Duration) -> gst::ClockTime {
    gst::ClockTime::try_from(duration).unwrap_or(gst::ClockTime::MAX)
}

/// The largest number stands for none there.
fn buffers(count: u64) -> gst::format::Buffers {
    gst::format::Buffers::from_u64(count.min(u64::MAX - 1))
}

/// Posts ERROR for a failure of the multiplexer.
pub(super) fn error(element: &RtspMuxSrc, phase: Phase, error: &mux::Error) {
    let debug = debug_text(error);
    let message = gst::message::Error::builder_from_error(glib_error(phase, error))
        .debug(&debug)
        .details_if_some(details(error));
    post_error(element, message);
}

/// What the sentence does not say, for who has the log before him.
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
fn glib_error(phase: Phase, error: &mux::Error) -> glib::Error {
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

/// What an application decides by: is it there, may I, was it ever open?
fn domain(phase: Phase, error: &mux::Error) -> Domain {
    use gst::ResourceError as Resource;
    use mux::ErrorKind as Kind;

    Domain::Resource(match error.kind() {
        Kind::Unauthorized | Kind::Status(401 | 403 | 407) => Resource::NotAuthorized,
        Kind::InvalidUrl | Kind::Status(404 | 410) => Resource::NotFound,
        Kind::ServerLimit | Kind::Status(453 | 503) => Resource::Busy,
        Kind::Sdp => return Domain::Stream(gst::StreamError::Format),
        Kind::Resolve | Kind::Connect | Kind::Tls(_) | Kind::Redirects => Resource::OpenRead,
        _ => match phase {
            Phase::Opening => Resource::OpenRead,
            Phase::Playing => Resource::Read,
        },
    })
}

/// `rtsp-status-code` and `rtsp-status-reason`, as `rtspsrc` has them.
fn details(error: &mux::Error) -> Option<gst::Structure> {
    let status = error.status()?;
    Some(
        gst::Structure::builder("details")
            .field("rtsp-status-code", u32::from(status))
            .field("rtsp-status-reason", error.reason().unwrap_or_default())
            .build(),
    )
}

/// Posts ERROR for settings that cannot be played.
pub(super) fn invalid_settings(element: &RtspMuxSrc, invalid: &Invalid) {
    let error = match invalid {
        Invalid::NoLocation | Invalid::Location(_) => {
            glib::Error::new(gst::ResourceError::NotFound, &invalid.to_string())
        }
        Invalid::Protocols(_)
        | Invalid::Credentials(_)
        | Invalid::Tls(_)
        | Invalid::BlocksOthers => {
            glib::Error::new(gst::ResourceError::Settings, &invalid.to_string())
        }
    };
    post_error(element, gst::message::Error::builder_from_error(error));
}

/// Posts ERROR for a stream that nobody takes, as every source does.
pub(super) fn flow_error(element: &RtspMuxSrc, flow: gst::FlowError) {
    let details = gst::Structure::builder("details")
        .field("flow-return", gst::FlowReturn::from(flow).into_glib())
        .build();
    let error = glib::Error::new(gst::StreamError::Failed, "Internal data stream error.");
    let debug = format!("streaming stopped, reason {flow}");
    post_error(
        element,
        gst::message::Error::builder_from_error(error)
            .debug(&debug)
            .details(details),
    );
}

fn post_error(element: &RtspMuxSrc, error: gst::message::ErrorBuilder<'_>) {
    post(element, error.src(element).build());
}

fn post(element: &RtspMuxSrc, message: gst::Message) {
    // Without a bus nobody wants to know.
    let _ = element.post_message(message);
}
