//! One look at the pool for a session that is set up. The pool decides from one snapshot what the session
//! does next, and does under the same lock what follows for other sessions: it takes a connection, or the
//! right to find something out for all of them.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{
    Checkout, CheckoutRequest, ConnectionHandle, ConnectionPool, LockedPool, PoolState,
    redial::RedialReporter,
    trials::{Description, Joining},
};
use crate::mux::{
    clock,
    error::Error,
    ids::ConnectionId,
    policy::{
        next_step::{
            Attempt, CanaryState, ConnectionView, SetupStage, SetupStep, View, keeps_others_away,
            next_step, takes_ownership,
        },
        placement::ConnectionPurpose,
        redial::AttemptStep,
        sharing::{
            ServerIdentity, Sharing, SharingMode,
            descriptions::{Account, Doubt, shows_another_camera},
            play_gate::{PlayGateInput, intent_patience},
        },
    },
    proto::{FirstAsked, Presentation},
    server_key::ServerId,
    stats::WaitReason,
};

/// What has happened to a session since its last look.
#[derive(Default)]
pub(crate) struct News<'a> {
    /// It begins to be set up, at the server that its user named.
    pub(crate) has_begun: bool,
    /// Its DESCRIBE was answered on this connection.
    pub(crate) described: Option<(FreshDescription, &'a ConnectionHandle, &'a Presentation)>,
}

/// The answer to a DESCRIBE.
pub(crate) struct FreshDescription {
    pub(crate) joining: Joining,
    pub(crate) account: Account,
    pub(crate) first: FirstAsked,
    pub(crate) took: Duration,
    /// Whether it is as on a connection where it may have been another URI's.
    pub(crate) is_as_doubted: Option<bool>,
    /// The connection was there for descriptions alone.
    pub(crate) is_on_describe_only: bool,
    /// It came without a base for its control URLs.
    pub(crate) is_bare: bool,
    /// The DESCRIBE had not been answered beside others.
    pub(crate) was_lost: bool,
}

/// What a session does next, and what it needs for that.
pub(crate) struct Looked {
    pub(crate) step: SetupStep,
    pub(crate) view: View,
    /// Signalled when something has changed at the server since.
    pub(crate) changes: watch::Receiver<()>,
    /// The connection of a session that takes one.
    pub(crate) placed: Option<Result<Checkout, Error>>,
    /// For a session whose request goes out.
    pub(crate) joining: Option<Joining>,
    /// For a session that has begun.
    pub(crate) reporter: Option<RedialReporter>,
}

impl ConnectionPool {
    /// Takes one snapshot for a session, and decides what it does next.
    pub(crate) fn look(
        &self,
        checkout: &CheckoutRequest,
        attempt: &Attempt,
        reporter: Option<&RedialReporter>,
        news: News<'_>,
    ) -> Looked {
        let now = clock::now();
        self.change(|state| {
            let begun = news.has_begun;
            let begun = begun.then(|| state.redials.begin(self, checkout, now));
            let doubt = news.described.and_then(|(fresh, handle, presentation)| {
                state.on_described(checkout, fresh, handle, presentation, now)
            });
            let view = state.view(checkout, attempt, doubt, now);
            let step = next_step(&view, attempt, now);
            let mut looked = Looked {
                changes: state.server(checkout.key.server()).watch(),
                placed: None,
                joining: None,
                reporter: begun,
                step,
                view,
            };
            match looked.step {
                SetupStep::Connect {
                    needs_describe,
                    isolation,
                } => {
                    let mut checkout = checkout.clone();
                    (checkout.needs_describe, checkout.isolation) = (needs_describe, isolation);
                    looked.placed = Some(state.place(checkout));
                }
                SetupStep::Play(_) => state.redials.report(reporter, now, AttemptStep::Asked),
                _ => {}
            }
            state.take(checkout.key.server(), attempt, &looked, now);
            looked.joining = state.begin_request(checkout, attempt, looked.step, now);
            looked
        })
    }
}

impl ConnectionPool {
    /// What is known of a connection; none: it is over.
    pub(crate) fn connection(&self, id: ConnectionId) -> Option<ConnectionView> {
        self.lock().connection(id)
    }
}

