//! Sessions that are described where nothing plays, and then go to the sessions that play.
//!
//! A DESCRIBE may cost the sessions that play their connection, or be answered before their keep-alives.
//!
//! A session that was described on a describe-only connection goes to a connection that counts once it is
//! known that the server shares, and that it tells the URIs of one connection apart: the session is set up
//! where its own URI was not described. Other sessions find that out on connections that count, as long as
//! any of them is being set up.
//!
//! A recorder answers no DESCRIBE of a channel whose camera is off, or after 20 s; and behind an
//! unanswered DESCRIBE a connection carries no SETUP of another session. So the next DESCRIBE of such a
//! URI goes where nothing plays, whether the URI was played before or not. Ten such channels of a
//! recorder with 64 kept each new camera from starting for 22 s, or for good.

use super::{
    ConnectionPhase, DescribeMode, PlacementRequest, Purpose, Table, TableEntry, least_referenced,
};
use crate::mux::{
    ids::{ConnectionId, PresentationUri},
    policy::sharing::SharingMode,
};
use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

impl<S: Clone + Eq + Hash, K: Clone + Eq, C, W> Table<S, K, C, W> {
    /// The connection that is made at the limit, where none of the existing ones will do.
    pub(crate) fn overflow(&self, request: &PlacementRequest<S, K>) -> Option<Purpose> {
        if !request.overflows {
            None
        } else if !request.is_only_described() {
            Some(Purpose::Dedicated)
        } else {
            self.has_place_once_described(request)
                .then_some(Purpose::DescribeOnly)
        }
    }

    /// A session that is only to be described needs a place to go to afterwards.
    fn has_place_once_described(&self, request: &PlacementRequest<S, K>) -> bool {
        let fits = |request: &PlacementRequest<S, K>| {
            let place = self.least_loaded(request, request.ceiling);
            place.is_some()
        };
        // Where all connections are merely busy, it is described on one of them.
        if request.describes == DescribeMode::InBand && fits(request) {
            return false;
        }
        let mut described = request.described();
        // A connection that the session left because its server was busy counts as such a place:
        // where it is the only one, the session plays there after its DESCRIBE.
        if request.describes == DescribeMode::Separate {
            described.avoid.clear();
        }
        fits(&described)
    }

    /// Whether `request` is kept from a connection on which others play because it is for a DESCRIBE.
    pub(crate) fn is_kept_from_playing(&self, request: &PlacementRequest<S, K>) -> bool {
        if request.is_dedicated || request.describes == DescribeMode::Nothing {
            return false;
        }
        self.candidates(
            Purpose::Pooled,
            &request.described(),
            request.preferred_sessions,
        )
        .any(|(_, entry)| entry.is_playing && !entry.bears(request.describes))
    }

    /// Where a session that is described on `id` goes to those that play, if there is such a place: a
    /// reference there is counted. The session leaves a connection outside the limit if at all
    /// possible; else the connection counts from now on.
    pub(crate) fn rejoin(
        &mut self,
        id: ConnectionId,
        request: &PlacementRequest<S, K>,
    ) -> Option<ConnectionId> {
        let is_outside = |entry: &TableEntry<S, K, C>| entry.purpose == Purpose::DescribeOnly;
        let place = if self.entry(id).is_some_and(is_outside) {
            let candidates = self.candidates(Purpose::Pooled, request, request.ceiling);
            let open = candidates.filter(|(_, entry)| entry.phase == ConnectionPhase::Open);
            // The busy ones last, as in any placement, and behind a DESCRIBE no SETUP goes out.
            open.min_by_key(|(other, entry)| {
                let is_full = entry.references >= request.preferred_sessions;
                let is_describing = entry.undescribed > 0;
                let is_busy = request.shun.contains(other);
                (is_busy, is_full, is_describing, entry.references, *other)
            })
            .map(|(other, _)| other)
        } else {
            let candidates = self.candidates(Purpose::Pooled, request, request.preferred_sessions);
            least_referenced(candidates.filter(|(other, entry)| {
                *other != id
                    && entry.set_up > 0
                    && entry.coming_up() < request.batch
                    && !request.shun.contains(other)
            }))
        };
        match place {
            Some(place) => _ = self.reference(place, request),
            None if self.has_room(request) => self.count(id),
            None => {}
        }
        place
    }

    /// A connection counts from now on, and all sessions with its key may use it.
    fn count(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id)
            && entry.purpose == Purpose::DescribeOnly
        {
            entry.purpose = Purpose::Pooled;
        }
    }

    /// A connection takes no session any more that is only to be described there.
    pub(crate) fn on_probed(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id)
            && entry.purpose == Purpose::DescribeOnly
        {
            entry.takes_sessions = false;
        }
    }
}

/// A URI that is asked for again only after so long is like any other.
const UNANSWERED_FORGOTTEN: Duration = Duration::from_secs(10 * 60);
/// More channels than any recorder has; what comes beyond is not remembered.
const MOST_UNANSWERED: usize = 1024;

/// The URIs of one server that it did not describe, and when each was last asked for.
#[derive(Debug, Default)]
pub(crate) struct Unanswered(HashMap<PresentationUri, Instant>);

