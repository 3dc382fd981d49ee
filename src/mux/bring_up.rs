//! Getting a session described and set up: on which connection, and where to turn if that fails.

use std::fmt;

use url::Url;

use super::{
    attachment::{Attachment, Pending},
    config::SessionOptions,
    connection_pool::{ConnectionHandle, ConnectionPool, Wish},
    error::{Error, ErrorKind, Initiator, Scope},
    monitor::{Debt, SessionMonitor},
    proto::{
        Failure, FailureKind, Presentation, Reply, RtpInfo, SessionConfig, SessionRequest,
        StreamGrant,
        sdp::parse_presentation,
        uri::{presentation_base, redacted},
    },
    remedy::{Circumstances, Remedy, remedy},
    sharing::Evidence,
};

/// Redirects followed for one session.
const MAX_REDIRECTS: usize = 5;

/// Connections tried for one session at one server. A bound for servers that refuse at random.
const MAX_CONNECTIONS: usize = 16;

/// How far a session is brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Described and set up. A mere description is no step: a broken camera gives one, too.
    SetUp,
    /// PLAY was answered.
    Play,
}

/// A session on its way, with all that was learned on it so far.
pub(super) struct BringUp {
    pool: ConnectionPool,
    /// As the user gave them: whom to present the credentials to.
    options: SessionOptions,
    /// What to play: another one than the user's after a redirect.
    url: Url,
    /// What kind of connection to try next.
    wish: Wish,
    /// URLs that redirected.
    redirected: Vec<Url>,
    connections: usize,
    tried_younger: bool,
    /// Why the session is tried on a connection of its own, and the step that has to work there
    /// before that is a verdict on the server.
    evidence: Option<(Evidence, Step)>,
    /// What the server said before another connection was tried: worth more than "limit reached".
    refusal: Option<Error>,
    pub(super) monitor: SessionMonitor,
    /// What the user's handle owes; the last field, settled last.
    _debt: Debt,
}

impl BringUp {
    pub(super) fn new(
        pool: ConnectionPool,
        options: SessionOptions,
        monitor: SessionMonitor,
    ) -> Result<Self, Error> {
        Ok(Self {
            wish: Wish::new(&options)?,
            url: options.url.clone(),
            pool,
            options,
            redirected: Vec::new(),
            connections: 0,
            tried_younger: false,
            evidence: None,
            refusal: None,
            _debt: monitor.debt(),
            monitor,
        })
    }

    /// The camera's name in logs and errors.
    pub(super) fn camera(&self) -> String {
        redacted(&self.url)
    }

    /// Describes the presentation on whichever connection the server does it, following redirects.
    pub(super) async fn describe(&mut self) -> Result<(Attachment, Presentation), Error> {
        loop {
            let attachment = match self.attach().await? {
                Ok(attachment) => attachment,
                Err((handle, failure)) => {
                    self.recover(Step::SetUp, &handle, failure)?;
                    continue;
                }
            };
            match attachment.request(SessionRequest::Describe).await {
                Ok(reply) => {
                    let presentation = self.presentation(&attachment, reply)?;
                    return Ok((attachment, presentation));
                }
                Err(Failure {
                    kind: FailureKind::Redirect { location, .. },
                    ..
                }) => self.follow(location)?,
                Err(failure) => self.recover(Step::SetUp, attachment.handle(), failure)?,
            }
        }
    }

    /// A session on a connection that the wish allows.
    async fn attach(&mut self) -> Result<Result<Attachment, (ConnectionHandle, Failure)>, Error> {
        self.connections += 1;
        let handle = self.pool.fulfil(self.wish.clone()).await.map_err(|error| {
            let limited = error.kind() == ErrorKind::ServerLimit;
            let refusal = self.refusal.take().filter(|_| limited);
            refusal.unwrap_or(error).of_camera(&self.camera())
        })?;
        let config = SessionConfig {
            url: self.url.clone(),
            keep_alive: self.options.keep_alive,
        };
        Ok(Attachment::open(handle, config, &self.monitor).await)
    }

