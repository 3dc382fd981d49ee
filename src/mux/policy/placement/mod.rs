//! Which connection a session gets: the pool's decisions, without clock, lock or I/O.
//!
//! The table knows connections by id and counts references to them. Its owner starts and stops the
//! connections it names. Generic over the names of servers (`S`) and of keys (`K`), which it only
//! compares.
//!
//! Invariants, asserted by the tests at the end:
//!
//! * A connection is handed out only while it is connecting or open and takes new sessions.
//! * Two callers get one connection only if their keys are equal.
//! * No caller causes a connection beyond its own limit; those connecting and closing count.
//! * A connection is retired only while nobody references it, and at most once.

mod describe_only;
mod entry;
mod request;
mod spread;
pub(crate) mod terms;

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use crate::mux::ids::ConnectionId;

use self::spread::DescribePlace;
pub(crate) use self::{
    entry::{Entry, Phase, Purpose},
    request::{Describes, Placement, PlacementRequest, SharedWith},
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
    /// The last one went: arm the idle timer.
    Idle,
    /// The last one went and nobody else may use it: close once its sessions are torn down.
    Finished,
}

/// All connections of a pool and who waits for one.
#[derive(Debug)]
pub(crate) struct Table<S, K> {
    connections: HashMap<ConnectionId, Entry<S, K>>,
    /// In order of arrival, all servers together.
    waiting: VecDeque<(WaiterId, PlacementRequest<S, K>)>,
    last_connection: u64,
    last_waiter: u64,
}

impl<S: Clone + Eq + Hash, K: Clone + Eq> Table<S, K> {
    pub(crate) fn new() -> Self {
        Self {
            connections: HashMap::new(),
            waiting: VecDeque::new(),
            last_connection: 0,
            last_waiter: 0,
        }
    }

    /// The youngest connection there has been.
    pub(crate) fn newest(&self) -> ConnectionId {
        ConnectionId(self.last_connection)
    }

    /// Finds a connection for a caller who has just come. Nobody overtakes: where somebody with
    /// the same key waits already, or a connection slot is being waited for, the newcomer waits
    /// behind them.
    pub(crate) fn checkout(&mut self, demand: &PlacementRequest<S, K>) -> Placement {
        let mut others = self
            .waiting
            .iter()
            .filter(|(_, other)| other.server == demand.server);
        let first = others.next();
        if first.is_none() || demand.is_dedicated {
            return self.place(demand);
        }
        let same_key = first
            .into_iter()
            .chain(others)
            .any(|(_, other)| other.key == demand.key);
        if !same_key
            && let Some(id) = self.least_loaded(demand, demand.preferred_sessions, u32::MAX)
        {
            return self.reference(id, demand);
        }
        self.wait_or_refuse(demand)
    }

    /// The decision itself, the same for newcomers and for those who waited.
    fn place(&mut self, demand: &PlacementRequest<S, K>) -> Placement {
        if demand.is_dedicated {
            return Placement::Connect(self.insert(demand, Purpose::Dedicated));
        }
        match self.place_to_describe(demand) {
            Some(DescribePlace::Existing(id)) => return self.reference(id, demand),
            Some(DescribePlace::New(purpose)) => {
                return Placement::Connect(self.insert(demand, purpose));
            }
            None => {}
        }
        let preferred = demand.preferred_sessions;
        if let Some(id) = self.least_busy(demand, preferred, demand.batch) {
            return self.reference(id, demand);
        }
        if self.has_room(demand) {
            return Placement::Connect(self.insert(demand, Purpose::Pooled));
        }
        if !self.room_is_coming(demand)
            && let Some(id) = self.idle_to_replace(demand)
        {
            self.retire(id);
            return Placement::Wait { close: Some(id) };
        }
        for limit in [preferred, demand.ceiling] {
            let place = self.least_busy(demand, limit, u32::MAX);
            if let Some(id) = place.or_else(|| self.least_loaded(demand, limit, u32::MAX)) {
                return self.reference(id, demand);
            }
        }
        match self.overflow(demand) {
            Some(Purpose::Aside) if let Some(id) = self.least_busy_aside(demand) => {
                self.reference(id, demand)
            }
            Some(purpose) => Placement::Connect(self.insert(demand, purpose)),
            None => self.wait_or_refuse(demand),
        }
    }

    fn wait_or_refuse(&self, demand: &PlacementRequest<S, K>) -> Placement {
        if demand.patient || self.room_is_coming(demand) {
            Placement::Wait { close: None }
        } else {
            Placement::Refused
        }
    }

    /// Puts a caller at the end of the queue; none: the queue is full.
    pub(crate) fn enqueue(&mut self, demand: PlacementRequest<S, K>) -> Option<WaiterId> {
        if self.waiting_for(&demand.server) >= MAX_WAITING {
            return None;
        }
        self.last_waiter += 1;
        let id = WaiterId(self.last_waiter);
        self.waiting.push_back((id, demand));
        Some(id)
    }

