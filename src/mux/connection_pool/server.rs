//! What the pool knows of one server, apart from its connections.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::handle::IntentId;
use crate::mux::{
    policy::{
        server_speed::ServerSpeed,
        sharing::{
            Sharing,
            play_gate::{REGROUP, SHORTEST_DESCRIBE_PATIENCE, describe_patience, patience},
        },
        unanswered::Unanswered,
    },
    proto::Realms,
    server_key::ConnectionKey,
};

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) sharing: Sharing,
    pub(super) speed: ServerSpeed,
    pub(super) realms: Realms,
    /// How long the last two DESCRIBEs took that were answered, the latest one last.
    describes_took: [Option<Duration>; 2],
    /// Sessions that were announced and have not come.
    pub(super) intents: Vec<(IntentId, ConnectionKey)>,
    /// Until when no session that plays is moved: it did not help.
    pub(super) rests_until: Option<Instant>,
    /// When it was last told that a limit of the user hurts.
    pub(super) limit_told: Option<Instant>,
    /// Until when no describe-only connection is made: it did not take one.
    pub(super) no_describe_only_before: Option<Instant>,
    /// It has answered on a describe-only connection, and so has room for them.
    pub(super) has_served_describe_only: bool,
    pub(super) unanswered: Unanswered,
    /// Told whenever anything changes that a session held before its PLAY may wait for.
    changed: watch::Sender<()>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self::with(Sharing::default(), ServerSpeed::default())
    }

    /// A server of which so much is remembered.
    pub(super) fn with(sharing: Sharing, speed: ServerSpeed) -> Self {
        Self {
            sharing,
            speed,
            realms: Realms::default(),
            describes_took: [None; 2],
            intents: Vec::new(),
            rests_until: None,
            limit_told: None,
            no_describe_only_before: None,
            has_served_describe_only: false,
            unanswered: Unanswered::default(),
            changed: watch::Sender::new(()),
        }
    }

    pub(super) fn on_described(&mut self, took: Duration) {
        let [_, last] = self.describes_took;
        self.describes_took = [last, Some(took)];
        self.notify();
    }

    /// How long a request waits behind another one's before its session turns elsewhere. One slow
    /// camera says nothing about the others.
    pub(super) fn patience(&self) -> Duration {
        let took = self.describes_took.into_iter().flatten().min();
        took.map_or(REGROUP, patience)
    }

    /// How long a DESCRIBE may keep those that wait behind it from being sent at all, before they turn
    /// elsewhere.
    pub(super) fn describe_patience(&self) -> Duration {
        let took = self.describes_took.into_iter().flatten().min();
        took.map_or(SHORTEST_DESCRIBE_PATIENCE, describe_patience)
    }

    /// Whether it is known that a DESCRIBE is soon answered, so that several may go out together.
    pub(super) fn is_quick_to_describe(&self) -> bool {
        let is_known = self.speed.work_per_session.is_some() || self.describes_took[1].is_some();
        is_known && !self.speed.is_slow_to_describe()
    }

    /// Whether describe-only connections may be made: one DESCRIBE takes so long that they pay, and the
    /// server was never short of room.
    pub(super) fn may_describe_only(&self, now: Instant) -> bool {
        self.speed.is_worth_describe_only()
            && !self.sharing.has_said_full()
            && self
                .no_describe_only_before
                .is_none_or(|before| now >= before)
    }

    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether anybody waits to be told: forgotten, it would tell him nothing, again and again.
    pub(super) fn is_watched(&self) -> bool {
        self.changed.receiver_count() > 0
    }

    pub(super) fn notify(&self) {
        self.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_camera_makes_nobody_wait_longer_for_the_others() {
        let mut server = Server::new();
        assert_eq!(server.patience(), REGROUP);
        let (usual, slow) = (Duration::from_millis(200), Duration::from_secs(20));
        server.on_described(usual);
        server.on_described(slow);
        assert_eq!(server.patience(), patience(usual));
        server.on_described(slow);
        assert_eq!(server.patience(), patience(slow));
    }

    #[test]
    fn a_server_is_watched_as_long_as_somebody_waits() {
        let server = Server::new();
        assert!(!server.is_watched());
        let watch = server.watch();
        assert!(server.is_watched());
        drop(watch);
        assert!(!server.is_watched());
    }
}
