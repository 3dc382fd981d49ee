//! Where a session turns that cannot go on where it is: after a failure, at a full server, or because
//! other sessions are in the way.
//!
//! A refusal by a full server says something about its limit, and nothing about sharing. One session
//! finds out on a new connection whether the connection was full or the server. The other sessions that
//! were refused wait for that: sixteen that start together at a full server must not ask it sixteen
//! times on every connection there is.

use std::time::Duration;

use super::{Setup, attempt::SetUpFailure};
use crate::mux::{
    clock,
    connection_pool::{ConnectionHandle, Joining, SuspicionGuard},
    error::{Error, ErrorKind, TlsFailure},
    ids::ConnectionId,
    policy::{
        failover::{FailedStep, FailureContext, Recourse, evidence, is_about_capacity, recourse},
        next_step::{Move, PendingTeardowns, SetupStage},
        placement::Isolation,
        sharing::{Evidence, Sharing, SharingMode, descriptions::Account},
    },
    proto::{CloseReason, Failure, FailureKind},
};

impl Setup {
    /// The session goes to another connection. `was_asked`: its request was not answered.
    pub(super) fn turn(&mut self, reason: Move, mode: SharingMode, was_asked: bool) {
        let Some(attachment) = self.here.attachment.take() else {
            return self.here.detach();
        };
        let id = attachment.connection();
        let why = match reason {
            Move::OthersStay => "others stay here, one session alone may",
            Move::Spread => "described on another connection",
            Move::NotToRemain => "described again elsewhere",
            Move::InDoubt => "not known to be described as itself, trying elsewhere",
            Move::MixedUp => "the server mixes sessions up, trying elsewhere",
            Move::HeldUp if self.here.attempt.stage == SetupStage::SetUp && !was_asked => {
                "not waiting for others any more"
            }
            Move::HeldUp | Move::Ignored => "held up, trying elsewhere",
        };
        tracing::info!("{id}/{}: {why}", attachment.key());
        match reason {
            Move::Spread => self.checkout.is_spread = true,
            Move::Ignored => self.return_to_pool(&attachment.handle),
            Move::HeldUp if self.here.attempt.stage == SetupStage::Placed => {
                let under_way = self.here.attempt.under_way;
                self.here.may_have_lost |=
                    under_way.is_some_and(|request| request.is_behind_lost && !request.is_unsent);
                (self.checkout.is_spread, self.checkout.is_doubtful) = (true, true);
                self.checkout.avoid.push(id);
            }
            Move::HeldUp => self.on_held_up(id, mode),
            Move::OthersStay => {
                self.here.attempt.is_described = false;
                self.leave(id, mode);
            }
            Move::NotToRemain => {
                // The session is brought up as if there were no describe-only connections.
                self.here.attempt.is_described = false;
                self.checkout.is_kept_pooled = true;
                self.leave(id, mode);
            }
            Move::InDoubt => self.leave_in_doubt(id),
            Move::MixedUp => self.leave(id, mode),
        }
        drop(attachment);
        self.here.detach();
    }

    /// The next attempt is made on another connection; while the server is being tried, on one that no
    /// other session uses.
    fn leave(&mut self, id: ConnectionId, mode: SharingMode) {
        let alone = self.is_tried() && mode != SharingMode::Share;
        self.checkout.leave(id, alone);
    }

    /// The answer does not come because other sessions are in the way: this session leaves. If the
    /// server is being tried, it is not tried in this way again: the first session that leaves plays
    /// without a trial, and one of those that follow sends the canary.
    fn on_held_up(&mut self, id: ConnectionId, mode: SharingMode) {
        // The DESCRIBE beside its SETUP waited behind one that is not answered: it may not be either,
        // and goes where nothing plays.
        if std::mem::take(&mut self.here.is_remembered) {
            self.here.attempt.is_described = false;
            self.checkout.is_doubtful = true;
        }
        if self.is_tried() && mode == SharingMode::Try {
            self.here.is_canary_spent |= self.learn(Sharing::on_gathering_lapsed);
        }
        self.leave(id, mode);
    }

