//! The users' futures, polled in the order of their numbers.
//!
//! Tokio wakes those who wait for one thing in an order that it draws by lot. Here everybody who was
//! woken is polled once, in order, so that the same seed gives the same run.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

type Part = Pin<Box<dyn Future<Output = ()>>>;

/// Who is to be polled, and whom to wake for it.
struct Bell {
    is_rung: AtomicBool,
    runner: Arc<Mutex<Option<Waker>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.is_rung.store(true, Ordering::Relaxed);
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

struct Member {
    part: Part,
    bell: Arc<Bell>,
    waker: Waker,
}

/// All users.
#[derive(Default)]
pub(crate) struct Troupe {
    members: Vec<Option<Member>>,
    runner: Arc<Mutex<Option<Waker>>>,
}

impl Troupe {
    /// Room for so many users, none of whom is there.
    pub(crate) fn new(users: usize) -> Self {
        Self {
            members: (0..users).map(|_| None).collect(),
            ..Self::default()
        }
    }

    pub(crate) fn enter(&mut self, user: usize, part: impl Future<Output = ()> + 'static) {
        let bell = Arc::new(Bell {
            is_rung: AtomicBool::new(true),
            runner: Arc::clone(&self.runner),
        });
        let waker = Waker::from(Arc::clone(&bell));
        self.members[user] = Some(Member {
            part: Box::pin(part),
            bell,
            waker,
        });
    }

    /// The future is dropped, wherever it is. True if it had not ended.
    pub(crate) fn leave(&mut self, user: usize) -> bool {
        self.members[user].take().is_some()
    }

    pub(crate) fn is_there(&self, user: usize) -> bool {
        self.members[user].is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.iter().all(Option::is_none)
    }

    /// Polls all who were woken; gives those who have ended.
    pub(crate) fn poll_woken(&mut self) -> Vec<usize> {
        let mut ended = Vec::new();
        while self.is_woken() {
            for (user, place) in self.members.iter_mut().enumerate() {
                let Some(member) = place else { continue };
                if !member.bell.is_rung.swap(false, Ordering::Relaxed) {
                    continue;
                }
                let mut context = Context::from_waker(&member.waker);
                if member.part.as_mut().poll(&mut context) == Poll::Ready(()) {
                    *place = None;
                    ended.push(user);
                }
            }
        }
        ended
    }

    fn is_woken(&self) -> bool {
        let members = self.members.iter().flatten();
        members
            .into_iter()
            .any(|member| member.bell.is_rung.load(Ordering::Relaxed))
    }

    /// Wakes `runner` when somebody is woken; false if somebody is already.
    pub(crate) fn call(&self, runner: &Waker) -> bool {
        *self.runner.lock().unwrap_or_else(PoisonError::into_inner) = Some(runner.clone());
        !self.is_woken()
    }
}
