//! What breaks when a session joins others on a connection, and what follows from it.
//!
//! A connection may die for any reason, and a server may be restarted while all its cameras play. So a
//! death is held against sharing only if it may follow from what we did: while a DESCRIBE, SETUP or
//! PLAY was unanswered on that connection, or within [`SOON`] after one. And it matters what died:
//!
//! | what died | sign | what follows |
//! |---|---|---|
//! | one connection | another one lives on, or the next dial succeeds at once | twice after the same session joined: that one is alone from then on; [`MANY`] times: the server cannot share |
//! | another session than the one that joined last | the connection lives on | the same |
//! | the session that joined last | the connection lives on | twice: it is alone from then on, until it is lost there as well. A server that sends TEARDOWN behind each PLAY does the same to a session that is alone |
//! | the whole server | the next dial fails, or all of several connections died together | [`MANY`] times: one session a connection for a while |
//!
//! Nothing is counted where sessions that were alone die as well. Pure: time is passed in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::Evidence;
use crate::mux::{
    ids::{ConnectionId, PresentationUri},
    proto::SessionKey,
};

/// How long after a request of ours a death may follow from it.
const SOON: Duration = Duration::from_secs(2);
/// How long after a session joined the loss of another one, on a connection that lives on, may follow
/// from it: it shows with the next keep-alive.
const SHOWS_WITHIN: Duration = Duration::from_secs(60);
/// How long a death or loss counts against sharing.
const WINDOW: Duration = Duration::from_secs(10 * 60);
/// How many deaths are no coincidence any more.
const MANY: usize = 3;
/// How many deaths after the same session joined are caused by that session.
const TWICE: usize = 2;
/// When a server dies, its connections end within this time of each other.
const TOGETHER: Duration = Duration::from_secs(1);
/// A connection that is handed out so long after the death of another one has survived it.
const SURVIVES: Duration = Duration::from_millis(500);
/// How long a session has a connection of its own after other sessions died with it twice.
const ISOLATION: Duration = Duration::from_secs(24 * 60 * 60);
/// How many such sessions of one server are remembered. Where there are more, the server cannot
/// share.
const MOST_ISOLATED: usize = 16;
/// Sessions that start together are set up within this time of each other.
const START_TOGETHER: Duration = Duration::from_secs(2);

/// A session was set up on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    at: Instant,
    uri: PresentationUri,
    /// None if only a request of it went out.
    session: Option<SessionKey>,
    /// The others had been there for a moment: of sessions that start together none stands out.
    is_late: bool,
}

/// The joins of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joins {
    last: Option<Join>,
    /// DESCRIBEs, SETUPs and PLAYs that are not answered, and of which session and when the last one
    /// was.
    unanswered: u32,
    last_request: Option<(Instant, PresentationUri)>,
    /// How many sessions it had when it ended: they leave one by one.
    sessions_at_end: Option<u32>,
}

impl Joins {
    /// A DESCRIBE, SETUP or PLAY of this session goes out.
    pub(crate) fn on_request(&mut self, now: Instant, uri: &PresentationUri) {
        self.unanswered += 1;
        self.last_request = Some((now, uri.clone()));
    }

    /// The request is answered, or the session stops waiting for it.
    pub(crate) fn on_answer(&mut self, now: Instant, uri: &PresentationUri) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.last_request = Some((now, uri.clone()));
    }

    /// The session is set up.
    pub(crate) fn on_set_up(&mut self, at: Instant, uri: PresentationUri, session: SessionKey) {
        let since = |last: &Join| at.saturating_duration_since(last.at);
        let is_late = self
            .last
            .as_ref()
            .is_some_and(|last| since(last) >= START_TOGETHER);
        self.last = Some(Join {
            at,
            uri,
            session: Some(session),
            is_late,
        });
    }

    /// The machine was suspended: a connection that dies now does not follow from a request of ours.
    pub(crate) fn on_suspend(&mut self) {
        self.last = None;
        self.last_request = None;
    }

    /// No session is added any more; it has so many.
    pub(crate) fn on_end(&mut self, sessions: u32) {
        self.sessions_at_end.get_or_insert(sessions);
    }

    /// Sessions that it had when it ended, or has now.
    pub(crate) fn sessions(&self, now: u32) -> u32 {
        self.sessions_at_end.unwrap_or(now)
    }

    /// The session that comes back last if the connection is gone: the one that had joined last, if
    /// the others had been there before.
    pub(crate) fn suspect(&self, now: Instant) -> Option<PresentationUri> {
        let last = self.last.as_ref().filter(|last| last.is_late)?;
        let is_recent = now.saturating_duration_since(last.at) < SHOWS_WITHIN;
        is_recent.then(|| last.uri.clone())
    }

    /// The join from which the death of the connection may follow.
    fn cause(&self, now: Instant) -> Option<Join> {
        let (at, uri) = self.last_request.as_ref()?;
        let is_soon = self.unanswered > 0 || now.saturating_duration_since(*at) < SOON;
        is_soon.then(|| Join {
            at: *at,
            uri: uri.clone(),
            session: None,
            is_late: false,
        })
    }
}

