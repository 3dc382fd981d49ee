//! The multiplexer: many RTSP sessions over few TCP connections.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use gstrtspmux::mux::{Mux, SessionOptions, Error};
//! # async fn example() -> Result<(), Error> {
//! let mux = Mux::builder().build();
//! let options = SessionOptions::new("rtsp://user:pw@nvr/ch/1")?;
//! let mut session = mux.open(options).describe().await?.setup_all().await?.play().await?;
//! while let Some(packet) = session.next().await {
//!     println!("stream {}: {} bytes", packet.stream, packet.payload.len());
//! }
//! session.teardown().await?; // or drop it: its TEARDOWN goes out all the same
//! mux.shutdown(Duration::from_secs(3)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Rooms
//!
//! ```text
//! session           one session: stages, set-up, migration, monitor
//! connection_pool   shared state under one lock: connections, references, limits, servers
//! policy            pure decisions: placement, sharing, next step, failover, redial, recovery, credentials
//! driver            one task per connection: socket, TLS, timer
//! delivery          the bounded queue between a connection and one consumer
//! proto             pure: one RTSP connection as a state machine
//! config tls server_key error event stats          what users see and set
//! ids clock release network                        the ground floor, which all may use
//! probe             whether the cameras of a user's server play and share connections
//! ```
//!
//! # Life of a connection
//!
//! The first [checkout](ConnectionPool::checkout) that finds no place elsewhere makes a connection.
//! Callers that come meanwhile wait for the same attempt. It belongs to the connection's task and not to
//! a caller: a caller that goes away does not disturb the others. The connection then carries sessions.
//! When no session references it any more it is idle, and kept for the
//! [idle timeout](Pooling::idle_connection_timeout) of the session that left last. A checkout within that
//! time gets it back; if it was idle for long, the server is asked first whether it is still there. The
//! connection ends by that timeout, by [`Mux::shutdown`], or because the server closed it or broke the
//! protocol. From the first sign of that no session gets it any more, and all its sessions end with an
//! error that says why.
//!
//! # Life of a session
//!
//! [`Opening`] → [`Described`] → [`Ready`] → [`Session`], one step for each of DESCRIBE, SETUP and
//! PLAY. Dropping any of them, or the future of a step, releases the session: exactly one TEARDOWN
//! goes out if the server has begun a session by then, or turns out to have. [`SessionMonitor`]
//! watches from outside and can wait until nothing is owed any more.
//!
//! # TLS
//!
//! A URL `rtsps` is played over TLS 1.2 or 1.3 on a connection to port 322, unless it names another:
//! one handshake for all sessions of the connection, for which the
//! [time that connecting may take](SessionOptions::connect_timeout) is counted anew. The driver makes
//! [all checks](CertificateChecks) of the server's certificate that the session's [`TlsOptions`] do not
//! leave out; an [error](TlsFailure) says which one failed. Sessions whose options differ share no
//! connection. A redirect may lead into TLS and never out of it. The system's authorities are read
//! once in the life of a process.
//!
//! # Recovery
//!
//! The multiplexer does not set up again a session that has ended. Its user opens another one, with
//! [`Mux::reopen`] if the monitor is to go on. The user asks for a [turn](Mux::turn) before, to spare a
//! server that restarts: one session dials for all, after waits that grow.
//!
//! # What is counted
//!
//! References are live handles, one for each session from its checkout to its release. The
//! connection's own task is not counted, nor are monitors and [`RtcpSender`]s: they keep nothing
//! alive.
//!
//! # What may block
//!
//! Two functions block, and say so: [`SessionMonitor::wait_released`] and
//! [`Mux::shutdown_blocking`]. A `drop` does no more than send a command. The futures run on any
//! executor; sockets and timers are in the tokio runtime given to [`MuxBuilder::runtime`], or in one
//! that all [`Mux`] of the process share, with a single thread named `rtspmux-io`. A consumer that
//! does not take its packets loses them ([`OverflowPolicy`], [`Packet::discontinuity`]) and holds up
//! no other session.
#![forbid(unsafe_code)]

