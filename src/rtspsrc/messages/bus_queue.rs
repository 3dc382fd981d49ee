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

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Condvar, Mutex, PoisonError, atomic::Ordering},
    thread::{self, ThreadId},
    time::Duration,
};

use gst::{prelude::*, subclass::prelude::ObjectSubclassIsExt};
use gstreamer as gst;
use tokio::sync::oneshot;

use crate::rtspsrc::{CAT, RtspMuxSrc, lock};

/// How long READY to NULL waits for a message that is being posted. Without a sync handler posting takes
/// microseconds; a handler may itself be waiting for the thread that changes the state.
const LAST_WORD: Duration = Duration::from_millis(500);

/// How long READY to NULL waits for the bus to take the next message of the queue.
const PROMPT: Duration = Duration::from_millis(100);

/// How often, and how long each time, a thread that has posted everything waits for another message
/// before it ends, if there are few such threads: messages seldom come alone. A message that is not
/// urgent does not wake the thread, as waking it would cost a session task more than the rest of its
/// step.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(1);
const FEW: usize = 4;

/// The buses for which messages wait or are being posted. A leaf in the order of locks: no thread posts or
/// drops a message while it holds it.
static BUSES: Mutex<BTreeMap<gst::Bus, Outgoing>> = Mutex::new(BTreeMap::new());

/// There is something urgent to post.
static ARRIVED: Condvar = Condvar::new();

/// A message was posted.
static POSTED: Condvar = Condvar::new();

/// The messages for one bus.
#[derive(Default)]
struct Outgoing {
    queue: MessageQueue<Source, QueueContent>,
    /// The element whose message is being posted, and the thread that posts it.
    under_way: Option<(Source, ThreadId)>,
    has_thread: bool,
    /// The message that is being posted takes long: a handler of the application does.
    is_stuck: bool,
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
    element.imp().is_silent.store(false, Ordering::Release);
}

