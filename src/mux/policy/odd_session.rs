//! Which session of a connection has stray bytes or cut frames, and whether it is to go elsewhere.
//!
//! One camera of a recorder may send bytes that belong to nothing, every two seconds, for hours. Each
//! time the connection loses its framing, and frames of the camera's neighbours may be lost with it.
//! The frame before a loss tells which session caused it. Once three of the last four losses follow
//! frames of one session, that session is moved to a connection of its own. Other cameras have their
//! stray bytes *before* their frames: then the frames before the losses are any neighbour's, and
//! those behind them are one session's. So where all of the last four losses precede frames of one
//! session, and not all follow frames of one, the former is moved.
//!
//! That may be wrong: stray bytes may come from the recorder itself, and then follow frames by chance.
//! So there are bounds: two moves of a connection in ten minutes, and none after one that did not help.
//! A move has not helped if the losses go on without the session about as often as before.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::mux::proto::{FramingLoss, SessionKey};

/// How many of the latest losses count.
const LOOKED_AT: usize = 4;
/// How many of these have to follow frames of one session.
const ITS_OWN: usize = 3;
/// Moves of a connection in [`WINDOW`].
const MOST_MOVES: usize = 2;
const WINDOW: Duration = Duration::from_secs(10 * 60);
/// How long a move may take; a session without a reader does not move at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// A move has helped if losses come at least so many times more rarely.
const HELPED: u32 = 2;

/// What a loss of framing leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LossAction {
    /// Nothing: the connection has found the next frame.
    None,
    /// This session is to go to another connection.
    Move(SessionKey),
    /// No session is moved any more: the connection itself loses framing.
    BlameConnection,
}

/// How far the search for the odd session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Search {
    #[default]
    Watching,
    /// This session was told to move. Losses came so far apart.
    Moving {
        session: SessionKey,
        since: Instant,
        apart: Duration,
    },
    /// It has moved.
    Moved { at: Instant, apart: Duration },
    /// The connection is to blame.
    Over { until: Instant },
}

/// The losses of framing of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct LossRecord {
    /// The latest ones.
    losses: VecDeque<(Instant, FramingLoss)>,
    moves: VecDeque<Instant>,
    search: Search,
}

impl LossRecord {
    /// Framing was lost between such frames, on a connection with so many sessions.
    pub(crate) fn on_loss(&mut self, now: Instant, loss: FramingLoss, sessions: u32) -> LossAction {
        self.expire(now);
        let is_moving = |session| [loss.after, loss.before].contains(&Some(session));
        match self.search {
            Search::Over { .. } => return LossAction::None,
            // A loss while the session moves says nothing new.
            Search::Moving { session, .. } if is_moving(session) => return LossAction::None,
            _ => {}
        }
        if self.losses.len() == LOOKED_AT {
            self.losses.pop_front();
        }
        self.losses.push_back((now, loss));
        // A session that is alone has no neighbours to protect.
        if sessions < 2 || matches!(self.search, Search::Moving { .. }) {
            return LossAction::None;
        }
        if let Search::Moved { at, apart } = self.search {
            if self.losses.len() < LOOKED_AT {
                return LossAction::None;
            }
            let apart_now = now.saturating_duration_since(at) / LOOKED_AT as u32;
            if apart_now < apart * HELPED {
                return self.blame_connection(now);
            }
            self.search = Search::Watching;
        }
        self.odd_one()
            .map_or(LossAction::None, |session| self.begin_move(now, session))
    }

    /// The session has another connection now.
    pub(crate) fn on_moved(&mut self, now: Instant, session: SessionKey) {
        if let Search::Moving {
            session: odd,
            apart,
            ..
        } = self.search
            && odd == session
        {
            self.losses.clear();
            self.search = Search::Moved { at: now, apart };
        }
    }

    /// The session stays where it is.
    pub(crate) fn on_move_failed(&mut self, session: SessionKey) {
        if matches!(self.search, Search::Moving { session: odd, .. } if odd == session) {
            self.losses.clear();
            self.search = Search::Watching;
        }
    }

    /// Whether new sessions should go elsewhere: the connection itself loses framing.
    pub(crate) fn is_connection_to_blame(&self, now: Instant) -> bool {
        matches!(self.search, Search::Over { until } if now < until)
    }

