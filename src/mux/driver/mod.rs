//! The driver: one task per connection, which moves bytes, commands and time between a socket and
//! the protocol core.
//!
//! A driver owns the socket, the timer and the `select!` of its connection. It makes no decisions:
//! [`proto`](super::proto), [`policy`](super::policy) and the [pool](super::connection_pool) make
//! them.
//!
//! Rules it keeps:
//!
//! * There is no await between reading bytes and queueing the packets in them.
//! * Reads and writes advance together: neither waits for the other, nor for a consumer.
//! * However a driver ends (closed, failed, aborted or by a panic), all its fields are dropped, and
//!   each drop notifies the tasks that wait: [`DriverEvents`], [`Sessions`], [`DriverEnds`].
#![expect(
    clippy::disallowed_methods,
    reason = "the driver is where clock, timers and tasks belong"
)]

mod buffers;
mod dial;
mod dispatch;
mod health;
mod link;
mod select;
mod sessions;
mod socket;
mod suspend;
mod tls;

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::yield_now,
    time::{Sleep, sleep, sleep_until},
};

use self::{
    buffers::{Input, MOMENT, PlayBatching, ReadPacing},
    health::HealthSampler,
    select::{FairSelect, SelectOutcome, SelectSources},
    sessions::Sessions,
    socket::QuickAck,
    suspend::SuspendDetector,
};
pub(crate) use self::{
    link::{
        Command, DriverEnds, DriverEvent, DriverEvents, DriverHandle, NewSession, Report,
        SessionGuard,
    },
    tls::TlsClient,
};
use super::{
    clock,
    error::Error,
    network::{Network, Wire},
    proto::{CloseReason, Connection, ConnectionConfig, ProbeOutcome},
    server_key::{BeforeSend, OnRequest},
    stats::PathInfo,
};

/// Target of the wire log: every RTSP message without its secrets, at level TRACE.
const WIRE: &str = "rtspmux::wire";
/// The most reads in a row while there is more to read: fewer wake-ups under load. With more of
/// them commands and timers would wait, and packets would have left the processor's cache before
/// consumers take them.
const MAX_READS: usize = 4;

/// True if a subscriber wants the wire log. Costs next to nothing if there is none.
fn is_wire_logged() -> bool {
    tracing::enabled!(target: WIRE, tracing::Level::TRACE)
}

/// What a driver is started with.
#[derive(Debug)]
pub(crate) struct DriverParts {
    pub(crate) events: Box<dyn DriverEvents>,
    pub(crate) handle: Arc<DriverHandle>,
    pub(crate) ends: DriverEnds,
    pub(crate) config: ConnectionConfig,
    pub(crate) connect_timeout: Duration,
    /// `None` for plain TCP.
    pub(crate) tls: Option<Arc<TlsClient>>,
    /// Sees the requests, where [`ConnectionConfig::shows_requests`] is set.
    pub(crate) before_send: Option<BeforeSend>,
    /// Answers the server's requests, where [`ConnectionConfig::asks_for_answers`] is set.
    pub(crate) on_request: Option<OnRequest>,
    /// `None` for the system's network.
    pub(crate) network: Option<Arc<dyn Network>>,
}

/// Starts the driver of one connection. It ends by itself once the connection is over.
pub(crate) fn start(runtime: &Handle, parts: DriverParts) {
    let handle = Arc::clone(&parts.handle);
    let task = runtime.spawn(run(parts));
    // Set once, here.
    let _ = handle.task.set(task.abort_handle());
}

async fn run(mut parts: DriverParts) {
    // The parts are dropped after all locals: the socket closes before the pool forgets the connection.
    let handle = Arc::clone(&parts.handle);
    let mut deferred = Vec::new();
    let network = parts.network.clone();
    if let Some(network) = &network {
        parts.config.seed = network.seed();
    }
    let suspend_detector = SuspendDetector::new(clock::now(), network.clone());
    let dialing = dial::dial(&handle, parts.connect_timeout, parts.tls.clone(), network);
    match connect(&mut parts, dialing, &mut deferred).await {
        Ok(transport) => {
            tracing::info!("{}/-: connected to {}", handle.id, handle.server);
            parts.config.path = handle.server_info().connect_time.unwrap_or_default();
            parts.events.handle(DriverEvent::Connected);
            parts.ends.readiness.send_replace(Some(Ok(())));
            let driver = Driver::new(parts, transport, suspend_detector);
            driver.run(deferred).await;
        }
        Err(error) => {
            tracing::info!("{}/-: {error}", handle.id);
            // The pool forgets the failed attempt first, so that a session that tries again at once
            // does not find it counted.
            drop(parts.events);
            parts.ends.readiness.send_replace(Some(Err(error)));
        }
    }
}

