//! Describe-only connections, for servers that take long for each DESCRIBE: when a session goes to
//! one, and what happens where the server does not accept it.

use std::time::{Duration, Instant};

use super::{
    CheckoutRequest, ConnectionHandle, ConnectionPool, PoolState, connection::ConnectionRecord,
};
use crate::mux::{
    clock,
    config::Multiplex,
    driver::{Command, DriverHandle},
    error::Error,
    ids::ConnectionId,
    policy::{
        next_step::{Attempt, DescribeTiming},
        placement::{RejoinInput, TableEntry},
        sharing::{SharingMode, play_gate::patience},
    },
    server_key::{ConnectionKey, ServerId},
};

/// How long no describe-only connection is made to a server that did not accept one.
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
        let server = state.server(&driver.server);
        server.no_describe_only_before = Some(clock::now() + RETRY);
        server.has_served_describe_only = false;
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
        let limit = self.lock().server(&driver.server).dial_patience();
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

    /// From when on a session that waits on a connection to be described is to be described sooner on
    /// another one, because the server takes long for each DESCRIBE and works on several connections at a
    /// time. None: it is not.
    pub(super) fn described_sooner_elsewhere(
        &self,
        checkout: &CheckoutRequest,
        attempt: &Attempt,
        now: Instant,
    ) -> Option<Instant> {
        let place = attempt.place?;
        if checkout.is_spread || checkout.no_new_connection || checkout.is_dedicated() {
            return None;
        }
        let name = checkout.key.server();
        let is_slow = self.known(name).speed.is_slow_to_describe();
        let entry = self.table.entry(place.id)?;
        let from = match is_slow {
            true => now,
            false => self.likely_slow_from(name, entry)?,
        };
        let spread = CheckoutRequest {
            is_spread: true,
            ..checkout.clone()
        };
        let request = self.placement_request(&spread, from.max(now));
        // Before the first answer those stay together that find out whether the server shares.
        let may_leave = is_slow || self.table.is_tried_without(&request, Some(place.id));
        let is_sooner = self.table.is_described_sooner_elsewhere(place.id, &request);
        (may_leave && is_sooner).then_some(from)
    }

    /// From when on the DESCRIBE at the head of the line shows that the server takes long for it, where
    /// it is not known to be quick.
    fn likely_slow_from(
        &self,
        name: &ServerId,
        entry: &TableEntry<ConnectionRecord>,
    ) -> Option<Instant> {
        let server = self.known(name);
        let head = entry.record.driver.backlog().head?;
        let may_be_slow = head.is_describe && !server.is_quick_to_describe();
        may_be_slow.then(|| head.since + server.speed.likely_slow_after())
    }

    /// Whether the DESCRIBEs of the server take so long, as far as is known, that describe-only
    /// connections pay.
    fn is_worth_describe_only(&self, name: &ServerId, now: Instant) -> bool {
        let likely_slow = |(_, entry)| self.likely_slow_from(name, entry);
        let mut entries = self.table.entries_of(name);
        self.known(name).speed.is_worth_describe_only()
            || entries.any(|it| likely_slow(it).is_some_and(|from| now >= from))
    }

    /// How many describe-only connections the server may have for a session that goes to one: as many as
    /// others, where there is a limit. Without one each session gets a connection that counts.
    pub(super) fn most_describe_only(&self, checkout: &CheckoutRequest, now: Instant) -> u32 {
        let (name, pooling) = (checkout.key.server(), &checkout.options.pooling);
        let may = pooling.multiplex == Multiplex::Auto
            && !checkout.is_kept_pooled
            && !checkout.no_new_connection
            && self.known(name).may_describe_only(now)
            && self.is_worth_describe_only(name, now);
        pooling.max_connections_per_server * u32::from(may)
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
