//! From DESCRIBE to PLAY: on which connection a session is set up, and where it turns if a step fails.

mod canary;
mod capacity;
mod describe_only;
mod description_check;
mod redirect;
mod streams;
mod waiting;

use std::{
    fmt,
    time::{Duration, Instant},
};

use url::Url;

pub(crate) use self::streams::StreamsSetUp;
use self::{
    canary::{CanaryGuard, Passage, SuspicionGuard},
    capacity::{CapacityProbe, PendingTeardowns},
    streams::setup_request,
    waiting::{Wait, Waited},
};
use super::{attachment::Attachment, monitor::SessionMonitor};
use crate::mux::{
    clock,
    config::SessionOptions,
    connection_pool::{
        Attempt, CheckoutRequest, ConnectionHandle, ConnectionPool, Described, Intent, Joining,
    },
    error::{Error, ErrorKind, Initiator, Scope},
    ids::ConnectionId,
    policy::{
        failover::{Failover, FailureContext, failover},
        sharing::{Evidence, ServerIdentity, Sharing, descriptions::Account},
    },
    proto::{
        Credentials, Failure, FailureKind, FirstAsked, Presentation, Reply, RtpInfo, SessionConfig,
        SessionKey, SessionRequest,
        wire::{
            sdp::parse_presentation,
            uri::{presentation_base, redacted},
        },
    },
    release::ReleaseGuard,
    server_key::ServerId,
    stats::WaitReason,
};

/// Connections tried for one session at one server. A bound for servers that refuse at random.
const MAX_CONNECTIONS: usize = 16;
/// Connections tried for one session that the server closes behind a 401. Two are enough for most; a
/// session that shares them with others meets the 401s of the others, too.
const MOST_CHALLENGED: usize = 8;

/// Where there is no other place, one may become free: that is looked at this often.
const NEXT_LOOK: Duration = Duration::from_millis(50);

/// How far a session is brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Described and set up. A mere description is no step: a broken camera gives one, too.
    SetUp,
    /// PLAY was answered.
    Play,
}

/// What is to be played, and where it led.
#[derive(Clone)]
struct Target {
    /// Another URL than the user's after a redirect.
    url: Url,
    /// URLs that redirected.
    redirected: Vec<Url>,
    /// Came with a redirect, for the server that it led to.
    lent: Option<(ServerId, Credentials)>,
}

/// What the session has met at the server that it is tried at. A redirect begins with nothing of it.
#[derive(Default)]
struct AtServer {
    connections: usize,
    tried_younger: bool,
    /// Connections that were closed behind a 401.
    challenged: usize,
    /// Why the session is tried on a connection of its own, and the step that has to work there
    /// before that is a verdict on the server.
    suspected: Option<SuspicionGuard>,
    /// How it was described where that may have been another URI's presentation.
    doubted: Option<Account>,
    /// Its last DESCRIBE.
    described: Option<Described>,
    /// What that said: where a server shares, it need not be asked again on another connection.
    known: Option<Presentation>,
    /// That is how it was described for an earlier session: to be asked for again with the SETUP.
    is_remembered: bool,
    /// The session is to send the canary that others wait for.
    canary_guard: Option<CanaryGuard>,
    /// Its PLAY was refused for want of room on one connection, and tried on another.
    has_played_elsewhere: bool,
    /// It is not to send a canary, or not again.
    is_canary_spent: bool,
    /// Sessions that were on the connection on which there was no room for this one.
    full_with: Option<u32>,
    pending_teardowns: PendingTeardowns,
    /// The session is the one that looks for room elsewhere.
    capacity_probe: Option<CapacityProbe>,
    /// What the server said before another connection was tried: worth more than "limit reached".
    refusal: Option<Error>,
}

/// A session on its way from DESCRIBE to PLAY.
pub(crate) struct BringUp {
    pool: ConnectionPool,
    /// As the user gave them: whom to present the credentials to.
    options: SessionOptions,
    target: Target,
    /// What kind of connection to try next.
    checkout: CheckoutRequest,
    here: AtServer,
    /// Tells the redial policy what becomes of the session; none for one that is to take the place of
    /// a session that plays.
    attempt: Option<Attempt>,
    /// Announced this session, until it has a place at a connection.
    intent: Option<Intent>,
    pub(crate) monitor: SessionMonitor,
    /// What the user's handle owes; the last field, dropped last.
    _release: ReleaseGuard,
}

