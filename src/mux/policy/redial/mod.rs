//! When a session may try its server again, and which one first: one policy, whatever step failed.
//!
//! Cameras and recorders come back minutes after a loss of power, and all clients of a server lose it
//! in the same moment. So waits grow with the time the server is away and are drawn at random, and one
//! session tries for all ([`breaker`]); when it has got through, the others follow in an order of
//! their own ([`order`]). [`Redial`] is the state of one server:
//!
//! | what failed | whose failure it is | who tries again |
//! |---|---|---|
//! | the dial; a connection whose sessions had played | the server's | one for all; when it is connected the others follow |
//! | a session, while no other one of the server has media | the server's | one for all; when it gets past that step the others follow |
//! | a session, while others play | that camera's | it alone, within half of the [budget](RedialBudget) |
//!
//! Sessions that a user starts wait for nothing, and neither do those that come back after a success:
//! media for [`LASTS`], some times in a row (`FREE_RETURNS`). The first end of a session that a
//! user has started is no storm yet: there an answered PLAY is enough of a success. A session that
//! follows a redirect counts at the server that redirected, whatever the other server answers.
//!
//! Pure: time and chance are passed in. Sessions are followed from their beginning to their end
//! ([`begin`](Redial::begin), [`on_progress`](Redial::on_progress), [`on_over`](Redial::on_over)); a
//! failure is reported when a session asks for its turn again ([`on_failed`](Redial::on_failed)).

mod breaker;
mod order;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

pub(crate) use self::breaker::DialAdmission;
pub use self::breaker::RetryBounds;
use self::{
    breaker::{Breaker, RedialStep},
    order::{Camera, Charge, Ended, LASTS, ReconnectOrder, RedialBudget},
};
use crate::mux::ids::{ConnectionId, PresentationUri};

/// How long a session lets the sessions go first whose last try is longer ago.
const YIELDS: Duration = Duration::from_millis(100);
/// The history of a camera is forgotten after so long.
const FORGOTTEN: Duration = Duration::from_secs(10 * 60);

/// Names an attempt of a session; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AttemptId(u64);

/// Names a session that waits for its turn; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TurnId(u64);

/// How a session ended, as the session reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// No connection could be made to this server; the failed dial has been reported before.
    NotDialled,
    /// This connection to the server is gone.
    Lost(ConnectionId),
    /// Anything else, also whatever happened at a server to which this one redirected.
    Failed,
    /// Its media was of no use, however long it came.
    Useless,
}

/// How far a session has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptStep {
    Begun,
    SetUp,
    /// PLAY was sent.
    Asked,
    /// PLAY was answered, and no media has come.
    Playing,
    /// Media came.
    Media,
}

/// A session from its DESCRIBE to its end.
#[derive(Clone, Debug)]
struct OngoingAttempt {
    uri: PresentationUri,
    began: Instant,
    step: AttemptStep,
    /// When it got there.
    since: Instant,
    /// The try that it makes for all.
    probe: Option<u64>,
}

#[derive(Clone, Debug)]
struct WaitingSession {
    uri: PresentationUri,
    /// A user starts it.
    is_start: bool,
}

/// One server.
#[derive(Debug, Default)]
pub(crate) struct Redial {
    breaker: Breaker,
    order: ReconnectOrder,
    budget: RedialBudget,
    cameras: HashMap<PresentationUri, Camera>,
    attempts: BTreeMap<AttemptId, OngoingAttempt>,
    waiters: BTreeMap<TurnId, WaitingSession>,
    last_number: u64,
    /// When cameras were last forgotten.
    swept: Option<Instant>,
}

impl Redial {
    /// Whether forgetting it changes nothing.
    pub(crate) fn is_forgettable(&self, now: Instant) -> bool {
        self.attempts.is_empty()
            && self.waiters.is_empty()
            && self.breaker.is_forgettable(now)
            && self.order.is_forgettable(now)
            && self.cameras.values().all(|camera| is_old(camera, now))
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn forget_old_cameras(&mut self, now: Instant) {
        let swept = *self.swept.get_or_insert(now);
        if now.saturating_duration_since(swept) >= FORGOTTEN / 10 {
            self.swept = Some(now);
            self.cameras.retain(|_, camera| !is_old(camera, now));
        }
    }

    fn camera(&mut self, now: Instant, uri: &PresentationUri) -> &mut Camera {
        let camera = self
            .cameras
            .entry(uri.clone())
            .or_insert_with(|| Camera::new(now));
        camera.touched = now;
        camera
    }
}

fn is_old(camera: &Camera, now: Instant) -> bool {
    now.saturating_duration_since(camera.touched) >= FORGOTTEN
}

/// Events of connections.
impl Redial {
    /// A connection could not be made. False if that was reported before.
    pub(crate) fn on_dial_failed(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        chance: f64,
    ) -> bool {
        let is_news = self.breaker.on_dial_failed(now, connection, chance);
        if is_news {
            self.order.regroup();
        }
        is_news
    }

    /// A session got a connection.
    pub(crate) fn on_reached(&mut self, now: Instant, connection: ConnectionId) {
        self.breaker.on_reached(now, connection);
    }

