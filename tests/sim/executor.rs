//! The users' futures, polled in the order of their numbers.
//!
//! Tokio wakes the tasks that wait for one event in a random order. This executor polls each woken
//! task once, in the order of the users' numbers, so that the same seed gives the same run.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Marks one task as woken, and wakes the task that runs the executor.
struct TaskWaker {
    is_woken: AtomicBool,
    runner: Arc<Mutex<Option<Waker>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Relaxed);
        let runner = self
            .runner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runner) = runner {
            runner.wake();
        }
    }
}

struct Task {
    future: TaskFuture,
    wake: Arc<TaskWaker>,
    waker: Waker,
}

/// Runs one task for each user.
#[derive(Default)]
pub(crate) struct Executor {
    tasks: Vec<Option<Task>>,
    runner: Arc<Mutex<Option<Waker>>>,
}

impl Executor {
    /// Creates an executor with room for so many users.
    pub(crate) fn new(users: usize) -> Self {
        Self {
            tasks: (0..users).map(|_| None).collect(),
            ..Self::default()
        }
    }

    pub(crate) fn spawn(&mut self, user: usize, future: impl Future<Output = ()> + 'static) {
        let wake = Arc::new(TaskWaker {
            is_woken: AtomicBool::new(true),
            runner: Arc::clone(&self.runner),
        });
        let waker = Waker::from(Arc::clone(&wake));
        self.tasks[user] = Some(Task {
            future: Box::pin(future),
            wake,
            waker,
        });
    }

    /// Drops the user's future at the point it has reached. Returns true if it had not ended.
    pub(crate) fn cancel(&mut self, user: usize) -> bool {
        self.tasks[user].take().is_some()
    }

    pub(crate) fn is_there(&self, user: usize) -> bool {
        self.tasks[user].is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.iter().all(Option::is_none)
    }

    /// Polls all woken tasks; returns the users whose tasks have ended.
    pub(crate) fn poll_woken(&mut self) -> Vec<usize> {
        let mut ended = Vec::new();
        while self.has_woken() {
            for (user, place) in self.tasks.iter_mut().enumerate() {
                let Some(task) = place else { continue };
                if !task.wake.is_woken.swap(false, Ordering::Relaxed) {
                    continue;
                }
                let mut context = Context::from_waker(&task.waker);
                if task.future.as_mut().poll(&mut context) == Poll::Ready(()) {
                    *place = None;
                    ended.push(user);
                }
            }
        }
        ended
    }

    fn has_woken(&self) -> bool {
        let mut tasks = self.tasks.iter().flatten();
        tasks.any(|task| task.wake.is_woken.load(Ordering::Relaxed))
    }

    /// Wakes `runner` as soon as a task is woken; returns false if one is already.
    pub(crate) fn register(&self, runner: &Waker) -> bool {
        *self.runner.lock().unwrap_or_else(PoisonError::into_inner) = Some(runner.clone());
        !self.has_woken()
    }
}
