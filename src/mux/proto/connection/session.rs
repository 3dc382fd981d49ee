//! The sessions of a connection as the server knows them: id, state (RFC 2326 A.1) and teardown.
//!
//! The table caches the answers to questions that are asked after every read. With many sessions
//! they seldom change, so they are computed again only after a session may have changed.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    time::{Duration, Instant},
};

use url::Url;

use super::requests::Draft;
use crate::mux::proto::{
    auth::Asked,
    command::{RequestId, SessionConfig, SessionKey},
};

/// The longest interval; announced timeouts of hours cannot be trusted.
const LONGEST: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(1);
/// How long a slow request of another session may hold a keep-alive up, plus one second for the
/// answer.
const HEAD_OF_LINE: Duration = Duration::from_secs(21);
/// The share of the interval over which the sessions' keep-alives are spread, downwards only.
const SPREAD: f64 = 0.1;

/// Time between two requests of a session with this timeout. `position`, 0 to 1, spreads sessions
/// that began together.
fn interval(session_timeout: Duration, position: f64) -> Duration {
    let expiry = session_timeout.mul_f64(0.8);
    let in_time = expiry.saturating_sub(HEAD_OF_LINE).max(session_timeout / 4);
    let interval = LONGEST.min(session_timeout.mul_f64(0.4)).min(in_time);
    interval
        .mul_f64(1.0 - SPREAD * position.clamp(0.0, 1.0))
        .max(SHORTEST)
}

#[derive(Debug)]
pub(crate) struct CoreSession {
    pub(crate) config: SessionConfig,
    /// The server's id for it; `None` before the first answered SETUP, and empty if the server names none.
    pub(crate) id: Option<String>,
    timeout: Duration,
    pub(crate) phase: SessionPhase,
    pub(crate) teardown_state: TeardownState,
    /// The aggregate control URL, known from the description or the first PLAY on.
    aggregate: Option<Url>,
    has_played: bool,
    /// Since when it plays, from its first PLAY on.
    playing_since: Option<Instant>,
    /// When its last request was written, or its last keep-alive was due. The next keep-alive
    /// counts from there.
    pub(crate) last_request: Option<Instant>,
    pub(crate) keep_alive_outstanding: bool,
    /// The server gave its id to another session before it played. The server may have replaced the
    /// presentation of this one (aio-rtsp-toolkit), and a TEARDOWN would end both.
    pub(crate) is_replaced: bool,
    /// How long its callers wait for answers, if less than the connection does.
    pub(crate) patience: Option<Duration>,
    /// The position of its keep-alives between those of other sessions, 0 to 1.
    spread: f64,
    /// The time between two keep-alives. Derived from the fields above, and cached because it is
    /// needed after every read.
    keep_alive_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionPhase {
    Init,
    Ready,
    Playing,
    /// Ready again, after it has played.
    Paused,
    /// The server has ended it.
    Lost,
}

/// The teardown of a session. It owes the server one TEARDOWN as soon as its id is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TeardownState {
    None,
    /// Released, or torn down by the caller named. The TEARDOWN was not sent yet.
    Due(Option<RequestId>),
    /// The TEARDOWN is queued or sent.
    UnderWay,
}

impl CoreSession {
    pub(crate) fn new(key: SessionKey, config: SessionConfig, default_timeout: Duration) -> Self {
        /// Multiples of the golden ratio fill an interval evenly, however many there are.
        const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
        let spread = (f64::from(key.0) * GOLDEN_RATIO).fract();
        Self {
            config,
            id: None,
            timeout: default_timeout,
            phase: SessionPhase::Init,
            teardown_state: TeardownState::None,
            aggregate: None,
            has_played: false,
            playing_since: None,
            last_request: None,
            keep_alive_outstanding: false,
            is_replaced: false,
            patience: None,
            spread,
            keep_alive_interval: interval(default_timeout, spread),
        }
    }

