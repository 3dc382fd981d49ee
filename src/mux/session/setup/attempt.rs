//! The state of one session that is set up: what it is to play, what it has met at its server, and what
//! it owes there if it is dropped.

use std::{
    future::pending,
    pin::Pin,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use url::Url;

use crate::mux::{
    clock,
    connection_pool::{
        ConnectionHandle, DoubtGuard, FreshDescription, Joining, SharingGuard, SuspicionGuard,
    },
    error::Error,
    policy::{
        next_step::{
            AnswerPatience, Attempt, CanaryState, DescribeTiming, Operation, SetupPlace, SetupStage,
        },
        sharing::{Evidence, descriptions::Account},
    },
    proto::{Backlog, Credentials, Failure, PlayAnswer, Presentation, Reply, StreamGrant},
    server_key::ServerId,
    session::attachment::Attachment,
};

/// What is to be played, and where it led.
#[derive(Clone)]
pub(super) struct Target {
    /// Another URL than the user's after a redirect.
    pub(super) url: Url,
    /// URLs that redirected.
    pub(super) redirected: Vec<Url>,
    /// Came with a redirect, for the server that it led to.
    pub(super) lent: Option<(ServerId, Credentials)>,
}

/// The streams that are to be set up.
#[derive(Default)]
pub(super) struct WantedStreams {
    pub(super) streams: Vec<usize>,
    /// Of so many.
    pub(super) of: usize,
    /// Streams that cannot be had, and why.
    pub(super) left_out: Vec<(usize, Error)>,
}

impl WantedStreams {
    /// The session does without a stream.
    pub(super) fn leave_out(&mut self, stream: usize, why: Error) {
        self.streams.retain(|wanted| *wanted != stream);
        self.left_out.push((stream, why));
    }
}

/// What the session has met at the server that it is tried at. A redirect begins with nothing of it.
#[derive(Default)]
pub(super) struct AtServer {
    /// What the session knew of itself at its last look at the pool, and what has happened since.
    pub(super) attempt: Attempt,
    /// Declared before what waits for its end.
    pub(super) attachment: Option<Attachment>,
    /// Of the connection.
    pub(super) backlog: Option<watch::Receiver<Backlog>>,
    /// At whose SETUP the connection was lost.
    pub(super) lost_at: Option<usize>,
    /// Why the session is tried on a connection of its own.
    pub(super) suspected: Option<SuspicionGuard>,
    /// How it was described where that may have been another URI's presentation.
    pub(super) doubted: Option<Account>,
    /// Other sessions of its connection do not play before its description is checked.
    pub(super) doubt: Option<DoubtGuard>,
    /// It is the session that checks.
    pub(super) check: Option<SharingGuard>,
    pub(super) fresh: Option<FreshDescription>,
    /// Its DESCRIBE was not answered beside others, and may have been lost.
    pub(super) may_have_lost: bool,
    /// It was described without media behind its own leave, and is asked for once more.
    pub(super) is_asked_again: bool,
    /// What was described last.
    pub(super) presentation: Option<Presentation>,
    /// That is how it was described for an earlier session: to be asked for again with the SETUP.
    pub(super) is_remembered: bool,
    pub(super) streams: StreamsSetUp,
    pub(super) play_answer: PlayAnswer,
    /// The session is to send the canary that others wait for, or sends it.
    pub(super) canary: Option<SharingGuard>,
    /// It is not to send a canary, or not again.
    pub(super) is_canary_spent: bool,
    /// Sessions that were on the connection on which there was no room for this one.
    pub(super) full_with: Option<u32>,
    /// The session is the one that looks for room elsewhere.
    pub(super) capacity_probe: Option<SharingGuard>,
    /// What the server said before another connection was tried: worth more than "limit reached".
    pub(super) refusal: Option<Error>,
}

impl AtServer {
    /// Where the session is, as the decisions need it.
    pub(super) fn place(&self) -> Option<SetupPlace> {
        let attachment = self.attachment.as_ref()?;
        let (handle, driver) = (&attachment.handle, attachment.driver());
        Some(SetupPlace {
            id: driver.id,
            session: attachment.key(),
            is_aside: handle.is_aside,
            is_describe_only: handle.is_describe_only,
            is_proven: driver.is_proven(),
            was_shared: handle.driver().was_shared(),
        })
    }

    pub(super) fn canary_state(&self) -> CanaryState {
        match (&self.canary, self.is_canary_spent) {
            (Some(_), _) => CanaryState::Promised,
            (None, true) => CanaryState::Spent,
            (None, false) => CanaryState::Possible,
        }
    }

    /// The session is on a connection.
    pub(super) fn attach(&mut self, attachment: Attachment) {
        self.backlog = Some(attachment.driver().backlog.clone());
        self.attachment = Some(attachment);
    }

    /// The session leaves its connection. It is released there before it is opened on the next one:
    /// the server may allow one session more only.
    pub(super) fn detach(&mut self) {
        self.attempt.stage = SetupStage::Undecided;
        (self.attachment, self.backlog) = (None, None);
        (self.doubt, self.fresh, self.attempt.has_rejoined) = (None, None, false);
    }

    /// What the session met at its server is about one of its streams, and says nothing of the server.
    pub(super) fn is_own_failure(&mut self) {
        (self.suspected, self.full_with, self.capacity_probe) = (None, None, None);
    }

    /// It was described on another connection.
    pub(super) fn is_described_elsewhere(&mut self) {
        let described = self
            .attempt
            .described
            .get_or_insert_with(|| DescribeTiming {
                took: Duration::ZERO,
                at: clock::now(),
                is_first: false,
            });
        described.is_first = false;
    }

    /// How long the server took for the last DESCRIBE.
    pub(super) fn describe_took(&self) -> Duration {
        let described = self.attempt.described;
        described.map_or(Duration::ZERO, |described| described.took)
    }
}

/// A session that was described on a connection of its own, beside the one on which it is in doubt.
pub(super) struct DescribedAlone {
    pub(super) attachment: Attachment,
    pub(super) reply: Reply,
    /// Of the DESCRIBE.
    pub(super) joining: Joining,
}

/// The answer to what a session has under way.
pub(super) enum Completion {
    Connected(Result<ConnectionHandle, Error>),
    Opened(Result<Attachment, (ConnectionHandle, Failure)>),
    Described(Result<Reply, Failure>),
    /// How the URI is described on a fresh connection; none if that was not found out in time.
    Checked(Option<DescribedAlone>),
    /// None: it stays where it was described.
    Rejoined(Option<ConnectionHandle>),
    SetUp(Result<StreamsSetUp, SetUpFailure>),
    Playing(Result<Reply, Failure>),
    Canary(CanaryOutcome),
}

pub(super) type Completing = Pin<Box<dyn Future<Output = Completion> + Send>>;

/// What a session has under way.
pub(super) struct Work {
    pub(super) operation: Option<Operation>,
    pub(super) since: Instant,
    pub(super) patience: AnswerPatience,
    pub(super) answer: Completing,
    /// For a request of its own.
    pub(super) joining: Option<Joining>,
}

impl Work {
    pub(super) fn none() -> Self {
        Self {
            operation: None,
            since: clock::now(),
            patience: AnswerPatience::default(),
            answer: Box::pin(pending()),
            joining: None,
        }
    }

    pub(super) fn new(
        operation: Operation,
        answer: impl Future<Output = Completion> + Send + 'static,
    ) -> Self {
        Self {
            operation: Some(operation),
            answer: Box::pin(answer),
            ..Self::none()
        }
    }
}

/// What the SETUPs of a session came to.
#[derive(Debug, Default)]
pub(crate) struct StreamsSetUp {
    pub(crate) grants: Vec<StreamGrant>,
    /// Streams left out, and why.
    pub(crate) failed: Vec<(usize, Error)>,
    /// What the server describes now, where an earlier description was gone by.
    pub(super) described: Option<Reply>,
    /// The URIs that the server took for its streams in place of those that were tried first.
    pub(super) controls: Vec<(usize, Url)>,
}

/// A session that was not set up.
#[derive(Debug)]
pub(super) struct SetUpFailure {
    pub(super) failure: Failure,
    /// The stream whose SETUP failed; none if it was the DESCRIBE beside it.
    pub(super) stream: Option<usize>,
    /// No SETUP was granted: the server has no session.
    pub(super) is_first: bool,
}

/// What a canary brought.
pub(super) enum CanaryOutcome {
    /// The session goes on where it is.
    GoesOn,
    /// Its connection is lost.
    Lost,
    /// The server showed this on the connection, which is of no use any more.
    Spoilt(Evidence),
}
