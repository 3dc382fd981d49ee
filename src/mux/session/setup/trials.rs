//! What a session finds out about its server, without harm to anything that plays: whether the server
//! can share, and whether it describes the URIs of a connection as themselves.
//!
//! Several sessions that come up together are the trial themselves: each is held before its PLAY
//! until a second one has been set up on the connection. A session that comes later is set up on a new
//! connection and sends a *canary* there: one more SETUP of its own presentation, torn down again at
//! once.
//!
//! A session whose description may be that of another URI does not play where it was described before
//! its URI was described once on a fresh connection. One session does that for all of the server's, with
//! a single DESCRIBE on a connection that is closed again, unless the session plays there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use url::Url;

use super::{
    Setup,
    attempt::{CanaryOutcome, Completion, DescribedAlone, Work},
    requests::{described_presentation, setup_request},
};
use crate::mux::{
    clock,
    config::OverflowPolicy,
    connection_pool::{CheckoutRequest, ConnectionHandle, ConnectionPool, Looked},
    driver::DriverHandle,
    error::Error,
    ids::ConnectionId,
    policy::{
        failover::{FailedStep, FailureContext, evidence},
        next_step::{Operation, SetupStage, closes_within},
        placement::Isolation,
        sharing::{
            Evidence, Sharing,
            descriptions::{Account, Doubt},
            play_gate::{FENCE, REGROUP, patience},
        },
    },
    proto::{Failure, FailureKind, ProbeOutcome, SessionConfig, SessionRequest, SharingViolation},
    session::{
        attachment::{Attachment, Requester},
        monitor::SessionMonitor,
    },
};

/// One more SETUP on a connection, of what is set up there, on channels of its own. Its session is torn
/// down when that is over.
struct CanaryTrial {
    pool: ConnectionPool,
    url: Url,
    /// The connection of the session that is tried beside.
    driver: Arc<DriverHandle>,
    aggregate: Url,
    limit: Duration,
    /// That session, and its SETUPs but for the one that the canary repeats.
    session: Requester,
    others: Vec<SessionRequest>,
}

impl CanaryTrial {
    async fn run(self, canary: Option<(ConnectionHandle, SessionRequest)>) -> CanaryOutcome {
        // Other sessions wait on the connection, besides the canary and the session that sent it.
        let here = self.pool.connection(self.driver.id);
        let has_company = here.is_some_and(|here| here.references > 2);
        let result = match canary {
            Some((handle, request)) => self.send(handle, request, has_company).await,
            None => Err(None),
        };
        let learn = |lesson: &dyn Fn(&mut Sharing)| self.pool.learn(&self.driver.server, lesson);
        let now = clock::now();
        let evidence = match result {
            Ok(outcome) => {
                learn(&|sharing| match has_company {
                    true => sharing.on_canary_passed(),
                    false => sharing.on_shared(now),
                });
                // The DESCRIBE of nothing may have cost the connection, on which nothing plays yet.
                return match outcome == ProbeOutcome::Fails && self.closes().await {
                    true => CanaryOutcome::Lost,
                    false => CanaryOutcome::GoesOn,
                };
            }
            Err(evidence) => evidence,
        };
        if let Some(evidence) = evidence {
            let driver = &self.driver;
            tracing::info!("{}/-: {}: canary: {evidence}", driver.id, driver.server);
        }
        match evidence {
            Some(Evidence::Violation(SharingViolation::SameSessionId))
                if self.is_taken_over().await =>
            {
                learn(&|sharing| sharing.on_canary_failed(now, evidence));
                CanaryOutcome::GoesOn
            }
            // Which of the two the server plays now is not known.
            Some(evidence @ (Evidence::Violation(_) | Evidence::Closed)) => {
                CanaryOutcome::Spoilt(evidence)
            }
            // A status that is followed by the end of the connection is no mishap.
            Some(Evidence::Status(_)) if self.closes().await => {
                CanaryOutcome::Spoilt(Evidence::Closed)
            }
            _ => {
                learn(&|sharing| sharing.on_canary_failed(now, evidence));
                CanaryOutcome::GoesOn
            }
        }
    }

