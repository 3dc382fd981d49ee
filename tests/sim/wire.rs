//! One simulated connection: what is under way on it, and the client's end.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{BufMut as _, BytesMut};
use gstrtspmux::mux::network::Wire;

use crate::network::{Drip, LONGEST_DELAY, Millis, Net};
use crate::tls::TlsEnd;

/// What the client may have written that the server has not read.
pub(crate) const WINDOW: usize = 64 * 1024;

/// How long the client may hold a frame, and the longest way of one.
const MAX_HELD: Millis = 2_000 + 2 * LONGEST_DELAY;

/// Bytes on their way, in order.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    pub(crate) chunks: VecDeque<(Millis, Vec<u8>)>,
    /// Nothing overtakes: when the last of them arrives.
    pub(crate) last: Millis,
    /// After them comes the end.
    pub(crate) ends: Option<Millis>,
}

impl Flight {
    pub(crate) fn pop_due(&mut self, now: Millis) -> Option<Vec<u8>> {
        if self.chunks.front()?.0 > now {
            return None;
        }
        self.chunks.pop_front().map(|(_, chunk)| chunk)
    }
}

/// One connection, as the network sees it.
#[derive(Debug, Default)]
pub(crate) struct WireState {
    pub(crate) server: usize,
    /// Its number at the client.
    pub(crate) connection: u64,
    /// Its number at the server.
    pub(crate) peer: usize,
    /// Of a server that speaks TLS.
    pub(crate) tls: Option<TlsEnd>,
    pub(crate) to_server: Flight,
    pub(crate) to_client: Flight,
    /// Nothing arrives before.
    pub(crate) stalled_until: Millis,
    /// The server reads nothing before.
    pub(crate) deaf_until: Millis,
    /// Arrived at the client, not read.
    pub(crate) inbox: VecDeque<u8>,
    /// The server has closed, or all is cut.
    pub(crate) is_ended: bool,
    pub(crate) is_reset: bool,
    /// Written by the client, not read by the server.
    pub(crate) unread: usize,
    pub(crate) waker: Option<Waker>,
    /// The client saw the end.
    pub(crate) saw_end: bool,
    /// When the client closed it.
    pub(crate) closed: Option<Millis>,
    /// The server is done with it.
    pub(crate) is_forgotten: bool,
    /// The network did something to it, or the server died.
    pub(crate) is_disturbed: bool,
    /// Bytes of the server were changed.
    pub(crate) is_corrupted: bool,
    /// Interleaved frames that the server has sent.
    pub(crate) frames: u64,
    /// How many these were a while ago, and when.
    pub(crate) frames_before: VecDeque<(Millis, u64)>,
    /// So many deliveries to the client are still to be spoilt.
    pub(crate) to_corrupt: u32,
    /// The server has stopped in the middle of something: nothing else comes.
    pub(crate) drips: Option<Drip>,
    /// Each delivery of it comes byte by byte.
    pub(crate) trickles: bool,
}

impl WireState {
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Everything that was sent has been read.
    pub(crate) fn is_quiet(&self) -> bool {
        self.to_client.chunks.is_empty() && self.inbox.is_empty()
    }

    /// Both ends think that it works.
    pub(crate) fn is_open(&self) -> bool {
        self.closed.is_none() && !self.is_ended && !self.is_reset && !self.is_forgotten
    }

    pub(crate) fn send_frames(&mut self, now: Millis, count: u64) {
        self.frames_before.push_back((now, self.frames));
        self.frames += count;
        let is_old = |(at, _): &(Millis, u64)| at + MAX_HELD < now;
        while self.frames_before.get(1).is_some_and(is_old) {
            self.frames_before.pop_front();
        }
    }

    /// Frames that must have been delivered or counted. live555 of old: the client may hold others until
    /// it knows whose they are.
    pub(crate) fn frames_settled(&self, now: Millis) -> u64 {
        let mut before = self.frames_before.iter();
        let first_young = before.find(|(at, _)| at + MAX_HELD >= now);
        first_young.map_or(self.frames, |(_, frames)| *frames)
    }

    fn room(&self) -> usize {
        WINDOW.saturating_sub(self.unread)
    }
}

/// The client's end.
pub(crate) struct ClientEnd {
    pub(crate) net: Arc<Net>,
    pub(crate) number: usize,
}

impl fmt::Debug for ClientEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientEnd({})", self.number)
    }
}

impl Wire for ClientEnd {
    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut world = self.net.world();
        let wire = &mut world.wires[self.number];
        if wire.is_reset {
            wire.saw_end = true;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if wire.inbox.is_empty() {
            if wire.is_ended {
                wire.saw_end = true;
                return Ok(0);
            }
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = wire.inbox.len().min(buffer.capacity() - buffer.len());
        let (first, second) = wire.inbox.as_slices();
        let from_first = first.len().min(count);
        buffer.put_slice(&first[..from_first]);
        buffer.put_slice(&second[..count - from_first]);
        wire.inbox.drain(..count);
        Ok(count)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.net.world();
        let wire = &world.wires[self.number];
        if wire.is_reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if wire.saw_end {
            world.violate("i8: written after the end was seen".to_owned());
        }
        let mut bytes = bytes.to_vec();
        let room = world.wires[self.number].room();
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        bytes.truncate(room);
        world.cut_write(&mut bytes);
        world.send_to_server(self.number, bytes.clone());
        Ok(bytes.len())
    }

    fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        wants_to_read: bool,
        wants_to_write: bool,
    ) -> Poll<io::Result<bool>> {
        let mut world = self.net.world();
        let wire = &mut world.wires[self.number];
        let is_readable = !wire.inbox.is_empty() || wire.is_ended || wire.is_reset;
        if wants_to_read && is_readable {
            return Poll::Ready(Ok(true));
        }
        if wants_to_write && wire.room() > 0 {
            return Poll::Ready(Ok(false));
        }
        wire.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.net.world().close_by_client(self.number);
    }
}
