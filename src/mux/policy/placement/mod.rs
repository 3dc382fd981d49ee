//! Which connection a session gets: the pool's decisions, without clock, lock or I/O.
//!
//! The table holds the connections by id and counts references to them. The pool starts and stops the
//! connections. The table is generic over what the pool keeps of a connection (`C`) and of a waiting
//! caller (`W`), which it only stores.
//!
//! Invariants, asserted by the tests at the end:
//!
//! * A connection is handed out only while it is connecting or open and takes new sessions.
//! * Two callers get one connection only if their keys are equal.
//! * No caller causes a connection beyond its own limit; connections that are connecting or closing
//!   count.
//! * A connection is retired at its idle timeout only while it has no reference, and at most once.

mod describe_only;
mod request;

use std::collections::{BTreeMap, VecDeque};

use crate::mux::{
    ids::ConnectionId,
    server_key::{ConnectionKey, ServerId},
    stats::ConnectionState,
};

pub(crate) use self::{
    describe_only::{RejoinInput, Unanswered, most_describe_only},
    request::{
        ConnectionPurpose, DescribeMode, Isolation, Placement, PlacementRequest, SharedWith,
        TableEntry, terms,
    },
};

/// Sessions one connection can carry at most: channels are one octet and come in pairs.
pub(crate) const SESSION_CEILING: u32 = 128;

/// Callers that may wait for one server; beyond it the next one fails at once (fault F37).
const MAX_WAITING: usize = 1024;

/// Names a caller that waits for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WaiterId(u64);

/// What the return of a reference means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checkin {
    /// Others still use it, or it is closing anyway.
    Nothing,
    /// The last reference is back: arm the idle timer.
    Idle,
    /// The last one went and no other session may use it: close it once its sessions are torn down.
    Finished,
}

/// What the table does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// The caller shares this connection.
    Existing(ConnectionId),
    /// A connection is made for it.
    New(ConnectionPurpose),
    /// It waits, or is refused.
    Other(Placement),
}

/// A caller that waits for a connection.
#[derive(Debug)]
struct Waiting<W> {
    id: WaiterId,
    request: PlacementRequest,
    caller: W,
}

/// What the table did for the callers that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served<W> {
    /// This caller has left the queue and gets this.
    Caller(W, Placement),
    /// An idle connection was retired to make room for a caller that still waits; the pool is to close
    /// it.
    Close(ConnectionId),
}

/// All connections of a pool, and the callers that wait for one.
#[derive(Debug)]
pub(crate) struct Table<C, W> {
    connections: BTreeMap<ConnectionId, TableEntry<C>>,
    /// In order of arrival, all servers together.
    waiting: VecDeque<Waiting<W>>,
    last_connection: ConnectionId,
    last_waiter: u64,
}

impl<C, W> Table<C, W> {
    pub(crate) fn new() -> Self {
        Self {
            connections: BTreeMap::new(),
            waiting: VecDeque::new(),
            last_connection: ConnectionId::default(),
            last_waiter: 0,
        }
    }

    /// The youngest connection there has been.
    pub(crate) fn newest(&self) -> ConnectionId {
        self.last_connection
    }

    /// Finds a connection for a caller that has just come. No caller overtakes another one: where one
    /// with the same key waits already, or a connection slot is being waited for, the new caller waits
    /// behind it. `record` makes what the pool keeps of a new connection.
    pub(crate) fn checkout(
        &mut self,
        request: &PlacementRequest,
        record: impl FnOnce(ConnectionId) -> C,
    ) -> Placement {
        if self.waiting_for(request.key.server()) == 0 || request.is_dedicated {
            return self.place(request, record);
        }
        let mut others = self.waiting.iter();
        let has_same_key = others.any(|other| other.request.key == request.key);
        if !has_same_key && let Some(id) = self.least_loaded(request, request.preferred_sessions) {
            return self.reference(id, request);
        }
        self.wait_or_refuse(request)
    }

    /// The decision itself, the same for new callers and for those that waited.
    fn place(
        &mut self,
        request: &PlacementRequest,
        record: impl FnOnce(ConnectionId) -> C,
    ) -> Placement {
        let purpose = match self.choose(request) {
            Choice::Existing(id) => return self.reference(id, request),
            Choice::Other(placement) => return placement,
            Choice::New(purpose) => purpose,
        };
        self.last_connection.0 += 1;
        let id = self.last_connection;
        let entry = TableEntry::new(request, purpose, record(id));
        self.connections.insert(id, entry);
        Placement::Connect(id)
    }

