//! What the pool does for a session that is tried on a shared connection. It happens under the lock:
//! what plays on the connection, and which session checks it out next, must not change in between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use url::Url;

use super::{
    CheckoutRequest, ConnectionHandle, ConnectionPool,
    handle::{Intent, IntentId},
};
use crate::mux::{
    clock,
    ids::{ConnectionId, PresentationUri},
    policy::{
        join_history::Joins,
        placement::{ConnectionPurpose, SESSION_CEILING},
        sharing::{
            Sharing, SharingMode,
            descriptions::{self, Doubt, NextCheck, Signature, doubt},
            play_gate::{PlayGate, PlayGateInput, gate, intent_patience, patience},
        },
    },
    proto::{FirstAsked, Presentation, SessionKey},
    server_key::{ConnectionKey, ServerId},
};

/// How long after a refusal a server may still close the connection for it (gortsplib).
const CLOSE_MAY_FOLLOW: Duration = Duration::from_millis(200);

/// Sessions that expire sooner cannot wait for 20 s behind a slow request.
const PRESSING: Duration = Duration::from_secs(35);

/// URIs of one connection that the pool remembers; a server that stays with a URI stays with one of
/// the first.
const MOST_REMEMBERED: usize = SESSION_CEILING as usize;

/// How long a session's DESCRIBE took, and when it was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Described {
    pub(crate) took: Duration,
    pub(crate) at: Instant,
    /// Its connection was asked for this URI before any other.
    pub(crate) is_first: bool,
}

/// What the server answered to the DESCRIBE of a session.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) uri: PresentationUri,
    /// Its first control URL.
    pub(crate) control: PresentationUri,
    pub(crate) signature: Signature,
}

/// Whether a session that wants to play is to send a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Canary {
    /// It has sent one, or is not to be held up any more.
    Spent,
    /// It sends one if the server is to be tried.
    Possible,
    /// Other sessions wait for its canary.
    Promised,
}

/// What the pool knows of the trial on one connection.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// When an answer last came that another session may wait for.
    progress: Option<Instant>,
    /// A session was set up on it.
    has_set_up: bool,
    /// Until when the server may still close the connection.
    suspect_until: Option<Instant>,
    /// The session that goes on here although the others are to leave.
    owner: Option<SessionKey>,
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
    id: ConnectionId,
    uri: PresentationUri,
}

impl Joining {
    fn change(&self, change: impl FnOnce(&mut Joins, &PresentationUri)) {
        let uri = &self.uri;
        self.pool
            .change_record(self.id, |record| change(&mut record.joins, uri));
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        self.change(|joins, uri| joins.on_answer(clock::now(), uri));
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
    fn doubt(
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
        let described = descriptions::DoubtInput {
            signature: &new.signature,
            first,
            names_another,
        };
        doubt(described, others.map(|other| &other.signature))
    }

    /// A presentation was described here.
    fn on_described(&mut self, now: Instant, new: Description) {
        self.progress = Some(now);
        let is_known = self.described.iter().any(|other| other.uri == new.uri);
        if !is_known && self.described.len() < MOST_REMEMBERED {
            self.described.push(new);
        }
    }

    /// Whether this session is the one that goes on here; the others leave, because the server cannot
    /// share (`is_known`) or is suspected of that.
    fn may_go_on(&mut self, key: SessionKey, is_first: bool, is_known: bool) -> bool {
        // The server may still hold what other sessions had there, refused ones too.
        if self.owner.is_none() && self.has_set_up && is_known {
            return false;
        }
        is_first && *self.owner.get_or_insert(key) == key
    }

    /// When the last answer came.
    pub(super) fn progress(&self) -> Option<Instant> {
        self.progress
    }

    /// Held by a session that waits until it is known whether it was described as itself.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubtful > 0
    }

    /// Until when nothing plays, because a session there may have been described as another.
    fn in_doubt_until(&self) -> Option<Instant> {
        self.doubted_until.filter(|_| self.doubtful > 0)
    }

