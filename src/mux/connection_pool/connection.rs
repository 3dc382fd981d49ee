//! One connection: what the pool keeps of it, and what its driver reports to.

use std::{collections::HashMap, sync::Arc};

use super::{CheckoutRequest, ConnectionPool, accounts::AccountId, trials::Trial};
use crate::mux::{
    config::Multiplex,
    driver::{DriverEnds, DriverEvent, DriverEvents, DriverHandle, TlsClient},
    ids::ConnectionId,
    policy::{
        congestion::{CongestionWatch, Rebalance},
        odd_session::LossRecord,
        sharing::join_history::Joins,
    },
    tls::TlsOptions,
};

/// More than any recorder has at a time. A process that replaces certificates for years reaches it, and
/// then the pool forgets all clients: it loses their tickets, and with them a signature at each server.
const MOST_TLS_CLIENTS: usize = 64;

/// What the pool keeps of a connection, beside what the table counts.
#[derive(Debug)]
pub(super) struct ConnectionRecord {
    pub(super) driver: Arc<DriverHandle>,
    /// The driver's, until it is to start.
    pub(super) ends: Option<DriverEnds>,
    pub(super) trial: Trial,
    pub(super) joins: Joins,
    pub(super) congestion: CongestionWatch,
    /// Set while the connection is congested.
    pub(super) rebalance: Option<Rebalance>,
    pub(super) losses: LossRecord,
    pub(super) account: Option<AccountId>,
    /// The connection appears in the statistics.
    pub(super) is_listed: bool,
    /// Made with `multiplex=always`: its sessions come back to it whatever the server can do.
    pub(super) is_of_always: bool,
}

impl ConnectionRecord {
    /// A connection that is to be dialled for `checkout`.
    pub(super) fn new(id: ConnectionId, checkout: &CheckoutRequest) -> Self {
        let server = checkout.key.server();
        let (driver, ends) = DriverHandle::new(id, server.clone());
        let credentials = checkout.key.credentials.clone();
        let pooling = &checkout.options.pooling;
        Self {
            driver,
            ends: Some(ends),
            trial: Trial::default(),
            joins: Joins::default(),
            congestion: CongestionWatch::default(),
            rebalance: None,
            losses: LossRecord::default(),
            account: credentials.map(|credentials| (server.clone(), credentials)),
            is_listed: pooling.enable_connection_pooling,
            is_of_always: pooling.multiplex == Multiplex::Always,
        }
    }
}

/// The TLS clients of a pool: one for all connections with the same options, whatever their server.
#[derive(Debug, Default)]
pub(super) struct TlsClients(HashMap<TlsOptions, Arc<TlsClient>>);

impl TlsClients {
    /// The one for these options.
    pub(super) fn client(&mut self, options: &TlsOptions) -> Arc<TlsClient> {
        if options.has_decisions() {
            // It keeps no tickets, and would keep what the application has in its decisions.
            return Arc::new(TlsClient::new(options.clone()));
        }
        if self.0.len() >= MOST_TLS_CLIENTS && !self.0.contains_key(options) {
            self.0.clear();
        }
        let make = || Arc::new(TlsClient::new(options.clone()));
        Arc::clone(self.0.entry(options.clone()).or_insert_with(make))
    }
}

/// What a driver reports to. Dropped with the driver, however that ends; then the pool forgets the
/// connection.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) pool: ConnectionPool,
    pub(super) id: ConnectionId,
}

impl DriverEvents for Registration {
    fn handle(&self, event: DriverEvent) {
        self.pool.on_driver_event(self.id, event);
    }

    fn try_retire(&self) -> bool {
        self.pool.lock().table.try_retire(self.id)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.pool.change(|state| state.forget(self.id));
        let running = &self.pool.0.running;
        running.send_modify(|drivers| *drivers = drivers.saturating_sub(1));
    }
}