    fn expire(&mut self, now: Instant) {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < WINDOW;
        self.losses.retain(|(at, _)| is_recent(at));
        self.moves.retain(is_recent);
        self.search = match self.search {
            Search::Over { until } if now >= until => Search::Watching,
            Search::Moving { since, .. } if now >= since + PATIENCE => Search::Watching,
            Search::Moved { at, .. } if !is_recent(&at) => Search::Watching,
            search => search,
        };
    }

    /// The session whose frames are on one side of most of the latest losses.
    fn odd_one(&self) -> Option<SessionKey> {
        let after = self.most_frequent(|loss| loss.after);
        let before = self.most_frequent(|loss| loss.before);
        match (after, before) {
            (Some((_, LOOKED_AT)), _) => after,
            (_, Some((_, LOOKED_AT))) => before,
            _ => after.filter(|(_, losses)| *losses >= ITS_OWN),
        }
        .map(|(session, _)| session)
    }

    /// The session that is most often on that side, and how often.
    fn most_frequent(
        &self,
        side: fn(&FramingLoss) -> Option<SessionKey>,
    ) -> Option<(SessionKey, usize)> {
        let sessions = || self.losses.iter().filter_map(|(_, loss)| side(loss));
        let count = |session| sessions().filter(|other| *other == session).count();
        let counted = sessions().map(|session| (session, count(session)));
        counted.max_by_key(|(_, losses)| *losses)
    }

