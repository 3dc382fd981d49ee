//! The consumers and callers on our side that belong to the core's sessions and requests.

use std::{collections::BTreeMap, time::Instant};

use tokio::sync::oneshot;

use super::{buffers::Tally, health::LossCounter};
use crate::mux::{
    delivery::{self, Producer},
    error::Error,
    ids::ConnectionId,
    proto::{self, CloseReason, Failure, Reply, RequestId, SessionKey},
    release::ReleaseGuard,
    stats::HealthSample,
};

type ReplySender = oneshot::Sender<Result<Reply, Failure>>;

/// One session of the core that has not ended.
#[derive(Debug)]
struct Opened {
    producer: Producer,
    /// Packets were pushed and not handed over yet.
    is_touched: bool,
    camera: String,
    losses: LossCounter,
    /// Released when the core has forgotten the session, or with the connection.
    _release: ReleaseGuard,
}

impl Opened {
    fn end(&mut self, error: Error) {
        self.producer.end(error.of_camera(&self.camera));
    }
}

/// The sessions and outstanding requests of one connection.
///
/// When it is dropped as a whole (the driver may panic), queues end, callers see their reply's
/// sender go, and release guards are dropped.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    connection: ConnectionId,
    /// By key. Keys only rise, so that a new one is the last.
    opened: Vec<(SessionKey, Opened)>,
    /// The session of the last packet: mostly the next packet is of the same picture.
    last_delivered: usize,
    replies: BTreeMap<RequestId, ReplySender>,
    /// Requests that are over and whose callers are still to be told.
    completed: Vec<(ReplySender, Result<Reply, Failure>)>,
    last_request: u64,
    /// Sessions with `is_touched`, each once.
    touched: Vec<SessionKey>,
    /// Packets delivered so far.
    pub(super) packets: u64,
    /// True if one of the sessions may block the connection, which it has for itself: then
    /// [`blocking`](Self::blocking) may return a queue.
    pub(super) may_block: bool,
}

impl Sessions {
    pub(super) fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            ..Self::default()
        }
    }

    pub(super) fn insert(
        &mut self,
        key: SessionKey,
        producer: Producer,
        camera: String,
        release: ReleaseGuard,
    ) {
        self.may_block |= producer.may_block();
        let opened = Opened {
            producer,
            is_touched: false,
            camera,
            losses: LossCounter::default(),
            _release: release,
        };
        let at = self.opened.partition_point(|(other, _)| *other < key);
        self.opened.insert(at, (key, opened));
    }

    fn position(&self, key: SessionKey) -> Option<usize> {
        // Mostly none between the first one and it has gone.
        let (first, _) = self.opened.first()?;
        let nearby = key.index().checked_sub(first.index())?;
        match self.opened.get(nearby) {
            Some((found, _)) if *found == key => Some(nearby),
            _ => self.opened.binary_search_by_key(&key, |(key, _)| *key).ok(),
        }
    }

    fn get_mut(&mut self, key: SessionKey) -> Option<&mut Opened> {
        let at = self.position(key)?;
        self.opened.get_mut(at).map(|(_, session)| session)
    }

    /// The core has forgotten the session.
    pub(super) fn remove(&mut self, key: SessionKey) {
        if let Some(at) = self.position(key) {
            self.opened.remove(at);
        }
    }

    /// Registers the caller of a new request.
    pub(super) fn on_request(&mut self, reply: ReplySender) -> RequestId {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        self.replies.insert(id, reply);
        id
    }

    /// A request is over; [`answer`](Self::answer) tells the caller.
    pub(super) fn complete(&mut self, id: RequestId, result: Result<Reply, Failure>) {
        if let Some(reply) = self.replies.remove(&id) {
            self.completed.push((reply, result));
        }
    }

    /// Tells all callers whose request is over. Called only after all pending events: a caller that
    /// hears that its TEARDOWN failed must not get the same connection again because the pool has
    /// not been told yet.
    pub(super) fn answer(&mut self) {
        for (reply, result) in self.completed.drain(..) {
            // The caller may be gone: the release of its session follows, or came before.
            let _ = reply.send(result);
        }
    }

    /// Packets of a session arrived that are not delivered, because of their payload types.
    pub(super) fn on_undescribed(&mut self, undescribed: &proto::Undescribed) {
        let it = undescribed;
        if let Some(Opened { producer, .. }) = self.get_mut(it.session) {
            producer.note_undescribed(it.stream, it.payload_type, it.count);
        }
    }

    /// Queues a packet for its consumer; [`hand_over`](Self::hand_over) makes it visible.
    #[inline]
    pub(super) fn deliver(&mut self, received: Instant, packet: proto::Packet) {
        let last = self.opened.get(self.last_delivered);
        if last.is_none_or(|(key, _)| *key != packet.session) {
            let Some(at) = self.position(packet.session) else {
                return;
            };
            self.last_delivered = at;
        }
        let (_, session) = &mut self.opened[self.last_delivered];
        if let Some(header) = &packet.header {
            session.losses.on_packet(packet.stream, header);
        }
        session.producer.push(delivery::Packet {
            stream: packet.stream,
            kind: packet.kind,
            header: packet.header,
            payload: packet.payload,
            received,
            discontinuity: false,
        });
        self.packets += 1;
        if !session.is_touched {
            session.is_touched = true;
            self.touched.push(packet.session);
        }
    }

    /// Adds the losses of all sessions since the last call to `sample`.
    pub(super) fn take_losses(&mut self, sample: &mut HealthSample) {
        for (_, session) in &mut self.opened {
            let (had_any, lost) = session.losses.take();
            sample.sessions += u32::from(had_any);
            sample.lossy += u32::from(lost > 0);
            sample.lost += lost;
        }
    }

    /// Hands over all packets delivered since the last call, and wakes each consumer once.
    pub(super) fn hand_over(&mut self, now: Instant) -> Tally {
        let mut tally = Tally::default();
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            if let Some(session) = self.get_mut(key) {
                session.is_touched = false;
                tally.add(session.producer.hand_over(now));
            }
        }
        // Keeps the allocation.
        self.touched = touched;
        tally
    }

    /// Wakes all consumers with the next packets: something other than a packet concerns them.
    pub(super) fn touch_all(&mut self) {
        for (_, session) in &mut self.opened {
            session.producer.wake_for_notice();
        }
    }

    /// The full queue that reading is paused for. `None` while a request is outstanding, because
    /// its answer comes behind the media.
    pub(super) fn blocking(&self) -> Option<&Producer> {
        if !self.may_block || !self.replies.is_empty() {
            return None;
        }
        let mut producers = self.opened.iter().map(|(_, session)| &session.producer);
        producers.find(|producer| producer.is_blocking())
    }

    /// The server has ended one session.
    pub(super) fn on_lost(&mut self, key: SessionKey, failure: &Failure) {
        let connection = self.connection;
        if let Some(session) = self.get_mut(key) {
            session.end(Error::from_failure(failure).on(connection));
        }
    }

    /// The connection is over, and all its sessions with it.
    pub(super) fn on_closed(&mut self, reason: &CloseReason) {
        for (_, mut session) in std::mem::take(&mut self.opened) {
            session.end(Error::connection_lost(reason).on(self.connection));
        }
    }
}
