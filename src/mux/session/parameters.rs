//! GET_PARAMETER and SET_PARAMETER of a session, for its user.

use std::sync::{Arc, Mutex};

use super::attachment::Requester;
use crate::mux::{
    error::Error,
    proto::{
        Failure, FailureKind, ParameterAnswer, ParameterRequest, Reply, SessionRequest,
        wire::header::has_method,
    },
    release::lock,
};

/// Sends parameters of one session from any thread. Holds no reference: it keeps nothing alive.
#[derive(Clone, Debug)]
pub struct ParameterSender {
    place: Arc<Mutex<Requester>>,
}

impl ParameterSender {
    pub(super) fn new(place: Arc<Mutex<Requester>>) -> Self {
        Self { place }
    }

    /// False if the server has listed its methods, and this request's is not among them.
    pub fn may_support(&self, request: &ParameterRequest) -> bool {
        let info = lock(&self.place).driver.server_info();
        let listed = info.public_header;
        listed.is_none_or(|listed| has_method(&listed, <&str>::from(&request.method())))
    }

    /// Asks the server, with the session's id and URL, and waits for its answer, which may be a refusal.
    /// The future always ends: with the answer, the response deadline, or the session.
    ///
    /// # Errors
    ///
    /// There was no answer, or it said that the session is gone.
    pub fn send(
        &self,
        request: ParameterRequest,
    ) -> impl Future<Output = Result<ParameterAnswer, Error>> + Send + use<> {
        let requester = lock(&self.place).clone();
        let method = request.method();
        let pending = requester.send(SessionRequest::Parameters(request));
        async move {
            let failure = match pending.reply().await {
                Ok(Reply::Parameters(answer)) => return Ok(answer),
                Ok(_) => Failure {
                    method,
                    cseq: None,
                    kind: FailureKind::Cancelled,
                },
                Err(failure) => failure,
            };
            Err(Error::from_failure(&failure).on(requester.connection()))
        }
    }
}
