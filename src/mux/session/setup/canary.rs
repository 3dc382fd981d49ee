//! Finding out whether a server can share, without harm to anything that plays.
//!
//! Several sessions that come up together are the trial themselves: each is held before its PLAY
//! until a second one has been set up on the connection. A session that comes later is set up on a new
//! connection and sends a *canary* there: one more SETUP of its own presentation, torn down again at
//! once.

use std::time::Duration;

use super::{BringUp, NEXT_LOOK, Step, StreamsSetUp, setup_request};
use crate::mux::{
    clock,
    config::{Multiplex, OverflowPolicy},
    connection_pool::{self, ConnectionPool, Described},
    error::Error,
    policy::{
        failover::{Failover, FailureContext, failover},
        sharing::{
            Evidence, SharingMode,
            descriptions::Account,
            play_gate::{FENCE, PlayGate, patience},
        },
    },
    proto::{FailureKind, FirstAsked, Presentation, ProbeOutcome, SessionConfig, SessionRequest},
    server_key::ServerId,
    session::{attachment::Attachment, monitor::SessionMonitor},
    stats::WaitReason,
};

/// How long after a refusal a server may close the connection for it (gortsplib does at once).
const CLOSE_MAY_FOLLOW: Duration = Duration::from_millis(200);

/// Whether a session goes on where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Open,
    /// The session is to be brought up elsewhere; its checkout request says on what kind of connection.
    Elsewhere,
}

/// Evidence that a session met, until it is confirmed. Dropped before that, it counts for nothing.
#[derive(Debug)]
pub(super) struct SuspicionGuard {
    pool: ConnectionPool,
    server: ServerId,
    evidence: Evidence,
    /// What had failed, and has to work elsewhere.
    pub(super) step: Step,
    is_confirmed: bool,
}

impl SuspicionGuard {
    pub(super) fn new(
        pool: &ConnectionPool,
        server: &ServerId,
        evidence: Evidence,
        step: Step,
    ) -> Self {
        pool.learn(server, |sharing| {
            sharing.on_suspected(clock::now(), evidence)
        });
        Self {
            pool: pool.clone(),
            server: server.clone(),
            evidence,
            step,
            is_confirmed: false,
        }
    }

    pub(super) fn confirm(mut self) {
        self.is_confirmed = true;
        let evidence = self.evidence;
        self.pool.learn(&self.server, |sharing| {
            sharing.on_works_alone(clock::now(), evidence);
        });
    }
}

impl Drop for SuspicionGuard {
    fn drop(&mut self) {
        if !self.is_confirmed {
            self.pool
                .learn(&self.server, |sharing| sharing.on_own_error());
        }
    }
}

/// What a canary brought.
enum Canary {
    /// With what a DESCRIBE of nothing did on its connection.
    Passed(ProbeOutcome),
    /// The server is full, or did not answer.
    Undecided,
    Failed(Evidence),
}

/// A canary that is promised or on its way; however it ends, another one may go out then.
#[derive(Debug)]
pub(super) struct CanaryGuard {
    pool: ConnectionPool,
    server: ServerId,
}

impl CanaryGuard {
    pub(super) fn new(pool: &ConnectionPool, server: &ServerId) -> Self {
        Self {
            pool: pool.clone(),
            server: server.clone(),
        }
    }
}

impl Drop for CanaryGuard {
    fn drop(&mut self) {
        self.pool
            .learn(&self.server, |sharing| sharing.on_canary_over());
    }
}

impl BringUp {
    /// Whether the session takes part in trials: with the other settings all is said beforehand.
    pub(super) fn is_tried(&self) -> bool {
        let pooling = &self.options.pooling;
        pooling.enable_connection_pooling && pooling.multiplex == Multiplex::Auto
    }

