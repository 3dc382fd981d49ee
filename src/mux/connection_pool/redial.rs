//! Sessions that wait until they may try a server (again), and how their tries end. [`Redial`]
//! decides; there is one for each server.

use std::{collections::HashMap, time::Instant};

use tokio::sync::watch;

use super::{CheckoutRequest, ConnectionPool};
use crate::mux::{
    clock,
    driver::DriverHandle,
    error::{Error, ErrorKind},
    ids::{ConnectionId, PresentationUri},
    policy::redial::{AttemptId, AttemptStep, Ending, Redial, RetryBounds, TurnId},
    server_key::{ConnectionKey, ServerId},
};

/// The servers that sessions are trying, or whose connections were lost a short time ago.
#[derive(Debug, Default)]
pub(super) struct Redials(HashMap<ServerId, RedialQueue>);

/// One server, and the sessions that wait to try it.
#[derive(Debug, Default)]
pub(super) struct RedialQueue {
    pub(super) redial: Redial,
    /// Dials that failed, and the failure of the last one.
    failures: u64,
    failure: Option<DialFailure>,
    /// Signalled whenever a waiting session may be admitted.
    changed: watch::Sender<()>,
}

/// How a dial failed.
#[derive(Debug)]
struct DialFailure {
    error: Error,
    /// The key that it concerns, if it does not concern all: another key may accept the certificate.
    key: Option<ConnectionKey>,
}

impl Redials {
    /// Changes what is known of a server and tells the sessions that wait.
    pub(super) fn change<T>(
        &mut self,
        server: &ServerId,
        change: impl FnOnce(&mut Redial) -> T,
    ) -> Option<T> {
        let queue = self.0.get_mut(server)?;
        let result = change(&mut queue.redial);
        queue.changed.send_replace(());
        Some(result)
    }

    /// A dial failed, for all waiting sessions that it concerns.
    fn on_dial_failed(&mut self, now: Instant, driver: &DriverHandle, failure: DialFailure) {
        let queue = self.queue(now, &driver.server);
        if queue.redial.on_dial_failed(now, driver.id, clock::chance()) {
            queue.failures += 1;
            queue.failure = Some(failure);
            queue.changed.send_replace(());
        }
    }

    /// A session begins to be set up.
    pub(super) fn begin(
        &mut self,
        pool: &ConnectionPool,
        checkout: &CheckoutRequest,
        now: Instant,
    ) -> RedialReporter {
        let (server, uri) = (checkout.key.server(), checkout.presentation());
        RedialReporter {
            pool: pool.clone(),
            server: server.clone(),
            id: self.queue(now, server).redial.begin(now, &uri),
            last_media: None,
            is_over: false,
        }
    }

    /// A session has got so far; there is no reporter for one that takes the place of another.
    pub(super) fn report(
        &mut self,
        reporter: Option<&RedialReporter>,
        now: Instant,
        step: AttemptStep,
    ) {
        if let Some(RedialReporter { server, id, .. }) = reporter {
            self.change(server, |redial| redial.on_progress(now, *id, step));
        }
    }

    pub(super) fn on_session_over(&mut self, reporter: &mut RedialReporter, now: Instant) {
        reporter.is_over = true;
        let (id, last_media) = (reporter.id, reporter.last_media);
        let over = |redial: &mut Redial| redial.on_over(now, id, last_media, clock::chance());
        self.change(&reporter.server, over);
    }

    pub(super) fn queue(&mut self, now: Instant, server: &ServerId) -> &mut RedialQueue {
        if !self.0.contains_key(server) {
            self.0.retain(|_, queue| {
                !queue.redial.is_forgettable(now) || queue.changed.receiver_count() > 0
            });
        }
        self.0.entry(server.clone()).or_default()
    }
}

impl ConnectionPool {
    /// How a connection attempt ended; each session that waited for it reports that.
    pub(super) fn on_dialled(
        &self,
        driver: &DriverHandle,
        key: &ConnectionKey,
        outcome: &Result<(), Error>,
    ) {
        let now = clock::now();
        self.change(|state| match outcome {
            Ok(()) => state.on_reached(driver, now),
            Err(error) if error.is_of_dialling() => {
                if error.concerns_server() {
                    state.on_connection(&driver.server, None);
                }
                let failure = DialFailure {
                    error: error.clone(),
                    key: (!error.concerns_server()).then(|| key.clone()),
                };
                state.redials.on_dial_failed(now, driver, failure);
            }
            Err(_) => {}
        });
    }

    /// Waits until a session may try the server (again), or until another session has dialled for it
    /// and failed. `after` is the error that ended its last attempt; none where a user starts the
    /// session. Dropping the future gives its place up.
    pub(crate) async fn turn(
        &self,
        key: &ConnectionKey,
        uri: &PresentationUri,
        after: Option<&Error>,
        (bounds, is_start): (RetryBounds, bool),
    ) -> Result<RedialPermit, Error> {
        let (mut permit, failures) = self.enter(key.server(), uri, (after, is_start));
        while let Some((until, mut changed)) = permit.admit(key, bounds, failures)? {
            let left = until.saturating_duration_since(clock::now());
            let _ = clock::within(self.runtime()?, left, changed.changed()).await;
        }
        Ok(permit)
    }

