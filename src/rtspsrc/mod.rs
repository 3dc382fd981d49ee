//! The GStreamer element `rtspmuxsrc`: one camera of a server, over a connection it shares.
//!
//! ```text
//! imp           the element: properties, URI, state changes; translates, decides nothing
//! settings      what it was told -> what the multiplexer is asked for
//! context       which multiplexer: the process's, or an application's
//! session_task  the life of one session: open, set up, play, lose, and again
//! session_control  the element's end of that
//! recovery      whether and when a session that ended is set up again
//! reports       what the bus hears of a session that does not come up, and how often
//! playback      a session while it plays, with its watchdog
//! streams       what is described -> what is played; whether that is still the same
//! outage        the time of an outage on a pad
//! end           why a session ended, and how that is said
//! narrator      what a session task says on the bus
//! bus_queue     messages on their way to a bus, and the thread that posts them
//! status        how a session stands, for `stats`
//! deliverable   whether packets can be delivered at all
//! feed          packets -> buffers -> pads of the manager, flows combined
//! stage         where the task builds, and how a state change takes that away
//! manager       who turns RTP packets into timed buffers: the light path, or rtpbin
//! announcer     tells each pipeline once what concerns a whole server
//! pads          the pads people link to, with ids, caps and segment
//! caps          SDP -> caps, behind `sdp_gate`
//! crew          the threads that run session tasks and push
//! ```
//!
//! Packets are pushed from the threads `rtspmux-feed` (see `crew`), never from those that read
//! sockets, and messages are posted from neither (see `bus_queue`). State changes wait for neither, save READY to NULL: up to `teardown-timeout` for the
//! answer to TEARDOWN.

mod announcer;
mod buffer;
mod bus_queue;
mod caps;
mod context;
mod crew;
mod deliverable;
mod end;
mod feed;
mod imp;
mod log;
mod losses;
mod manager;
mod messages;
mod narrator;
mod outage;
mod pads;
mod panics;
mod playback;
mod properties;
mod recovery;
mod reports;
mod runtime;
mod sdp_gate;
mod session_control;
mod session_task;
mod settings;
mod stage;
mod stats;
mod status;
mod streams;
mod timer;
mod watchdog;

use gstreamer as gst;
use std::sync::{
    LazyLock, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use gst::{glib, prelude::*};

pub use context::{CONTEXT_TYPE, STATE_VARIABLE, pool_context};
pub use manager::ManagerChoice;
pub use settings::{Multiplex, OverflowPolicy};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "rtspmuxsrc",
        gst::DebugColorFlags::empty(),
        Some("RTSP source on shared connections"),
    )
});

glib::wrapper! {
    /// The element `rtspmuxsrc`.
    pub struct RtspMuxSrc(ObjectSubclass<imp::RtspMuxSrc>)
        @extends gst::Bin, gst::Element, gst::Object,
        @implements gst::ChildProxy, gst::URIHandler;
}

/// Locks a mutex, also one whose holder panicked: that panic was caught and reported (see `panics`).
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers the element. Its rank is NONE, as `rtspsrc`'s: of the two, `playbin` takes the one whose
/// name sorts first, which is ours, unless `GST_PLUGIN_FEATURE_RANK=rtspsrc:1` says otherwise.
///
/// # Errors
///
/// Another copy of this crate in the process was first - the plugin file and an application that
/// links the library - or GStreamer refuses, for a reason it logs.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    static OURS: AtomicBool = AtomicBool::new(false);

    // GLib panics when a type is registered twice, and it would do so across C.
    let first = !OURS.swap(true, Ordering::AcqRel);
    if first && glib::Type::from_name("GstRtspMuxSrc").is_some() {
        OURS.store(false, Ordering::Release);
        return Err(glib::bool_error!(
            "another copy of {} has registered rtspmuxsrc in this process",
            env!("CARGO_PKG_NAME")
        ));
    }
    log::forward();
    gst::Element::register(
        Some(plugin),
        "rtspmuxsrc",
        gst::Rank::NONE,
        RtspMuxSrc::static_type(),
    )
}
