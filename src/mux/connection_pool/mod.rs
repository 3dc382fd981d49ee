//! The pool: the connections that there are, the sessions that use them, and the connection that a
//! session gets.
//!
//! The pool holds shared, multiplexed connections, not idle sockets. [`checkout`] takes a counted
//! reference to a connection and makes the connection if need be; [`checkin`], or dropping the
//! handle, gives the reference back. The last reference that comes back arms the idle timer.
//!
//! What the pool knows of connections and servers is behind the one lock here. Only the budget of
//! login attempts, which all pools of the process share, has a lock of its own. The lock is never
//! held across an await or a callback: [`DeferredWork`] collects what is to be done afterwards. The
//! decisions are in [`placement`](super::policy::placement); the pool turns them into connections,
//! handles and commands.
//!
//! The race between a checkout and the idle timeout is decided under the lock, by
//! [`Table::try_retire`](super::policy::placement::Table::try_retire): the one that takes the lock
//! first has the connection.
//!
//! [`checkout`]: ConnectionPool::checkout
//! [`checkin`]: ConnectionPool::checkin

mod accounts;
mod checkout;
mod connection;
mod describe_only;
mod descriptions;
mod driver_events;
mod handle;
mod placing;
mod rebalance;
mod redial;
mod server;
mod state;
mod state_file;
mod trials;
mod view;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{broadcast, oneshot, watch},
};

pub(crate) use self::{
    checkout::CheckoutRequest,
    redial::RedialReporter,
    trials::{DoubtGuard, Joining, SharingGuard, SuspicionGuard},
    view::{FreshDescription, Looked, News},
};
use self::{
    connection::ConnectionRecord,
    state::{DeferredWork, LockedPool, PoolState},
    state_file::Saver,
};
pub use self::{
    handle::{ConnectionHandle, Intent},
    redial::RedialPermit,
};
use super::{
    clock,
    config::{Limits, SessionOptions, Timeouts},
    error::Error,
    event::{MuxEvent, MuxEvents, StateFileProblem},
    ids::ConnectionId,
    network::Network,
    policy::placement::WaiterId,
    release::lock,
};

/// Events that are kept for a receiver that is slow to take them.
const EVENTS: usize = 256;

/// How long aborted drivers get to end; they end at their next await.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// What a [`MuxBuilder`](super::MuxBuilder) has been told.
#[derive(Debug, Default)]
pub(crate) struct PoolConfig {
    pub(crate) runtime: Option<Handle>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) state_file: Option<PathBuf>,
    pub(crate) network: Option<Arc<dyn Network>>,
}

/// The connections of a [`Mux`](super::Mux); cheap to clone.
#[derive(Clone, Debug)]
pub struct ConnectionPool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<PoolState>,
    /// The user's runtime, or the shared one from its first use on.
    runtime: OnceLock<Handle>,
    limits: Limits,
    timeouts: Timeouts,
    /// Used in place of the system's network.
    network: Option<Arc<dyn Network>>,
    /// Drivers that have not ended.
    running: watch::Sender<usize>,
    events: broadcast::Sender<MuxEvent>,
    /// Keeps from one run to the next what the pool has learned of servers.
    saver: Option<Arc<Saver>>,
    /// The first problem with the state file. A receiver of events is told of it once: either it is
    /// set before the receiver is made, or it is sent.
    state_file_problem: Mutex<Option<StateFileProblem>>,
    /// The state file will be written in a moment.
    is_save_due: AtomicBool,
    /// How often the lock was taken.
    #[cfg(test)]
    locks_taken: super::stats::Gauge,
}

