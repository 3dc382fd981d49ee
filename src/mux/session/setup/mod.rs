//! From DESCRIBE to PLAY: on which connection a session is set up, and where it turns if a step fails.
//!
//! [`Setup::run`] is the one loop. Each turn looks at the pool and asks
//! [`next_step`](crate::mux::policy::next_step) what the session does: it begins an operation, goes to
//! another connection, or waits. There is one wait: for the answer to what is under way, for a change at
//! the server, for what is in front of it on its connection, and for the time.

mod attempt;
mod edit;
mod failed;
mod redirect;
mod requests;
mod trials;

use std::{fmt, pin::Pin, time::Instant};

use tokio::{runtime::Handle, sync::watch};

pub(crate) use self::attempt::StreamsSetUp;
use self::{
    attempt::{AtServer, Completing, Completion, Target, WantedStreams, Work},
    edit::Edit,
};
use super::{attachment::Attachment, monitor::SessionMonitor};
use crate::mux::{
    clock,
    config::{Multiplex, SessionOptions},
    connection_pool::{
        Checkout, CheckoutRequest, ConnectionHandle, ConnectionPool, Intent, Joining, Looked, News,
        RedialReporter, SharingGuard,
    },
    error::Error,
    ids::ConnectionId,
    policy::{
        failover::FailedStep,
        next_step::{
            Attempt, Operation, PendingTeardowns, SetupStage, SetupStep, UnderWay, next_step,
        },
        placement::Isolation,
        sharing::Sharing,
    },
    proto::{
        Backlog, PlayAnswer, PlayHeaders, Presentation, SessionConfig, SessionKey, wire::redacted,
    },
    release::ReleaseGuard,
    stats::WaitReason,
};

/// A session that is described, set up or plays.
pub(crate) struct Attached {
    pub(crate) attachment: Attachment,
    pub(crate) presentation: Presentation,
    pub(crate) streams: StreamsSetUp,
    pub(crate) play_answer: PlayAnswer,
}

/// A session on its way from DESCRIBE to PLAY.
pub(crate) struct Setup {
    pool: ConnectionPool,
    /// As the user gave them: whom to present the credentials to.
    options: SessionOptions,
    target: Target,
    /// What kind of connection to try next.
    checkout: CheckoutRequest,
    here: AtServer,
    wanted: WantedStreams,
    /// Where it begins to play; `None`: where the description says.
    pub(crate) begins_at: Option<PlayHeaders>,
    edit: Option<Edit>,
    /// The redial policy is to follow it, from its first look at the pool on.
    begins: bool,
    /// Tells the redial policy what becomes of the session; none for one that is to take the place of
    /// a session that plays.
    reporter: Option<RedialReporter>,
    /// Announced this session, until it has a place at a connection.
    intent: Option<Intent>,
    pub(crate) monitor: SessionMonitor,
    /// What the user's handle owes; the last field, dropped last.
    _release: ReleaseGuard,
}

impl Setup {
    pub(crate) fn new(
        pool: ConnectionPool,
        options: SessionOptions,
        monitor: SessionMonitor,
    ) -> Result<Self, Error> {
        Ok(Self {
            checkout: CheckoutRequest::new(&options)?,
            target: Target {
                url: options.url.clone(),
                redirected: Vec::new(),
                lent: None,
            },
            here: AtServer::default(),
            wanted: WantedStreams::default(),
            begins_at: None,
            edit: None,
            pool,
            options,
            begins: false,
            reporter: None,
            intent: None,
            _release: monitor.release_guard(),
            monitor,
        })
    }

    /// Brings up the same once more, beside it, on a connection of its own; none where that is not to
    /// be: the server is known to be full at times.
    pub(crate) fn successor(&self) -> Option<Self> {
        let may = self.is_tried() && !self.is_ever_full();
        let mut successor = self.another().filter(|_| may)?;
        successor.checkout.isolation = Isolation::Dedicated;
        Some(successor)
    }

