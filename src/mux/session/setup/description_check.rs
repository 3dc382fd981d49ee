//! A session whose description may be that of another URI: it does not play where it was described
//! before its URI was described once on a fresh connection. One session does that for all of the
//! server's, with a single DESCRIBE on a connection that is closed again.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{BringUp, Passage, Step, described_presentation};
use crate::mux::{
    clock,
    config::OverflowPolicy,
    connection_pool::{CheckoutRequest, ConnectionHandle, ConnectionPool, Description},
    error::{Error, ErrorKind, Initiator, Scope},
    ids::{ConnectionId, PresentationUri},
    policy::sharing::{
        Evidence, Sharing, SharingMode,
        descriptions::{Account, Doubt, NextCheck, shows_another_camera},
        play_gate::{REGROUP, patience},
    },
    proto::{FirstAsked, Presentation, SessionConfig, SessionRequest},
    server_key::ServerId,
    session::{attachment::Attachment, monitor::SessionMonitor},
    stats::WaitReason,
};

/// A check that a session has begun; however it ends, another session may check then.
#[derive(Debug)]
struct CheckGuard {
    pool: ConnectionPool,
    server: ServerId,
}

impl Drop for CheckGuard {
    fn drop(&mut self) {
        self.pool
            .learn(&self.server, |sharing| sharing.on_description_check_over());
    }
}

impl BringUp {
    /// Writes down how the presentation was described on the connection. Gives why that may be
    /// another URI's, if it may.
    pub(super) fn note_description(
        &mut self,
        attachment: &Attachment,
        presentation: &Presentation,
        first: &FirstAsked,
    ) -> Option<Doubt> {
        let account = Account::of(presentation);
        let took = self.describe_took();
        let description = Description {
            uri: self.checkout.presentation(),
            control: first_control(presentation),
            signature: account.signature.clone(),
        };
        if *first == FirstAsked::Own
            && let Some(doubted) = self.here.doubted.take()
        {
            self.on_described_twice(&doubted, &account);
        }
        let doubt = self
            .pool
            .on_described(attachment.handle(), description, first, took);
        if doubt.is_none() && shows_another_camera(&presentation.sdp, first) {
            let server = self.checkout.key.server();
            self.pool.learn(server, Sharing::on_described_apart);
        }
        doubt
    }

    /// The URI was described in company, and now first on its connection.
    fn on_described_twice(&mut self, in_company: &Account, alone: &Account) {
        let is_same = in_company == alone;
        if is_same {
            // It would have been described so there, too: two names of one camera, or one model.
            self.here.suspected = None;
        }
        self.pool.learn(self.checkout.key.server(), |sharing| {
            sharing.on_described_twice(clock::now(), is_same);
        });
    }

    /// Waits until it is known whether the server describes the URIs of a connection as themselves, or
    /// finds that out. False if it cannot be found out; if the server does not, it is a verdict.
    pub(super) async fn await_description_check(
        &mut self,
        attachment: &Attachment,
        account: &Account,
    ) -> Result<bool, Error> {
        let server = self.checkout.key.server().clone();
        let took = self.describe_took();
        let until = clock::now() + patience(took).max(REGROUP);
        let mut changes = self.pool.watch(&server);
        let _hold = self.pool.hold_in_doubt(attachment.connection(), until);
        let _waiting = self.monitor.waits_for(WaitReason::DescriptionCheck);
        loop {
            changes.mark_unchanged();
            if matches!(self.mode(), SharingMode::Apart(_)) {
                return Ok(true);
            }
            let left = until.saturating_duration_since(clock::now());
            match self.pool.next_description_check(&server) {
                NextCheck::Needless => return Ok(true),
                NextCheck::Own => self.check(&server, attachment, account, left).await?,
                NextCheck::Others if !left.is_zero() => {
                    let _ = clock::within(self.pool.runtime()?, left, changes.changed()).await;
                }
                NextCheck::Others | NextCheck::None => return Ok(false),
            }
        }
    }

    /// Describes the URI on a fresh connection, and compares.
    async fn check(
        &self,
        server: &ServerId,
        attachment: &Attachment,
        in_company: &Account,
        limit: Duration,
    ) -> Result<(), Error> {
        let _guard = CheckGuard {
            pool: self.pool.clone(),
            server: server.clone(),
        };
        let describing = self.describe_alone(attachment.connection());
        let alone = clock::within(self.pool.runtime()?, limit, describing).await;
        let now = clock::now();
        self.pool.learn(server, |sharing| match alone {
            Ok(Some(alone)) => sharing.on_described_twice(now, alone == *in_company),
            _ => sharing.on_description_check_failed(now),
        });
        Ok(())
    }