/// Dials until that succeeds or fails, until no session waits for it any more, or until shutdown.
/// Keeps the commands that arrive meanwhile in `deferred`.
async fn connect(
    parts: &mut DriverParts,
    dialing: impl Future<Output = Result<Box<dyn Wire>, Error>>,
    deferred: &mut Vec<Command>,
) -> Result<Box<dyn Wire>, Error> {
    tracing::debug!(
        "{}/-: connecting to {}",
        parts.handle.id,
        parts.handle.server
    );
    let mut dialing = pin!(dialing);
    loop {
        tokio::select! {
            biased;
            command = parts.ends.commands.recv() => match command {
                None | Some(Command::Close) => return Err(Error::shut_down()),
                Some(Command::SetIdle(Some(_))) if parts.events.try_retire() => {
                    return Err(Error::abandoned());
                }
                Some(command) => deferred.push(command),
            },
            result = &mut dialing => return result,
        }
    }
}

/// A connection with a socket.
struct Driver {
    handle: Arc<DriverHandle>,
    core: Connection,
    ends: DriverEnds,
    /// The caller that waits for the result of the probe under way.
    probed: Option<oneshot::Sender<ProbeOutcome>>,
    sessions: Sessions,
    before_send: Option<BeforeSend>,
    on_request: Option<OnRequest>,
    transport: Box<dyn Wire>,
    fair_select: FairSelect,
    input: Input,
    outbox: BytesMut,
    quick_ack: QuickAck,
    read_pacing: ReadPacing,
    sampler: HealthSampler,
    /// Reading stopped at [`MAX_READS`] with more to read.
    has_more_input: bool,
    play_batching: PlayBatching,
    suspend_detector: SuspendDetector,
    /// Until when writing is put off, to send more in one packet.
    held_until: Option<Instant>,
    /// Armed at or before the core's deadline. When the deadline moves to a later time the timer is
    /// not touched: it fires early, and is armed again.
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
    over: Option<CloseReason>,
    /// The pool was told that the server knows Digest.
    told_of_digest: bool,
    /// The pool knows whether the server announces sources that do not come.
    told_of_ssrc: bool,
    /// The number of answers when the server info was last passed on.
    answers: u64,
    /// The last field, because it has to be dropped last.
    events: Box<dyn DriverEvents>,
}

impl Driver {
    fn new(
        parts: DriverParts,
        transport: Box<dyn Wire>,
        suspend_detector: SuspendDetector,
    ) -> Self {
        let DriverParts { handle, ends, .. } = parts;
        let connect_time = handle.server_info().connect_time;
        Self {
            sessions: Sessions::new(handle.id),
            handle,
            core: Connection::new(parts.config, clock::now()),
            ends,
            before_send: parts.before_send,
            on_request: parts.on_request,
            probed: None,
            transport,
            fair_select: FairSelect::default(),
            input: Input::new(),
            outbox: BytesMut::new(),
            quick_ack: QuickAck::default(),
            read_pacing: ReadPacing::default(),
            sampler: HealthSampler::default(),
            has_more_input: false,
            play_batching: PlayBatching::new(connect_time.unwrap_or_default()),
            suspend_detector,
            held_until: None,
            timer: Box::pin(sleep_until(tokio::time::Instant::now())),
            timer_at: None,
            over: None,
            told_of_digest: false,
            told_of_ssrc: false,
            answers: 0,
            events: parts.events,
        }
    }

