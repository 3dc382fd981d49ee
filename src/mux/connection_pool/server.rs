//! What the pool knows of one server apart from its connections: it is learned under the lock, told to the
//! sessions that wait for it, and kept in the state file.

use super::ConnectionPool;
use crate::mux::{
    clock,
    driver::{Command, DriverHandle},
    event::SharingVerdict,
    policy::{
        placement::{Unanswered, most_describe_only},
        server_speed::ServerSpeed,
        sharing::{
            Sharing,
            play_gate::{REGROUP, describe_patience, lost_patience, patience},
        },
    },
    proto::{KeepAliveMethod, Measures, ProbeOutcome, Realms, Tag},
    server_key::{ConnectionKey, ServerId},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};
use url::Url;

/// One server.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) sharing: Sharing,
    pub(super) speed: ServerSpeed,
    pub(super) realms: Realms,
    pub(super) keep_alive: KeepAliveMethod,
    /// How long the last two DESCRIBEs took that were answered, the latest one last.
    describes_took: [Option<Duration>; 2],
    /// Sessions that were announced and are not opened yet.
    pub(super) intents: Vec<Arc<ConnectionKey>>,
    /// Until when no session that plays is moved: moving one did not help.
    pub(super) rests_until: Option<Instant>,
    /// When the pool last reported that a limit of the user prevents a move.
    pub(super) limit_told: Option<Instant>,
    /// So many describe-only connections the server was seen to take, and how long that holds: it did
    /// not take one more.
    pub(super) describe_only_cap: Option<(u32, Instant)>,
    /// It has answered on a describe-only connection, and so has room for them.
    pub(super) has_served_describe_only: bool,
    pub(super) unanswered: Unanswered,
    /// Signalled whenever something changes that a session may wait for before its PLAY.
    changed: watch::Sender<()>,
}

impl Server {
    /// A server, with what the state file holds of it.
    pub(super) fn with(sharing: Sharing, speed: ServerSpeed) -> Self {
        Self {
            sharing,
            speed,
            ..Self::default()
        }
    }

    pub(super) fn on_described(&mut self, took: Duration) {
        let [_, last] = self.describes_took;
        self.describes_took = [last, Some(took)];
        self.notify();
    }

    /// Takes over how long a DESCRIBE took that was alone on its connection, where that says how long the
    /// server works on it.
    pub(super) fn on_lone_describe(&mut self, measures: &Measures) {
        if let Some(took) = measures.lone_describe
            && !self.sharing.is_in_order()
        {
            self.speed.on_described(took);
        }
    }

    /// How long a session lets its request wait behind that of another session before it goes
    /// elsewhere. One slow camera says nothing about the others.
    pub(super) fn patience(&self) -> Duration {
        self.usual_describe().map_or(REGROUP, patience)
    }

    fn usual_describe(&self) -> Option<Duration> {
        self.describes_took.into_iter().flatten().min()
    }

    /// How long a session waits behind a DESCRIBE that keeps its own request from being sent at all,
    /// before it goes elsewhere.
    pub(super) fn describe_patience(&self) -> Duration {
        let took = self.usual_describe().unwrap_or_default();
        describe_patience(took)
    }

    /// How long a session waits behind a DESCRIBE that the server may have lost. The longer one counts:
    /// live555 answers at once for a file that it knows, and takes 100 ms for others.
    pub(super) fn lost_patience(&self) -> Duration {
        match self.describes_took.into_iter().flatten().max() {
            Some(took) => lost_patience(took),
            None => self.describe_patience(),
        }
    }

    /// Whether it is known that a DESCRIBE is soon answered, so that several may go out together. One
    /// answer does not show it: live555 keeps what it has found out of a file.
    pub(super) fn is_quick_to_describe(&self) -> bool {
        self.describes_took.iter().all(Option::is_some) && !self.speed.is_slow_to_describe()
    }

