//! The bounded queue of packets between a connection's driver and the consumer of one session.
//!
//! The driver never waits: where there is no room, packets go, and the next one of their stream says
//! so. So one slow consumer costs itself packets and its siblings nothing (fault F32). Which packets
//! go is the session's [`OverflowPolicy`]; with `Block` none do, and the driver of the session's own
//! connection stops reading until there is room.
//!
//! Packets are handed over in batches, those of one turn of the driver. The consumer takes everything
//! that waits at once, by swapping queues, and is woken only when an empty queue gets something. It may
//! leave `lanes` of some streams waiting and take from the others.
//!
//! Invariants: of each stream, order delivered is order pushed (across streams likewise, but for
//! parameter sets that after a gap have to wait for their picture, and streams that are parked);
//! delivered + dropped + waiting = pushed; what waits stays below the caps of session, connection and
//! process. `Block` goes beyond the session's by what was read at once.

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
pub(crate) use self::stream::StreamCount;
use self::{
    budget::{Account, PROCESS_BUDGET},
    parked::Lanes,
    queue::Queue,
};
use super::{
    config::OverflowPolicy,
    error::Error,
    proto::{MediaStream, PacketKind, wire::rtp::RtpHeader},
};

/// One RTP or RTCP packet of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Index of the stream in [`Presentation::streams`](super::Presentation::streams).
    pub stream: usize,
    /// RTP or RTCP.
    pub kind: PacketKind,
    /// The packet, without the four bytes of interleaving.
    pub payload: Bytes,
    /// When it was read from the socket.
    pub received: Instant,
    /// Packets of this stream were dropped right before this one, because they were not taken in time;
    /// or the session was moved to another connection, and what came before was another one's as far
    /// as clock, sequence numbers and SSRC go.
    pub discontinuity: bool,
}

impl Packet {
    /// The access unit of its stream that it belongs to: its RTP timestamp (RFC 3550 5.1); none if
    /// it is too short for one.
    fn unit(&self) -> Option<u32> {
        RtpHeader::of(&self.payload).map(|header| header.timestamp)
    }

    fn is_of_unit(&self, unit: Option<u32>) -> bool {
        unit.is_some() && self.unit() == unit
    }

    /// Lets go of the chunk it was read into.
    fn detach(&mut self) {
        self.payload = Bytes::copy_from_slice(&self.payload);
    }
}

/// What is behind the lock.
#[derive(Debug)]
struct State {
    queue: Lanes,
    /// Of the consumer, while there is nothing.
    waker: Option<Waker>,
    /// Of the driver, while there is no room.
    room_waker: Option<Waker>,
    /// Set once: why nothing comes any more.
    end: Option<Error>,
}

impl State {
    /// The consumer has to wait.
    fn wake_later(&mut self, context: &Context<'_>) {
        let waker = context.waker();
        if !self.waker.as_ref().is_some_and(|it| it.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }
}

/// What producer, consumer and observers share.
#[derive(Debug)]
pub(crate) struct Delivery(Mutex<State>);

impl Delivery {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of ours panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the streams carry, by index; before their first packet.
    pub(crate) fn describe(&self, streams: &[MediaStream]) {
        self.lock().queue.describe(streams);
    }

    /// Counters of the streams, by index.
    pub(crate) fn counts(&self) -> Vec<StreamCount> {
        self.lock().queue.counts()
    }

    /// Why nothing comes any more.
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
    let account = Account::new(connection, process);
    let delivery = Arc::new(Delivery(Mutex::new(State {
        queue: Lanes::new(Queue::new(policy, account)),
        waker: None,
        room_waker: None,
        end: None,
    })));
    (
        Producer {
            delivery: Arc::clone(&delivery),
            batch: Vec::new(),
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

/// How long a consumer may take nothing and count as one that only needs the processor. A thread
/// among hundreds that are ready to run on one processor has its turn within that.
const PATIENCE: Duration = Duration::from_millis(250);

/// How a consumer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// It had taken everything.
    Prompt,
    /// Not everything, but something not long ago.
    Late,
    /// It stands still, or has not begun.
    None,
}

/// A batch that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// Bytes of its packets, dropped ones included.
    pub octets: usize,
    /// What its consumer had done before.
    pub attention: Attention,
}

/// The driver's end. Dropped before it was ended, it reports that the driver died.
#[derive(Debug)]
pub struct Producer {
    delivery: Arc<Delivery>,
    /// Pushed and not handed over yet.
    batch: Vec<Packet>,
    /// When the consumer was last seen to have taken something.
    last_taken: Option<Instant>,
    may_block: bool,
}

impl Producer {
    /// Adds a packet to the batch, which [`hand_over`](Self::hand_over) queues.
    #[inline]
    pub fn push(&mut self, packet: Packet) {
        self.batch.push(packet);
    }

