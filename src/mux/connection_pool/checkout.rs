//! What a caller asks of the pool.

use std::sync::Arc;

use crate::mux::{
    config::{Multiplex, SessionOptions},
    error::{Error, ErrorKind, Initiator, Scope},
    ids::{ConnectionId, PresentationUri},
    policy::{
        placement::{
            DescribeMode, Isolation, PlacementRequest, SESSION_CEILING, SharedWith, SharingTerms,
            terms,
        },
        sharing::{Evidence, SharingMode},
    },
    server_key::{ConnectionKey, ServerId},
};

/// What the pool knows of the server when a caller asks for a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerView {
    /// Whether it can share connections.
    pub(super) mode: SharingMode,
    /// How many sessions it lets onto a connection.
    pub(super) cap: Option<u32>,
    /// How many sessions should be set up on a connection at a time.
    pub(super) batch: Option<u32>,
    /// Whether a connection to it survives a DESCRIBE that fails.
    pub(super) describes_in_band: bool,
    /// Whether it works on the requests of a connection strictly in order, so that no request has to
    /// wait for a DESCRIBE that may never be answered.
    pub(super) is_in_order: bool,
    /// Whether each DESCRIBE takes it long, and it has refused no connection: then describe-only
    /// connections may be made.
    pub(super) may_describe_only: bool,
    /// Connections on which it has worked on one request for long, and connections that are
    /// congested.
    pub(super) busy: Vec<ConnectionId>,
    /// Connections that no session is to get yet.
    pub(super) not_yet_free: Vec<ConnectionId>,
}

/// What a caller asks for.
#[derive(Clone, Debug)]
pub(crate) struct CheckoutRequest {
    pub(crate) options: Arc<SessionOptions>,
    pub(crate) key: ConnectionKey,
    pub(crate) isolation: Isolation,
    /// What it plays has to be described on the connection first.
    pub(crate) needs_describe: bool,
    /// No new connection is made for it: the server refuses more connections.
    pub(crate) no_new_connection: bool,
    /// It left a connection on which many sessions are described one after the other, and goes to one
    /// with fewer.
    pub(crate) is_spread: bool,
    /// It goes to no describe-only connection: the pool had none for it, or it could not leave one in
    /// time.
    pub(crate) is_kept_pooled: bool,
    /// Its DESCRIBE waited behind one that was not answered, and may stay unanswered as well.
    pub(crate) is_doubtful: bool,
    /// Connections that the session has tried already.
    pub(crate) avoid: Vec<ConnectionId>,
    /// Only connections made after this one.
    pub(crate) younger_than: Option<ConnectionId>,
}

impl CheckoutRequest {
    pub(crate) fn new(options: &SessionOptions) -> Result<Self, Error> {
        if options.blocks_others() {
            return Err(Error::new(
                ErrorKind::Options,
                Scope::Session,
                Initiator::User,
                "overflow-policy=block would hold up all sessions of a shared connection: it needs \
                 enable-connection-pooling=false or multiplex=never",
            )
            .of_camera(&options.camera()));
        }
        Ok(Self {
            key: options.connection_key()?,
            isolation: match options.pooling.is_dedicated() {
                true => Isolation::Dedicated,
                false => Isolation::Shared,
            },
            needs_describe: true,
            no_new_connection: false,
            is_spread: false,
            is_kept_pooled: false,
            is_doubtful: false,
            options: Arc::new(options.clone()),
            avoid: Vec::new(),
            younger_than: None,
        })
    }

