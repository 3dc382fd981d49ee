//! RTP packets of payload types that the description of their stream does not name (fault F41).
//!
//! They are not delivered: a channel that another session had before may bring packets of its media.
//! But where a camera sends nothing else, its description is at fault, and the session is silent for
//! a reason that is to be told.

use super::{Connection, SessionKey};
use crate::mux::proto::event::Undescribed;

/// Streams of which that is kept until the driver polls it, which it does after each read.
const MOST_KEPT: usize = 64;

impl Connection {
    /// Packets that came since the last call and were not delivered because of their payload types.
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
