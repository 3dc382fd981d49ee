//! What the crew does: something that is done each time it is called for, by one hand at a time.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Wake, Waker},
};

use super::Crew;
use crate::rtspsrc::lock;

/// Nothing to do.
const IDLE: u8 = 0;
/// In the queue.
const QUEUED: u8 = 1;
/// A hand is at it.
const RUNNING: u8 = 2;
/// A hand is at it, and it was called for since.
const RECALLED: u8 = 3;

type Turn = Box<dyn Fn(&Arc<Errand>) + Send + Sync>;

/// Something that is done when it is called for; may block.
pub(crate) struct Errand {
    crew: &'static Crew,
    state: AtomicU8,
    turn: Turn,
}

impl Errand {
    pub(crate) fn new(
        crew: &'static Crew,
        turn: impl Fn(&Arc<Self>) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            crew,
            state: AtomicU8::new(IDLE),
            turn: Box::new(turn),
        })
    }

    /// Asks for a turn, at least one that begins after this. Never blocks.
    pub(crate) fn call(self: &Arc<Self>) {
        let called = |state| match state {
            IDLE => Some(QUEUED),
            RUNNING => Some(RECALLED),
            _ => None,
        };
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, called);
        if before == Ok(IDLE) {
            self.crew.take_on(Arc::clone(self));
        }
    }

    /// A turn; true if there is to be another one, because it was called for meanwhile.
    pub(super) fn run(self: &Arc<Self>) -> bool {
        self.state.store(RUNNING, Ordering::Release);
        (self.turn)(self);
        let ended = self
            .state
            .compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
        if ended.is_err() {
            self.state.store(QUEUED, Ordering::Release);
        }
        ended.is_err()
    }
}

impl Wake for Errand {
    fn wake(self: Arc<Self>) {
        self.call();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.call();
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs a future to its end, on whichever hand is free.
///
/// # Errors
///
/// The system gives no threads.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let task: Mutex<Option<Task>> = Mutex::new(Some(Box::pin(task)));
    let errand = Errand::new(Crew::shared()?, move |errand| {
        let waker = Waker::from(Arc::clone(errand));
        let mut task = lock(&task);
        if let Some(future) = task.as_mut()
            && future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        {
            *task = None;
        }
    });
    errand.call();
    Ok(())
}
