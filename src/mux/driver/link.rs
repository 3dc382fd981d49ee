//! The link between a driver and the rest of the crate: commands to the driver, and what both can
//! see.
//!
//! In the other direction go events and one question ([`DriverEvents`], which the pool implements).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
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
    ids::ConnectionId,
    proto::{
        Backlog, CloseReason, Counters, CredentialReport, CredentialStatus, Failure, FailureKind,
        FramingLoss, KeepAliveMethod, Measures, PacketKind, ProbeOutcome, Redirect, RefusalVerdict,
        Reply, ServerAnswer, SessionConfig, SessionKey, SessionRequest,
    },
    release::{ReleaseGuard, lock},
    server_key::ServerId,
    stats::{ConnectionCounters, ConnectionHealth, HealthSample},
};

/// RTCP packets that may wait for the driver; more are dropped, as a congested network would.
const REPORTS: usize = 256;

/// A command to the driver. Sending one never blocks, so that a handle may be dropped on any
/// thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Makes a session in the core.
    Open(NewSession),
    /// Sends a request to the server.
    Request {
        session: SessionKey,
        request: SessionRequest,
        reply: oneshot::Sender<Result<Reply, Failure>>,
    },
    /// Finds out whether the server keeps the connection open after a DESCRIBE of a resource that
    /// does not exist. The driver tells the pool first, then the caller.
    Probe {
        missing: Url,
        known: Url,
        done: oneshot::Sender<ProbeOutcome>,
    },
    /// The caller waits no longer than this for the answer to a request of the session.
    SetPatience {
        session: SessionKey,
        patience: Duration,
    },
    /// The session's handle was dropped.
    Release { session: SessionKey, is_known: bool },
    /// The connection has no reference any more (the idle timeout begins), or has one again.
    SetIdle(Option<Duration>),
    /// The credential gate's status of the credentials has changed.
    Credentials(CredentialStatus),
    /// The credential gate's verdict on a refusal that the connection has reported.
    RefusalVerdict(RefusalVerdict),
    /// The user has looked at a request: the headers it is to have; `None`: it is not sent.
    Seen {
        number: u64,
        headers: Option<Vec<(String, String)>>,
    },
    /// The user's answer to a request of the server.
    Answer { number: u64, answer: ServerAnswer },
    /// What another connection has learned of the server's keep-alives.
    KeepAlive(KeepAliveMethod),
    /// Tear down all sessions and close.
    Close,
}

/// A session that is to be made in the core.
#[derive(Debug)]
pub(crate) struct NewSession {
    /// What the session is to play.
    pub(crate) config: SessionConfig,
    /// The queue that gets its packets.
    pub(crate) producer: Producer,
    /// Dropped when the server can have nothing of the session any more.
    pub(crate) release: ReleaseGuard,
    /// Gets the session. If its receiver has been dropped, the session is released at once.
    pub(crate) opened: oneshot::Sender<Result<SessionGuard, FailureKind>>,
}

/// A session in the core. When it is dropped, also while it is handed to the caller, the session is
/// released.
#[derive(Debug)]
pub(crate) struct SessionGuard {
    /// The core's name for the session.
    pub(crate) key: SessionKey,
    handle: Arc<DriverHandle>,
    /// True once the server may know the session.
    is_known: AtomicBool,
}

impl SessionGuard {
    pub(super) fn new(key: SessionKey, handle: &Arc<DriverHandle>) -> Self {
        Self {
            key,
            handle: Arc::clone(handle),
            is_known: AtomicBool::new(false),
        }
    }

    /// Called when a SETUP is sent, and when the server has refused it.
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

/// A packet to the server.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) session: SessionKey,
    pub(crate) stream: usize,
    pub(crate) kind: PacketKind,
    pub(crate) packet: Bytes,
}

/// How the connection attempt ended; `None` while it goes on.
type Readiness = Option<Result<(), Error>>;

/// What a connection has learned about its server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerInfo {
    /// How long it took to connect, once the name was resolved: one round trip.
    pub(crate) connect_time: Option<Duration>,
    /// How long the server took to answer.
    pub(crate) measures: Measures,
    /// Its `Server` header.
    pub(crate) server_header: Option<String>,
    /// Its `Public` header.
    pub(crate) public_header: Option<String>,
    /// The server loses requests unless they are sent one at a time.
    pub(crate) is_serial: bool,
    /// Which request is to keep its sessions alive.
    pub(crate) keep_alive: KeepAliveMethod,
}