impl PoolState {
    fn view(
        &mut self,
        checkout: &CheckoutRequest,
        attempt: &Attempt,
        doubt: Option<Doubt>,
        now: Instant,
    ) -> View {
        let name = checkout.key.server();
        let uri = checkout.presentation();
        let is_doubtful = self.is_doubtful(checkout, now);
        let here = attempt.place.and_then(|place| self.connection(place.id));
        let is_to_rejoin = attempt.stage == SetupStage::Described && attempt.is_spread;
        let rejoin = attempt
            .described
            .filter(|_| is_to_rejoin)
            .map(|described| self.rejoin_input(&checkout.key, described, now));
        let gate = self.play_gate_input(attempt, now);
        let has_place = attempt.may_turn(gate.as_ref(), now) && {
            let mut request = self.placement_request(checkout, now);
            request.avoid.extend(attempt.place.map(|place| place.id));
            self.table.has_place(&request)
        };
        let is_unsent = attempt.under_way.is_some_and(|request| request.is_unsent);
        let is_described_sooner_elsewhere =
            is_unsent && self.is_described_sooner_elsewhere(checkout, attempt, now);
        let is_to_ask = attempt.seeks_capacity || attempt.stage == SetupStage::Described;
        let has_pending_teardowns = is_to_ask && self.has_pending_teardowns(name);
        let remembered = self.remembered(checkout, attempt, is_doubtful, now);
        let has_company = self.has_company(name, attempt);
        let server = self.server(name);
        let sharing = &server.sharing;
        let may_decide =
            attempt.canary == CanaryState::Possible && (has_company || !sharing.describes_one(now));
        View {
            mode: match attempt.is_tried {
                true => sharing.mode(now),
                false => sharing.mode_untried(now),
            },
            is_isolated: sharing.joins.is_isolated(now, &uri),
            deciding: sharing.deciding(now, may_decide),
            room: sharing.room.next(now),
            has_pending_teardowns,
            check: sharing.next_description_check(now),
            doubt,
            remembered,
            patience: server.patience(),
            describe_patience: match sharing.is_in_order() {
                true => server.patience(),
                false => server.describe_patience(),
            },
            lost_patience: server.lost_patience(),
            tells_apart: sharing.tells_apart(),
            is_ignoring: sharing.is_ignoring(now),
            describes_one: attempt.is_tried && sharing.describes_one(now),
            may_answer_late: server.has_served_describe_only || is_doubtful,
            here,
            rejoin,
            gate,
            has_place,
            is_described_sooner_elsewhere,
        }
    }

    /// Whether there are other sessions at the server, or announced.
    fn has_company(&self, name: &ServerId, attempt: &Attempt) -> bool {
        let entries = self.table.entries_of(name);
        let sessions: u32 = entries.map(|(_, entry)| entry.references).sum();
        let (here, announced) = match attempt.place {
            Some(_) => (1, 0),
            None => (0, 1),
        };
        sessions > here || self.known(name).intents.len() > announced
    }

    /// What is known of a connection; none: it is over.
    fn connection(&self, id: ConnectionId) -> Option<ConnectionView> {
        let entry = self.table.entry(id)?;
        Some(ConnectionView {
            references: entry.references,
            set_up: entry.set_up,
            had_session: entry.record.trial.has_set_up,
            has_described_several: entry.record.trial.has_described_several(),
            owner: entry.record.trial.owner,
            is_counted: entry.purpose == ConnectionPurpose::Pooled,
        })
    }

    /// How the presentation was described when it was last played, for a session that has no
    /// description, at a server where it may be relied on.
    fn remembered(
        &mut self,
        checkout: &CheckoutRequest,
        attempt: &Attempt,
        is_doubtful: bool,
        now: Instant,
    ) -> Option<Presentation> {
        let sharing = &self.server(checkout.key.server()).sharing;
        let is_wanted = attempt.stage <= SetupStage::Unplaced
            && !attempt.is_described
            && attempt.under_way.is_none()
            && !is_doubtful
            && sharing.is_in_order()
            && attempt.is_described_once(sharing.mode(now));
        let uri = checkout.presentation();
        is_wanted.then(|| self.descriptions.recall(&checkout.key, &uri))?
    }

    fn play_gate_input(&self, attempt: &Attempt, now: Instant) -> Option<PlayGateInput> {
        let is_next = attempt.stage == SetupStage::SetUp && attempt.under_way.is_none();
        let described = attempt.described.filter(|_| is_next)?;
        let id = attempt.place?.id;
        let entry = self.table.entry(id)?;
        let (server, record) = (self.known(entry.server()), &entry.record);
        let (sharing, intents) = (&server.sharing, &server.intents);
        let described_elsewhere = || entry.undescribed > 0 || record.driver.backlog().describes > 0;
        let ends_describing = !(sharing.is_in_order() && sharing.describes_in_band());
        let is_asked_for = self.table.could_share_beside(id)
            || entry.purpose != ConnectionPurpose::Pooled
            || sharing.wants_canary();
        // The others wait until the canary of this session is back, and are not described before.
        let mode = sharing.mode(now);
        let waits_for_none = sharing.is_bare() && matches!(mode, SharingMode::Apart(_));
        Some(PlayGateInput {
            mode,
            references: match waits_for_none {
                true => 1,
                false => entry.references,
            },
            intents: intents.iter().filter(|key| ***key == entry.key).count(),
            ends_describing,
            is_endangered: ends_describing && !waits_for_none && described_elsewhere(),
            wants_canary: match attempt.canary {
                CanaryState::Spent => false,
                CanaryState::Possible => is_asked_for && sharing.may_send_canary(now),
                CanaryState::Promised => true,
            },
            is_tried_elsewhere: !waits_for_none && self.table.is_being_tried(&entry.key, Some(id)),
            in_doubt_until: record.trial.in_doubt_until(),
            suspect_until: record.trial.suspect_until,
            until: record.trial.until(described),
            intents_until: record.trial.tried_at.unwrap_or(described.at)
                + intent_patience(described.took),
        })
    }
}

