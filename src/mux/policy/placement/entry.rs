//! One connection, as the table knows it.

use super::request::{DescribeMode, PlacementRequest, SharedWith};
use crate::mux::ids::{ConnectionId, PresentationUri};

/// Who may use a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// All sessions with an equal key; counts against the server's limit.
    Pooled,
    /// All sessions with an equal key that are only to be described there and then go to the
    /// connections that play; does not count.
    DescribeOnly,
    /// The one it was made for; does not count.
    Dedicated,
}

/// The state of a connection, as far as handing it out goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionPhase {
    /// The one attempt that all its callers wait for is under way.
    Connecting,
    /// Connected.
    Open,
    /// Never handed out again; counts until it is removed.
    Closing,
}

/// One connection in the table.
#[derive(Clone, Debug)]
pub(crate) struct TableEntry<S, K, C> {
    /// What the pool keeps of it.
    pub(crate) record: C,
    pub(crate) server: S,
    pub(crate) key: K,
    pub(crate) purpose: Purpose,
    pub(crate) phase: ConnectionPhase,
    /// The presentation it was made for.
    pub(crate) presentation: PresentationUri,
    /// A session on it plays, or is about to.
    pub(crate) is_playing: bool,
    /// A session on it expires so soon that it cannot wait behind a slow request.
    pub(crate) is_pressed: bool,
    /// Live handles. The driver's own use of the connection is not counted.
    pub(crate) references: u32,
    /// Of these, those whose sessions are set up.
    pub(crate) set_up: u32,
    /// Those that are to be described here first.
    pub(crate) undescribed: u32,
    /// Whether new sessions may be put on it.
    pub(crate) takes_sessions: bool,
}

impl<S: Clone + PartialEq, K: Clone + PartialEq, C> TableEntry<S, K, C> {
    /// A connection that is made for this request.
    pub(super) fn new(request: &PlacementRequest<S, K>, purpose: Purpose, record: C) -> Self {
        Self {
            record,
            server: request.server.clone(),
            key: request.key.clone(),
            purpose,
            phase: ConnectionPhase::Connecting,
            presentation: request.presentation.clone(),
            is_playing: false,
            is_pressed: false,
            references: 1,
            set_up: 0,
            undescribed: u32::from(request.describes != DescribeMode::Nothing),
            takes_sessions: true,
        }
    }

    pub(crate) fn counts_for(&self, server: &S) -> bool {
        self.purpose == Purpose::Pooled && self.server == *server
    }

    /// Whether it may be handed out for `request` at all, purpose and load aside.
    pub(crate) fn suits(&self, id: ConnectionId, request: &PlacementRequest<S, K>) -> bool {
        self.server == request.server
            && self.key == request.key
            && self.phase != ConnectionPhase::Closing
            && self.takes_sessions
            && self.is_company_for(request)
            && self.bears(request.describes)
            && !request.avoid.contains(&id)
            && request.younger_than.is_none_or(|old| id > old)
    }

    pub(crate) fn bears(&self, describes: DescribeMode) -> bool {
        match describes {
            DescribeMode::Nothing => true,
            DescribeMode::InBand => !self.is_pressed,
            DescribeMode::Separate => !self.is_playing,
        }
    }

    fn is_company_for(&self, request: &PlacementRequest<S, K>) -> bool {
        let is_free = self.references == 0 && self.presentation == request.presentation;
        match request.shared_with {
            SharedWith::Any => true,
            SharedWith::NotPlaying => is_free || (self.references > 0 && !self.is_playing),
            SharedWith::Alone => is_free,
        }
    }

    /// Sessions that are not set up yet.
    pub(crate) fn coming_up(&self) -> u32 {
        self.references.saturating_sub(self.set_up)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.phase == ConnectionPhase::Open && self.references == 0
    }
}