    /// How many describe-only connections the server may have for a session whose user allows `limit` of
    /// those that count: none unless one DESCRIBE takes so long that they pay, nor once the server was
    /// full.
    pub(super) fn most_describe_only(&self, now: Instant, limit: u32) -> u32 {
        if !self.speed.is_worth_describe_only() || self.sharing.has_said_full {
            return 0;
        }
        let cap = self.describe_only_cap.filter(|(_, until)| now < *until);
        cap.map_or(u32::MAX, |(cap, _)| cap)
            .min(most_describe_only(limit))
    }

    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether a session waits for a change of the server. If the pool forgot such a server, the
    /// session would hear of no change.
    pub(super) fn is_watched(&self) -> bool {
        self.changed.receiver_count() > 0
    }

    pub(super) fn notify(&self) {
        self.changed.send_replace(());
    }
}

/// A path that no server has.
const MISSING: &str = "/rtspmux-is-not-there";

/// Verdict, reason for a No, age.
pub(super) type SharingStats = (SharingVerdict, Option<String>, Option<Duration>);

impl ConnectionPool {
    /// Learns something of a server's sharing.
    pub(crate) fn learn<T>(&self, server: &ServerId, lesson: impl FnOnce(&mut Sharing) -> T) -> T {
        self.change(|state| state.learn(server, clock::now(), lesson))
    }

    /// What is known of a server's sharing.
    pub(crate) fn sharing<T>(&self, server: &ServerId, question: impl FnOnce(&Sharing) -> T) -> T {
        question(&self.lock().server(server).sharing)
    }

    /// The realm of a presentation of a server, as far as is known.
    pub(crate) fn realm(&self, server: &ServerId, presentation: &Url) -> Option<Tag> {
        let presentation = Tag::of(presentation.as_str());
        self.lock().server(server).realms.of(presentation)
    }

    /// Verdict, reason and age, for the statistics.
    pub(crate) fn sharing_stats(&self, server: &ServerId) -> SharingStats {
        self.lock().sharing_stats(server, clock::now())
    }

    /// Signalled whenever something changes at a server.
    pub(super) fn watch(&self, server: &ServerId) -> watch::Receiver<()> {
        self.lock().server(server).watch()
    }

    /// Whether sessions have ended that may still take up room at the server.
    pub(crate) fn has_pending_teardowns(&self, server: &ServerId) -> bool {
        self.lock().has_pending_teardowns(server)
    }

    /// Finds out whether a connection on which nothing plays survives a DESCRIBE that fails, unless
    /// that is known or another session is finding it out.
    pub(crate) fn probe(
        &self,
        driver: &DriverHandle,
        known: &Url,
    ) -> Option<oneshot::Receiver<ProbeOutcome>> {
        let missing = known.join(MISSING).ok()?;
        {
            let mut state = self.lock();
            let sharing = &mut state.server(&driver.server).sharing;
            if !sharing.wants_probe() {
                return None;
            }
            sharing.probe.begin();
            state.table.keep_others_away(driver.id);
        }
        let known = known.clone();
        let outcome = driver.ask(|done| Command::Probe {
            missing,
            known,
            done,
        });
        if driver.has_ended() && outcome.is_empty() {
            self.learn(&driver.server, |sharing| {
                sharing.on_probed(ProbeOutcome::Undecided)
            });
        }
        Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_camera_makes_no_session_wait_longer_for_the_others() {
        let mut server = Server::default();
        assert_eq!(server.patience(), REGROUP);
        let (usual, slow) = (Duration::from_millis(200), Duration::from_secs(20));
        server.on_described(usual);
        server.on_described(slow);
        assert_eq!(server.patience(), patience(usual));
        server.on_described(slow);
        assert_eq!(server.patience(), patience(slow));
    }

    #[test]
    fn one_quick_answer_does_not_make_the_next_describe_a_lost_one() {
        let mut server = Server::default();
        let (known, new) = (Duration::from_millis(1), Duration::from_millis(100));
        server.on_described(known);
        assert!(!server.is_quick_to_describe());
        server.on_described(new);
        assert_eq!(server.lost_patience(), lost_patience(new));
        server.on_described(known);
        server.on_described(known);
        assert!(server.is_quick_to_describe());
        assert_eq!(server.lost_patience(), lost_patience(known));
    }

    #[test]
    fn a_server_is_watched_as_long_as_a_session_waits() {
        let server = Server::default();
        assert!(!server.is_watched());
        let watch = server.watch();
        assert!(server.is_watched());
        drop(watch);
        assert!(!server.is_watched());
    }
}
