//! The queue of messages in front of each bus, and the thread that posts them.
//!
//! A call that posts a message may block: the bus makes each writer spin until the writers before it are
//! done, and the sync handler of an application may take any time. So threads that read sockets, run
//! session tasks or push buffers do not post. They put messages into a queue here, one for each bus.
//! While there is a message in it, one thread posts one after the other and holds no lock of this crate
//! meanwhile. All elements of a pipeline use the bus of the pipeline, however deep in it they are.
//!
//! Inside its own state change the element posts at once, on the application's thread: an application
//! looks for the reason of a failed state change right after it.

mod queue;

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use gst::{prelude::*, subclass::prelude::ObjectSubclassIsExt};
use gstreamer as gst;
use tokio::sync::oneshot;

use self::queue::MessageQueue;
pub(crate) use self::queue::Topic;
use crate::rtspsrc::{CAT, RtspMuxSrc, lock};

/// How long READY to NULL waits for a message that is being posted. Without a sync handler posting takes
/// microseconds; a handler may itself be waiting for the thread that changes the state.
const LAST_WORD: Duration = Duration::from_millis(500);

/// How often, and how long each time, a thread that has posted everything waits for another message
/// before it ends, if there are few such threads: messages seldom come alone. A message that is not
/// urgent does not wake the thread, as waking it would cost a session task more than the rest of its
/// step.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(1);
const FEW: usize = 4;

/// A leaf in the order of locks: no thread posts or drops a message while it holds it.
static BUSES: Mutex<Vec<Outgoing>> = Mutex::new(Vec::new());

/// There is something urgent to post.
static ARRIVED: Condvar = Condvar::new();

/// A message was posted.
static POSTED: Condvar = Condvar::new();

type Buses<'a> = MutexGuard<'a, Vec<Outgoing>>;

/// The messages for one bus.
struct Outgoing {
    bus: gst::Bus,
    queue: MessageQueue<Source, QueueContent>,
    /// The element whose message is being posted, and the thread that posts it.
    under_way: Option<(Source, ThreadId)>,
    has_thread: bool,
}

/// An element, by its address. It is not a reference, as the last reference must not be dropped under a
/// lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source(usize);

impl Source {
    fn of(element: &RtspMuxSrc) -> Self {
        Self(element.as_ptr() as usize)
    }
}

/// An entry of the queue.
enum QueueContent {
    Message(RtspMuxSrc, gst::Message),
    /// Completed when all entries before it are posted.
    Mark(oneshot::Sender<()>),
}

/// Whether an element may post.
#[derive(Debug, Default)]
pub(crate) struct PostPermission {
    is_silent: AtomicBool,
}

impl PostPermission {
    fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Acquire)
    }
}

/// Posts a message soon. Never waits.
pub(crate) fn post(element: &RtspMuxSrc, topic: Topic, message: gst::Message) {
    put(
        element,
        topic,
        QueueContent::Message(element.clone(), message),
    );
}

/// Returns when all messages that `element` has queued so far are posted, or were dropped.
pub(crate) async fn posted(element: &RtspMuxSrc) {
    let (mark, is_posted) = oneshot::channel();
    put(element, Topic::Mark, QueueContent::Mark(mark));
    // An error means that the mark was dropped with the messages before it.
    let _ = is_posted.await;
}

/// The element leaves NULL: from now on it may post.
pub(crate) fn open(element: &RtspMuxSrc) {
    element
        .imp()
        .post_permission()
        .is_silent
        .store(false, Ordering::Release);
}