    /// Gives what a DESCRIBE of nothing did on the connection.
    ///
    /// # Errors
    ///
    /// What the canary showed; none: the server is full, or did not answer.
    async fn send(
        &self,
        handle: ConnectionHandle,
        set_up: SessionRequest,
        has_company: bool,
    ) -> Result<ProbeOutcome, Option<Evidence>> {
        let runtime = self.pool.runtime().map_err(|_| None)?;
        let opened = open_unwatched(handle, &self.url).await;
        let canary = opened.map_err(|(_, failure)| self.evidence(&failure.kind))?;
        // All that a second session would send. The probe comes last: servers that take one request for
        // each read would lose it (PHZ76/RtspServer), and after a failure it is not needed.
        let answers = async {
            canary.request(SessionRequest::Describe).await?;
            canary.request(set_up).await?;
            // Nothing plays here before that is over.
            let probe = (!has_company).then(|| self.pool.probe(canary.driver(), &self.aggregate));
            Ok::<_, Failure>(match probe.flatten() {
                Some(outcome) => outcome.await.unwrap_or(ProbeOutcome::Fails),
                None => ProbeOutcome::Undecided,
            })
        };
        let answer = clock::within(runtime, self.limit, answers).await;
        let answer = answer.map_err(|_| None)?;
        answer.map_err(|failure| self.evidence(&failure.kind))
    }

    /// The server takes the canary for the session that sent it. What that session has set up is set up
    /// again: a server that begins anew with each DESCRIBE (xiu) would leave out its other streams. False
    /// if the session cannot go on.
    async fn is_taken_over(&self) -> bool {
        for request in &self.others {
            if self.session.send(request.clone()).reply().await.is_err() {
                return false;
            }
        }
        true
    }

    fn evidence(&self, failure: &FailureKind) -> Option<Evidence> {
        let shared = FailureContext {
            is_shared: true,
            is_proven: true,
            ..FailureContext::default()
        };
        let evidence = evidence(failure, shared);
        if let (None, FailureKind::Status { code, .. }) = (evidence, failure) {
            let lesson = |sharing: &mut Sharing| sharing.on_full(*code);
            self.pool.learn(&self.driver.server, lesson);
        }
        evidence
    }

    /// Whether the connection is closed for what was done on it.
    async fn closes(&self) -> bool {
        let Ok(runtime) = self.pool.runtime() else {
            return false;
        };
        let limit = closes_within(self.driver.server_info().connect_time);
        let closed = clock::within(runtime, limit, self.driver.closed());
        closed.await.is_ok()
    }
}

impl Setup {
    pub(super) fn send_canary(&self) -> Work {
        let here = &self.here;
        let (Some(attachment), Some(presentation)) = (&here.attachment, &here.presentation) else {
            return Work::none();
        };
        let grants = here.streams.grants.iter();
        let set_up = grants.filter_map(|grant| setup_request(presentation, grant.stream));
        let mut others: Vec<_> = set_up.collect();
        let request = (!others.is_empty()).then(|| others.remove(0));
        let handle = request.and_then(|request| {
            let handle = self.pool.join(&attachment.handle)?;
            Some((handle, request))
        });
        let trial = CanaryTrial {
            pool: self.pool.clone(),
            url: self.target.url.clone(),
            driver: attachment.driver().clone(),
            aggregate: presentation.aggregate.clone(),
            limit: patience(here.describe_took()) + FENCE,
            session: attachment.requester(),
            others,
        };
        let outcome = trial.run(handle);
        Work::new(Operation::Canary, async {
            Completion::Canary(outcome.await)
        })
    }