pub(crate) mod clock;
mod config;
mod connection_pool;
// Public for `benches/` only.
#[doc(hidden)]
pub mod delivery;
mod driver;
mod error;
mod event;
mod ids;
// Public for `tests/sim` only.
#[doc(hidden)]
pub mod network;
mod policy;
pub mod probe;
pub mod proto;
mod release;
pub mod server_key;
mod session;
mod stats;
mod tls;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use self::connection_pool::PoolConfig;
pub use self::{
    config::{
        BeforeSend, Limits, Multiplex, OnRequest, OverflowPolicy, Pooling, SessionOptions, Timeouts,
    },
    connection_pool::{ConnectionHandle, ConnectionPool, Intent, RedialPermit},
    delivery::Packet,
    error::{Error, ErrorKind, Initiator, Scope, TlsFailure},
    event::{
        Congestion, ConnectionLimit, MuxEvent, MuxEvents, SharingChange, SharingVerdict,
        StateFileProblem,
    },
    policy::redial::RetryBounds,
    proto::{
        Counters, Credentials, MediaStream, OutgoingRequest, PacketKind, ParameterAnswer,
        ParameterRequest, PlayAnswer, PlayHeaders, Presentation, RtpInfo, ServerAnswer,
        ServerRequest, StreamGrant, wire::rtp::RtpHeader,
    },
    session::{
        RtcpSender, Session,
        monitor::SessionMonitor,
        parameters::ParameterSender,
        stages::{Described, Opening, Ready},
    },
    stats::{
        ConnectionHealth, ConnectionState, ConnectionStats, MuxStats, ServerStats, SessionStats,
        StreamCount, StreamStats, WaitReason,
    },
    tls::{
        CertificateChecks, ClientCertificate, InvalidTls, ServerCertificate, TlsDecisions,
        TlsOptions,
    },
};

#[cfg(feature = "plugin")]
pub(crate) use self::{
    ids::named,
    policy::recovery,
    release::{ReleaseTracker, lock},
};

/// Opens sessions and owns the connections they share. Cheap to clone; a process normally has one,
/// for what two of them open is not shared.
#[derive(Clone, Debug)]
pub struct Mux {
    pool: ConnectionPool,
}

impl Mux {
    /// Starts with the defaults.
    pub fn builder() -> MuxBuilder {
        MuxBuilder::default()
    }

    /// A new session. Does nothing until [`Opening::describe`].
    pub fn open(&self, options: SessionOptions) -> Opening {
        Opening::new(self.pool.clone(), options)
    }

    /// Waits until it is this session's turn to be tried (again); for sessions that are recovered.
    /// `after` is the error that ended the last attempt, if there was one.
    ///
    /// The turn comes at once, unless the server was lost. Then one session dials for all, after a wait
    /// that grows. When it has a connection a second session follows; when both are set up, or after half
    /// a second, all others. A session that had joined the connection shortly before it was lost comes a
    /// second later. If the dial fails, all others fail with it. Keep the [`RedialPermit`] until the
    /// session is described, then drop it. Dropping the future gives up the turn.
    ///
    /// # Errors
    ///
    /// The error of the session that dialled for all. Or the URL cannot be opened, or there is no runtime
    /// to wait in.
    pub async fn turn(
        &self,
        options: &SessionOptions,
        after: Option<&Error>,
        bounds: RetryBounds,
    ) -> Result<RedialPermit, Error> {
        self.turn_as(options, after, bounds, after.is_none()).await
    }

    /// As [`turn`](Self::turn), for a start by a program that may start again and again by itself: while the
    /// server is away, it waits as if it were a further attempt. Tell
    /// [`on_start_failed`](Self::on_start_failed) of each start that fails.
    ///
    /// # Errors
    ///
    /// Those of [`turn`](Self::turn).
    pub async fn turn_of_restart(
        &self,
        options: &SessionOptions,
        bounds: RetryBounds,
    ) -> Result<RedialPermit, Error> {
        self.turn_as(options, None, bounds, false).await
    }

    /// A start behind [`turn_of_restart`](Self::turn_of_restart) has failed, and its session asks for no
    /// further turn.
    pub fn on_start_failed(&self, options: &SessionOptions, error: &Error) {
        if let Ok(key) = options.connection_key() {
            let uri = options.presentation();
            self.pool.on_start_failed(key.server(), &uri, error);
        }
    }

    async fn turn_as(
        &self,
        options: &SessionOptions,
        after: Option<&Error>,
        bounds: RetryBounds,
        is_start: bool,
    ) -> Result<RedialPermit, Error> {
        let key = options.connection_key()?;
        let uri = options.presentation();
        let turn = self.pool.turn(&key, &uri, after, (bounds, is_start)).await;
        turn.map_err(|error| error.of_camera(&options.camera()))
    }

    /// Waits until the server has accepted the user and password of `options` from any session, and for
    /// ever if there are none. For sessions that ended with [`ErrorKind::CredentialsOnHold`].
    /// Dropping the future does nothing.
    pub async fn credentials_accepted(&self, options: &SessionOptions) {
        match options.connection_key() {
            Ok(key) => self.pool.credentials_accepted(&key).await,
            Err(_) => std::future::pending().await,
        }
    }

