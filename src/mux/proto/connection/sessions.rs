//! The table of a connection's sessions, with cached answers to questions that are asked after
//! every read.
//!
//! With many sessions the answers seldom change, so they are computed again only after a session
//! may have changed.
//! them may have changed.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    time::Instant,
};

use super::session::Session;
use crate::mux::proto::command::SessionKey;

#[derive(Debug, Default)]
pub(crate) struct SessionTable {
    sessions: BTreeMap<SessionKey, Session>,
    /// The next keep-alive, with whether reading was paused then; `None` if it has to be computed.
    next_keep_alive: Option<(bool, Option<Instant>)>,
    /// The number of sessions being torn down; `None` if it has to be counted.
    tearing_down: Option<usize>,
}

impl SessionTable {
    /// When the next keep-alive is due.
    pub(crate) fn next_keep_alive(&mut self, is_reading: bool) -> Option<Instant> {
        match self.next_keep_alive {
            Some((was_reading, due)) if was_reading == is_reading => due,
            _ => {
                let sessions = self.sessions.values();
                let due = sessions.filter_map(|session| session.keep_alive_due(is_reading));
                let next = due.min();
                self.next_keep_alive = Some((is_reading, next));
                next
            }
        }
    }

    /// The number of sessions being torn down, which the server may still have.
    pub(crate) fn tearing_down(&mut self) -> usize {
        let tearing_down = self
            .sessions
            .values()
            .filter(|session| session.is_tearing_down());
        *self
            .tearing_down
            .get_or_insert_with(|| tearing_down.count())
    }
}

impl Deref for SessionTable {
    type Target = BTreeMap<SessionKey, Session>;

    fn deref(&self) -> &Self::Target {
        &self.sessions
    }
}

/// Any mutable access may change a session, so it drops the cached answers.
impl DerefMut for SessionTable {
    fn deref_mut(&mut self) -> &mut Self::Target {
        (self.next_keep_alive, self.tearing_down) = (None, None);
        &mut self.sessions
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use url::Url;

    use super::*;
    use crate::mux::proto::{
        command::SessionConfig,
        connection::session::{SessionPhase, TeardownState},
    };

    fn session(key: SessionKey, now: Instant) -> Session {
        let config = SessionConfig {
            url: Url::parse("rtsp://nvr/1").unwrap(),
            keep_alive: true,
        };
        let mut session = Session::new(key, config, Duration::from_secs(60));
        session.id = Some("1".to_owned());
        session.phase = SessionPhase::Ready;
        session.last_request = Some(now);
        session
    }

    #[test]
    fn what_changes_a_session_changes_when_the_next_one_is_due() {
        let now = Instant::now();
        let mut table = SessionTable::default();
        assert_eq!(table.next_keep_alive(true), None);
        table.insert(SessionKey(0), session(SessionKey(0), now));
        let due = table.next_keep_alive(true).unwrap();
        assert_eq!(table.next_keep_alive(true), Some(due));
        let later = Duration::from_secs(5);
        table.get_mut(&SessionKey(0)).unwrap().last_request = Some(now + later);
        assert_eq!(table.next_keep_alive(true), Some(due + later));
        table
            .get_mut(&SessionKey(0))
            .unwrap()
            .keep_alive_outstanding = true;
        assert_eq!(table.next_keep_alive(true), None);
        assert_eq!(table.next_keep_alive(false), Some(due + later), "unheard");
        table.remove(&SessionKey(0));
        assert_eq!(table.next_keep_alive(false), None);
    }

    #[test]
    fn who_leaves_is_counted_until_it_has_left() {
        let key = SessionKey(0);
        let mut table = SessionTable::default();
        table.insert(key, session(key, Instant::now()));
        assert_eq!(table.tearing_down(), 0);
        table.get_mut(&key).unwrap().teardown_state = TeardownState::UnderWay;
        assert_eq!((table.tearing_down(), table.tearing_down()), (1, 1));
        table.remove(&key);
        assert_eq!(table.tearing_down(), 0);
    }
}
