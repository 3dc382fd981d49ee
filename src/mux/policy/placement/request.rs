//! What a caller asks of the table, what the table answers, and with which sessions one may share a
//! connection by its settings and the sharing verdict.

use crate::mux::{
    config::{Multiplex, Pooling},
    ids::{ConnectionId, PresentationUri},
    policy::sharing::SharingMode,
    server_key::{ConnectionKey, ServerId},
    stats::ConnectionState,
};

/// What one caller asks for, with its own limits.
#[derive(Clone, Debug)]
pub(crate) struct PlacementRequest {
    /// Who may share a connection; the limits are counted for its server.
    pub(crate) key: ConnectionKey,
    /// Pooled connections the server may have; none: no limit.
    pub(crate) max_connections: Option<u32>,
    /// References beyond which another connection is preferred.
    pub(crate) preferred_sessions: u32,
    /// Sessions not yet set up beyond which another connection is preferred.
    pub(crate) batch: u32,
    /// The presentation that the session is to play: servers that are not known to share stay with
    /// the first presentation that was asked for on a connection (go2rtc, ZLMediaKit).
    pub(crate) presentation: PresentationUri,
    /// A connection of its own, which does not count against the limit, whatever there is.
    pub(crate) is_dedicated: bool,
    /// With which sessions the caller may share a connection.
    pub(crate) shared_with: SharedWith,
    /// Whether a DESCRIBE is to be made on it.
    pub(crate) describes: DescribeMode,
    /// Set where the session waited to be described by a server that takes long for each DESCRIBE:
    /// how many describe-only connections the server may have for it.
    pub(crate) describe_only: Option<u32>,
    /// References beyond which no connection takes another one.
    pub(crate) ceiling: u32,
    /// Where nothing fits, a connection is made that does not count: one together for the sessions
    /// that are only to be described, else one of its own.
    pub(crate) overflows: bool,
    /// Whether to wait when nothing fits and no connection is closing either.
    pub(crate) patient: bool,
    /// Connections that were tried already.
    pub(crate) avoid: Vec<ConnectionId>,
    /// Connections on which the server is busy with a request: others are preferred.
    pub(crate) shun: Vec<ConnectionId>,
    /// Only a connection younger than this one will do: whatever is older may be as stale.
    pub(crate) younger_than: Option<ConnectionId>,
}

impl PlacementRequest {
    /// The same once it is described. It was described on another connection than the stale one, and
    /// from there the session may join an older connection on which others play.
    pub(crate) fn described(&self) -> Self {
        Self {
            describes: DescribeMode::Nothing,
            younger_than: None,
            ..self.clone()
        }
    }

    /// Whether it is to go to those that play as soon as it is described.
    pub(crate) fn is_only_described(&self) -> bool {
        self.shared_with == SharedWith::Any && self.describes != DescribeMode::Nothing
    }
}

/// How far a session keeps from the connections of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Isolation {
    /// As the settings and the server's sharing verdict say.
    #[default]
    Shared,
    /// A connection that no other session uses, though others may join once the verdict is known.
    Alone,
    /// A connection of its own, whatever the server can do. It does not count against the limit.
    Dedicated,
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
pub(crate) enum DescribeMode {
    /// No DESCRIBE: the presentation is described already.
    Nothing,
    /// A DESCRIBE that the connection survives; not where sessions expire so soon that they cannot
    /// wait behind a slow one.
    InBand,
    /// A DESCRIBE that may cost the connection (MediaMTX closes it behind a 404).
    Separate,
}

/// The table's answer to a [`PlacementRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// This one; a reference to it was counted. It may still be connecting.
    Existing(ConnectionId),
    /// A new one, which the pool is to connect; a reference to it was counted.
    Connect(ConnectionId),
    /// None yet: wait with [`Table::enqueue`](super::Table::enqueue).
    Wait {
        /// An idle connection of another key, retired to make room, which the pool is to close.
        close: Option<ConnectionId>,
    },
    /// None, and none is to be expected.
    Refused,
}

/// With which sessions a session with `pooling` shares a connection at a server with this sharing mode,
/// and whether it gets one of its own at the limit. None: it gets one of its own in any case, which does
/// not count.
pub(crate) fn terms(pooling: &Pooling, mode: SharingMode) -> Option<(SharedWith, bool)> {
    match (pooling.multiplex, mode) {
        _ if pooling.is_dedicated() => None,
        // Shared without a trial, and within the limit whatever happens.
        (Multiplex::Always, SharingMode::Apart(Some(_))) => Some((SharedWith::Alone, false)),
        (Multiplex::Always, _) => Some((SharedWith::Any, false)),
        (_, SharingMode::Share | SharingMode::TryInBand) => Some((SharedWith::Any, false)),
        // At the limit: else a late joiner would be tried where something plays.
        (_, SharingMode::Try) => Some((SharedWith::NotPlaying, true)),
        (_, SharingMode::Apart(None)) => Some((SharedWith::Alone, true)),
        // Not counted: else the fifth camera of a MediaMTX would not play under a limit of 4.
        (_, SharingMode::Apart(Some(_))) => None,
    }
}

