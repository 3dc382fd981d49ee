//! The thread that reads all connections, and pushes what it has read itself.
//!
//! It runs the tokio runtime of the connections until a quick task is called, leaves the runtime, runs
//! the tasks that were called, and goes back. So media needs one wake-up of one thread from the
//! socket to the pad, however many sessions have a part in what was read.
//!
//! ```text
//! runtime: sockets and timers -> drivers -> tasks called -> out of the runtime: tasks -> pads
//!    ^                                                                            |
//!    +-------- the queue is empty, or the pass has taken PASS -----------------+
//! ```
//!
//! While a task runs nothing is read. So the monitor looks at the thread every [`LOOK`] while there is
//! something to push: where one task has held it up, another thread reads on in its place, and the task
//! is one for the workers from then on. The thread that was replaced ends when the task returns.

use std::{
    collections::{BTreeSet, VecDeque},
    future::poll_fn,
    io,
    sync::{Arc, Mutex, OnceLock},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

use super::{
    WorkerPool,
    task::Task,
    timer,
    worker::{Found, Worker},
};
use crate::rtspsrc::lock;

/// After so long in one pass the thread looks at its sockets before it goes on.
const PASS: Duration = Duration::from_millis(4);

/// How often the monitor looks at the thread, and how long a task may wait for something there.
const LOOK: Duration = Duration::from_millis(5);

/// The same just after a thread was replaced: what holds up one stream will hold up others.
pub(super) const QUICK_LOOK: Duration = Duration::from_micros(250);

/// For how long the monitor looks so often.
const ALERT: Duration = Duration::from_millis(4);

/// How long a task may be busy there. A busy machine takes the processor away for so long.
const BUSY_PATIENCE: Duration = Duration::from_millis(20);

/// So many threads that were replaced while they were busy are there at most: others would compete with
/// them for the processors, as the writers of a bus do.
const MOST_BUSY: usize = 4;

/// The monitor stops looking when nothing was pushed for so long.
const CALM: Duration = Duration::from_secs(1);

/// The runtime of the connections of all elements, and of all timers. It needs no thread before the
/// first session starts.
///
/// # Errors
///
/// The system has no file descriptors left. The next call tries again.
pub(super) fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());

    let _making = lock(&MAKING);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().thread_name("rtspmux-dns").build()?;
    Ok(RUNTIME.get_or_init(|| runtime))
}

/// The thread that reads, whichever it is.
pub(super) struct Reader {
    runtime: &'static Runtime,
    state: Mutex<ReaderState>,
}

struct ReaderState {
    /// The quick tasks that were called.
    queue: VecDeque<Arc<Task>>,
    /// Brings the thread out of the runtime.
    waker: Option<Waker>,
    /// The number of the thread that reads; those with lower numbers were replaced.
    number: u64,
    /// That thread, for the monitor.
    worker: Option<Arc<Worker>>,
    turn: Option<ReaderTurn>,
    /// When the thread has left the runtime.
    pass_began: Option<Instant>,
    is_watched: bool,
    last_turn: Instant,
    replaced_at: Option<Instant>,
    /// The threads that were replaced while they were busy, and have not ended.
    busy: BTreeSet<u64>,
}

/// A task that the thread runs.
struct ReaderTurn {
    task: Arc<Task>,
    since: Instant,
}

/// What the thread does next.
enum Step {
    Run(Arc<Task>),
    /// It reads until a task is called.
    Read,
    /// It reads what there is and goes on with its tasks.
    Look,
    /// Another thread has taken its place.
    End,
}

/// What the monitor finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReaderHealth {
    /// Nothing is pushed. It need not look again before it is woken.
    Calm,
    /// To be looked at again after this time.
    Again(Duration),
    /// A task holds up the thread: it is to be replaced.
    HeldUp { is_busy: bool },
}