/// The element goes to NULL: drops its messages that are not posted yet. After this has returned no
/// message of the element is posted any more.
pub(crate) fn close(element: &RtspMuxSrc) {
    let source = Source::of(element);
    let mut buses = lock(&BUSES);
    // Under the lock, so that no message comes after those that are dropped.
    element
        .imp()
        .post_permission()
        .is_silent
        .store(true, Ordering::Release);
    let dropped: Vec<QueueContent> = buses
        .iter_mut()
        .flat_map(|there| there.queue.take_of(&source))
        .collect();
    let own = thread::current().id();
    let is_posting = |buses: &mut Vec<Outgoing>| {
        let mut under_way = buses.iter().filter_map(|there| there.under_way.as_ref());
        // A sync handler that stops the pipeline runs on the thread that posts: it must not wait for
        // itself.
        under_way.any(|(of, thread)| *of == source && *thread != own)
    };
    let waited = POSTED.wait_timeout_while(buses, LAST_WORD, is_posting);
    let (buses, result) = waited.unwrap_or_else(PoisonError::into_inner);
    drop(buses);
    drop(dropped);
    if result.timed_out() {
        gst::warning!(
            CAT,
            obj = element,
            "the bus still has not taken the last message"
        );
    }
}

/// The bus that the application reads: that of the pipeline. An element within a bin has a bus between it
/// and the bin, which passes all messages on to that of the pipeline.
pub(crate) fn bus_of(element: &RtspMuxSrc) -> Option<gst::Bus> {
    let mut top: gst::Object = element.clone().upcast();
    while let Some(parent) = top.parent() {
        top = parent;
    }
    top.downcast::<gst::Element>().ok()?.bus()
}

fn put(element: &RtspMuxSrc, topic: Topic, content: QueueContent) {
    // Without a bus the message has no reader.
    let Some(bus) = bus_of(element) else { return };
    let mut buses = lock(&BUSES);
    if element.imp().post_permission().is_silent() {
        drop(buses);
        return drop(content);
    }
    let there = match buses.iter().position(|there| there.bus == bus) {
        Some(at) => &mut buses[at],
        None => {
            buses.push(Outgoing::new(bus));
            let last = buses.len() - 1;
            &mut buses[last]
        }
    };
    let is_urgent = topic.is_kept();
    let dropped = there.queue.push(Source::of(element), topic, content);
    if !there.has_thread {
        there.has_thread = there.start_thread();
    } else if is_urgent {
        ARRIVED.notify_all();
    }
    drop(buses);
    drop(dropped);
}

impl Outgoing {
    fn new(bus: gst::Bus) -> Self {
        Self {
            bus,
            queue: MessageQueue::default(),
            under_way: None,
            has_thread: false,
        }
    }

    /// Starts the thread. False if the system cannot; the next message tries again.
    fn start_thread(&self) -> bool {
        let bus = self.bus.clone();
        let thread = thread::Builder::new().name("rtspmux-bus".to_owned());
        let started = thread.spawn(move || work(&bus));
        if let Err(error) = &started {
            gst::error!(CAT, "no thread to post messages: {error}");
        }
        started.is_ok()
    }
}

/// Waits until there may be something to post on the bus.
fn linger(buses: Buses<'_>) -> Buses<'_> {
    let waited = ARRIVED.wait_timeout(buses, LOOK);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

/// Runs the thread: posts all messages of the bus, and ends soon after the last one.
fn work(bus: &gst::Bus) {
    let mut buses = lock(&BUSES);
    let mut looks = 0;
    loop {
        let Some(at) = buses.iter().position(|there| there.bus == *bus) else {
            return;
        };
        let there = &mut buses[at];
        there.under_way = None;
        POSTED.notify_all();
        let Some((source, content)) = there.queue.pop() else {
            if looks < LOOKS && buses.len() <= FEW {
                looks += 1;
                buses = linger(buses);
                continue;
            }
            let ended = buses.swap_remove(at);
            drop(buses);
            return drop(ended);
        };
        looks = 0;
        there.under_way = Some((source, thread::current().id()));
        drop(buses);
        match content {
            // An error means that the element has no bus any more.
            QueueContent::Message(element, message) => _ = element.post_message(message),
            // An error means that the task that waited has ended.
            QueueContent::Mark(mark) => _ = mark.send(()),
        }
        buses = lock(&BUSES);
    }
}
