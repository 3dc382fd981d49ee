//! Which request an answer belongs to, and what happens to an answer that matches no request.
//!
//! An answer names its request by CSeq. Servers break that rule in three ways. They send an answer
//! more than once (live555 2012 to 2026 answers a DESCRIBE once more for each byte that follows it,
//! 134 times for one SETUP). They put the same number into every answer (Foscam C1, IP Webcam: 0).
//! They put the number of the request before into every answer. The core drops a repeated answer.
//! Where the numbers mean nothing, the core sends one request at a time, and takes the next answer
//! as the answer to it.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Instant,
};

use url::Url;

use super::{
    Connection,
    requests::{Draft, Outstanding, Purpose},
};
use crate::mux::proto::{
    event::FailureKind,
    wire::{
        header::{parse_cseq, parse_transport},
        message::Message,
        uri,
    },
};

/// The request that a final answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// The answer names the outstanding request with this CSeq.
    Named(u32),
    /// The answer belongs to the only outstanding request, or the oldest, which has this CSeq. It
    /// names another one, or none.
    Only(u32),
    /// The answer came before.
    Repeated,
    None,
}

impl Connection {
    /// An answer belongs to the outstanding request that it names. If it names none and one request
    /// is outstanding, an error belongs to that one whatever it names (live555's 400 names nothing,
    /// Tapo C520WS names the request before). A success belongs to it if it looks like its answer
    /// and the server's numbers are not known to be right.
    pub(super) fn matching(&self, code: u16, response: &Message) -> Match {
        let cseq = response.headers.first("CSeq").and_then(parse_cseq);
        let is_wrong = self.answered.numbering() == Numbering::Wrong;
        let known = cseq.filter(|cseq| self.requests.get(*cseq).is_some());
        if let Some(cseq) = known.filter(|_| !is_wrong) {
            return match code < 300 && self.is_misplaced(cseq, response) {
                true => Match::Repeated,
                false => Match::Named(cseq),
            };
        }
        let came_before = |cseq| self.answered.has(SeenAnswer::new(cseq, code, response));
        let is_repeated = cseq.is_some_and(came_before);
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

    /// The oldest waiting request, if an answer in order fits it: it describes its presentation, or
    /// grants its channels. A server that always sends 1 is right once, and several requests are
    /// outstanding when the core finds that out.
    fn oldest_that_fits(&self, response: &Message) -> Option<u32> {
        let oldest = self.requests.waiting().next()?;
        shows_request(response, &oldest.draft).then_some(oldest.cseq)
    }

    /// True if an answer is a description that its request did not ask for: live555 repeats
    /// descriptions under the CSeq of later requests.
    fn is_misplaced(&self, cseq: u32, response: &Message) -> bool {
        let asks_for_it =
            |it: &Outstanding| matches!(it.draft.purpose, Purpose::Describe | Purpose::Probe);
        !self.requests.get(cseq).is_some_and(asks_for_it) && is_description(response)
    }

    /// True if an answer that names another request, or none, may belong to this one.
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

    /// An answer was matched with the only request although it did not name it. An error says
    /// nothing about the numbers in other answers (live555's 400 has none, Tapo C520WS refuses with
    /// the one before).
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

    /// The answer to a request came again (live555: once more for each byte after a DESCRIBE).
    /// Repeated answers are counted apart from unmatched ones: a server that sends all answers
    /// twice, for many healthy sessions, repeats many.
    pub(super) fn on_repeated(&mut self, now: Instant) {
        self.counters.repeated_responses += 1;
        self.on_unasked(now);
        if self.answered.on_repeated() {
            self.fences.become_serial();
        }
        let limit = self.config.limits.repeated_responses;
        if self.repeated.is_storm(now, &self.config.timeouts, limit) {
            self.break_off("the server repeats its answers without end");
        }
    }

    /// True if it is unknown which of several requests this answer belongs to: it names none of
    /// them, and numbers are not known to be right. From then on answers that name a request are
    /// not trusted either until each request has had an answer, because they may name the request
    /// before. For an error that names none the core sends a fence.
    pub(super) fn is_unnumbered(&self, code: u16, response: &Message) -> bool {
        let cseq = response.headers.first("CSeq").and_then(parse_cseq);
        let is_known = cseq.is_some_and(|cseq| self.requests.get(cseq).is_some());
        let is_suspect = self.answered.is_counting() || (cseq.is_some() && !is_known && code < 400);
        is_suspect && self.answered.is_unproven() && self.requests.waiting().nth(1).is_some()
    }

    /// It is unknown which answer belongs to which request. Once each request has had one, the core
    /// repeats the DESCRIBEs, one at a time, and gives up requests that would make a second session
    /// at the server.
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

    /// A few answers to requests that were given up are tolerated; so are wrong numbers in the
    /// answers to keep-alives, one for each session (Tapo C520WS).
    pub(super) fn on_unmatched(&mut self, now: Instant) {
        self.counters.unmatched_responses += 1;
        self.on_unasked(now);
        let keep_alives = u32::try_from(self.sessions.len()).unwrap_or(u32::MAX);
        let limit = (self.config.limits.unmatched_responses).saturating_add(keep_alives);
        if self.unmatched.is_storm(now, &self.config.timeouts, limit) {
            self.break_off("the server keeps answering what was not asked");
        }
    }
}

/// True if a success that names no request can be this one's answer. live555 2017.01.26 answers a
/// DESCRIBE that came right after another one twice, the second time without CSeq and after the
/// next request: that is no answer to a SETUP, nor to the DESCRIBE of another camera.
fn looks_like_answer(response: &Message, request: &Draft) -> bool {
    let header = |name| response.headers.first(name);
    let has_description = !response.body.is_empty() || header("Content-Base").is_some();
    match request.purpose {
        Purpose::Setup { .. } => header("Session").is_some() || header("Transport").is_some(),
        Purpose::Describe => {
            let base = header("Content-Base").and_then(|base| uri::parse(base).ok());
            let asked = request.url.path();
            let is_of =
                |base: Url| base.path().starts_with(asked) || asked.starts_with(base.path());
            has_description && base.is_none_or(is_of)
        }
        Purpose::KeepAlive => !is_description(response),
        _ => !has_description,
    }
}

/// True if the content of a success shows which request it answers.
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
            let base = header("Content-Base").and_then(|base| uri::parse(base).ok());
            is_description(response) && base.is_some_and(|base| place(&base) == place(&request.url))
        }
        _ => false,
    }
}