    async fn run(mut self, deferred: Vec<Command>) {
        self.core.set_wire_log(is_wire_logged());
        for command in deferred {
            self.on_command(command);
        }
        loop {
            self.settle();
            self.core.set_wire_log(is_wire_logged());
            if let Some(reason) = self.over.take() {
                tracing::info!("{}/-: closed: {reason}", self.handle.id);
                tracing::debug!("{}/-: {:?}", self.handle.id, self.handle.server_info());
                return self.sessions.on_closed(&reason);
            }
            self.arm_timer();
            if std::mem::take(&mut self.has_more_input) {
                // Consumers that were just woken run first, if they are on this thread.
                yield_now().await;
            }
            let is_pausing = self.read_pacing.take(self.handle.budget.used());
            let mut pause = pin!(is_pausing.then(|| sleep(MOMENT)));
            // By a consumer with `overflow-policy=block`. A connection that is closing goes on reading,
            // because it waits for the answers to its TEARDOWNs.
            let is_blocked = !self.core.is_closing() && self.sessions.blocking().is_some();
            if is_blocked == self.core.is_reading() {
                self.core.set_reading_paused(clock::now(), is_blocked);
            }
            let outcome = self.fair_select.next(SelectSources {
                transport: &mut *self.transport,
                pause: pause.as_mut().as_pin_mut(),
                blocking: self.sessions.blocking().filter(|_| is_blocked),
                wants_to_write: !self.outbox.is_empty() && self.held_until.is_none(),
                commands: &mut self.ends.commands,
                reports: &mut self.ends.reports,
                timer: self.timer_at.is_some().then_some(self.timer.as_mut()),
            });
            match outcome.await {
                SelectOutcome::Read => self.read(),
                // The next call of `settle` writes, and the next turn of the loop reads.
                SelectOutcome::Write | SelectOutcome::Resume => {}
                SelectOutcome::Fail(error) => self.on_io_error(&error),
                SelectOutcome::Command(command) => self.on_commands(command).await,
                SelectOutcome::Report(report) => self.on_reports(report),
                SelectOutcome::Timer => self.on_timer(),
            }
        }
    }

    /// Reads and processes what the socket has. The number of reads is bounded, so that nothing
    /// else starves.
    fn read(&mut self) {
        // A consumer that may block has to be looked at after each read.
        let reads = match self.sessions.may_block {
            true => 1,
            false => MAX_READS,
        };
        for _ in 0..reads {
            match self.transport.try_read(self.input.with_room()) {
                Ok(0) => {
                    // First of all: the pool must not give this connection to another session.
                    self.events.handle(DriverEvent::Retired);
                    return self.core.handle_eof(clock::now());
                }
                Ok(read) => {
                    let now = clock::now();
                    self.handle.counters.bytes_received.add(read as u64);
                    let is_bringing_up = self.core.is_bringing_up();
                    if self.quick_ack.on_read(now, is_bringing_up) {
                        self.transport.acknowledge_at_once();
                    }
                    let sessions = &mut self.sessions;
                    let deliver = |packet| sessions.deliver(now, packet);
                    self.core.handle_input(now, &mut self.input.unread, deliver);
                    self.drain_events(now);
                    self.take_sample(now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.on_io_error(&error),
            }
        }
        self.has_more_input = true;
    }

    /// Takes a health sample if it is time for one.
    fn take_sample(&mut self, now: Instant) {
        let handle = &self.handle;
        let bytes = handle.counters.bytes_received.get();
        let path_info = || {
            let (round_trip, out_of_order) = self.transport.path_info()?;
            Some(PathInfo {
                round_trip,
                out_of_order,
            })
        };
        let measures = || (self.core.measures(), path_info());
        let losses = |sample: &mut _| self.sessions.take_losses(sample);
        let sampler = &mut self.sampler;
        if let Some(sample) = sampler.sample(now, bytes, measures, &handle.budget, losses) {
            handle.on_sampled(&sample);
            if sample.calls_for_answer() {
                self.core.keep_next_alive(now);
            }
            self.events.handle(DriverEvent::Sampled(now, sample));
        }
    }

    fn on_io_error(&mut self, error: &io::Error) {
        self.events.handle(DriverEvent::Retired);
        self.core.handle_io_error(clock::now(), error.to_string());
    }

    fn on_timer(&mut self) {
        self.timer_at = None;
        self.detect_suspend();
        self.core.handle_timeout(clock::now());
    }

    /// Called before anything is sent or timed out by a clock that stood still while the machine
    /// was suspended.
    fn detect_suspend(&mut self) {
        let now = clock::now();
        let Some(suspended) = self.suspend_detector.look(now) else {
            return;
        };
        tracing::info!(
            "{}/-: the machine was asleep for {suspended:?}",
            self.handle.id
        );
        self.events.handle(DriverEvent::Suspended);
        self.core.handle_suspend(now, suspended);
    }

    fn arm_timer(&mut self) {
        let has_sessions = self.core.session_count() > 0;
        let next_look = has_sessions.then(|| self.suspend_detector.next_look());
        let deadlines = [self.core.poll_timeout(), self.held_until, next_look];
        let Some(deadline) = deadlines.into_iter().flatten().min() else {
            return;
        };
        if self.timer_at.is_none_or(|armed| deadline < armed) {
            let deadline_at = tokio::time::Instant::from_std(deadline);
            self.timer.as_mut().reset(deadline_at);
            self.timer_at = Some(deadline);
        }
    }
}