    /// Until when a session waits for the others: from its own answer on, or the last one that
    /// came, for a server may work requests off one by one (live555: 100 ms for each file).
    fn until(&self, described: Described) -> Instant {
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

impl ConnectionPool {
    /// Announces a session.
    pub(crate) fn intend(&self, key: ConnectionKey) -> Intent {
        let mut state = self.lock();
        state.last_intent += 1;
        let id = IntentId(state.last_intent);
        let server = state.server(key.server());
        server.intents.push((id, key.clone()));
        drop(state);
        Intent::new(self.clone(), key, id)
    }

    /// A DESCRIBE, SETUP or PLAY of a session goes out on the connection; it is answered, or the
    /// session stops waiting for it, when the guard is dropped.
    pub(crate) fn joining(&self, id: ConnectionId, uri: &PresentationUri) -> Joining {
        let joining = Joining {
            pool: self.clone(),
            id,
            uri: uri.clone(),
        };
        joining.change(|joins, uri| joins.on_request(clock::now(), uri));
        joining
    }

    /// A presentation is going to be asked for on the connection.
    pub(crate) fn on_describing(&self, id: ConnectionId, uri: &PresentationUri) {
        self.change_record(id, |record| {
            let asked = &mut record.trial.asked;
            if asked.len() < MOST_REMEMBERED && !asked.contains(uri) {
                asked.push(uri.clone());
            }
        });
    }

    /// A presentation was described on the connection of `handle`. Gives why that may be the
    /// presentation of another URI, if it may.
    pub(crate) fn on_described(
        &self,
        handle: &ConnectionHandle,
        description: Description,
        first: &FirstAsked,
        took: Duration,
    ) -> Option<Doubt> {
        let mut state = self.lock();
        let driver = handle.driver();
        if handle.mark_described() {
            state.table.on_described(driver.id);
        }
        let server = state.server(&driver.server);
        server.on_lone_describe(&driver.server_info().measures);
        server.on_described(took);
        let entry = state.table.entry(driver.id)?;
        let (trial, made_for) = (&entry.record.trial, &entry.presentation);
        let doubt = trial.doubt(&description, first, made_for);
        let trial = &mut state.table.record_mut(driver.id)?.trial;
        trial.on_described(clock::now(), description);
        state.server(&driver.server).notify();
        doubt
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

    /// What a session is to do whose description may be that of another URI.
    pub(crate) fn next_description_check(&self, server: &ServerId) -> NextCheck {
        let now = clock::now();
        let mut state = self.lock();
        state.server(server).sharing.next_description_check(now)
    }

    /// Whether a session that is described may be set up on its connection.
    ///
    /// On a connection of a server that cannot share, or is suspected of that, only one session may
    /// go on: the one whose URI the server was asked for first there, for the server may stay with it
    /// (go2rtc, ZLMediaKit). If that session has gone, none may.
    pub(crate) fn may_set_up(&self, id: ConnectionId, key: SessionKey, is_first: bool) -> bool {
        let mut state = self.lock();
        let Some(entry) = state.table.entry(id) else {
            return true;
        };
        let SharingMode::Apart(verdict) = state.mode(&entry.server, clock::now()) else {
            return true;
        };
        let is_alone = entry.references < 2;
        let is_first = is_first && (is_alone || entry.set_up == 0);
        let record = state.table.record_mut(id);
        record.is_none_or(|record| record.trial.may_go_on(key, is_first, verdict.is_some()))
    }

    /// A session is set up, and expires after `timeout` if it is not kept alive.
    pub(crate) fn on_set_up(
        &self,
        handle: &ConnectionHandle,
        uri: PresentationUri,
        timeout: Duration,
    ) {
        if !handle.mark_set_up() {
            return;
        }
        let driver = handle.driver();
        self.change(|state| {
            let now = clock::now();
            if timeout < PRESSING {
                state.table.on_pressed(driver.id);
            }
            let sessions = state.table.on_set_up(driver.id, true);
            let Some(record) = state.table.record_mut(driver.id) else {
                return;
            };
            record.trial.has_set_up = true;
            record.trial.progress = Some(now);
            record.joins.on_set_up(now, uri);
            state.measure(driver);
            let lesson = |sharing: &mut Sharing| {
                if sessions > 1 {
                    sharing.on_shared(now);
                }
            };
            state.learn(&driver.server, now, lesson);
        });
    }

    /// How long a request waits behind another one's before its session turns elsewhere.
    pub(crate) fn patience(&self, server: &ServerId) -> Duration {
        self.lock().server(server).patience()
    }

    /// How long a request waits behind a DESCRIBE during which nothing may be sent.
    pub(crate) fn describe_patience(&self, server: &ServerId) -> Duration {
        let mut state = self.lock();
        let server = state.server(server);
        match server.sharing.is_in_order() {
            true => server.patience(),
            false => server.describe_patience(),
        }
    }

    /// Whether a session with this request would get a connection that it has not tried.
    pub(crate) fn has_place(&self, checkout: &CheckoutRequest, tried: ConnectionId) -> bool {
        let state = self.lock();
        let mut request = state.placement_request(checkout, clock::now());
        request.avoid.push(tried);
        state.table.has_place(&request)
    }

    /// Whether a session is to leave the connection on which it waits for its answer, because the
    /// server is known to ignore requests.
    pub(crate) fn is_doomed(&self, id: ConnectionId, is_described: bool) -> bool {
        let mut state = self.lock();
        let Some(entry) = state.table.entry(id) else {
            return false;
        };
        let (server, others_set_up) = (entry.server.clone(), entry.set_up > 0);
        // The answer may have been for a session that has left since.
        let has_company = entry.record.driver.peak_references() > 1;
        let is_ignoring = state.server(&server).sharing.is_ignoring(clock::now());
        is_ignoring && has_company && (others_set_up || !is_described)
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
        Some(checkout.handle(self, driver, false))
    }

    /// A session on the connection was refused: the connection itself may go.
    pub(crate) fn on_suspect(&self, id: ConnectionId) {
        self.change_record(id, |record| {
            record.trial.suspect_until = Some(clock::now() + CLOSE_MAY_FOLLOW);
        });
    }

    /// Sessions that are set up on the connection.
    pub(crate) fn sessions_on(&self, id: ConnectionId) -> u32 {
        let set_up = self.ask(id, |entry| entry.set_up);
        set_up.unwrap_or_default()
    }

    /// Whether a session may play. If so, no session is tried on its connection any more.
    pub(crate) fn gate(&self, id: ConnectionId, described: Described, canary: Canary) -> PlayGate {
        let now = clock::now();
        let mut state = self.lock();
        let Some(entry) = state.table.entry(id) else {
            // The connection is over; the PLAY will fail and say so.
            return PlayGate::Play;
        };
        let Some(server) = state.servers.get(&entry.server) else {
            return PlayGate::Play;
        };
        let (sharing, record) = (&server.sharing, &entry.record);
        let described_elsewhere = || entry.undescribed > 0 || record.driver.backlog().describes > 0;
        let ends_describing = !(sharing.is_in_order() && sharing.describes_in_band());
        let is_endangered = ends_describing && described_elsewhere();
        let is_asked_for = state.table.could_share_beside(id)
            || entry.purpose != ConnectionPurpose::Pooled
            || sharing.wants_canary();
        let of_key = |(_, key): &&(IntentId, ConnectionKey)| *key == entry.key;
        let input = PlayGateInput {
            mode: sharing.mode(now),
            references: entry.references,
            intents: server.intents.iter().filter(of_key).count(),
            ends_describing,
            is_endangered,
            wants_canary: match canary {
                Canary::Spent => false,
                Canary::Possible => is_asked_for && sharing.may_send_canary(now),
                Canary::Promised => true,
            },
            in_doubt_until: record.trial.in_doubt_until(),
            suspect_until: record.trial.suspect_until,
            until: record.trial.until(described),
            intents_until: described.at + intent_patience(described.took),
        };
        let gate = gate(&input, now);
        // No session is described any more where something is about to play.
        if gate == PlayGate::Play || is_endangered {
            state.table.on_playing(id);
        }
        gate
    }

    /// Nothing is tried on the connection any more: its session does not wait for others.
    pub(crate) fn on_playing(&self, id: ConnectionId) {
        self.lock().table.on_playing(id);
    }

    /// Whether this session goes on here although others are to leave.
    pub(crate) fn is_claimant(&self, id: ConnectionId, key: SessionKey) -> bool {
        let owner = self.ask(id, |entry| entry.record.trial.owner);
        owner.flatten() == Some(key)
    }

    /// A session plays a presentation: its description is remembered.
    pub(crate) fn remember(&self, checkout: &CheckoutRequest, presentation: &Presentation) {
        let uri = checkout.presentation();
        let mut state = self.lock();
        let is_new = state
            .descriptions
            .remember(&checkout.key, &uri, presentation);
        drop(state);
        if is_new {
            self.save_soon();
        }
    }

    /// How the presentation was described when it was last played.
    pub(crate) fn recall(&self, checkout: &CheckoutRequest) -> Option<Presentation> {
        let mut state = self.lock();
        state
            .descriptions
            .recall(&checkout.key, &checkout.presentation())
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

    /// Whether no other session is on the connection.
    pub(crate) fn is_alone(&self, id: ConnectionId) -> bool {
        self.ask(id, |entry| entry.references < 2).unwrap_or(true)
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