/// The death of a connection, as long as it is not known what else died.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Death {
    at: Instant,
    sessions: u32,
    cause: Option<Join>,
    /// The youngest connection there was.
    newest: ConnectionId,
}

/// A death or a loss that is held against a join.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CountedLoss {
    at: Instant,
    join: Join,
    /// The session that joined is the one that was lost.
    is_own: bool,
}

/// A session that is to have a connection of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Isolated {
    uri: PresentationUri,
    until: Instant,
    /// It was lost itself, and harmed no other session.
    is_own: bool,
}

/// What broke at one server when sessions joined others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JoinHistory {
    unexplained: Vec<Death>,
    held: VecDeque<CountedLoss>,
    /// Deaths of the server.
    crashes: VecDeque<Instant>,
    isolated: Vec<Isolated>,
}

impl JoinHistory {
    /// A connection died that had so many sessions; `newest` is the youngest one there is.
    pub(crate) fn on_death(
        &mut self,
        now: Instant,
        sessions: u32,
        joins: &Joins,
        newest: ConnectionId,
    ) {
        self.unexplained
            .retain(|death| now.saturating_duration_since(death.at) < WINDOW);
        self.unexplained.push(Death {
            at: now,
            sessions,
            cause: joins.cause(now),
            newest,
        });
    }

    /// A session got this connection, or none could be made: that shows whether the server died as
    /// well.
    pub(crate) fn on_connection(
        &mut self,
        now: Instant,
        connection: Option<ConnectionId>,
    ) -> Option<Evidence> {
        let (Some(first), Some(last)) = (self.unexplained.first(), self.unexplained.last()) else {
            return None;
        };
        let is_old = connection.is_some_and(|id| id <= last.newest);
        if is_old && now.saturating_duration_since(last.at) < SURVIVES {
            // This connection may be dead as well.
            return None;
        }
        let died_together = self.unexplained.len() > 1
            && last.at.saturating_duration_since(first.at) < TOGETHER
            && !is_old;
        let deaths = std::mem::take(&mut self.unexplained);
        let shared = deaths.iter().filter(|death| death.sessions > 1);
        let causes: Vec<&Join> = shared
            .clone()
            .filter_map(|death| death.cause.as_ref())
            .collect();
        if shared.count() == 0 {
            // Sessions that are alone die as well.
            self.held.clear();
            self.crashes.clear();
            return None;
        }
        if connection.is_none() || died_together {
            return self.on_crash(now, !causes.is_empty());
        }
        // All of them are held against it, whatever the first one shows.
        let verdicts = causes.into_iter().map(|join| self.hold(now, join, false));
        verdicts.fold(None, Option::or)
    }

    /// One of so many sessions is lost, and the connection lives on.
    pub(crate) fn on_session_lost(
        &mut self,
        now: Instant,
        sessions: u32,
        joins: &Joins,
        lost: SessionKey,
    ) -> Option<Evidence> {
        let is_own = |join: &Join| join.session == Some(lost);
        if sessions < 2 {
            self.held.clear();
            let alone = joins.last.as_ref().filter(|join| is_own(join));
            self.isolated.retain(|isolated| {
                !isolated.is_own || alone.is_none_or(|join| join.uri != isolated.uri)
            });
            return None;
        }
        let join = joins.last.as_ref()?;
        let is_recent = now.saturating_duration_since(join.at) < SHOWS_WITHIN;
        is_recent
            .then(|| self.hold(now, join, is_own(join)))
            .flatten()
    }