    /// Brings up the same once more, beside it, on another connection than the congested one; none where
    /// there is none.
    pub(crate) fn relief(&self, congested: ConnectionId) -> Option<Self> {
        let is_shared =
            self.options.pooling.enable_connection_pooling && !self.checkout.is_dedicated();
        let mut relief = self.another().filter(|_| is_shared)?;
        relief.checkout.avoid = vec![congested];
        // It plays, and so is described.
        relief.checkout.needs_describe = false;
        self.pool
            .may_rebalance(&relief.checkout, congested)
            .then_some(relief)
    }

    /// Brings up the same once more, beside it, on a connection of its own: what its camera sends does
    /// the other sessions on `odd` harm. None where no such connection may be made.
    pub(crate) fn apart(&self, odd: ConnectionId) -> Option<Self> {
        let mut apart = self.another()?;
        apart.checkout.avoid = vec![odd];
        apart.checkout.isolation = match self.is_tried() {
            true => Isolation::Dedicated,
            false => apart.checkout.isolation.max(Isolation::Alone),
        };
        let has_place = self.pool.has_place_apart(&apart.checkout, odd);
        has_place.then_some(apart)
    }

    /// Describes the same once more, beside it.
    pub(crate) fn describing_again(&self) -> Result<Self, Error> {
        self.pool.forget(&self.checkout);
        let mut describing = Self::new(
            self.pool.clone(),
            self.options.clone(),
            SessionMonitor::new(),
        )?;
        describing.target = self.target.clone();
        describing.checkout = self.checkout.clone();
        describing.edit.clone_from(&self.edit);
        describing.checkout.needs_describe = true;
        Ok(describing)
    }

    /// Brings up the same once more on any connection that has room.
    pub(crate) fn another(&self) -> Option<Self> {
        let (options, monitor) = (self.options.clone(), self.monitor.clone());
        let mut another = Self::new(self.pool.clone(), options, monitor).ok()?;
        another.target = self.target.clone();
        another.checkout = self.checkout.clone();
        another.edit.clone_from(&self.edit);
        Some(another)
    }

    /// Whether `other` would be a second session at this server, and may be one too many.
    pub(crate) fn may_be_full_for(&self, other: &Self) -> bool {
        self.is_ever_full() && self.checkout.key.server() == other.checkout.key.server()
    }

    pub(crate) fn runtime(&self) -> Result<Handle, Error> {
        self.pool.runtime().cloned()
    }

    /// Whether the server was ever out of room: a session may not be there twice.
    pub(crate) fn is_ever_full(&self) -> bool {
        self.sharing(|sharing| sharing.has_said_full)
    }

    /// The session plays on a connection of its own, and is to have one when it is opened again.
    pub(crate) fn on_apart(&self, (odd, session): (ConnectionId, SessionKey)) {
        self.pool.on_odd_moved(odd, session);
        let (now, uri) = (clock::now(), self.checkout.presentation());
        self.learn(|sharing| sharing.joins.isolate(now, &uri, false));
    }

    /// The session could not move, and stays.
    pub(crate) fn on_stays(&self, (odd, session): (ConnectionId, SessionKey)) {
        self.pool.on_odd_stays(odd, session);
    }

    /// From here on the redial policy follows the session.
    pub(crate) fn begin(&mut self) {
        self.begins = true;
    }

    pub(crate) fn set_intent(&mut self, intent: Option<Intent>) {
        self.intent = intent;
    }

    /// An error as the user gets it: it says whether it was met behind a redirect.
    pub(crate) fn of_target(&self, error: Error) -> Error {
        match self.target.redirected.is_empty() {
            true => error,
            false => error.behind_redirect(),
        }
    }

    /// A PLAY of the session goes out once more.
    pub(crate) fn joining(&self, attachment: &Attachment) -> Joining {
        let uri = self.checkout.presentation();
        self.pool.joining(attachment.connection(), uri)
    }

    /// The camera's name in logs and errors.
    pub(crate) fn camera(&self) -> String {
        redacted(&self.target.url)
    }