    /// A caller does not wait any more. Does nothing if it was served.
    pub(crate) fn stop_waiting(&mut self, id: WaiterId) {
        self.waiting.retain(|(waiter, _)| *waiter != id);
    }

    /// A caller that waits asks for this now. Does nothing if it was served.
    pub(crate) fn refresh_waiting(&mut self, id: WaiterId, demand: PlacementRequest<S, K>) {
        let mut waiting = self.waiting.iter_mut();
        if let Some((_, asked)) = waiting.find(|(waiter, _)| *waiter == id) {
            *asked = demand;
        }
    }

    /// Serves those who wait for `server`, first come first, as far as it goes; call it after any
    /// change that may have made room. Each result is that waiter's, who has left the queue, save
    /// for `Wait { close }`, where it stays and only the closing is to be done.
    pub(crate) fn serve(&mut self, server: &S) -> Vec<(WaiterId, Placement)> {
        let mut served = Vec::new();
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        let mut blocked: Vec<K> = Vec::new();
        for (id, demand) in std::mem::take(&mut self.waiting) {
            // Who waits behind one of the same key gets nothing before it that it could use.
            let is_blocked = blocked.contains(&demand.key) && !demand.is_dedicated;
            if demand.server != *server || is_blocked {
                kept.push_back((id, demand));
                continue;
            }
            let placement = self.place(&demand);
            if let Placement::Wait { close } = placement {
                if close.is_some() {
                    served.push((id, placement));
                }
                blocked.push(demand.key.clone());
                kept.push_back((id, demand));
            } else {
                served.push((id, placement));
            }
        }
        self.waiting = kept;
        served
    }

