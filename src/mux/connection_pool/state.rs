//! What the pool's lock protects.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::oneshot};

use super::{
    Checkout, CheckoutRequest, CheckoutWaiter, ConnectionHandle, ConnectionPool,
    accounts::{AccountId, AccountView, Accounts},
    checkout::ServerView,
    descriptions::Descriptions,
    odd_session::FramingLosses,
    rebalance::Rebalance,
    redial::Redials,
    registration::Registration,
    server::Server,
    tls_clients::TlsClients,
    trials::Trial,
};
use crate::mux::{
    clock,
    config::Multiplex,
    driver::{self, Command, DriverHandle, Plan},
    error::Error,
    event::MuxEvent,
    ids::ConnectionId,
    policy::{
        congestion::CongestionWatch,
        join_history::Joins,
        placement::{Checkin, Placement, PlacementRequest, Purpose, Table, WaiterId},
        sharing::{Evidence, SharingMode, play_gate::SHORTEST_PATIENCE},
    },
    proto::{CloseReason, ConnectionConfig, HeadOfLine, Realms},
    server_key::{ConnectionKey, ServerId},
};

/// How long a server keeps sessions whose connection went without TEARDOWN: the session timeout
/// that nearly all of them have.
const GHOSTS_LIVE: Duration = Duration::from_secs(60);

type Answer = oneshot::Sender<Result<ConnectionHandle, Error>>;

#[derive(Debug)]
pub(super) struct Registered {
    pub(super) driver: Arc<DriverHandle>,
    pub(super) trial: Trial,
    pub(super) joins: Joins,
    pub(super) congestion: CongestionWatch,
    /// While it is congested.
    pub(super) rebalance: Option<Rebalance>,
    pub(super) losses: FramingLosses,
    pub(super) account: Option<AccountId>,
    pub(super) is_listed: bool,
    /// Made with `multiplex=always`, which comes back to it whatever the server can do.
    is_of_always: bool,
}

#[derive(Debug)]
struct WaitingCheckout {
    checkout: CheckoutRequest,
    answer: Answer,
}

/// What to do once the lock is free: starting a driver and handing out a handle may run code that
/// takes the lock again.
#[derive(Default)]
pub(super) struct DeferredWork {
    plans: Vec<Plan>,
    answers: Vec<(Answer, Result<ConnectionHandle, Error>)>,
    /// Servers with another verdict: who waits there may get something else now.
    pub(super) judged: Vec<ServerId>,
    /// What is to be told.
    pub(super) events: Vec<MuxEvent>,
    /// Something is known that is worth remembering.
    pub(super) has_learned: bool,
}

impl DeferredWork {
    pub(super) fn run(self, runtime: &Handle) {
        for plan in self.plans {
            driver::start(runtime, plan);
        }
        for (waiter, answer) in self.answers {
            // If the waiter went away meanwhile, its handle comes back and is dropped: a checkin.
            let _ = waiter.send(answer);
        }
    }
}

/// Connections, waiters, credentials and verdicts of all servers.
///
/// Invariant: a connection is in `table` and in `registered` from its placement until its driver
/// ends; a waiter is in `table` and in `waiters` until it is served or gives up.
#[derive(Debug)]
pub(super) struct State {
    pub(super) table: Table<ServerId, ConnectionKey>,
    pub(super) registered: BTreeMap<ConnectionId, Registered>,
    waiters: BTreeMap<WaiterId, WaitingCheckout>,
    pub(super) accounts: Accounts,
    pub(super) servers: HashMap<ServerId, Server>,
    pub(super) last_intent: u64,
    pub(super) descriptions: Descriptions,
    pub(super) redials: Redials,
    tls: TlsClients,
    /// Seen to know Digest: never sent a password in clear text again.
    digest_servers: HashSet<ServerId>,
    is_shut_down: bool,
}

impl State {
    pub(super) fn new(has_own_network: bool) -> Self {
        Self {
            table: Table::new(),
            registered: BTreeMap::new(),
            waiters: BTreeMap::new(),
            accounts: Accounts::new(has_own_network),
            servers: HashMap::new(),
            last_intent: 0,
            descriptions: Descriptions::default(),
            redials: Redials::default(),
            tls: TlsClients::default(),
            digest_servers: HashSet::new(),
            is_shut_down: false,
        }
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.is_shut_down
    }