    /// Whether the session takes part in trials: with the other settings all is said beforehand.
    fn is_tried(&self) -> bool {
        let pooling = &self.options.pooling;
        pooling.enable_connection_pooling && pooling.multiplex == Multiplex::Auto
    }

    /// What is known of the server's sharing.
    fn sharing<T>(&self, question: impl FnOnce(&Sharing) -> T) -> T {
        self.pool.sharing(self.checkout.key.server(), question)
    }

    /// The pool learns something of the server's sharing.
    fn learn<T>(&self, lesson: impl FnOnce(&mut Sharing) -> T) -> T {
        self.pool.learn(self.checkout.key.server(), lesson)
    }

    /// Describes the presentation, on another connection if need be, following redirects.
    pub(crate) async fn describe(&mut self) -> Result<Attached, Error> {
        self.run(SetupStage::Described).await
    }

    /// Sets up `streams`; as far as another connection is needed for it, describes again there.
    pub(crate) async fn set_up(
        &mut self,
        described: Attached,
        streams: &[usize],
    ) -> Result<Attached, Error> {
        self.wanted = WantedStreams {
            streams: streams.to_vec(),
            of: self.edited(&described.presentation).streams.len(),
            left_out: Vec::new(),
        };
        self.resume(described);
        self.run(SetupStage::SetUp).await
    }

    /// Plays what is set up. Another session may have upset the server meanwhile: then all is done
    /// again on another connection, since nothing played yet that could be disturbed.
    pub(crate) async fn play(&mut self, set_up: Attached) -> Result<Attached, Error> {
        self.resume(set_up);
        let mut playing = self.run(SetupStage::Playing).await?;
        playing.attachment.suspected = self.here.suspected.take();
        // With its reference the session is over for the redial policy, too.
        playing.attachment.handle.reporter = self.reporter.take();
        Ok(playing)
    }

    fn resume(&mut self, attached: Attached) {
        self.here.attachment = Some(attached.attachment);
        self.here.presentation = Some(attached.presentation);
        self.here.streams = attached.streams;
    }

    /// What the session has got so far; none if it is not on a connection.
    fn attached(&mut self) -> Option<Attached> {
        Some(Attached {
            attachment: self.here.attachment.take()?,
            presentation: self.here.presentation.take()?,
            streams: std::mem::take(&mut self.here.streams),
            play_answer: std::mem::take(&mut self.here.play_answer),
        })
    }

    /// Brings the session as far as `goal`.
    async fn run(&mut self, goal: SetupStage) -> Result<Attached, Error> {
        let attached = self.steps(goal).await;
        attached.map_err(|error| self.of_target(error))
    }

    async fn steps(&mut self, goal: SetupStage) -> Result<Attached, Error> {
        let runtime = self.pool.runtime()?.clone();
        let (mut work, mut looked) = (Work::none(), None);
        loop {
            let step = self.next(goal, &work, &mut looked);
            if !matches!(step, SetupStep::Wait(..)) {
                self.here.attempt.waits = None;
            }
            match step {
                SetupStep::Done => match self.attached() {
                    Some(attached) => return Ok(attached),
                    None => self.here.detach(),
                },
                SetupStep::Fail => {
                    if let Some(refusal) = self.here.refusal.take() {
                        return Err(refusal);
                    }
                }
                SetupStep::Wait(until, reason) => {
                    let changes = looked
                        .as_ref()
                        .map(|looked: &Looked| looked.changes.clone());
                    let answer = &mut work.answer;
                    let answer = self.wait(&runtime, (until, reason), answer, changes).await;
                    if let Some(answer) = answer {
                        let joining = work.joining.take();
                        work = self.on_answer(answer, joining)?;
                    }
                }
                SetupStep::Move(reason) => {
                    let was_asked = work.operation.is_some();
                    work = Work::none();
                    let mode = looked.as_ref().map(|looked: &Looked| looked.view.mode);
                    self.turn(reason, mode.unwrap_or_default(), was_asked);
                }
                step => {
                    if let Some(looked) = &mut looked {
                        work = self.begin_step(step, looked)?;
                    }
                }
            }
        }
    }