    pub(super) fn on_canary(&mut self, outcome: CanaryOutcome) {
        if let CanaryOutcome::Spoilt(evidence) = outcome {
            self.suspect(evidence, FailedStep::SetUp);
        }
        if !matches!(outcome, CanaryOutcome::GoesOn) {
            self.here.detach();
        }
        if let Some(attachment) = &self.here.attachment {
            self.pool.on_canary_back(attachment.connection());
        }
        // What it showed is known: now the next canary may go out.
        self.here.canary = None;
    }

    /// The session waits until its description is checked, and no other one plays there before.
    pub(super) fn doubt(&mut self, doubt: Doubt) {
        self.here.attempt.stage = SetupStage::InDoubt;
        let Some(attachment) = &self.here.attachment else {
            return;
        };
        let id = attachment.connection();
        tracing::debug!("{id}/{}: described as another: {doubt:?}", attachment.key());
        let described = self.here.attempt.described;
        let described_at = described.map_or_else(clock::now, |described| described.at);
        let until = described_at + patience(self.here.describe_took()).max(REGROUP);
        self.here.doubt = Some(self.pool.hold_in_doubt(id, until));
    }

    /// Describes the URI on a fresh connection, until then.
    pub(super) fn check_description(&self, until: Instant) -> Work {
        let there = self.here.attachment.as_ref().map(Attachment::connection);
        let pool = self.pool.clone();
        let checkout = self.check_request();
        let config = self.session_config();
        let (overflow, release) = (self.options.overflow, self.monitor.release_guard());
        Work::new(Operation::CheckDescription, async move {
            let describing = async {
                let uri = checkout.presentation();
                let handle = pool.fulfil(checkout).await.ok()?;
                let there = there.unwrap_or(ConnectionId(0));
                tracing::debug!("{there}/-: described once more on {}", handle.driver().id);
                let opened = Attachment::open_aside(handle, config, overflow, release).await;
                let attachment = opened.ok()?;
                let joining = pool.joining(attachment.connection(), uri);
                let reply = attachment.request(SessionRequest::Describe).await.ok()?;
                Some(DescribedAlone {
                    attachment,
                    reply,
                    joining,
                })
            };
            let limit = until.saturating_duration_since(clock::now());
            Completion::Checked(match pool.runtime() {
                Ok(runtime) => {
                    let alone = clock::within(runtime, limit, describing).await;
                    alone.ok().flatten()
                }
                Err(_) => None,
            })
        })
    }

    /// The URI was described on a fresh connection, or not in time. Where it was described as another
    /// presentation the session plays there: it would be described once more on the next connection, and
    /// a relay may end a stream that was described on a connection which closes before PLAY.
    pub(super) fn on_checked(&mut self, alone: Option<DescribedAlone>) -> Result<(), Error> {
        let in_company = self.here.presentation.as_ref().map(Account::of);
        let now = clock::now();
        let account = alone.as_ref().and_then(|alone| {
            let presentation = described_presentation(&self.target.url, &alone.reply);
            Some(Account::of(&presentation.ok()?))
        });
        let is_same = account.as_ref().map(|_| account == in_company);
        self.learn(|sharing| match is_same {
            Some(is_same) => sharing.on_described_twice(now, is_same),
            None => sharing.on_description_check_failed(now),
        });
        self.here.check = None;
        match alone {
            Some(alone) if is_same == Some(false) && self.is_tried() => self.play_alone(alone),
            _ => Ok(()),
        }
    }

    /// The session goes on where it was described alone.
    fn play_alone(&mut self, alone: DescribedAlone) -> Result<(), Error> {
        self.here.detach();
        self.checkout.isolation = Isolation::Dedicated;
        let attachment = alone.attachment;
        tracing::info!(
            "{}/{}: plays alone",
            attachment.connection(),
            attachment.key()
        );
        self.monitor.set_location(attachment.seat(Vec::new()));
        if let Some(patience) = self.options.answer_timeout {
            attachment.set_patience(patience);
        }
        self.here.attach(attachment);
        self.here.attempt.stage = SetupStage::Placed;
        self.on_described(alone.reply, Some(alone.joining))
    }

