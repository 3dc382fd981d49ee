//! Posts messages that concern a whole server: its sharing verdict has changed, a limit holds up its
//! sessions, or the state file cannot be used. Each pipeline gets one message, however many elements it
//! has.
//!
//! An element subscribes in NULL to READY and unsubscribes in READY to NULL. Of the elements that share a
//! multiplexer and a bus, one posts; any of them may, as the message names the server.

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
        threads::timer::timers,
    },
};

/// Each multiplexer that has elements, with its subscribers. A leaf in the order of locks: no thread
/// calls or drops anything under it that could take it again.
static SUBSCRIBERS: Mutex<Vec<MuxSubscribers>> = Mutex::new(Vec::new());

/// The elements of one multiplexer.
struct MuxSubscribers {
    mux: Mux,
    elements: Vec<Subscriber>,
    /// Receives the events of the multiplexer; ends when the last element unsubscribes.
    task: AbortHandle,
}

impl Drop for MuxSubscribers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One element.
struct Subscriber {
    id: u64,
    element: glib::WeakRef<RtspMuxSrc>,
    server: String,
}

/// The subscription of one element, until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub(crate) struct Subscription(u64);

impl Drop for Subscription {
    fn drop(&mut self) {
        let left: Vec<MuxSubscribers> = lock(&SUBSCRIBERS)
            .extract_if(.., |subscribers| {
                subscribers.elements.retain(|there| there.id != self.0);
                subscribers.elements.is_empty()
            })
            .collect();
        // Dropped after the lock is free, as this may drop the last clone of a `Mux`.
        drop(left);
    }
}

/// From now on messages about `server` are posted on the bus of `element`.
///
/// # Errors
///
/// The system cannot start a thread.
pub(crate) fn subscribe(
    element: &RtspMuxSrc,
    mux: &Mux,
    server: String,
) -> io::Result<Subscription> {
    static LAST: AtomicU64 = AtomicU64::new(0);

    let runtime = timers()?;
    let id = LAST.fetch_add(1, Ordering::Relaxed);
    let subscriber = Subscriber {
        id,
        element: element.downgrade(),
        server,
    };
    let mut all = lock(&SUBSCRIBERS);
    if let Some(subscribers) = all.iter_mut().find(|there| there.mux.is_same(mux)) {
        subscribers.elements.push(subscriber);
        return Ok(Subscription(id));
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "one task for each multiplexer; it ends with its last element"
    )]
    let task = runtime.spawn(tell(mux.clone(), mux.events()));
    all.push(MuxSubscribers {
        mux: mux.clone(),
        elements: vec![subscriber],
        task: task.abort_handle(),
    });
    Ok(Subscription(id))
}

async fn tell(mux: Mux, mut events: MuxEvents) {
    while let Some(event) = events.next().await {
        let server = match &event {
            MuxEvent::Sharing(change) => Some(change.server.as_str()),
            MuxEvent::Limit(limit) => Some(limit.server.as_str()),
            MuxEvent::StateFile(_) => None,
        };
        for element in one_per_bus(&mux, server) {
            match &event {
                MuxEvent::Sharing(change) => messages::sharing(&element, change),
                MuxEvent::Limit(limit) => messages::limit(&element, limit),
                MuxEvent::StateFile(problem) => messages::state_file(&element, problem),
            }
        }
    }
}

/// One element for each bus, of those that play from `server`, or of all.
fn one_per_bus(mux: &Mux, server: Option<&str>) -> Vec<RtspMuxSrc> {
    let is_of = |element: &&Subscriber| server.is_none_or(|server| element.server == server);
    let subscribed: Vec<_> = lock(&SUBSCRIBERS)
        .iter()
        .filter(|there| there.mux.is_same(mux))
        .flat_map(|there| there.elements.iter().filter(is_of))
        .map(|subscriber| subscriber.element.clone())
        .collect();
    let mut buses: Vec<gst::Bus> = Vec::new();
    let is_first = |element: &RtspMuxSrc| {
        let bus = bus_of(element).filter(|bus| !buses.contains(bus));
        bus.map(|bus| buses.push(bus)).is_some()
    };
    let elements = subscribed.iter().filter_map(glib::WeakRef::upgrade);
    elements.filter(is_first).collect()
}
