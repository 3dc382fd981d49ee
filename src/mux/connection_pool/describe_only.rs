//! Describe-only connections, for servers that take long for each DESCRIBE: when a session goes to
//! one, and what happens where the server does not accept it.

use std::time::{Duration, Instant};

use super::{CheckoutRequest, ConnectionHandle, ConnectionPool, PoolState};
use crate::mux::{
    clock,
    driver::{Command, DriverHandle},
    error::Error,
    ids::ConnectionId,
    policy::{
        next_step::{Attempt, DescribeTiming},
        placement::RejoinInput,
        sharing::{SharingMode, play_gate::patience},
    },
    server_key::ConnectionKey,
};

/// How long no more describe-only connections are made to a server than it had when it did not accept one.
const RETRY: Duration = Duration::from_secs(10 * 60);

impl ConnectionPool {
    /// The session is described on a connection that counts; where the server shares, no new
    /// connection is made for it, since the server would refuse that as well.
    pub(crate) fn keep_pooled(&self, checkout: &mut CheckoutRequest) {
        let mode = self.sharing(checkout.key.server(), |sharing| sharing.mode(clock::now()));
        (checkout.is_spread, checkout.is_kept_pooled) = (false, true);
        checkout.no_new_connection |= mode == SharingMode::Share;
    }

    /// A server did not accept a describe-only connection, or did not answer on it.
    pub(crate) fn on_describe_only_refused(&self, driver: &DriverHandle) {
        let mut state = self.lock();
        if state.table.retire(driver.id) {
            driver.send(Command::Close);
        }
        let now = clock::now();
        let taken = state.table.open_describe_only(&driver.server);
        let server = state.server(&driver.server);
        let cap = server.describe_only_cap.filter(|(_, until)| now < *until);
        let taken = cap.map_or(taken, |(cap, _)| cap.min(taken));
        server.describe_only_cap = Some((taken, now + RETRY));
        server.has_served_describe_only &= taken > 0;
        server.notify();
    }

    /// A DESCRIBE of the presentation was answered: with a status, or a description of no use.
    pub(crate) fn on_describe_answered(&self, checkout: &CheckoutRequest, on_describe_only: bool) {
        self.lock().on_describe_answered(checkout, on_describe_only);
    }

    /// A DESCRIBE of the presentation was not answered in time.
    pub(crate) fn on_describe_unanswered(&self, checkout: &CheckoutRequest) {
        let mut state = self.lock();
        let server = state.server(checkout.key.server());
        let uri = checkout.presentation();
        server.unanswered.on_unanswered(clock::now(), &uri);
    }

    /// Waits until a describe-only connection is connected; none if it is not, or not in time. That
    /// is no failure of the server, which may accept a limited number of connections: sessions play
    /// on those that it has.
    pub(super) async fn reach_describe_only(
        &self,
        handle: ConnectionHandle,
        key: &ConnectionKey,
    ) -> Result<Option<ConnectionHandle>, Error> {
        let driver = handle.driver();
        let limit = self.lock().server(&driver.server).patience();
        let connected = clock::within(self.runtime()?, limit, driver.connected()).await;
        let Ok(Ok(())) = connected else {
            tracing::info!("{}/-: no describe-only connection to be had", driver.id);
            self.on_describe_only_refused(driver);
            return Ok(None);
        };
        if !handle.is_reused {
            self.on_dialled(driver, key, &Ok(()));
        }
        Ok(Some(handle))
    }
}

impl PoolState {
    pub(super) fn on_describe_answered(
        &mut self,
        checkout: &CheckoutRequest,
        on_describe_only: bool,
    ) {
        let server = self.server(checkout.key.server());
        server.has_served_describe_only |= on_describe_only;
        server.unanswered.on_answered(&checkout.presentation());
    }

    /// Whether a session that waits on a connection to be described would be described sooner on
    /// another one, because the server takes long for each DESCRIBE and works on several connections
    /// at a time.
    pub(super) fn is_described_sooner_elsewhere(
        &self,
        checkout: &CheckoutRequest,
        attempt: &Attempt,
        now: Instant,
    ) -> bool {
        let stays = checkout.is_spread || checkout.no_new_connection || checkout.is_dedicated();
        let (Some(place), false) = (attempt.place, stays) else {
            return false;
        };
        if !self
            .known(checkout.key.server())
            .speed
            .is_slow_to_describe()
        {
            return false;
        }
        let spread = CheckoutRequest {
            is_spread: true,
            ..checkout.clone()
        };
        let request = self.placement_request(&spread, now);
        self.table.is_described_sooner_elsewhere(place.id, &request)
    }

    /// The facts that decide whether a session that was described goes to a connection that counts;
    /// it waits for other sessions as long as for its own DESCRIBE, if none of them gets further.
    pub(super) fn rejoin_input(
        &self,
        key: &ConnectionKey,
        described: DescribeTiming,
        now: Instant,
    ) -> RejoinInput {
        let until = described.at + patience(described.took);
        let server = key.server();
        let sharing = &self.known(server).sharing;
        let trials = || {
            let entries = self.table.entries_of(server);
            entries.map(|(_, entry)| &entry.record.trial)
        };
        let took = until.saturating_duration_since(now);
        let progress = trials().filter_map(|trial| trial.progress);
        RejoinInput {
            mode: sharing.mode(now),
            tells_apart: sharing.tells_apart(),
            is_being_tried: self.table.is_being_tried(key, None),
            is_describing: self.table.is_describing(server)
                || trials().any(|trial| trial.in_doubt_until().is_some()),
            until: progress.fold(until, |until, at| until.max(at + took)),
        }
    }

    pub(super) fn is_doubtful(&self, checkout: &CheckoutRequest, now: Instant) -> bool {
        let unanswered = &self.known(checkout.key.server()).unanswered;
        checkout.is_doubtful || unanswered.is_doubtful(now, &checkout.presentation())
    }

    /// Whether the connection was there for descriptions alone: its end says nothing of sharing.
    pub(super) fn is_describe_only_without_sessions(&self, id: ConnectionId) -> bool {
        let entry = self.table.entry(id);
        self.table.is_describe_only(id) && entry.is_some_and(|entry| entry.set_up == 0)
    }
}
