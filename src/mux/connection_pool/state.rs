//! What the pool's lock protects.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::{Deref, DerefMut},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::oneshot};

use super::{
    Checkout, CheckoutRequest, CheckoutWaiter, ConnectionHandle, ConnectionPool,
    accounts::Accounts,
    connection::{ConnectionRecord, TlsClients},
    descriptions::Descriptions,
    redial::Redials,
    server::{Server, SharingStats},
    trials::Joining,
};
use crate::mux::{
    clock,
    driver::{self, Command, DriverHandle, DriverParts},
    error::Error,
    event::{MuxEvent, SharingChange},
    ids::ConnectionId,
    policy::{
        placement::{
            Checkin, ConnectionPurpose, Placement, PlacementRequest, Served, Table, TableEntry,
            WaiterId,
        },
        sharing::{Evidence, Sharing, join_history::Joins},
    },
    release::lock,
    server_key::ServerId,
    stats::{ConnectionStats, MuxStats, ServerStats},
};

/// One connection, as the table holds it.
pub(super) type ConnectionEntry = TableEntry<ConnectionRecord>;

/// The connections of a pool and the callers that wait for one.
pub(super) type Connections = Table<ConnectionRecord, WaitingCheckout>;

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
    pub(super) plans: Vec<DriverParts>,
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
    /// A server of which nothing is known.
    unknown: Server,
    pub(super) descriptions: Descriptions,
    pub(super) redials: Redials,
    pub(super) tls: TlsClients,
    /// Servers that were seen to know Digest: no connection sends them a password in clear text
    /// again.
    pub(super) digest_servers: HashSet<ServerId>,
    pub(super) is_shut_down: bool,
}

/// The state of a pool while its lock is held for a change, and what follows from the change.
pub(super) struct LockedPool<'a> {
    pub(super) pool: &'a ConnectionPool,
    pub(super) state: &'a mut PoolState,
    pub(super) deferred: DeferredWork,
}

impl Deref for LockedPool<'_> {
    type Target = PoolState;

    fn deref(&self) -> &PoolState {
        self.state
    }
}

impl DerefMut for LockedPool<'_> {
    fn deref_mut(&mut self) -> &mut PoolState {
        self.state
    }
}

impl PoolState {
    pub(super) fn new(has_own_network: bool) -> Self {
        Self {
            table: Table::new(),
            accounts: Accounts::new(has_own_network),
            servers: HashMap::new(),
            unknown: Server::default(),
            descriptions: Descriptions::default(),
            redials: Redials::default(),
            tls: TlsClients::default(),
            digest_servers: HashSet::new(),
            is_shut_down: false,
        }
    }

    fn checkin_reference(&mut self, id: ConnectionId) -> Checkin {
        let outcome = self.table.checkin(id);
        let Some(entry) = self.table.entry(id).filter(|_| outcome == Checkin::Idle) else {
            return outcome;
        };
        // No session would get it: sessions of a server that cannot share have their own.
        let sharing = &self.known(entry.server()).sharing;
        if sharing.objection(clock::now()).is_some() && !entry.record.is_of_always {
            self.table.on_no_more_sessions(id);
            return Checkin::Finished;
        }
        outcome
    }

    /// What the pool knows of the server may have changed while these callers waited.
    fn refresh_waiting(&mut self, server: &ServerId, now: Instant) {
        if self.table.waiting_for(server) == 0 {
            return;
        }
        let waiting = self.table.waiting(server);
        let requests = waiting.map(|waiting| self.placement_request(&waiting.checkout, now));
        let requests = requests.collect();
        self.table.refresh_waiting(server, requests);
    }

    fn close(&self, id: ConnectionId) {
        if let Some(entry) = self.table.entry(id) {
            entry.record.driver.send(Command::Close);
        }
    }

    pub(super) fn links(&self) -> Vec<Arc<DriverHandle>> {
        let entries = self.table.entries();
        entries
            .map(|(_, entry)| Arc::clone(&entry.record.driver))
            .collect()
    }

    pub(super) fn has_pending_teardowns(&self, server: &ServerId) -> bool {
        let mut entries = self.table.entries_of(server);
        entries.any(|(_, entry)| entry.record.driver.has_pending_teardowns())
    }

