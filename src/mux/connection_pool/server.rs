//! What the pool knows of one server, apart from its connections.

use tokio::sync::watch;

use super::intent::IntentId;
use crate::mux::{pace::Pace, server_key::ConnectionKey, sharing::Sharing};

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) sharing: Sharing,
    pub(super) pace: Pace,
    /// Sessions that were announced and have not come.
    pub(super) intents: Vec<(IntentId, ConnectionKey)>,
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
            intents: Vec::new(),
            changed: watch::Sender::new(()),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn notify(&self) {
        self.changed.send_replace(());
    }
}