    fn presentation(&self, attachment: &Attachment, reply: Reply) -> Result<Presentation, Error> {
        let Reply::Described {
            sdp,
            content_base,
            content_location,
        } = reply
        else {
            return Err(self.unusable(attachment, "the answer is not one to DESCRIBE"));
        };
        let base = presentation_base(
            &self.url,
            content_base.as_deref(),
            content_location.as_deref(),
        );
        parse_presentation(sdp, base).map_err(|error| self.unusable(attachment, &error.to_string()))
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

    /// Sets up `streams`; as far as another connection is needed for it, describes again there.
    /// Gives back what took part in the end, the grants, and why streams were left out.
    pub(super) async fn set_up(
        &mut self,
        mut attachment: Attachment,
        mut presentation: Presentation,
        streams: &[usize],
    ) -> Result<(Attachment, Presentation, StreamsSetUp), Error> {
        loop {
            let failure = match self.set_up_on(&attachment, &presentation, streams).await {
                Ok(done) => {
                    self.on_success(Step::SetUp);
                    self.monitor.set_grants(&done.grants);
                    return Ok((attachment, presentation, done));
                }
                Err(failure) => failure,
            };
            self.recover(Step::SetUp, attachment.handle(), failure)?;
            // Released before the next one is opened: the server may allow one session more only.
            drop(attachment);
            let streams_before = presentation.streams.len();
            (attachment, presentation) = self.describe().await?;
            if presentation.streams.len() != streams_before {
                return Err(self.unusable(&attachment, "it has changed between two connections"));
            }
        }
    }

    /// Plays what is set up. Another session may have upset the server meanwhile: then all is done
    /// again on another connection, since nothing played yet that could be disturbed.
    pub(super) async fn play(
        &mut self,
        mut attachment: Attachment,
        mut presentation: Presentation,
        mut streams: StreamsSetUp,
    ) -> Result<Playing, Error> {
        loop {
            let request = SessionRequest::Play {
                aggregate: presentation.aggregate.clone(),
            };
            let failure = match attachment.request(request).await {
                Ok(reply) => {
                    self.on_success(Step::Play);
                    return Ok(Playing {
                        attachment,
                        presentation,
                        streams,
                        rtp_info: rtp_info(reply),
                    });
                }
                Err(failure) => failure,
            };
            self.recover(Step::Play, attachment.handle(), failure)?;
            drop(attachment);
            let wanted: Vec<usize> = streams.grants.iter().map(|grant| grant.stream).collect();
            (attachment, presentation) = self.describe().await?;
            (attachment, presentation, streams) =
                self.set_up(attachment, presentation, &wanted).await?;
        }
    }

    /// The first stream alone, because its answer brings the session id; then the others at once.
    async fn set_up_on(
        &self,
        attachment: &Attachment,
        presentation: &Presentation,
        streams: &[usize],
    ) -> Result<StreamsSetUp, Failure> {
        let mut done = StreamsSetUp::default();
        let mut requests = streams
            .iter()
            .filter_map(|stream| setup_request(presentation, *stream));
        let Some((_, first)) = requests.next() else {
            return Ok(done);
        };
        done.grants
            .extend(granted(attachment.request(first).await?));
        let pending: Vec<(usize, Pending<'_>)> = requests
            .map(|(stream, request)| (stream, attachment.send(request)))
            .collect();
        for (stream, pending) in pending {
            match pending.reply().await {
                Ok(reply) => done.grants.extend(granted(reply)),
                Err(failure) if is_of_stream_alone(&failure) => {
                    tracing::info!(
                        "{}/{}: stream {stream} left out: {failure}",
                        attachment.connection(),
                        attachment.key()
                    );
                    done.failed
                        .push((stream, self.error(attachment.handle(), &failure)));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(done)
    }

    /// After a failure: prepares the next attempt, or gives the error that it is.
    fn recover(
        &mut self,
        step: Step,
        handle: &ConnectionHandle,
        failure: Failure,
    ) -> Result<(), Error> {
        let error = self.error(handle, &failure);
        if self.connections >= MAX_CONNECTIONS {
            return Err(error);
        }
        let link = handle.link();
        let circumstances = Circumstances {
            is_shared: handle.was_shared() && !self.wish.is_dedicated,
            is_reused: handle.is_reused(),
            is_last_resort: handle.is_founding() && self.connections > 1,
            is_proven: link.is_proven(),
        };
        match remedy(&failure.kind, circumstances, self.options.pooling.multiplex) {
            Remedy::Younger if !self.tried_younger => {
                self.tried_younger = true;
                self.wish.younger_than = Some(link.id);
            }
            Remedy::Elsewhere if !self.wish.is_dedicated => self.wish.avoid.push(link.id),
            Remedy::Alone(evidence) if !self.wish.is_dedicated => {
                self.wish.is_dedicated = true;
                self.evidence = Some((evidence, step));
            }
            _ => return Err(error),
        }
        tracing::info!("{}/-: trying another connection: {error}", link.id);
        self.refusal = Some(error);
        Ok(())
    }

    /// A step worked. If it was the one that had failed on a shared connection, and now the session
    /// is alone, the server cannot share. Had it failed again it would be this camera's own error.
    fn on_success(&mut self, step: Step) {
        if let Some((evidence, _)) = self.evidence.take_if(|(_, failed)| *failed <= step) {
            self.pool.on_cannot_share(self.wish.key.server(), evidence);
        }
    }

    /// Turns to where a DESCRIBE was redirected (fault F40).
    fn follow(&mut self, location: Url) -> Result<(), Error> {
        let refuse = |why: String| {
            Error::new(ErrorKind::Redirects, Scope::Session, Initiator::Server, why)
                .in_request("DESCRIBE")
        };
        self.redirected
            .push(std::mem::replace(&mut self.url, location));
        let from = redacted(&self.options.url);
        if self.redirected.len() > MAX_REDIRECTS {
            return Err(refuse(format!("more than {MAX_REDIRECTS} redirects")).of_camera(&from));
        }
        if self.redirected.contains(&self.url) {
            return Err(refuse("the server redirects in a loop".to_owned()).of_camera(&from));
        }
        self.wish = self.wish_after_redirect().map_err(|error| {
            refuse(format!("redirected to where we cannot go: {error}")).of_camera(&from)
        })?;
        self.connections = 0;
        self.tried_younger = false;
        self.evidence = None;
        self.refusal = None;
        Ok(())
    }

    /// Another origin than the user's gets no credentials.
    fn wish_after_redirect(&self) -> Result<Wish, Error> {
        let origin = Wish::new(&self.options)?;
        let here = SessionOptions {
            url: self.url.clone(),
            ..self.options.clone()
        };
        let wish = Wish::new(&here)?;
        if wish.key.server() == origin.key.server() {
            return Ok(wish);
        }
        Wish::new(&SessionOptions {
            credentials: None,
            ..here
        })
    }

    fn error(&self, handle: &ConnectionHandle, failure: &Failure) -> Error {
        Error::from_failure(failure)
            .of_camera(&self.camera())
            .on(handle.link().id)
    }
}

/// Its URLs may hold secrets.
impl fmt::Debug for BringUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BringUp")
            .field("camera", &self.camera())
            .field("wish", &self.wish)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// A session whose PLAY was answered.
pub(super) struct Playing {
    pub(super) attachment: Attachment,
    pub(super) presentation: Presentation,
    pub(super) streams: StreamsSetUp,
    pub(super) rtp_info: Vec<RtpInfo>,
}

/// What the SETUPs of a session came to.
#[derive(Debug, Default)]
pub(super) struct StreamsSetUp {
    pub(super) grants: Vec<StreamGrant>,
    /// Streams left out, and why.
    pub(super) failed: Vec<(usize, Error)>,
}

fn setup_request(presentation: &Presentation, stream: usize) -> Option<(usize, SessionRequest)> {
    let media = presentation.streams.get(stream)?;
    let request = SessionRequest::Setup {
        stream,
        control: media.control.clone(),
        payload_types: media.payload_types.clone(),
    };
    Some((stream, request))
}

fn granted(reply: Reply) -> Option<StreamGrant> {
    match reply {
        Reply::SetUp(grant) => Some(grant),
        _ => None,
    }
}

fn rtp_info(reply: Reply) -> Vec<RtpInfo> {
    match reply {
        Reply::Playing(rtp_info) => rtp_info,
        _ => Vec::new(),
    }
}

/// Whether a later stream's failure leaves the session as it is: the server does not want this one.
/// 461 and what shows that it confuses sessions is about the connection.
fn is_of_stream_alone(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Status { code: 400..=460 | 462..=499, .. })
}