    /// A request of a session is answered.
    pub(super) fn end(&mut self, mut joining: Joining, now: Instant) {
        joining.is_over = true;
        if let Some(record) = self.table.record_mut(joining.id) {
            record.joins.on_answer(now, &joining.uri);
        }
    }

    /// A server, new if nothing is known of it.
    pub(super) fn server(&mut self, server: &ServerId) -> &mut Server {
        let server = self.servers.entry(server.clone());
        server.or_default()
    }

    /// What is known of a server.
    pub(super) fn known(&self, server: &ServerId) -> &Server {
        self.servers.get(server).unwrap_or(&self.unknown)
    }

    pub(super) fn sharing_stats(&self, server: &ServerId, now: Instant) -> SharingStats {
        let verdict = self.known(server).sharing.verdict(now);
        let age = |since| now.saturating_duration_since(since);
        (
            verdict.into(),
            verdict.explanation(),
            verdict.since().map(age),
        )
    }
}

impl LockedPool<'_> {
    /// A caller asks for a connection.
    pub(super) fn place(&mut self, checkout: CheckoutRequest) -> Result<Checkout, Error> {
        if self.is_shut_down {
            return Err(Error::shut_down());
        }
        let now = clock::now();
        let objection = self.known(checkout.key.server()).sharing.objection(now);
        let request = self.placement_request(&checkout, now);
        let is_aside = self.table.is_kept_from_playing(&request);
        let record = |id| ConnectionRecord::new(id, &checkout);
        match self.table.checkout(&request, record) {
            Placement::Refused => Err(checkout.refusal(objection)),
            Placement::Wait { close } => {
                if let Some(id) = close {
                    self.close(id);
                }
                self.enqueue(request, checkout, objection)
            }
            placement => {
                let handle = self.hand_out(placement, &checkout);
                let mut handle = handle.ok_or_else(Error::driver_died)?;
                handle.is_aside |= is_aside;
                Ok(Checkout::Now(handle))
            }
        }
    }

    fn enqueue(
        &mut self,
        request: PlacementRequest,
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
            pool: self.pool.clone(),
            waiter,
            answer,
            refusal,
        }))
    }

    /// Makes a handle of a placement whose reference the table has counted.
    fn hand_out(
        &mut self,
        placement: Placement,
        checkout: &CheckoutRequest,
    ) -> Option<ConnectionHandle> {
        let (id, is_founding) = match placement {
            Placement::Existing(id) => (id, false),
            Placement::Connect(id) => {
                self.dial(id, checkout);
                (id, true)
            }
            Placement::Wait { .. } | Placement::Refused => return None,
        };
        let is_first = self.table.entry(id)?.references == 1;
        let is_describe_only = self.table.is_describe_only(id);
        let record = self.table.record_mut(id)?;
        let driver = Arc::clone(&record.driver);
        if is_first && !is_founding {
            record.trial.begin_again();
            record.joins = Joins::default();
            driver.on_reused();
        }
        self.update_gauges(&driver.server);
        let idle_timeout = checkout.options.pooling.idle_connection_timeout;
        let mut handle = ConnectionHandle::new(self.pool, driver, idle_timeout, is_founding);
        handle.is_described = (!checkout.needs_describe).into();
        (handle.is_aside, handle.is_describe_only) = (is_describe_only, is_describe_only);
        if handle.is_reused {
            let driver = Arc::clone(handle.driver());
            self.on_reached(&driver, clock::now());
        }
        Some(handle)
    }

    /// A session gives its reference back.
    pub(super) fn checkin(&mut self, handle: &ConnectionHandle) {
        let id = handle.driver().id;
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
            Checkin::Idle => driver.send(Command::SetIdle(Some(handle.idle_timeout))),
            Checkin::Finished => driver.send(Command::SetIdle(Some(Duration::ZERO))),
        }
        self.serve(&driver.server);
        self.update_gauges(&driver.server);
    }

    /// A caller stops waiting, so that those behind it may be served.
    pub(super) fn stop_waiting(&mut self, waiter: WaiterId) {
        if let Some(server) = self.table.stop_waiting(waiter) {
            self.serve(&server);
        }
    }

    /// Serves the callers that wait for `server`.
    pub(super) fn serve(&mut self, server: &ServerId) {
        let now = clock::now();
        self.refresh_waiting(server, now);
        let record = |id, waiting: &WaitingCheckout| ConnectionRecord::new(id, &waiting.checkout);
        for served in self.table.serve(server, record) {
            match served {
                Served::Close(id) => self.close(id),
                Served::Caller(WaitingCheckout { checkout, answer }, placement) => {
                    let handle = self.hand_out(placement, &checkout);
                    let outcome = handle.ok_or_else(|| checkout.refusal(None));
                    self.deferred.answers.push((answer, outcome));
                }
            }
        }
    }

    /// Learns something of a server's sharing.
    pub(super) fn learn<T>(
        &mut self,
        name: &ServerId,
        now: Instant,
        lesson: impl FnOnce(&mut Sharing) -> T,
    ) -> T {
        let server = self.server(name);
        let before = server.sharing.verdict(now);
        let told_apart = server.sharing.tells_apart();
        let result = lesson(&mut server.sharing);
        let after = server.sharing.verdict(now);
        let has_learned = server.sharing.tells_apart() != told_apart;
        server.notify();
        self.deferred.has_learned |= has_learned;
        if before != after {
            self.deferred.events.push(MuxEvent::Sharing(SharingChange {
                server: name.to_string(),
                verdict: after.into(),
                reason: after.explanation(),
            }));
            self.deferred.judged.push(name.clone());
        }
        result
    }

    /// No caller gets a connection any more, and all connections close.
    pub(super) fn shut_down(&mut self) {
        self.is_shut_down = true;
        let waiting = self.table.stop_all_waiting();
        let answers = waiting.map(|waiting| (waiting.answer, Err(Error::shut_down())));
        self.deferred.answers.extend(answers);
        for driver in self.links() {
            self.table.retire(driver.id);
            driver.send(Command::Close);
        }
    }
}

