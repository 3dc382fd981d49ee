//! The bounded queue of packets between a connection's driver and the consumer of one session.
//!
//! The driver never waits: what does not fit is dropped and counted, and the next packet of that
//! stream says so. So one slow consumer costs itself packets and its siblings nothing (fault F32).
//! The consumer takes everything that waits at once, by swapping queues, and is woken only when an
//! empty queue gets something.
//!
//! Invariants: order delivered is order pushed; delivered + dropped = pushed; what waits stays below
//! the caps of session, connection and process (save for a small reserve for RTCP).

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{error::Error, proto::PacketKind};

/// What may wait for one consumer. Whichever is reached first.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// About 2 s of a 16 Mbit/s camera in packets of 500 bytes.
const MAX_PACKETS: usize = 8192;
/// What is older is of no use to a live pipeline.
const MAX_AGE: Duration = Duration::from_secs(2);

/// RTCP is small, rare and what synchronisation hangs on: it may go this far beyond the caps.
const RTCP_RESERVE_PACKETS: usize = 256;
const RTCP_RESERVE_BYTES: usize = 64 * 1024;

/// Packets waiting beyond which payloads are copied out of their read chunk. A consumer that keeps
/// up gets slices, for which nothing is copied; one that does not would pin 64 KiB with each 1.4 kB.
const COPY_BEYOND: usize = 32;

/// What one connection may have waiting for all its consumers.
const CONNECTION_BYTES: usize = 64 * 1024 * 1024;
/// What all connections of the process may have waiting.
const PROCESS_BYTES: usize = 512 * 1024 * 1024;

static PROCESS_BUDGET: Budget = Budget::new(PROCESS_BYTES);

/// One RTP or RTCP packet of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Index of the stream in [`Presentation::streams`](super::Presentation::streams).
    pub stream: usize,
    /// RTP or RTCP.
    pub kind: PacketKind,
    /// The packet, without the four octets of interleaving.
    pub payload: Bytes,
    /// When it was read from the socket.
    pub received: Instant,
    /// Packets of this stream were dropped right before this one, because they were not taken in time.
    pub discontinuity: bool,
}

/// Octets that several queues may use together.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    const fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// The budget of one connection.
    pub fn for_connection() -> Arc<Self> {
        Arc::new(Self::new(CONNECTION_BYTES))
    }

    fn try_take(&self, bytes: usize) -> bool {
        // Relaxed: only the sum matters, nothing else is published by it.
        if self
            .used
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes)
            <= self.limit
        {
            return true;
        }
        self.give_back(bytes);
        false
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Octets waiting.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What was counted for one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StreamCount {
    /// RTP packets received, delivered or not.
    pub(super) packets: u64,
    /// Octets of RTP received.
    pub(super) bytes: u64,
    /// RTCP packets received.
    pub(super) rtcp_packets: u64,
    /// Packets dropped because they were not taken in time, or came when nobody wanted them.
    pub(super) dropped: u64,
    /// The next packet of the stream follows a gap.
    gap: bool,
}

/// The queue itself.
#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Packet>,
    bytes: usize,
    streams: Vec<StreamCount>,
    waker: Option<Waker>,
    /// Set once: why nothing comes any more.
    end: Option<Error>,
    /// The consumer went away.
    is_abandoned: bool,
}

impl State {
    fn count_mut(&mut self, stream: usize) -> &mut StreamCount {
        if self.streams.len() <= stream {
            self.streams.resize(stream + 1, StreamCount::default());
        }
        &mut self.streams[stream]
    }

    fn is_over(&self) -> bool {
        self.end.is_some() || self.is_abandoned
    }

    fn is_too_old(&self, now: Instant) -> bool {
        self.waiting
            .front()
            .is_some_and(|oldest| now.saturating_duration_since(oldest.received) > MAX_AGE)
    }

    /// Whether the session's own caps leave room; RTCP has a reserve beyond them.
    fn has_room(&self, packet: &Packet) -> bool {
        let bytes = self.bytes + packet.payload.len();
        match packet.kind {
            PacketKind::Rtp => {
                bytes <= MAX_BYTES
                    && self.waiting.len() < MAX_PACKETS
                    && !self.is_too_old(packet.received)
            }
            PacketKind::Rtcp => {
                bytes <= MAX_BYTES + RTCP_RESERVE_BYTES
                    && self.waiting.len() < MAX_PACKETS + RTCP_RESERVE_PACKETS
            }
        }
    }
}

/// What producer, consumer and observers share.
#[derive(Debug)]
pub(super) struct Delivery {
    state: Mutex<State>,
    connection: Arc<Budget>,
    process: &'static Budget,
}

impl Delivery {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of ours panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counters of the streams that had packets, by index.
    pub(super) fn counts(&self) -> Vec<StreamCount> {
        self.lock().streams.clone()
    }

    /// Why nothing comes any more.
    pub(super) fn end_reason(&self) -> Option<Error> {
        self.lock().end.clone()
    }

    fn try_take(&self, bytes: usize) -> bool {
        if !self.connection.try_take(bytes) {
            return false;
        }
        let is_taken = self.process.try_take(bytes);
        if !is_taken {
            self.connection.give_back(bytes);
        }
        is_taken
    }