    /// The time without a request after which the server drops the session.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The server has announced a session timeout.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
        self.keep_alive_interval = interval(timeout, self.spread);
    }

    pub(crate) fn is_tearing_down(&self) -> bool {
        self.teardown_state != TeardownState::None
    }

    pub(crate) fn is_playing(&self) -> bool {
        self.phase == SessionPhase::Playing && !self.is_tearing_down()
    }

    /// True if it does not play yet.
    pub(crate) fn is_coming_up(&self) -> bool {
        matches!(self.phase, SessionPhase::Init | SessionPhase::Ready) && !self.is_tearing_down()
    }

    /// True if it has a stream, and the server has not ended it.
    pub(crate) fn is_set_up(&self) -> bool {
        matches!(
            self.phase,
            SessionPhase::Ready | SessionPhase::Playing | SessionPhase::Paused
        )
    }

    pub(crate) fn on_playing(&mut self, now: Instant) {
        self.phase = SessionPhase::Playing;
        self.playing_since.get_or_insert(now);
    }

    /// How much of its media has passed.
    pub(crate) fn played(&self, now: Instant) -> Duration {
        let since = self.playing_since;
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// True if a server that did not see its keep-alives would let it expire about now.
    pub(crate) fn has_just_expired(&self, now: Instant) -> bool {
        let age = self
            .playing_since
            .map(|since| now.saturating_duration_since(since));
        let is_about = |age| age >= self.timeout.mul_f64(0.8) && age <= self.timeout.mul_f64(1.5);
        self.is_playing() && age.is_some_and(is_about)
    }

    /// True if PLAY was requested, whatever the result.
    pub(crate) fn has_played(&self) -> bool {
        self.has_played
    }

    /// The URL of requests for the session as a whole.
    pub(crate) fn aggregate(&self) -> &Url {
        self.aggregate.as_ref().unwrap_or(&self.config.url)
    }

    /// The aggregate URL of its description; that of the caller, at PLAY, takes precedence.
    pub(crate) fn on_described(&mut self, aggregate: Url) {
        self.aggregate.get_or_insert(aggregate);
    }

    pub(crate) fn begin_to_play(&mut self, aggregate: Url) {
        self.aggregate = Some(aggregate);
        self.has_played = true;
    }

    /// The machine was suspended: time has passed at the server that our clock did not count.
    pub(crate) fn on_suspend(&mut self, suspended: Duration) {
        let passed = suspended.min(self.keep_alive_interval);
        if let Some(last) = &mut self.last_request {
            *last = last.checked_sub(passed).unwrap_or(*last);
        }
    }

    /// True if the session needs keep-alives.
    pub(crate) fn is_kept_alive(&self) -> bool {
        self.config.keep_alive && self.id.is_some() && !self.is_tearing_down() && self.is_set_up()
    }

    /// True if it needs a keep-alive before the connection is blocked for up to `wait`: its
    /// keep-alive falls due in that time, and its last request is not recent. Servers expire
    /// sessions at 0.8 of what they announce.
    pub(crate) fn is_late_after(&self, now: Instant, wait: Duration, is_reading: bool) -> bool {
        const JUST_NOW: Duration = Duration::from_secs(1);
        let due = self.keep_alive_due(is_reading);
        let falls_due = due.is_some_and(|due| due <= now + wait);
        let Some(last) = self.last_request.filter(|_| falls_due) else {
            return false;
        };
        let age = now.saturating_duration_since(last);
        let may_expire = age + wait + JUST_NOW >= self.timeout.mul_f64(0.8);
        age >= self.keep_alive_interval / 2 || (may_expire && age >= JUST_NOW)
    }

    /// When its next keep-alive is due. One at a time, except while reading is paused and no answer
    /// can arrive.
    pub(crate) fn keep_alive_due(&self, is_reading: bool) -> Option<Instant> {
        let is_one_too_many = self.keep_alive_outstanding && is_reading;
        let is_wanted = self.is_kept_alive() && !is_one_too_many;
        let last = self.last_request.filter(|_| is_wanted)?;
        Some(last + self.keep_alive_interval)
    }
}

#[derive(Debug, Default)]
pub(crate) struct SessionTable {
    sessions: BTreeMap<SessionKey, CoreSession>,
    /// The next keep-alive, with whether reading was paused then; `None` if it has to be computed.
    next_keep_alive: Option<(bool, Option<Instant>)>,
    /// The number of sessions being torn down; `None` if it has to be counted.
    tearing_down: Option<usize>,
}

impl SessionTable {
    /// True if the session exists and `holds` of it.
    pub(crate) fn is(&self, key: SessionKey, holds: impl FnOnce(&CoreSession) -> bool) -> bool {
        self.sessions.get(&key).is_some_and(holds)
    }

    /// The sessions of which `holds` is true, in order.
    pub(crate) fn keys_where(&self, holds: impl Fn(&CoreSession) -> bool) -> Vec<SessionKey> {
        let found = self.sessions.iter().filter(|(_, session)| holds(session));
        found.map(|(key, _)| *key).collect()
    }

    /// The session of a request.
    pub(crate) fn of(&self, draft: &Draft) -> Option<&CoreSession> {
        self.sessions.get(&draft.session?)
    }

    /// A request as authentication sees it: its presentation is that of its session, or its URL.
    pub(crate) fn asked<'a>(&'a self, draft: &'a Draft) -> Asked<'a> {
        let session = self.of(draft);
        let home = session.map_or(&draft.url, |session| &session.config.url);
        Asked {
            method: <&str>::from(&draft.method),
            uri: draft.url.as_str(),
            home: home.as_str(),
            is_of_session: session.is_some(),
        }
    }

    /// The session to which the server gave this id.
    pub(crate) fn with_id(&self, id: &str) -> Option<SessionKey> {
        let mut sessions = self.sessions.iter();
        let found = sessions.find(|(_, session)| session.id.as_deref() == Some(id));
        found.map(|(key, _)| *key)
    }

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
        let sessions = self.sessions.values();
        let count = || sessions.filter(|session| session.is_tearing_down()).count();
        *self.tearing_down.get_or_insert_with(count)
    }
}

impl Deref for SessionTable {
    type Target = BTreeMap<SessionKey, CoreSession>;

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

    fn seconds(timeout: u64) -> f64 {
        interval(Duration::from_secs(timeout), 0.0).as_secs_f64()
    }

    #[test]
    fn intervals_of_common_timeouts() {
        assert_eq!(seconds(60), 24.0);
        assert_eq!(seconds(15), 3.75);
        assert_eq!(seconds(30), 7.5);
        assert_eq!(seconds(3600), 30.0);
        assert_eq!(seconds(1), 1.0);
    }

    #[test]
    fn f26_two_intervals_fit_before_the_earliest_expiry_seen() {
        for timeout in 4..7200 {
            for position in [0.0, 0.5, 1.0] {
                let timeout = Duration::from_secs(timeout);
                assert!(
                    2 * interval(timeout, position) <= timeout.mul_f64(0.8),
                    "{timeout:?}"
                );
            }
        }
    }

    #[test]
    fn spread_goes_down_only() {
        let full = interval(Duration::from_secs(60), 0.0);
        let spread = interval(Duration::from_secs(60), 1.0);
        assert!(spread < full && spread >= full.mul_f64(0.89));
    }
    fn session(key: SessionKey, now: Instant) -> CoreSession {
        let config = SessionConfig {
            url: Url::parse("rtsp://nvr/1").unwrap(),
            keep_alive: true,
            block_size: None,
        };
        let mut session = CoreSession::new(key, config, Duration::from_secs(60));
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
