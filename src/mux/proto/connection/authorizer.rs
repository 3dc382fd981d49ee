//! The credentials on one connection: which requests may carry them, and which are sent again.

use std::collections::VecDeque;

use rtsp_types::Method;
use url::Url;

use super::ConnectionConfig;
use crate::mux::proto::{
    auth::{Authenticator, Authorization},
    command::{CredentialStatus, SessionKey},
    requests::{Draft, Purpose, RequestTable},
};

/// Refusals in a row, of sessions that were set up with the same credentials, after which these are
/// not tried any more: a changed password must not lock the account.
const MOST_REFUSED_IN_A_ROW: u32 = 2;

/// What may be sent just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// An answer has to come first.
    Wait,
    /// Somebody has to allow the use of the credentials first.
    WantsPermit,
    /// The credentials are no good.
    Refused,
}

/// The credentials on this connection: who may send with them, and who has to send again.
///
/// Without an answer yet nobody knows whether the server wants them, so with credentials at hand
/// the first request goes alone; the others would all have to be sent again after its 401.
#[derive(Debug)]
pub(super) struct Authorizer {
    pub(super) authenticator: Option<Authenticator>,
    status: CredentialStatus,
    pub(super) permit_requested: bool,
    /// The permit was asked for or given, and nothing has come of it yet.
    pub(super) is_undecided: bool,
    /// A request went out under the permit.
    pub(super) is_tried: bool,
    /// Refusals since the last acceptance, of sessions that these credentials had set up.
    refusals: u32,
    has_answer: bool,
    /// Refused once for want of (newer) credentials; they go before everything else.
    pub(super) retries: VecDeque<Draft>,
}

impl Authorizer {
    pub(super) fn new(config: &ConnectionConfig) -> Self {
        let authenticator = config.credentials.as_ref().map(|credentials| {
            let mut authenticator = Authenticator::new(credentials.clone(), config.seed);
            if config.refuse_basic {
                authenticator.forbid_basic();
            }
            authenticator
        });
        Self {
            authenticator,
            status: config.credential_status,
            permit_requested: false,
            is_undecided: false,
            is_tried: false,
            refusals: 0,
            has_answer: false,
            retries: VecDeque::new(),
        }
    }

    pub(super) fn set_status(&mut self, status: CredentialStatus) {
        self.status = status;
        self.permit_requested = false;
        self.is_tried &= status == CredentialStatus::Permitted;
        self.is_undecided = match status {
            CredentialStatus::Permitted => true,
            CredentialStatus::Unproven => self.is_undecided,
            CredentialStatus::Proven | CredentialStatus::Refused => false,
        };
    }

    /// The permit is used up, or of no use.
    pub(super) fn give_back(&mut self) {
        self.set_status(CredentialStatus::Unproven);
        self.is_undecided = false;
    }

    /// The credentials are no good any more; or this try was none, and what follows from that is
    /// decided for all connections together.
    pub(super) fn on_refused(&mut self) {
        match self.status {
            CredentialStatus::Proven => self.set_status(CredentialStatus::Refused),
            _ => self.give_back(),
        }
    }

    /// An authorised request was not refused.
    pub(super) fn note_accepted(&mut self) {
        self.refusals = 0;
    }

    /// An authorised request was refused. Whether that says that the credentials are no good: they
    /// never were; or they were, and sessions they had set up are refused again and again. One camera
    /// of a recorder that this user may not see says nothing.
    pub(super) fn note_refused(&mut self, had_set_up: bool) -> bool {
        if self.status != CredentialStatus::Proven {
            return true;
        }
        self.refusals += u32::from(had_set_up);
        self.refusals >= MOST_REFUSED_IN_A_ROW
    }

    /// Whether the permit was asked for and nothing is left that it would serve.
    pub(super) fn is_unwanted(&self, requests: &RequestTable) -> bool {
        self.is_undecided
            && self.retries.is_empty()
            && !requests
                .waiting()
                .any(|entry| entry.authorization.is_some())
    }

    pub(super) fn status(&self) -> CredentialStatus {
        self.status
    }

    pub(super) fn has_seen_digest(&self) -> bool {
        self.authenticator
            .as_ref()
            .is_some_and(Authenticator::is_basic_forbidden)
    }

    pub(super) fn note_answer(&mut self) {
        self.has_answer = true;
    }

    pub(super) fn retry(&mut self, draft: Draft) {
        self.retries.push_back(draft);
    }

    /// DESCRIBEs that are to be repeated.
    pub(super) fn describes(&self) -> usize {
        let is_describe = |draft: &&Draft| draft.purpose == Purpose::Describe;
        self.retries.iter().filter(is_describe).count()
    }

    /// Takes out what is to be repeated for one session.
    pub(super) fn take_retries_of(&mut self, key: SessionKey) -> VecDeque<Draft> {
        let (mine, others): (VecDeque<Draft>, VecDeque<Draft>) = std::mem::take(&mut self.retries)
            .into_iter()
            .partition(|draft| draft.session == Some(key));
        self.retries = others;
        mine
    }

    pub(super) fn drain_retries(&mut self) -> impl Iterator<Item = Draft> {
        self.retries.drain(..)
    }

    pub(super) fn gate(&self, requests: &RequestTable) -> Gate {
        let Some(authenticator) = &self.authenticator else {
            return Gate::Open;
        };
        if !authenticator.has_challenge() {
            let is_alone = requests.waiting().next().is_none();
            return if self.has_answer || is_alone {
                Gate::Open
            } else {
                Gate::Wait
            };
        }
        let is_trying = || {
            requests
                .waiting()
                .any(|entry| entry.authorization.is_some())
        };
        match self.status {
            CredentialStatus::Proven => Gate::Open,
            CredentialStatus::Permitted if is_trying() => Gate::Wait,
            CredentialStatus::Permitted => Gate::Open,
            CredentialStatus::Unproven => Gate::WantsPermit,
            CredentialStatus::Refused => Gate::Refused,
        }
    }

    pub(super) fn authorize(&mut self, method: &Method, url: &Url) -> Option<Authorization> {
        let authenticator = self.authenticator.as_mut()?;
        let authorization = authenticator.authorize(<&str>::from(method), url.as_str())?;
        self.is_tried |= self.status == CredentialStatus::Permitted;
        Some(authorization)
    }
}