    fn on_crash(&mut self, now: Instant, follows_from_us: bool) -> Option<Evidence> {
        self.crashes
            .retain(|at| now.saturating_duration_since(*at) < WINDOW);
        if follows_from_us {
            self.crashes.push_back(now);
        }
        if self.crashes.len() < MANY {
            return None;
        }
        self.crashes.clear();
        Some(Evidence::Crashes)
    }

    /// All that breaks after one join counts once.
    fn hold(&mut self, now: Instant, join: &Join, is_own: bool) -> Option<Evidence> {
        self.held
            .retain(|held| now.saturating_duration_since(held.at) < WINDOW);
        if self.held.iter().any(|held| held.join == *join) {
            return None;
        }
        self.held.push_back(CountedLoss {
            at: now,
            join: join.clone(),
            is_own,
        });
        let is_too_many = self.held.iter().filter(|held| !held.is_own).count() >= MANY
            || (self.held_against(&join.uri) >= TWICE && !self.isolate(now, &join.uri, is_own));
        if is_too_many {
            self.held.clear();
        }
        is_too_many.then_some(Evidence::BrokeOff)
    }

    fn held_against(&self, uri: &PresentationUri) -> usize {
        self.held
            .iter()
            .filter(|held| held.join.uri == *uri)
            .count()
    }

    /// This session is to have a connection of its own, because others are harmed by it or, if
    /// `is_own`, because it is lost among others. False if there are too many such sessions.
    pub(crate) fn isolate(&mut self, now: Instant, uri: &PresentationUri, is_own: bool) -> bool {
        self.isolated
            .retain(|other| other.uri != *uri && now < other.until);
        let has_room = self.isolated.len() < MOST_ISOLATED;
        if has_room {
            self.isolated.push(Isolated {
                uri: uri.clone(),
                until: now + ISOLATION,
                is_own,
            });
        }
        has_room
    }

    /// Whether the outcome of the next connection attempt matters.
    pub(crate) fn has_unexplained(&self) -> bool {
        !self.unexplained.is_empty()
    }

    /// Whether this session is to have a connection of its own. In doubt, too: where the last death
    /// would be the second one, and the server has not been heard of since.
    pub(crate) fn is_isolated(&self, now: Instant, uri: &PresentationUri) -> bool {
        let is_cause = |death: &Death| {
            let cause = death.cause.as_ref().filter(|_| death.sessions > 1);
            cause.is_some_and(|cause| cause.uri == *uri)
        };
        let mut isolated = self.isolated.iter();
        isolated.any(|other| other.uri == *uri && now < other.until)
            || (self.held_against(uri) + 1 >= TWICE && self.unexplained.iter().any(is_cause))
    }