    /// A caller has come.
    pub(super) fn place(
        &mut self,
        pool: &ConnectionPool,
        checkout: CheckoutRequest,
        deferred: &mut DeferredWork,
    ) -> Result<Checkout, Error> {
        let now = clock::now();
        let objection = self.objection(checkout.key.server(), now);
        let demand = self.demand(&checkout, now);
        let is_aside = self.table.is_put_aside(&demand);
        match self.table.checkout(&demand) {
            Placement::Refused => Err(checkout.refusal(objection)),
            Placement::Wait { close } => {
                self.close(close);
                self.enqueue(pool, demand, checkout, objection)
            }
            placement => {
                let handle = self.hand_out(pool, placement, &checkout, now, deferred);
                let mut handle = handle.ok_or_else(Error::driver_died)?;
                if is_aside {
                    handle.set_aside();
                }
                Ok(Checkout::Now(handle))
            }
        }
    }

    /// What a placement at `server` goes by.
    pub(super) fn known(&self, name: &ServerId, now: Instant) -> ServerView {
        let Some(server) = self.servers.get(name) else {
            return ServerView::default();
        };
        let of_server = self
            .registered
            .iter()
            .filter(|(_, r)| r.driver.server == *name);
        let is_in_order = server.sharing.is_in_order();
        let describe_patience = server.describe_patience();
        let busy = of_server.filter(|(_, registered)| {
            let is_long = |head: HeadOfLine| {
                let patience = match head.is_describe && !is_in_order {
                    true => describe_patience,
                    false => SHORTEST_PATIENCE,
                };
                now >= head.since + patience
            };
            registered.driver.congestion().is_some()
                || registered.losses.is_connection_to_blame(now)
                || registered.driver.backlog().head.is_some_and(is_long)
        });
        let mode = server.sharing.mode(now);
        ServerView {
            mode,
            cap: server.sharing.session_cap(now),
            batch: server.speed.batch(),
            describes_in_band: server.sharing.describes_in_band(),
            is_in_order: server.sharing.is_in_order(),
            may_describe_only: server.may_describe_only(now),
            busy: busy.map(|(id, _)| *id).collect(),
            not_yet_free: self.not_yet_free(mode, name),
        }
    }

    /// What the table has to know of a wish.
    pub(super) fn demand(
        &self,
        checkout: &CheckoutRequest,
        now: Instant,
    ) -> PlacementRequest<ServerId, ConnectionKey> {
        let (is_proven, is_doubtful) = (self.is_proven(checkout), self.is_doubtful(checkout, now));
        checkout.demand(
            &self.known(checkout.key.server(), now),
            is_proven,
            is_doubtful,
        )
    }

    /// Whether what is wished for was played before.
    fn is_proven(&self, checkout: &CheckoutRequest) -> bool {
        self.descriptions
            .has(&checkout.key, &checkout.presentation())
    }

    /// What nobody is to get who shares no connection.
    fn not_yet_free(&self, mode: SharingMode, server: &ServerId) -> Vec<ConnectionId> {
        match mode {
            SharingMode::Share | SharingMode::TryInBand => Vec::new(),
            SharingMode::Try | SharingMode::Apart(_) => self.still_leaving(server),
        }
    }

    /// Idle connections whose TEARDOWN is not answered: a server that keeps one session on each may
    /// never answer it, nor anything else (go2rtc).
    fn still_leaving(&self, server: &ServerId) -> Vec<ConnectionId> {
        let is_leaving = |(id, registered): &(&ConnectionId, &Registered)| {
            let is_idle = self.table.entry(**id).is_some_and(|e| e.references == 0);
            registered.driver.server == *server
                && is_idle
                && registered.driver.counters.sessions.get() > 0
        };
        let leaving = self.registered.iter().filter(is_leaving);
        leaving.map(|(id, _)| *id).collect()
    }