// What the pool tells of its connections: each connection gets the number of sessions that use it,
// and the statistics get the state of all.

impl PoolState {
    /// Tells all connections of a server how many references and sisters they have.
    pub(super) fn update_gauges(&self, server: &ServerId) {
        let connections = self.table.connections_to(server) as u64;
        for (_, entry) in self.table.entries_of(server) {
            let driver = &entry.record.driver;
            driver.on_references(entry.references);
            driver.counters.connections_to_server.set(connections);
        }
        self.known(server).notify();
    }
}

impl ConnectionPool {
    pub(crate) fn stats(&self) -> MuxStats {
        let (now, state) = (clock::now(), self.lock());
        let mut servers: BTreeMap<&ServerId, Vec<ConnectionStats>> = BTreeMap::new();
        for (_, entry) in state.table.entries() {
            if entry.record.is_listed {
                let connections = servers.entry(entry.server()).or_default();
                connections.push(connection_stats(entry));
            }
        }
        let servers = servers.into_iter().map(|(server, connections)| {
            let (sharing, cannot_share, sharing_age) = state.sharing_stats(server, now);
            ServerStats {
                server: server.to_string(),
                sharing,
                cannot_share,
                sharing_age,
                waiting: state.table.waiting_for(server),
                connections,
            }
        });
        MuxStats {
            servers: servers.collect(),
        }
    }
}

fn connection_stats(entry: &ConnectionEntry) -> ConnectionStats {
    let driver = &entry.record.driver;
    let counters = &driver.counters;
    ConnectionStats {
        id: driver.id.0,
        state: entry.phase,
        is_dedicated: entry.purpose == ConnectionPurpose::Dedicated,
        is_aside: entry.purpose == ConnectionPurpose::DescribeOnly,
        references: counters.references.get(),
        sessions: counters.sessions.get(),
        bytes_received: counters.bytes_received.get(),
        bytes_sent: counters.bytes_sent.get(),
        packets: counters.packets.get(),
        counts: *lock(&driver.counts),
        health: driver.health(),
    }
}
