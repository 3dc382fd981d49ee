//! One connection: what the pool keeps of it, and how it is made.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use super::{
    CheckoutRequest, ConnectionPool,
    accounts::{AccountId, AccountView, Accounts},
    server::Server,
    trials::Trial,
};
use crate::mux::{
    clock,
    config::Multiplex,
    driver::{DriverEvent, DriverEvents, DriverHandle, DriverParts, TlsClient},
    ids::ConnectionId,
    policy::{
        congestion::{CongestionWatch, Rebalance},
        odd_session::LossRecord,
        sharing::join_history::Joins,
    },
    proto::ConnectionConfig,
    server_key::ServerId,
    tls::TlsOptions,
};

const DEFAULT_USER_AGENT: &str = concat!("rtspmux/", env!("CARGO_PKG_VERSION"));

/// More than any recorder has at a time. A process that replaces certificates for years reaches it, and
/// then the pool forgets all clients: it loses their tickets, and with them a signature at each server.
const MOST_TLS_CLIENTS: usize = 64;

/// What the pool keeps of a connection, beside what the table counts.
#[derive(Debug)]
pub(super) struct ConnectionRecord {
    pub(super) driver: Arc<DriverHandle>,
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

/// Makes connections, from what is known of their servers.
pub(super) struct ConnectionMaker<'a> {
    pub(super) pool: &'a ConnectionPool,
    pub(super) now: Instant,
    pub(super) accounts: &'a mut Accounts,
    /// Their server.
    pub(super) known: &'a Server,
    pub(super) tls: &'a mut TlsClients,
    pub(super) digest_servers: &'a HashSet<ServerId>,
    /// The drivers that start when the lock is free.
    pub(super) plans: &'a mut Vec<DriverParts>,
}

impl ConnectionMaker<'_> {
    /// Everything a new connection needs; its driver starts when the lock is free.
    pub(super) fn make(
        &mut self,
        id: ConnectionId,
        checkout: &CheckoutRequest,
    ) -> ConnectionRecord {
        let server = checkout.key.server();
        let (driver, ends) = DriverHandle::new(id, server.clone());
        let credentials = checkout.key.credentials().cloned();
        let account = credentials.map(|credentials| (server.clone(), credentials));
        let config = self.config(id, account.as_ref(), checkout);
        self.plans.push(DriverParts {
            events: Box::new(Registration::new(self.pool.clone(), id)),
            handle: Arc::clone(&driver),
            ends,
            config,
            connect_timeout: checkout.options.connect_timeout,
            tls: checkout.key.tls().map(|options| self.tls.client(options)),
            network: self.pool.0.network.clone(),
        });
        let pooling = &checkout.options.pooling;
        ConnectionRecord {
            driver,
            trial: Trial::default(),
            joins: Joins::default(),
            congestion: CongestionWatch::default(),
            rebalance: None,
            losses: LossRecord::default(),
            account,
            is_listed: pooling.enable_connection_pooling,
            is_of_always: pooling.multiplex == Multiplex::Always,
        }
    }

    fn config(
        &mut self,
        id: ConnectionId,
        account: Option<&AccountId>,
        checkout: &CheckoutRequest,
    ) -> ConnectionConfig {
        let view = account.map_or_else(AccountView::default, |account| {
            self.accounts.join(self.now, account, id)
        });
        let (key, server) = (&checkout.key, checkout.key.server());
        let known = self.known;
        let mut timeouts = self.pool.0.timeouts;
        if let Some(silence) = checkout.options.silence_timeout {
            timeouts.silence_dead = silence;
            timeouts.silence_probe = silence / 2;
        }
        ConnectionConfig {
            credentials: key.credentials().cloned(),
            credential_status: view.status,
            challenges: view.challenges,
            closes_behind_401: view.closes_behind_401,
            user_agent: key.user_agent().unwrap_or(DEFAULT_USER_AGENT).to_owned(),
            realms: known.realms.clone(),
            refuse_basic: self.digest_servers.contains(server),
            keep_alive: known.keep_alive,
            is_serial: known.speed.is_serial,
            is_in_order: known.sharing.is_in_order(),
            describes_slowly: !known.is_quick_to_describe(),
            seed: clock::random_seed(),
            limits: self.pool.0.limits,
            timeouts,
        }
    }
}

/// The TLS clients of a pool: one for all connections with the same options, whatever their server.
#[derive(Debug, Default)]
pub(super) struct TlsClients(HashMap<TlsOptions, Arc<TlsClient>>);

impl TlsClients {
    /// The one for these options.
    pub(super) fn client(&mut self, options: &TlsOptions) -> Arc<TlsClient> {
        if let Some(client) = self.0.get(options) {
            return Arc::clone(client);
        }
        if self.0.len() >= MOST_TLS_CLIENTS {
            self.0.clear();
        }
        let client = Arc::new(TlsClient::new(options.clone()));
        self.0.insert(options.clone(), Arc::clone(&client));
        client
    }
}

/// What a driver reports to. Dropped with the driver, however that ends; then the pool forgets the
/// connection.
#[derive(Debug)]
struct Registration {
    pool: ConnectionPool,
    id: ConnectionId,
}

impl Registration {
    fn new(pool: ConnectionPool, id: ConnectionId) -> Self {
        pool.0.running.send_modify(|drivers| *drivers += 1);
        Self { pool, id }
    }
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
        self.pool.on_driver_ended(self.id);
        let running = &self.pool.0.running;
        running.send_modify(|drivers| *drivers = drivers.saturating_sub(1));
    }
}