    fn enqueue(
        &mut self,
        pool: &ConnectionPool,
        demand: PlacementRequest<ServerId, ConnectionKey>,
        checkout: CheckoutRequest,
        objection: Option<Evidence>,
    ) -> Result<Checkout, Error> {
        let refusal = checkout.refusal(objection);
        let Some(waiter) = self.table.enqueue(demand) else {
            return Err(refusal);
        };
        let (sender, answer) = oneshot::channel();
        self.waiters.insert(
            waiter,
            WaitingCheckout {
                checkout,
                answer: sender,
            },
        );
        Ok(Checkout::Later(CheckoutWaiter {
            pool: pool.clone(),
            waiter,
            answer,
            refusal,
        }))
    }

    /// Makes a handle of a placement whose reference the table has counted.
    fn hand_out(
        &mut self,
        pool: &ConnectionPool,
        placement: Placement,
        checkout: &CheckoutRequest,
        now: Instant,
        deferred: &mut DeferredWork,
    ) -> Option<ConnectionHandle> {
        let mut handle = match placement {
            Placement::Existing(id) => {
                let is_first = self.table.entry(id)?.references == 1;
                let registered = self.registered.get_mut(&id)?;
                let driver = Arc::clone(&registered.driver);
                if is_first {
                    registered.trial.begin_again();
                    registered.joins = Joins::default();
                    driver.on_reused();
                }
                self.update_gauges(&driver.server);
                ConnectionHandle::existing(pool.clone(), driver, checkout)
            }
            Placement::Connect(id) => self.register(pool, id, checkout, now, deferred),
            Placement::Wait { .. } | Placement::Refused => return None,
        };
        let entry = self.table.entry(handle.driver().id);
        if entry.is_some_and(|entry| entry.purpose == Purpose::Aside) {
            handle.set_describe_only();
        }
        Some(handle)
    }

    /// Everything a new connection needs; its driver starts when the lock is free.
    fn register(
        &mut self,
        pool: &ConnectionPool,
        id: ConnectionId,
        checkout: &CheckoutRequest,
        now: Instant,
        deferred: &mut DeferredWork,
    ) -> ConnectionHandle {
        let server = checkout.key.server().clone();
        let (driver, ends) = DriverHandle::new(id, server.clone());
        let credentials = checkout.key.credentials().cloned();
        let account = credentials.map(|credentials| (server.clone(), credentials));
        let view = account
            .as_ref()
            .map_or_else(AccountView::default, |account| {
                self.accounts.join(now, account, id)
            });
        let refuse_basic = self.digest_servers.contains(&server);
        let known = self.servers.get(&server);
        let realms = known.map_or_else(Realms::default, |known| known.realms.clone());
        let is_serial = known.is_some_and(|known| known.speed.is_serial);
        let is_in_order = known.is_some_and(|known| known.sharing.is_in_order());
        let describes_slowly = !known.is_some_and(Server::is_quick_to_describe);
        let is_listed = checkout.options.pooling.enable_connection_pooling;
        self.registered.insert(
            id,
            Registered {
                driver: Arc::clone(&driver),
                trial: Trial::default(),
                joins: Joins::default(),
                congestion: CongestionWatch::default(),
                rebalance: None,
                losses: FramingLosses::default(),
                account,
                is_listed,
                is_of_always: checkout.options.pooling.multiplex == Multiplex::Always,
            },
        );
        self.update_gauges(&server);
        deferred.plans.push(Plan {
            events: Box::new(Registration::new(pool.clone(), id)),
            handle: Arc::clone(&driver),
            ends,
            config: ConnectionConfig {
                credential_status: view.status,
                challenges: view.challenges,
                closes_behind_401: view.closes_behind_401,
                realms,
                refuse_basic,
                is_serial,
                is_in_order,
                describes_slowly,
                ..checkout.connection_config(pool.0.limits, pool.0.timeouts)
            },
            connect_timeout: checkout.options.connect_timeout,
            tls: checkout.key.tls().map(|options| self.tls.client(options)),
            network: pool.0.network.clone(),
        });
        ConnectionHandle::founding(pool.clone(), driver, checkout)
    }

