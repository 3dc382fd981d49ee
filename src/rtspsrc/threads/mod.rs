//! The threads that run session tasks and feed pads: few, and never too few.
//!
//! Pushing a buffer runs downstream's code, which may block for as long as it likes: in a sink that
//! waits for its clock, in a muxer that waits for another stream. So there is no fixed number of
//! threads that is right. Here as many [`Task`]s are on the way at a time as the machine has
//! processors, four at most, and a thread that is found waiting in one for a millisecond or longer while
//! others wait does not count any more: another one takes its place. Not so a thread that is busy, or
//! would be if it got a processor: another one would only compete with it. A thread that waits for a lock
//! has to be found at the same wait twice, and to be there for longer while another thread is busy, which
//! may have the lock. When one comes back there may be one too many, which ends after a while.
//!
//! No task posts messages: see [`bus_queue`](crate::rtspsrc::messages::bus_queue).
//!
//! ```text
//! called -> queue -> a worker takes it -> idle, or called again
//!             ^                |
//!             +--- monitor: looks each millisecond, while tasks wait, which workers are held up
//! ```
//!
//! One worker is woken for a queue that was empty; others come only where that one does not get through
//! within a millisecond. So a burst for many sessions costs one wake-up, and what follows runs on
//! a processor that is warm.

mod accounting;
mod idle_timeout;
pub(crate) mod timer;
mod worker;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Wake, Waker},
    time::{Duration, Instant},
};

use gstreamer as gst;

use self::{
    accounting::{Accounting, TurnNumber},
    worker::{Found, Worker},
};
use super::{CAT, lock};

/// The threads of the process.
pub(crate) struct WorkerPool {
    state: Mutex<State>,
    /// For the monitor.
    monitor_wake: Condvar,
    timers: tokio::runtime::Handle,
}

struct State {
    queue: VecDeque<Arc<Task>>,
    accounting: Accounting,
    monitor_sleeps: bool,
    /// The system gave no thread; until then none is asked for.
    no_start_before: Option<Instant>,
}

/// How long no thread is asked for after the system gave none.
const NO_START: Duration = Duration::from_millis(50);

impl WorkerPool {
    /// The pool; made when the first element starts.
    ///
    /// # Errors
    ///
    /// The system gives no threads; the next call tries again.
    pub(crate) fn shared() -> io::Result<&'static Self> {
        static POOL: OnceLock<WorkerPool> = OnceLock::new();
        static MAKING: Mutex<()> = Mutex::new(());