    /// What was described is not known to be this camera. It is brought up on a connection of its own.
    /// With `multiplex=always` there may be none, and then it fails: a camera that shows another's
    /// picture is worse than one that fails.
    fn leave_in_doubt(&mut self, id: ConnectionId) {
        self.here.attempt.is_described = false;
        self.here.doubted = self.here.presentation.as_ref().map(Account::of);
        if self.is_tried() {
            return self.suspect(Evidence::SameDescription, FailedStep::SetUp);
        }
        let explanation = Evidence::SameDescription.to_string();
        let error = Error::new(ErrorKind::CannotShare, explanation);
        self.here.refusal = Some(error.in_request("DESCRIBE").on(id));
        self.checkout.avoid.push(id);
    }

    /// The next attempt is made on a connection of the session's own, and is a verdict if it works.
    pub(super) fn suspect(&mut self, evidence: Evidence, step: FailedStep) {
        self.checkout.isolation = Isolation::Dedicated;
        let server = self.checkout.key.server();
        self.here.suspected = Some(SuspicionGuard::new(&self.pool, server, evidence, step));
    }

    /// The session leaves its connection after a failure there, or fails.
    pub(super) fn recover_here(&mut self, step: FailedStep, failure: Failure) -> Result<(), Error> {
        if let Some(attachment) = self.here.attachment.take() {
            self.recover(step, &attachment.handle, failure)?;
        }
        self.here.detach();
        Ok(())
    }

    /// After a failure: prepares the next attempt, or gives the error that it is.
    pub(super) fn recover(
        &mut self,
        step: FailedStep,
        handle: &ConnectionHandle,
        failure: Failure,
    ) -> Result<(), Error> {
        let error = self.error(handle, &failure);
        let is_premature = self.note_capacity(handle, &failure);
        let driver = handle.driver();
        let mut context = FailureContext {
            step,
            is_premature,
            ..self.failure_context(handle)
        };
        context.is_mishap = step == FailedStep::Play
            && evidence(&failure.kind, context) == Some(Evidence::Status(454))
            && !self.learn(|sharing| sharing.on_session_not_found(clock::now()));
        let tried = &mut self.here.attempt.tried;
        match recourse(&failure.kind, context, *tried) {
            Recourse::Fail => return Err(error),
            Recourse::Again => return self.try_again(error),
            Recourse::Younger => {
                tried.younger = true;
                self.checkout.younger_than = Some(driver.id);
            }
            Recourse::Challenged => {
                tried.challenged += 1;
                self.checkout.younger_than = Some(driver.id);
            }
            Recourse::Elsewhere => {
                tried.played_elsewhere |= step == FailedStep::Play;
                self.checkout.avoid.push(driver.id);
            }
            Recourse::Alone => self.checkout.leave(driver.id, true),
            Recourse::Suspect(evidence) => {
                if evidence.needs_agreement() {
                    self.pool.on_suspect(driver.id);
                }
                self.suspect(evidence, step);
            }
        }
        tracing::info!("{}/-: trying another connection: {error}", driver.id);
        self.try_again(error)
    }

    pub(super) fn failure_context(&self, handle: &ConnectionHandle) -> FailureContext {
        let is_dedicated = self.checkout.is_dedicated();
        FailureContext {
            multiplex: self.options.pooling.multiplex,
            is_dedicated,
            is_shared: handle.driver().was_shared() && !is_dedicated,
            is_reused: handle.is_reused,
            is_last_resort: handle.is_founding && self.here.attempt.tried.connections > 1,
            is_proven: handle.driver().is_proven(),
            ..FailureContext::default()
        }
    }

    /// Another connection is tried, if the server's budget has room for that.
    pub(super) fn try_again(&mut self, error: Error) -> Result<(), Error> {
        if !self.may_try_again() {
            return Err(error);
        }
        self.here.refusal = Some(error);
        Ok(())
    }

    pub(super) fn may_try_again(&self) -> bool {
        let reporter = self.reporter.as_ref();
        reporter.is_none_or(|reporter| reporter.may_go_on())
    }