    /// What the session does next: by what the pool knew when it last looked, as long as nothing has
    /// changed there that concerns it; else by another look.
    fn next(&mut self, goal: SetupStage, work: &Work, last: &mut Option<Looked>) -> SetupStep {
        let is_checked = goal != SetupStage::Described || !self.checkout.needs_describe;
        if self.here.attempt.stage == goal && is_checked {
            return SetupStep::Done;
        }
        let attempt = self.attempt(goal, work);
        if let (Some(last), Some(under_way)) = (last.as_mut(), attempt.under_way) {
            if !under_way.operation.is_request() {
                last.changes.mark_unchanged();
            }
            let is_disturbed = under_way.operation.is_request()
                && (under_way.is_behind_others()
                    || attempt.is_spread
                    || last.view.is_ignoring
                    || last.changes.has_changed().unwrap_or(true));
            if !is_disturbed {
                return next_step(&last.view, &attempt, clock::now());
            }
        }
        let here = &mut self.here;
        let fresh = here.fresh.take().zip(here.attachment.as_ref());
        let described = fresh.zip(here.presentation.as_ref());
        let news = News {
            has_begun: std::mem::take(&mut self.begins),
            described: described.map(|((fresh, attachment), presentation)| {
                (fresh, &attachment.handle, presentation)
            }),
        };
        let reporter = self.reporter.as_ref();
        let mut looked = self.pool.look(&self.checkout, &attempt, reporter, news);
        if let Some(reporter) = looked.reporter.take() {
            self.reporter = Some(reporter);
        }
        let step = looked.step;
        *last = Some(looked);
        step
    }

    /// What the session knows of itself.
    fn attempt(&mut self, goal: SetupStage, work: &Work) -> Attempt {
        let is_tried = self.is_tried();
        let here = &mut self.here;
        let place = here.place();
        let under_way = work.operation.map(|operation| {
            let backlog = here
                .backlog
                .as_mut()
                .map(|backlog| backlog.borrow_and_update());
            let (backlog, key) = (backlog.as_deref(), place.map(|place| place.session));
            let head = backlog.and_then(|backlog| backlog.head);
            UnderWay {
                operation,
                since: work.since,
                patience: work.patience,
                is_unsent: backlog.is_some_and(|backlog| {
                    backlog.unsent.iter().any(|unsent| Some(*unsent) == key)
                }),
                blocked_since: backlog.and_then(|backlog| backlog.blocked_since(key?)),
                is_at_head: head.is_some_and(|head| head.session == key),
                is_behind_describe: head.is_some_and(|head| head.is_describe),
                is_behind_lost: head.is_some_and(|head| head.is_perhaps_lost),
            }
        });
        // Read above, where something is under way: a change since then has to wake the session.
        if let Some(backlog) = here.backlog.as_mut().filter(|_| under_way.is_none()) {
            backlog.mark_unchanged();
        }
        let attempt = Attempt {
            goal,
            is_tried,
            isolation: self.checkout.isolation,
            connect_timeout: self.options.connect_timeout,
            under_way,
            place,
            needs_describe: self.checkout.needs_describe,
            is_spread: self.checkout.is_spread,
            canary: here.canary_state(),
            seeks_capacity: here.full_with.is_some() && here.capacity_probe.is_none(),
            has_refusal: here.refusal.is_some(),
            ..here.attempt
        };
        here.attempt = attempt;
        attempt
    }

