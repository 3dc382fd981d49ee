//! How the rest of the crate talks to a driver.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};
use url::Url;

use crate::mux::{
    delivery::{Budget, Producer},
    error::Error,
    event::Congestion,
    health::{HealthSample, PathInfo},
    ids::ConnectionId,
    proto::{
        Backlog, CloseReason, CredentialStatus, Failure, FailureKind, Measures, ProbeOutcome,
        RefusalVerdict, Reply, SessionConfig, SessionKey, SessionRequest,
    },
    release::ReleaseGuard,
    server_key::ServerId,
    stats::{ConnectionCounters, ConnectionHealth},
};

/// RTCP packets that may wait for the driver; more are dropped, as a congested network would.
const REPORTS: usize = 256;

/// What a driver is told. Sending one never blocks, so that handles may be dropped anywhere.
#[derive(Debug)]
pub(crate) enum Command {
    /// Makes a session in the core.
    Open {
        /// What it is to play.
        config: SessionConfig,
        /// Where its packets go.
        producer: Producer,
        /// Given back once nothing is owed to the server any more.
        release: ReleaseGuard,
        /// Who holds it. If nobody waits for that any more, the session is released.
        opened: oneshot::Sender<Result<SessionGuard, FailureKind>>,
    },
    /// Asks the server something.
    Request {
        session: SessionKey,
        request: SessionRequest,
        reply: oneshot::Sender<Result<Reply, Failure>>,
    },
    /// Finds out whether the connection stands a DESCRIBE of something that is not there. Told the
    /// pool, and then whoever waits.
    Probe {
        missing: Url,
        known: Url,
        done: oneshot::Sender<ProbeOutcome>,
    },
    /// The session waits no longer than this for an answer.
    SetPatience {
        session: SessionKey,
        patience: Duration,
    },
    /// The session's handle is gone.
    Release { session: SessionKey, is_known: bool },
    /// The connection has no reference any more, or has one again.
    SetIdle(Option<Duration>),
    /// What is known of the credentials changed.
    Credentials(CredentialStatus),
    /// What a refusal of them comes to that the connection has reported.
    RefusalVerdict(RefusalVerdict),
    /// Tear down all sessions and close.
    Close,
}

/// A session in the core. Dropped, wherever that is - on the way to whoever asked for it, too -, the
/// session is released.
#[derive(Debug)]
pub(crate) struct SessionGuard {
    /// The core's name for the session.
    pub(crate) key: SessionKey,
    handle: Arc<DriverHandle>,
    /// The server may know the session.
    is_known: AtomicBool,
}

impl SessionGuard {
    pub(super) fn new(key: SessionKey, handle: &Arc<DriverHandle>) -> Self {
        let handle = Arc::clone(handle);
        Self {
            key,
            handle,
            is_known: AtomicBool::new(false),
        }
    }

    /// The server is asked to set the session up, or has refused to.
    pub(crate) fn set_known(&self, is_known: bool) {
        self.is_known.store(is_known, Ordering::Relaxed);
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let is_known = *self.is_known.get_mut();
        if is_known {
            self.handle.released.fetch_add(1, Ordering::Relaxed);
        }
        self.handle.send(Command::Release {
            session: self.key,
            is_known,
        });
    }
}

/// An RTCP packet to the server.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) session: SessionKey,
    pub(crate) stream: usize,
    pub(crate) packet: Bytes,
}

/// How far the connection attempt is.
#[derive(Clone, Debug)]
pub(crate) enum Readiness {
    Connecting,
    Ready,
    Failed(Error),
}

/// What a connection has learned of its server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerInfo {
    /// How long it took to connect: one round trip for an address, more for a name.
    pub(crate) connect_time: Option<Duration>,
    /// What the answers took.
    pub(crate) measures: Measures,
    /// Its `Server` header.
    pub(crate) server_header: Option<String>,
    /// Its `Public` header.
    pub(crate) public_header: Option<String>,
    /// It loses requests unless they come one at a time.
    pub(crate) is_serial: bool,
}