impl Unanswered {
    /// The server did not answer a DESCRIBE in time.
    pub(crate) fn on_unanswered(&mut self, now: Instant, uri: &PresentationUri) {
        self.0.retain(|_, at| is_recent(*at, now));
        if self.0.len() < MOST_UNANSWERED || self.0.contains_key(uri) {
            self.0.insert(uri.clone(), now);
        }
    }

    /// The server answered one, with a description or a status.
    pub(crate) fn on_answered(&mut self, uri: &PresentationUri) {
        self.0.remove(uri);
    }

    /// Whether a DESCRIBE of it may stay unanswered.
    pub(crate) fn is_doubtful(&self, now: Instant, uri: &PresentationUri) -> bool {
        self.0.get(uri).is_some_and(|at| is_recent(*at, now))
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < UNANSWERED_FORGOTTEN
}

/// The facts about a session that was described on a describe-only connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RejoinInput {
    /// Whether the server shares, as far as is known.
    pub(crate) mode: SharingMode,
    /// It is known to describe each URI of a connection as itself.
    pub(crate) tells_apart: bool,
    /// Several sessions are being set up on a connection that counts.
    pub(crate) is_being_tried: bool,
    /// URIs are being described, or a description is being checked.
    pub(crate) is_describing: bool,
    /// How long the session waits for that.
    pub(crate) until: Instant,
}

/// What the session is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejoin {
    /// It goes on: to a connection that counts, or by the rules for a server that cannot share.
    Now,
    /// Wait until something changes, but not longer.
    Wait(Instant),
    /// It is described again where it can stay: nothing more will be known in time.
    Leave,
}

/// Decides what the session is to do.
pub(crate) fn rejoin(facts: &RejoinInput, now: Instant) -> Rejoin {
    let is_in_time = now < facts.until;
    match facts.mode {
        SharingMode::Apart(_) => Rejoin::Now,
        SharingMode::Share | SharingMode::TryInBand => {
            match !facts.tells_apart && facts.is_describing && is_in_time {
                true => Rejoin::Wait(facts.until),
                // Where it is not known, the session finds it out itself.
                false => Rejoin::Now,
            }
        }
        SharingMode::Try if facts.is_being_tried && is_in_time => Rejoin::Wait(facts.until),
        SharingMode::Try => Rejoin::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn uri(number: usize) -> PresentationUri {
        PresentationUri(format!("/{number}"))
    }

    #[test]
    fn a_uri_is_doubtful_until_it_is_answered_or_forgotten() {
        let (now, mut unanswered) = (Instant::now(), Unanswered::default());
        assert!(!unanswered.is_doubtful(now, &uri(1)));
        unanswered.on_unanswered(now, &uri(1));
        unanswered.on_unanswered(now, &uri(2));
        unanswered.on_answered(&uri(2));
        assert!(unanswered.is_doubtful(now, &uri(1)));
        assert!(!unanswered.is_doubtful(now, &uri(2)));
        assert!(!unanswered.is_doubtful(now + UNANSWERED_FORGOTTEN, &uri(1)));
    }

    #[test]
    fn it_remembers_a_limited_number() {
        let (now, mut unanswered) = (Instant::now(), Unanswered::default());
        for number in 0..=MOST_UNANSWERED {
            unanswered.on_unanswered(now, &uri(number));
        }
        assert_eq!(unanswered.0.len(), MOST_UNANSWERED);
        assert!(!unanswered.is_doubtful(now, &uri(MOST_UNANSWERED)));
        unanswered.on_unanswered(now + UNANSWERED_FORGOTTEN, &uri(MOST_UNANSWERED));
        assert_eq!(unanswered.0.len(), 1);
    }

    #[test]
    fn it_waits_for_the_verdict_as_long_as_others_find_it_out() {
        let now = Instant::now();
        let facts = RejoinInput {
            mode: SharingMode::Try,
            tells_apart: false,
            is_being_tried: true,
            is_describing: true,
            until: now + Duration::from_millis(500),
        };
        assert_eq!(rejoin(&facts, now), Rejoin::Wait(facts.until));
        assert_eq!(rejoin(&facts, facts.until), Rejoin::Leave);
        let untried = RejoinInput {
            is_being_tried: false,
            ..facts
        };
        assert_eq!(rejoin(&untried, now), Rejoin::Leave);
        let apart = RejoinInput {
            mode: SharingMode::Apart(None),
            ..facts
        };
        assert_eq!(rejoin(&apart, now), Rejoin::Now);
    }

    #[test]
    fn f11_it_waits_until_uris_are_known_to_be_told_apart() {
        let now = Instant::now();
        let facts = RejoinInput {
            mode: SharingMode::Share,
            tells_apart: false,
            is_being_tried: false,
            is_describing: true,
            until: now + Duration::from_millis(500),
        };
        assert_eq!(rejoin(&facts, now), Rejoin::Wait(facts.until));
        assert_eq!(rejoin(&facts, facts.until), Rejoin::Now);
        for facts in [
            RejoinInput {
                tells_apart: true,
                ..facts
            },
            RejoinInput {
                is_describing: false,
                ..facts
            },
        ] {
            assert_eq!(rejoin(&facts, now), Rejoin::Now);
        }
    }
}
