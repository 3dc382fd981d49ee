//! A session that was described on a describe-only connection, because the server takes its time for
//! each DESCRIBE: it goes on to a connection that counts once the server is known to share. It comes
//! back to one, without harm to anything, where the server does not take one connection more.

use super::BringUp;
use crate::mux::{
    clock,
    connection_pool::ConnectionHandle,
    error::Error,
    policy::{
        failover::is_about_capacity,
        placement::{Rejoin, rejoin},
        sharing::{SharingMode, play_gate::patience},
    },
    proto::{Failure, FailureKind},
    session::attachment::Attachment,
    stats::WaitReason,
};

impl BringUp {
    /// Whether the session is only to be described on the connection.
    pub(super) fn is_on_describe_only(&self, handle: &ConnectionHandle) -> bool {
        self.checkout.is_spread
            && handle.is_describe_only()
            && !self.pool.is_counted(handle.driver().id)
    }

    /// Before SETUP: waits until the session may leave its describe-only connection, if it is on one.
    /// False if it has to be described again, elsewhere.
    pub(super) async fn await_sharing(&mut self, attachment: &Attachment) -> Result<bool, Error> {
        let Some(described) = self
            .here
            .described
            .filter(|_| self.is_on_describe_only(attachment.handle()))
        else {
            return Ok(true);
        };
        let mut changes = self.pool.watch(self.checkout.key.server());
        loop {
            changes.mark_unchanged();
            let until = described.at + patience(described.took);
            let facts = self.pool.rejoin_input(&self.checkout.key, until);
            let now = clock::now();
            match rejoin(&facts, now) {
                Rejoin::Now => return Ok(true),
                Rejoin::Wait(until) => {
                    let left = until.saturating_duration_since(now);
                    let _waiting = self.monitor.waits_for(WaitReason::SharingDecision);
                    let _ = clock::within(self.pool.runtime()?, left, changes.changed()).await;
                }
                Rejoin::Leave => {
                    self.leave_describe_only(attachment);
                    return Ok(false);
                }
            }
        }
    }

    /// Whether the session may be set up on a describe-only connection that it could not leave: not
    /// beside others, which the server would have to share the connection with.
    pub(super) fn may_remain(&mut self, attachment: &Attachment) -> bool {
        if !self.is_on_describe_only(attachment.handle())
            || matches!(self.mode(), SharingMode::Apart(_))
        {
            return true;
        }
        let is_alone = self.pool.keep_others_away(attachment.connection());
        if !is_alone {
            self.leave_describe_only(attachment);
        }
        is_alone
    }

    /// The session is brought up as if there were no describe-only connections.
    fn leave_describe_only(&mut self, attachment: &Attachment) {
        let id = attachment.connection();
        tracing::info!("{id}/{}: described again elsewhere", attachment.key());
        self.here.known = None;
        self.checkout.is_kept_pooled = true;
        self.step_aside(attachment);
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
                let server = self.checkout.key.server();
                self.pool.learn(server, |sharing| sharing.on_full(code));
            }
            _ => return false,
        }
        self.return_to_pool(handle);
        true
    }

    /// Whether the server has answered nothing on the describe-only connection: it may have no place for
    /// it, and leave it where its kernel has it. One that has answered on another one has places for
    /// them, and behind a DESCRIBE that was not answered there may be more of the kind: then it is what
    /// was asked for that is not answered.
    pub(super) fn is_ignored_aside(&self, attachment: &Attachment) -> bool {
        self.is_on_describe_only(attachment.handle())
            && !attachment.driver().is_proven()
            && !self
                .pool
                .has_served_describe_only(self.checkout.key.server())
            && !self.pool.is_doubtful(&self.checkout)
    }

    /// The server has answered a DESCRIBE.
    pub(super) fn on_describe_answered(&mut self, attachment: &Attachment) {
        if self.is_on_describe_only(attachment.handle()) {
            self.pool
                .on_describe_only_served(self.checkout.key.server());
        }
        self.checkout.is_doubtful = false;
        self.pool.on_describe_over(&self.checkout, true);
    }

    /// A DESCRIBE was refused, not answered, or did not get there.
    pub(super) fn on_describe_failed(&mut self, attachment: &Attachment, failure: &Failure) {
        match failure.kind {
            FailureKind::Status { .. } => self.on_describe_answered(attachment),
            FailureKind::TimedOut(_) => self.pool.on_describe_over(&self.checkout, false),
            _ => {}
        }
    }

    pub(super) fn return_to_pool(&mut self, handle: &ConnectionHandle) {
        tracing::info!(
            "{}/-: no describe-only connection to be had",
            handle.driver().id
        );
        self.pool.on_describe_only_refused(handle.driver());
        self.pool.keep_pooled(&mut self.checkout);
        self.checkout.avoid.push(handle.driver().id);
    }
}