    /// A reference came back.
    pub(super) fn checkin(
        &mut self,
        pool: &ConnectionPool,
        handle: &ConnectionHandle,
        deferred: &mut DeferredWork,
    ) {
        let (id, idle_timeout) = (handle.driver().id, handle.idle_timeout());
        if handle.mark_described() {
            self.table.on_described(id);
        }
        if handle.is_set_up() {
            self.table.on_set_up(id, false);
        }
        let outcome = self.checkin_reference(id);
        let Some(registered) = self.registered.get(&id) else {
            return;
        };
        let driver = Arc::clone(&registered.driver);
        match outcome {
            Checkin::Nothing => {}
            Checkin::Idle => _ = driver.send(Command::SetIdle(Some(idle_timeout))),
            Checkin::Finished => _ = driver.send(Command::SetIdle(Some(Duration::ZERO))),
        }
        self.serve(pool, &driver.server, deferred);
        self.update_gauges(&driver.server);
    }

    fn checkin_reference(&mut self, id: ConnectionId) -> Checkin {
        let outcome = self.table.checkin(id);
        let Some(server) = self.server_of(id).filter(|_| outcome == Checkin::Idle) else {
            return outcome;
        };
        // Nobody would get it: sessions of a server that cannot share have their own.
        if self.objection(&server, clock::now()).is_some() && !self.is_of_always(id) {
            self.table.on_no_more_sessions(id);
            return Checkin::Finished;
        }
        outcome
    }

    fn is_of_always(&self, id: ConnectionId) -> bool {
        self.registered
            .get(&id)
            .is_some_and(|registered| registered.is_of_always)
    }

    /// A waiter gave up, which may let those behind it through.
    pub(super) fn stop_waiting(
        &mut self,
        pool: &ConnectionPool,
        waiter: WaiterId,
        deferred: &mut DeferredWork,
    ) {
        self.table.stop_waiting(waiter);
        if let Some(waiter) = self.waiters.remove(&waiter) {
            self.serve(pool, waiter.checkout.key.server(), deferred);
        }
    }

    /// Gives waiters of `server` what there is for them.
    pub(super) fn serve(
        &mut self,
        pool: &ConnectionPool,
        server: &ServerId,
        deferred: &mut DeferredWork,
    ) {
        let now = clock::now();
        self.refresh_waiting(server, now);
        for (id, placement) in self.table.serve(server) {
            if let Placement::Wait { close } = placement {
                self.close(close);
                continue;
            }
            let Some(waiter) = self.waiters.remove(&id) else {
                continue;
            };
            let handle = self.hand_out(pool, placement, &waiter.checkout, now, deferred);
            let answer = handle.ok_or_else(|| waiter.checkout.refusal(None));
            deferred.answers.push((waiter.answer, answer));
        }
    }

    /// What is known has changed while they waited.
    fn refresh_waiting(&mut self, server: &ServerId, now: Instant) {
        if self.table.waiting_for(server) == 0 {
            return;
        }
        let known = self.known(server, now);
        let waiters = self.waiters.iter();
        for (id, waiter) in waiters.filter(|(_, it)| it.checkout.key.server() == server) {
            let (is_proven, is_doubtful) = (
                self.is_proven(&waiter.checkout),
                self.is_doubtful(&waiter.checkout, now),
            );
            let demand = waiter.checkout.demand(&known, is_proven, is_doubtful);
            self.table.refresh_waiting(*id, demand);
        }
    }

    fn close(&self, id: Option<ConnectionId>) {
        if let Some(registered) = id.and_then(|id| self.registered.get(&id)) {
            registered.driver.send(Command::Close);
        }
    }

    pub(super) fn on_connected(&mut self, id: ConnectionId) {
        self.table.on_connected(id);
    }

    pub(super) fn try_retire(&mut self, id: ConnectionId) -> bool {
        self.table.try_retire(id)
    }

    pub(super) fn on_no_more_sessions(
        &mut self,
        pool: &ConnectionPool,
        id: ConnectionId,
        deferred: &mut DeferredWork,
    ) {
        self.table.on_no_more_sessions(id);
        if let Some(server) = self.server_of(id) {
            self.serve(pool, &server, deferred);
        }
    }