impl LockedPool<'_> {
    /// Takes what the step takes of other sessions.
    fn take(&mut self, name: &ServerId, attempt: &Attempt, looked: &Looked, now: Instant) {
        let (step, view) = (looked.step, &looked.view);
        let sharing = &mut self.server(name).sharing;
        match step {
            SetupStep::PromiseCanary => sharing.canary.begin(),
            SetupStep::ProbeCapacity => sharing.room.begin(),
            SetupStep::CheckDescription(_) => sharing.description_check.begin(),
            SetupStep::NoteRoom => self.learn(name, now, Sharing::on_room_freed),
            SetupStep::SendCanary => self.learn(name, now, |sharing| sharing.canary.begin()),
            _ => {}
        }
        let Some(place) = attempt.place else { return };
        if takes_ownership(view, attempt, step)
            && let Some(record) = self.table.record_mut(place.id)
        {
            record.trial.owner.get_or_insert(place.session);
        }
        if keeps_others_away(view, attempt, step) {
            self.table.keep_others_away(place.id);
        }
        // No session is described any more where something is about to play.
        let gate_since = attempt.waits_since(WaitReason::PlayGate, now);
        let is_closed = |input: PlayGateInput| input.ends_joining(gate_since, now);
        if matches!(step, SetupStep::Play(_)) || view.gate.is_some_and(is_closed) {
            self.table.on_playing(place.id);
        }
    }

    /// A request of the session goes out.
    fn begin_request(
        &mut self,
        checkout: &CheckoutRequest,
        attempt: &Attempt,
        step: SetupStep,
        now: Instant,
    ) -> Option<Joining> {
        let is_describe = matches!(step, SetupStep::Describe(_));
        let is_request = is_describe || matches!(step, SetupStep::SetUp(_) | SetupStep::Play(_));
        let place = attempt.place.filter(|_| is_request)?;
        let uri = checkout.presentation();
        if let Some(record) = self.table.record_mut(place.id) {
            if is_describe {
                record.trial.on_describing(&uri);
            }
            record.joins.on_request(now, &uri);
        }
        Some(Joining::new(self.pool, place.id, uri))
    }

    /// A DESCRIBE was answered with a description. Gives why that may be another URI's, if it may.
    fn on_described(
        &mut self,
        checkout: &CheckoutRequest,
        fresh: FreshDescription,
        handle: &ConnectionHandle,
        presentation: &Presentation,
        now: Instant,
    ) -> Option<Doubt> {
        let name = checkout.key.server();
        self.end(fresh.joining, now);
        self.on_describe_answered(checkout, fresh.is_on_describe_only);
        let driver = handle.driver();
        let server_header = driver.server_info().server_header;
        let identity = ServerIdentity::new(server_header.as_deref(), Some(presentation));
        self.learn(name, now, |sharing| {
            sharing.on_introduced(now, identity);
            if fresh.is_bare {
                sharing.on_bare();
            }
        });
        if let Some(is_same) = fresh.is_as_doubted {
            let lesson = |sharing: &mut Sharing| sharing.on_described_twice(now, is_same);
            self.learn(name, now, lesson);
        }
        if handle.mark_described() {
            self.table.on_described(driver.id);
        }
        let server = self.server(&driver.server);
        let was_serial = server.speed.is_serial;
        if fresh.was_lost && fresh.took < server.lost_patience() {
            server.speed.on_describe_lost();
        }
        let is_serial_now = server.speed.is_serial;
        server.on_lone_describe(&driver.server_info().measures);
        server.on_described(fresh.took);
        self.deferred.has_learned |= is_serial_now != was_serial;
        let description = Description::new(checkout.presentation(), presentation, &fresh.account);
        let entry = self.table.entry(driver.id)?;
        let (trial, made_for) = (&entry.record.trial, &entry.presentation);
        let doubt = trial.doubt(&description, &fresh.first, made_for);
        if let Some(record) = self.table.record_mut(driver.id) {
            record.trial.on_described(now, description);
        }
        if doubt.is_none() && shows_another_camera(&presentation.sdp, &fresh.first) {
            self.learn(name, now, Sharing::on_described_apart);
        }
        self.server(&driver.server).notify();
        doubt
    }
}