impl Reader {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            runtime: runtime()?,
            state: Mutex::new(ReaderState {
                queue: VecDeque::new(),
                waker: None,
                number: 0,
                worker: None,
                turn: None,
                pass_began: None,
                is_watched: false,
                last_turn: timer::now(),
                replaced_at: None,
                busy: BTreeSet::new(),
            }),
        })
    }

    pub(super) fn runtime(&self) -> &'static Runtime {
        self.runtime
    }

    /// Puts a quick task at the end of the queue.
    pub(super) fn enqueue(&self, task: Arc<Task>) {
        let mut state = lock(&self.state);
        state.queue.push_back(task);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// The life of the thread with this number.
    pub(super) fn run(&self, pool: &WorkerPool, number: u64) {
        // Session tasks have timers.
        let _timers = self.runtime.enter();
        lock(&self.state).worker = Some(Arc::new(Worker::of_this_thread()));
        let mut now = timer::now();
        loop {
            match self.next(pool, number, now) {
                Step::Run(task) => {
                    if task.run(&mut now) {
                        pool.enqueue(task);
                    }
                    continue;
                }
                Step::Read => {
                    let called = poll_fn(|context| self.called(context));
                    self.runtime.block_on(called);
                }
                Step::Look => self.runtime.block_on(tokio::task::yield_now()),
                Step::End => return,
            }
            now = timer::now();
        }
    }

    fn next(&self, pool: &WorkerPool, number: u64, now: Instant) -> Step {
        let mut state = lock(&self.state);
        if state.number != number {
            state.busy.remove(&number);
            return Step::End;
        }
        state.turn = None;
        if state.queue.is_empty() {
            state.pass_began = None;
            return Step::Read;
        }
        let began = *state.pass_began.get_or_insert(now);
        if now.saturating_duration_since(began) >= PASS {
            state.pass_began = None;
            return Step::Look;
        }
        let Some(task) = state.queue.pop_front() else {
            return Step::Read;
        };
        state.turn = Some(ReaderTurn {
            task: Arc::clone(&task),
            since: now,
        });
        state.last_turn = now;
        let was_watched = std::mem::replace(&mut state.is_watched, true);
        drop(state);
        if !was_watched {
            pool.wake_monitor();
        }
        Step::Run(task)
    }

    /// Ready when a task was called.
    fn called(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if !state.queue.is_empty() {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Looks at the thread.
    pub(super) fn watch(&self, now: Instant) -> ReaderHealth {
        let mut state = lock(&self.state);
        let is_within = |then: Instant, time| now.saturating_duration_since(then) < time;
        let look = match state.replaced_at {
            Some(at) if is_within(at, ALERT) => QUICK_LOOK,
            _ => LOOK,
        };
        let late = state
            .turn
            .as_ref()
            .filter(|turn| !is_within(turn.since, look));
        let (Some(since), Some(worker)) = (late.map(|turn| turn.since), state.worker.clone())
        else {
            state.is_watched = is_within(state.last_turn, CALM);
            return match state.is_watched {
                true => ReaderHealth::Again(look),
                false => ReaderHealth::Calm,
            };
        };
        let may_be_busy = state.busy.len() < MOST_BUSY && !is_within(since, BUSY_PATIENCE);
        drop(state);
        // Looking at a thread takes some microseconds.
        match worker.look() {
            Found::Busy if may_be_busy => ReaderHealth::HeldUp { is_busy: true },
            Found::Busy => ReaderHealth::Again(look),
            Found::Waiting | Found::Locked { .. } => ReaderHealth::HeldUp { is_busy: false },
        }
    }

    /// Lets another thread read, which `start` starts; not if the task that held up the last one has
    /// returned meanwhile.
    ///
    /// # Errors
    ///
    /// The system gives no thread. The thread that is held up reads on when it can.
    pub(super) fn replace(
        &self,
        now: Instant,
        is_busy: bool,
        start: impl FnOnce(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = lock(&self.state);
        let is_late = |turn: &&ReaderTurn| now.saturating_duration_since(turn.since) >= QUICK_LOOK;
        if state.turn.as_ref().filter(is_late).is_none() {
            return Ok(());
        }
        start(state.number + 1)?;
        if is_busy {
            let number = state.number;
            state.busy.insert(number);
        }
        state.number += 1;
        state.worker = None;
        state.pass_began = None;
        state.replaced_at = Some(now);
        if let Some(turn) = state.turn.take() {
            turn.task.on_held_up();
        }
        Ok(())
    }
}