impl ConnectionPool {
    pub(crate) fn new(config: PoolConfig) -> Self {
        let runtime = config.runtime.map(OnceLock::from);
        let pool = Self(Arc::new(Shared {
            state: Mutex::new(PoolState::new(config.network.is_some())),
            runtime: runtime.unwrap_or_default(),
            limits: config.limits,
            timeouts: config.timeouts,
            network: config.network,
            running: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS),
            saver: config.state_file.map(|path| Arc::new(Saver::new(path))),
            state_file_problem: Mutex::default(),
            is_save_due: AtomicBool::new(false),
            #[cfg(test)]
            locks_taken: Default::default(),
        }));
        pool.load();
        pool
    }

    /// Takes a reference to a connection that a session with these options may use, and waits
    /// until it is connected. Concurrent calls share one attempt; dropping the future of one does
    /// not disturb the others.
    ///
    /// # Errors
    ///
    /// Connecting failed, no place was free within
    /// [`connect_timeout`](SessionOptions::connect_timeout), or the pool is shut down.
    pub async fn checkout(&self, options: &SessionOptions) -> Result<ConnectionHandle, Error> {
        let checkout = CheckoutRequest::new(options)?;
        self.fulfil(checkout)
            .await
            .map_err(|error| error.of_camera(&options.camera()))
    }

    /// Gives a reference back; the same as dropping it. Never blocks.
    pub fn checkin(&self, handle: ConnectionHandle) {
        drop(handle);
    }

    pub(crate) async fn fulfil(
        &self,
        checkout: CheckoutRequest,
    ) -> Result<ConnectionHandle, Error> {
        let placed = self.place(checkout.clone())?;
        self.connect(placed, checkout).await
    }

    /// Waits until a session that was placed has a connection, and that is connected.
    pub(crate) async fn connect(
        &self,
        mut placed: Checkout,
        mut checkout: CheckoutRequest,
    ) -> Result<ConnectionHandle, Error> {
        let patience = checkout.options.connect_timeout;
        let key = checkout.key.clone();
        loop {
            let handle = match placed {
                Checkout::Now(handle) => handle,
                Checkout::Later(waiter) => waiter.wait(patience).await?,
            };
            if !checkout.is_spread || !handle.is_describe_only {
                let outcome = handle.driver().connected().await;
                if !handle.is_reused {
                    self.on_dialled(handle.driver(), &key, &outcome);
                }
                return outcome.map(|()| handle);
            }
            if let Some(handle) = self.reach_describe_only(handle, &key).await? {
                return Ok(handle);
            }
            self.keep_pooled(&mut checkout);
            placed = self.place(checkout.clone())?;
        }
    }

    fn place(&self, checkout: CheckoutRequest) -> Result<Checkout, Error> {
        // Asked before anything is placed: without a runtime no driver can start.
        self.runtime()?;
        self.change(|state| state.place(checkout))
    }

    /// Changes the state under the lock and does afterwards what must not be done under it.
    fn change<T>(&self, change: impl FnOnce(&mut LockedPool<'_>) -> T) -> T {
        let mut state = self.lock();
        let mut locked = LockedPool {
            pool: self,
            state: &mut state,
            deferred: DeferredWork::default(),
        };
        let result = change(&mut locked);
        for server in std::mem::take(&mut locked.deferred.judged) {
            locked.serve(&server);
        }
        let mut deferred = locked.deferred;
        drop(state);
        let events = std::mem::take(&mut deferred.events);
        if !events.is_empty() || deferred.has_learned {
            self.save();
        }
        for event in events {
            self.tell(event);
        }
        // Without a runtime nothing was ever placed, and there is nothing to do afterwards.
        if let Some(runtime) = self.0.runtime.get() {
            deferred.run(runtime);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        #[cfg(test)]
        self.0.locks_taken.add(1);
        lock(&self.0.state)
    }

    #[cfg(test)]
    pub(crate) fn locks_taken(&self) -> u64 {
        self.0.locks_taken.get()
    }

    /// Changes what is kept of a connection, if there still is one.
    fn change_record(&self, id: ConnectionId, change: impl FnOnce(&mut ConnectionRecord)) {
        if let Some(record) = self.lock().table.record_mut(id) {
            change(record);
        }
    }

    pub(crate) fn runtime(&self) -> Result<&Handle, Error> {
        if let Some(runtime) = self.0.runtime.get() {
            return Ok(runtime);
        }
        let shared = clock::shared_runtime()?;
        Ok(self.0.runtime.get_or_init(|| shared))
    }

    fn tell(&self, event: MuxEvent) {
        match &event {
            MuxEvent::Sharing(change) => tracing::info!("{change}"),
            MuxEvent::Limit(limit) => tracing::warn!("{limit}"),
            MuxEvent::StateFile(problem) => tracing::warn!("{problem}"),
        }
        // It is no error that no receiver listens.
        let _ = self.0.events.send(event);
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn events(&self) -> MuxEvents {
        let problem = lock(&self.0.state_file_problem);
        MuxEvents::new(self.0.events.subscribe(), problem.clone())
    }

    /// The pool hands out no connection any more; its connections tear down their sessions and close.
    /// Drivers that have not ended after `deadline` are aborted. The state file is written by then,
    /// unless its disk is too slow.
    pub(crate) async fn shutdown(&self, deadline: Duration) {
        self.change(|state| state.shut_down());
        // Without one nothing was ever connected, and nothing learned.
        let Some(runtime) = self.0.runtime.get() else {
            return;
        };
        self.save();
        // The sender is ours.
        let drivers_end = async || {
            let mut running = self.0.running.subscribe();
            let _ = running.wait_for(|drivers| *drivers == 0).await;
        };
        let ended = async {
            drivers_end().await;
            if let Some(saver) = &self.0.saver {
                saver.written().await;
            }
        };
        if clock::within(runtime, deadline, ended).await.is_ok() {
            return;
        }
        for driver in self.lock().links() {
            driver.abort();
        }
        let _ = clock::within(runtime, ABORT_GRACE, drivers_end()).await;
    }

    pub(crate) fn shutdown_blocking(&self, deadline: Duration) {
        match self.0.runtime.get() {
            Some(runtime) => runtime.block_on(self.shutdown(deadline)),
            // Nothing was ever connected; only later checkouts are to be refused.
            None => self.change(|state| state.shut_down()),
        }
    }
}

/// What a caller gets at once.
pub(crate) enum Checkout {
    /// A connection, perhaps still connecting.
    Now(ConnectionHandle),
    /// A place in the queue.
    Later(CheckoutWaiter),
}

/// A place in the queue; given up by dropping it.
pub(crate) struct CheckoutWaiter {
    pool: ConnectionPool,
    waiter: WaiterId,
    answer: oneshot::Receiver<Result<ConnectionHandle, Error>>,
    /// What to say if nothing becomes free in time.
    refusal: Error,
}

impl CheckoutWaiter {
    async fn wait(mut self, patience: Duration) -> Result<ConnectionHandle, Error> {
        let waiting = clock::within(self.pool.runtime()?, patience, &mut self.answer);
        match waiting.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::shut_down()),
            Err(_) => Err(self.refusal.clone()),
        }
    }
}

impl Drop for CheckoutWaiter {
    fn drop(&mut self) {
        // A handle that was sent meanwhile is dropped with the receiver, after the lock is free.
        self.pool.change(|state| state.stop_waiting(self.waiter));
    }
}
