//! What a caller asks of the pool.

use std::sync::Arc;

use crate::mux::{
    config::SessionOptions,
    error::{Error, ErrorKind, Initiator},
    ids::{ConnectionId, PresentationUri},
    policy::{placement::Isolation, sharing::Evidence},
    server_key::ConnectionKey,
};

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
            let explanation = "overflow-policy=block would hold up all sessions of a shared connection: \
                it needs enable-connection-pooling=false or multiplex=never";
            let error = Error::new(ErrorKind::Options, explanation);
            return Err(error.of_camera(&options.camera()));
        }
        let has_hook = options.before_send.is_some() || options.on_request.is_some();
        if has_hook && !options.pooling.is_dedicated() {
            let explanation = "requests are shown on an unshared connection only: it needs \
                enable-connection-pooling=false or multiplex=never";
            let error = Error::new(ErrorKind::Options, explanation);
            return Err(error.of_camera(&options.camera()));
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
        Error::new(kind, explanation).caused_by(Initiator::Library)
    }
}