    /// Whether a session that was described aside may be set up among those that play, where its URI is
    /// not described. A server that stays with the first URI of a connection would play that one. So
    /// where it is not known, a URI that plays is described once more, here, where another was described
    /// first and nothing plays.
    pub(super) async fn is_told_apart(&self, attachment: &Attachment) -> bool {
        let server = self.checkout.key.server();
        if self.pool.sharing(server, Sharing::tells_apart) {
            return true;
        }
        let Some((url, known)) = self.pool.another_description(&self.checkout) else {
            return false;
        };
        // Another session's slow DESCRIBE may be in the way here.
        let limit = self.pool.describe_patience(server);
        let describing = self.describe_beside(attachment, url);
        let here = match self.pool.runtime() {
            Ok(runtime) => clock::within(runtime, limit, describing).await,
            Err(_) => return false,
        };
        let Ok(Some(here)) = here else {
            return false;
        };
        let is_same = here == Account::of(&known);
        self.pool.learn(server, |sharing| {
            sharing.on_described_twice(clock::now(), is_same);
        });
        is_same
    }

    /// How another URI is described on the connection; none if it is not.
    async fn describe_beside(&self, attachment: &Attachment, url: Url) -> Option<Account> {
        let handle = self.pool.join(attachment.handle())?;
        describe_on(handle, url).await
    }

    /// How the URI is described on a connection that nothing else was asked of; none if it is not.
    async fn describe_alone(&self, there: ConnectionId) -> Option<Account> {
        let handle = self.pool.fulfil(self.check_request()).await.ok()?;
        tracing::debug!("{there}/-: described once more on {}", handle.driver().id);
        describe_on(handle, self.target.url.clone()).await
    }

    /// A connection that is made for the check and closed behind it: beyond the limit, except with
    /// `multiplex=always`, where all connections stay within it.
    fn check_request(&self) -> CheckoutRequest {
        let mut checkout = self.checkout.clone();
        checkout.needs_describe = true;
        checkout.avoid.clear();
        match self.is_tried() {
            true => checkout.is_dedicated = true,
            false => {
                checkout.younger_than = Some(ConnectionId(u64::MAX));
                let options = Arc::make_mut(&mut checkout.options);
                options.pooling.idle_connection_timeout = Duration::ZERO;
            }
        }
        checkout
    }

    /// What was described is not known to be this camera. It is brought up on a connection of its own.
    /// With `multiplex=always` there may be none, and then it fails: a camera that shows another's
    /// picture is worse than one that fails.
    pub(super) fn leave_in_doubt(&mut self, attachment: &Attachment, account: Account) -> Passage {
        self.here.doubted = Some(account);
        if self.is_tried() {
            self.suspect(Evidence::SameDescription, Step::SetUp);
        } else {
            let explanation = Evidence::SameDescription.to_string();
            let error = Error::new(
                ErrorKind::CannotShare,
                Scope::Session,
                Initiator::Server,
                explanation,
            );
            self.here.refusal = Some(error.in_request("DESCRIBE").on(attachment.connection()));
            self.checkout.avoid.push(attachment.connection());
        }
        Passage::Elsewhere
    }
}

/// How the URI is described by one DESCRIBE on a connection; none if it is not.
async fn describe_on(handle: ConnectionHandle, url: Url) -> Option<Account> {
    let config = SessionConfig {
        url: url.clone(),
        keep_alive: false,
    };
    let (overflow, monitor) = (OverflowPolicy::default(), SessionMonitor::new());
    let opened = Attachment::open(handle, config, overflow, &monitor).await;
    let reply = opened.ok()?.request(SessionRequest::Describe).await.ok()?;
    let presentation = described_presentation(&url, reply).ok()?;
    Some(Account::of(&presentation))
}

/// What tells presentations apart: their URIs may be names of one.
fn first_control(presentation: &Presentation) -> PresentationUri {
    let first = presentation.streams.first();
    PresentationUri(
        first
            .map(|media| media.control.to_string())
            .unwrap_or_default(),
    )
}