/// What everybody but the driver itself holds of a connection. Holding it is no reference in the
/// pool's sense; a [`ConnectionHandle`](crate::mux::ConnectionHandle) is.
#[derive(Debug)]
pub(crate) struct DriverHandle {
    pub(crate) id: ConnectionId,
    pub(crate) server: ServerId,
    pub(crate) counters: Arc<ConnectionCounters>,
    pub(crate) budget: Arc<Budget>,
    commands: mpsc::UnboundedSender<Command>,
    reports: mpsc::Sender<Report>,
    readiness: watch::Receiver<Readiness>,
    /// The most references at a time since there were none; written under the pool's lock.
    peak_references: AtomicU32,
    /// Sessions that the server may know, released where the driver has not heard of it yet.
    released: AtomicU32,
    /// The server answered a session since the connection was last taken out of idleness.
    is_proven: AtomicBool,
    /// No session of it can be addressed any more.
    is_tainted: AtomicBool,
    server_info: Mutex<ServerInfo>,
    health: Mutex<Health>,
    /// One of its sessions is to move elsewhere, whichever hears it first.
    invites_to_move: AtomicBool,
    /// This one is.
    asked_to_move: Mutex<Option<SessionKey>>,
    /// There is one.
    asks_to_move: AtomicBool,
    backlog: watch::Receiver<Backlog>,
    task: OnceLock<AbortHandle>,
    /// Set when the connection is over.
    close_reason: OnceLock<CloseReason>,
}

/// How the connection bears what is sent over it, for statistics.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    /// Set by the pool.
    congestion: Option<Congestion>,
    /// Bytes a second.
    rate: u64,
    /// RTP packets the server has left out since the connection was made.
    lost: u64,
    path: Option<PathInfo>,
}

/// The driver's ends of a link.
#[derive(Debug)]
pub(crate) struct DriverEnds {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) readiness: watch::Sender<Readiness>,
    pub(super) backlog: watch::Sender<Backlog>,
}

impl DriverHandle {
    /// Whether there are sessions that have left, as far as we are concerned, and that the server may
    /// still have.
    pub(crate) fn has_pending_teardowns(&self) -> bool {
        self.released.load(Ordering::Acquire) > 0 || self.counters.tearing_down.get() > 0
    }

    /// The driver has heard that a session was released; it counts among those that are leaving.
    pub(super) fn on_released(&self) {
        self.released.fetch_sub(1, Ordering::Release);
    }

    /// The link of a connection that is about to be made.
    pub(crate) fn new(id: ConnectionId, server: ServerId) -> (Arc<Self>, DriverEnds) {
        let (command_sender, commands) = mpsc::unbounded_channel();
        let (report_sender, reports) = mpsc::channel(REPORTS);
        let (readiness_sender, readiness) = watch::channel(Readiness::Connecting);
        let (backlog_sender, backlog) = watch::channel(Backlog::default());
        let handle = Self {
            id,
            server,
            counters: Arc::default(),
            budget: Budget::for_connection(),
            commands: command_sender,
            reports: report_sender,
            readiness,
            peak_references: AtomicU32::new(1),
            released: AtomicU32::new(0),
            is_proven: AtomicBool::new(false),
            is_tainted: AtomicBool::new(false),
            health: Mutex::default(),
            invites_to_move: AtomicBool::new(false),
            asked_to_move: Mutex::default(),
            asks_to_move: AtomicBool::new(false),
            server_info: Mutex::default(),
            backlog,
            task: OnceLock::new(),
            close_reason: OnceLock::new(),
        };
        (
            Arc::new(handle),
            DriverEnds {
                commands,
                reports,
                readiness: readiness_sender,
                backlog: backlog_sender,
            },
        )
    }

    /// False if the driver is gone; what the command carries is dropped then, which tells whoever
    /// waits for it.
    pub(crate) fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// False if the packet was dropped.
    pub(crate) fn try_send_report(&self, report: Report) -> bool {
        self.reports.try_send(report).is_ok()
    }

