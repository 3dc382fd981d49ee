//! Sessions that play and are moved to another connection.
//!
//! A reader who only wants to know how sessions come to their connections may skip this: nothing else
//! depends on it.
//!
//! ```text
//!  driver                           policy (pure)              connection_pool      session
//!  health.rs: one sample in      -> congestion.rs: is it    -> rebalance.rs: -----> migration.rs:
//!  two seconds: late answers,       congested, how many        which session is     makes the new
//!  missing packets, TCP_INFO        sessions may move          invited, and what    session, then
//!  dispatch.rs: framing lost     -> odd_session.rs: which      prevents a move      ends the old one
//!                                   session is odd
//! ```
//!
//! From a *congested* connection: its path or its server carries too little for all its sessions. A
//! driver samples the health of its connection every two seconds while media comes. A connection is
//! congested after three bad samples: answers to keep-alives come half a second late, packets of several
//! sessions are missing, or segments come out of order and the rate falls. From then on placement avoids
//! the connection, so that new sessions go elsewhere at once. If that does not help within ten seconds,
//! some of the sessions that play follow. They move one at a time, five seconds apart, and no more than
//! half of them: the pool sees whether a move helps before the next session goes. If half have gone and
//! the congestion remains, the cause is another one, and no session of this server is moved for ten
//! minutes. None is moved while the last sample was good, nor at a server that was ever full: a session
//! that moves is there twice for a moment. Where the user's limit prevents a move, an event says so.
//!
//! From a connection on which *framing is lost*: the session whose frames come with bytes that belong to
//! nothing gets a connection of its own; see
//! [`policy::odd_session`](crate::mux::policy::odd_session).
//!
//! A move is make before break. The pool leaves the invitation with the driver's handle, the session finds
//! it when its consumer reads next, and is set up a second time by the ordinary set-up. The old session
//! plays until the first packets of the new one have come. If the new one cannot be set up, the old one
//! goes on.

use std::time::{Duration, Instant};

use super::{CheckoutRequest, ConnectionPool, state::LockedPool};
use crate::mux::{
    clock,
    config::Multiplex,
    event::{ConnectionLimit, MuxEvent},
    ids::ConnectionId,
    policy::{
        congestion::{NextMove, Rebalance},
        odd_session::LossAction,
        placement::ConnectionPurpose,
        sharing::SharingMode,
    },
    proto::{FramingLoss, SessionKey},
    stats::HealthSample,
};

/// How long nothing is moved at a server where moving did not help, and how often the pool reports a
/// limit that prevents a move.
const REST: Duration = Duration::from_secs(10 * 60);

impl ConnectionPool {
    /// Whether an odd session may be given a connection of its own. Only `multiplex=always` has a limit
    /// that holds for such connections as well.
    pub(crate) fn has_place_apart(&self, checkout: &CheckoutRequest, odd: ConnectionId) -> bool {
        checkout.options.pooling.multiplex != Multiplex::Always || self.has_place(checkout, odd)
    }

    /// A session that was told to move has left this connection for another one.
    pub(crate) fn on_odd_moved(&self, id: ConnectionId, session: SessionKey) {
        self.change_record(id, |record| record.losses.on_moved(clock::now(), session));
    }

    /// A session that was told to move stays on this connection.
    pub(crate) fn on_odd_stays(&self, id: ConnectionId, session: SessionKey) {
        self.change_record(id, |record| record.losses.on_move_failed(session));
    }

    /// Whether a session that plays on `congested` has a place elsewhere. If the user's limit is the
    /// reason that it has none, an event says so.
    pub(crate) fn may_rebalance(
        &self,
        checkout: &CheckoutRequest,
        congested: ConnectionId,
    ) -> bool {
        let may_rebalance = self.has_place(checkout, congested);
        if !may_rebalance {
            self.change(|state| state.on_limit_hurts(checkout, congested, clock::now()));
        }
        may_rebalance
    }
}

impl LockedPool<'_> {
    /// What a connection has shown in a period.
    pub(super) fn on_sampled(&mut self, id: ConnectionId, now: Instant, sample: &HealthSample) {
        let Some(entry) = self.table.entry(id) else {
            return;
        };
        let (server, sessions) = (entry.server().clone(), entry.set_up);
        let known = self.known(&server);
        // A server that was ever full has no room for a second instance of a session that moves.
        let may_move = !known.sharing.has_said_full
            && known.rests_until.is_none_or(|until| now >= until)
            && known.sharing.mode(now) == SharingMode::Share;
        let Some(record) = self.table.record_mut(id) else {
            return;
        };
        let driver = &record.driver;
        let congestion = record.congestion.on_sample(sample);
        match (driver.set_congestion(congestion), congestion) {
            (None, Some(reason)) => tracing::info!("{id}/-: congested: {reason}"),
            (Some(_), None) => tracing::info!("{id}/-: not congested any more"),
            _ => {}
        }
        if congestion.is_none() {
            record.rebalance = None;
            driver.invite_to_move(false);
            return;
        }
        let rebalance = &mut record.rebalance;
        let rebalance = rebalance.get_or_insert_with(|| Rebalance::new(now, sessions));
        // While the connection gets better no session moves.
        if !may_move || !record.congestion.was_bad {
            return;
        }
        match rebalance.step(now) {
            NextMove::Wait => {}
            NextMove::Move => driver.invite_to_move(true),
            NextMove::GiveUp => {
                tracing::info!("{id}/-: moving sessions did not help");
                record.rebalance = None;
                self.server(&server).rests_until = Some(now + REST);
            }
        }
    }

    /// Framing was lost on a connection, and is found again.
    pub(super) fn on_framing_lost(&mut self, id: ConnectionId, now: Instant, loss: FramingLoss) {
        let Some(sessions) = self.table.entry(id).map(|entry| entry.set_up) else {
            return;
        };
        let Some(record) = self.table.record_mut(id) else {
            return;
        };
        match record.losses.on_loss(now, loss, sessions) {
            LossAction::None => match loss.after {
                Some(session) => tracing::debug!("{id}/{session}: bytes that belong to nothing"),
                None => tracing::debug!("{id}/-: bytes that belong to nothing"),
            },
            LossAction::Move(session) => {
                tracing::warn!(
                    "{id}/{session}: bytes that belong to nothing come with its frames: it is to have a \
                     connection of its own"
                );
                record.driver.ask_to_move(session);
            }
            LossAction::BlameConnection => tracing::warn!(
                "{id}/-: bytes that belong to nothing go on, whichever session is moved: none is \
                 moved any more"
            ),
        }
    }

    fn on_limit_hurts(
        &mut self,
        checkout: &CheckoutRequest,
        congested: ConnectionId,
        now: Instant,
    ) {
        let max = checkout.options.pooling.max_connections_per_server;
        let entry = self.table.entry(congested);
        let congestion = entry.and_then(|entry| entry.record.driver.congestion());
        let server = checkout.key.server();
        let is_at_limit = max > 0 && self.table.count(server, ConnectionPurpose::Pooled) >= max;
        let (Some(reason), true) = (congestion, is_at_limit) else {
            return;
        };
        let known = self.server(server);
        if known.limit_told.is_some_and(|told| now < told + REST) {
            return;
        }
        known.limit_told = Some(now);
        let limit = ConnectionLimit {
            server: server.to_string(),
            limit: "max-connections-per-server",
            value: max,
            reason,
        };
        self.deferred.events.push(MuxEvent::Limit(limit));
    }
}
