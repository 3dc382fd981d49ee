//! What the threads run: a session's task, or the pushes of one stream.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::Wake,
    time::Instant,
};

use super::{
    WorkerPool,
    pace::{Pace, TurnCost},
    timer,
    worker::Usage,
};
use crate::rtspsrc::lock;

/// Nothing to do.
const IDLE: u8 = 0;
/// In the queue.
const QUEUED: u8 = 1;
/// A worker is at it.
const RUNNING: u8 = 2;
/// A worker is at it, and it was called for since.
const RECALLED: u8 = 3;

type TaskBody = Box<dyn Fn(&Arc<Task>) + Send + Sync>;

/// Something that is done when it is called for; may block.
pub(crate) struct Task {
    pool: &'static WorkerPool,
    state: AtomicU8,
    /// The thread that reads runs it.
    is_quick: AtomicBool,
    pace: Mutex<Pace>,
    turn: TaskBody,
}

impl Task {
    pub(crate) fn new(
        pool: &'static WorkerPool,
        turn: impl Fn(&Arc<Self>) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            pool,
            state: AtomicU8::new(IDLE),
            is_quick: AtomicBool::new(false),
            pace: Mutex::new(Pace::new()),
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
            self.pool.enqueue(Arc::clone(self));
        }
    }

    /// A turn that begins at `now`; true if there is to be another one, because it was called for
    /// meanwhile. `now` is the end of the turn then.
    pub(super) fn run(self: &Arc<Self>, now: &mut Instant) -> bool {
        let began = *now;
        let checked = lock(&self.pace).is_checked();
        let before = checked.then(Usage::of_this_thread).flatten();
        self.state.store(RUNNING, Ordering::Release);
        (self.turn)(self);
        *now = timer::now();
        let elapsed = now.saturating_duration_since(began);
        let own = before.and_then(|before| before.own_time(elapsed));
        let is_quick = lock(&self.pace).on_turn(*now, TurnCost { elapsed, own });
        self.is_quick.store(is_quick, Ordering::Relaxed);
        let ended = self
            .state
            .compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
        if ended.is_err() {
            self.state.store(QUEUED, Ordering::Release);
        }
        ended.is_err()
    }

    pub(super) fn is_quick(&self) -> bool {
        self.is_quick.load(Ordering::Relaxed)
    }

    /// It has been quick for long enough.
    #[cfg(test)]
    pub(super) fn pass_trial(&self) {
        let cost = TurnCost {
            elapsed: std::time::Duration::ZERO,
            own: None,
        };
        let mut pace = lock(&self.pace);
        let later = |time| timer::now() + time;
        pace.on_turn(timer::now(), cost);
        let is_quick = pace.on_turn(later(std::time::Duration::from_secs(1)), cost);
        self.is_quick.store(is_quick, Ordering::Relaxed);
    }

    /// It holds up its thread.
    pub(super) fn on_held_up(&self) {
        lock(&self.pace).on_held_up();
        self.is_quick.store(false, Ordering::Relaxed);
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.call();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.call();
    }
}
