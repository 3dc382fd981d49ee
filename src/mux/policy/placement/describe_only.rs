//! Sessions that are described where nothing plays, because a DESCRIBE might cost those that play
//! their connection or come before their keep-alives, and then go to them.

use std::hash::Hash;

use super::{Describes, Entry, Phase, PlacementRequest, Purpose, Table, least_referenced};
use crate::mux::ids::ConnectionId;

impl<S: Clone + Eq + Hash, K: Clone + Eq, C, W> Table<S, K, C, W> {
    /// What is made at the limit, where nothing that there is will do.
    pub(crate) fn overflow(&self, request: &PlacementRequest<S, K>) -> Option<Purpose> {
        if !request.overflows {
            None
        } else if !request.is_only_described() {
            Some(Purpose::Dedicated)
        } else {
            self.is_described_aside(request).then_some(Purpose::Aside)
        }
    }

    /// Who is only to be described needs a place to go to afterwards.
    fn is_described_aside(&self, request: &PlacementRequest<S, K>) -> bool {
        let fits = |request: &PlacementRequest<S, K>| {
            let place = self.least_loaded(request, request.ceiling, u32::MAX);
            place.is_some()
        };
        // Where all that there are only happen to be busy it is described on one of them.
        if request.describes == Describes::InBand && fits(request) {
            return false;
        }
        let mut described = request.described();
        // One that was left because its server was busy is no reason to wait: where it is the only
        // one, what is described aside plays there.
        if request.describes == Describes::Aside {
            described.avoid.clear();
        }
        fits(&described)
    }

    pub(crate) fn least_busy_aside(
        &self,
        request: &PlacementRequest<S, K>,
    ) -> Option<ConnectionId> {
        let (limit, batch) = (request.ceiling, request.batch);
        self.least_busy_of(Purpose::Aside, request, limit, batch)
    }

    /// Whether `request` is kept from a connection on which others play because it is for a DESCRIBE.
    pub(crate) fn is_put_aside(&self, request: &PlacementRequest<S, K>) -> bool {
        if request.is_dedicated || request.describes == Describes::Nothing {
            return false;
        }
        self.candidates(&request.described(), request.preferred_sessions, u32::MAX)
            .any(|(_, entry)| entry.is_playing && !entry.bears(request.describes))
    }

    /// Where a session that is described on `id` goes to those that play, if there is such a place:
    /// a reference there is counted. What is outside the limit is left if at all possible, or
    /// counts from now on.
    pub(crate) fn rejoin(
        &mut self,
        id: ConnectionId,
        request: &PlacementRequest<S, K>,
    ) -> Option<ConnectionId> {
        let is_outside = |entry: &Entry<S, K, C>| entry.purpose == Purpose::Aside;
        let place = if self.entry(id).is_some_and(is_outside) {
            let candidates = self.candidates(request, request.ceiling, u32::MAX);
            let open = candidates.filter(|(_, entry)| entry.phase == Phase::Open);
            // The busy ones last, as in any placement, and behind a DESCRIBE no SETUP goes out.
            open.min_by_key(|(other, entry)| {
                let is_full = entry.references >= request.preferred_sessions;
                let is_describing = entry.undescribed > 0;
                let is_busy = request.shun.contains(other);
                (is_busy, is_full, is_describing, entry.references, *other)
            })
            .map(|(other, _)| other)
        } else {
            let candidates = self.candidates(request, request.preferred_sessions, request.batch);
            least_referenced(candidates.filter(|(other, entry)| {
                *other != id && entry.set_up > 0 && !request.shun.contains(other)
            }))
        };
        match place {
            Some(place) => _ = self.reference(place, request),
            None if self.has_room(request) => self.count(id),
            None => {}
        }
        place
    }

    /// A connection counts from now on, and is everybody's.
    fn count(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id)
            && entry.purpose == Purpose::Aside
        {
            entry.purpose = Purpose::Pooled;
        }
    }

    /// A connection takes nobody any more who is only to be described there.
    pub(crate) fn on_probed(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id)
            && entry.purpose == Purpose::Aside
        {
            entry.takes_sessions = false;
        }
    }
}