    /// Whether nothing would be lost by forgetting it.
    pub(crate) fn is_forgettable(&self, now: Instant) -> bool {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < WINDOW;
        self.isolated.iter().all(|other| now >= other.until)
            && !self.crashes.iter().any(is_recent)
            && !self.held.iter().any(|held| is_recent(&held.at))
            && !self.unexplained.iter().any(|death| is_recent(&death.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn session(number: u32) -> SessionKey {
        SessionKey(number)
    }

    fn uri(number: u32) -> PresentationUri {
        PresentationUri(format!("rtsp://nvr/{number}"))
    }

    /// A connection that others were on, to which this session was added at a time.
    fn joined(at: Instant, number: u32) -> Joins {
        let mut joins = Joins::default();
        joins.on_set_up(at, uri(number), session(number));
        joins.on_request(at, &uri(number));
        joins.on_answer(at, &uri(number));
        joins
    }

    struct History {
        now: Instant,
        history: JoinHistory,
        newest: u64,
    }

    impl History {
        fn new() -> Self {
            Self {
                now: Instant::now() + WINDOW,
                history: JoinHistory::default(),
                newest: 4,
            }
        }

        /// So many connections die `after` a session joined one of them.
        fn die(&mut self, connections: usize, sessions: u32, number: u32, after: Duration) {
            let joins = joined(self.now, number);
            self.now += after;
            for connection in 0..connections {
                let joins = match connection {
                    0 => joins.clone(),
                    _ => Joins::default(),
                };
                let newest = ConnectionId(self.newest);
                self.history.on_death(self.now, sessions, &joins, newest);
            }
        }

        /// The next dial comes to this.
        fn dial(&mut self, is_there: bool) -> Option<Evidence> {
            self.newest += 1;
            self.now += S / 10;
            let connection = is_there.then_some(ConnectionId(self.newest));
            self.history.on_connection(self.now, connection)
        }
    }

    #[test]
    fn f45_restarts_teach_nothing() {
        let mut history = History::new();
        for restart in 0..10 {
            // Back three seconds later; all have joined, and play for some seconds.
            history.die(4, 16, restart, 4 * S);
            for _ in 0..3 {
                assert_eq!(history.dial(false), None);
                history.now += S;
            }
            assert_eq!(history.dial(true), None);
        }
        assert!(!history.history.is_isolated(history.now, &uri(1)));
        assert_eq!(history.history.held.len(), 0);
        assert_eq!(history.history.crashes.len(), 0);
    }

    #[test]
    fn f45_a_restart_that_is_over_at_once_is_told_by_several_connections_that_die_together() {
        let mut history = History::new();
        for restart in 0..2 {
            history.die(4, 16, restart, S);
            assert_eq!(history.dial(true), None);
        }
        assert_eq!(history.history.held.len(), 0);
        // Three times within two seconds is no chance.
        history.die(4, 16, 7, S);
        assert_eq!(history.dial(true), Some(Evidence::Crashes));
    }

    #[test]
    fn a_server_that_dies_three_times_when_sessions_join_others_is_spared_that() {
        let mut history = History::new();
        for _ in 0..2 {
            history.die(1, 2, 1, S);
            assert_eq!(history.dial(false), None);
        }
        history.die(1, 2, 2, S);
        assert_eq!(history.dial(false), Some(Evidence::Crashes));
        assert!(history.history.is_forgettable(history.now + WINDOW));
    }

    #[test]
    fn a_server_that_dies_under_single_sessions_too_dies_of_something_else() {
        let mut history = History::new();
        for _ in 0..2 {
            history.die(1, 2, 1, S);
            assert_eq!(history.dial(false), None);
        }
        history.die(1, 1, 1, S);
        assert_eq!(history.dial(false), None);
        history.die(1, 2, 1, S);
        assert_eq!(history.dial(false), None, "counted anew");
    }

    #[test]
    fn the_third_connection_that_dies_soon_after_a_join_is_too_many() {
        let mut history = History::new();
        for number in 1..=2 {
            history.die(1, 2, number, S);
            assert_eq!(history.dial(true), None);
        }
        history.die(1, 2, 3, S);
        assert_eq!(history.dial(true), Some(Evidence::BrokeOff));
    }

    #[test]
    fn the_second_death_after_the_same_session_joined_is_its_fault() {
        let mut history = History::new();
        history.die(1, 16, 7, S);
        assert_eq!(history.dial(true), None);
        assert!(!history.history.is_isolated(history.now, &uri(7)));
        history.die(1, 16, 7, S);
        // Before it is known whether the server is there.
        assert!(history.history.is_isolated(history.now, &uri(7)));
        assert!(!history.history.is_isolated(history.now, &uri(6)));
        let mut restarted = History {
            history: history.history.clone(),
            ..history
        };
        assert_eq!(history.dial(true), None);
        assert!(history.history.is_isolated(history.now, &uri(7)));
        restarted.dial(false);
        assert!(!restarted.history.is_isolated(restarted.now, &uri(7)));
    }

    #[test]
    fn only_what_follows_soon_on_our_requests_counts_unless_one_is_unanswered() {
        let mut history = History::new();
        for number in 0..5 {
            history.die(1, 16, number, 3 * S);
            assert_eq!(history.dial(true), None);
        }
        assert_eq!(history.history.held.len(), 0);
        let mut joins = joined(history.now, 1);
        joins.on_request(history.now, &uri(2));
        let later = history.now + 20 * S;
        assert_eq!(joins.cause(later).map(|cause| cause.uri), Some(uri(2)));
        joins.on_answer(later, &uri(2));
        assert_eq!(joins.cause(later + 2 * S), None);
        joins.on_request(later, &uri(2));
        joins.on_suspend();
        assert_eq!(joins.cause(later), None);
    }

    #[test]
    fn another_connection_that_lives_on_shows_that_the_server_does() {
        let mut history = History::new();
        for number in 1..=3 {
            history.die(1, 2, number, S);
            let survivor = Some(ConnectionId(2));
            let at_once = history.now + SURVIVES / 2;
            let blame = history.history.on_connection(at_once, survivor);
            assert_eq!(blame, None, "it may be dead, too");
            history.now += SURVIVES;
            let blame = history.history.on_connection(history.now, survivor);
            assert_eq!(blame == Some(Evidence::BrokeOff), number == 3, "{number}");
        }
    }

    #[test]
    fn a_session_that_is_lost_soon_after_another_one_joined_counts_once_for_each_join() {
        let mut history = JoinHistory::default();
        let now = Instant::now() + WINDOW;
        let joins = joined(now, 1);
        for _ in 0..16 {
            let blame = history.on_session_lost(now + 30 * S, 16, &joins, session(9));
            assert_eq!(blame, None);
        }
        let late = history.on_session_lost(now + 61 * S, 16, &joined(now, 2), session(9));
        assert_eq!((late, history.held.len()), (None, 1));
        history.on_session_lost(now, 2, &joined(now, 2), session(9));
        let third = history.on_session_lost(now, 2, &joined(now, 3), session(9));
        assert_eq!(third, Some(Evidence::BrokeOff));
    }

    /// So many sessions of a shared connection are lost, each right after it joined.
    fn lose_own(history: &mut JoinHistory, now: Instant, numbers: u32) -> Vec<Option<Evidence>> {
        let lose = |number| {
            let joins = joined(now, number);
            history.on_session_lost(now, 16, &joins, session(number))
        };
        (0..numbers).map(lose).collect()
    }

    #[test]
    fn f45_a_server_that_ends_each_session_behind_its_play_can_share() {
        let mut history = JoinHistory::default();
        let now = Instant::now() + WINDOW;
        for round in 0..2 {
            let lost = lose_own(&mut history, now + round * S, 16);
            assert!(lost.iter().all(Option::is_none), "{round}: {lost:?}");
        }
        assert!(history.is_isolated(now, &uri(3)), "it is tried alone");
        let alone = joined(now + 2 * S, 3);
        history.on_session_lost(now + 2 * S, 1, &alone, session(3));
        assert!(!history.is_isolated(now, &uri(3)), "it is lost there, too");
        assert!(history.is_isolated(now, &uri(4)));
    }

    #[test]
    fn sessions_that_are_only_lost_among_others_are_alone_or_show_that_the_server_cannot_share() {
        let mut history = JoinHistory::default();
        let now = Instant::now() + WINDOW;
        lose_own(&mut history, now, 17);
        let lost = lose_own(&mut history, now + S, 17);
        let (alone, last) = lost.split_at(MOST_ISOLATED);
        assert!(alone.iter().all(Option::is_none));
        assert_eq!(last, [Some(Evidence::BrokeOff)]);
    }

    #[test]
    fn a_session_that_harms_others_stays_alone_when_it_is_lost_there() {
        let mut history = JoinHistory::default();
        let now = Instant::now();
        history.isolate(now, &uri(3), false);
        history.on_session_lost(now, 1, &joined(now, 3), session(3));
        assert!(history.is_isolated(now, &uri(3)));
    }

    #[test]
    fn a_session_that_starts_together_with_others_does_not_stand_out() {
        let now = Instant::now();
        let mut joins = Joins::default();
        joins.on_set_up(now, uri(1), session(1));
        assert_eq!(joins.suspect(now), None);
        joins.on_set_up(now + START_TOGETHER / 2, uri(2), session(2));
        assert_eq!(joins.suspect(now + START_TOGETHER), None);
        let late = now + 2 * START_TOGETHER;
        joins.on_set_up(late, uri(3), session(3));
        assert_eq!(joins.suspect(late), Some(uri(3)));
        assert_eq!(joins.suspect(late + SHOWS_WITHIN), None);
        joins.on_end(3);
        joins.on_end(1);
        assert_eq!((joins.sessions(0), Joins::default().sessions(2)), (3, 2));
    }
}
