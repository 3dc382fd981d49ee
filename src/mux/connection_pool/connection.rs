//! What the pool keeps of one connection, and how a connection is made.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use super::{
    CheckoutRequest, ConnectionPool,
    accounts::{AccountId, AccountView, Accounts},
    odd_session::FramingLosses,
    rebalance::Rebalance,
    registration::Registration,
    server::Server,
    tls_clients::TlsClients,
    trials::Trial,
};
use crate::mux::{
    config::Multiplex,
    driver::{DriverHandle, Plan},
    ids::ConnectionId,
    policy::{congestion::CongestionWatch, join_history::Joins},
    proto::{ConnectionConfig, Realms},
    server_key::ServerId,
};

/// What the pool keeps of a connection, beside what the table counts.
#[derive(Debug)]
pub(super) struct ConnectionRecord {
    pub(super) driver: Arc<DriverHandle>,
    pub(super) trial: Trial,
    pub(super) joins: Joins,
    pub(super) congestion: CongestionWatch,
    /// While it is congested.
    pub(super) rebalance: Option<Rebalance>,
    pub(super) losses: FramingLosses,
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
    pub(super) servers: &'a HashMap<ServerId, Server>,
    pub(super) tls: &'a mut TlsClients,
    pub(super) digest_servers: &'a HashSet<ServerId>,
    /// The drivers that start when the lock is free.
    pub(super) plans: &'a mut Vec<Plan>,
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
        self.plans.push(Plan {
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
            losses: FramingLosses::default(),
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
        let server = checkout.key.server();
        let known = self.servers.get(server);
        ConnectionConfig {
            credential_status: view.status,
            challenges: view.challenges,
            closes_behind_401: view.closes_behind_401,
            realms: known.map_or_else(Realms::default, |known| known.realms.clone()),
            refuse_basic: self.digest_servers.contains(server),
            is_serial: known.is_some_and(|known| known.speed.is_serial),
            is_in_order: known.is_some_and(|known| known.sharing.is_in_order()),
            describes_slowly: !known.is_some_and(Server::is_quick_to_describe),
            ..checkout.connection_config(self.pool.0.limits, self.pool.0.timeouts)
        }
    }
}