    fn choose(&mut self, request: &PlacementRequest) -> Choice {
        if request.is_dedicated {
            return Choice::New(ConnectionPurpose::Dedicated);
        }
        if let Some((_, place)) = self.best_to_describe(request, None) {
            return place;
        }
        let (pooled, preferred) = (ConnectionPurpose::Pooled, request.preferred_sessions);
        if let Some(id) = self.least_busy(pooled, request, preferred, request.batch) {
            return Choice::Existing(id);
        }
        if self.has_room(request) {
            return Choice::New(ConnectionPurpose::Pooled);
        }
        if !self.room_is_coming(request)
            && let Some(id) = self.idle_to_replace(request)
        {
            self.retire(id);
            return Choice::Other(Placement::Wait { close: Some(id) });
        }
        for limit in [preferred, request.ceiling] {
            let place = self.least_busy(pooled, request, limit, u32::MAX);
            if let Some(id) = place.or_else(|| self.least_loaded(request, limit)) {
                return Choice::Existing(id);
            }
        }
        match self.overflow(request) {
            Some(purpose @ ConnectionPurpose::DescribeOnly)
                if let Some(id) =
                    self.least_busy(purpose, request, request.ceiling, request.batch) =>
            {
                Choice::Existing(id)
            }
            Some(purpose) => Choice::New(purpose),
            None => Choice::Other(self.wait_or_refuse(request)),
        }
    }

    fn wait_or_refuse(&self, request: &PlacementRequest) -> Placement {
        if request.patient || self.room_is_coming(request) {
            Placement::Wait { close: None }
        } else {
            Placement::Refused
        }
    }

    /// Puts a caller at the end of the queue; none: the queue is full.
    pub(crate) fn enqueue(&mut self, request: PlacementRequest, caller: W) -> Option<WaiterId> {
        if self.waiting_for(request.key.server()) >= MAX_WAITING {
            return None;
        }
        self.last_waiter += 1;
        let id = WaiterId(self.last_waiter);
        self.waiting.push_back(Waiting {
            id,
            request,
            caller,
        });
        Some(id)
    }

    /// A caller does not wait any more; gives the server that it waited for. None: it was served.
    pub(crate) fn stop_waiting(&mut self, id: WaiterId) -> Option<ServerId> {
        let position = self.waiting.iter().position(|waiting| waiting.id == id)?;
        let waiting = self.waiting.remove(position)?;
        Some(waiting.request.key.server().clone())
    }

