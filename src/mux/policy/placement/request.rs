//! What a caller asks of the table, and what it is answered.

use crate::mux::ids::{ConnectionId, PresentationUri};

/// What one caller asks for. Limits are the caller's own.
#[derive(Clone, Debug)]
pub(crate) struct PlacementRequest<S, K> {
    /// The server: what limits are counted for.
    pub(crate) server: S,
    /// Who may share a connection to it.
    pub(crate) key: K,
    /// Pooled connections the server may have; none: no limit.
    pub(crate) max_connections: Option<u32>,
    /// References beyond which another connection is preferred.
    pub(crate) preferred_sessions: u32,
    /// Sessions not yet set up beyond which another connection is preferred, if it would not be.
    pub(crate) batch: u32,
    /// What it is to be used for: servers that are not known to share stay with the first
    /// presentation that was asked for on a connection (go2rtc, ZLMediaKit).
    pub(crate) presentation: PresentationUri,
    /// A connection of its own, which does not count against the limit, whatever there is.
    pub(crate) is_dedicated: bool,
    /// With whom it may be shared.
    pub(crate) shared_with: SharedWith,
    /// Whether a DESCRIBE is to be made on it.
    pub(crate) describes: Describes,
    /// Set where it waited to be described at a server that takes its time for each DESCRIBE: how many
    /// describe-only connections the server may have for it.
    pub(crate) describe_only: Option<u32>,
    /// References beyond which no connection takes another one.
    pub(crate) ceiling: u32,
    /// Where nothing fits, a connection is made that does not count: for those that are only to be
    /// described there one together, else one of its own.
    pub(crate) overflows: bool,
    /// Whether to wait when nothing fits and no room is being made either.
    pub(crate) patient: bool,
    /// Connections that were tried already.
    pub(crate) avoid: Vec<ConnectionId>,
    /// Connections whose server is busy with something: others are preferred.
    pub(crate) shun: Vec<ConnectionId>,
    /// Only a connection younger than this one will do: whatever is older may be as stale.
    pub(crate) younger_than: Option<ConnectionId>,
}

impl<S: Clone, K: Clone> PlacementRequest<S, K> {
    /// The same once it is described.
    pub(crate) fn described(&self) -> Self {
        Self {
            describes: Describes::Nothing,
            ..self.clone()
        }
    }

    /// Whether it is to go to those that play as soon as it is described.
    pub(crate) fn is_only_described(&self) -> bool {
        self.shared_with == SharedWith::Any && self.describes != Describes::Nothing
    }
}

/// With which sessions a caller may share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharedWith {
    /// With all: the server shares, or is to.
    Any,
    /// Only with sessions that do not play yet: the server is being tried.
    NotPlaying,
    /// With none.
    Alone,
}

/// What a caller will do first on a connection that others play on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Describes {
    /// Nothing that could do harm: what it plays is described.
    Nothing,
    /// DESCRIBE, which the server stands: not where sessions expire so soon that they cannot wait
    /// behind a slow one.
    InBand,
    /// DESCRIBE, which may cost the connection (MediaMTX closes it behind a 404).
    Aside,
}

/// The table's answer to a [`PlacementRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// This one; a reference to it was counted. It may still be connecting.
    Existing(ConnectionId),
    /// A new one, which the owner is to connect; a reference to it was counted.
    Connect(ConnectionId),
    /// None yet: wait with [`Table::enqueue`](super::Table::enqueue).
    Wait {
        /// An idle connection of another key, retired to make room, which the owner is to close.
        close: Option<ConnectionId>,
    },
    /// None, and none is to be expected.
    Refused,
}
