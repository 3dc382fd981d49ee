//! Forwards the log of the multiplexer to that of GStreamer.
//!
//! The multiplexer logs with `tracing`; a user who debugs a pipeline sets `GST_DEBUG`. So its events go
//! to the debug category `rtspmux`: `GST_DEBUG=rtspmux:4` shows connections coming and going, `rtspmux:7`
//! every RTSP message, without secrets.

use std::{
    fmt::{self, Write as _},
    sync::LazyLock,
};

use gst::{DebugLogger as _, glib};
use gstreamer as gst;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "rtspmux",
        gst::DebugColorFlags::empty(),
        Some("Connections of rtspmuxsrc, and the RTSP on them"),
    )
});

/// Events of this crate begin with one of these.
const TARGETS: [&str; 2] = ["gstrtspmux", "rtspmux"];

/// Forwards the crate's events from now on, unless the process has a subscriber of its own: an
/// application that links the crate and wants one sets it before it registers the plugin.
pub(crate) fn forward() {
    LazyLock::force(&CAT);
    if !tracing::dispatcher::has_been_set() {
        // Another thread may have set a subscriber meanwhile, which then stays.
        let _ = tracing::subscriber::set_global_default(Forwarder);
    }
}

/// Takes the events of this crate only. It has no spans.
struct Forwarder;

fn is_ours(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let root = target.split_once("::").map_or(target, |(root, _)| root);
    !metadata.is_span() && TARGETS.contains(&root)
}

fn level_of(metadata: &Metadata<'_>) -> gst::DebugLevel {
    match *metadata.level() {
        Level::ERROR => gst::DebugLevel::Error,
        Level::WARN => gst::DebugLevel::Warning,
        Level::INFO => gst::DebugLevel::Info,
        Level::DEBUG => gst::DebugLevel::Debug,
        Level::TRACE => gst::DebugLevel::Trace,
    }
}

impl Subscriber for Forwarder {
    /// `tracing` asks `enabled` for each event of this crate, because the threshold changes at run time;
    /// that is a comparison of two numbers. It never asks for events of other crates.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_ours(metadata) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        CAT.above_threshold(level_of(metadata))
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut text = String::new();
        event.record(&mut Text(&mut text));
        let file = glib::GString::from(metadata.file().unwrap_or_default());
        CAT.log(
            None::<&gst::Object>,
            level_of(metadata),
            file.as_gstr(),
            metadata.target(),
            metadata.line().unwrap_or_default(),
            format_args!("{text}"),
        );
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Writes the message of an event and its fields.
struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