    /// A session has failed that asks for no further turn.
    pub(crate) fn on_start_failed(&self, server: &ServerId, uri: &PresentationUri, error: &Error) {
        let now = clock::now();
        self.lock()
            .redials
            .queue(now, server)
            .on_failed(now, uri, error);
    }

    /// A place among the sessions that wait, and the number of dials that had failed by then.
    fn enter(
        &self,
        server: &ServerId,
        uri: &PresentationUri,
        (after, is_start): (Option<&Error>, bool),
    ) -> (RedialPermit, u64) {
        let now = clock::now();
        let mut state = self.lock();
        let queue = state.redials.queue(now, server);
        if let Some(error) = after {
            queue.on_failed(now, uri, error);
        }
        let permit = RedialPermit {
            pool: self.clone(),
            server: server.clone(),
            turn: Some(queue.redial.enter(uri, is_start)),
            number: None,
        };
        (permit, queue.failures)
    }
}

impl RedialQueue {
    /// A session of this presentation ended with an error.
    fn on_failed(&mut self, now: Instant, uri: &PresentationUri, error: &Error) {
        let chance = clock::chance();
        self.redial.on_failed(now, uri, ending(error), chance);
        self.changed.send_replace(());
    }
}

/// What an error says of the server that the user named.
fn ending(error: &Error) -> Ending {
    match error.connection() {
        _ if error.is_behind_redirect() => Ending::Failed,
        _ if error.is_of_dialling() => Ending::NotDialled,
        Some(id) if error.kind() == ErrorKind::ConnectionLost => Ending::Lost(ConnectionId(id)),
        _ if error.kind() == ErrorKind::Sdp => Ending::Useless,
        _ => Ending::Failed,
    }
}

/// Until when a session waits for its turn, and what is signalled if something changes before.
type RedialWait = (Instant, watch::Receiver<()>);

/// Says that a session may try its server; keep it until the session plays or has failed, then drop
/// it.
#[derive(Debug)]
#[must_use = "dropping it lets the next one try"]
pub struct RedialPermit {
    pool: ConnectionPool,
    server: ServerId,
    /// The session's place among those that wait, until it may try.
    turn: Option<TurnId>,
    /// The number of the try, where one session tries for all.
    number: Option<u64>,
}

impl RedialPermit {
    /// Until when the session waits, unless something changes; `None` once it may try.
    ///
    /// # Errors
    ///
    /// The session that dialled for all has failed.
    fn admit(
        &mut self,
        key: &ConnectionKey,
        bounds: RetryBounds,
        failures: u64,
    ) -> Result<Option<RedialWait>, Error> {
        let now = clock::now();
        let mut state = self.pool.lock();
        let Some((queue, turn)) = state.redials.0.get_mut(&self.server).zip(self.turn) else {
            return Ok(None);
        };
        if let Some(DialFailure { error, key: failed }) = &queue.failure
            && queue.failures > failures
            && failed.as_ref().is_none_or(|failed| failed == key)
        {
            return Err(error.clone());
        }
        match queue.redial.admit(now, turn, bounds) {
            Ok(number) => self.number = number,
            Err(until) => return Ok(Some((until, queue.changed.subscribe()))),
        }
        queue.redial.leave(turn);
        queue.changed.send_replace(());
        self.turn = None;
        Ok(None)
    }
}

impl Drop for RedialPermit {
    fn drop(&mut self) {
        let dropped = |redial: &mut Redial| match (self.turn, self.number) {
            (Some(turn), _) => redial.leave(turn),
            (None, Some(number)) => redial.on_permit_dropped(number),
            (None, None) => {}
        };
        if self.turn.is_some() || self.number.is_some() {
            self.pool.lock().redials.change(&self.server, dropped);
        }
    }
}

/// Reports to the redial policy how far one session gets at the server that its user named; dropped
/// when the session is over.
#[derive(Debug)]
pub(crate) struct RedialReporter {
    pool: ConnectionPool,
    server: ServerId,
    id: AttemptId,
    last_media: Option<Instant>,
    is_over: bool,
}

impl RedialReporter {
    /// It needs another dial or DESCRIBE. False if the budget has no room for that.
    pub(crate) fn may_go_on(&self) -> bool {
        let extra = |redial: &mut Redial| redial.on_extra(clock::now(), self.id);
        let redials = &mut self.pool.lock().redials;
        redials.change(&self.server, extra).unwrap_or(true)
    }

    /// Media came.
    pub(crate) fn on_media(&mut self, at: Instant) {
        if self.last_media.replace(at).is_none() {
            let redials = &mut self.pool.lock().redials;
            redials.report(Some(self), clock::now(), AttemptStep::Media);
        }
    }
}

impl Drop for RedialReporter {
    fn drop(&mut self) {
        if !self.is_over {
            let pool = self.pool.clone();
            pool.lock().redials.on_session_over(self, clock::now());
        }
    }
}