    /// A step worked. If it was the one that had failed on a shared connection, and now the session
    /// is alone, the server cannot share. Had it failed again it would be this camera's own error.
    /// That the connection lives shows only with the media: some servers close each connection.
    pub(super) fn on_success(&mut self, step: FailedStep) {
        let suspected = &mut self.here.suspected;
        let shows = |suspected: &mut SuspicionGuard| {
            suspected.step <= step && suspected.evidence != Evidence::Closed
        };
        if let Some(suspected) = suspected.take_if(shows) {
            suspected.confirm();
        }
        if let Some(sessions) = self.here.full_with.take() {
            self.here.capacity_probe = None;
            self.learn(|sharing| sharing.on_room_elsewhere(clock::now(), sessions));
        }
    }

    /// A server that has no room says so. Gives whether that may be because of sessions that have
    /// left, but not there yet: that says nothing of connections, and is asked again, once.
    fn note_capacity(&mut self, handle: &ConnectionHandle, failure: &Failure) -> bool {
        let FailureKind::Status {
            code, retry_after, ..
        } = failure.kind
        else {
            return false;
        };
        if !is_about_capacity(code) {
            return false;
        }
        let server = self.checkout.key.server();
        let is_premature = match self.here.attempt.pending_teardowns {
            PendingTeardowns::Unseen => self.pool.has_pending_teardowns(server),
            PendingTeardowns::Seen => true,
            PendingTeardowns::InTheWay | PendingTeardowns::Awaited => false,
        };
        let is_last = self.here.capacity_probe.is_some() && !is_premature;
        let now = clock::now();
        self.learn(|sharing| {
            sharing.on_full(code);
            if is_last {
                sharing.on_no_room(now, retry_after.unwrap_or(Duration::ZERO));
            }
        });
        if is_premature {
            self.here.attempt.pending_teardowns = PendingTeardowns::InTheWay;
            self.here.capacity_probe = None;
            self.here.full_with = Some(0);
        } else {
            let there = self.pool.connection(handle.driver().id);
            self.here.full_with = Some(there.map_or(0, |there| there.set_up));
        }
        is_premature
    }

    /// Whether a session does without a connection that the server refused to make: it may take no
    /// more of them, and those there are take another session.
    pub(super) fn does_without(&mut self, error: &Error) -> bool {
        let is_refused = matches!(
            error.kind(),
            ErrorKind::Connect | ErrorKind::Tls(TlsFailure::Interrupted)
        ) && !self.checkout.is_dedicated();
        let shares = |sharing: &Sharing| sharing.mode(clock::now()) == SharingMode::Share;
        let may = is_refused && !self.checkout.no_new_connection && self.sharing(shares);
        self.checkout.no_new_connection |= may;
        may
    }

    /// The SETUP of a session failed.
    pub(super) fn on_set_up_failed(&mut self, failed: SetUpFailure) -> Result<(), Error> {
        let SetUpFailure {
            failure,
            stream,
            is_first,
        } = failed;
        let Some(attachment) = &self.here.attachment else {
            return Ok(());
        };
        if is_first && matches!(failure.kind, FailureKind::Status { .. }) {
            attachment.on_refused();
        }
        // Of what is described no more.
        if std::mem::take(&mut self.here.is_remembered) {
            let error = self.error(&attachment.handle, &failure);
            let is_on_describe_only = self.is_on_describe_only(&attachment.handle);
            self.pool.forget(&self.checkout);
            self.here.attempt.is_described = false;
            self.note_describe_failure(&failure, is_on_describe_only);
            if !self.may_try_again() {
                return Err(error);
            }
            self.here.detach();
            return Ok(());
        }
        if let Some(stream) = stream.filter(|_| self.is_lost_at_stream(&failure, is_first)) {
            let error = self.error(&attachment.handle, &failure);
            let is_shared = self.failure_context(&attachment.handle).is_shared;
            if self.here.lost_at.replace(stream) == Some(stream) {
                self.here.is_own_failure();
                self.wanted.leave_out(stream, error.clone());
            } else if is_shared {
                return self.recover_here(FailedStep::SetUp, failure);
            }
            self.here.detach();
            return self.try_again(error);
        }
        self.recover_here(FailedStep::SetUp, failure)
    }