    fn begin_move(&mut self, now: Instant, session: SessionKey) -> LossAction {
        if self.moves.len() >= MOST_MOVES {
            return self.blame_connection(now);
        }
        let first = self.losses.front().map_or(now, |(at, _)| *at);
        let between = u32::try_from(self.losses.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.moves.push_back(now);
        self.search = Search::Moving {
            session,
            since: now,
            apart: now.saturating_duration_since(first) / between.max(1),
        };
        LossAction::Move(session)
    }

    fn blame_connection(&mut self, now: Instant) -> LossAction {
        self.losses.clear();
        self.search = Search::Over {
            until: now + WINDOW,
        };
        LossAction::BlameConnection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NONE: LossAction = LossAction::None;

    fn key(session: u32) -> SessionKey {
        SessionKey(session)
    }

    /// A record and the time.
    struct Connection {
        record: LossRecord,
        now: Instant,
        sessions: u32,
    }

    impl Connection {
        fn with(sessions: u32) -> Self {
            Self {
                record: LossRecord::default(),
                now: Instant::now(),
                sessions,
            }
        }

        /// Losses two seconds apart, each after a frame of that session; 0: of none.
        fn losses(&mut self, after: &[u32]) -> Vec<LossAction> {
            self.losses_apart(2 * SECOND, after)
        }

        fn losses_apart(&mut self, apart: Duration, after: &[u32]) -> Vec<LossAction> {
            let one = |session: &u32| {
                self.now += apart;
                self.loss((*session, 0))
            };
            after.iter().map(one).collect()
        }

        /// A loss between frames of these two.
        fn loss(&mut self, (after, before): (u32, u32)) -> LossAction {
            let some = |session| (session > 0).then(|| key(session));
            let loss = FramingLoss {
                after: some(after),
                before: some(before),
            };
            self.record.on_loss(self.now, loss, self.sessions)
        }

        fn moved(&mut self, session: u32) {
            self.sessions -= 1;
            self.record.on_moved(self.now, key(session));
        }
    }

    #[test]
    fn f42_who_is_moved() {
        let table: [(&[u32], Option<u32>); 9] = [
            (&[7, 7], None),
            (&[7, 7, 7], Some(7)),
            (&[7, 3, 7, 7], Some(7)),
            (&[7, 7, 0, 7], Some(7)),
            (&[3, 3, 7, 7, 3, 3, 7, 7], None),
            (&[0, 0, 0, 0], None),
            (&[1, 2, 3, 4, 1, 2, 3, 4], None),
            (&[3, 7, 3, 7, 3, 7], None),
            (&[1, 2, 7, 7, 7], Some(7)),
        ];
        for (losses, moved) in table {
            let mut connection = Connection::with(16);
            let last = connection.losses(losses).pop();
            let expected = moved.map_or(NONE, |session| LossAction::Move(key(session)));
            assert_eq!(last, Some(expected), "{losses:?}");
        }
    }

    #[test]
    fn f42_who_is_moved_by_what_comes_behind_the_losses() {
        type Losses<'a> = &'a [(u32, u32)];
        let table: [(Losses, Option<u32>); 8] = [
            // Before its frames, in any order of cameras.
            (&[(1, 7), (5, 7), (2, 7)], None),
            (&[(1, 7), (5, 7), (2, 7), (9, 7)], Some(7)),
            // One neighbour happens to be before it more often.
            (&[(1, 7), (5, 7), (1, 7), (1, 7)], Some(7)),
            // In a fixed order both sides are always the same: the frame before counts.
            (&[(6, 7), (6, 7), (6, 7)], Some(6)),
            // Behind its frames.
            (&[(7, 1), (7, 8), (7, 8)], Some(7)),
            (&[(7, 8), (1, 8), (7, 8), (7, 1)], Some(7)),
            // One comes behind most losses, and no more than that.
            (&[(1, 7), (5, 7), (2, 3), (9, 7), (4, 7)], None),
            (&[(0, 7), (0, 7), (0, 7), (0, 7)], Some(7)),
        ];
        for (losses, moved) in table {
            let mut connection = Connection::with(16);
            let one = |loss: &(u32, u32)| {
                connection.now += 2 * SECOND;
                connection.loss(*loss)
            };
            let last = losses.iter().map(one).collect::<Vec<_>>().pop();
            let expected = moved.map_or(NONE, |session| LossAction::Move(key(session)));
            assert_eq!(last, Some(expected), "{losses:?}");
        }
    }

    #[test]
    fn f42_a_session_without_neighbours_stays() {
        assert_eq!(Connection::with(1).losses(&[7; 20]), [NONE; 20]);
    }

    #[test]
    fn f42_what_it_loses_on_its_way_moves_no_one() {
        let mut connection = Connection::with(16);
        connection.losses(&[7, 7, 7]);
        assert_eq!(connection.losses(&[7; 10]), [NONE; 10]);
        connection.moved(7);
        assert_eq!(connection.losses_apart(300 * SECOND, &[3]), [NONE]);
    }

    #[test]
    fn f42_losses_that_go_on_without_it_are_the_connections() {
        let mut connection = Connection::with(16);
        connection.losses(&[7, 7, 7]);
        connection.moved(7);
        let after = connection.losses(&[3, 3, 3, 3]);
        assert_eq!(after, [NONE, NONE, NONE, LossAction::BlameConnection]);
        assert!(connection.record.is_connection_to_blame(connection.now));
        assert_eq!(connection.losses(&[3; 200]), [NONE; 200], "for ten minutes");
    }

    #[test]
    fn f42_a_second_odd_session_moves_and_a_third_does_not() {
        let mut connection = Connection::with(16);
        connection.losses(&[7, 7, 7]);
        connection.moved(7);
        let second = connection.losses_apart(12 * SECOND, &[3, 3, 3, 3]);
        assert_eq!(second, [NONE, NONE, NONE, LossAction::Move(key(3))]);
        connection.moved(3);
        let third = connection.losses_apart(40 * SECOND, &[5, 5, 5, 5]);
        assert_eq!(third, [NONE, NONE, NONE, LossAction::BlameConnection]);
    }

    #[test]
    fn f42_a_move_that_fails_counts_and_is_tried_once_more() {
        let mut connection = Connection::with(16);
        assert_eq!(connection.losses(&[7, 7, 7])[2], LossAction::Move(key(7)));
        connection.record.on_move_failed(key(7));
        assert_eq!(connection.losses(&[7, 7, 7])[2], LossAction::Move(key(7)));
        connection.record.on_move_failed(key(7));
        let third = connection.losses(&[7, 7, 7])[2];
        assert_eq!(third, LossAction::BlameConnection);
        // Ten minutes later.
        assert_eq!(connection.losses_apart(301 * SECOND, &[7, 7]), [NONE, NONE]);
        assert_eq!(connection.losses(&[7, 7]), [NONE, LossAction::Move(key(7))]);
    }

    #[test]
    fn f42_a_move_that_is_never_heard_of_again_stops_nothing() {
        let mut connection = Connection::with(16);
        connection.losses(&[7, 7, 7]);
        connection.now += PATIENCE;
        assert_eq!(connection.losses(&[7])[0], LossAction::Move(key(7)));
    }

    #[test]
    fn f42_rare_losses_are_no_ones() {
        let mut connection = Connection::with(16);
        let rare = connection.losses_apart(6 * 60 * SECOND, &[7; 50]);
        assert_eq!(rare.iter().filter(|action| **action != NONE).count(), 0);
    }
}
