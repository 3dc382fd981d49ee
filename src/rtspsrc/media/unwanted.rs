//! Streams that are set up and that the application does not want at present: what comes of them is dropped
//! in front of the pad, which has EOS.
//!
//! Their media is not torn down, as no client tears down one medium of a session and servers do not expect
//! it. A stream that is wanted again gets a new pad of the same name in place of the one that has ended.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use gst::{glib, prelude::*};
use gstreamer as gst;

use super::pads::{PadStream, Pads, Watch, copy_sticky_events, ghost_pad};
use crate::rtspsrc::{CAT, RtspMuxSrc, handlers, lock};

/// Whether a stream is wanted.
#[derive(Default)]
pub(crate) struct WantedStream {
    /// As the application has it.
    is_refused: Mutex<bool>,
    /// Its packets are dropped. Goes on until it has a pad again.
    is_dropped: AtomicBool,
}

impl WantedStream {
    pub(super) fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Relaxed)
    }
}

impl Pads {
    /// Begins to drop what comes of a stream and ends its pad, or shows it again.
    pub(crate) fn set_wanted(&self, stream: &Arc<PadStream>, is_wanted: bool) {
        let wanted = &stream.wanted;
        if std::mem::replace(&mut *lock(&wanted.is_refused), !is_wanted) != is_wanted {
            return;
        }
        let ghost = lock(&stream.ghost).clone();
        match (is_wanted, ghost) {
            (false, ghost) => {
                wanted.is_dropped.store(true, Ordering::Relaxed);
                if ghost.is_some() {
                    end_pad(stream.clone());
                }
            }
            (true, None) => wanted.is_dropped.store(false, Ordering::Relaxed),
            (true, Some(ended)) => self.show_again(stream.clone(), ended),
        }
    }

    /// Exchanges a pad that has ended while nothing is pushed through it.
    fn show_again(&self, stream: Arc<PadStream>, ended: gst::GhostPad) {
        let (Some(target), Some(element)) = (ended.target(), self.element().upgrade()) else {
            return stream.wanted.is_dropped.store(false, Ordering::Relaxed);
        };
        let element = element.downgrade();
        target.add_probe(gst::PadProbeType::IDLE, move |target, _| {
            if let Some(element) = element
                .upgrade()
                .filter(|_| !*lock(&stream.wanted.is_refused))
                && let Err(error) = exchange(&element, &stream, &ended, target)
            {
                gst::error!(CAT, obj = ended, "no pad in its place: {error}");
            }
            gst::PadProbeReturn::Remove
        });
    }
}

fn exchange(
    element: &RtspMuxSrc,
    stream: &Arc<PadStream>,
    ended: &gst::GhostPad,
    target: &gst::Pad,
) -> Result<(), glib::BoolError> {
    ended.set_target(None::<&gst::Pad>)?;
    // Both fail only if the application has done it before.
    let _ = ended.set_active(false);
    let _ = element.remove_pad(ended);
    let watch = stream.watch.get().copied().unwrap_or(Watch::ByPad);
    let ghost = ghost_pad(element, stream, target, watch)?;
    *lock(&stream.ghost) = Some(ghost.clone());
    ghost.set_active(true)?;
    copy_sticky_events(target, &ghost, stream);
    element.add_pad(&ghost)?;
    stream.wanted.is_dropped.store(false, Ordering::Relaxed);
    Ok(())
}

/// Pushes EOS on a thread of its own: downstream may be holding a packet of the stream until one of another
/// stream comes, as a muxer does, and that one comes from the thread that has called this.
fn end_pad(stream: Arc<PadStream>) {
    if let Err(error) = handlers::spawn(move || stream.push_eos()) {
        gst::error!(CAT, "no thread to end a pad: {error}");
    }
}
