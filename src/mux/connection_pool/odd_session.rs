//! What the pool does about losses of framing: see [`policy::odd_session`](crate::mux::policy::odd_session).

use std::time::Instant;

use super::{CheckoutRequest, ConnectionPool, State};
use crate::mux::{
    clock,
    config::Multiplex,
    ids::ConnectionId,
    policy::odd_session::{LossAction, LossRecord, Sides},
    proto::{FramingLoss, SessionKey},
};

pub(super) type FramingLosses = LossRecord<SessionKey>;

impl ConnectionPool {
    /// Whether an odd session may be given a connection of its own. Only `multiplex=always` has a limit
    /// that holds for such connections as well.
    pub(crate) fn has_place_apart(&self, checkout: &CheckoutRequest, odd: ConnectionId) -> bool {
        checkout.options.pooling.multiplex != Multiplex::Always || self.has_place(checkout, odd)
    }

    /// A session that was told to move has left this connection for another one.
    pub(crate) fn on_odd_moved(&self, id: ConnectionId, session: SessionKey) {
        if let Some(record) = self.lock().table.record_mut(id) {
            record.losses.on_moved(clock::now(), session);
        }
    }

    /// A session that was told to move stays on this connection.
    pub(crate) fn on_odd_stays(&self, id: ConnectionId, session: SessionKey) {
        if let Some(record) = self.lock().table.record_mut(id) {
            record.losses.on_move_failed(session);
        }
    }
}

impl State {
    /// Framing was lost on a connection, and is found again.
    pub(super) fn on_framing_lost(&mut self, id: ConnectionId, now: Instant, loss: FramingLoss) {
        let Some(sessions) = self.table.entry(id).map(|entry| entry.set_up) else {
            return;
        };
        let Some(record) = self.table.record_mut(id) else {
            return;
        };
        let sides = Sides {
            after: loss.after,
            before: loss.before,
        };
        match record.losses.on_loss(now, sides, sessions) {
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
}
