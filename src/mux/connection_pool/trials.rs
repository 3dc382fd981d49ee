//! What the pool does for a session that is tried on a shared connection. It happens under the lock:
//! what plays on the connection, and which session checks it out next, must not change in between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use url::Url;

use super::{CheckoutRequest, ConnectionHandle, ConnectionPool, RedialReporter, handle::Intent};
use crate::mux::{
    clock,
    ids::{ConnectionId, PresentationUri},
    policy::{
        failover::FailedStep,
        next_step::{DescribeTiming, closes_within},
        placement::SESSION_CEILING,
        redial::AttemptStep,
        sharing::{
            Evidence, Sharing,
            descriptions::{Account, Doubt, Signature, doubt},
            play_gate::patience,
        },
    },
    proto::{FirstAsked, Presentation, SessionKey},
    server_key::{ConnectionKey, ServerId},
};

/// Sessions that expire sooner cannot wait for 20 s behind a slow request.
const PRESSING: Duration = Duration::from_secs(35);

/// URIs of one connection that the pool remembers; a server that stays with a URI stays with one of
/// the first.
const MOST_REMEMBERED: usize = SESSION_CEILING as usize;

/// What the server answered to the DESCRIBE of a session.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub(crate) uri: PresentationUri,
    /// Its first control URL.
    pub(crate) control: PresentationUri,
    pub(crate) signature: Signature,
}

impl Description {
    pub(super) fn new(
        uri: PresentationUri,
        presentation: &Presentation,
        account: &Account,
    ) -> Self {
        // What tells presentations apart: their URIs may be names of one.
        let first = presentation.streams.first();
        let control = first.map(|media| media.control.to_string());
        Self {
            uri,
            control: PresentationUri(control.unwrap_or_default()),
            signature: account.signature.clone(),
        }
    }
}

/// What the pool knows of the trial on one connection.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// When an answer last came that another session may wait for.
    pub(super) progress: Option<Instant>,
    /// A session was set up on it.
    pub(super) has_set_up: bool,
    /// When a canary was back.
    pub(super) tried_at: Option<Instant>,
    /// Until when the server may still close the connection.
    pub(super) suspect_until: Option<Instant>,
    /// The session that goes on here although the others are to leave.
    pub(super) owner: Option<SessionKey>,
    /// Sessions that wait until it is known whether they were described as themselves.
    doubtful: u32,
    /// Until when the last of these sessions waits.
    doubted_until: Option<Instant>,
    /// URIs asked for here, in no certain order, whether or not a session still waits for the answer.
    asked: Vec<PresentationUri>,
    /// What was described here, one entry for each URI.
    described: Vec<Description>,
}

/// A request after which the server may close the connection.
#[derive(Debug)]
#[must_use = "dropping it says that it was answered"]
pub(crate) struct Joining {
    pool: ConnectionPool,
    pub(super) id: ConnectionId,
    pub(super) uri: PresentationUri,
    since: Instant,
    pub(super) is_over: bool,
}

impl Joining {
    /// The table has been told of the request.
    pub(super) fn new(pool: &ConnectionPool, id: ConnectionId, uri: PresentationUri) -> Self {
        Self {
            pool: pool.clone(),
            id,
            uri,
            since: clock::now(),
            is_over: false,
        }
    }

    /// When the request went out.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        if !self.is_over {
            let (pool, uri) = (&self.pool, &self.uri);
            pool.change_record(self.id, |record| record.joins.on_answer(clock::now(), uri));
        }
    }
}

impl Trial {
    /// A session checks out a connection that was idle. What the server saw on it, it may still stay
    /// with (ZLMediaKit: the first URI, as long as the connection lasts).
    pub(super) fn begin_again(&mut self) {
        *self = Self {
            asked: std::mem::take(&mut self.asked),
            described: std::mem::take(&mut self.described),
            ..Self::default()
        };
    }

    /// Whether a description may be that of another URI.
    pub(super) fn doubt(
        &self,
        new: &Description,
        first: &FirstAsked,
        made_for: &PresentationUri,
    ) -> Option<Doubt> {
        // A URI that was asked for counts even if its session has ended since; so does the URI for
        // which the connection was made, which may have been set up without a DESCRIBE.
        let names_another = self.asked.iter().chain([made_for]).any(|asked| {
            *asked != new.uri && asked.is_above(&new.control) && !new.uri.is_above(&new.control)
        });
        let others = self.described.iter().filter(|other| other.uri != new.uri);
        let others = others.map(|other| &other.signature);
        doubt(&new.signature, first, names_another, others)
    }