/// The element goes to NULL. What it has queued of its progress is posted yet, as far as the bus takes it without
/// delay; its other messages are dropped. After this has returned no message of the element is posted any more.
pub(crate) fn close(element: &RtspMuxSrc) {
    let source = Source::of(element);
    let mut buses = lock(&BUSES);
    // Under the lock, so that no message comes after these.
    element.imp().is_silent.store(true, Ordering::Release);
    let mut dropped = take_of(&mut buses, &source, |topic| *topic != Topic::Progress);
    let own = thread::current().id();
    ARRIVED.notify_all();
    // A sync handler that stops the pipeline runs on the thread that posts: it must not wait for itself.
    while buses.values().any(|there| {
        let is_own = there.under_way.is_some_and(|(_, thread)| thread == own);
        there.queue.has_of(&source) && !there.is_stuck && !is_own
    }) {
        let waited = POSTED.wait_timeout(buses, PROMPT);
        let (again, result) = waited.unwrap_or_else(PoisonError::into_inner);
        buses = again;
        if result.timed_out() {
            for there in buses.values_mut() {
                there.is_stuck |= there.queue.has_of(&source);
            }
        }
    }
    dropped.extend(take_of(&mut buses, &source, |_| true));
    let is_posting = |buses: &mut BTreeMap<gst::Bus, Outgoing>| {
        let mut under_way = buses.values().filter_map(|there| there.under_way.as_ref());
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

/// Takes the messages of an element out of all queues: those of the topics that are wanted.
fn take_of(
    buses: &mut BTreeMap<gst::Bus, Outgoing>,
    source: &Source,
    is_wanted: impl Fn(&Topic) -> bool,
) -> Vec<QueueContent> {
    let queues = buses.values_mut().map(|there| &mut there.queue);
    queues
        .flat_map(|queue| queue.take_of(source, &is_wanted))
        .collect()
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
    if element.imp().is_silent.load(Ordering::Acquire) {
        drop(buses);
        return drop(content);
    }
    let there = buses.entry(bus.clone()).or_default();
    let is_urgent = topic.is_kept();
    let dropped = there.queue.push(Source::of(element), topic, content);
    let mut posts_here = false;
    if there.has_thread {
        if is_urgent {
            ARRIVED.notify_all();
        }
    } else {
        // Where the system gives no thread a message that may block is better than none.
        posts_here = !start_thread(bus.clone());
        there.has_thread = true;
    }
    drop(buses);
    drop(dropped);
    if posts_here {
        work(&bus, 0);
    }
}

/// Starts the thread. False if the system cannot.
fn start_thread(bus: gst::Bus) -> bool {
    let thread = thread::Builder::new().name("rtspmux-bus".to_owned());
    let started = thread.spawn(move || work(&bus, LOOKS));
    if let Err(error) = &started {
        gst::error!(CAT, "no thread to post messages: {error}");
    }
    started.is_ok()
}

/// Posts all messages of the bus, and ends after it has looked for another one so often.
fn work(bus: &gst::Bus, most_looks: u32) {
    let mut buses = lock(&BUSES);
    let mut looks = 0;
    loop {
        let Some(there) = buses.get_mut(bus) else {
            return;
        };
        there.under_way = None;
        there.is_stuck = false;
        POSTED.notify_all();
        let Some((source, content)) = there.queue.pop() else {
            if looks < most_looks && buses.len() <= FEW {
                looks += 1;
                let waited = ARRIVED.wait_timeout(buses, LOOK);
                buses = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let ended = buses.remove(bus);
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

/// How many messages wait before some are dropped: more than all elements of a large pipeline post at a
/// start.
const CAPACITY: usize = 1024;

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// ERROR with this text.
    Error(String),
    /// WARNING with this text.
    Warning(String),
    /// What happens to a session.
    Session,
    /// What is known of a server.
    Server,
    /// Which streams there are, and which are selected.
    Selection,
    /// PROGRESS.
    Progress,
    /// QOS.
    Overflow,
    /// No message, but a mark: its owner learns when those before it are posted.
    Mark,
}

impl Topic {
    /// Whether it must reach the bus, and soon.
    pub(super) fn is_kept(&self) -> bool {
        matches!(
            self,
            Self::Error(_) | Self::Warning(_) | Self::Selection | Self::Mark
        )
    }
}

struct QueuedMessage<S, M> {
    source: S,
    topic: Topic,
    message: M,
}

/// The messages of one bus, in order.
pub(super) struct MessageQueue<S, M>(VecDeque<QueuedMessage<S, M>>);

impl<S, M> Default for MessageQueue<S, M> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<S: PartialEq, M> MessageQueue<S, M> {
    /// Puts a message behind all others. Returns the message that is dropped for it, which may be itself.
    ///
    /// An error or warning that waits already is not queued twice. In a full queue an older message of
    /// the same source and topic is dropped: the later one has its counts. If there is none, the oldest
    /// message that is neither error nor warning is dropped.
    pub(super) fn push(&mut self, source: S, topic: Topic, message: M) -> Option<M> {
        let is_same = |entry: &QueuedMessage<S, M>| entry.source == source && entry.topic == topic;
        let mut dropped = None;
        if matches!(topic, Topic::Error(_) | Topic::Warning(_)) {
            if self.0.iter().any(is_same) {
                return Some(message);
            }
        } else if self.0.len() >= CAPACITY && topic != Topic::Mark {
            let can_go = |entry: &QueuedMessage<S, M>| !entry.topic.is_kept();
            let at = self.0.iter().position(is_same);
            let Some(at) = at.or_else(|| self.0.iter().position(can_go)) else {
                return Some(message);
            };
            dropped = self.0.remove(at).map(|entry| entry.message);
        }
        self.0.push_back(QueuedMessage {
            source,
            topic,
            message,
        });
        dropped
    }

    /// Takes out the next message to post.
    pub(super) fn pop(&mut self) -> Option<(S, M)> {
        self.0
            .pop_front()
            .map(|entry| (entry.source, entry.message))
    }

    /// Whether it has a message of `source`.
    fn has_of(&self, source: &S) -> bool {
        self.0.iter().any(|entry| entry.source == *source)
    }

    /// Takes out the messages of `source` of the topics that are wanted.
    fn take_of(&mut self, source: &S, is_wanted: impl Fn(&Topic) -> bool) -> Vec<M> {
        let entries = self.0.drain(..);
        let (taken, kept): (VecDeque<_>, _) =
            entries.partition(|entry| entry.source == *source && is_wanted(&entry.topic));
        self.0 = kept;
        taken.into_iter().map(|entry| entry.message).collect()
    }
}

#[cfg(test)]
mod queue_tests {
    use super::*;

    fn drain(queue: &mut MessageQueue<u32, u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop().map(|(_, message)| message)).collect()
    }

    fn error(text: &str) -> Topic {
        Topic::Error(text.to_owned())
    }

    /// Which message a full queue drops when another one comes. The new one is number 0, those before it
    /// 1 to CAPACITY.
    #[test]
    fn which_message_a_full_queue_drops() {
        let cases = [
            // Filled with, comes, dropped.
            ((1, Topic::Progress), (1, Topic::Progress), Some(1)),
            ((1, Topic::Progress), (2, Topic::Progress), Some(1)),
            ((1, Topic::Overflow), (2, Topic::Session), Some(1)),
            ((1, Topic::Session), (1, error("e")), None),
            (
                (1, Topic::Session),
                (1, Topic::Warning("w".to_owned())),
                None,
            ),
            ((1, Topic::Session), (1, Topic::Mark), None),
            ((1, Topic::Mark), (1, Topic::Session), Some(0)),
        ];
        for ((source, topic), (next_source, next), dropped) in cases {
            let mut queue = MessageQueue::default();
            for number in 1..=CAPACITY as u32 {
                assert_eq!(queue.push(source, topic.clone(), number), None);
            }
            assert_eq!(
                queue.push(next_source, next.clone(), 0),
                dropped,
                "{next:?}"
            );
        }
    }

    #[test]
    fn of_two_messages_of_one_source_and_topic_the_later_one_stays() {
        let mut queue = MessageQueue::default();
        queue.push(1, Topic::Progress, 1);
        queue.push(7, Topic::Overflow, 2);
        for number in 3..=CAPACITY as u32 {
            queue.push(1, Topic::Progress, number);
        }
        assert_eq!(queue.push(7, Topic::Overflow, 0), Some(2));
        let left = drain(&mut queue);
        assert_eq!((left.len(), left[0], left[CAPACITY - 1]), (CAPACITY, 1, 0));
    }

    #[test]
    fn errors_are_never_lost_and_told_once() {
        let mut queue = MessageQueue::default();
        for number in 0..2 * CAPACITY as u32 {
            assert_eq!(queue.push(number, error("e"), number), None);
        }
        assert_eq!(queue.push(1, error("e"), 7777), Some(7777));
        assert_eq!(queue.push(1, error("other"), 8888), None);
        assert_eq!(drain(&mut queue).len(), 2 * CAPACITY + 1);
    }

    #[test]
    fn the_messages_of_a_source_that_leaves_are_taken_out() {
        let mut queue = MessageQueue::default();
        for number in 0..6 {
            queue.push(number % 2, Topic::Session, number);
        }
        queue.push(1, Topic::Progress, 6);
        assert_eq!(queue.take_of(&1, |it| *it != Topic::Progress), [1, 3, 5]);
        assert!(queue.has_of(&1));
        assert_eq!(queue.take_of(&1, |_| true), [6]);
        assert!(!queue.has_of(&1));
        assert_eq!(drain(&mut queue), [0, 2, 4]);
    }
}
