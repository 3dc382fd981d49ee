//! Whose turn it is to dial a server that was lost: the pool's side of [`Backoff`].
//!
//! A session that tries again asks for its turn first. While the server is there it has it at once;
//! while it is not, one session at a time dials, after a wait that grows, and the others get theirs
//! when that one is through. So a recorder that comes back sees one connection from a hundred
//! sessions, and then all of them together.

use std::{collections::HashMap, time::Instant};

use tokio::sync::watch;

use super::{ConnectionPool, PresentationUri};
use crate::mux::{
    backoff::{Admission, Backoff, RetryBounds},
    driver::{self, Link},
    error::{Error, ErrorKind},
    server_key::{ConnectionKey, ServerId},
    vanguard::Vanguard,
};

/// The servers that were lost, and not for good.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<ServerId, Queue>);

/// One of them.
#[derive(Debug)]
struct Queue {
    backoff: Backoff,
    vanguard: Vanguard,
    /// Attempts that failed, and what the last of them came to.
    failures: u64,
    failure: Option<Failure>,
    /// Told whenever it may be somebody's turn.
    changed: watch::Sender<()>,
}

/// What an attempt came to.
#[derive(Debug)]
struct Failure {
    error: Error,
    /// Whom it concerns, if not everybody: a certificate may do for others.
    key: Option<ConnectionKey>,
}

impl Failure {
    fn concerns(&self, key: &ConnectionKey) -> bool {
        self.key.as_ref().is_none_or(|failed| failed == key)
    }
}

impl Turns {
    /// Changes what is known of a server and tells who waits.
    fn change<T>(
        &mut self,
        server: &ServerId,
        change: impl FnOnce(&mut Backoff) -> T,
    ) -> Option<T> {
        let queue = self.0.get_mut(server)?;
        let result = change(&mut queue.backoff);
        queue.changed.send_replace(());
        Some(result)
    }

    /// An attempt failed, for everybody who waits and is concerned.
    fn on_failed(&mut self, now: Instant, link: &Link, chance: f64, failure: Failure) {
        let Some(queue) = self.0.get_mut(&link.server) else {
            return;
        };
        if queue.backoff.on_failed(now, link.id, chance) {
            queue.vanguard.regroup();
            queue.failures += 1;
            queue.failure = Some(failure);
            queue.changed.send_replace(());
        }
    }

    /// A connection with so many sessions is gone; `suspect` had been added to it shortly before.
    pub(super) fn on_broken(
        &mut self,
        now: Instant,
        server: &ServerId,
        sessions: u32,
        suspect: Option<PresentationUri>,
    ) {
        self.remember(now, server);
        if let Some(queue) = self.0.get_mut(server) {
            queue.vanguard.on_lost(now, sessions, suspect);
        }
    }

    /// A session was set up.
    pub(super) fn on_set_up(&mut self, server: &ServerId) {
        if let Some(queue) = self.0.get_mut(server) {
            queue.vanguard.on_set_up();
            queue.changed.send_replace(());
        }
    }

    fn failures(&self, server: &ServerId) -> u64 {
        self.0.get(server).map_or(0, |queue| queue.failures)
    }

    /// A server of which there is something bad to know.
    fn remember(&mut self, now: Instant, server: &ServerId) {
        self.0.retain(|_, queue| {
            let is_forgettable =
                queue.backoff.is_forgettable(now) && queue.vanguard.is_forgettable(now);
            !is_forgettable || queue.changed.receiver_count() > 0
        });
        self.0.entry(server.clone()).or_insert_with(|| Queue {
            backoff: Backoff::new(),
            vanguard: Vanguard::default(),
            failures: 0,
            failure: None,
            changed: watch::Sender::new(()),
        });
    }
}

/// Where a session that waits for its turn stands.
enum Place {
    /// It is its turn.
    Turn(Option<u64>),
    /// The one who dialled for all has failed.
    Failed(Error),
    /// Until then, or until something changes.
    Waiting(Option<Instant>, watch::Receiver<()>),
}