/// True if the answer carries a description, whatever was asked. The answer to GET_PARAMETER may
/// have another body.
pub(super) fn is_description(response: &Message) -> bool {
    let header = |name| response.headers.first(name);
    let is_sdp = header("Content-Type").is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/sdp")
    });
    !response.body.is_empty() && (is_sdp || header("Content-Base").is_some())
}

/// The number of answers remembered. A repeated answer follows right after the first one; a
/// connection with 128 sessions gets as many answers in a row.
const REMEMBERED: usize = 256;

/// From so many repeated answers on, one request is sent at a time: a single one may be an
/// accident.
const REPEATS_OF_A_HABIT: u32 = 2;

/// From so many correctly numbered answers on, the numbers are trusted. A server that always sends
/// 1 is right once.
const ENOUGH_RIGHT: u32 = 2;

/// Whether the CSeq of an answer can be trusted on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// There were too few answers to tell.
    Unproven,
    /// Answers name their requests.
    Right,
    /// Answers do not name their requests.
    Wrong,
}

/// One answer that named its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenAnswer {
    cseq: u32,
    status: u16,
    /// A hash of what the answer describes or sets up, without its date: it tells two answers with the
    /// same CSeq apart.
    content: u64,
}

impl SeenAnswer {
    pub(crate) fn new(cseq: u32, status: u16, response: &Message) -> Self {
        let mut hasher = DefaultHasher::new();
        for name in ["Content-Base", "Session", "Transport"] {
            response.headers.first(name).hash(&mut hasher);
        }
        response.body.hash(&mut hasher);
        let content = hasher.finish();
        Self {
            cseq,
            status,
            content,
        }
    }
}

/// The answers of one connection.
#[derive(Debug, Default)]
pub(crate) struct AnswerHistory {
    /// The answers that named an outstanding request, the newest one last.
    answered: VecDeque<SeenAnswer>,
    right: u32,
    is_wrong: bool,
    repeats: u32,
    /// The number of answers that named no outstanding request while several requests waited.
    unnumbered: usize,
}