/// The shared handle of a connection, for all but the driver itself. It does not count as a
/// reference in the pool; a [`ConnectionHandle`](crate::mux::ConnectionHandle) does.
#[derive(Debug)]
pub(crate) struct DriverHandle {
    pub(crate) id: ConnectionId,
    pub(crate) server: ServerId,
    pub(crate) counters: ConnectionCounters,
    pub(crate) counts: Mutex<Counters>,
    pub(crate) budget: Arc<Budget>,
    commands: mpsc::UnboundedSender<Command>,
    pub(crate) reports: mpsc::Sender<Report>,
    readiness: watch::Receiver<Readiness>,
    /// It had several references at a time since it had none; written under the pool's lock.
    was_shared: AtomicBool,
    /// Sessions that the server may know and whose release the driver has not processed yet.
    pub(super) released: AtomicU32,
    /// The server has answered a session since the connection was last idle.
    pub(super) is_proven: AtomicBool,
    /// The server has mixed up sessions: no session of the connection can be addressed any more.
    pub(super) is_tainted: AtomicBool,
    pub(super) server_info: Mutex<ServerInfo>,
    /// What samples show of it; the rest is in `server_info`.
    health: Mutex<ConnectionHealth>,
    /// One session of the connection is to move elsewhere: the first one that asks.
    invites_to_move: AtomicBool,
    /// The index of the session that is to move elsewhere.
    asked_to_move: AtomicUsize,
    /// The sessions that the server sends elsewhere, until they ask.
    redirects: Mutex<BTreeMap<SessionKey, Redirect>>,
    has_redirects: AtomicBool,
    pub(crate) backlog: watch::Receiver<Backlog>,
    pub(super) task: OnceLock<AbortHandle>,
    /// Set when the connection is over.
    pub(super) close_reason: OnceLock<CloseReason>,
}

/// No session has this index.
const NO_SESSION: usize = usize::MAX;

/// The driver's ends of a link.
#[derive(Debug)]
pub(crate) struct DriverEnds {
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) readiness: watch::Sender<Readiness>,
    pub(super) backlog: watch::Sender<Backlog>,
}

impl DriverHandle {
    /// True while the connection has released sessions that the server may still have.
    pub(crate) fn has_pending_teardowns(&self) -> bool {
        self.released.load(Ordering::Acquire) > 0 || self.counters.tearing_down.get() > 0
    }

    /// The link of a connection that is about to be dialled.
    pub(crate) fn new(id: ConnectionId, server: ServerId) -> (Arc<Self>, DriverEnds) {
        let (command_sender, commands) = mpsc::unbounded_channel();
        let (report_sender, reports) = mpsc::channel(REPORTS);
        let (readiness_sender, readiness) = watch::channel(None);
        let (backlog_sender, backlog) = watch::channel(Backlog::default());
        let handle = Arc::new(Self {
            id,
            server,
            counters: ConnectionCounters::default(),
            counts: Mutex::default(),
            budget: Budget::for_connection(),
            commands: command_sender,
            reports: report_sender,
            readiness,
            was_shared: AtomicBool::new(false),
            released: AtomicU32::new(0),
            is_proven: AtomicBool::new(false),
            is_tainted: AtomicBool::new(false),
            health: Mutex::default(),
            invites_to_move: AtomicBool::new(false),
            asked_to_move: AtomicUsize::new(NO_SESSION),
            has_redirects: AtomicBool::new(false),
            redirects: Mutex::default(),
            server_info: Mutex::default(),
            backlog,
            task: OnceLock::new(),
            close_reason: OnceLock::new(),
        });
        let ends = DriverEnds {
            commands,
            reports,
            readiness: readiness_sender,
            backlog: backlog_sender,
        };
        (handle, ends)
    }

    /// Sends a command that has no answer. A driver that has ended drops it.
    pub(crate) fn send(&self, command: Command) {
        // Without a driver there is nothing left that the command could change.
        let _ = self.commands.send(command);
    }

    /// Sends the command that `ask` makes with the sender of its answer. The receiver learns that there
    /// is no answer if the driver has ended.
    pub(crate) fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> oneshot::Receiver<T> {
        let (sender, mut answer) = oneshot::channel();
        // A driver that has ended drops it, and its sender with it.
        let _ = self.commands.send(ask(sender));
        // A command that was sent while the driver ended may stay in the channel, and its sender with
        // it, for as long as this handle lives.
        if self.has_ended() {
            answer.close();
        }
        answer
    }

