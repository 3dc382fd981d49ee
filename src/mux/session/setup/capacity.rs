//! A server without room, apart from one that refuses: what is learned from it is a limit, never a
//! verdict.
//!
//! Whether the connection is full or the server, one session finds out on a fresh connection. The
//! others that were refused wait for that: sixteen that start together at a full server must not ask
//! it sixteen times on every connection there is.

use std::time::Duration;

use super::{BringUp, NEXT_LOOK};
use crate::mux::{
    clock,
    connection_pool::{ConnectionHandle, ConnectionPool},
    error::{Error, ErrorKind, TlsFailure},
    policy::{
        failover::is_about_capacity,
        sharing::{Deciding, Sharing, SharingMode},
    },
    proto::{Failure, FailureKind},
    server_key::ServerId,
    stats::WaitReason,
};

/// The one session that looks for room on a fresh connection; given up when it is dropped.
#[derive(Debug)]
pub(super) struct CapacityProbe {
    pool: ConnectionPool,
    server: ServerId,
}

impl Drop for CapacityProbe {
    fn drop(&mut self) {
        self.pool
            .learn(&self.server, |sharing| sharing.on_room_trial_over());
    }
}

/// Sessions that have left the server and may be there still when another one asks for a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PendingTeardowns {
    #[default]
    Unseen,
    /// There are some.
    Seen,
    /// They may be why there was no place.
    InTheWay,
    /// They have gone, or were waited for in vain.
    Awaited,
}

impl BringUp {
    /// Before a place is asked for: those that are leaving now may be gone when it is refused.
    pub(super) fn look_for_leavers(&mut self) {
        let has_pending_teardowns = || self.pool.has_pending_teardowns(self.checkout.key.server());
        self.here.pending_teardowns = match self.here.pending_teardowns {
            PendingTeardowns::Awaited => PendingTeardowns::Awaited,
            _ if has_pending_teardowns() => PendingTeardowns::Seen,
            _ => PendingTeardowns::Unseen,
        };
    }

    /// A server that has no room says so. Gives whether that may be because of sessions that have
    /// left, but not there yet: that says nothing of connections, and is asked again, once.
    pub(super) fn note_capacity(&mut self, handle: &ConnectionHandle, failure: &Failure) -> bool {
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
        let is_premature = match self.here.pending_teardowns {
            PendingTeardowns::Unseen => self.pool.has_pending_teardowns(server),
            PendingTeardowns::Seen => true,
            PendingTeardowns::InTheWay | PendingTeardowns::Awaited => false,
        };
        let is_last = self.here.capacity_probe.is_some() && !is_premature;
        let now = clock::now();
        self.pool.learn(server, |sharing| {
            sharing.on_full(code);
            if is_last {
                sharing.on_no_room(now, retry_after.unwrap_or(Duration::ZERO));
            }
        });
        if is_premature {
            self.here.pending_teardowns = PendingTeardowns::InTheWay;
            self.here.capacity_probe = None;
            self.here.full_with = Some(0);
        } else {
            self.here.full_with = Some(self.pool.sessions_on(handle.driver().id));
        }
        is_premature
    }

    /// Until no session is on its way out of the server any more, or as long as one request waits
    /// for another: a TEARDOWN may be stuck behind a slow DESCRIBE.
    async fn await_leavers(&mut self) -> Result<(), Error> {
        if self.here.pending_teardowns != PendingTeardowns::InTheWay {
            return Ok(());
        }
        self.here.pending_teardowns = PendingTeardowns::Awaited;
        let server = self.checkout.key.server();
        let until = clock::now() + self.pool.patience(server);
        while self.pool.has_pending_teardowns(server) && clock::now() < until {
            let wait = std::future::pending::<()>();
            let _ = clock::within(self.pool.runtime()?, NEXT_LOOK, wait).await;
        }
        self.pool.learn(server, Sharing::on_room_freed);
        Ok(())
    }

    /// After a refusal for want of room: goes on if there may be some on another connection.
    ///
    /// # Errors
    ///
    /// The refusal, if there is none.
    pub(super) async fn await_room(&mut self) -> Result<(), Error> {
        if self.here.full_with.is_none() || self.here.capacity_probe.is_some() {
            return Ok(());
        }
        let server = self.checkout.key.server().clone();
        self.await_leavers().await?;
        let mut changes = self.pool.watch(&server);
        let until = clock::now() + self.options.connect_timeout;
        loop {
            changes.mark_unchanged();
            let left = until.saturating_duration_since(clock::now());
            match self.pool.seek_room(&server) {
                Some(Deciding::You) => {
                    self.here.capacity_probe = Some(CapacityProbe {
                        pool: self.pool.clone(),
                        server,
                    });
                    // A fresh one, whatever others there are: they may be as full.
                    self.checkout.is_apart = self.is_tried();
                    return Ok(());
                }
                Some(Deciding::Others) if !left.is_zero() => {
                    let _waiting = self.monitor.waits_for(WaitReason::Capacity);
                    let _ = clock::within(self.pool.runtime()?, left, changes.changed()).await;
                }
                Some(_) => return Ok(()),
                None => return self.here.refusal.take().map_or(Ok(()), Err),
            }
        }
    }

    /// Whether a session does without a connection that the server refused to make: it may take no
    /// more of them, and those there are take another session.
    pub(super) fn does_without(&mut self, error: &Error) -> bool {
        let is_refused = matches!(
            error.kind(),
            ErrorKind::Connect | ErrorKind::Tls(TlsFailure::Interrupted)
        ) && !self.checkout.is_dedicated;
        let may = is_refused && !self.checkout.is_within && self.mode() == SharingMode::Share;
        self.checkout.is_within |= may;
        may
    }
}
