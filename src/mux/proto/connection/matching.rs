//! Which request an answer belongs to, and what becomes of an answer that belongs to none.

use std::time::Instant;

use url::Url;

use super::{
    Connection,
    answered::{Content, Numbering},
    requests::{Draft, Outstanding, Purpose},
};
use crate::mux::proto::{
    event::{CloseReason, FailureKind},
    wire::{
        header::{parse_cseq, parse_transport},
        message::Message,
    },
};

/// What a final answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// That of the request with this CSeq, which it names.
    Named(u32),
    /// That of the only request there is, or of the oldest, which has this CSeq. It names another one, or
    /// none.
    Only(u32),
    /// One that was given before.
    Repeated,
    None,
}

impl Connection {
    /// An answer that names an outstanding request is its answer. Else, with one request out, an
    /// error is its answer whatever it names (live555's 400 names nothing, Tapo C520WS the request
    /// before); a success is, if it looks like one and the server's numbers are not known to be right.
    pub(super) fn matching(&self, code: u16, response: &Message) -> Match {
        let cseq = response.headers.first("CSeq").and_then(parse_cseq);
        let is_wrong = self.answered.numbering() == Numbering::Wrong;
        let known = cseq.filter(|cseq| self.requests.contains(*cseq));
        if let Some(cseq) = known.filter(|_| !is_wrong) {
            return match code < 300 && self.is_misplaced(cseq, response) {
                true => Match::Repeated,
                false => Match::Named(cseq),
            };
        }
        let content = Content::of(response);
        let is_repeated = cseq.is_some_and(|cseq| self.answered.is_repeated(cseq, code, content));
        let only = match is_wrong {
            // Tombstones of requests that this server never answered do not count.
            true => self.requests.only_awaited(),
            false => self.requests.only(),
        };
        let only = only.filter(|only| {
            let is_its = self.may_be_answer(cseq.is_some(), code, response, &only.draft);
            is_its && (is_wrong || !is_repeated)
        });
        let is_lost = || is_wrong || self.is_unnumbered(code, response);
        let fitting = || self.oldest_that_fits(response).filter(|_| is_lost());
        let only = only.map(|only| only.cseq).or_else(fitting);
        match (only, known) {
            (Some(only), _) => Match::Only(only),
            (None, Some(cseq)) => Match::Named(cseq),
            (None, None) if is_repeated => Match::Repeated,
            (None, None) => Match::None,
        }
    }

    /// The oldest request that waits, if an answer shows that it is this one's: it has come in order, and
    /// is about its presentation, or grants its channels. A server that always says 1 is right once, and
    /// several requests are under way when it is found out.
    fn oldest_that_fits(&self, response: &Message) -> Option<u32> {
        let oldest = self.requests.waiting().next()?;
        shows_request(response, &oldest.draft).then_some(oldest.cseq)
    }

    /// Whether an answer is a description and its request asked for none: live555 repeats descriptions
    /// under the CSeq of what has come since.
    fn is_misplaced(&self, cseq: u32, response: &Message) -> bool {
        let purpose = self.requests.purpose_of(cseq);
        let asks_for_it = matches!(purpose, Some(Purpose::Describe | Purpose::Probe));
        !asks_for_it && is_description(response)
    }

    /// Whether an answer that names something else, or nothing, may be this request's.
    fn may_be_answer(
        &self,
        is_numbered: bool,
        code: u16,
        response: &Message,
        only: &Draft,
    ) -> bool {
        match code {
            400.. => true,
            _ if is_numbered && self.answered.numbering() == Numbering::Right => false,
            300.. => true,
            _ => looks_like_answer(response, only),
        }
    }

    pub(super) fn note_named(&mut self, cseq: u32, code: u16, response: &Message) {
        self.answered.on_right(cseq, code, Content::of(response));
    }

    /// An answer was taken for that of the only request. An error says nothing of the server's other
    /// answers (live555's 400 has no number, Tapo C520WS refuses with the one before).
    pub(super) fn note_misnamed(&mut self, code: u16, response: &Message) {
        if code < 400 {
            self.answered.on_wrong();
        }
        let is_numbered = response.headers.first("CSeq").is_some();
        let is_suspect = is_numbered && self.answered.numbering() == Numbering::Unproven;
        if is_suspect || self.answered.numbering() == Numbering::Wrong {
            self.fences.become_serial();
        }
    }

    /// A request's answer was given before (live555: once more for each byte behind a DESCRIBE). It is
    /// counted by itself: healthy sessions of a server that says everything twice are many.
    pub(super) fn on_repeated(&mut self, now: Instant) {
        self.counters.repeated_responses += 1;
        self.on_unasked(now);
        if self.answered.on_repeated() {
            self.fences.become_serial();
        }
        let window = self.config.timeouts.storm_window;
        let limit = self.config.limits.repeated_responses;
        if self.repeated.is_storm(now, window, limit) {
            self.lose(CloseReason::Protocol(
                "the server repeats its answers without end",
            ));
        }
    }

