//! The messages of the element: errors with their codes and details, warnings, progress, and QOS for
//! packets that were not taken in time.
//!
//! ```text
//! bus_queue  the queue in front of each bus, and the thread that posts
//! server     messages that concern a whole server, once for each pipeline
//! ```

pub(crate) mod bus_queue;
pub(crate) mod server;

use std::time::{Duration, Instant};

use gst::{
    glib::{self, translate::IntoGlib},
    prelude::*,
};
use gstreamer as gst;

use self::bus_queue::Topic;
use super::{CAT, RtspMuxSrc, nanoseconds};
use crate::mux::{self, Packet, PacketKind, named};

/// How far a session had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailurePhase {
    /// Up to the last SETUP.
    Opening,
    /// From the first PLAY on.
    Playing,
}

named! {
    /// The steps in PROGRESS messages, with the names that `rtspsrc` uses.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum ProgressStep {
        /// From the first connection to the last SETUP.
        Open = "open",
        /// A part of it: the connection.
        Connect = "connect",
        /// One request or a batch of them.
        Request = "request",
        /// The end of the session.
        Close = "close",
    }
}

/// Posts PROGRESS.
pub(crate) fn progress(
    element: &RtspMuxSrc,
    kind: gst::ProgressType,
    step: ProgressStep,
    text: &str,
) {
    let message = gst::message::Progress::builder(kind, step.name(), text);
    bus_queue::post(element, Topic::Progress, message.src(element).build());
}

/// Posts STREAM_COLLECTION.
pub(crate) fn collection(element: &RtspMuxSrc, collection: &gst::StreamCollection) {
    let message = gst::message::StreamCollection::builder(collection);
    bus_queue::post(element, Topic::Selection, message.src(element).build());
}

/// Posts STREAMS_SELECTED.
pub(crate) fn selected(
    element: &RtspMuxSrc,
    collection: &gst::StreamCollection,
    streams: Vec<gst::Stream>,
) {
    let message = gst::message::StreamsSelected::builder(collection).streams(streams);
    bus_queue::post(element, Topic::Selection, message.src(element).build());
}

/// Posts `rtspmux-sharing`: the sharing verdict of a server has changed. Fields: `server` (host and
/// port), `verdict` (`yes`, `no`, `unknown`) and, for a `no`, `reason`.
pub(crate) fn sharing(element: &RtspMuxSrc, change: &mux::SharingChange) {
    let structure = gst::Structure::builder("rtspmux-sharing")
        .field("server", &change.server)
        .field("verdict", change.verdict.name())
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
        .field("reason", limit.reason.name())
        .build();
    let text = format!("{} does not suffice", limit.limit);
    let error = glib::Error::new(gst::ResourceError::Busy, &text);
    warn(element, error, Some(&limit.to_string()), Some(details));
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
    let error = glib::Error::new(gst::ResourceError::Settings, &text);
    warn(element, error, None, Some(details));
}

named! {
    /// What happens to a session that is set up again after a loss.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum SessionChange {
        /// It stopped playing without being told to.
        Lost = "lost",
        /// An attempt to set it up again begins.
        Retrying = "retrying",
        /// Media has come again.
        Recovered = "recovered",
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
        gst::Structure::builder("rtspmux-session")
            .field("state", self.change.name())
            .field_if_some("reason", self.reason)
            .field("attempt", self.attempt)
            .field("outages", self.outages)
            .field("duration", nanoseconds(self.duration))
    }
}

/// Posts `rtspmux-session`. Fields: `state` (`lost`, `retrying`, `recovered`), `attempt`, `outages`,
/// `duration` in nanoseconds and, while it lasts, `reason`.
pub(crate) fn session(element: &RtspMuxSrc, news: &SessionNews<'_>) {
    let message = gst::message::Element::builder(news.structure().build());
    bus_queue::post(element, Topic::Session, message.src(element).build());
}

