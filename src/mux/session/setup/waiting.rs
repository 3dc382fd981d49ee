//! Waiting for answers: how long a session waits behind others before it turns elsewhere.

use std::time::Duration;

use super::{BringUp, NEXT_LOOK, canary::CanaryGuard};
use crate::mux::{
    clock,
    connection_pool::ConnectionHandle,
    error::Error,
    policy::sharing::{
        Deciding, SharingMode,
        play_gate::{FENCE, REGROUP},
    },
    proto::{Failure, Presentation},
    session::attachment::Attachment,
    stats::WaitReason,
};

/// To which request an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Describe,
    SetUp,
    Play,
}

/// How the wait ended.
#[derive(Debug)]
pub(super) enum Waited<T> {
    Answer(T),
    /// The answer does not come because the server is busy with another session's request, and there is
    /// another connection to turn to.
    HeldUp,
    /// The request was not sent, and is answered sooner on another connection.
    Spread,
}

impl BringUp {
    /// The answer, unless the session had better turn to another connection: one slow DESCRIBE held the
    /// answers of all sessions for 20 s on gst-rtsp-server. The session whose request is the slow one
    /// stays, except on a describe-only connection on which the server has answered nothing.
    pub(super) async fn unless_held_up<T>(
        &self,
        attachment: &Attachment,
        wait: Wait,
        answer: impl Future<Output = T>,
    ) -> Result<Waited<T>, Error> {
        let (id, driver) = (attachment.connection(), attachment.driver());
        let runtime = self.pool.runtime()?;
        let patience = self.patience(wait);
        let behind_describe = self
            .pool
            .describe_patience(self.checkout.key.server())
            .min(patience);
        let began = clock::now();
        let mut backlog = driver.watch_backlog();
        let mut changes = self.pool.watch(self.checkout.key.server());
        let mut answer = std::pin::pin!(answer);
        let waiting = self.monitor.waits_for(WaitReason::Answer);
        loop {
            changes.mark_unchanged();
            let (blocked_since, is_behind_describe, is_unsent) = {
                let backlog = backlog.borrow_and_update();
                let is_describe = backlog.head.is_some_and(|head| head.is_describe);
                let is_unsent = backlog.unsent.contains(&attachment.key());
                (
                    backlog.blocked_since(attachment.key()),
                    is_describe,
                    is_unsent,
                )
            };
            waiting.set(match (is_unsent, blocked_since) {
                (true, _) => WaitReason::Unsent,
                (false, Some(_)) => WaitReason::HeadOfLine,
                (false, None) => WaitReason::Answer,
            });
            let is_waiting = is_unsent && wait == Wait::Describe;
            if is_waiting && self.pool.is_described_sooner_elsewhere(&self.checkout, id) {
                tracing::info!("{id}/{}: described on another connection", attachment.key());
                return Ok(Waited::Spread);
            }
            let patience = match is_behind_describe {
                true => behind_describe,
                false => patience,
            };
            let limit = blocked_since.map(|since| {
                let until = since + patience;
                until.saturating_duration_since(clock::now())
            });
            let is_held_up =
                limit == Some(Duration::ZERO) && self.pool.has_place(&self.checkout, id);
            let is_doomed = self.is_tried() && wait != Wait::Play && {
                let is_described = wait != Wait::Describe;
                self.pool.is_doomed(id, is_described) && !self.is_claimant(attachment)
            };
            let ignored_until = (began + patience).saturating_duration_since(clock::now());
            let is_unproven = wait == Wait::Describe && self.is_ignored_aside(attachment);
            let is_ignored = is_unproven && ignored_until.is_zero();
            if is_held_up || is_doomed || is_ignored {
                tracing::info!("{id}/{}: held up, trying elsewhere", attachment.key());
                return Ok(Waited::HeldUp);
            }
            let limit = limit.map(|limit| limit.max(NEXT_LOOK));
            let limit = limit
                .into_iter()
                .chain(is_unproven.then_some(ignored_until))
                .min();
            let done =
                clock::unless_changed(runtime, limit, answer.as_mut(), &mut changes, &mut backlog);
            if let Some(answer) = done.await {
                return Ok(Waited::Answer(answer));
            }
        }
    }

    fn patience(&self, wait: Wait) -> Duration {
        let patience = self.pool.patience(self.checkout.key.server());
        // Where a session that would be added is ignored, that is what is found out meanwhile.
        match wait {
            Wait::SetUp if self.is_tried() && self.mode() != SharingMode::Share => patience + FENCE,
            _ => patience,
        }
    }

    /// While it is not known whether the server can share, one session finds that out; the others wait
    /// for it for a moment instead of taking a connection each.
    pub(super) async fn await_decision(&mut self) -> Result<(), Error> {
        if !self.is_tried() || self.checkout.is_dedicated || self.here.canary_guard.is_some() {
            return Ok(());
        }
        let server = self.checkout.key.server().clone();
        // The session that decides may have a dead camera, and find out nothing.
        let until = clock::now() + self.pool.patience(&server).min(REGROUP);
        let mut changes = self.pool.watch(&server);
        loop {
            changes.mark_unchanged();
            let left = until.saturating_duration_since(clock::now());
            match self.pool.deciding(&server, !self.here.is_canary_spent) {
                Deciding::You => {
                    self.here.canary_guard = Some(CanaryGuard::new(&self.pool, &server));
                    return Ok(());
                }
                Deciding::Others if !left.is_zero() => {
                    let _waiting = self.monitor.waits_for(WaitReason::SharingDecision);
                    let _ = clock::within(self.pool.runtime()?, left, changes.changed()).await;
                }
                Deciding::Others | Deciding::NoSession => return Ok(()),
            }
        }
    }

    /// A session that was described on a describe-only connection, because a DESCRIBE might have cost
    /// the others their connection, joins them.
    pub(super) async fn rejoin(
        &mut self,
        attachment: Attachment,
        presentation: &Presentation,
    ) -> Result<Attachment, (ConnectionHandle, Failure)> {
        let shares = matches!(self.mode(), SharingMode::Share | SharingMode::TryInBand);
        let is_aside = attachment.handle().is_aside() && shares;
        if !is_aside {
            return Ok(attachment);
        }
        if !self.is_told_apart(&attachment).await {
            return Ok(attachment);
        }
        let id = attachment.connection();
        let Some(handle) = self.pool.rejoin(&self.checkout, id) else {
            return Ok(attachment);
        };
        if self.pool.is_alone(id) && !self.checkout.is_spread {
            // The pool writes down what the probe shows; no session waits for it.
            drop(
                self.pool
                    .probe(attachment.driver(), &presentation.aggregate),
            );
        }
        if let Some(described) = &mut self.here.described {
            described.is_first = false;
        }
        self.attach_to(handle).await
    }
}