    /// After a DESCRIBE: whether the session may go on where it is.
    pub(super) async fn may_stay(
        &mut self,
        attachment: &Attachment,
        presentation: &Presentation,
        first: &FirstAsked,
    ) -> Result<Passage, Error> {
        let doubt = self.note_description(attachment, presentation, first);
        if let Some(doubt) = doubt
            && !self.checkout.is_dedicated
            && !matches!(self.mode(), SharingMode::Apart(_))
        {
            let id = attachment.connection();
            tracing::debug!("{id}/{}: described as another: {doubt:?}", attachment.key());
            let account = Account::of(presentation);
            if !self.await_description_check(attachment, &account).await? {
                return Ok(self.leave_in_doubt(attachment, account));
            }
        }
        Ok(self.may_set_up(attachment))
    }

    /// Where a server cannot share, or is suspected of that, one session stays on a connection that
    /// others use as well: the one whose DESCRIBE was written there first.
    pub(super) fn may_set_up(&mut self, attachment: &Attachment) -> Passage {
        if self.checkout.is_dedicated {
            return Passage::Open;
        }
        let id = attachment.connection();
        let is_apart = self.is_tried() || matches!(self.mode(), SharingMode::Apart(Some(_)));
        let is_first = self
            .here
            .described
            .is_some_and(|described| described.is_first);
        if !is_apart || self.pool.may_set_up(id, attachment.key(), is_first) {
            return Passage::Open;
        }
        tracing::info!("{id}/-: others stay here, one session alone may");
        self.step_aside(attachment);
        Passage::Elsewhere
    }

    pub(super) fn mode(&self) -> SharingMode {
        let now = clock::now();
        self.pool
            .sharing(self.checkout.key.server(), |sharing| sharing.mode(now))
    }

    /// The next attempt is made on a connection of the session's own, and is a verdict if it works.
    pub(super) fn suspect(&mut self, evidence: Evidence, step: Step) {
        self.checkout.is_dedicated = true;
        let server = self.checkout.key.server();
        self.here.suspected = Some(SuspicionGuard::new(&self.pool, server, evidence, step));
    }

    /// Whether a description holds on every connection: a server that shares says it once; with others
    /// a connection may be bound to what it described first.
    pub(super) fn is_described_once(&self) -> bool {
        self.is_tried() && !self.checkout.is_dedicated && self.mode() == SharingMode::Share
    }

    /// Whether the presentation has to be described on the connection that comes next.
    pub(super) fn needs_describe(&self) -> bool {
        self.here.known.is_none() || !self.is_described_once()
    }

    /// Whether this is the session that goes on here although others are to leave.
    pub(super) fn is_claimant(&self, attachment: &Attachment) -> bool {
        self.pool
            .is_claimant(attachment.connection(), attachment.key())
    }

    /// The next attempt is made on another connection; while the server is being tried, on one that no
    /// other session uses.
    pub(super) fn step_aside(&mut self, attachment: &Attachment) {
        self.checkout.is_apart = self.is_tried() && self.mode() != SharingMode::Share;
        self.checkout.avoid.push(attachment.connection());
    }

    /// The answer does not come because other sessions are in the way: this session leaves. If the
    /// server is being tried, it is not tried in this way again: the first session that leaves plays
    /// without a trial, and one of those that follow sends the canary.
    pub(super) fn on_held_up(&mut self, attachment: &Attachment) {
        if !self.is_tried() || self.mode() != SharingMode::Try {
            return self.step_aside(attachment);
        }
        let mut is_first = false;
        self.pool.learn(self.checkout.key.server(), |sharing| {
            is_first = sharing.on_gathering_lapsed();
        });
        self.here.is_canary_spent |= is_first;
        self.step_aside(attachment);
    }

