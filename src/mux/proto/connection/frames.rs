//! What happens to each interleaved frame, once the table of channels has judged it.
//!
//! RTP packets with a payload type that the description of their stream does not name (fault F41) are
//! not delivered: a channel that another session had before may bring packets of that session's media.
//! But if a camera sends nothing else, its description is wrong, and the session can report why it
//! gets no media.

use std::time::Instant;

use bytes::Bytes;

use super::{Connection, channels::FrameVerdict};
use crate::mux::proto::{
    command::SessionKey,
    event::{Event, Packet, Undescribed},
};

/// The most streams that are kept until the driver polls them, which it does after each read.
const MOST_KEPT: usize = 64;

impl Connection {
    /// The packet in a frame, if no event has to come before it.
    #[inline]
    pub(super) fn on_frame(&mut self, now: Instant, channel: u8, payload: Bytes) -> Option<Packet> {
        match self.channels.judge(channel, &payload, now) {
            FrameVerdict::Deliver {
                session,
                stream,
                kind,
            } => {
                let packet = Packet {
                    session,
                    stream: stream as usize,
                    kind,
                    payload,
                };
                if self.events.is_empty() {
                    return Some(packet);
                }
                self.events.push_back(Event::Packet(packet));
            }
            FrameVerdict::Unknown => {
                self.counters.unknown_frames += 1;
                self.on_unasked(now);
            }
            FrameVerdict::Foreign => self.counters.foreign_frames += 1,
            FrameVerdict::OtherType {
                session,
                stream,
                payload_type,
            } => {
                self.counters.foreign_frames += 1;
                let stream = stream as usize;
                self.note_undescribed(session, stream, payload_type);
            }
            FrameVerdict::Quarantined => self.counters.late_frames += 1,
        }
        None
    }

    /// Packets since the last call that were not delivered because of their payload types.
    pub fn poll_undescribed(&mut self) -> Option<Undescribed> {
        self.undescribed.pop()
    }

    fn note_undescribed(&mut self, session: SessionKey, stream: usize, payload_type: u8) {
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