    /// The one wait: for the answer to what is under way, a change at the server, or the time.
    async fn wait(
        &mut self,
        runtime: &Handle,
        (until, reason): (Option<Instant>, WaitReason),
        answer: &mut Completing,
        changes: Option<watch::Receiver<()>>,
    ) -> Option<Completion> {
        if self
            .here
            .attempt
            .waits
            .is_none_or(|(other, _)| other != reason)
        {
            tracing::debug!("{}: waits for {}", self.camera(), reason.name());
            self.here.attempt.waits = Some((reason, clock::now()));
        }
        if matches!(reason, WaitReason::Teardowns | WaitReason::Capacity) {
            // It has waited for a decision, if there was one to wait for.
            self.here.attempt.stage = SetupStage::Unplaced;
        }
        let _waiting = self.monitor.waits_for(reason);
        let mut changes = changes.unwrap_or_else(|| watch::Sender::new(()).subscribe());
        let mut none = watch::Sender::new(Backlog::default()).subscribe();
        let backlog = self.here.backlog.as_mut().unwrap_or(&mut none);
        let limit = until.map(|until| until.saturating_duration_since(clock::now()));
        clock::unless_changed(runtime, limit, Pin::new(answer), &mut changes, backlog).await
    }

    /// Begins the operation of a step, or does what it says at once.
    fn begin_step(&mut self, step: SetupStep, looked: &mut Looked) -> Result<Work, Error> {
        let server = self.checkout.key.server().clone();
        let guard =
            |when_over: fn(&mut Sharing)| Some(SharingGuard::new(&self.pool, &server, when_over));
        if matches!(step, SetupStep::ProbeCapacity | SetupStep::NoteRoom) {
            // It has waited for a decision, if there was one to wait for.
            self.here.attempt.stage = SetupStage::Unplaced;
        }
        match step {
            SetupStep::PromiseCanary => {
                self.here.canary = guard(|sharing| sharing.canary.give_up())
            }
            SetupStep::ProbeCapacity => {
                self.here.capacity_probe = guard(|sharing| sharing.room.give_up());
                // A fresh one, whatever others there are: they may be as full.
                let is_tried = self.is_tried();
                self.checkout.be_alone(is_tried);
            }
            SetupStep::NoteRoom => self.here.attempt.pending_teardowns = PendingTeardowns::Awaited,
            SetupStep::Connect {
                needs_describe,
                isolation,
            } => {
                (self.checkout.needs_describe, self.checkout.isolation) =
                    (needs_describe, isolation);
                if let Some(remembered) = looked.view.remembered.take() {
                    (self.here.attempt.is_described, self.here.is_remembered) = (true, true);
                    self.here.presentation = Some(remembered);
                }
                self.here.attempt.tried.connections += 1;
                return Ok(self.connect(looked.placed.take()));
            }
            SetupStep::Describe(patience) => {
                return Ok(self.request(Operation::Describe, patience, looked));
            }
            SetupStep::Doubt(doubt) => self.doubt(doubt),
            SetupStep::CheckDescription(until) => {
                self.here.check = guard(|sharing| sharing.description_check.give_up());
                return Ok(self.check_description(until));
            }
            SetupStep::Believe => {
                (self.here.attempt.stage, self.here.doubt) = (SetupStage::Described, None);
            }
            SetupStep::Rejoin => return Ok(self.rejoin(looked)),
            SetupStep::SetUp(patience) => {
                self.fit_streams()?;
                // Those that are leaving now may be gone when it is refused.
                self.here.attempt.pending_teardowns = match self.here.attempt.pending_teardowns {
                    PendingTeardowns::Awaited => PendingTeardowns::Awaited,
                    _ if looked.view.has_pending_teardowns => PendingTeardowns::Seen,
                    _ => PendingTeardowns::Unseen,
                };
                return Ok(self.request(Operation::SetUp, patience, looked));
            }
            SetupStep::SendCanary => {
                self.here.is_canary_spent = true;
                let promised = self.here.canary.take();
                self.here.canary = promised.or_else(|| guard(|sharing| sharing.canary.give_up()));
                return Ok(self.send_canary());
            }
            SetupStep::Play(patience) => {
                return Ok(self.request(Operation::Play, patience, looked));
            }
            SetupStep::Done | SetupStep::Wait(..) | SetupStep::Move(_) | SetupStep::Fail => {}
        }
        Ok(Work::none())
    }