    /// Before PLAY: waits for what is being tried, and tries what is to be tried.
    pub(super) async fn pass_gate(
        &mut self,
        attachment: &Attachment,
        presentation: &Presentation,
        streams: &StreamsSetUp,
    ) -> Result<Passage, Error> {
        let id = attachment.connection();
        let Some(described) = self.here.described.filter(|_| self.is_tried()) else {
            return self.pass_untried(attachment).await;
        };
        let mut changes = self.pool.watch(self.checkout.key.server());
        let mut backlog = attachment.driver().watch_backlog();
        loop {
            changes.mark_unchanged();
            backlog.mark_unchanged();
            if self.is_mixed_up(attachment, described) {
                self.step_aside(attachment);
                return Ok(Passage::Elsewhere);
            }
            let canary = match (&self.here.canary_guard, self.here.is_canary_spent) {
                (Some(_), _) => connection_pool::Canary::Promised,
                (None, true) => connection_pool::Canary::Spent,
                (None, false) => connection_pool::Canary::Possible,
            };
            match self.pool.gate(id, described, canary) {
                PlayGate::Play => return Ok(Passage::Open),
                PlayGate::Leave if self.pool.has_place(&self.checkout, id) => {
                    tracing::info!("{id}/{}: not waiting for others any more", attachment.key());
                    self.on_held_up(attachment);
                    return Ok(Passage::Elsewhere);
                }
                gate @ (PlayGate::Hold(_) | PlayGate::Leave) => {
                    let left = match gate {
                        PlayGate::Hold(until) => until.saturating_duration_since(clock::now()),
                        _ => NEXT_LOOK,
                    };
                    let never = std::pin::pin!(std::future::pending::<()>());
                    let _waiting = self.monitor.waits_for(WaitReason::PlayGate);
                    let runtime = self.pool.runtime()?;
                    let _ = clock::unless_changed(
                        runtime,
                        Some(left),
                        never,
                        &mut changes,
                        &mut backlog,
                    )
                    .await;
                }
                PlayGate::Canary => {
                    self.here.is_canary_spent = true;
                    let canary_guard = self.take_canary_guard();
                    let passage = self.try_canary(attachment, presentation, streams).await?;
                    drop(canary_guard);
                    if passage == Passage::Elsewhere {
                        return Ok(passage);
                    }
                }
            }
        }
    }

    /// Whether the server turned out to take sessions of one connection for one another after this
    /// one was set up beside others: it may be played under another's name.
    fn is_mixed_up(&self, attachment: &Attachment, described: Described) -> bool {
        let had_company = attachment.driver().peak_references() > 1;
        !self.checkout.is_dedicated
            && had_company
            && !described.is_first
            && matches!(self.mode(), SharingMode::Apart(Some(evidence)) if evidence.shows_one_for_all())
    }

    /// The gate of a session whose settings say beforehand that it shares, or that it does not.
    async fn pass_untried(&mut self, attachment: &Attachment) -> Result<Passage, Error> {
        let id = attachment.connection();
        if let Some(described) = self.here.described
            && self.is_mixed_up(attachment, described)
        {
            self.step_aside(attachment);
            return Ok(Passage::Elsewhere);
        }
        self.pool.on_playing(id);
        Ok(Passage::Open)
    }

    fn take_canary_guard(&mut self) -> CanaryGuard {
        let server = self.checkout.key.server();
        self.here.canary_guard.take().unwrap_or_else(|| {
            self.pool.learn(server, |sharing| sharing.on_canary_sent());
            CanaryGuard::new(&self.pool, server)
        })
    }

    async fn try_canary(
        &mut self,
        attachment: &Attachment,
        presentation: &Presentation,
        streams: &StreamsSetUp,
    ) -> Result<Passage, Error> {
        let server = self.checkout.key.server().clone();
        let _waiting = self.monitor.waits_for(WaitReason::Canary);
        let outcome = self
            .send_canary(&server, attachment, presentation, streams)
            .await?;
        let now = clock::now();
        let evidence = match outcome {
            Canary::Passed(outcome) => {
                self.pool.learn(&server, |sharing| sharing.on_shared(now));
                // The DESCRIBE of nothing may have cost the connection, on which nothing plays yet.
                let is_lost = outcome == ProbeOutcome::Fails && self.closes(attachment).await?;
                return Ok(match is_lost {
                    true => Passage::Elsewhere,
                    false => Passage::Open,
                });
            }
            Canary::Undecided => {
                self.pool
                    .learn(&server, |sharing| sharing.on_canary_failed(now, None));
                return Ok(Passage::Open);
            }
            Canary::Failed(evidence) => evidence,
        };
        tracing::info!(
            "{}/-: {server}: canary: {evidence}",
            attachment.connection()
        );
        if self.is_spoilt(attachment, evidence).await? {
            self.suspect(spoiling(evidence), Step::SetUp);
            return Ok(Passage::Elsewhere);
        }
        self.pool.learn(&server, |sharing| {
            sharing.on_canary_failed(now, Some(evidence));
        });
        Ok(Passage::Open)
    }

