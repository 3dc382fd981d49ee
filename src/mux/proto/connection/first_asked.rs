//! The first URL that the connection was asked for. Some servers stay with it and answer every later
//! request for it (go2rtc, ZLMediaKit). Only the order in which requests were *written* tells which one
//! it is; whether the session that asked for it is still there does not matter to the server.

use bytes::Bytes;
use url::Url;

use super::{
    Connection,
    requests::{Draft, Purpose},
};
use crate::mux::proto::{
    event::{FailureKind, FirstAsked},
    wire::message::Message,
};

/// The URL, and what the server said to its DESCRIBE.
#[derive(Debug, Default)]
pub(super) struct FirstUrl {
    url: Option<Url>,
    answer: Option<FirstAsked>,
}

impl FirstUrl {
    /// A request of a session with this URL is written.
    pub(super) fn on_written(&mut self, url: &Url) {
        if self.url.is_none() {
            self.url = Some(url.clone());
        }
    }

    fn is(&self, url: &Url) -> bool {
        self.url.as_ref() == Some(url)
    }
}

impl Connection {
    /// A DESCRIBE was answered; gives what its caller has to know of the first one. The first answer
    /// for the first URL counts: later ones may have grown (go2rtc).
    pub(super) fn note_described(&mut self, draft: &Draft, response: &Message) -> FirstAsked {
        if self.first.is(&draft.url) {
            let description = || FirstAsked::Described(Bytes::copy_from_slice(&response.body));
            self.first.answer.get_or_insert_with(description);
            return FirstAsked::Own;
        }
        let answer = self.first.answer.clone();
        answer.unwrap_or(FirstAsked::Unanswered)
    }

    /// A request failed.
    pub(super) fn note_refused(&mut self, draft: &Draft, kind: &FailureKind) {
        let is_answer = matches!(
            kind,
            FailureKind::Status { .. } | FailureKind::Redirect { .. }
        );
        if draft.purpose == Purpose::Describe && is_answer && self.first.is(&draft.url) {
            self.first.answer.get_or_insert(FirstAsked::Refused);
        }
    }
}
