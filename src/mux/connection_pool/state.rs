//! What the pool's lock protects.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::oneshot};

use super::{
    Checkout, CheckoutRequest, CheckoutWaiter, ConnectionHandle, ConnectionPool,
    accounts::Accounts,
    checkout::ServerView,
    connection::{ConnectionMaker, ConnectionRecord, TlsClients},
    descriptions::Descriptions,
    redial::Redials,
    server::Server,
};
use crate::mux::{
    clock,
    driver::{self, Command, DriverHandle, DriverParts},
    error::Error,
    event::MuxEvent,
    ids::ConnectionId,
    policy::{
        join_history::Joins,
        placement::{Checkin, Placement, PlacementRequest, Served, Table, TableEntry, WaiterId},
        sharing::{Evidence, SharingMode, play_gate::SHORTEST_PATIENCE},
    },
    proto::{CloseReason, HeadOfLine},
    server_key::{ConnectionKey, ServerId},
};

/// How long a server keeps sessions whose connection ended without TEARDOWN: the session timeout of
/// nearly all servers.
const GHOSTS_LIVE: Duration = Duration::from_secs(60);

/// One connection, as the table holds it.
pub(super) type ConnectionEntry = TableEntry<ServerId, ConnectionKey, ConnectionRecord>;

/// The connections of a pool and the callers that wait for one.
pub(super) type Connections = Table<ServerId, ConnectionKey, ConnectionRecord, WaitingCheckout>;

type Answer = oneshot::Sender<Result<ConnectionHandle, Error>>;

/// A caller that waits for a connection.
#[derive(Debug)]
pub(super) struct WaitingCheckout {
    checkout: CheckoutRequest,
    answer: Answer,
}

/// What to do once the lock is free: starting a driver and handing out a handle may run code that
/// takes the lock again.
#[derive(Default)]
pub(super) struct DeferredWork {
    plans: Vec<DriverParts>,
    answers: Vec<(Answer, Result<ConnectionHandle, Error>)>,
    /// Servers whose verdict has changed: callers that wait for one may get another connection now.
    pub(super) judged: Vec<ServerId>,
    /// Events that are to be sent.
    pub(super) events: Vec<MuxEvent>,
    /// The pool has learned something that belongs in the state file.
    pub(super) has_learned: bool,
}

impl DeferredWork {
    pub(super) fn run(self, runtime: &Handle) {
        for plan in self.plans {
            driver::start(runtime, plan);
        }
        for (waiter, answer) in self.answers {
            // If the caller has stopped waiting meanwhile, the handle comes back and is dropped: a
            // checkin.
            let _ = waiter.send(answer);
        }
    }
}

/// Connections, waiting callers, credentials and verdicts of all servers. A connection is in `table`
/// from its placement until its driver ends; a caller until it is served or gives up.
#[derive(Debug)]
pub(super) struct PoolState {
    pub(super) table: Connections,
    pub(super) accounts: Accounts,
    pub(super) servers: HashMap<ServerId, Server>,
    pub(super) last_intent: u64,
    pub(super) descriptions: Descriptions,
    pub(super) redials: Redials,
    tls: TlsClients,
    /// Servers that were seen to know Digest: no connection sends them a password in clear text
    /// again.
    pub(super) digest_servers: HashSet<ServerId>,
    pub(super) is_shut_down: bool,
}