    /// A connection with so many sessions is gone; `suspect` had been added to it shortly before.
    pub(crate) fn on_broken(
        &mut self,
        now: Instant,
        sessions: u32,
        suspect: Option<PresentationUri>,
    ) {
        self.order.on_lost(now, sessions, suspect);
    }
}

/// Events of sessions.
impl Redial {
    /// A session begins to be set up.
    pub(crate) fn begin(&mut self, now: Instant, uri: &PresentationUri) -> AttemptId {
        self.forget_old_cameras(now);
        let id = AttemptId(self.number());
        let probe = match self.cameras.get_mut(uri) {
            Some(camera) => {
                camera.cost = 1;
                camera.probe.take()
            }
            None => None,
        };
        let attempt = OngoingAttempt {
            uri: uri.clone(),
            began: now,
            step: AttemptStep::Begun,
            since: now,
            probe,
        };
        self.attempts.insert(id, attempt);
        id
    }

    /// The session costs the server another dial or DESCRIBE: it goes to another connection, or
    /// follows a redirect. False if the budget has no room for that.
    pub(crate) fn on_extra(&mut self, now: Instant, id: AttemptId) -> bool {
        let Some(attempt) = self.attempts.get(&id) else {
            return true;
        };
        let Some(camera) = self.cameras.get_mut(&attempt.uri) else {
            return true;
        };
        let is_charged = match camera.charge {
            Charge::Server | Charge::Camera(_) => true,
            Charge::IfFlapping => self.breaker.is_flapping(),
            Charge::Free => false,
        };
        if !is_charged && attempt.probe.is_none() {
            return true;
        }
        camera.cost = camera.cost.saturating_add(1);
        let has_room = self.budget.due(1).is_none_or(|due| due <= now);
        self.budget.on_try(now);
        has_room
    }

    /// It has got so far.
    pub(crate) fn on_progress(&mut self, now: Instant, id: AttemptId, step: AttemptStep) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        (attempt.step, attempt.since) = (step, now);
        if step == AttemptStep::SetUp {
            self.order.on_set_up();
            self.breaker.on_progress(now, RedialStep::SetUp);
        }
    }

    /// It is over; its last media came at `last_media`. [`on_failed`](Self::on_failed) reports
    /// whether it failed; but a session that tried for all has not got far enough.
    pub(crate) fn on_over(
        &mut self,
        now: Instant,
        id: AttemptId,
        last_media: Option<Instant>,
        chance: f64,
    ) {
        let Some(attempt) = self.attempts.remove(&id) else {
            return;
        };
        let lasted = |until: Instant| until.saturating_duration_since(attempt.since);
        let lasted = match attempt.step {
            AttemptStep::Begun | AttemptStep::Asked => None,
            AttemptStep::SetUp => Some(lasted(now)).filter(|waited| *waited >= LASTS),
            AttemptStep::Playing => Some(Duration::ZERO),
            AttemptStep::Media => Some(lasted(last_media.unwrap_or(now))),
        };
        let needs = match attempt.step {
            AttemptStep::Begun => RedialStep::SetUp,
            _ => RedialStep::Media,
        };
        let ended = Ended {
            began: attempt.began,
            over: now,
            needs,
            lasted,
        };
        if ended.success(false).is_some() {
            self.breaker.on_progress(now, RedialStep::Media);
        } else if let Some(number) = attempt.probe {
            self.breaker.on_probe_failed(now, number, needs, chance);
        }
        self.camera(now, &attempt.uri).last = Some(ended);
    }

    /// A session of this camera has ended like that, and asks for its turn again.
    pub(crate) fn on_failed(
        &mut self,
        now: Instant,
        uri: &PresentationUri,
        ending: Ending,
        chance: f64,
    ) {
        let camera = self.camera(now, uri);
        let before = camera.charge;
        let ended = camera.last.take().unwrap_or(Ended {
            began: now,
            over: now,
            needs: RedialStep::SetUp,
            lasted: None,
        });
        if ending == Ending::NotDialled {
            // The breaker knows of the failure, and its wait holds for all sessions.
            return;
        }
        let is_first = !std::mem::replace(&mut camera.has_failed, true);
        let success = ended.success(is_first);
        let success = success.filter(|_| ending != Ending::Useless);
        let is_free = success.is_some_and(|lasted| camera.is_return_free(lasted));
        camera.wait = Duration::ZERO;
        camera.charge = match (success, is_free) {
            (Some(_), true) => Charge::Free,
            (Some(_), false) => Charge::Server,
            (None, _) => Charge::IfFlapping,
        };
        let connection = match (ending, success) {
            (Ending::Lost(id), Some(_)) => return self.breaker.on_lost(now, id, chance),
            (Ending::Lost(id), None) => Some(id),
            (Ending::Failed | Ending::Useless | Ending::NotDialled, _) => None,
        };
        if success.is_none() && !self.has_success(now) {
            let times = (ended.began, ended.over);
            return self
                .breaker
                .on_session_failed(now, times, connection, ended.needs, chance);
        }
        let camera = self.camera(now, uri);
        camera.on_failed(now, chance);
        if success.is_none() {
            let since = match before {
                Charge::Camera(since) => since,
                _ => now,
            };
            camera.charge = Charge::Camera(since);
        }
    }

