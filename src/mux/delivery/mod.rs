//! The bounded queue of packets between a connection's driver and the consumer of one session.
//!
//! The driver never waits: where there is no room, packets are dropped, and the next one of their
//! stream says so. So a slow consumer loses its own packets, and other sessions lose none (fault
//! F32). The session's [`OverflowPolicy`] decides which packets are dropped; with `Block` none are,
//! and the driver of the session's own connection stops reading until there is room.
//!
//! The driver hands packets over in batches, one for each of its turns. The consumer takes
//! everything that waits at once, by swapping queues, and is woken only when an empty queue gets a
//! packet. It may leave the packets of some streams in the queue (`Lanes`) and take those of the
//! others.
//!
//! Invariants: packets of a stream are delivered in the order in which they were pushed (across
//! streams too, except for parameter sets that after a loss wait for their picture, and parked
//! streams); delivered + dropped + waiting = pushed; the waiting bytes stay below the caps of
//! session, connection and process. `Block` exceeds the session's cap by one read at most.

mod budget;
mod parked;
mod queue;
mod stream;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;

pub use self::budget::Budget;
use self::{
    budget::{BudgetAccount, PROCESS_BUDGET},
    parked::Lanes,
    queue::Queue,
};
use super::{
    config::OverflowPolicy,
    error::Error,
    proto::{MediaStream, PacketKind, wire::rtp::RtpHeader},
    stats::StreamCount,
};

/// One RTP or RTCP packet of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Index of the stream in [`Presentation::streams`](super::Presentation::streams).
    pub stream: usize,
    /// RTP or RTCP.
    pub kind: PacketKind,
    /// The header of an RTP packet; `None` for RTCP.
    pub header: Option<RtpHeader>,
    /// The packet, without the four bytes of interleaving.
    pub payload: Bytes,
    /// When the driver read it from the socket.
    pub received: Instant,
    /// Packets of this stream were dropped right before this one, because they were not taken in
    /// time; or the session was moved to another connection, so that clock, sequence numbers and
    /// SSRC start anew.
    pub discontinuity: bool,
}

impl Packet {
    /// The access unit of its stream that it belongs to: its RTP timestamp (RFC 3550 5.1).
    fn unit(&self) -> Option<u32> {
        self.header.map(|header| header.timestamp)
    }

    fn is_of_unit(&self, unit: Option<u32>) -> bool {
        unit.is_some() && self.unit() == unit
    }

    /// Copies the payload, so that it does not keep its read chunk.
    fn detach(&mut self) {
        self.payload = Bytes::copy_from_slice(&self.payload);
    }
}

/// The data behind the lock.
#[derive(Debug)]
struct DeliveryState {
    queue: Lanes,
    /// The consumer's waker, while the queue is empty.
    waker: Option<Waker>,
    /// The driver's waker, while there is no room.
    room_waker: Option<Waker>,
    /// Set once: why no packet comes any more.
    end: Option<Error>,
}

impl DeliveryState {
    /// Registers the consumer to be woken.
    fn wake_later(&mut self, context: &Context<'_>) {
        let waker = context.waker();
        if !self.waker.as_ref().is_some_and(|it| it.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }
}

/// Shared by producer, consumer and observers.
#[derive(Debug)]
pub(crate) struct Delivery(Mutex<DeliveryState>);

impl Delivery {
    fn lock(&self) -> MutexGuard<'_, DeliveryState> {
        // Our code does not panic between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the media of the streams, by index; called before their first packet.
    pub(crate) fn describe(&self, streams: &[MediaStream]) {
        self.lock().queue.open.describe(streams);
    }

    /// Counters of the streams, by index.
    pub(crate) fn counts(&self) -> Vec<StreamCount> {
        self.lock().queue.counts()
    }

    /// Why no packet comes any more.
    pub(crate) fn end_reason(&self) -> Option<Error> {
        self.lock().end.clone()
    }
}

/// Makes the queue of one session on the connection that has `budget`.
pub fn delivery(budget: Arc<Budget>, policy: OverflowPolicy) -> (Producer, Consumer) {
    with_budgets(budget, &PROCESS_BUDGET, policy)
}

fn with_budgets(
    connection: Arc<Budget>,
    process: &'static Budget,
    policy: OverflowPolicy,
) -> (Producer, Consumer) {
    let account = BudgetAccount::new(connection, process);
    let delivery = Arc::new(Delivery(Mutex::new(DeliveryState {
        queue: Lanes::new(Queue::new(policy, account)),
        waker: None,
        room_waker: None,
        end: None,
    })));
    (
        Producer {
            delivery: Arc::clone(&delivery),
            batch: VecDeque::new(),
            last_taken: None,
            may_block: policy == OverflowPolicy::Block,
        },
        Consumer {
            delivery,
            taken: VecDeque::new(),
            parked: BTreeSet::new(),
            is_parking_new: false,
        },
    )
}

/// How long a consumer may take nothing and still count as waiting for CPU time. A thread among
/// hundreds that are ready to run on one processor gets its turn within that time.
const PATIENCE: Duration = Duration::from_millis(250);

/// Whether a consumer keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// It had taken everything.
    Prompt,
    /// It had not taken everything, but has taken something lately.
    Late,
    /// It has stopped, or has not begun.
    None,
}

/// A batch that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// The bytes of its packets, dropped ones included.
    pub octets: usize,
    /// The consumer's state before the batch.
    pub attention: Attention,
}