impl ConnectionPool {
    /// The fate of a connection attempt, as everybody sees it who waited for it.
    pub(super) fn on_dialled(&self, link: &Link, key: &ConnectionKey, outcome: &Result<(), Error>) {
        let (now, chance) = (driver::now(), driver::chance());
        let mut state = self.lock();
        let turns = &mut state.turns;
        match outcome {
            Ok(()) => _ = turns.change(&link.server, |backoff| backoff.on_reached(now, link.id)),
            Err(error) if error.is_of_dialling() => {
                let failure = Failure {
                    error: error.clone(),
                    key: (!error.concerns_server()).then(|| key.clone()),
                };
                turns.remember(now, &link.server);
                turns.on_failed(now, link, chance, failure);
            }
            Err(_) => {}
        }
    }

    /// A session has lost its connection.
    pub(in crate::mux) fn on_lost(&self, server: &ServerId, error: &Error) {
        let Some(id) = error
            .connection_id()
            .filter(|_| error.kind() == ErrorKind::ConnectionLost)
        else {
            return;
        };
        let (now, chance) = (driver::now(), driver::chance());
        let mut state = self.lock();
        state.turns.remember(now, server);
        state
            .turns
            .change(server, |backoff| backoff.on_lost(now, id, chance));
    }

    /// Waits until a session may try the server (again), or another one has tried for it and failed.
    /// Dropping the future gives its place up.
    pub(in crate::mux) async fn turn(
        &self,
        key: &ConnectionKey,
        uri: &PresentationUri,
        bounds: RetryBounds,
    ) -> Result<Turn, Error> {
        let server = key.server();
        let failures = self.lock().turns.failures(server);
        loop {
            let (until, mut changed) = match self.place_in_line(key, uri, bounds, failures) {
                Place::Failed(error) => return Err(error),
                Place::Turn(number) => {
                    return Ok(Turn {
                        pool: self.clone(),
                        server: server.clone(),
                        number,
                    });
                }
                Place::Waiting(until, changed) => (until, changed),
            };
            match until {
                Some(until) => {
                    let left = until.saturating_duration_since(driver::now());
                    let _ = driver::within(self.runtime()?, left, changed.changed()).await;
                }
                // The sender is kept while somebody listens.
                None => _ = changed.changed().await,
            }
        }
    }

    /// `failures`: those it knows of.
    fn place_in_line(
        &self,
        key: &ConnectionKey,
        uri: &PresentationUri,
        bounds: RetryBounds,
        failures: u64,
    ) -> Place {
        let mut state = self.lock();
        let Some(queue) = state.turns.0.get_mut(key.server()) else {
            return Place::Turn(None);
        };
        let news = queue.failure.as_ref().filter(|_| queue.failures > failures);
        if let Some(failure) = news.filter(|failure| failure.concerns(key)) {
            return Place::Failed(failure.error.clone());
        }
        let now = driver::now();
        if let Err(until) = queue.vanguard.may_go(now, uri) {
            return Place::Waiting(Some(until), queue.changed.subscribe());
        }
        let number = match queue.backoff.admit(now, bounds) {
            Admission::Free => None,
            Admission::Scout(number) => Some(number),
            Admission::NotBefore(until) => {
                return Place::Waiting(Some(until), queue.changed.subscribe());
            }
            Admission::Behind => return Place::Waiting(None, queue.changed.subscribe()),
        };
        queue.vanguard.on_gone(now);
        Place::Turn(number)
    }
}

/// A session's turn to try a server; keep it until that came to something, then drop it.
#[derive(Debug)]
#[must_use = "dropping it lets the next one try"]
pub struct Turn {
    pool: ConnectionPool,
    server: ServerId,
    /// The number of the try, where one dials for all.
    number: Option<u64>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut state = self.pool.lock();
            state
                .turns
                .change(&self.server, |backoff| backoff.on_scout_gone(number));
        }
    }
}
