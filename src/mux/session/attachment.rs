//! A session in one connection's core, together with the reference that keeps the connection.

use std::{sync::Arc, time::Duration};

use rtsp_types::Method;
use tokio::sync::oneshot;

use super::monitor::{SessionLocation, SessionMonitor};
use crate::mux::{
    config::OverflowPolicy,
    connection_pool::ConnectionHandle,
    delivery::{Consumer, delivery},
    driver::{Command, DriverHandle, SessionGuard},
    ids::ConnectionId,
    proto::{Failure, FailureKind, Reply, SessionConfig, SessionKey, SessionRequest, StreamGrant},
};

/// One session on one connection. When it is dropped, the session is released: its TEARDOWN goes out,
/// and only then the reference is given back. Neither blocks.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// Declared first, so that the driver knows of the TEARDOWN when it becomes idle.
    session_guard: SessionGuard,
    pub(crate) consumer: Consumer,
    handle: ConnectionHandle,
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
        let driver = handle.driver();
        let (producer, consumer) = delivery(Arc::clone(&driver.budget), overflow);
        let (sender, opened) = oneshot::channel();
        driver.send(Command::Open {
            config,
            producer,
            release: monitor.release_guard(),
            opened: sender,
        });
        let result = opened
            .await
            .unwrap_or_else(|_| Err(FailureKind::ConnectionLost(driver.close_reason())));
        match result {
            Ok(session_guard) => {
                let attachment = Self {
                    session_guard,
                    consumer,
                    handle,
                };
                monitor.set_location(attachment.seat(Vec::new()));
                Ok(attachment)
            }
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
    pub(crate) fn send(&self, request: SessionRequest) -> Pending<'_> {
        let method = method_of(&request);
        if method == Method::Setup {
            self.session_guard.set_known(true);
        }
        let (sender, reply) = oneshot::channel();
        self.driver().send(Command::Request {
            session: self.key(),
            request,
            reply: sender,
        });
        Pending {
            driver: self.driver(),
            method,
            reply,
        }
    }

    /// Ends the session at the server; done when that has answered, or will not.
    pub(crate) fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        let (sender, reply) = oneshot::channel();
        self.driver().send(Command::Request {
            session: self.key(),
            request: SessionRequest::Teardown,
            reply: sender,
        });
        async move {
            // What the answer says does not matter.
            let _ = reply.await;
        }
    }

    /// The first SETUP was refused: the server has no session.
    pub(crate) fn on_refused(&self) {
        self.session_guard.set_known(false);
    }

    pub(crate) fn driver(&self) -> &Arc<DriverHandle> {
        self.handle.driver()
    }

    pub(crate) fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }

    pub(crate) fn connection(&self) -> ConnectionId {
        self.driver().id
    }

    pub(crate) fn key(&self) -> SessionKey {
        self.session_guard.key
    }
}

fn method_of(request: &SessionRequest) -> Method {
    match request {
        SessionRequest::Describe => Method::Describe,
        SessionRequest::Setup { .. } => Method::Setup,
        SessionRequest::Play { .. } => Method::Play,
        SessionRequest::Pause => Method::Pause,
        SessionRequest::Teardown => Method::Teardown,
    }
}

/// A request whose answer is outstanding.
pub(crate) struct Pending<'a> {
    driver: &'a DriverHandle,
    method: Method,
    reply: oneshot::Receiver<Result<Reply, Failure>>,
}

impl Pending<'_> {
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