    /// No caller waits any more; gives those that did.
    pub(crate) fn stop_all_waiting(&mut self) -> impl Iterator<Item = W> + use<C, W> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|waiting| waiting.caller)
    }

    /// The callers that wait for `server`, the first one first.
    pub(crate) fn waiting(&self, server: &ServerId) -> impl Iterator<Item = &W> {
        let waiting = self.waiting.iter();
        let of_server = waiting.filter(move |waiting| waiting.request.key.server() == server);
        of_server.map(|waiting| &waiting.caller)
    }

    /// The callers that wait for `server` ask for this now, in the order of [`Table::waiting`].
    pub(crate) fn refresh_waiting(&mut self, server: &ServerId, requests: Vec<PlacementRequest>) {
        let waiting = self.waiting.iter_mut();
        let of_server = waiting.filter(|waiting| waiting.request.key.server() == server);
        for (waiting, request) in of_server.zip(requests) {
            waiting.request = request;
        }
    }

    /// Serves the callers that wait for `server`, first come first, as far as it goes; call it after any
    /// change that may have made room.
    pub(crate) fn serve(
        &mut self,
        server: &ServerId,
        mut record: impl FnMut(ConnectionId, &W) -> C,
    ) -> Vec<Served<W>> {
        let mut served = Vec::new();
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        let mut blocked: Vec<ConnectionKey> = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let request = &waiting.request;
            // A caller behind one with the same key gets nothing before it that it could use.
            let is_blocked = blocked.contains(&request.key) && !request.is_dedicated;
            if request.key.server() != server || is_blocked {
                kept.push_back(waiting);
                continue;
            }
            let placement = self.place(request, |id| record(id, &waiting.caller));
            if let Placement::Wait { close } = placement {
                served.extend(close.map(Served::Close));
                blocked.push(request.key.clone());
                kept.push_back(waiting);
            } else {
                served.push(Served::Caller(waiting.caller, placement));
            }
        }
        self.waiting = kept;
        served
    }

    /// The attempt succeeded.
    pub(crate) fn on_connected(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id)
            && entry.phase == ConnectionState::Connecting
        {
            entry.phase = ConnectionState::Open;
        }
    }

    /// A reference came back.
    pub(crate) fn checkin(&mut self, id: ConnectionId) -> Checkin {
        // A connection that is over is forgotten while handles to it live on.
        let Some(entry) = self.connections.get_mut(&id) else {
            return Checkin::Nothing;
        };
        debug_assert!(
            entry.references > 0,
            "{id}: more references returned than taken"
        );
        entry.references = entry.references.saturating_sub(1);
        if entry.references == 0 {
            (entry.is_playing, entry.is_pressed) = (false, false);
        }
        if entry.references > 0 || entry.phase == ConnectionState::Closing {
            Checkin::Nothing
        } else if entry.purpose == ConnectionPurpose::Pooled && entry.takes_sessions {
            Checkin::Idle
        } else {
            Checkin::Finished
        }
    }

    fn update(&mut self, id: ConnectionId, update: impl FnOnce(&mut TableEntry<C>)) {
        self.connections.get_mut(&id).map(update);
    }

    /// A session on the connection is set up, or no longer. Gives how many there are.
    pub(crate) fn on_set_up(&mut self, id: ConnectionId, is_set_up: bool) -> u32 {
        let Some(entry) = self.connections.get_mut(&id) else {
            return 0;
        };
        entry.set_up = match is_set_up {
            true => entry.set_up + 1,
            false => entry.set_up.saturating_sub(1),
        };
        entry.set_up
    }

    /// What a session on the connection plays is described, or it has gone.
    pub(crate) fn on_described(&mut self, id: ConnectionId) {
        self.update(id, |entry| {
            entry.undescribed = entry.undescribed.saturating_sub(1)
        });
    }

    /// A session on the connection expires too soon to wait behind slow requests of others.
    pub(crate) fn on_pressed(&mut self, id: ConnectionId) {
        self.update(id, |entry| entry.is_pressed = true);
    }

    /// A session on the connection may play: no session is tried on it any more.
    pub(crate) fn on_playing(&mut self, id: ConnectionId) {
        self.update(id, |entry| entry.is_playing = true);
    }

    /// Takes another reference to a connection for the session that uses it and tries something
    /// there.
    pub(crate) fn join(&mut self, id: ConnectionId) -> bool {
        match self.connections.get_mut(&id) {
            Some(entry) if entry.phase == ConnectionState::Open && entry.takes_sessions => {
                entry.references += 1;
                true
            }
            _ => false,
        }
    }

    /// Whether there is another connection that the session on `id` would have got if the server were
    /// known to share: one on which a session plays, or one that is idle.
    pub(crate) fn could_share_beside(&self, id: ConnectionId) -> bool {
        let Some(here) = self.connections.get(&id) else {
            return false;
        };
        self.connections.iter().any(|(other, entry)| {
            *other != id
                && (entry.is_playing || entry.is_idle())
                && entry.takes_sessions
                && entry.phase != ConnectionState::Closing
                && entry.counts_for(here.server())
                && entry.key == here.key
        })
    }

    /// Whether `request` would get a connection now, or one would be made for it.
    pub(crate) fn has_place(&self, request: &PlacementRequest) -> bool {
        let (pooled, limit) = (ConnectionPurpose::Pooled, request.ceiling);
        let has_free = || self.least_busy(pooled, request, limit, u32::MAX).is_some();
        request.is_dedicated
            || self.has_room(request)
            || has_free()
            || self.overflow(request).is_some()
    }

    /// The idle timeout of a connection passed: true if it is to be closed, false if a session took a
    /// reference before. The one place where the race between the two is decided (fault F38).
    pub(crate) fn try_retire(&mut self, id: ConnectionId) -> bool {
        self.entry(id).is_some_and(|entry| entry.references == 0) && self.retire(id)
    }

    /// The connection is not to be handed out any more: it saw EOF, an error or a violation, or is
    /// being closed. True if it was to be handed out until now.
    pub(crate) fn retire(&mut self, id: ConnectionId) -> bool {
        match self.connections.get_mut(&id) {
            Some(entry) if entry.phase != ConnectionState::Closing => {
                entry.phase = ConnectionState::Closing;
                true
            }
            _ => false,
        }
    }

    /// The connection goes on with the sessions it has, but gets no more.
    pub(crate) fn on_no_more_sessions(&mut self, id: ConnectionId) {
        self.update(id, |entry| entry.takes_sessions = false);
    }

    /// The connection is over; gives back what was known of it.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<TableEntry<C>> {
        self.connections.remove(&id)
    }

    pub(crate) fn entry(&self, id: ConnectionId) -> Option<&TableEntry<C>> {
        self.connections.get(&id)
    }

    /// What the pool keeps of the connection, to change it.
    pub(crate) fn record_mut(&mut self, id: ConnectionId) -> Option<&mut C> {
        self.connections.get_mut(&id).map(|entry| &mut entry.record)
    }

    /// All connections, the oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (ConnectionId, &TableEntry<C>)> {
        self.connections.iter().map(|(id, entry)| (*id, entry))
    }

    /// All connections to a server, the oldest first.
    pub(crate) fn entries_of(
        &self,
        server: &ServerId,
    ) -> impl Iterator<Item = (ConnectionId, &TableEntry<C>)> {
        self.entries()
            .filter(move |(_, entry)| entry.server() == server)
    }

    /// Connections to a server that were made for this, those connecting and closing included.
    pub(crate) fn count(&self, server: &ServerId, purpose: ConnectionPurpose) -> u32 {
        let entries = self.entries_of(server);
        let count = entries
            .filter(|(_, entry)| entry.purpose == purpose)
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// All connections to a server.
    pub(crate) fn connections_to(&self, server: &ServerId) -> usize {
        self.entries_of(server).count()
    }

    /// Callers waiting for a server.
    pub(crate) fn waiting_for(&self, server: &ServerId) -> usize {
        self.waiting
            .iter()
            .filter(|waiting| waiting.request.key.server() == server)
            .count()
    }

    fn has_room(&self, request: &PlacementRequest) -> bool {
        request
            .max_connections
            .is_none_or(|max| self.count(request.key.server(), ConnectionPurpose::Pooled) < max)
    }

    /// The connection with the fewest references, below `limit`, of those on which the server is not busy
    /// and less than `batch` sessions are being set up.
    fn least_busy(
        &self,
        purpose: ConnectionPurpose,
        request: &PlacementRequest,
        limit: u32,
        batch: u32,
    ) -> Option<ConnectionId> {
        let candidates = self.candidates(purpose, request, limit);
        least_referenced(
            candidates
                .filter(|(id, entry)| !request.shun.contains(id) && entry.coming_up() < batch),
        )
    }

    /// The pooled connection with the fewest references, below `limit`.
    fn least_loaded(&self, request: &PlacementRequest, limit: u32) -> Option<ConnectionId> {
        least_referenced(self.candidates(ConnectionPurpose::Pooled, request, limit))
    }

    fn candidates(
        &self,
        purpose: ConnectionPurpose,
        request: &PlacementRequest,
        limit: u32,
    ) -> impl Iterator<Item = (ConnectionId, &TableEntry<C>)> {
        self.entries()
            .filter(move |(_, entry)| entry.purpose == purpose && entry.references < limit)
            .filter(move |(id, entry)| entry.suits(*id, request))
    }

    /// The oldest idle connection that `request` itself cannot use.
    fn idle_to_replace(&self, request: &PlacementRequest) -> Option<ConnectionId> {
        let is_it = |(id, entry): &(ConnectionId, &TableEntry<C>)| {
            let is_idle = entry.counts_for(request.key.server()) && entry.is_idle();
            is_idle && !entry.suits(*id, request)
        };
        self.entries().find(is_it).map(|(id, _)| id)
    }

    fn room_is_coming(&self, request: &PlacementRequest) -> bool {
        self.connections.values().any(|entry| {
            entry.counts_for(request.key.server())
                && entry.phase == ConnectionState::Closing
                && entry.references == 0
        })
    }

    fn reference(&mut self, id: ConnectionId, request: &PlacementRequest) -> Placement {
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.references += 1;
            entry.undescribed += u32::from(request.describes != DescribeMode::Nothing);
        }
        Placement::Existing(id)
    }
}

/// Of equals the oldest, so that the same calls give the same placement.
fn least_referenced<'a, C: 'a>(
    candidates: impl Iterator<Item = (ConnectionId, &'a TableEntry<C>)>,
) -> Option<ConnectionId> {
    candidates
        .min_by_key(|(id, entry)| (entry.references, *id))
        .map(|(id, _)| id)
}

#[cfg(test)]
mod describe_only_tests;
#[cfg(test)]
mod tests;