impl AnswerHistory {
    /// An answer named an outstanding request, and belongs to it.
    pub(crate) fn on_right(&mut self, answer: SeenAnswer) {
        self.right = self.right.saturating_add(1);
        if self.answered.len() == REMEMBERED {
            self.answered.pop_front();
        }
        self.answered.push_back(answer);
    }

    /// Only one request was outstanding, and its answer named another one.
    pub(crate) fn on_wrong(&mut self) {
        self.is_wrong |= self.numbering() == Numbering::Unproven;
    }

    /// True if this answer came before. The status has to be the same: Tapo C520WS refuses a
    /// keep-alive with the CSeq of the request before it, which it had answered with 200.
    pub(crate) fn has(&self, answer: SeenAnswer) -> bool {
        self.answered.contains(&answer)
    }

    /// An answer came again. True if the server does so regularly.
    pub(crate) fn on_repeated(&mut self) -> bool {
        self.repeats = self.repeats.saturating_add(1);
        self.repeats >= REPEATS_OF_A_HABIT
    }

    pub(crate) fn numbering(&self) -> Numbering {
        match self.right {
            _ if self.is_wrong => Numbering::Wrong,
            ENOUGH_RIGHT.. => Numbering::Right,
            _ => Numbering::Unproven,
        }
    }

    /// True if too few answers have named their requests for the numbers to be trusted.
    pub(crate) fn is_unproven(&self) -> bool {
        self.numbering() == Numbering::Unproven
    }

    /// True while answers are only counted, because it is unknown which request each belongs to.
    pub(crate) fn is_counting(&self) -> bool {
        self.unnumbered > 0
    }

    /// An answer named no outstanding request while `waiting` requests wait. True if as many of
    /// these answers have come: then all requests are answered, and it is unknown which answer
    /// belongs to which.
    pub(crate) fn on_unnumbered(&mut self, waiting: usize) -> bool {
        self.unnumbered += 1;
        let is_complete = self.unnumbered >= waiting;
        if is_complete {
            (self.unnumbered, self.is_wrong) = (0, true);
        }
        is_complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(cseq: u32, status: u16, content: u64) -> SeenAnswer {
        SeenAnswer {
            cseq,
            status,
            content,
        }
    }

    #[test]
    fn an_answer_is_repeated_only_with_the_same_status() {
        let mut history = AnswerHistory::default();
        history.on_right(seen(1, 401, 1));
        history.on_right(seen(2, 200, 1));
        assert!(history.has(seen(1, 401, 1)) && history.has(seen(2, 200, 1)));
        assert!(!history.has(seen(2, 400, 1)) && !history.has(seen(3, 200, 1)));
        assert!(!history.has(seen(2, 200, 2)), "it says something else");
        assert!(!history.on_repeated(), "one is an accident");
        assert!(history.on_repeated());
    }

    #[test]
    fn only_so_many_answers_are_remembered() {
        let mut history = AnswerHistory::default();
        for cseq in 0..1000 {
            history.on_right(seen(cseq, 200, 1));
        }
        assert_eq!(history.answered.len(), REMEMBERED);
        assert!(history.has(seen(999, 200, 1)) && !history.has(seen(0, 200, 1)));
    }

    #[test]
    fn numbers_are_believed_after_two_right_ones_and_never_after_a_wrong_one() {
        let mut history = AnswerHistory::default();
        history.on_right(seen(1, 200, 1));
        assert_eq!(history.numbering(), Numbering::Unproven);
        let mut constant = AnswerHistory::default();
        constant.on_right(seen(1, 200, 1));
        constant.on_wrong();
        constant.on_right(seen(1, 200, 1));
        assert_eq!(constant.numbering(), Numbering::Wrong);
        history.on_right(seen(2, 200, 1));
        history.on_wrong();
        assert_eq!(history.numbering(), Numbering::Right, "a Tapo's refusal");
    }

    #[test]
    fn as_many_unnumbered_answers_as_requests_wait_leave_none_unanswered() {
        let mut history = AnswerHistory::default();
        assert!(!history.on_unnumbered(2));
        assert!(history.on_unnumbered(2));
        assert_eq!(history.numbering(), Numbering::Wrong);
    }
}