    /// Waits for the connection that the session was given, or asks for one.
    fn connect(&self, placed: Option<Result<Checkout, Error>>) -> Work {
        let (pool, checkout) = (self.pool.clone(), self.checkout.clone());
        Work::new(Operation::Connect, async move {
            Completion::Connected(match placed {
                Some(Ok(placed)) => pool.connect(placed, checkout).await,
                Some(Err(error)) => Err(error),
                None => pool.fulfil(checkout).await,
            })
        })
    }

    /// What the session had under way is done. Gives what follows from it at once.
    fn on_answer(&mut self, answer: Completion, joining: Option<Joining>) -> Result<Work, Error> {
        match answer {
            Completion::Connected(Ok(handle)) => {
                // From here on the session is counted on its connection.
                self.intent = None;
                return Ok(self.open(handle));
            }
            Completion::Connected(Err(error)) if self.does_without(&error) => {
                self.here.refusal = Some(error);
                return Ok(self.connect(None));
            }
            Completion::Connected(Err(error)) => return Err(self.best_error(error)),
            Completion::Opened(Ok(attachment)) => {
                self.here.attach(attachment);
                let needs_describe =
                    self.checkout.needs_describe && !self.here.attempt.has_rejoined;
                let is_described = self.here.attempt.is_described && !needs_describe;
                if is_described {
                    self.here.is_described_elsewhere();
                }
                self.here.attempt.stage = match is_described {
                    true => SetupStage::Described,
                    false => SetupStage::Placed,
                };
            }
            Completion::Opened(Err((handle, failure))) => {
                if !self.returns_from(&handle, &failure) {
                    self.recover(FailedStep::SetUp, &handle, failure)?;
                }
                self.here.detach();
            }
            Completion::Described(Ok(reply)) => self.on_described(reply, joining)?,
            Completion::Described(Err(failure)) => self.on_describe_failed(failure, joining)?,
            Completion::Checked(alone) => self.on_checked(alone)?,
            Completion::Rejoined(handle) => {
                self.here.attempt.has_rejoined = true;
                return Ok(handle.map_or_else(Work::none, |handle| self.open(handle)));
            }
            Completion::SetUp(Ok(done)) => self.on_set_up(done, joining)?,
            Completion::SetUp(Err(failure)) => {
                drop(joining);
                self.on_set_up_failed(failure)?;
            }
            Completion::Playing(Ok(reply)) => self.on_playing(reply, joining),
            Completion::Playing(Err(failure)) => {
                drop(joining);
                if let Some(failure) = self.follow_if_redirected(failure)? {
                    self.recover_here(FailedStep::Play, failure)?;
                }
            }
            Completion::Canary(outcome) => self.on_canary(outcome),
        }
        Ok(Work::none())
    }

    fn session_config(&self) -> SessionConfig {
        SessionConfig {
            url: self.target.url.clone(),
            keep_alive: self.options.keep_alive,
            block_size: self.options.block_size,
        }
    }

    /// Makes the session on this connection.
    fn open(&self, handle: ConnectionHandle) -> Work {
        let config = self.session_config();
        let (overflow, monitor) = (self.options.overflow, self.monitor.clone());
        let patience = self.options.answer_timeout;
        Work::new(Operation::Connect, async move {
            let opened = Attachment::open(handle, config, overflow, &monitor).await;
            if let (Ok(attachment), Some(patience)) = (&opened, patience) {
                attachment.set_patience(patience);
            }
            Completion::Opened(opened)
        })
    }
}

/// Without the presentation: its URLs may hold secrets.
impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached")
            .field("connection", &self.attachment.connection())
            .field("session", &self.attachment.key())
            .finish_non_exhaustive()
    }
}

/// Its URLs may hold secrets.
impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("camera", &self.camera())
            .field("checkout", &self.checkout)
            .field("connections", &self.here.attempt.tried.connections)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
