//! The threads that read connections, run session tasks and feed pads: few, and never too few.
//!
//! One thread reads all connections and pushes what it has read itself ([`reader`]). Pushing a buffer runs
//! downstream's code, which may block for as long as it likes: in a sink that waits for its clock, in a
//! muxer that waits for another stream. So only tasks that have been quick for a while ([`pace`]) run on
//! that thread, and another one takes its place where a task holds it up all the same.
//!
//! ```text
//!             quick: the thread that reads -> runs it between two reads -+
//! called ->                                                             +-> idle, or called again
//!             else:  queue -> a worker takes it ------------------------+
//!                                  ^
//!                    monitor: looks which threads are held up
//! ```
//!
//! All other tasks run on workers. There is no fixed number of these that is right: as many tasks are on the
//! way at a time as the machine has processors, four at most, and a worker that is found waiting in one for
//! a millisecond or longer while others wait does not count any more: another one takes its place. Not so
//! a worker that is busy, or would be if it got a processor: another one would only compete with it. A
//! worker that waits for a lock has to be found at the same wait twice, and to be there for longer while
//! another one is busy, which may have the lock. When one comes back there may be one too many, which ends
//! after a while.
//!
//! One worker is woken for a queue that was empty; others come only where that one does not get through
//! within a millisecond. So a burst for many sessions costs one wake-up, and what follows runs on
//! a processor that is warm.
//!
//! No task posts messages: see [`bus_queue`](crate::rtspsrc::messages::bus_queue).

mod accounting;
mod idle_timeout;
mod pace;
mod reader;
mod task;
pub(crate) mod timer;
mod worker;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Waker},
    time::{Duration, Instant},
};

use gstreamer as gst;
use tokio::runtime::Handle;

pub(crate) use self::task::Task;
use self::{
    accounting::{Accounting, TurnNumber},
    reader::{Reader, ReaderHealth},
    worker::{Found, Worker},
};
use super::{CAT, lock};

/// The threads of the process.
pub(crate) struct WorkerPool {
    state: Mutex<State>,
    /// For the monitor.
    monitor_wake: Condvar,
    reader: Reader,
}

struct State {
    queue: VecDeque<Arc<Task>>,
    accounting: Accounting,
    monitor_sleeps: bool,
    /// The system gave no thread; until then none is asked for.
    no_start_before: Option<Instant>,
}

/// The names of threads.
const READER: &str = "rtspmux-io";
const MONITOR: &str = "rtspmux-monitor";

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
        /// Whether the monitor and the first thread that reads were started.
        static STARTED: Mutex<[bool; 2]> = Mutex::new([false; 2]);

        let mut started = lock(&STARTED);
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
            reader: Reader::new()?,
        };
        // They come first, and find the pool when it is there.
        let lives: [fn(&WorkerPool); 2] = [|pool| pool.reader.run(pool, 0), Self::monitor];
        for ((is_started, name), life) in started.iter_mut().zip([READER, MONITOR]).zip(lives) {
            if !*is_started {
                let thread = std::thread::Builder::new().name(name.to_owned());
                thread.spawn(move || life(POOL.wait()))?;
                *is_started = true;
            }
        }
        Ok(POOL.get_or_init(|| pool))
    }

    /// The runtime of the connections of all elements, and of all timers.
    pub(crate) fn runtime(&self) -> &Handle {
        self.reader.runtime().handle()
    }

    /// Puts a task at the end of the queue of the thread that is to run it.
    fn enqueue(&self, task: Arc<Task>) {
        if task.is_quick() {
            return self.reader.enqueue(task);
        }
        let mut state = lock(&self.state);
        state.queue.push_back(task);
        if state.accounting.is_unattended() && state.accounting.may_wake() {
            self.wake_one(&mut state);
        } else {
            self.wake_the_monitor(&mut state);
        }
    }

    fn wake_monitor(&self) {
        self.wake_the_monitor(&mut lock(&self.state));
    }

    fn wake_the_monitor(&self, state: &mut State) {
        if std::mem::take(&mut state.monitor_sleeps) {
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
        let _timers = self.runtime().enter();
        let worker = Arc::new(Worker::of_this_thread());
        let mut state = lock(&self.state);
        loop {
            let mut counts = true;
            while counts && let Some(task) = state.queue.pop_front() {
                let mut now = timer::now();
                let turn = state.accounting.begin(now, &worker);
                drop(state);
                if task.run(&mut now) {
                    self.enqueue(task);
                }
                state = lock(&self.state);
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
        loop {
            let look = self.watch_reader();
            let mut state = lock(&self.state);
            if state.queue.is_empty() {
                state.monitor_sleeps = true;
                let sleeps = |state: &mut State| state.monitor_sleeps;
                state = match look {
                    Some(look) => {
                        let asleep = self.monitor_wake.wait_timeout_while(state, look, sleeps);
                        asleep.unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => {
                        let asleep = self.monitor_wake.wait_while(state, sleeps);
                        asleep.unwrap_or_else(PoisonError::into_inner)
                    }
                };
                state.monitor_sleeps = false;
                if state.queue.is_empty() {
                    continue;
                }
            }
            let patience = state.accounting.patience(timer::now());
            let waited = self.monitor_wake.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !state.queue.is_empty() {
                self.watch_workers(state);
            }
        }
    }

    /// Replaces the thread that reads if a task holds it up. Returns when to look again; none: not before
    /// the thread wakes the monitor.
    fn watch_reader(&self) -> Option<Duration> {
        let is_busy = match self.reader.watch(timer::now()) {
            ReaderHealth::Calm => return None,
            ReaderHealth::Again(look) => return Some(look),
            ReaderHealth::HeldUp { is_busy } => is_busy,
        };
        let replaced = self.reader.replace(timer::now(), is_busy, |number| {
            let thread = std::thread::Builder::new().name(READER.to_owned());
            let life = move |pool: &'static Self| pool.reader.run(pool, number);
            thread.spawn(move || Self::shared().map(life)).map(drop)
        });
        if let Err(error) = replaced {
            gst::error!(
                CAT,
                "no thread to read in place of one that is held up: {error}"
            );
            return Some(NO_START);
        }
        Some(reader::QUICK_LOOK)
    }

    /// Has other workers come for those that are held up.
    fn watch_workers<'a>(&'a self, mut state: MutexGuard<'a, State>) {
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

/// The runtime of the connections of all elements, which the thread that reads runs.
///
/// # Errors
///
/// The system has no file descriptors left. The next call tries again.
pub(crate) fn runtime() -> io::Result<Handle> {
    reader::runtime().map(|runtime| runtime.handle().clone())
}

type BoxedFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs a future to its end, on whichever worker is free.
///
/// # Errors
///
/// The system gives no threads.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let work: Mutex<Option<BoxedFuture>> = Mutex::new(Some(Box::pin(future)));
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