    /// A presentation was described here.
    pub(super) fn on_described(&mut self, now: Instant, new: Description) {
        self.progress = Some(now);
        let is_known = self.described.iter().any(|other| other.uri == new.uri);
        if !is_known && self.described.len() < MOST_REMEMBERED {
            self.described.push(new);
        }
    }

    /// Whether several presentations were described here.
    pub(super) fn has_described_several(&self) -> bool {
        self.described.len() > 1
    }

    /// A presentation is going to be asked for here.
    pub(super) fn on_describing(&mut self, uri: &PresentationUri) {
        if self.asked.len() < MOST_REMEMBERED && !self.asked.contains(uri) {
            self.asked.push(uri.clone());
        }
    }

    /// Until when nothing plays, because a session there may have been described as another.
    pub(super) fn in_doubt_until(&self) -> Option<Instant> {
        self.doubted_until.filter(|_| self.doubtful > 0)
    }

    /// Until when a session waits for the others: from its own answer on, or the last one that
    /// came, for a server may work requests off one by one (live555: 100 ms for each file).
    pub(super) fn until(&self, described: DescribeTiming) -> Instant {
        let progress = self
            .progress
            .map_or(described.at, |at| at.max(described.at));
        progress + patience(described.took)
    }
}

/// Held by a session that waits until it is known whether it was described as itself.
#[derive(Debug)]
pub(crate) struct DoubtGuard {
    pool: ConnectionPool,
    id: ConnectionId,
}

impl Drop for DoubtGuard {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        let Some(record) = state.table.record_mut(self.id) else {
            return;
        };
        let trial = &mut record.trial;
        trial.doubtful = trial.doubtful.saturating_sub(1);
        // The other sessions have waited for this check, and not for a slow server.
        trial.progress = Some(clock::now());
        let server = record.driver.server.clone();
        state.server(&server).notify();
    }
}

/// What a session does for all sessions of a server; if it is dropped, the next one may do it.
#[derive(Debug)]
pub(crate) struct SharingGuard {
    pool: ConnectionPool,
    server: ServerId,
    when_over: fn(&mut Sharing),
}

impl SharingGuard {
    pub(crate) fn new(
        pool: &ConnectionPool,
        server: &ServerId,
        when_over: fn(&mut Sharing),
    ) -> Self {
        Self {
            pool: pool.clone(),
            server: server.clone(),
            when_over,
        }
    }
}

impl Drop for SharingGuard {
    fn drop(&mut self) {
        self.pool.learn(&self.server, self.when_over);
    }
}

/// Evidence that a session met, until it is confirmed. Dropped before that, it counts for nothing.
#[derive(Debug)]
pub(crate) struct SuspicionGuard {
    guard: SharingGuard,
    pub(crate) evidence: Evidence,
    /// What had failed, and has to work elsewhere.
    pub(crate) step: FailedStep,
}

impl SuspicionGuard {
    pub(crate) fn new(
        pool: &ConnectionPool,
        server: &ServerId,
        evidence: Evidence,
        step: FailedStep,
    ) -> Self {
        pool.learn(server, |sharing| {
            sharing.on_suspected(clock::now(), evidence)
        });
        Self {
            guard: SharingGuard::new(pool, server, Sharing::on_own_error),
            evidence,
            step,
        }
    }

    /// The session works on a connection of its own.
    pub(crate) fn confirm(mut self) {
        let (guard, evidence) = (&mut self.guard, self.evidence);
        guard.pool.learn(&guard.server, |sharing| {
            sharing.on_works_alone(clock::now(), evidence);
        });
        guard.when_over = |_| {};
    }
}

impl ConnectionPool {
    /// Announces a session.
    pub(crate) fn intend(&self, key: ConnectionKey) -> Intent {
        let key = Arc::new(key);
        let mut state = self.lock();
        state.server(key.server()).intents.push(Arc::clone(&key));
        drop(state);
        let pool = self.clone();
        Intent { pool, key }
    }

    /// A PLAY of a session that has played goes out on the connection; it is answered, or the session
    /// stops waiting for it, when the guard is dropped.
    pub(crate) fn joining(&self, id: ConnectionId, uri: PresentationUri) -> Joining {
        self.change_record(id, |record| record.joins.on_request(clock::now(), &uri));
        Joining::new(self, id, uri)
    }