impl PoolState {
    pub(super) fn new(has_own_network: bool) -> Self {
        Self {
            table: Table::new(),
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

    /// A caller asks for a connection.
    pub(super) fn place(
        &mut self,
        pool: &ConnectionPool,
        checkout: CheckoutRequest,
        deferred: &mut DeferredWork,
    ) -> Result<Checkout, Error> {
        let now = clock::now();
        let objection = self.objection(checkout.key.server(), now);
        let request = self.placement_request(&checkout, now);
        let is_aside = self.table.is_kept_from_playing(&request);
        let (table, mut maker) = self.maker(pool, now, deferred);
        match table.checkout(&request, |id| maker.make(id, &checkout)) {
            Placement::Refused => Err(checkout.refusal(objection)),
            Placement::Wait { close } => {
                if let Some(id) = close {
                    self.close(id);
                }
                self.enqueue(pool, request, checkout, objection)
            }
            placement => {
                let handle = self.hand_out(pool, placement, &checkout);
                let mut handle = handle.ok_or_else(Error::driver_died)?;
                if is_aside {
                    handle.set_aside();
                }
                Ok(Checkout::Now(handle))
            }
        }
    }

    /// What the pool knows of the server when it places a session there.
    pub(super) fn known(&self, name: &ServerId, now: Instant) -> ServerView {
        let Some(server) = self.servers.get(name) else {
            return ServerView::default();
        };
        let is_in_order = server.sharing.is_in_order();
        let describe_patience = server.describe_patience();
        let busy = self.table.entries_of(name).filter(|(_, entry)| {
            let record = &entry.record;
            let is_long = |head: HeadOfLine| {
                let patience = match head.is_describe && !is_in_order {
                    true => describe_patience,
                    false => SHORTEST_PATIENCE,
                };
                now >= head.since + patience
            };
            record.driver.congestion().is_some()
                || record.losses.is_connection_to_blame(now)
                || record.driver.backlog().head.is_some_and(is_long)
        });
        let mode = server.sharing.mode(now);
        ServerView {
            mode,
            cap: server.sharing.session_cap(now),
            batch: server.speed.batch(),
            describes_in_band: server.sharing.describes_in_band(),
            is_in_order: server.sharing.is_in_order(),
            may_describe_only: server.may_describe_only(now),
            busy: busy.map(|(id, _)| id).collect(),
            not_yet_free: match mode {
                SharingMode::Share | SharingMode::TryInBand => Vec::new(),
                SharingMode::Try | SharingMode::Apart(_) => self.still_leaving(name),
            },
        }
    }

    /// What the table has to know of a checkout.
    pub(super) fn placement_request(
        &self,
        checkout: &CheckoutRequest,
        now: Instant,
    ) -> PlacementRequest<ServerId, ConnectionKey> {
        let known = self.known(checkout.key.server(), now);
        self.placement_request_at(checkout, &known, now)
    }

    fn placement_request_at(
        &self,
        checkout: &CheckoutRequest,
        known: &ServerView,
        now: Instant,
    ) -> PlacementRequest<ServerId, ConnectionKey> {
        let is_proven = self
            .descriptions
            .has(&checkout.key, &checkout.presentation());
        let is_doubtful = self.is_doubtful(checkout, now);
        checkout.placement_request(known, is_proven, is_doubtful)
    }

    /// Idle connections whose TEARDOWN is not answered: a server that keeps one session on each may
    /// never answer it, nor anything else (go2rtc).
    fn still_leaving(&self, server: &ServerId) -> Vec<ConnectionId> {
        let leaving = self
            .table
            .entries_of(server)
            .filter(|(_, e)| e.references == 0 && e.record.driver.counters.sessions.get() > 0);
        leaving.map(|(id, _)| id).collect()
    }

    fn enqueue(
        &mut self,
        pool: &ConnectionPool,
        request: PlacementRequest<ServerId, ConnectionKey>,
        checkout: CheckoutRequest,
        objection: Option<Evidence>,
    ) -> Result<Checkout, Error> {
        let refusal = checkout.refusal(objection);
        let (sender, answer) = oneshot::channel();
        let caller = WaitingCheckout {
            checkout,
            answer: sender,
        };
        let Some(waiter) = self.table.enqueue(request, caller) else {
            return Err(refusal);
        };
        Ok(Checkout::Later(CheckoutWaiter {
            pool: pool.clone(),
            waiter,
            answer,
            refusal,
        }))
    }

    /// The table, and what makes the connections that are added to it.
    fn maker<'a>(
        &'a mut self,
        pool: &'a ConnectionPool,
        now: Instant,
        deferred: &'a mut DeferredWork,
    ) -> (&'a mut Connections, ConnectionMaker<'a>) {
        let maker = ConnectionMaker {
            pool,
            now,
            accounts: &mut self.accounts,
            servers: &self.servers,
            tls: &mut self.tls,
            digest_servers: &self.digest_servers,
            plans: &mut deferred.plans,
        };
        (&mut self.table, maker)
    }

    /// Makes a handle of a placement whose reference the table has counted.
    fn hand_out(
        &mut self,
        pool: &ConnectionPool,
        placement: Placement,
        checkout: &CheckoutRequest,
    ) -> Option<ConnectionHandle> {
        let (Placement::Existing(id) | Placement::Connect(id)) = placement else {
            return None;
        };
        let is_first = self.table.entry(id)?.references == 1;
        let record = self.table.record_mut(id)?;
        let driver = Arc::clone(&record.driver);
        let mut handle = match placement {
            Placement::Connect(_) => ConnectionHandle::founding(pool.clone(), driver, checkout),
            _ => {
                if is_first {
                    record.trial.begin_again();
                    record.joins = Joins::default();
                    driver.on_reused();
                }
                ConnectionHandle::existing(pool.clone(), driver, checkout)
            }
        };
        self.update_gauges(&handle.driver().server);
        if self.table.is_describe_only(id) {
            handle.set_describe_only();
        }
        Some(handle)
    }

    /// A session gives its reference back.
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
        let Some(entry) = self.table.entry(id) else {
            return;
        };
        let driver = Arc::clone(&entry.record.driver);
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
        let Some(entry) = self.table.entry(id).filter(|_| outcome == Checkin::Idle) else {
            return outcome;
        };
        // No session would get it: sessions of a server that cannot share have their own.
        if self.objection(&entry.server, clock::now()).is_some() && !entry.record.is_of_always {
            self.table.on_no_more_sessions(id);
            return Checkin::Finished;
        }
        outcome
    }

