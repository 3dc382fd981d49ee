//! Describe-only connections, for servers that take long for each DESCRIBE: when a session goes to
//! one, and what happens where the server does not accept it.

use std::time::{Duration, Instant};

use super::{CheckoutRequest, ConnectionHandle, ConnectionPool, PoolState, trials::Trial};
use crate::mux::{
    clock,
    driver::{Command, DriverHandle},
    error::Error,
    ids::ConnectionId,
    policy::{
        placement::{ConnectionPurpose, RejoinInput},
        sharing::SharingMode,
    },
    server_key::{ConnectionKey, ServerId},
};

/// How long no describe-only connection is made to a server that did not accept one.
const RETRY: Duration = Duration::from_secs(10 * 60);

impl ConnectionPool {
    /// Whether a session that waits on a connection to be described would be described sooner on
    /// another one, because the server takes long for each DESCRIBE and works on several connections
    /// at a time.
    pub(crate) fn is_described_sooner_elsewhere(
        &self,
        checkout: &CheckoutRequest,
        id: ConnectionId,
    ) -> bool {
        if checkout.is_spread || checkout.is_within || checkout.is_dedicated {
            return false;
        }
        let state = self.lock();
        let server = state.servers.get(checkout.key.server());
        if !server.is_some_and(|server| server.speed.is_slow_to_describe()) {
            return false;
        }
        let spread = CheckoutRequest {
            is_spread: true,
            ..checkout.clone()
        };
        let request = state.placement_request(&spread, clock::now());
        state.table.is_described_sooner_elsewhere(id, &request)
    }

    /// Whether the connection counts against the user's limit.
    pub(crate) fn is_counted(&self, id: ConnectionId) -> bool {
        let purpose = self.ask(id, |entry| entry.purpose);
        purpose == Some(ConnectionPurpose::Pooled)
    }

    /// The facts that decide whether a session that was described goes to a connection that counts;
    /// it waits for other sessions until `until` if none of them gets further.
    pub(crate) fn rejoin_input(&self, key: &ConnectionKey, until: Instant) -> RejoinInput {
        let state = self.lock();
        let server = key.server();
        let sharing = state.servers.get(server).map(|server| &server.sharing);
        let trials = || {
            let entries = state.table.entries_of(server);
            entries.map(|(_, entry)| &entry.record.trial)
        };
        let took = until.saturating_duration_since(clock::now());
        let progress = trials().filter_map(Trial::progress);
        RejoinInput {
            mode: state.mode(server, clock::now()),
            tells_apart: sharing.is_some_and(|sharing| sharing.tells_apart()),
            is_being_tried: state.table.is_being_tried(server, key, None),
            is_describing: state.table.is_describing(server) || trials().any(Trial::is_in_doubt),
            until: progress.fold(until, |until, at| until.max(at + took)),
        }
    }

    /// The session on a describe-only connection stays there. False if other sessions are there: then
    /// it may not stay.
    pub(crate) fn keep_others_away(&self, id: ConnectionId) -> bool {
        let mut state = self.lock();
        let entry = state.table.entry(id);
        let is_alone = entry.is_none_or(|entry| entry.references < 2);
        if is_alone {
            state.table.keep_others_away(id);
        }
        is_alone
    }

    /// The session is described on a connection that counts; where the server shares, no new
    /// connection is made for it, since the server would refuse that as well.
    pub(crate) fn keep_pooled(&self, checkout: &mut CheckoutRequest) {
        let mode = self.lock().mode(checkout.key.server(), clock::now());
        (checkout.is_spread, checkout.is_kept_pooled) = (false, true);
        checkout.is_within |= mode == SharingMode::Share;
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

    /// A server has answered on a describe-only connection.
    pub(crate) fn on_describe_only_served(&self, name: &ServerId) {
        self.lock().server(name).has_served_describe_only = true;
    }

    /// Whether a server has answered on a describe-only connection, and has refused none since.
    pub(crate) fn has_served_describe_only(&self, name: &ServerId) -> bool {
        self.lock().server(name).has_served_describe_only
    }

    /// A DESCRIBE of the presentation was answered, or not in time.
    pub(crate) fn on_describe_over(&self, checkout: &CheckoutRequest, is_answered: bool) {
        let (now, uri) = (clock::now(), checkout.presentation());
        let mut state = self.lock();
        let unanswered = &mut state.server(checkout.key.server()).unanswered;
        match is_answered {
            true => unanswered.on_answered(&uri),
            false => unanswered.on_unanswered(now, &uri),
        }
    }

    /// Whether a DESCRIBE of the presentation may stay unanswered.
    pub(crate) fn is_doubtful(&self, checkout: &CheckoutRequest) -> bool {
        self.lock().is_doubtful(checkout, clock::now())
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
        let limit = self.patience(&driver.server);
        let connected = clock::within(self.runtime()?, limit, driver.connected()).await;
        let Ok(Ok(())) = connected else {
            tracing::info!("{}/-: no describe-only connection to be had", driver.id);
            self.on_describe_only_refused(driver);
            return Ok(None);
        };
        self.on_dialled(driver, key, &Ok(()));
        Ok(Some(handle))
    }
}

impl PoolState {
    pub(super) fn is_doubtful(&self, checkout: &CheckoutRequest, now: Instant) -> bool {
        let server = self.servers.get(checkout.key.server());
        checkout.is_doubtful
            || server
                .is_some_and(|server| server.unanswered.is_doubtful(now, &checkout.presentation()))
    }

    /// Whether the connection was there for descriptions alone: its end says nothing of sharing.
    pub(super) fn is_describe_only_without_sessions(&self, id: ConnectionId) -> bool {
        let entry = self.table.entry(id);
        self.table.is_describe_only(id) && entry.is_some_and(|entry| entry.set_up == 0)
    }
}