    /// One more SETUP on the connection, of what is set up there, on channels of its own. Its
    /// session is torn down when this returns.
    async fn send_canary(
        &self,
        server: &ServerId,
        attachment: &Attachment,
        presentation: &Presentation,
        streams: &StreamsSetUp,
    ) -> Result<Canary, Error> {
        let stream = streams.grants.first().map(|grant| grant.stream);
        let request = stream.and_then(|stream| setup_request(presentation, stream));
        let (Some((_, request)), Some(handle)) = (request, self.pool.join(attachment.handle()))
        else {
            return Ok(Canary::Undecided);
        };
        let config = SessionConfig {
            url: self.target.url.clone(),
            keep_alive: false,
        };
        let canary = match Attachment::open(
            handle,
            config,
            OverflowPolicy::default(),
            &SessionMonitor::new(),
        )
        .await
        {
            Ok(canary) => canary,
            Err((_, failure)) => return Ok(self.canary_failed(server, &failure.kind)),
        };
        let took = self.describe_took();
        // All that a second session would send, in one round trip.
        let answers = async {
            let describe = canary.send(SessionRequest::Describe);
            let set_up = canary.send(request);
            let probe = self.pool.probe(canary.driver(), &presentation.aggregate);
            let answer = match describe.reply().await {
                Ok(_) => set_up.reply().await,
                Err(failure) => Err(failure),
            };
            // Nothing plays here before that is over.
            let outcome = match probe {
                Some(outcome) => outcome.await.unwrap_or(ProbeOutcome::Fails),
                None => ProbeOutcome::Undecided,
            };
            answer.map(|_| outcome)
        };
        let limit = patience(took) + FENCE;
        let answer = clock::within(self.pool.runtime()?, limit, answers).await;
        Ok(match answer {
            Ok(Ok(outcome)) => Canary::Passed(outcome),
            Ok(Err(failure)) => self.canary_failed(server, &failure.kind),
            Err(_) => Canary::Undecided,
        })
    }

    fn canary_failed(&self, server: &ServerId, failure: &FailureKind) -> Canary {
        let shared = FailureContext {
            is_shared: true,
            is_proven: true,
            ..FailureContext::default()
        };
        match (failover(failure, shared, Multiplex::Auto), failure) {
            (Failover::Alone(evidence), _) => Canary::Failed(evidence),
            (_, FailureKind::Status { code, .. }) => {
                let code = *code;
                self.pool.learn(server, |sharing| sharing.on_full(code));
                Canary::Undecided
            }
            _ => Canary::Undecided,
        }
    }

    /// Whether the connection is closed for what was done on it.
    async fn closes(&self, attachment: &Attachment) -> Result<bool, Error> {
        let closed = attachment.driver().closed();
        let within = clock::within(self.pool.runtime()?, CLOSE_MAY_FOLLOW, closed);
        Ok(within.await.is_ok())
    }

    /// Whether the canary took its own connection with it.
    async fn is_spoilt(&self, attachment: &Attachment, evidence: Evidence) -> Result<bool, Error> {
        Ok(match evidence {
            // Which of the two the server plays now is not known.
            Evidence::Violation(_) => true,
            Evidence::Status(_) => self.closes(attachment).await?,
            Evidence::Closed => true,
            _ => false,
        })
    }
}

/// A status that was followed by the end of the connection is no mishap.
fn spoiling(evidence: Evidence) -> Evidence {
    match evidence {
        Evidence::Status(_) => Evidence::Closed,
        other => other,
    }
}