    /// Whether the connection may have ended because of one stream's SETUP, of several: some servers
    /// close at a stream that they cannot send, or answer nothing any more. That they do so twice tells.
    fn is_lost_at_stream(&self, failure: &Failure, is_first: bool) -> bool {
        let is_lost = match &failure.kind {
            FailureKind::ConnectionLost(CloseReason::Dead(_)) => true,
            FailureKind::ConnectionLost(CloseReason::PeerClosed | CloseReason::Io(_)) => !is_first,
            _ => false,
        };
        is_lost && self.wanted.streams.len() > 1
    }

    /// The DESCRIBE of a session failed.
    pub(super) fn on_describe_failed(
        &mut self,
        failure: Failure,
        joining: Option<Joining>,
    ) -> Result<(), Error> {
        drop(joining);
        let Some(attachment) = &self.here.attachment else {
            return Ok(());
        };
        let is_on_describe_only = self.is_on_describe_only(&attachment.handle);
        self.note_describe_failure(&failure, is_on_describe_only);
        let failure = self.follow_if_redirected(failure)?;
        let there = self.here.attachment.take();
        if let Some((failure, there)) = failure.zip(there)
            && !self.returns_from(&there.handle, &failure)
        {
            self.recover(FailedStep::SetUp, &there.handle, failure)?;
        }
        self.here.detach();
        Ok(())
    }

    /// A DESCRIBE was refused, not answered, or did not get there.
    fn note_describe_failure(&mut self, failure: &Failure, is_on_describe_only: bool) {
        match failure.kind {
            FailureKind::Status { .. } | FailureKind::Redirect { .. } => {
                self.checkout.is_doubtful = false;
                self.pool
                    .on_describe_answered(&self.checkout, is_on_describe_only);
            }
            FailureKind::TimedOut(_) => self.pool.on_describe_unanswered(&self.checkout),
            _ => {}
        }
    }

    /// Whether the session is only to be described on the connection.
    pub(super) fn is_on_describe_only(&self, handle: &ConnectionHandle) -> bool {
        let is_counted = || {
            let here = self.pool.connection(handle.driver().id);
            here.is_some_and(|here| here.is_counted)
        };
        self.checkout.is_spread && handle.is_describe_only && !is_counted()
    }

    /// A describe-only connection that the server ended, or on which it has no room, is no failure of the
    /// session's: it waits on a connection that counts, and no more of the other kind are made. False if
    /// the failure is of another kind.
    pub(super) fn returns_from(&mut self, handle: &ConnectionHandle, failure: &Failure) -> bool {
        if !self.is_on_describe_only(handle) {
            return false;
        }
        match failure.kind {
            // Cancelled: another session has waited there in vain, and had it closed.
            FailureKind::ConnectionLost(_) | FailureKind::Cancelled => {}
            FailureKind::Status { code, .. } if is_about_capacity(code) => {
                self.learn(|sharing| sharing.on_full(code));
            }
            _ => return false,
        }
        self.return_to_pool(handle);
        true
    }

    fn return_to_pool(&mut self, handle: &ConnectionHandle) {
        tracing::info!(
            "{}/-: no describe-only connection to be had",
            handle.driver().id
        );
        self.pool.on_describe_only_refused(handle.driver());
        self.pool.keep_pooled(&mut self.checkout);
        self.checkout.avoid.push(handle.driver().id);
    }

    /// What the server said before is worth more than that no other connection is to be had.
    pub(super) fn best_error(&mut self, error: Error) -> Error {
        let is_limit = error.kind() == ErrorKind::ServerLimit;
        let refusal = self.here.refusal.take().filter(|_| is_limit);
        refusal.unwrap_or(error).of_camera(&self.camera())
    }

    fn error(&self, handle: &ConnectionHandle, failure: &Failure) -> Error {
        Error::from_failure(failure)
            .of_camera(&self.camera())
            .on(handle.driver().id)
    }
}
