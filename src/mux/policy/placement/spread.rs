//! Sessions that wait to be described by a server that takes long for each DESCRIBE, and works on
//! several connections at a time (live555: 100 ms): which connection describes one of them soonest.
//!
//! Where the connections that count do not suffice, describe-only connections are made beside them.
//! They do not count against the user's limit, since no session stays there; but there are no more of
//! them than the limit allows of the connections that count.

use std::hash::Hash;

use super::{
    Choice, ConnectionPhase, DescribeMode, PlacementRequest, Purpose, SharedWith, Table, TableEntry,
};
use crate::mux::ids::ConnectionId;

/// A place, and what makes one better than another: sessions that queue up there, then its kind.
type Ranked = ((u32, u8, u32, ConnectionId), Choice);

impl<S: Clone + Eq + Hash, K: Clone + Eq, C, W> Table<S, K, C, W> {
    /// Whether the session with this request, which waits on `here` to be described, would be
    /// described sooner on another connection.
    pub(crate) fn is_described_sooner_elsewhere(
        &self,
        here: ConnectionId,
        request: &PlacementRequest<S, K>,
    ) -> bool {
        let Some(entry) = self.entry(here) else {
            return false;
        };
        let best = self.best_to_describe(request, Some(here));
        best.is_some_and(|((queue, ..), _)| queue + 1 < queue_of(entry))
    }

    /// Where the session is described soonest; none if the request is of another kind.
    pub(super) fn place_to_describe(&self, request: &PlacementRequest<S, K>) -> Option<Choice> {
        self.best_to_describe(request, None).map(|(_, place)| place)
    }

    /// The best place but for `here`, where the session is still counted.
    fn best_to_describe(
        &self,
        request: &PlacementRequest<S, K>,
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
            let is_free = move |(id, _): &(ConnectionId, &TableEntry<S, K, C>)| {
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
        let pooled = existing(Purpose::Pooled, 0, request.preferred_sessions);
        let new_pooled = self.has_room(request).then(|| new(Purpose::Pooled, 1));
        let may_leave = most > 0 && self.is_tried_without(request, here);
        let describe_only = may_leave.then(|| existing(Purpose::DescribeOnly, 2, request.ceiling));
        let has_room_for_describe_only =
            may_leave && self.describe_only_connections(&request.server) < most;
        let new_describe_only = has_room_for_describe_only.then(|| new(Purpose::DescribeOnly, 3));
        pooled
            .chain(new_pooled)
            .chain(describe_only.into_iter().flatten())
            .chain(new_describe_only)
            .min_by_key(|(order, _)| *order)
    }

    /// Whether it is known, or will be without the session, that it can go to a connection that counts
    /// once it is described: two others are set up on one there.
    fn is_tried_without(
        &self,
        request: &PlacementRequest<S, K>,
        here: Option<ConnectionId>,
    ) -> bool {
        let described = request.described();
        let mut pooled = self.candidates(Purpose::Pooled, &described, request.ceiling);
        match request.shared_with {
            SharedWith::Any => pooled.next().is_some(),
            _ => self.is_being_tried(&request.server, &request.key, here),
        }
    }

    fn describe_only_connections(&self, server: &S) -> u32 {
        let is_one = |entry: &&TableEntry<S, K, C>| {
            entry.purpose == Purpose::DescribeOnly && entry.server == *server
        };
        let count = self.connections.values().filter(is_one).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether sessions only come to the connection to be described.
    pub(crate) fn is_describe_only(&self, id: ConnectionId) -> bool {
        self.entry(id)
            .is_some_and(|entry| entry.purpose == Purpose::DescribeOnly)
    }

    /// Whether a connection that counts, and that sessions with this key may use, has several
    /// sessions that are not all set up: these find out whether the server shares. The session that
    /// is about to leave `here` does not count.
    pub(crate) fn is_being_tried(&self, server: &S, key: &K, here: Option<ConnectionId>) -> bool {
        self.connections.iter().any(|(id, entry)| {
            let leaving = u32::from(here == Some(*id));
            entry.counts_for(server)
                && entry.key == *key
                && entry.phase != ConnectionPhase::Closing
                && entry.references >= 2 + leaving
                && entry.coming_up() > leaving
        })
    }

    /// Whether a session of the server still waits to be described.
    pub(crate) fn is_describing(&self, server: &S) -> bool {
        let of_server = |entry: &&TableEntry<S, K, C>| entry.server == *server;
        let mut entries = self.connections.values().filter(of_server);
        entries.any(|entry| entry.undescribed > 0)
    }

    /// A session that is set up on a describe-only connection, because it found no other place, has
    /// the connection for itself.
    pub(crate) fn keep_others_away(&mut self, id: ConnectionId) {
        if self.is_describe_only(id) {
            self.on_no_more_sessions(id);
        }
    }
}

/// Sessions that are to be described on the connection. One more where a session is described already
/// and none is set up: the sooner nothing is described there, the sooner a SETUP goes out and shows
/// whether the server shares.
fn queue_of<S: Clone + PartialEq, K: Clone + PartialEq, C>(entry: &TableEntry<S, K, C>) -> u32 {
    let is_kept_waiting = entry.set_up == 0 && entry.coming_up() > entry.undescribed;
    entry.undescribed + u32::from(is_kept_waiting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::{
        ids::PresentationUri,
        policy::placement::{Placement, SESSION_CEILING, tests::Names},
    };

    /// A session of a server that is not known to share, which waits to be described.
    fn request(limit: u32) -> PlacementRequest<&'static str, u8> {
        PlacementRequest {
            server: "nvr",
            key: 0,
            max_connections: Some(limit),
            preferred_sessions: 16,
            batch: u32::MAX,
            presentation: PresentationUri("/1".to_owned()),
            is_dedicated: false,
            shared_with: SharedWith::NotPlaying,
            describes: DescribeMode::Separate,
            describe_only: Some(limit),
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
    fn spread(sessions: u32, request: &PlacementRequest<&'static str, u8>) -> (Vec<u32>, Vec<u32>) {
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
        (loads(Purpose::Pooled), loads(Purpose::DescribeOnly))
    }

    #[test]
    fn sixteen_are_described_over_eight_connections() {
        assert_eq!(spread(16, &request(4)), (vec![2; 4], vec![2; 4]));
        assert_eq!(spread(64, &request(4)), (vec![8; 4], vec![8; 4]));
        assert_eq!(spread(16, &request(1)), (vec![8], vec![8]));
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