    /// So many packets of a stream came that are not delivered: its description does not name their
    /// payload type.
    pub fn note_undescribed(&mut self, stream: usize, payload_type: u8, count: u64) {
        let mut state = self.delivery.lock();
        state.queue.note_undescribed(stream, payload_type, count);
    }

    /// Queues the packets of the batch, or makes room for them, or drops them; never waits. Wakes
    /// the consumer if it had nothing. Tells how it does.
    pub fn hand_over(&mut self, now: Instant) -> HandedOver {
        let mut state = self.delivery.lock();
        if state.queue.take_was_taken() {
            self.last_taken = Some(now);
        }
        let was_empty = state.queue.is_empty();
        let octets = state.queue.push_all(&mut self.batch);
        // Not for a batch that was dropped.
        let waker = match state.queue.is_empty() {
            true => None,
            false => state.waker.take(),
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        let took_lately = |last| now.saturating_duration_since(last) < PATIENCE;
        let attention = match self.last_taken {
            _ if was_empty => Attention::Prompt,
            Some(last) if took_lately(last) => Attention::Late,
            _ => Attention::None,
        };
        HandedOver { octets, attention }
    }

    /// Whether it was made with [`OverflowPolicy::Block`].
    pub(crate) fn may_block(&self) -> bool {
        self.may_block
    }

    /// Whether nothing more should be read before there is room.
    pub(crate) fn is_blocking(&self) -> bool {
        self.delivery.lock().queue.is_blocking()
    }

    /// Ready while there is room. Else nothing more should be read, and `context` is woken when
    /// there is some again.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.delivery.lock();
        if !state.queue.is_blocking() {
            return Poll::Ready(());
        }
        state.room_waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Wakes the consumer though there is no packet: it is to look at its connection.
    pub(crate) fn wake_for_notice(&mut self) {
        // Taken under the lock, woken outside of it.
        let waker = self.delivery.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nothing comes any more; what waits is still delivered. The first reason counts.
    pub(crate) fn end(&mut self, reason: Error) {
        let waker = {
            let mut state = self.delivery.lock();
            state.queue.push_all(&mut self.batch);
            state.end.get_or_insert(reason);
            state.queue.close();
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
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
    /// The streams whose packets are left waiting.
    parked: BTreeSet<usize>,
    /// The queue does not know of it yet: it learns when it is taken from, or what had waited could be
    /// in the way of what comes.
    is_parking_new: bool,
}

impl Consumer {
    /// Leaves the packets of a stream waiting from now on, or no more.
    pub(crate) fn set_parked(&mut self, stream: usize, is_parked: bool) {
        self.is_parking_new |= match is_parked {
            true => self.parked.insert(stream),
            false => self.parked.remove(&stream),
        };
    }

    /// Leaves waiting what `other` did.
    pub(crate) fn park_as(&mut self, other: &Self) {
        self.parked.clone_from(&other.parked);
        self.is_parking_new = true;
    }

    /// Takes over from another session's: the next RTP packet of each of these streams says so.
    pub(crate) fn begin_anew(&mut self, streams: impl Iterator<Item = usize>) {
        let mut state = self.delivery.lock();
        streams.for_each(|stream| state.queue.begin_anew(stream));
    }

    /// Ready once there is an RTP packet, or false once the session is over.
    pub(crate) fn poll_media(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.delivery.lock();
        if state.queue.has_media() {
            return Poll::Ready(true);
        }
        if state.end.is_some() {
            return Poll::Ready(false);
        }
        state.wake_later(context);
        Poll::Pending
    }

    /// The next packet; none once the session is over and everything was taken.
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
            // No packet is moved, since a queue that is filled from empty begins where its memory
            // does; and the batch's memory becomes that of the next queue.
            let empty = VecDeque::from(std::mem::take(batch));
            *batch = std::mem::replace(&mut self.taken, empty).into();
        } else {
            batch.extend(self.taken.drain(..));
        }
        Poll::Ready(true)
    }

    /// Swaps the full queue for our empty one, so that neither side ever allocates in steady state.
    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.delivery.lock();
        if std::mem::take(&mut self.is_parking_new) {
            state.queue.park(&self.parked);
        }
        if state.queue.take(&mut self.taken) {
            let room_waker = state.room_waker.take();
            drop(state);
            if let Some(waker) = room_waker {
                waker.wake();
            }
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
        if let Some(waker) = room_waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