    /// A caller stops waiting, so that those behind it may be served.
    pub(super) fn stop_waiting(
        &mut self,
        pool: &ConnectionPool,
        waiter: WaiterId,
        deferred: &mut DeferredWork,
    ) {
        if let Some(server) = self.table.stop_waiting(waiter) {
            self.serve(pool, &server, deferred);
        }
    }

    /// Serves the callers that wait for `server`.
    pub(super) fn serve(
        &mut self,
        pool: &ConnectionPool,
        server: &ServerId,
        deferred: &mut DeferredWork,
    ) {
        let now = clock::now();
        self.refresh_waiting(server, now);
        let (table, mut maker) = self.maker(pool, now, deferred);
        for served in table.serve(server, |id, waiting| maker.make(id, &waiting.checkout)) {
            match served {
                Served::Close(id) => self.close(id),
                Served::Caller(WaitingCheckout { checkout, answer }, placement) => {
                    let handle = self.hand_out(pool, placement, &checkout);
                    let outcome = handle.ok_or_else(|| checkout.refusal(None));
                    deferred.answers.push((answer, outcome));
                }
            }
        }
    }

    /// What the pool knows of the server may have changed while these callers waited.
    fn refresh_waiting(&mut self, server: &ServerId, now: Instant) {
        if self.table.waiting_for(server) == 0 {
            return;
        }
        let known = self.known(server, now);
        let waiting = self.table.waiting(server);
        let requests =
            waiting.map(|waiting| self.placement_request_at(&waiting.checkout, &known, now));
        let requests = requests.collect();
        self.table.refresh_waiting(server, requests);
    }

    fn close(&self, id: ConnectionId) {
        if let Some(entry) = self.table.entry(id) {
            entry.record.driver.send(Command::Close);
        }
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
        let driver = self.table.entry(id).map(|entry| &entry.record.driver);
        if let Some(CloseReason::PeerClosed | CloseReason::Io(_)) =
            driver.map(|driver| driver.close_reason())
            && !self.is_describe_only_without_sessions(id)
        {
            let newest = self.table.newest();
            self.on_broken(id, now, deferred, |sharing, sessions, joins| {
                sharing.on_death(now, sessions, joins, newest);
            });
        }
        let Some(entry) = self.table.remove(id) else {
            return;
        };
        let ConnectionRecord { driver, joins, .. } = entry.record;
        let sessions = joins.sessions(entry.set_up);
        // A connection that the server closed behind a 401 is no loss: the session answers the
        // challenge on the next connection.
        if sessions > 1 && driver.close_reason() != CloseReason::Challenged {
            let suspect = joins.suspect(now);
            let queue = self.redials.queue(now, &driver.server);
            queue.redial.on_broken(now, sessions, suspect);
        }
        self.measure(&driver, deferred);
        if entry.set_up > 0 {
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

    /// Takes over what a connection has measured, unless the server has been forgotten.
    pub(super) fn measure(&mut self, driver: &DriverHandle, deferred: &mut DeferredWork) {
        let Some(server) = self.servers.get_mut(&driver.server) else {
            return;
        };
        let (before, server_info) = (server.speed, driver.server_info());
        let (connect_time, measures) = (server_info.connect_time, server_info.measures);
        server.speed.on_measured(connect_time, measures);
        server.on_lone_describe(&measures);
        let speed = &mut server.speed;
        speed.is_serial |= server_info.is_serial;
        // A new round trip time alone is not worth a write.
        deferred.has_learned |=
            (before.batch(), before.is_serial) != (speed.batch(), speed.is_serial);
    }

    fn objection(&self, server: &ServerId, now: Instant) -> Option<Evidence> {
        self.servers
            .get(server)
            .and_then(|server| server.sharing.objection(now))
    }

    pub(super) fn links(&self) -> Vec<Arc<DriverHandle>> {
        let entries = self.table.entries();
        entries
            .map(|(_, entry)| Arc::clone(&entry.record.driver))
            .collect()
    }

    /// No caller gets a connection any more, and all connections close.
    pub(super) fn shut_down(&mut self, deferred: &mut DeferredWork) {
        self.is_shut_down = true;
        let waiting = self.table.stop_all_waiting();
        let answers = waiting.map(|waiting| (waiting.answer, Err(Error::shut_down())));
        deferred.answers.extend(answers);
        for driver in self.links() {
            self.table.retire(driver.id);
            driver.send(Command::Close);
        }
    }
}
