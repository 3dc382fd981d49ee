//! A session in one connection's core, together with the reference that keeps the connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rtsp_types::Method;
use tokio::sync::oneshot;

use super::monitor::{SessionLocation, SessionMonitor};
use crate::mux::{
    config::OverflowPolicy,
    connection_pool::{ConnectionHandle, SuspicionGuard},
    delivery::{Consumer, delivery},
    driver::{Command, DriverHandle, NewSession, SessionGuard},
    ids::ConnectionId,
    proto::{Failure, FailureKind, Reply, SessionConfig, SessionKey, SessionRequest, StreamGrant},
    release::ReleaseGuard,
};

/// One session on one connection. When it is dropped, the session is released: its TEARDOWN goes out,
/// and only then the reference is given back. Neither blocks.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// Declared first, so that the driver knows of the TEARDOWN when it becomes idle.
    session_guard: SessionGuard,
    pub(crate) consumer: Consumer,
    pub(super) handle: ConnectionHandle,
    /// What the first packet confirms: the session plays alone what had cost a shared connection.
    pub(super) suspected: Option<SuspicionGuard>,
}

impl Attachment {
    /// Makes the session. If the future is dropped, the session is released whether or not it was made by
    /// then.
    pub(crate) async fn open(
        handle: ConnectionHandle,
        config: SessionConfig,
        overflow: OverflowPolicy,
        monitor: &SessionMonitor,
    ) -> Result<Self, (ConnectionHandle, Failure)> {
        let opened = Self::open_aside(handle, config, overflow, monitor.release_guard()).await;
        if let Ok(attachment) = &opened {
            monitor.set_location(attachment.seat(Vec::new()));
        }
        opened
    }

    /// The same, for a session that is on another connection and may come to this one.
    pub(crate) async fn open_aside(
        handle: ConnectionHandle,
        config: SessionConfig,
        overflow: OverflowPolicy,
        release: ReleaseGuard,
    ) -> Result<Self, (ConnectionHandle, Failure)> {
        let driver = handle.driver();
        let (producer, consumer) = delivery(Arc::clone(&driver.budget), overflow);
        let opened = driver.ask(|opened| {
            Command::Open(NewSession {
                config,
                producer,
                release,
                opened,
            })
        });
        let result = opened
            .await
            .unwrap_or_else(|_| Err(FailureKind::ConnectionLost(driver.close_reason())));
        match result {
            Ok(session_guard) => Ok(Self {
                session_guard,
                consumer,
                handle,
                suspected: None,
            }),
            // A session that could not be opened was going to be described.
            Err(kind) => Err((
                handle,
                Failure {
                    method: Method::Describe,
                    cseq: None,
                    kind,
                },
            )),
        }
    }

    /// What the session's monitor observes.
    pub(crate) fn seat(&self, grants: Vec<StreamGrant>) -> SessionLocation {
        SessionLocation {
            pool: self.handle.pool().clone(),
            driver: self.driver().clone(),
            delivery: self.consumer.delivery().clone(),
            grants,
        }
    }

    /// From now on the session waits no longer than this for an answer.
    pub(crate) fn set_patience(&self, patience: Duration) {
        self.driver().send(Command::SetPatience {
            session: self.key(),
            patience,
        });
    }

    /// Asks the server for something and waits for its answer.
    pub(crate) async fn request(&self, request: SessionRequest) -> Result<Reply, Failure> {
        self.send(request).reply().await
    }

    /// Asks without waiting, so that several requests can be under way.
    pub(crate) fn send(&self, request: SessionRequest) -> Pending {
        if matches!(request, SessionRequest::Setup { .. }) {
            self.session_guard.set_known(true);
        }
        self.requester().send(request)
    }

    /// Asks for the session, also while that is lent to nothing.
    pub(crate) fn requester(&self) -> Requester {
        Requester {
            driver: Arc::clone(self.driver()),
            session: self.key(),
        }
    }

    /// Ends the session at the server; done when that has answered, or will not.
    pub(crate) fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        let gone = self.send(SessionRequest::Teardown);
        async move {
            // What the answer says does not matter.
            let _ = gone.reply().await;
        }
    }

    /// The first SETUP was refused: the server has no session.
    pub(crate) fn on_refused(&self) {
        self.session_guard.set_known(false);
    }

    /// Media came.
    pub(crate) fn on_media(&mut self, at: Instant) {
        if let Some(suspected) = self.suspected.take() {
            suspected.confirm();
        }
        if let Some(reporter) = &mut self.handle.reporter {
            reporter.on_media(at);
        }
    }

    pub(crate) fn driver(&self) -> &Arc<DriverHandle> {
        self.handle.driver()
    }

    pub(crate) fn connection(&self) -> ConnectionId {
        self.driver().id
    }

    pub(crate) fn key(&self) -> SessionKey {
        self.session_guard.key
    }
}

/// Where a session is. Asks the server for something on its behalf, and holds no reference to it.
#[derive(Clone, Debug)]
pub(crate) struct Requester {
    pub(super) driver: Arc<DriverHandle>,
    pub(super) session: SessionKey,
}

impl Requester {
    pub(crate) fn send(&self, request: SessionRequest) -> Pending {
        let method = request.method();
        let session = self.session;
        let reply = self.driver.ask(|reply| Command::Request {
            session,
            request,
            reply,
        });
        Pending {
            driver: Arc::clone(&self.driver),
            method,
            reply,
        }
    }

    pub(crate) fn connection(&self) -> ConnectionId {
        self.driver.id
    }
}

/// A request whose answer is outstanding.
pub(crate) struct Pending {
    driver: Arc<DriverHandle>,
    method: Method,
    reply: oneshot::Receiver<Result<Reply, Failure>>,
}

impl Pending {
    pub(crate) async fn reply(self) -> Result<Reply, Failure> {
        match self.reply.await {
            Ok(result) => result,
            // The driver is gone, and with it whatever it had not answered.
            Err(_) => Err(Failure {
                method: self.method,
                cseq: None,
                kind: FailureKind::ConnectionLost(self.driver.close_reason()),
            }),
        }
    }
}