    /// Sessions on the connection do not play before it is known whether one of them was described
    /// as itself. Until the guard is dropped.
    pub(crate) fn hold_in_doubt(&self, id: ConnectionId, until: Instant) -> DoubtGuard {
        self.change_record(id, |record| {
            let trial = &mut record.trial;
            trial.doubtful += 1;
            trial.doubted_until = trial.doubted_until.max(Some(until));
        });
        DoubtGuard {
            pool: self.clone(),
            id,
        }
    }

    /// A session is set up, and expires after `timeout` if it is not kept alive.
    pub(crate) fn on_set_up(
        &self,
        handle: &ConnectionHandle,
        session: SessionKey,
        joining: Joining,
        timeout: Duration,
        reporter: Option<&RedialReporter>,
    ) {
        let driver = handle.driver();
        self.change(|state| {
            let now = clock::now();
            let uri = joining.uri.clone();
            state.end(joining, now);
            state.redials.report(reporter, now, AttemptStep::SetUp);
            if !handle.mark_set_up() {
                return;
            }
            if timeout < PRESSING {
                state.table.on_pressed(driver.id);
            }
            let sessions = state.table.on_set_up(driver.id, true);
            let Some(record) = state.table.record_mut(driver.id) else {
                return;
            };
            record.trial.has_set_up = true;
            record.trial.progress = Some(now);
            record.joins.on_set_up(now, uri, session);
            state.measure(driver);
            let lesson = |sharing: &mut Sharing| {
                if sessions > 1 {
                    sharing.on_shared(now);
                }
            };
            state.learn(&driver.server, now, lesson);
        });
    }

    /// A session's PLAY was answered. Its description is remembered.
    pub(crate) fn on_playing(
        &self,
        checkout: &CheckoutRequest,
        presentation: &Presentation,
        joining: Joining,
        reporter: Option<&RedialReporter>,
    ) {
        let uri = checkout.presentation();
        let mut state = self.lock();
        let now = clock::now();
        state.end(joining, now);
        state.redials.report(reporter, now, AttemptStep::Playing);
        let descriptions = &mut state.descriptions;
        let is_new = descriptions.remember(&checkout.key, &uri, presentation);
        drop(state);
        if is_new {
            self.save_soon();
        }
    }

    /// Whether a session with this request would get a connection that it has not tried.
    pub(crate) fn has_place(&self, checkout: &CheckoutRequest, tried: ConnectionId) -> bool {
        let state = self.lock();
        let mut request = state.placement_request(checkout, clock::now());
        request.avoid.push(tried);
        state.table.has_place(&request)
    }

    /// A reference to a connection that others play on, for a session that was described on `id`
    /// because that might have cost them.
    pub(crate) fn rejoin(
        &self,
        checkout: &CheckoutRequest,
        id: ConnectionId,
    ) -> Option<ConnectionHandle> {
        let mut checkout = checkout.clone();
        checkout.needs_describe = false;
        let mut state = self.lock();
        let request = state.placement_request(&checkout, clock::now()).described();
        let place = state.table.rejoin(id, &request)?;
        let driver = Arc::clone(&state.table.entry(place)?.record.driver);
        state.update_gauges(&driver.server);
        let idle_timeout = checkout.options.pooling.idle_connection_timeout;
        Some(ConnectionHandle::new(self, driver, idle_timeout, false))
    }

    /// A session on the connection was refused: the connection itself may go.
    pub(crate) fn on_suspect(&self, id: ConnectionId) {
        self.change_record(id, |record| {
            let path = record.driver.server_info().connect_time;
            record.trial.suspect_until = Some(clock::now() + closes_within(path));
        });
    }

    /// A canary is back on the connection: sessions that have waited for it may come now.
    pub(crate) fn on_canary_back(&self, id: ConnectionId) {
        self.change_record(id, |record| record.trial.tried_at = Some(clock::now()));
    }

    /// Another presentation that was played there with the same credentials, and its description.
    pub(crate) fn another_description(
        &self,
        checkout: &CheckoutRequest,
    ) -> Option<(Url, Presentation)> {
        let state = self.lock();
        state
            .descriptions
            .another(&checkout.key, &checkout.presentation())
    }

    /// The remembered description does not hold any more.
    pub(crate) fn forget(&self, checkout: &CheckoutRequest) {
        let mut state = self.lock();
        state
            .descriptions
            .forget(&checkout.key, &checkout.presentation());
    }

    /// Another reference to a connection, for a canary.
    pub(crate) fn join(&self, handle: &ConnectionHandle) -> Option<ConnectionHandle> {
        let mut state = self.lock();
        if !state.table.join(handle.driver().id) {
            return None;
        }
        state.update_gauges(&handle.driver().server);
        Some(handle.sibling())
    }
}