    /// What the table has to know. `is_proven`: the presentation was played before; `is_doubtful`:
    /// its DESCRIBE may stay unanswered.
    pub(super) fn placement_request(
        &self,
        known: &ServerView,
        is_proven: bool,
        is_doubtful: bool,
    ) -> PlacementRequest<ServerId, ConnectionKey> {
        let pooling = &self.options.pooling;
        let max = pooling.max_connections_per_server;
        let ceiling = known
            .cap
            .map_or(SESSION_CEILING, |cap| cap.clamp(1, SESSION_CEILING));
        // A presentation that was played before exists: the server answers no 404 that could cost the
        // connection.
        let is_safe = (known.describes_in_band && known.is_in_order) || is_proven;
        let in_band = is_safe && !is_doubtful;
        let describes = self.describes(in_band);
        let terms = terms(pooling, known.mode);
        let (shared_with, overflows, patient) = match terms {
            SharingTerms::Dedicated => (SharedWith::Alone, false, false),
            // With `multiplex=always` the limit holds for such a connection as well.
            SharingTerms::Pooled { overflows, .. } if self.isolation != Isolation::Shared => {
                let is_soft = pooling.multiplex != Multiplex::Always;
                (SharedWith::Alone, overflows || is_soft, true)
            }
            SharingTerms::Pooled {
                shared_with,
                overflows,
                waits,
            } => (shared_with, overflows, waits),
        };
        PlacementRequest {
            server: self.key.server().clone(),
            key: self.key.clone(),
            max_connections: match self.no_new_connection {
                true => Some(0),
                false => (max > 0).then_some(max),
            },
            preferred_sessions: pooling.max_sessions_per_connection.clamp(1, ceiling),
            // The sessions of a server that is being tried are not spread: they are the trial.
            batch: known
                .batch
                .filter(|_| shared_with == SharedWith::Any || self.is_spread)
                .unwrap_or(u32::MAX),
            presentation: self.presentation(),
            is_dedicated: self.is_dedicated() || terms == SharingTerms::Dedicated,
            shared_with,
            ceiling,
            describes,
            describe_only: self.is_spread.then(|| self.describe_only(known)),
            // A DESCRIBE on a connection of its own is soon over; where others play it might cost
            // them their connection.
            overflows: !self.no_new_connection
                && (overflows
                    || (describes != DescribeMode::Nothing
                        && pooling.multiplex != Multiplex::Always)),
            patient: patient && !self.no_new_connection,
            avoid: [&self.avoid[..], &known.not_yet_free].concat(),
            shun: known.busy.clone(),
            younger_than: self.younger_than,
        }
    }

    /// Describe-only connections that the server may have for it: as many as others, where there is a
    /// limit. Without one each session gets a connection that counts.
    fn describe_only(&self, known: &ServerView) -> u32 {
        let pooling = &self.options.pooling;
        let may = known.may_describe_only
            && pooling.multiplex == Multiplex::Auto
            && !self.is_kept_pooled
            && !self.no_new_connection;
        match may {
            true => pooling.max_connections_per_server,
            false => 0,
        }
    }

    fn describes(&self, in_band: bool) -> DescribeMode {
        match (self.needs_describe, self.options.pooling.multiplex) {
            (false, _) => DescribeMode::Nothing,
            (true, _) if self.no_new_connection => DescribeMode::InBand,
            (true, Multiplex::Auto) if !in_band => DescribeMode::Separate,
            (true, _) => DescribeMode::InBand,
        }
    }

    pub(crate) fn is_dedicated(&self) -> bool {
        self.isolation == Isolation::Dedicated
    }

    /// The next connection is another one, without other sessions if it is to be `alone`.
    pub(crate) fn leave(&mut self, id: ConnectionId, alone: bool) {
        self.avoid.push(id);
        self.be_alone(alone);
    }

    /// A connection of its own stays one.
    pub(crate) fn be_alone(&mut self, alone: bool) {
        if !self.is_dedicated() {
            self.isolation = match alone {
                true => Isolation::Alone,
                false => Isolation::Shared,
            };
        }
    }

    /// The presentation that the session is to play.
    pub(crate) fn presentation(&self) -> PresentationUri {
        self.options.presentation()
    }

    /// The error of a caller that gets no connection.
    pub(super) fn refusal(&self, objection: Option<Evidence>) -> Error {
        let server = self.key.server();
        let max = self.options.pooling.max_connections_per_server;
        let full = format!("max-connections-per-server={max} is reached at {server}");
        let (kind, explanation) = match objection {
            Some(evidence) => (
                ErrorKind::CannotShare,
                format!("{full}, with multiplex=always, and {evidence}"),
            ),
            None => (
                ErrorKind::ServerLimit,
                format!("{full}, and no connection takes another session"),
            ),
        };
        Error::new(kind, Scope::Session, Initiator::Library, explanation)
    }
}
