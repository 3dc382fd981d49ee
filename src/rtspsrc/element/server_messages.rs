//! Tells pipelines when a server's sharing verdict changes, a limit holds up its sessions, or the state
//! file cannot be used: once each, however many elements there are.
//!
//! An element takes part from NULL to READY on until it is back in NULL. Of those that share a
//! multiplexer and a bus, one posts; which one does not matter, as the message names the server.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use gst::{glib, prelude::*};
use gstreamer as gst;
use tokio::task::AbortHandle;

use crate::{
    mux::{Mux, MuxEvent, MuxEvents},
    rtspsrc::{
        RtspMuxSrc, lock,
        messages::{self, bus_queue::bus_of},
        runtime,
    },
};

/// Every multiplexer that has elements. A leaf in the order of locks: nothing is called or dropped
/// under it that could come back.
static AUDIENCES: Mutex<Vec<Audience>> = Mutex::new(Vec::new());

/// The elements of one multiplexer.
struct Audience {
    mux: Mux,
    listeners: Vec<Listener>,
    /// Takes its events; ends with the audience.
    task: AbortHandle,
}

impl Drop for Audience {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One element.
struct Listener {
    seat: u64,
    element: glib::WeakRef<RtspMuxSrc>,
    server: String,
}

/// An element's part in it, until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub(crate) struct Seat(u64);

impl Drop for Seat {
    fn drop(&mut self) {
        let left: Vec<Audience> = lock(&AUDIENCES)
            .extract_if(.., |audience| {
                audience.listeners.retain(|there| there.seat != self.0);
                audience.listeners.is_empty()
            })
            .collect();
        // After the lock is free: this may be the last of a `Mux`.
        drop(left);
    }
}

/// From now on changes at `server` are told on the bus of `element`.
///
/// # Errors
///
/// The system gives no threads.
pub(crate) fn attend(element: &RtspMuxSrc, mux: &Mux, server: String) -> io::Result<Seat> {
    static LAST: AtomicU64 = AtomicU64::new(0);

    let runtime = runtime::timers()?;
    let seat = LAST.fetch_add(1, Ordering::Relaxed);
    let listener = Listener {
        seat,
        element: element.downgrade(),
        server,
    };
    let mut audiences = lock(&AUDIENCES);
    if let Some(audience) = audiences.iter_mut().find(|there| there.mux.is_same(mux)) {
        audience.listeners.push(listener);
        return Ok(Seat(seat));
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "one task for each multiplexer; it ends with its last element"
    )]
    let task = runtime.spawn(tell(mux.clone(), mux.events()));
    audiences.push(Audience {
        mux: mux.clone(),
        listeners: vec![listener],
        task: task.abort_handle(),
    });
    Ok(Seat(seat))
}

async fn tell(mux: Mux, mut events: MuxEvents) {
    while let Some(event) = events.next().await {
        match event {
            MuxEvent::Sharing(change) => {
                for element in spokesmen(&mux, Some(&change.server)) {
                    messages::sharing(&element, &change);
                }
            }
            MuxEvent::Limit(limit) => {
                for element in spokesmen(&mux, Some(&limit.server)) {
                    messages::limit(&element, &limit);
                }
            }
            MuxEvent::StateFile(problem) => {
                for element in spokesmen(&mux, None) {
                    messages::state_file(&element, &problem);
                }
            }
        }
    }
}

/// One element for each bus, of those that play from the server, or of all.
fn spokesmen(mux: &Mux, server: Option<&str>) -> Vec<RtspMuxSrc> {
    let mut spokesmen: Vec<(gst::Bus, RtspMuxSrc)> = Vec::new();
    for element in listening(mux, server)
        .iter()
        .filter_map(glib::WeakRef::upgrade)
    {
        let Some(bus) = bus_of(&element) else {
            continue;
        };
        if spokesmen.iter().all(|(other, _)| *other != bus) {
            spokesmen.push((bus, element));
        }
    }
    spokesmen.into_iter().map(|(_, element)| element).collect()
}

fn listening(mux: &Mux, server: Option<&str>) -> Vec<glib::WeakRef<RtspMuxSrc>> {
    let audiences = lock(&AUDIENCES);
    let Some(audience) = audiences.iter().find(|there| there.mux.is_same(mux)) else {
        return Vec::new();
    };
    let listeners = audience.listeners.iter();
    listeners
        .filter(|listener| server.is_none_or(|server| listener.server == server))
        .map(|listener| listener.element.clone())
        .collect()
}