    /// Whether the driver takes no commands any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.commands.is_closed()
    }

    /// Waits until the connection attempt is over.
    pub(crate) async fn connected(&self) -> Result<(), Error> {
        let mut readiness = self.readiness.clone();
        let outcome = readiness.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(Error::driver_died()))
    }

    /// Waits until the driver has ended.
    pub(crate) async fn closed(&self) {
        self.commands.closed().await;
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(*self.readiness.borrow(), Some(Ok(())))
    }

    /// Called with the present number of references.
    pub(crate) fn on_references(&self, references: u32) {
        self.counters.references.set(u64::from(references));
        if references != 1 {
            self.was_shared.store(references > 1, Ordering::Relaxed);
        }
    }

    /// True if it had several references at a time since it had none.
    pub(crate) fn was_shared(&self) -> bool {
        self.was_shared.load(Ordering::Relaxed)
    }

    /// Why the connection is over; also says so if its driver panicked.
    pub(crate) fn close_reason(&self) -> CloseReason {
        let unknown = || CloseReason::Io("the connection's task ended unexpectedly".to_owned());
        self.close_reason.get().cloned().unwrap_or_else(unknown)
    }

    /// True if the server has answered since the connection was last idle.
    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    /// True if the server has mixed up sessions, so that none can be addressed any more.
    pub(crate) fn is_tainted(&self) -> bool {
        self.is_tainted.load(Ordering::Relaxed)
    }

    /// Why the connection is congested, if it is.
    pub(crate) fn congestion(&self) -> Option<Congestion> {
        lock(&self.health).congestion
    }

    /// Returns the previous value.
    pub(crate) fn set_congestion(&self, congestion: Option<Congestion>) -> Option<Congestion> {
        std::mem::replace(&mut lock(&self.health).congestion, congestion)
    }

    pub(super) fn on_sampled(&self, sample: &HealthSample) {
        let mut health = lock(&self.health);
        health.rate = sample.rate();
        health.lost += sample.lost;
        health.path_round_trip = sample.path.map(|path| path.round_trip);
        health.out_of_order = sample.path.map(|path| path.out_of_order);
    }

    /// The health of the connection, for statistics.
    pub(crate) fn health(&self) -> ConnectionHealth {
        let measures = lock(&self.server_info).measures;
        ConnectionHealth {
            round_trip: measures.round_trip,
            last_answer: measures.last_answer,
            service_time: measures.service_time,
            ..*lock(&self.health)
        }
    }

    /// Says whether one session of the connection is to move elsewhere.
    pub(crate) fn invite_to_move(&self, is_wanted: bool) {
        self.invites_to_move.store(is_wanted, Ordering::Relaxed);
    }

    /// True if some or all sessions are to leave the connection.
    pub(crate) fn is_to_be_left(&self) -> bool {
        self.is_tainted() || self.invites_to_move.load(Ordering::Relaxed)
    }

    /// True for one session after each invitation.
    pub(crate) fn accept_invitation(&self) -> bool {
        self.invites_to_move.swap(false, Ordering::Relaxed)
    }

    /// Asks this session to move elsewhere, because its data rate congests its neighbours.
    pub(crate) fn ask_to_move(&self, session: SessionKey) {
        self.asked_to_move.store(session.index(), Ordering::Relaxed);
    }

    /// True once if this session was asked to move.
    pub(crate) fn is_asked_to_move(&self, session: SessionKey) -> bool {
        let (relaxed, asked) = (Ordering::Relaxed, &self.asked_to_move);
        asked.load(relaxed) == session.index()
            && (asked.compare_exchange(session.index(), NO_SESSION, relaxed, relaxed)).is_ok()
    }

    /// The server sends this session elsewhere.
    pub(super) fn redirect(&self, session: SessionKey, redirect: Redirect) {
        lock(&self.redirects).insert(session, redirect);
        self.has_redirects.store(true, Ordering::Relaxed);
    }

    /// Where the server sends this session, once for each time that it does.
    pub(crate) fn take_redirect(&self, session: SessionKey) -> Option<Redirect> {
        if !self.has_redirects.load(Ordering::Relaxed) {
            return None;
        }
        let mut redirects = lock(&self.redirects);
        let redirect = redirects.remove(&session);
        self.has_redirects
            .store(!redirects.is_empty(), Ordering::Relaxed);
        redirect
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

    /// What the connection has learned of its server so far.
    pub(crate) fn server_info(&self) -> ServerInfo {
        lock(&self.server_info).clone()
    }

    /// Ends the driver at once: at the deadline of a shutdown.
    pub(crate) fn abort(&self) {
        self.task.get().map(AbortHandle::abort);
    }
}

/// Something that happened to a connection.
#[derive(Debug)]
pub(crate) enum DriverEvent {
    /// The connection is established.
    Connected,
    /// The pool must give the connection to no further session: the driver saw EOF or an error, or
    /// closes it.
    Retired,
    /// The sessions of the connection go on, but no session may be added.
    NoMoreSessions,
    /// What the connection asks for, or has learned, about the credentials.
    Credentials(Instant, CredentialReport),
    /// One health sample of the connection, taken while its sessions play.
    Sampled(Instant, HealthSample),
    /// Framing was lost.
    FramingLost(Instant, FramingLoss),
    /// The server has ended one of several sessions.
    SessionLost(Instant, SessionKey),
    /// The machine was suspended. If the connection breaks now, that is not held against the
    /// session added last.
    Suspended,
    /// How connections of this server react to a DESCRIBE of a resource that does not exist.
    Probed(ProbeOutcome),
    /// The server has none of the sessions any more that were released on the connection.
    TornDown,
    /// The server asked for Digest.
    DigestSeen,
    /// The server announces sources of media that do not come.
    SsrcDisproved,
}

/// Receives the events of one connection. The driver drops it when it ends, however it ends; the
/// drop means that the connection is over.
pub(crate) trait DriverEvents: fmt::Debug + Send + Sync {
    fn handle(&self, event: DriverEvent);

    /// True if no session references the connection; then no session ever will.
    fn try_retire(&self) -> bool;
}