    pub(super) fn server_of(&self, id: ConnectionId) -> Option<ServerId> {
        self.registered
            .get(&id)
            .map(|registered| registered.driver.server.clone())
    }

    /// The connection's driver has ended.
    pub(super) fn forget(
        &mut self,
        pool: &ConnectionPool,
        id: ConnectionId,
        deferred: &mut DeferredWork,
    ) {
        let now = clock::now();
        self.leave_account(now, id);
        let driver = self
            .registered
            .get(&id)
            .map(|registered| &registered.driver);
        if let Some(CloseReason::PeerClosed | CloseReason::Io(_)) =
            driver.map(|driver| driver.close_reason())
            && !self.is_without_sessions_aside(id)
        {
            self.on_death(id, now, deferred);
        }
        let set_up = self.table.entry(id).map_or(0, |entry| entry.set_up);
        let entry = self.table.remove(id);
        let Some(Registered { driver, joins, .. }) = self.registered.remove(&id) else {
            return;
        };
        let sessions = joins.sessions(set_up);
        // Closed behind a 401 it is no loss: the challenge is answered on the next one.
        if sessions > 1 && driver.close_reason() != CloseReason::Challenged {
            let suspect = joins.suspect(now);
            self.redials
                .on_broken(now, &driver.server, sessions, suspect);
        }
        self.measure(&driver, deferred);
        if entry.is_some_and(|entry| entry.set_up > 0) {
            let server = self.server(&driver.server);
            server.sharing.on_unclean_end(now, GHOSTS_LIVE);
        }
        if self.table.connections_to(&driver.server) == 0
            && self.servers.get(&driver.server).is_some_and(|server| {
                server.intents.is_empty()
                    && !server.is_watched()
                    && server.sharing.is_forgettable(now)
            })
        {
            self.servers.remove(&driver.server);
        }
        self.serve(pool, &driver.server, deferred);
        self.update_gauges(&driver.server);
    }

    /// How long a DESCRIBE has just taken, for those that wait to be described.
    pub(super) fn measure_describe(&mut self, driver: &DriverHandle) {
        let server = self.server(&driver.server);
        if let Some(took) = driver.server_info().measures.lone_describe
            && !server.sharing.is_in_order()
        {
            server.speed.on_described(took);
        }
    }

    /// Takes over what a connection has measured. Of a server that nobody knows there is nothing to
    /// keep.
    pub(super) fn measure(&mut self, driver: &DriverHandle, deferred: &mut DeferredWork) {
        let Some(server) = self.servers.get_mut(&driver.server) else {
            return;
        };
        let (before, server_info) = (server.speed, driver.server_info());
        let speed = &mut server.speed;
        speed.on_measured(server_info.connect_time, server_info.measures);
        if let Some(took) = server_info.measures.lone_describe
            && !server.sharing.is_in_order()
        {
            speed.on_described(took);
        }
        speed.is_serial |= server_info.is_serial;
        // Not every microsecond is.
        deferred.has_learned |=
            (before.batch(), before.is_serial) != (speed.batch(), speed.is_serial);
    }

    pub(super) fn on_digest_seen(&mut self, id: ConnectionId) {
        if let Some(server) = self.server_of(id) {
            self.digest_servers.insert(server);
        }
    }

    fn objection(&self, server: &ServerId, now: Instant) -> Option<Evidence> {
        self.servers
            .get(server)
            .and_then(|server| server.sharing.objection(now))
    }

    pub(super) fn links(&self) -> Vec<Arc<DriverHandle>> {
        self.registered
            .values()
            .map(|registered| Arc::clone(&registered.driver))
            .collect()
    }

    /// Nobody gets a connection any more, and those there are close.
    pub(super) fn shut_down(&mut self, deferred: &mut DeferredWork) {
        self.is_shut_down = true;
        for (id, waiter) in std::mem::take(&mut self.waiters) {
            self.table.stop_waiting(id);
            deferred
                .answers
                .push((waiter.answer, Err(Error::shut_down())));
        }
        for (id, registered) in &self.registered {
            self.table.retire(*id);
            registered.driver.send(Command::Close);
        }
    }
}
