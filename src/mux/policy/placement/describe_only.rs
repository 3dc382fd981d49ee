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

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    Choice, ConnectionPurpose, DescribeMode, PlacementRequest, SharedWith, Table, TableEntry,
    least_referenced,
};
use crate::mux::{
    ids::{ConnectionId, PresentationUri},
    policy::sharing::SharingMode,
    server_key::{ConnectionKey, ServerId},
    stats::ConnectionState,
};

impl<C, W> Table<C, W> {
    /// The connection that is made at the limit, where none of the existing ones will do.
    pub(crate) fn overflow(&self, request: &PlacementRequest) -> Option<ConnectionPurpose> {
        if !request.overflows {
            None
        } else if !request.is_only_described() {
            Some(ConnectionPurpose::Dedicated)
        } else {
            self.has_place_once_described(request)
                .then_some(ConnectionPurpose::DescribeOnly)
        }
    }

    /// A session that is only to be described needs a place to go to afterwards.
    fn has_place_once_described(&self, request: &PlacementRequest) -> bool {
        let fits = |request: &PlacementRequest| {
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
    pub(crate) fn is_kept_from_playing(&self, request: &PlacementRequest) -> bool {
        if request.is_dedicated || request.describes == DescribeMode::Nothing {
            return false;
        }
        self.candidates(
            ConnectionPurpose::Pooled,
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
        request: &PlacementRequest,
    ) -> Option<ConnectionId> {
        let is_outside = self.is_describe_only(id);
        let place = if is_outside {
            let candidates = self.candidates(ConnectionPurpose::Pooled, request, request.ceiling);
            let open = candidates.filter(|(_, entry)| entry.phase == ConnectionState::Open);
            // The busy ones last, as in any placement, and behind a DESCRIBE no SETUP goes out.
            open.min_by_key(|(other, entry)| {
                let is_full = entry.references >= request.preferred_sessions;
                let is_describing = entry.undescribed > 0;
                let is_busy = request.shun.contains(other);
                (is_busy, is_full, is_describing, entry.references, *other)
            })
            .map(|(other, _)| other)
        } else {
            let candidates = self.candidates(
                ConnectionPurpose::Pooled,
                request,
                request.preferred_sessions,
            );
            least_referenced(candidates.filter(|(other, entry)| {
                *other != id
                    && entry.set_up > 0
                    && entry.coming_up() < request.batch
                    && !request.shun.contains(other)
            }))
        };
        match place {
            Some(place) => _ = self.reference(place, request),
            None if is_outside && self.has_room(request) => {
                self.update(id, |entry| entry.purpose = ConnectionPurpose::Pooled);
            }
            None => {}
        }
        place
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

// Sessions that wait to be described by a server that takes long for each DESCRIBE, and works on
// several connections at a time (live555: 100 ms): which connection describes one of them soonest.
//
// Where the connections that count do not suffice, describe-only connections are made beside them.
// They do not count against the user's limit, since no session stays there, and each is closed as soon
// as its sessions are described.

/// One for each of 16 sessions that start together, less those on connections that count: a round of
/// DESCRIBEs less than with four of them.
const MOST_DESCRIBE_ONLY: u32 = 16;

/// A user who allows fewer connections than by default has a reason.
const USUAL_LIMIT: u32 = 4;

/// How many describe-only connections a server may have where the user allows `limit` of those that
/// count.
pub(crate) fn most_describe_only(limit: u32) -> u32 {
    match limit < USUAL_LIMIT {
        true => limit,
        false => limit.max(MOST_DESCRIBE_ONLY),
    }
}

/// A place, and what makes one better than another: sessions that queue up there, then its kind.
pub(super) type Ranked = ((u32, u8, u32, ConnectionId), Choice);

impl<C, W> Table<C, W> {
    /// Whether the session with this request, which waits on `here` to be described, would be
    /// described sooner on another connection.
    pub(crate) fn is_described_sooner_elsewhere(
        &self,
        here: ConnectionId,
        request: &PlacementRequest,
    ) -> bool {
        let Some(entry) = self.entry(here) else {
            return false;
        };
        let best = self.best_to_describe(request, Some(here));
        best.is_some_and(|((queue, ..), _)| queue + 1 < queue_of(entry))
    }

    /// Where the session is described soonest, but for `here`, where it is still counted; none if the
    /// request is of another kind.
    pub(super) fn best_to_describe(
        &self,
        request: &PlacementRequest,
        here: Option<ConnectionId>,
    ) -> Option<Ranked> {
        let most = request.describe_only?;
        let is_of_this_kind = request.describes != DescribeMode::Nothing
            && request.shared_with != SharedWith::Alone
            && !request.is_dedicated;
        if !is_of_this_kind {
            return None;
        }
        let existing = |purpose, rank, limit| {
            let is_free = move |(id, _): &(ConnectionId, &TableEntry<C>)| {
                Some(*id) != here && !request.shun.contains(id)
            };
            self.candidates(purpose, request, limit)
                .filter(is_free)
                .map(move |(id, entry)| {
                    let order = (queue_of(entry), rank, entry.references, id);
                    (order, Choice::Existing(id))
                })
        };
        let new = |purpose, rank| {
            let order = (0, rank, 0, ConnectionId(u64::MAX));
            (order, Choice::New(purpose))
        };
        let pooled = existing(ConnectionPurpose::Pooled, 0, request.preferred_sessions);
        let new_pooled = self
            .has_room(request)
            .then(|| new(ConnectionPurpose::Pooled, 1));
        let may_leave = most > 0 && self.is_tried_without(request, here);
        let describe_only =
            may_leave.then(|| existing(ConnectionPurpose::DescribeOnly, 2, request.ceiling));
        let has_room_for_describe_only =
            may_leave && self.count(request.key.server(), ConnectionPurpose::DescribeOnly) < most;
        let new_describe_only =
            has_room_for_describe_only.then(|| new(ConnectionPurpose::DescribeOnly, 3));
        pooled
            .chain(new_pooled)
            .chain(describe_only.into_iter().flatten())
            .chain(new_describe_only)
            .min_by_key(|(order, _)| *order)
    }

    /// Whether it is known, or will be without the session, that it can go to a connection that counts
    /// once it is described: two others are set up on one there.
    fn is_tried_without(&self, request: &PlacementRequest, here: Option<ConnectionId>) -> bool {
        let described = request.described();
        let mut pooled = self.candidates(ConnectionPurpose::Pooled, &described, request.ceiling);
        match request.shared_with {
            SharedWith::Any => pooled.next().is_some(),
            _ => self.is_being_tried(&request.key, here),
        }
    }

    /// Whether sessions only come to the connection to be described.
    pub(crate) fn is_describe_only(&self, id: ConnectionId) -> bool {
        self.entry(id)
            .is_some_and(|entry| entry.purpose == ConnectionPurpose::DescribeOnly)
    }

    /// Whether a connection that counts, and that sessions with this key may use, has several
    /// sessions that are not all set up: these find out whether the server shares. The session that
    /// is about to leave `here` does not count.
    pub(crate) fn is_being_tried(&self, key: &ConnectionKey, here: Option<ConnectionId>) -> bool {
        self.connections.iter().any(|(id, entry)| {
            let leaving = u32::from(here == Some(*id));
            entry.purpose == ConnectionPurpose::Pooled
                && entry.key == *key
                && entry.phase != ConnectionState::Closing
                && entry.references >= 2 + leaving
                && entry.coming_up() > leaving
        })
    }

    /// Describe-only connections that the server has taken.
    pub(crate) fn open_describe_only(&self, server: &ServerId) -> u32 {
        let open = self.entries_of(server).filter(|(_, entry)| {
            entry.purpose == ConnectionPurpose::DescribeOnly && entry.phase == ConnectionState::Open
        });
        u32::try_from(open.count()).unwrap_or(u32::MAX)
    }

    /// Whether a session of the server still waits to be described.
    pub(crate) fn is_describing(&self, server: &ServerId) -> bool {
        self.entries_of(server)
            .any(|(_, entry)| entry.undescribed > 0)
    }

    /// No session comes to the connection any more only to be described there: a session that found no
    /// other place is set up there, or a DESCRIBE of nothing may end it.
    pub(crate) fn keep_others_away(&mut self, id: ConnectionId) {
        if self.is_describe_only(id) {
            self.on_no_more_sessions(id);
        }
    }
}

/// Sessions that are to be described on the connection. One more where a session is described already
/// and none is set up: the sooner nothing is described there, the sooner a SETUP goes out and shows
/// whether the server shares.
fn queue_of<C>(entry: &TableEntry<C>) -> u32 {
    let is_kept_waiting = entry.set_up == 0 && entry.coming_up() > entry.undescribed;
    entry.undescribed + u32::from(is_kept_waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}

#[cfg(test)]
mod spread_tests {
    use super::*;
    use crate::mux::{
        ids::PresentationUri,
        policy::placement::{
            Placement, SESSION_CEILING,
            tests::{Names, key},
        },
    };

    /// A session of a server that is not known to share, which waits to be described.
    fn request(limit: u32) -> PlacementRequest {
        PlacementRequest {
            key: key("nvr", 0),
            max_connections: Some(limit),
            preferred_sessions: 16,
            batch: u32::MAX,
            presentation: PresentationUri("/1".to_owned()),
            is_dedicated: false,
            shared_with: SharedWith::NotPlaying,
            describes: DescribeMode::Separate,
            describe_only: Some(most_describe_only(limit)),
            ceiling: SESSION_CEILING,
            overflows: true,
            patient: true,
            avoid: Vec::new(),
            shun: Vec::new(),
            younger_than: None,
        }
    }

    /// Puts so many sessions on the first connection, of which the first is described; then each
    /// session that has reason to goes elsewhere. Gives the sessions that are not set up on each
    /// connection that counts, and on each that does not.
    fn spread(sessions: u32, request: &PlacementRequest) -> (Vec<u32>, Vec<u32>) {
        let mut table = Names::new();
        let together = PlacementRequest {
            describe_only: None,
            preferred_sessions: SESSION_CEILING,
            ..request.clone()
        };
        let Placement::Connect(first) = table.checkout(&together) else {
            panic!("the first one makes a connection");
        };
        for _ in 1..sessions {
            assert_eq!(table.checkout(&together), Placement::Existing(first));
        }
        table.on_described(first);
        while table.is_described_sooner_elsewhere(first, request) {
            table.on_described(first);
            table.checkin(first);
            assert!(matches!(
                table.checkout(request),
                Placement::Connect(_) | Placement::Existing(_)
            ));
        }
        let loads = |purpose| {
            let entries = table.connections.iter();
            let of_kind = entries.filter(|(_, entry)| entry.purpose == purpose);
            let mut loads: Vec<_> = of_kind.map(|(id, e)| (*id, e.coming_up())).collect();
            loads.sort_unstable();
            loads.into_iter().map(|(_, load)| load).collect()
        };
        (
            loads(ConnectionPurpose::Pooled),
            loads(ConnectionPurpose::DescribeOnly),
        )
    }

    #[test]
    fn each_of_sixteen_is_described_on_a_connection_of_its_own() {
        let one_each = vec![1; 11];
        assert_eq!(spread(16, &request(4)), (vec![2, 1, 1, 1], one_each));
        let (pooled, beside) = spread(64, &request(4));
        assert_eq!((pooled.len(), beside.len()), (4, 16));
        assert!(pooled.iter().chain(&beside).all(|load| *load <= 4));
    }

    #[test]
    fn a_lower_limit_than_usual_holds_for_connections_of_both_kinds() {
        assert_eq!(spread(16, &request(1)), (vec![8], vec![8]));
        let (pooled, beside) = spread(16, &request(2));
        assert_eq!((pooled.len(), beside.len()), (2, 2));
    }

    #[test]
    fn connections_that_count_come_first_and_the_trial_stays_on_one() {
        assert_eq!(spread(4, &request(4)), (vec![1; 4], vec![]));
        assert_eq!(spread(5, &request(4)), (vec![2, 1, 1, 1], vec![]));
        assert_eq!(spread(6, &request(4)), (vec![2, 1, 1, 1], vec![1]));
        assert_eq!(spread(2, &request(1)), (vec![2], vec![]));
        assert_eq!(spread(3, &request(1)), (vec![2], vec![1]));
    }

    #[test]
    fn no_describe_only_connection_is_made_or_used_where_none_may_be() {
        let within = PlacementRequest {
            describe_only: Some(0),
            ..request(4)
        };
        assert_eq!(spread(16, &within), (vec![4; 4], vec![]));
        let not_of_this_kind = PlacementRequest {
            describe_only: None,
            ..request(4)
        };
        assert_eq!(spread(16, &not_of_this_kind), (vec![16], vec![]));
    }
}