/// Posts `GstRTSPSrcTimeout`: no media has come for too long, and the session is given up. Programs restart on this
/// message of `rtspsrc`, which has it for single streams.
pub(crate) fn timeout(element: &RtspMuxSrc, reason: &str) {
    let structure = gst::Structure::builder("GstRTSPSrcTimeout")
        .field("reason", reason)
        .build();
    let message = gst::message::Element::builder(structure);
    bus_queue::post(element, Topic::Session, message.src(element).build());
}

/// Posts WARNING: a session has not come up, and the element tries again later. Its details are those of
/// `rtspmux-session`, and the status that the server answered, if it answered one.
pub(crate) fn not_up(element: &RtspMuxSrc, failure: FailureMessage, news: &SessionNews<'_>) {
    let mut details = news.structure().build();
    if let Some(status) = &failure.details {
        details.extend(status.iter().map(|(name, value)| (name, value.clone())));
    }
    warn(element, failure.error, Some(&failure.debug), Some(details));
}

/// Posts WARNING.
fn warn(
    element: &RtspMuxSrc,
    error: glib::Error,
    debug: Option<&str>,
    details: Option<gst::Structure>,
) {
    let text = error.message().to_owned();
    gst::warning!(CAT, obj = element, "{text}");
    let message = gst::message::Warning::builder_from_error(error)
        .debug_if_some(debug)
        .details_if_some(details)
        .src(element)
        .build();
    bus_queue::post(element, Topic::Warning(text), message);
}