/// The driver's end. If it is dropped before `end`, it reports that the driver died.
#[derive(Debug)]
pub struct Producer {
    delivery: Arc<Delivery>,
    /// Packets pushed and not handed over yet.
    batch: VecDeque<Packet>,
    /// When the consumer was last seen to take something.
    last_taken: Option<Instant>,
    may_block: bool,
}

impl Producer {
    /// Adds a packet to the batch, which [`hand_over`](Self::hand_over) queues.
    #[inline]
    pub fn push(&mut self, packet: Packet) {
        self.batch.push_back(packet);
    }

    /// Counts packets of a stream that are not delivered because its description does not name
    /// their payload type.
    pub fn note_undescribed(&mut self, stream: usize, payload_type: u8, count: u64) {
        let mut state = self.delivery.lock();
        state.queue.note_undescribed(stream, payload_type, count);
    }

    /// Queues the packets of the batch, makes room for them, or drops them; never waits. Wakes the
    /// consumer if the queue was empty. Returns how the consumer keeps up.
    pub fn hand_over(&mut self, now: Instant) -> HandedOver {
        let mut state = self.delivery.lock();
        if state.queue.open.take_was_taken() {
            self.last_taken = Some(now);
        }
        let was_empty = state.queue.open.is_empty();
        let octets = state.queue.push_all(&mut self.batch);
        // Not if the whole batch was dropped.
        let waker = match state.queue.open.is_empty() {
            true => None,
            false => state.waker.take(),
        };
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        let took_lately = |last| now.saturating_duration_since(last) < PATIENCE;
        let attention = match self.last_taken {
            _ if was_empty => Attention::Prompt,
            Some(last) if took_lately(last) => Attention::Late,
            _ => Attention::None,
        };
        HandedOver { octets, attention }
    }

    /// True if it was made with [`OverflowPolicy::Block`].
    pub(crate) fn may_block(&self) -> bool {
        self.may_block
    }

    /// True if the driver should not read more before there is room.
    pub(crate) fn is_blocking(&self) -> bool {
        self.delivery.lock().queue.is_blocking()
    }

    /// Ready while there is room. Otherwise the driver should not read more, and `context` is woken
    /// once there is room again.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.delivery.lock();
        if !state.queue.is_blocking() {
            return Poll::Ready(());
        }
        state.room_waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Wakes the consumer without a packet, so that it checks its connection.
    pub(crate) fn wake_for_notice(&mut self) {
        // Taken under the lock, woken without it.
        let waker = self.delivery.lock().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Ends the queue; packets that wait are still delivered. The first reason counts.
    pub(crate) fn end(&mut self, reason: Error) {
        let waker = {
            let mut state = self.delivery.lock();
            state.queue.push_all(&mut self.batch);
            state.end.get_or_insert(reason);
            state.queue.close();
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
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
    /// Packets taken from the queue and not yet given to the user.
    taken: VecDeque<Packet>,
    /// The streams whose packets are left in the queue.
    parked: BTreeSet<usize>,
    /// The queue does not know of the change yet. It is told at the next take; otherwise packets
    /// that had waited could be in front of new ones.
    is_parking_new: bool,
}

impl Consumer {
    /// From now on leaves the packets of a stream in the queue, or takes them again.
    pub(crate) fn set_parked(&mut self, stream: usize, is_parked: bool) {
        self.is_parking_new |= match is_parked {
            true => self.parked.insert(stream),
            false => self.parked.remove(&stream),
        };
    }

    /// Parks the same streams as `other`.
    pub(crate) fn park_as(&mut self, other: &Self) {
        self.parked.clone_from(&other.parked);
        self.is_parking_new = true;
    }

    /// Takes over from the queue of another session: the next RTP packet of each of these streams
    /// says so.
    pub(crate) fn begin_anew(&mut self, streams: impl Iterator<Item = usize>) {
        let mut state = self.delivery.lock();
        streams.for_each(|stream| state.queue.open.begin_anew(stream));
    }

    /// Ready with true once there is an RTP packet, with false once the session is over.
    pub(crate) fn poll_media(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.delivery.lock();
        if state.queue.open.has_media() {
            return Poll::Ready(true);
        }
        if state.end.is_some() {
            return Poll::Ready(false);
        }
        state.wake_later(context);
        Poll::Pending
    }

    /// The next packet; `None` once the session is over and everything was taken.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Packet>> {
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
        if batch.is_empty() {
            // No packet is moved, because a queue that is filled from empty begins at the start of
            // its memory; and the batch's memory becomes that of the next queue.
            let empty = VecDeque::from(std::mem::take(batch));
            *batch = std::mem::replace(&mut self.taken, empty).into();
        } else {
            batch.extend(self.taken.drain(..));
        }
        Poll::Ready(true)
    }

    /// Swaps the full queue for our empty one, so that neither side allocates in steady state.
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.delivery.lock();
        if std::mem::take(&mut self.is_parking_new) {
            state.queue.park(&self.parked);
        }
        if state.queue.open.take(&mut self.taken) {
            let room_waker = state.room_waker.take();
            drop(state);
            room_waker.into_iter().for_each(Waker::wake);
            return Poll::Ready(true);
        }
        if state.end.is_some() {
            return Poll::Ready(false);
        }
        state.wake_later(context);
        Poll::Pending
    }

    /// For observers.
    pub(crate) fn delivery(&self) -> &Arc<Delivery> {
        &self.delivery
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let mut state = self.delivery.lock();
        state.queue.abandon(&self.taken);
        let room_waker = state.room_waker.take();
        drop(state);
        room_waker.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