    /// Whether some session of the server plays, or could, so that the server is there.
    fn has_success(&self, now: Instant) -> bool {
        self.successes().any(|at| at <= now)
    }

    fn successes(&self) -> impl Iterator<Item = Instant> {
        self.attempts
            .values()
            .filter_map(OngoingAttempt::success_at)
    }
}

/// Sessions that wait for their turn.
impl Redial {
    /// A session of this camera waits; a session that a user starts need not.
    pub(crate) fn enter(&mut self, uri: &PresentationUri, is_start: bool) -> TurnId {
        let id = TurnId(self.number());
        if let Some(camera) = self.cameras.get_mut(uri).filter(|_| is_start) {
            camera.charge = Charge::Free;
            camera.has_failed = false;
        }
        let uri = uri.clone();
        self.waiters.insert(id, WaitingSession { uri, is_start });
        id
    }

    /// It does not wait any more.
    pub(crate) fn leave(&mut self, id: TurnId) {
        self.waiters.remove(&id);
    }

    /// The session that was to try for all went away before it did anything: the next one may.
    pub(crate) fn on_permit_dropped(&mut self, number: u64) {
        let has_begun = |attempt: &OngoingAttempt| attempt.probe == Some(number);
        if !self.attempts.values().any(has_begun) {
            self.breaker.on_probe_gone(number);
        }
    }

    /// Whether a session that waits may go.
    pub(crate) fn admit(&mut self, now: Instant, id: TurnId, bounds: RetryBounds) -> DialAdmission {
        let Some(waiter) = self.waiters.get(&id).filter(|waiter| !waiter.is_start) else {
            return Ok(None);
        };
        let uri = waiter.uri.clone();
        if self.has_success(now) {
            self.breaker.on_progress(now, RedialStep::Media);
        }
        self.order.may_go(now, &uri)?;
        let probe = match self.breaker.needs() {
            Some(_) => self.admit_probe(now, &uri, bounds)?,
            None => self.admit_camera(now, &uri, bounds).map(|()| None)?,
        };
        self.order.on_gone(now);
        let camera = self.camera(now, &uri);
        (camera.last_try, camera.probe) = (Some(now), probe);
        Ok(probe)
    }

    /// While the server is away.
    fn admit_probe(
        &mut self,
        now: Instant,
        uri: &PresentationUri,
        bounds: RetryBounds,
    ) -> DialAdmission {
        let (yields, cost) = (self.yields(uri), self.camera(now, uri).cost);
        let due = self.budget.due(cost);
        let probe = self.breaker.admit(now, bounds, due, yields);
        if matches!(probe, Ok(Some(_))) {
            self.budget.on_try(now);
        }
        // The first success lets all through.
        probe.map_err(|until| self.successes().fold(until, Instant::min))
    }

    /// While the server is there.
    fn admit_camera(
        &mut self,
        now: Instant,
        uri: &PresentationUri,
        bounds: RetryBounds,
    ) -> Result<(), Instant> {
        let (yields, is_flapping) = (self.yields(uri), self.breaker.is_flapping());
        let camera = self.camera(now, uri);
        let waited = camera.failed + bounds.clamp(camera.wait);
        let cost = camera.cost;
        let charge = match camera.charge {
            Charge::IfFlapping if is_flapping => Charge::Server,
            Charge::IfFlapping => Charge::Free,
            charge => charge,
        };
        let (due, yields) = match charge {
            Charge::Free => (None, Duration::ZERO),
            Charge::Camera(since) => (self.budget.due_for_camera(now, cost, since), yields),
            Charge::Server | Charge::IfFlapping => (self.budget.due_together(cost), yields),
        };
        let due = due.map_or(waited, |due| due.max(waited)) + yields;
        if now < due {
            return Err(due);
        }
        match charge {
            Charge::Camera(_) => self.budget.on_try_of_camera(now),
            Charge::Server | Charge::IfFlapping => self.budget.on_try(now),
            Charge::Free => {}
        }
        Ok(())
    }

    /// How long a session lets others go first: the waiting sessions whose last try is longer ago.
    fn yields(&self, uri: &PresentationUri) -> Duration {
        let last_try = |uri| self.cameras.get(uri).and_then(|camera| camera.last_try);
        let own = last_try(uri);
        let mut others = self.waiters.values().filter(|waiter| !waiter.is_start);
        match others.any(|waiter| last_try(&waiter.uri) < own) {
            true => YIELDS,
            false => Duration::ZERO,
        }
    }
}

impl OngoingAttempt {
    /// When it is a success, as things stand.
    fn success_at(&self) -> Option<Instant> {
        // Where it is set up its user has it wait, which it may do for long.
        let is_one = matches!(self.step, AttemptStep::SetUp | AttemptStep::Media);
        is_one.then(|| self.since + LASTS)
    }
}

#[cfg(test)]
mod tests;