// One connection, as the table knows it.

/// Who may use a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionPurpose {
    /// All sessions with an equal key; counts against the server's limit.
    Pooled,
    /// All sessions with an equal key that are only to be described there and then go to the
    /// connections that play; does not count.
    DescribeOnly,
    /// The one it was made for; does not count.
    Dedicated,
}

/// One connection in the table.
#[derive(Clone, Debug)]
pub(crate) struct TableEntry<C> {
    /// What the pool keeps of it.
    pub(crate) record: C,
    pub(crate) key: ConnectionKey,
    pub(crate) purpose: ConnectionPurpose,
    pub(crate) phase: ConnectionState,
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

impl<C> TableEntry<C> {
    /// A connection that is made for this request.
    pub(super) fn new(request: &PlacementRequest, purpose: ConnectionPurpose, record: C) -> Self {
        Self {
            record,
            key: request.key.clone(),
            purpose,
            phase: ConnectionState::Connecting,
            presentation: request.presentation.clone(),
            is_playing: false,
            is_pressed: false,
            references: 1,
            set_up: 0,
            undescribed: u32::from(request.describes != DescribeMode::Nothing),
            takes_sessions: true,
        }
    }

    pub(crate) fn server(&self) -> &ServerId {
        self.key.server()
    }

    pub(crate) fn counts_for(&self, server: &ServerId) -> bool {
        self.purpose == ConnectionPurpose::Pooled && self.server() == server
    }

    /// Whether it may be handed out for `request` at all, purpose and load aside.
    pub(crate) fn suits(&self, id: ConnectionId, request: &PlacementRequest) -> bool {
        self.key == request.key
            && self.phase != ConnectionState::Closing
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

    fn is_company_for(&self, request: &PlacementRequest) -> bool {
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
        self.phase == ConnectionState::Open && self.references == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::policy::sharing::Evidence;

    const NO: SharingMode = SharingMode::Apart(Some(Evidence::Closed));
    const ALL: [SharingMode; 5] = [
        SharingMode::Share,
        SharingMode::TryInBand,
        SharingMode::Try,
        SharingMode::Apart(None),
        NO,
    ];

    fn with(multiplex: Multiplex) -> Pooling {
        Pooling {
            multiplex,
            ..Pooling::default()
        }
    }

    #[test]
    fn without_pooling_multiplex_is_ignored() {
        for multiplex in [Multiplex::Auto, Multiplex::Always, Multiplex::Never] {
            let pooling = Pooling {
                enable_connection_pooling: false,
                ..with(multiplex)
            };
            for mode in ALL {
                assert_eq!(terms(&pooling, mode), None);
            }
        }
    }

    #[test]
    fn never_is_a_connection_each() {
        for mode in ALL {
            assert_eq!(terms(&with(Multiplex::Never), mode), None);
        }
    }

    #[test]
    fn auto_shares_with_a_yes_and_dedicates_with_a_no() {
        let auto = with(Multiplex::Auto);
        let shared = Some((SharedWith::Any, false));
        assert_eq!(terms(&auto, SharingMode::Share), shared);
        assert_eq!(terms(&auto, SharingMode::TryInBand), shared);
        assert_eq!(terms(&auto, NO), None);
    }

    #[test]
    fn auto_tries_an_unknown_server_only_where_nothing_plays() {
        let auto = with(Multiplex::Auto);
        let quiet = Some((SharedWith::NotPlaying, true));
        assert_eq!(terms(&auto, SharingMode::Try), quiet);
        let apart = Some((SharedWith::Alone, true));
        assert_eq!(terms(&auto, SharingMode::Apart(None)), apart);
    }

    #[test]
    fn always_shares_without_a_trial_and_stays_within_the_limit() {
        let always = with(Multiplex::Always);
        let shared = Some((SharedWith::Any, false));
        for mode in [
            SharingMode::Share,
            SharingMode::TryInBand,
            SharingMode::Try,
            SharingMode::Apart(None),
        ] {
            assert_eq!(terms(&always, mode), shared);
        }
        assert_eq!(terms(&always, NO), Some((SharedWith::Alone, false)));
    }
}