    /// A connection that is made for the check, and closed behind it unless the session plays there: beyond
    /// the limit, except with `multiplex=always`, where all connections stay within it.
    fn check_request(&self) -> CheckoutRequest {
        let mut checkout = self.checkout.clone();
        checkout.needs_describe = true;
        checkout.avoid.clear();
        match self.is_tried() {
            true => checkout.isolation = Isolation::Dedicated,
            false => {
                checkout.younger_than = Some(ConnectionId(u64::MAX));
                let options = Arc::make_mut(&mut checkout.options);
                options.pooling.idle_connection_timeout = Duration::ZERO;
            }
        }
        checkout
    }

    /// A session that was described on a describe-only connection, because a DESCRIBE might have cost
    /// the others their connection, goes to them.
    pub(super) fn rejoin(&self, looked: &Looked) -> Work {
        let here = &self.here;
        let (Some(attachment), Some(presentation)) = (&here.attachment, &here.presentation) else {
            return Work::none();
        };
        let (pool, checkout) = (self.pool.clone(), self.checkout.clone());
        let (driver, aggregate) = (attachment.driver().clone(), presentation.aggregate.clone());
        let mut beside = None;
        if !looked.view.tells_apart
            && let Some((url, known)) = pool.another_description(&checkout)
        {
            beside = pool
                .join(&attachment.handle)
                .map(|handle| (handle, url, known));
        }
        let tells_apart = looked.view.tells_apart;
        let limit = looked.view.describe_patience;
        Work::new(Operation::Rejoin, async move {
            let is_told_apart = match beside {
                Some((handle, url, known)) => {
                    is_told_apart(&pool, handle, url, &Account::of(&known), limit).await
                }
                None => tells_apart,
            };
            let handle = is_told_apart.then(|| pool.rejoin(&checkout, driver.id));
            let handle = handle.flatten();
            let there = pool.connection(driver.id);
            let is_alone = there.is_none_or(|there| there.references < 2);
            if handle.is_some() && is_alone && !checkout.is_spread {
                // The pool writes down what the probe shows; no session waits for it.
                drop(pool.probe(&driver, &aggregate));
            }
            Completion::Rejoined(handle)
        })
    }
}

/// Whether a session that was described aside may be set up among those that play, where its URI is
/// not described. A server that stays with the first URI of a connection would play that one. So
/// where it is not known, a URI that plays is described once more, here, where another was described
/// first and nothing plays.
async fn is_told_apart(
    pool: &ConnectionPool,
    handle: ConnectionHandle,
    url: Url,
    known: &Account,
    limit: Duration,
) -> bool {
    let server = handle.driver().server.clone();
    let Ok(runtime) = pool.runtime() else {
        return false;
    };
    // Another session's slow DESCRIBE may be in the way here.
    let here = clock::within(runtime, limit, describe_on(handle, url)).await;
    let Ok(Some(here)) = here else {
        return false;
    };
    let is_same = here == *known;
    pool.learn(&server, |sharing| {
        sharing.on_described_twice(clock::now(), is_same);
    });
    is_same
}

/// How the URI is described by one DESCRIBE on a connection; none if it is not.
async fn describe_on(handle: ConnectionHandle, url: Url) -> Option<Account> {
    let opened = open_unwatched(handle, &url).await;
    let reply = opened.ok()?.request(SessionRequest::Describe).await.ok()?;
    let presentation = described_presentation(&url, &reply).ok()?;
    Some(Account::of(&presentation))
}

/// A session of the library's own.
async fn open_unwatched(
    handle: ConnectionHandle,
    url: &Url,
) -> Result<Attachment, (ConnectionHandle, Failure)> {
    let config = SessionConfig {
        url: url.clone(),
        keep_alive: false,
        block_size: None,
    };
    Attachment::open(
        handle,
        config,
        OverflowPolicy::default(),
        &SessionMonitor::new(),
    )
    .await
}
