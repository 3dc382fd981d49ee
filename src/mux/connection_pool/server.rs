//! What the pool knows of one server, apart from its connections.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::intent::IntentId;
use crate::mux::{
    pace::Pace,
    server_key::ConnectionKey,
    sharing::{
        Sharing,
        gate::{REGROUP, patience},
    },
};

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) sharing: Sharing,
    pub(super) pace: Pace,
    /// How long the last DESCRIBE took that was answered.
    describe_took: Option<Duration>,
    /// Sessions that were announced and have not come.
    pub(super) intents: Vec<(IntentId, ConnectionKey)>,
    /// Until when no session that plays is moved: it did not help.
    pub(super) rests_until: Option<Instant>,
    /// When it was last told that a limit of the user hurts.
    pub(super) limit_told: Option<Instant>,
    /// Told whenever anything changes that a session held before its PLAY may wait for.
    changed: watch::Sender<()>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self::with(Sharing::default(), Pace::default())
    }

    /// A server of which so much is remembered.
    pub(super) fn with(sharing: Sharing, pace: Pace) -> Self {
        Self {
            sharing,
            pace,
            describe_took: None,
            intents: Vec::new(),
            rests_until: None,
            limit_told: None,
            changed: watch::Sender::new(()),
        }
    }

    pub(super) fn on_described(&mut self, took: Duration) {
        self.describe_took = Some(took);
        self.notify();
    }

    /// How long a request waits behind another one's before its session turns elsewhere.
    pub(super) fn patience(&self) -> Duration {
        self.describe_took.map_or(REGROUP, patience)
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
    fn a_server_is_watched_as_long_as_somebody_waits() {
        let server = Server::new();
        assert!(!server.is_watched());
        let watch = server.watch();
        assert!(server.is_watched());
        drop(watch);
        assert!(!server.is_watched());
    }
}