impl BringUp {
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
            pool,
            options,
            attempt: None,
            intent: None,
            _release: monitor.release_guard(),
            monitor,
        })
    }

    /// Brings up the same once more, beside it, on a connection of its own; none where that is not to
    /// be: the server is known to be full at times.
    pub(crate) fn successor(&self) -> Option<Self> {
        let server = self.checkout.key.server();
        let has_room = self
            .pool
            .sharing(server, |sharing| !sharing.has_said_full());
        let mut successor = self.another().filter(|_| has_room && self.is_tried())?;
        successor.checkout.is_dedicated = true;
        Some(successor)
    }

    /// Brings up the same once more, beside it, on another connection than the congested one; none where
    /// there is none.
    pub(crate) fn relief(&self, congested: ConnectionId) -> Option<Self> {
        let is_shared =
            self.options.pooling.enable_connection_pooling && !self.checkout.is_dedicated;
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
        apart.checkout.is_apart = true;
        apart.checkout.is_dedicated = self.is_tried();
        let has_place = self.pool.has_place_apart(&apart.checkout, odd);
        has_place.then_some(apart)
    }

    /// Brings up the same once more on any connection that has room.
    pub(crate) fn anywhere(&self) -> Option<Self> {
        self.another()
    }

    /// Whether the server was ever out of room: a session may not be there twice.
    pub(crate) fn is_ever_full(&self) -> bool {
        let server = self.checkout.key.server();
        self.pool.sharing(server, |sharing| sharing.has_said_full())
    }

    /// The session plays on a connection of its own, and is to have one when it is opened again.
    pub(crate) fn on_apart(&self, (odd, session): (ConnectionId, SessionKey)) {
        self.pool.on_odd_moved(odd, session);
        let (now, uri) = (clock::now(), self.checkout.presentation());
        self.pool.learn(self.checkout.key.server(), |sharing| {
            sharing.isolate(now, &uri);
        });
    }

    /// The session could not move, and stays.
    pub(crate) fn on_stays(&self, (odd, session): (ConnectionId, SessionKey)) {
        self.pool.on_odd_stays(odd, session);
    }

    fn another(&self) -> Option<Self> {
        let (options, monitor) = (self.options.clone(), self.monitor.clone());
        let mut another = Self::new(self.pool.clone(), options, monitor).ok()?;
        another.target = self.target.clone();
        another.checkout = self.checkout.clone();
        Some(another)
    }

    /// From here on the redial policy follows the session.
    pub(crate) fn begin(&mut self) -> Result<(), Error> {
        let key = self.options.connection_key()?;
        let uri = self.options.presentation();
        self.attempt = Some(self.pool.begin_attempt(key.server(), &uri));
        Ok(())
    }

    /// The session that was brought up by `other` goes on here.
    pub(crate) fn take_over(&mut self, other: &mut Self) {
        self.attempt = other.attempt.take();
    }

    /// Media came.
    pub(crate) fn on_media(&mut self, at: Instant) {
        if let Some(attempt) = &mut self.attempt {
            attempt.on_media(at);
        }
    }

    /// An error as the user gets it: it says whether it was met behind a redirect.
    pub(crate) fn of_target(&self, error: Error) -> Error {
        match self.target.redirected.is_empty() {
            true => error,
            false => error.behind_redirect(),
        }
    }

    /// A request of the session goes out.
    pub(crate) fn joining(&self, attachment: &Attachment) -> Joining {
        let uri = self.checkout.presentation();
        self.pool.joining(attachment.connection(), &uri)
    }

    pub(crate) fn may_try_again(&self) -> bool {
        self.attempt.as_ref().is_none_or(Attempt::may_go_on)
    }

    pub(crate) fn set_intent(&mut self, intent: Option<Intent>) {
        self.intent = intent;
    }

    /// Whether the description is from memory, and not asked for again yet.
    pub(crate) fn is_remembered(&self) -> bool {
        self.here.is_remembered
    }

    /// The camera's name in logs and errors.
    pub(crate) fn camera(&self) -> String {
        redacted(&self.target.url)
    }

    /// Describes the presentation, on another connection if need be, following redirects.
    pub(crate) async fn describe(&mut self) -> Result<(Attachment, Presentation), Error> {
        self.recall();
        loop {
            let attachment = match self.attach().await? {
                Ok(attachment) => attachment,
                Err((handle, failure)) => {
                    if !self.returns_from(&handle, &failure) {
                        self.recover(Step::SetUp, &handle, failure)?;
                    }
                    continue;
                }
            };
            if let Some(presentation) = self
                .here
                .known
                .clone()
                .filter(|_| !self.checkout.needs_describe)
            {
                let now = clock::now();
                let described = self.here.described.get_or_insert(Described {
                    took: Duration::ZERO,
                    at: now,
                    is_first: false,
                });
                // It was described on another connection.
                described.is_first = false;
                return Ok((attachment, presentation));
            }
            let sent = clock::now();
            let uri = self.checkout.presentation();
            self.pool.on_describing(attachment.connection(), &uri);
            let joining = self.joining(&attachment);
            let describing = attachment.request(SessionRequest::Describe);
            let answer = self
                .unless_held_up(&attachment, Wait::Describe, describing)
                .await;
            drop(joining);
            match answer? {
                Waited::Spread => self.checkout.is_spread = true,
                Waited::HeldUp if self.is_ignored_aside(&attachment) => {
                    self.return_to_pool(attachment.handle());
                }
                Waited::HeldUp => {
                    (self.checkout.is_spread, self.checkout.is_doubtful) = (true, true);
                    self.checkout.avoid.push(attachment.connection());
                }
                Waited::Answer(Ok(reply)) => {
                    self.on_describe_answered(&attachment);
                    let at = clock::now();
                    let took = at.saturating_duration_since(sent);
                    let first = first_asked(&reply);
                    let is_first = first == FirstAsked::Own;
                    self.here.described = Some(Described { took, at, is_first });
                    let presentation = self.presentation(&attachment, reply)?;
                    let passage = self.may_stay(&attachment, &presentation, &first).await?;
                    if passage == Passage::Open {
                        self.here.known = Some(presentation.clone());
                        return Ok((attachment, presentation));
                    }
                }
                Waited::Answer(Err(Failure {
                    kind:
                        FailureKind::Redirect {
                            location,
                            credentials,
                            ..
                        },
                    ..
                })) => {
                    self.on_describe_answered(&attachment);
                    self.introduce(&attachment, None);
                    self.follow(location, credentials.map(|lent| *lent))?;
                }
                Waited::Answer(Err(failure)) => {
                    self.on_describe_failed(&attachment, &failure);
                    if !self.returns_from(attachment.handle(), &failure) {
                        self.recover(Step::SetUp, attachment.handle(), failure)?;
                    }
                }
            }
        }
    }

    /// What was played before need not be described first, where the server shares and a SETUP may
    /// follow an unanswered DESCRIBE.
    fn recall(&mut self) {
        let server = self.checkout.key.server();
        let is_in_order = self.pool.sharing(server, Sharing::is_in_order);
        let may_answer = !self.pool.is_doubtful(&self.checkout);
        if is_in_order && may_answer && self.here.known.is_none() && self.is_described_once() {
            self.here.known = self.pool.recall(&self.checkout);
            self.here.is_remembered = self.here.known.is_some();
        }
    }

    /// A session on a connection that the checkout request allows.
    async fn attach(&mut self) -> Result<Result<Attachment, (ConnectionHandle, Failure)>, Error> {
        self.await_decision().await?;
        self.await_room().await?;
        self.here.connections += 1;
        self.checkout.needs_describe = self.needs_describe();
        self.checkout.is_dedicated |= self.is_tried() && self.is_isolated();
        let waiting = self.monitor.waits_for(WaitReason::Connection);
        let handle = loop {
            match self.pool.fulfil(self.checkout.clone()).await {
                Ok(handle) => break handle,
                Err(error) if self.does_without(&error) => self.here.refusal = Some(error),
                Err(error) => return Err(self.best_error(error)),
            }
        };
        drop(waiting);
        // From here on the session is counted on its connection.
        self.intent = None;
        Ok(self.attach_to(handle).await)
    }

    /// Whether connections broke off when this session was added to them.
    fn is_isolated(&self) -> bool {
        let (server, uri) = (self.checkout.key.server(), self.checkout.presentation());
        let now = clock::now();
        self.pool
            .sharing(server, |sharing| sharing.is_isolated(now, &uri))
    }

    /// A session on this connection.
    async fn attach_to(
        &self,
        handle: ConnectionHandle,
    ) -> Result<Attachment, (ConnectionHandle, Failure)> {
        let config = SessionConfig {
            url: self.target.url.clone(),
            keep_alive: self.options.keep_alive,
        };
        let opened = Attachment::open(handle, config, self.options.overflow, &self.monitor).await;
        opened.inspect(|attachment| {
            if let Some(patience) = self.options.answer_timeout {
                attachment.set_patience(patience);
            }
        })
    }

    /// What the server said before is worth more than that no other connection is to be had.
    fn best_error(&mut self, error: Error) -> Error {
        let is_limit = error.kind() == ErrorKind::ServerLimit;
        let refusal = self.here.refusal.take().filter(|_| is_limit);
        refusal.unwrap_or(error).of_camera(&self.camera())
    }

    /// How long the server took for the last DESCRIBE.
    fn describe_took(&self) -> Duration {
        self.here
            .described
            .map_or(Duration::ZERO, |described| described.took)
    }

    fn presentation(&self, attachment: &Attachment, reply: Reply) -> Result<Presentation, Error> {
        let described = described_presentation(&self.target.url, reply);
        let presentation = described.map_err(|why| self.unusable(attachment, &why))?;
        self.introduce(attachment, Some(&presentation));
        Ok(presentation)
    }

    /// An answer says who the server is.
    fn introduce(&self, attachment: &Attachment, presentation: Option<&Presentation>) {
        let server = attachment.driver().server_info().server_header;
        let introduction = ServerIdentity {
            server: server.as_deref(),
            tool: presentation.and_then(|presentation| presentation.tool.as_deref()),
            session_name: presentation
                .and_then(|presentation| presentation.session_name.as_deref()),
        };
        self.pool.learn(self.checkout.key.server(), |sharing| {
            sharing.on_introduced(clock::now(), introduction);
        });
    }

    fn unusable(&self, attachment: &Attachment, what: &str) -> Error {
        let explanation = format!("the server's description cannot be used: {what}");
        Error::new(
            ErrorKind::Sdp,
            Scope::Session,
            Initiator::Server,
            explanation,
        )
        .in_request("DESCRIBE")
        .of_camera(&self.camera())
        .on(attachment.connection())
    }

    /// Plays what is set up. Another session may have upset the server meanwhile: then all is done
    /// again on another connection, since nothing played yet that could be disturbed.
    pub(crate) async fn play(
        &mut self,
        mut attachment: Attachment,
        mut presentation: Presentation,
        mut streams: StreamsSetUp,
    ) -> Result<Playing, Error> {
        loop {
            let passage = self.pass_gate(&attachment, &presentation, &streams).await?;
            if passage == Passage::Open {
                if let Some(attempt) = &self.attempt {
                    attempt.on_play();
                }
                let request = SessionRequest::Play {
                    aggregate: presentation.aggregate.clone(),
                };
                let joining = self.joining(&attachment);
                let playing = attachment.request(request);
                let answer = self.unless_held_up(&attachment, Wait::Play, playing).await;
                drop(joining);
                match answer? {
                    Waited::Answer(Ok(reply)) => {
                        if let Some(attempt) = &self.attempt {
                            attempt.on_playing();
                        }
                        self.on_success(Step::Play);
                        self.pool.remember(&self.checkout, &presentation);
                        return Ok(Playing {
                            attachment,
                            presentation,
                            streams,
                            rtp_info: rtp_info(reply),
                        });
                    }
                    Waited::Answer(Err(failure)) => {
                        self.recover(Step::Play, attachment.handle(), failure)?;
                    }
                    Waited::HeldUp | Waited::Spread => self.on_held_up(&attachment),
                }
            }
            drop(attachment);
            let wanted: Vec<usize> = streams.grants.iter().map(|grant| grant.stream).collect();
            (attachment, presentation) = self.describe().await?;
            (attachment, presentation, streams) =
                self.set_up(attachment, presentation, &wanted).await?;
        }
    }

    /// After a failure: prepares the next attempt, or gives the error that it is.
    fn recover(
        &mut self,
        step: Step,
        handle: &ConnectionHandle,
        failure: Failure,
    ) -> Result<(), Error> {
        let error = self.error(handle, &failure);
        let is_premature = self.note_capacity(handle, &failure);
        if self.here.connections >= MAX_CONNECTIONS {
            return Err(error);
        }
        if is_premature {
            return self.try_again(error);
        }
        let driver = handle.driver();
        let context = FailureContext {
            is_shared: handle.was_shared() && !self.checkout.is_dedicated,
            is_reused: handle.is_reused(),
            is_last_resort: handle.is_founding() && self.here.connections > 1,
            is_proven: driver.is_proven(),
        };
        let failover = failover(&failure.kind, context, self.options.pooling.multiplex);
        let is_mishap = step == Step::Play
            && failover == Failover::Alone(Evidence::Status(454))
            && !self.is_session_lost_again();
        match failover {
            // A relay answers so now and then to what it has set up.
            Failover::Alone(_) if is_mishap => {
                self.checkout.is_apart = true;
                self.checkout.avoid.push(driver.id);
            }
            Failover::Younger if !self.here.tried_younger => {
                self.here.tried_younger = true;
                self.checkout.younger_than = Some(driver.id);
            }
            Failover::Next if self.here.challenged < MOST_CHALLENGED => {
                self.here.challenged += 1;
                self.checkout.younger_than = Some(driver.id);
            }
            // Each PLAY elsewhere costs the server another DESCRIBE and SETUP: one is enough to find out
            // whether the connection was full, or the server.
            Failover::Elsewhere if step == Step::Play && self.here.has_played_elsewhere => {
                return Err(error);
            }
            Failover::Elsewhere if !self.checkout.is_dedicated => {
                self.here.has_played_elsewhere |= step == Step::Play;
                self.checkout.avoid.push(driver.id);
            }
            // Set up a moment ago: the server has mixed sessions up (Rockchip, where all have one id).
            // Nothing of this one plays yet that could be disturbed.
            Failover::Nothing
                if step == Step::Play && context.is_shared && error.status() == Some(404) =>
            {
                self.checkout.is_apart = true;
                self.checkout.avoid.push(driver.id);
            }
            Failover::Alone(evidence) if !self.checkout.is_dedicated => {
                if evidence.needs_agreement() {
                    self.pool.on_suspect(driver.id);
                }
                self.suspect(evidence, step);
            }
            _ => return Err(error),
        }
        tracing::info!("{}/-: trying another connection: {error}", driver.id);
        self.try_again(error)
    }

    /// Another connection is tried, if the server's budget has room for that.
    fn try_again(&mut self, error: Error) -> Result<(), Error> {
        if !self.may_try_again() {
            return Err(error);
        }
        self.here.refusal = Some(error);
        Ok(())
    }

    /// The server does not know a session that it set up a moment ago. Whether that happened before,
    /// a short time ago.
    fn is_session_lost_again(&self) -> bool {
        let mut is_again = false;
        self.pool.learn(self.checkout.key.server(), |sharing| {
            is_again = sharing.on_session_not_found(clock::now());
        });
        is_again
    }

    /// A step worked. If it was the one that had failed on a shared connection, and now the session
    /// is alone, the server cannot share. Had it failed again it would be this camera's own error.
    fn on_success(&mut self, step: Step) {
        if let Some(suspected) = self
            .here
            .suspected
            .take_if(|suspected| suspected.step <= step)
        {
            suspected.confirm();
        }
        if let Some(sessions) = self.here.full_with.take() {
            self.here.capacity_probe = None;
            self.pool.learn(self.checkout.key.server(), |sharing| {
                sharing.on_room_elsewhere(clock::now(), sessions);
            });
        }
    }

    fn error(&self, handle: &ConnectionHandle, failure: &Failure) -> Error {
        Error::from_failure(failure)
            .of_camera(&self.camera())
            .on(handle.driver().id)
    }
}

