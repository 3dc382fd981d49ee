//! The sessions of a connection, and when the next one of them is to be kept alive.
//!
//! Whoever polls wants to know that whenever something was read, and with many sessions most of the
//! time it is what it was: it is worked out again only when a session may have changed.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    time::Instant,
};

use super::{command::SessionKey, session::Session};

#[derive(Debug, Default)]
pub(super) struct Roster {
    sessions: BTreeMap<SessionKey, Session>,
    /// The next keep-alive, when answers are heard or not; none: to be worked out.
    next_keep_alive: Option<(bool, Option<Instant>)>,
}

impl Roster {
    /// When the next keep-alive is due.
    pub(super) fn next_keep_alive(&mut self, is_listening: bool) -> Option<Instant> {
        match self.next_keep_alive {
            Some((was_listening, due)) if was_listening == is_listening => due,
            _ => {
                let sessions = self.sessions.values();
                let due = sessions.filter_map(|session| session.keep_alive_due(is_listening));
                let next = due.min();
                self.next_keep_alive = Some((is_listening, next));
                next
            }
        }
    }
}

impl Deref for Roster {
    type Target = BTreeMap<SessionKey, Session>;

    fn deref(&self) -> &Self::Target {
        &self.sessions
    }
}

/// To change one, or which there are.
impl DerefMut for Roster {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.next_keep_alive = None;
        &mut self.sessions
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use url::Url;

    use super::*;
    use crate::mux::proto::{command::SessionConfig, session::Phase};

    #[test]
    fn what_changes_a_session_changes_when_the_next_one_is_due() {
        let (now, timeout) = (Instant::now(), Duration::from_secs(60));
        let config = SessionConfig {
            url: Url::parse("rtsp://nvr/1").unwrap(),
            keep_alive: true,
        };
        let session = |key| {
            let mut session = Session::new(key, config.clone(), timeout);
            session.id = Some("1".to_owned());
            session.phase = Phase::Ready;
            session.last_request = Some(now);
            session
        };
        let mut roster = Roster::default();
        assert_eq!(roster.next_keep_alive(true), None);
        roster.insert(SessionKey(0), session(SessionKey(0)));
        let due = roster.next_keep_alive(true).unwrap();
        assert_eq!(roster.next_keep_alive(true), Some(due));
        let later = Duration::from_secs(5);
        roster.get_mut(&SessionKey(0)).unwrap().last_request = Some(now + later);
        assert_eq!(roster.next_keep_alive(true), Some(due + later));
        roster
            .get_mut(&SessionKey(0))
            .unwrap()
            .keep_alive_outstanding = true;
        assert_eq!(roster.next_keep_alive(true), None);
        assert_eq!(roster.next_keep_alive(false), Some(due + later), "unheard");
        roster.remove(&SessionKey(0));
        assert_eq!(roster.next_keep_alive(false), None);
    }
}
