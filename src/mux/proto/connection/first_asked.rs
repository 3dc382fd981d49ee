//! The first URL that was requested on the connection. Some servers stay with it and answer every
//! later request for it (go2rtc, ZLMediaKit). The first URL is that of the request *written* first;
//! the server does not care whether its session still exists.

use bytes::Bytes;
use url::Url;

use super::{
    Connection,
    draft::{Draft, Purpose},
};
use crate::mux::proto::{
    event::{FailureKind, FirstAsked},
    wire::message::Message,
};

/// The first URL, and the result of its DESCRIBE.
#[derive(Debug, Default)]
pub(super) struct FirstUrl {
    url: Option<Url>,
    answer: Option<FirstAsked>,
}

impl FirstUrl {
    /// A session's request with this URL is written.
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
    /// A DESCRIBE was answered; returns what its caller has to know about the first URL. Only the
    /// first answer for the first URL counts: later ones may be longer (go2rtc).
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