/// Its URLs may hold secrets.
impl fmt::Debug for BringUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BringUp")
            .field("camera", &self.camera())
            .field("wish", &self.checkout)
            .field("connections", &self.here.connections)
            .finish_non_exhaustive()
    }
}

/// A session whose PLAY was answered.
pub(crate) struct Playing {
    pub(crate) attachment: Attachment,
    pub(crate) presentation: Presentation,
    pub(crate) streams: StreamsSetUp,
    pub(crate) rtp_info: Vec<RtpInfo>,
}

/// The description in the answer to a DESCRIBE of the URL.
///
/// # Errors
///
/// Why it is of no use.
fn described_presentation(url: &Url, reply: Reply) -> Result<Presentation, String> {
    let Reply::Described {
        sdp,
        content_base,
        content_location,
        ..
    } = reply
    else {
        return Err("the answer is not one to DESCRIBE".to_owned());
    };
    let base = presentation_base(url, content_base.as_deref(), content_location.as_deref());
    parse_presentation(sdp, base).map_err(|error| error.to_string())
}

/// What the connection on which this was answered had been asked for first.
fn first_asked(reply: &Reply) -> FirstAsked {
    match reply {
        Reply::Described { first, .. } => first.clone(),
        _ => FirstAsked::Unanswered,
    }
}

fn rtp_info(reply: Reply) -> Vec<RtpInfo> {
    match reply {
        Reply::Playing(rtp_info) => rtp_info,
        _ => Vec::new(),
    }
}