    /// A session that takes the place of one that was lost: `monitor` goes on watching.
    pub fn reopen(&self, options: SessionOptions, monitor: &SessionMonitor) -> Opening {
        Opening::watched(self.pool.clone(), options, monitor.clone())
    }

    /// New sessions that know of each other: at a server not yet known they are tried together on
    /// one connection before the first of them plays. Open them at the same time.
    pub fn open_many(&self, options: Vec<SessionOptions>) -> Vec<Opening> {
        let intend = |options| self.intend(options).ok();
        let intents: Vec<Option<Intent>> = options.iter().map(intend).collect();
        let openings = options.into_iter().zip(intents);
        let open = |(options, intent)| self.open(options).intended(intent);
        openings.map(open).collect()
    }

    /// Announces a session that will be opened soon, so that others wait for it a moment where
    /// that helps. Hand it to [`Opening::intended`] then, or drop it.
    ///
    /// # Errors
    ///
    /// The URL is none that could be opened.
    pub fn intend(&self, options: &SessionOptions) -> Result<Intent, Error> {
        Ok(self.pool.intend(options.connection_key()?))
    }

    /// What happens from now on, apart from the sessions' own affairs.
    pub fn events(&self) -> MuxEvents {
        self.pool.events()
    }

    /// Whether both are clones of one.
    #[cfg_attr(
        not(feature = "plugin"),
        expect(dead_code, reason = "the element asks")
    )]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.pool.is_same(&other.pool)
    }

    /// The connections.
    pub fn pool(&self) -> &ConnectionPool {
        &self.pool
    }

    /// What is open at the moment.
    pub fn stats(&self) -> MuxStats {
        self.pool.stats()
    }

    /// Ends everything: nothing new is opened, all connections tear their sessions down at the
    /// same time and close. What is not done by `deadline` is aborted. Afterwards no task, socket or
    /// timer is left; sessions still held end with an error. Calling it again does no harm.
    pub async fn shutdown(&self, deadline: Duration) {
        self.pool.shutdown(deadline).await;
    }

    /// [`shutdown`](Self::shutdown) for threads without a runtime: **blocks**.
    ///
    /// # Panics
    ///
    /// On a thread that runs asynchronous tasks.
    pub fn shutdown_blocking(&self, deadline: Duration) {
        self.pool.shutdown_blocking(deadline);
    }
}

/// Makes a [`Mux`].
#[derive(Debug, Default)]
#[must_use = "call `build`"]
pub struct MuxBuilder(PoolConfig);

impl MuxBuilder {
    /// Where connections run, with I/O and time enabled. Default: a runtime shared by all `Mux` of
    /// the process that were given none, made when the first of them connects.
    pub fn runtime(mut self, handle: Handle) -> Self {
        self.0.runtime = Some(handle);
        self
    }

    /// What is accepted from servers.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits;
        self
    }

    /// How long is waited for servers.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.0.timeouts = timeouts;
        self
    }

    /// A file in which is kept from run to run what was learned of servers; none by default. It
    /// holds servers, sharing verdicts, how far away and how fast the servers are and what they call
    /// themselves; and of cameras that were played on servers that share, the URI without user and
    /// password and the description, so that they start a round trip sooner. A description is left
    /// out if it, or its URI, has anything that may be a secret: any parameter but those that choose a
    /// stream. It also holds the random key of the hashes that stand in logs and messages in place of
    /// secrets, so that those of two runs can be compared.
    ///
    /// The file is read when the [`Mux`] is made, which waits for a slow disk for a quarter of a second
    /// at most. It is written when a verdict, or what follows from the speed, changes, which is rare, a
    /// second after new descriptions came, and by [`Mux::shutdown`], which waits for it until its
    /// deadline. A thread of its own reads and writes, and ends when there is nothing to do. A new file
    /// takes the old one's place as a whole and is for its owner only (mode 0600). Of several processes
    /// with one file each keeps what the others have learned of other servers.
    ///
    /// Up to 16 MiB are read and written. What is no regular file (a symbolic link, a FIFO, a device, a
    /// directory) and what holds something else is neither read nor replaced; that is
    /// [told](MuxEvent::StateFile) once, as any failure is, and everything works without the file.
    pub fn state(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.state_file = Some(path.into());
        self
    }

    /// Another network than the system's.
    #[doc(hidden)]
    pub fn network(mut self, network: Arc<dyn network::Network>) -> Self {
        self.0.network = Some(network);
        self
    }

    /// Makes it. Nothing is started yet.
    pub fn build(self) -> Mux {
        Mux {
            pool: ConnectionPool::new(self.0),
        }
    }
}