        let _making = lock(&MAKING);
        if let Some(pool) = POOL.get() {
            return Ok(pool);
        }
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                accounting: Accounting::new(workers),
                monitor_sleeps: false,
                no_start_before: None,
            }),
            monitor_wake: Condvar::new(),
            timers: timer::timers()?,
        };
        // The monitor comes first, and finds the pool when it is there.
        std::thread::Builder::new()
            .name("rtspmux-monitor".to_owned())
            .spawn(|| POOL.wait().monitor())?;
        Ok(POOL.get_or_init(|| pool))
    }

    /// Puts a task at the end of the queue.
    fn enqueue(&self, task: Arc<Task>) {
        let mut state = lock(&self.state);
        state.queue.push_back(task);
        if state.accounting.is_unattended() && state.accounting.may_wake() {
            self.wake_one(&mut state);
        } else if state.monitor_sleeps {
            state.monitor_sleeps = false;
            self.monitor_wake.notify_one();
        }
    }

    /// Another worker.
    fn wake_one(&self, state: &mut State) {
        let now = timer::now();
        if let Some(worker) = state.accounting.wake_one() {
            worker.wake.notify_one();
        } else if state.no_start_before.is_none_or(|before| now >= before)
            && let Err(error) = self.start_worker(state)
        {
            // Those that are there go on; the monitor tries again.
            gst::error!(CAT, "no thread to feed pads: {error}");
            state.no_start_before = Some(now + NO_START);
        }
    }

    fn start_worker(&self, state: &mut State) -> io::Result<()> {
        let worker = std::thread::Builder::new().name("rtspmux-feed".to_owned());
        worker.spawn(|| Self::shared().map(Self::work))?;
        state.accounting.on_started(timer::now());
        Ok(())
    }

    /// Makes sure that a thread looks at the queue.
    ///
    /// # Errors
    ///
    /// There is none, and the system gives none.
    fn ensure_worker(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        match state.accounting.is_without_workers() {
            true => self.start_worker(&mut state),
            false => Ok(()),
        }
    }

    /// The life of a worker: tasks, as long as there are any and it is one of those that count.
    fn work(&self) {
        // Session tasks have timers.
        let _timers = self.timers.enter();
        let worker = Arc::new(Worker::of_this_thread());
        let mut state = lock(&self.state);
        loop {
            let mut counts = true;
            while counts && let Some(task) = state.queue.pop_front() {
                let turn = state.accounting.begin(timer::now(), &worker);
                drop(state);
                let again = task.run();
                state = lock(&self.state);
                if again {
                    state.queue.push_back(task);
                }
                counts = state.accounting.end(turn, &worker);
            }
            if counts {
                state.accounting.leave(&worker);
            }
            state = match self.rest(state, &worker) {
                Some(state) => state,
                None => return,
            };
        }
    }

    /// Until the worker is woken; none: it is to go.
    fn rest<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        worker: &Arc<Worker>,
    ) -> Option<MutexGuard<'a, State>> {
        let is_idle = |state: &mut State| !state.accounting.is_woken(worker);
        if let Some(idle_timeout) = state.accounting.idle_timeout() {
            let rested = worker.wake.wait_timeout_while(state, idle_timeout, is_idle);
            state = rested.unwrap_or_else(PoisonError::into_inner).0;
            if state.accounting.may_go(worker, timer::now()) {
                return None;
            }
        }
        let rested = worker.wake.wait_while(state, is_idle);
        Some(rested.unwrap_or_else(PoisonError::into_inner))
    }

    /// The life of the monitor.
    fn monitor(&self) {
        let mut state = lock(&self.state);
        loop {
            if state.queue.is_empty() {
                state.monitor_sleeps = true;
                let asleep = self
                    .monitor_wake
                    .wait_while(state, |state| state.monitor_sleeps);
                state = asleep.unwrap_or_else(PoisonError::into_inner);
            }
            let patience = state.accounting.patience(timer::now());
            let waited = self.monitor_wake.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.queue.is_empty() {
                continue;
            }
            let late = state.accounting.late(timer::now());
            let mut held_up = 0;
            if !late.is_empty() {
                let others = state.accounting.held_up();
                // Looking at threads takes a while.
                drop(state);
                let late = late.into_iter();
                let found: Vec<_> = late.map(|(turn, worker)| (turn, worker.look())).collect();
                let is_any_busy = is_any_busy(&found, &others);
                state = lock(&self.state);
                held_up = state.accounting.on_found(timer::now(), &found, is_any_busy);
            }
            let wanted = state.accounting.reinforcements(held_up);
            for _ in 0..wanted.min(state.queue.len()) {
                self.wake_one(&mut state);
            }
        }
    }
}

/// Whether a worker is busy that may have the lock which another one waits for, be it one that was held
/// up before. Those are looked at only if there is one that waits for a lock: they may be many.
fn is_any_busy(found: &[(TurnNumber, Found)], others: &[Arc<Worker>]) -> bool {
    let is_busy = |found| found == Found::Busy;
    let mut found = found.iter().map(|(_, found)| *found);
    let is_any_locked = found
        .clone()
        .any(|found| matches!(found, Found::Locked { .. }));
    found.any(is_busy) || is_any_locked && others.iter().any(|worker| is_busy(worker.look()))
}

/// Nothing to do.
const IDLE: u8 = 0;
/// In the queue.
const QUEUED: u8 = 1;
/// A worker is at it.
const RUNNING: u8 = 2;
/// A worker is at it, and it was called for since.
const RECALLED: u8 = 3;

type Turn = Box<dyn Fn(&Arc<Task>) + Send + Sync>;

/// Something that is done when it is called for; may block.
pub(crate) struct Task {
    pool: &'static WorkerPool,
    state: AtomicU8,
    turn: Turn,
}

impl Task {
    pub(crate) fn new(
        pool: &'static WorkerPool,
        turn: impl Fn(&Arc<Self>) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            pool,
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
            self.pool.enqueue(Arc::clone(self));
        }
    }

    /// A turn; true if there is to be another one, because it was called for meanwhile.
    fn run(self: &Arc<Self>) -> bool {
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

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.call();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.call();
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs a future to its end, on whichever worker is free.
///
/// # Errors
///
/// The system gives no threads.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let work: Mutex<Option<Work>> = Mutex::new(Some(Box::pin(future)));
    let pool = WorkerPool::shared()?;
    pool.ensure_worker()?;
    let task = Task::new(pool, move |task| {
        let waker = Waker::from(Arc::clone(task));
        let mut work = lock(&work);
        if let Some(future) = work.as_mut()
            && future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        {
            *work = None;
        }
    });
    task.call();
    Ok(())
}

#[cfg(test)]
mod tests;