    /// Waits until the connection attempt is over.
    pub(crate) async fn connected(&self) -> Result<(), Error> {
        let mut readiness = self.readiness.clone();
        match readiness
            .wait_for(|state| !matches!(state, Readiness::Connecting))
            .await
            .as_deref()
        {
            Ok(Readiness::Failed(error)) => Err(error.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err(Error::driver_died()),
        }
    }

    /// Returns once the driver is gone.
    pub(crate) async fn closed(&self) {
        self.commands.closed().await;
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(*self.readiness.borrow(), Readiness::Ready)
    }

    /// How many references there are now.
    pub(crate) fn on_references(&self, references: u32) {
        self.counters.references.set(u64::from(references));
        if references == 0 {
            self.peak_references.store(0, Ordering::Relaxed);
        } else {
            self.peak_references
                .fetch_max(references, Ordering::Relaxed);
        }
    }

    /// The most references at a time since there were none.
    pub(crate) fn peak_references(&self) -> u32 {
        self.peak_references.load(Ordering::Relaxed)
    }

    /// Why the connection is over; also if its driver ended without a word.
    pub(crate) fn close_reason(&self) -> CloseReason {
        let unknown = || CloseReason::Io("the connection's task ended unexpectedly".to_owned());
        self.close_reason.get().cloned().unwrap_or_else(unknown)
    }

    pub(super) fn set_close_reason(&self, reason: CloseReason) {
        // A connection ends once.
        let _ = self.close_reason.set(reason);
    }

    /// Whether the connection was seen to work since it was last taken out of idleness.
    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    pub(super) fn on_proven(&self) {
        self.is_proven.store(true, Ordering::Relaxed);
    }

    /// Whether its sessions had better be elsewhere: none can be addressed any more.
    pub(crate) fn is_tainted(&self) -> bool {
        self.is_tainted.load(Ordering::Relaxed)
    }

    pub(super) fn on_tainted(&self) {
        self.is_tainted.store(true, Ordering::Relaxed);
    }

    /// Why the connection is congested, if it is.
    pub(crate) fn congestion(&self) -> Option<Congestion> {
        self.lock_health().congestion
    }

    /// Gives what held before.
    pub(crate) fn set_congestion(&self, congestion: Option<Congestion>) -> Option<Congestion> {
        std::mem::replace(&mut self.lock_health().congestion, congestion)
    }

    pub(super) fn on_sampled(&self, sample: &HealthSample) {
        let mut health = self.lock_health();
        health.rate = sample.rate();
        health.lost += sample.lost;
        health.path = sample.path;
    }

    fn lock_health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it bears what is sent over it.
    pub(crate) fn health(&self) -> ConnectionHealth {
        let server_info = self.server_info.lock();
        let measures = server_info.unwrap_or_else(PoisonError::into_inner).measures;
        let health = *self.lock_health();
        ConnectionHealth {
            congestion: health.congestion,
            round_trip: measures.round_trip,
            last_answer: measures.last_answer,
            service_time: measures.service_time,
            rate: health.rate,
            lost: health.lost,
            path_round_trip: health.path.map(|path| path.round_trip),
            out_of_order: health.path.map(|path| path.out_of_order),
        }
    }

    /// Whether one of its sessions is to move elsewhere.
    pub(crate) fn invite_to_move(&self, is_wanted: bool) {
        self.invites_to_move.store(is_wanted, Ordering::Relaxed);
    }

    /// Whether some or all of its sessions had better be elsewhere.
    pub(crate) fn is_to_be_left(&self) -> bool {
        self.is_tainted() || self.invites_to_move.load(Ordering::Relaxed)
    }

    /// True for one session after each invitation.
    pub(crate) fn accept_invitation(&self) -> bool {
        self.invites_to_move.swap(false, Ordering::Relaxed)
    }

    /// This session is to move elsewhere: its neighbours suffer from what it sends.
    pub(crate) fn ask_to_move(&self, session: SessionKey) {
        *self.asked_to_move() = Some(session);
        self.asks_to_move.store(true, Ordering::Relaxed);
    }

    /// True once if this session was asked to move.
    pub(crate) fn is_asked_to_move(&self, session: SessionKey) -> bool {
        if !self.asks_to_move.load(Ordering::Relaxed) {
            return false;
        }
        let is_it = self.asked_to_move().take_if(|asked| *asked == session);
        if is_it.is_some() {
            self.asks_to_move.store(false, Ordering::Relaxed);
        }
        is_it.is_some()
    }

    fn asked_to_move(&self) -> MutexGuard<'_, Option<SessionKey>> {
        self.asked_to_move
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection is referenced again.
    pub(crate) fn on_reused(&self) {
        self.is_proven.store(false, Ordering::Relaxed);
        self.send(Command::SetIdle(None));
    }

    /// What the server has not answered yet.
    pub(crate) fn backlog(&self) -> Backlog {
        self.backlog.borrow().clone()
    }

    /// Told whenever that changes.
    pub(crate) fn watch_backlog(&self) -> watch::Receiver<Backlog> {
        self.backlog.clone()
    }

    /// What was learned of the server so far.
    pub(crate) fn server_info(&self) -> ServerInfo {
        self.server_info
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn learn(&self, change: impl FnOnce(&mut ServerInfo)) {
        change(
            &mut self
                .server_info
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    pub(super) fn set_task(&self, task: AbortHandle) {
        // Set once, by the one who spawned the driver.
        let _ = self.task.set(task);
    }

    /// Ends the driver without further ado: at the deadline of a shutdown.
    pub(crate) fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}