/// Posts WARNING about streams: they are left out, silent or not deliverable. The session goes on.
pub(crate) fn left_out(element: &RtspMuxSrc, text: &str) {
    let error = glib::Error::new(gst::StreamError::Format, text);
    warn(element, error, None, None);
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
    pub(crate) fn of_mux(phase: FailurePhase, error: &mux::Error) -> Self {
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
    let (kind, scope, initiator) = (error.kind(), error.scope(), error.initiator());
    let what = format!("{kind:?} of the {scope:?}, by the {initiator:?}");
    let again = match error.is_retryable() {
        true => "may succeed later",
        false => "will not succeed by itself",
    };
    match error.retry_after() {
        Some(wait) => format!("{what}; {again}, not before {} s", wait.as_secs()),
        None => format!("{what}; {again}"),
    }
}

/// The text is the error's own sentence: it names camera, request and status. By the code an application
/// tells apart: not found, not authorized, not connected, refused. Domain and code are those of `rtspsrc`, except
/// for a 401 to SETUP, where it has the code of other refusals, and for what only this crate knows: limits.
fn glib_error(phase: FailurePhase, error: &mux::Error) -> glib::Error {
    use gst::ResourceError as Resource;
    use mux::ErrorKind as Kind;

    let text = error.to_string();
    let code = match error.kind() {
        Kind::Status(461) => return glib::Error::new(gst::StreamError::CodecNotFound, &text),
        Kind::Unauthorized | Kind::Status(401 | 407) => Resource::NotAuthorized,
        Kind::Status(_) if error.request() == Some("SETUP") => Resource::Write,
        Kind::InvalidUrl | Kind::Status(404) => Resource::NotFound,
        Kind::ServerLimit | Kind::CredentialsOnHold => Resource::Busy,
        Kind::Sdp => Resource::Settings,
        Kind::Resolve | Kind::Connect | Kind::Tls(_) => Resource::OpenReadWrite,
        Kind::Status(_)
        | Kind::TimedOut
        | Kind::ConnectionLost
        | Kind::LimitExceeded
        | Kind::Malformed => Resource::Read,
        _ if phase == FailurePhase::Opening => Resource::OpenRead,
        _ => Resource::Read,
    };
    glib::Error::new(code, &text)
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

/// The shortest time between two messages of one stream. The later one has the counts of all gaps before
/// it.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is known of one stream.
#[derive(Debug, Default)]
struct StreamCounts {
    processed: u64,
    /// When the last packet came.
    last: Option<Instant>,
    told: Option<Instant>,
}

/// Watches the packets of one session on their way to the pads for gaps.
#[derive(Debug, Default)]
pub(crate) struct OverflowReports(Vec<StreamCounts>);

impl OverflowReports {
    /// A packet is about to be pushed. Returns the overflow that it ends, if a message about it is due.
    /// `dropped` looks up how many packets of the stream were dropped so far.
    pub(crate) fn on_packet(
        &mut self,
        packet: &Packet,
        now: Instant,
        dropped: impl FnOnce() -> u64,
    ) -> Option<Overflow> {
        if packet.kind != PacketKind::Rtp {
            return None;
        }
        if self.0.len() <= packet.stream {
            self.0.resize_with(packet.stream + 1, StreamCounts::default);
        }
        let counts = self.0.get_mut(packet.stream)?;
        let before = counts.last.replace(packet.received);
        let processed = counts.processed;
        counts.processed += 1;
        if !packet.discontinuity {
            return None;
        }
        let is_old = |told| now.saturating_duration_since(told) >= INTERVAL;
        if !counts.told.is_none_or(is_old) {
            return None;
        }
        counts.told = Some(now);
        let began = before.unwrap_or(packet.received);
        Some(Overflow {
            ago: now.saturating_duration_since(began),
            gap: packet.received.saturating_duration_since(began),
            late: now.saturating_duration_since(packet.received),
            processed,
            dropped: dropped(),
        })
    }
}

/// Packets of a stream that were not taken in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow {
    /// How long ago the gap began.
    pub(crate) ago: Duration,
    /// How long it is.
    pub(crate) gap: Duration,
    /// How late the first packet after it is.
    pub(crate) late: Duration,
    /// RTP packets of the stream that were pushed so far in this session.
    pub(crate) processed: u64,
    /// RTP packets of the stream that were dropped so far.
    pub(crate) dropped: u64,
}

/// Posts QOS at the end of a gap. Times are those of the gap, counts those of the session so far.
pub(crate) fn overflow(element: &RtspMuxSrc, overflow: &Overflow) {
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
    bus_queue::post(element, Topic::Overflow, message);
}

fn clock_time(duration: Duration) -> gst::ClockTime {
    gst::ClockTime::try_from(duration).unwrap_or(gst::ClockTime::MAX)
}

/// GStreamer takes the largest number for "unknown".
fn buffers(count: u64) -> gst::format::Buffers {
    gst::format::Buffers::from_u64(count.min(u64::MAX - 1))
}

#[cfg(test)]
mod overflow_tests {
    #![expect(clippy::disallowed_methods, reason = "any time will do")]

    use bytes::Bytes;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn packet(received: Instant, discontinuity: bool) -> Packet {
        Packet {
            stream: 0,
            kind: PacketKind::Rtp,
            header: None,
            payload: Bytes::new(),
            received,
            discontinuity,
        }
    }

    #[test]
    fn f32_a_gap_is_told_with_its_place_and_length() {
        let start = Instant::now();
        let mut reports = OverflowReports::default();
        assert_eq!(reports.on_packet(&packet(start, false), start, || 0), None);
        let after = packet(start + 500 * MS, true);
        let told = reports.on_packet(&after, start + 520 * MS, || 7);
        assert_eq!(
            told,
            Some(Overflow {
                ago: 520 * MS,
                gap: 500 * MS,
                late: 20 * MS,
                processed: 1,
                dropped: 7,
            })
        );
    }

    #[test]
    fn messages_are_a_second_apart_and_each_has_all_counts() {
        let start = Instant::now();
        let mut reports = OverflowReports::default();
        let mut told = Vec::new();
        for n in 0..25 {
            let at = start + n * 100 * MS;
            let message = reports.on_packet(&packet(at, true), at, || u64::from(n));
            told.extend(message.map(|message| message.dropped));
        }
        assert_eq!(told, [0, 10, 20]);
    }
}