    /// The attempt succeeded.
    pub(crate) fn on_connected(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id)
            && entry.phase == Phase::Connecting
        {
            entry.phase = Phase::Open;
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
        if entry.references > 0 || entry.phase == Phase::Closing {
            Checkin::Nothing
        } else if entry.purpose == Purpose::Pooled && entry.takes_sessions {
            Checkin::Idle
        } else {
            Checkin::Finished
        }
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
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.undescribed = entry.undescribed.saturating_sub(1);
        }
    }

    /// A session on the connection expires too soon to wait behind slow requests of others.
    pub(crate) fn on_pressed(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.is_pressed = true;
        }
    }

    /// A session on the connection may play: nobody is tried on it any more.
    pub(crate) fn on_playing(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.is_playing = true;
        }
    }

    /// Takes another reference to a connection, whoever may use it: its own user tries something.
    pub(crate) fn join(&mut self, id: ConnectionId) -> bool {
        match self.connections.get_mut(&id) {
            Some(entry) if entry.phase == Phase::Open && entry.takes_sessions => {
                entry.references += 1;
                true
            }
            _ => false,
        }
    }

    /// Whether there is another connection that `id`'s user would have got if the server were
    /// known to share: one with something that plays, or one that is idle.
    pub(crate) fn could_share_beside(&self, id: ConnectionId) -> bool {
        let Some(here) = self.connections.get(&id) else {
            return false;
        };
        self.connections.iter().any(|(other, entry)| {
            *other != id
                && (entry.is_playing || entry.is_idle())
                && entry.takes_sessions
                && entry.phase != Phase::Closing
                && entry.counts_for(&here.server)
                && entry.key == here.key
        })
    }

    /// Whether `demand` would get a connection now, or one would be made for it.
    pub(crate) fn has_place(&self, demand: &PlacementRequest<S, K>) -> bool {
        demand.is_dedicated
            || self.has_room(demand)
            || self.least_busy(demand, demand.ceiling, u32::MAX).is_some()
            || self.overflow(demand).is_some()
    }

    /// The idle timeout of a connection passed: true if it is to be closed, false if somebody took
    /// a reference before. The one place where the race between the two is decided (fault F38).
    pub(crate) fn try_retire(&mut self, id: ConnectionId) -> bool {
        match self.connections.get(&id) {
            Some(entry) if entry.references == 0 && entry.phase != Phase::Closing => {
                self.retire(id)
            }
            _ => false,
        }
    }

    /// The connection is not to be handed out any more: it saw EOF, an error or a violation, or is
    /// being closed. True if it was to be handed out until now.
    pub(crate) fn retire(&mut self, id: ConnectionId) -> bool {
        match self.connections.get_mut(&id) {
            Some(entry) if entry.phase != Phase::Closing => {
                entry.phase = Phase::Closing;
                true
            }
            _ => false,
        }
    }

    /// The connection goes on with the sessions it has, but gets no more.
    pub(crate) fn on_no_more_sessions(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.takes_sessions = false;
        }
    }

    /// The connection is over; gives back what was known of it.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Entry<S, K>> {
        self.connections.remove(&id)
    }

    pub(crate) fn entry(&self, id: ConnectionId) -> Option<&Entry<S, K>> {
        self.connections.get(&id)
    }

    /// Pooled connections to a server, those connecting and closing included.
    pub(crate) fn pooled_connections(&self, server: &S) -> u32 {
        let count = self
            .connections
            .values()
            .filter(|entry| entry.counts_for(server))
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// All connections to a server.
    pub(crate) fn connections_to(&self, server: &S) -> usize {
        self.connections
            .values()
            .filter(|entry| entry.server == *server)
            .count()
    }

    /// Callers waiting for a server.
    pub(crate) fn waiting_for(&self, server: &S) -> usize {
        self.waiting
            .iter()
            .filter(|(_, demand)| demand.server == *server)
            .count()
    }

    fn has_room(&self, demand: &PlacementRequest<S, K>) -> bool {
        demand
            .max_connections
            .is_none_or(|max| self.pooled_connections(&demand.server) < max)
    }

    /// The same among those whose server is not busy with something.
    fn least_busy(
        &self,
        demand: &PlacementRequest<S, K>,
        limit: u32,
        batch: u32,
    ) -> Option<ConnectionId> {
        self.least_busy_of(Purpose::Pooled, demand, limit, batch)
    }

    fn least_busy_of(
        &self,
        purpose: Purpose,
        demand: &PlacementRequest<S, K>,
        limit: u32,
        batch: u32,
    ) -> Option<ConnectionId> {
        let candidates = self.candidates_of(purpose, demand, limit, batch);
        least_referenced(candidates.filter(|(id, _)| !demand.shun.contains(id)))
    }

    /// The least loaded connection below `limit` references, of which less than `batch` are coming
    /// up.
    fn least_loaded(
        &self,
        demand: &PlacementRequest<S, K>,
        limit: u32,
        batch: u32,
    ) -> Option<ConnectionId> {
        least_referenced(self.candidates(demand, limit, batch))
    }

    fn candidates(
        &self,
        demand: &PlacementRequest<S, K>,
        limit: u32,
        batch: u32,
    ) -> impl Iterator<Item = (ConnectionId, &Entry<S, K>)> {
        self.candidates_of(Purpose::Pooled, demand, limit, batch)
    }

    fn candidates_of(
        &self,
        purpose: Purpose,
        demand: &PlacementRequest<S, K>,
        limit: u32,
        batch: u32,
    ) -> impl Iterator<Item = (ConnectionId, &Entry<S, K>)> {
        self.connections
            .iter()
            .filter(move |(_, entry)| entry.purpose == purpose && entry.references < limit)
            .filter(move |(id, entry)| entry.suits(**id, demand))
            .filter(move |(_, entry)| entry.coming_up() < batch)
            .map(|(id, entry)| (*id, entry))
    }

    /// The oldest idle connection that `demand` itself cannot use.
    fn idle_to_replace(&self, demand: &PlacementRequest<S, K>) -> Option<ConnectionId> {
        self.connections
            .iter()
            .filter(|(_, entry)| entry.counts_for(&demand.server) && entry.is_idle())
            .filter(|(id, entry)| !entry.suits(**id, demand))
            .map(|(id, _)| *id)
            .min()
    }

    fn room_is_coming(&self, demand: &PlacementRequest<S, K>) -> bool {
        self.connections.values().any(|entry| {
            entry.counts_for(&demand.server)
                && entry.phase == Phase::Closing
                && entry.references == 0
        })
    }

    fn reference(&mut self, id: ConnectionId, demand: &PlacementRequest<S, K>) -> Placement {
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.references += 1;
            entry.undescribed += u32::from(demand.describes != Describes::Nothing);
        }
        Placement::Existing(id)
    }

    fn insert(&mut self, demand: &PlacementRequest<S, K>, purpose: Purpose) -> ConnectionId {
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        let entry = Entry {
            server: demand.server.clone(),
            key: demand.key.clone(),
            purpose,
            phase: Phase::Connecting,
            presentation: demand.presentation.clone(),
            is_playing: false,
            is_pressed: false,
            references: 1,
            set_up: 0,
            undescribed: u32::from(demand.describes != Describes::Nothing),
            takes_sessions: true,
        };
        self.connections.insert(id, entry);
        id
    }
}

/// Of equals the oldest, so that the same calls give the same placement.
fn least_referenced<'a, S: 'a, K: 'a>(
    candidates: impl Iterator<Item = (ConnectionId, &'a Entry<S, K>)>,
) -> Option<ConnectionId> {
    candidates
        .min_by_key(|(id, entry)| (entry.references, *id))
        .map(|(id, _)| id)
}

#[cfg(test)]
mod tests;