    fn give_back(&self, bytes: usize) {
        self.connection.give_back(bytes);
        self.process.give_back(bytes);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.give_back(bytes);
    }
}

/// Makes the queue of one session on the connection that has `budget`.
pub fn delivery(budget: Arc<Budget>) -> (Producer, Consumer) {
    with_budgets(budget, &PROCESS_BUDGET)
}

fn with_budgets(connection: Arc<Budget>, process: &'static Budget) -> (Producer, Consumer) {
    let delivery = Arc::new(Delivery {
        state: Mutex::default(),
        connection,
        process,
    });
    (
        Producer {
            delivery: Arc::clone(&delivery),
            wants_wake: false,
        },
        Consumer {
            delivery,
            taken: VecDeque::new(),
        },
    )
}

/// The driver's end. Dropped before it was ended, it reports that the driver died.
#[derive(Debug)]
pub struct Producer {
    delivery: Arc<Delivery>,
    /// The queue was empty when this batch began.
    wants_wake: bool,
}

impl Producer {
    /// Queues a packet, or drops and counts it; never waits. The consumer learns of it by
    /// [`wake`](Self::wake), once per batch.
    pub fn push(&mut self, mut packet: Packet) {
        let delivery = &*self.delivery;
        let mut state = delivery.lock();
        let length = packet.payload.len();
        let fits = !state.is_over() && state.has_room(&packet) && delivery.try_take(length);
        let count = state.count_mut(packet.stream);
        match packet.kind {
            PacketKind::Rtp => {
                count.packets += 1;
                count.bytes += length as u64;
            }
            PacketKind::Rtcp => count.rtcp_packets += 1,
        }
        if !fits {
            count.dropped += 1;
            count.gap |= packet.kind == PacketKind::Rtp;
            return;
        }
        if packet.kind == PacketKind::Rtp {
            packet.discontinuity = std::mem::take(&mut count.gap);
        }
        if state.waiting.len() >= COPY_BEYOND {
            packet.payload = Bytes::copy_from_slice(&packet.payload);
        }
        self.wants_wake |= state.waiting.is_empty();
        state.bytes += length;
        state.waiting.push_back(packet);
    }

    /// Wakes the consumer if it found the queue empty before this batch.
    pub fn wake(&mut self) {
        if std::mem::take(&mut self.wants_wake)
            && let Some(waker) = self.take_waker()
        {
            waker.wake();
        }
    }

    /// Wakes the consumer though there is no packet: it is to look at its connection.
    pub(super) fn wake_for_notice(&mut self) {
        if let Some(waker) = self.take_waker() {
            waker.wake();
        }
    }

    /// Nothing comes any more; what waits is still delivered. The first reason counts.
    pub(super) fn end(&mut self, reason: Error) {
        self.delivery.lock().end.get_or_insert(reason);
        if let Some(waker) = self.take_waker() {
            waker.wake();
        }
    }

    /// Taken under the lock, woken outside of it.
    fn take_waker(&self) -> Option<Waker> {
        self.delivery.lock().waker.take()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.end(Error::driver_died());
    }
}

/// The user's end.
#[derive(Debug)]
pub struct Consumer {
    delivery: Arc<Delivery>,
    /// Taken from the queue and not yet given to the user.
    taken: VecDeque<Packet>,
}

impl Consumer {
    /// The next packet; none once the session is over and everything was taken.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Packet>> {
        if self.taken.is_empty() && !std::task::ready!(self.poll_take(context)) {
            return Poll::Ready(None);
        }
        Poll::Ready(self.taken.pop_front())
    }

    /// Appends all packets there are, at least one; false once the session is over.
    pub fn poll_batch(&mut self, context: &mut Context<'_>, batch: &mut Vec<Packet>) -> Poll<bool> {
        if self.taken.is_empty() && !std::task::ready!(self.poll_take(context)) {
            return Poll::Ready(false);
        }
        batch.extend(self.taken.drain(..));
        Poll::Ready(true)
    }

    /// Swaps the full queue for our empty one, so that neither side ever allocates in steady state.
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.delivery.lock();
        if state.waiting.is_empty() {
            if state.end.is_some() {
                return Poll::Ready(false);
            }
            if !state
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(context.waker()))
            {
                state.waker = Some(context.waker().clone());
            }
            return Poll::Pending;
        }
        std::mem::swap(&mut state.waiting, &mut self.taken);
        let bytes = std::mem::take(&mut state.bytes);
        drop(state);
        self.delivery.give_back(bytes);
        Poll::Ready(true)
    }

    /// For observers.
    pub(super) fn delivery(&self) -> &Arc<Delivery> {
        &self.delivery
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let mut state = self.delivery.lock();
        state.is_abandoned = true;
        let waiting = std::mem::take(&mut state.waiting);
        let bytes = std::mem::take(&mut state.bytes);
        // What nobody will take counts as dropped: delivered + dropped = pushed.
        for packet in waiting.iter().chain(&self.taken) {
            state.count_mut(packet.stream).dropped += 1;
        }
        drop(state);
        self.delivery.give_back(bytes);
    }
}

#[cfg(test)]
mod tests;
