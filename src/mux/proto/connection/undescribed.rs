//! RTP packets of payload types that the description of their stream does not name (fault F41).
//!
//! They are not delivered: a channel that another session had before may bring packets of that
//! session's media. But if a camera sends nothing else, its description is wrong, and the session
//! can report why it gets no media.

use super::{Connection, SessionKey};
use crate::mux::proto::event::Undescribed;

/// The most streams that are kept until the driver polls them, which it does after each read.
const MOST_KEPT: usize = 64;

impl Connection {
    /// Packets since the last call that were not delivered because of their payload types.
    pub fn poll_undescribed(&mut self) -> Option<Undescribed> {
        self.undescribed.pop()
    }

    pub(super) fn note_undescribed(
        &mut self,
        session: SessionKey,
        stream: usize,
        payload_type: u8,
    ) {
        let mut known = self.undescribed.iter_mut();
        let is_it = |it: &&mut Undescribed| it.session == session && it.stream == stream;
        if let Some(known) = known.find(is_it) {
            known.payload_type = payload_type;
            known.count += 1;
        } else if self.undescribed.len() < MOST_KEPT {
            self.undescribed.push(Undescribed {
                session,
                stream,
                payload_type,
                count: 1,
            });
        }
    }
}