    /// Whether nothing tells which of several requests this answer belongs to: it names none of them,
    /// and numbers are not known to be right. From then on those are not believed that do name one,
    /// until each request has had an answer: they may name the one before. An error that names none is
    /// asked about with a fence.
    pub(super) fn is_unnumbered(&self, code: u16, response: &Message) -> bool {
        let cseq = response.headers.first("CSeq").and_then(parse_cseq);
        let is_known = cseq.is_some_and(|cseq| self.requests.contains(cseq));
        let is_suspect = self.answered.is_counting() || (cseq.is_some() && !is_known && code < 400);
        is_suspect && self.answered.is_unproven() && self.requests.waiting().nth(1).is_some()
    }

    /// Which answer is whose cannot be told. Once each request has had one, descriptions are asked for
    /// again, one at a time; what would make a second session at the server is given up.
    pub(super) fn on_unnumbered(&mut self, now: Instant) {
        self.counters.unmatched_responses += 1;
        self.fences.become_serial();
        let waiting: Vec<u32> = self.requests.waiting().map(|entry| entry.cseq).collect();
        if !self.answered.on_unnumbered(waiting.len()) {
            return;
        }
        let mut again = Vec::new();
        for cseq in waiting {
            let Some(Outstanding { draft, .. }) = self.requests.take(cseq, now) else {
                continue;
            };
            if let (Purpose::Setup { asked, .. }, Some(key)) = (&draft.purpose, draft.session) {
                self.forgo_channels(now, key, *asked);
            }
            match draft.purpose {
                Purpose::Describe if self.is_wanted(&draft) => again.push(draft),
                _ => self.withdraw(draft, FailureKind::Ignored),
            }
        }
        again
            .into_iter()
            .rev()
            .for_each(|draft| self.waiting.push_front(draft));
    }

    /// An answer now and then to what was given up is no offence; nor are wrong numbers in the answers
    /// to keep-alives, of which each session has one (Tapo C520WS).
    pub(super) fn on_unmatched(&mut self, now: Instant) {
        self.counters.unmatched_responses += 1;
        self.on_unasked(now);
        let window = self.config.timeouts.storm_window;
        let keep_alives = u32::try_from(self.sessions.len()).unwrap_or(u32::MAX);
        let limit = (self.config.limits.unmatched_responses).saturating_add(keep_alives);
        if self.unmatched.is_storm(now, window, limit) {
            self.lose(CloseReason::Protocol(
                "the server keeps answering what was not asked",
            ));
        }
    }
}

/// Whether a success that names no request can be this one's. live555 2017.01.26 answers a DESCRIBE
/// that came right behind another one twice, the second time without CSeq and after whatever came
/// next: that is no answer to a SETUP, nor to the DESCRIBE of another camera.
fn looks_like_answer(response: &Message, request: &Draft) -> bool {
    let header = |name| response.headers.first(name);
    let has_description = !response.body.is_empty() || header("Content-Base").is_some();
    match request.purpose {
        Purpose::Setup { .. } => header("Session").is_some() || header("Transport").is_some(),
        Purpose::Describe => {
            let base = header("Content-Base").and_then(|base| Url::parse(base).ok());
            let asked = request.url.path();
            let is_of =
                |base: Url| base.path().starts_with(asked) || asked.starts_with(base.path());
            has_description && base.is_none_or(is_of)
        }
        Purpose::KeepAlive => !is_description(response),
        _ => !has_description,
    }
}

/// Whether a success says itself which request it answers.
fn shows_request(response: &Message, request: &Draft) -> bool {
    let header = |name| response.headers.first(name);
    let place = |url: &Url| {
        let path = url.path().trim_end_matches('/').to_owned();
        (path, url.query().map(str::to_owned))
    };
    match request.purpose {
        Purpose::Setup { asked, .. } => {
            let granted = header("Transport").and_then(|it| parse_transport(it).ok()?.interleaved);
            header("Session").is_some() && granted.is_some_and(|(rtp, _)| rtp == asked)
        }
        Purpose::Describe => {
            let base = header("Content-Base").and_then(|base| Url::parse(base).ok());
            is_description(response) && base.is_some_and(|base| place(&base) == place(&request.url))
        }
        _ => false,
    }
}

/// Whether the answer has a description with it, whatever it was for. GET_PARAMETER may have another
/// body.
pub(super) fn is_description(response: &Message) -> bool {
    let header = |name| response.headers.first(name);
    let is_sdp = header("Content-Type").is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/sdp")
    });
    !response.body.is_empty() && (is_sdp || header("Content-Base").is_some())
}
