//! The threads that run session tasks and feed pads: few, and never too few.
//!
//! Pushing a buffer runs downstream's code, which may block for as long as it likes: in a sink that
//! waits for its clock, in a muxer that waits for another stream. So there is no fixed number of
//! threads that is right. Here as many [`Errand`]s are on the way at a time as the machine has
//! processors, four at most, and a thread that is found waiting in one for a millisecond or longer while
//! others wait does not count any more: another one takes its place. Not so a thread that is busy, or
//! would be if it got a processor: another one would only compete with it. A thread that waits for a lock
//! has to be found at the same wait twice, and to be there for longer while another thread is busy, which
//! may have the lock. When one comes back there may be one too many, which ends after a while.
//!
//! No errand posts messages: see [`bus_queue`](crate::rtspsrc::messages::bus_queue).
//!
//! ```text
//! called -> queue -> a hand takes it -> idle, or called again
//!             ^                |
//!             +--- foreman: looks each millisecond, while errands wait, which hands are held up
//! ```
//!
//! One hand is woken for a queue that was empty; others come only where that one does not get through
//! within a millisecond. So a burst for many sessions costs one wake-up, and what follows runs on
//! a processor that is warm.

mod roll;
pub(crate) mod timer;

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

use self::roll::{Found, Hand, Roll, TurnNumber};
use super::{CAT, lock};

/// The threads of the process.
pub(crate) struct Crew {
    state: Mutex<State>,
    /// For the foreman.
    stir: Condvar,
    timers: tokio::runtime::Handle,
}

struct State {
    queue: VecDeque<Arc<Errand>>,
    roll: Roll,
    foreman_sleeps: bool,
    /// The system gave no thread; until then none is asked for.
    no_hire_before: Option<Instant>,
}

/// How long no thread is asked for after the system gave none.
const NO_HIRE: Duration = Duration::from_millis(50);

impl Crew {
    /// The crew; made when the first element starts.
    ///
    /// # Errors
    ///
    /// The system gives no threads; the next call tries again.
    pub(crate) fn shared() -> io::Result<&'static Self> {
        static CREW: OnceLock<Crew> = OnceLock::new();
        static MAKING: Mutex<()> = Mutex::new(());

        let _making = lock(&MAKING);
        if let Some(crew) = CREW.get() {
            return Ok(crew);
        }
        let hands = std::thread::available_parallelism().map_or(1, usize::from);
        let crew = Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                roll: Roll::new(hands),
                foreman_sleeps: false,
                no_hire_before: None,
            }),
            stir: Condvar::new(),
            timers: timer::timers()?,
        };
        // The foreman comes first, and finds the crew when it is there.
        std::thread::Builder::new()
            .name("rtspmux-lead".to_owned())
            .spawn(|| CREW.wait().lead())?;
        Ok(CREW.get_or_init(|| crew))
    }

    /// Puts an errand at the end of the queue.
    fn take_on(&self, errand: Arc<Errand>) {
        let mut state = lock(&self.state);
        state.queue.push_back(errand);
        if state.roll.is_nobody_at_it() && state.roll.may_summon() {
            self.summon(&mut state);
        } else if state.foreman_sleeps {
            state.foreman_sleeps = false;
            self.stir.notify_one();
        }
    }

    /// Another hand.
    fn summon(&self, state: &mut State) {
        let now = timer::now();
        if let Some(hand) = state.roll.summon() {
            hand.summons.notify_one();
        } else if state.no_hire_before.is_none_or(|before| now >= before)
            && let Err(error) = self.hire(state)
        {
            // Those that are there go on; the foreman tries again.
            gst::error!(CAT, "no thread to feed pads: {error}");
            state.no_hire_before = Some(now + NO_HIRE);
        }
    }

    fn hire(&self, state: &mut State) -> io::Result<()> {
        let hand = std::thread::Builder::new().name("rtspmux-feed".to_owned());
        hand.spawn(|| Self::shared().map(Self::work))?;
        state.roll.on_hired(timer::now());
        Ok(())
    }

    /// Makes sure that a thread looks at the queue.
    ///
    /// # Errors
    ///
    /// There is none, and the system gives none.
    fn ensure_hand(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        match state.roll.is_without_hands() {
            true => self.hire(&mut state),
            false => Ok(()),
        }
    }

    /// The life of a hand: errands, as long as there are any and it is one of those that count.
    fn work(&self) {
        // Session tasks have timers.
        let _timers = self.timers.enter();
        let hand = Arc::new(Hand::of_this_thread());
        let mut state = lock(&self.state);
        loop {
            let mut counts = true;
            while counts && let Some(errand) = state.queue.pop_front() {
                let turn = state.roll.begin(timer::now(), &hand);
                drop(state);
                let again = errand.run();
                state = lock(&self.state);
                if again {
                    state.queue.push_back(errand);
                }
                counts = state.roll.end(turn, &hand);
            }
            if counts {
                state.roll.leave(&hand);
            }
            state = match self.rest(state, &hand) {
                Some(state) => state,
                None => return,
            };
        }
    }

    /// Until the hand is summoned; none: it is to go.
    fn rest<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        hand: &Arc<Hand>,
    ) -> Option<MutexGuard<'a, State>> {
        let is_idle = |state: &mut State| !state.roll.is_summoned(hand);
        if let Some(tenure) = state.roll.tenure() {
            let rested = hand.summons.wait_timeout_while(state, tenure, is_idle);
            state = rested.unwrap_or_else(PoisonError::into_inner).0;
            if state.roll.may_go(hand, timer::now()) {
                return None;
            }
        }
        let rested = hand.summons.wait_while(state, is_idle);
        Some(rested.unwrap_or_else(PoisonError::into_inner))
    }

    /// The life of the foreman.
    fn lead(&self) {
        let mut state = lock(&self.state);
        loop {
            if state.queue.is_empty() {
                state.foreman_sleeps = true;
                let asleep = self.stir.wait_while(state, |state| state.foreman_sleeps);
                state = asleep.unwrap_or_else(PoisonError::into_inner);
            }
            let patience = state.roll.patience(timer::now());
            let waited = self.stir.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.queue.is_empty() {
                continue;
            }
            let late = state.roll.late(timer::now());
            let mut held_up = 0;
            if !late.is_empty() {
                let others = state.roll.held_up();
                // Looking at threads takes a while.
                drop(state);
                let late = late.into_iter();
                let found: Vec<_> = late.map(|(turn, hand)| (turn, hand.look())).collect();
                let is_any_busy = is_any_busy(&found, &others);
                state = lock(&self.state);
                held_up = state.roll.on_found(timer::now(), &found, is_any_busy);
            }
            let wanted = state.roll.reinforcements(held_up);
            for _ in 0..wanted.min(state.queue.len()) {
                self.summon(&mut state);
            }
        }
    }
}

/// Whether a hand is busy that may have the lock which another one waits for, be it one that was held
/// up before. Those are looked at only if there is one that waits for a lock: they may be many.
fn is_any_busy(found: &[(TurnNumber, Found)], others: &[Arc<Hand>]) -> bool {
    let is_busy = |found| found == Found::Busy;
    let mut found = found.iter().map(|(_, found)| *found);
    let is_any_locked = found
        .clone()
        .any(|found| matches!(found, Found::Locked { .. }));
    found.any(is_busy) || is_any_locked && others.iter().any(|hand| is_busy(hand.look()))
}

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
    let crew = Crew::shared()?;
    crew.ensure_hand()?;
    let errand = Errand::new(crew, move |errand| {
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

#[cfg(test)]
mod tests;
