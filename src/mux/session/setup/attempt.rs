//! The state of one session that is set up: what it is to play, what it has met at its server, and what
//! it owes there if it is dropped.

use std::time::Duration;

use tokio::sync::watch;
use url::Url;

use super::StreamsSetUp;
use crate::mux::{
    clock,
    connection_pool::{ConnectionPool, DoubtGuard, FreshDescription},
    error::Error,
    policy::{
        failover::FailedStep,
        next_step::{Attempt, CanaryState, DescribeTiming, SetupPlace, SetupStage},
        sharing::{Evidence, Sharing, descriptions::Account},
    },
    proto::{Backlog, Credentials, Presentation, RtpInfo},
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
    /// Why the session is tried on a connection of its own.
    pub(super) suspected: Option<SuspicionGuard>,
    /// How it was described where that may have been another URI's presentation.
    pub(super) doubted: Option<Account>,
    /// Other sessions of its connection do not play before its description is checked.
    pub(super) doubt: Option<DoubtGuard>,
    /// It is the session that checks.
    pub(super) check: Option<SharingGuard>,
    pub(super) fresh: Option<FreshDescription>,
    /// What was described last.
    pub(super) presentation: Option<Presentation>,
    /// That is how it was described for an earlier session: to be asked for again with the SETUP.
    pub(super) is_remembered: bool,
    pub(super) streams: StreamsSetUp,
    pub(super) rtp_info: Vec<RtpInfo>,
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
        let (handle, driver) = (attachment.handle(), attachment.driver());
        Some(SetupPlace {
            id: driver.id,
            session: attachment.key(),
            is_aside: handle.is_aside,
            is_describe_only: handle.is_describe_only,
            is_proven: driver.is_proven(),
            was_shared: handle.was_shared(),
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
        self.backlog = Some(attachment.driver().watch_backlog());
        self.attachment = Some(attachment);
    }

    /// The session leaves its connection. It is released there before it is opened on the next one:
    /// the server may allow one session more only.
    pub(super) fn detach(&mut self) {
        self.attempt.stage = SetupStage::Undecided;
        (self.attachment, self.backlog) = (None, None);
        (self.doubt, self.fresh, self.attempt.has_rejoined) = (None, None, false);
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

/// What a session does for all sessions of a server; if it is dropped, the next one may do it.
#[derive(Debug)]
pub(super) struct SharingGuard {
    pool: ConnectionPool,
    server: ServerId,
    when_over: fn(&mut Sharing),
}

impl SharingGuard {
    pub(super) fn new(
        pool: &ConnectionPool,
        server: &ServerId,
        when_over: fn(&mut Sharing),
    ) -> Self {
        Self {
            pool: pool.clone(),
            server: server.clone(),
            when_over,
        }
    }
}

impl Drop for SharingGuard {
    fn drop(&mut self) {
        self.pool.learn(&self.server, self.when_over);
    }
}

/// Evidence that a session met, until it is confirmed. Dropped before that, it counts for nothing.
#[derive(Debug)]
pub(crate) struct SuspicionGuard {
    guard: SharingGuard,
    pub(super) evidence: Evidence,
    /// What had failed, and has to work elsewhere.
    pub(super) step: FailedStep,
}

impl SuspicionGuard {
    pub(super) fn new(
        pool: &ConnectionPool,
        server: &ServerId,
        evidence: Evidence,
        step: FailedStep,
    ) -> Self {
        pool.learn(server, |sharing| {
            sharing.on_suspected(clock::now(), evidence)
        });
        Self {
            guard: SharingGuard::new(pool, server, Sharing::on_own_error),
            evidence,
            step,
        }
    }

    /// The session works on a connection of its own.
    pub(crate) fn confirm(mut self) {
        let (guard, evidence) = (&mut self.guard, self.evidence);
        guard.pool.learn(&guard.server, |sharing| {
            sharing.on_works_alone(clock::now(), evidence);
        });
        guard.when_over = |_| {};
    }
}
