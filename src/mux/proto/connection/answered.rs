//! The history of a server's answers, and whether their CSeq tells which request they answer.
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
};

use crate::mux::proto::wire::message::Message;

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
#[derive(Debug)]
struct Answered {
    cseq: u32,
    status: u16,
    content: Content,
}

/// A hash of what an answer describes or sets up, without its date: it tells two answers with the
/// same CSeq apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content(u64);

impl Content {
    pub(crate) fn of(response: &Message) -> Self {
        let mut hasher = DefaultHasher::new();
        for name in ["Content-Base", "Session", "Transport"] {
            response.headers.first(name).hash(&mut hasher);
        }
        response.body.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The answers of one connection.
#[derive(Debug, Default)]
pub(crate) struct AnswerHistory {
    /// The answers that named an outstanding request, the newest one last.
    answered: VecDeque<Answered>,
    right: u32,
    is_wrong: bool,
    repeats: u32,
    /// The number of answers that named no outstanding request while several requests waited.
    unnumbered: usize,
}

impl AnswerHistory {
    /// An answer named an outstanding request, and belongs to it.
    pub(crate) fn on_right(&mut self, cseq: u32, status: u16, content: Content) {
        self.right = self.right.saturating_add(1);
        if self.answered.len() == REMEMBERED {
            self.answered.pop_front();
        }
        self.answered.push_back(Answered {
            cseq,
            status,
            content,
        });
    }

    /// Only one request was outstanding, and its answer named another one.
    pub(crate) fn on_wrong(&mut self) {
        self.is_wrong |= self.numbering() == Numbering::Unproven;
    }

    /// True if this answer came before. The status has to be the same: Tapo C520WS refuses a
    /// keep-alive with the CSeq of the request before it, which it had answered with 200.
    pub(crate) fn is_repeated(&self, cseq: u32, status: u16, content: Content) -> bool {
        let mut answered = self.answered.iter();
        answered.any(|it| it.cseq == cseq && it.status == status && it.content == content)
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

    const SAME: Content = Content(1);

    #[test]
    fn an_answer_is_repeated_only_with_the_same_status() {
        let mut history = AnswerHistory::default();
        history.on_right(1, 401, SAME);
        history.on_right(2, 200, SAME);
        assert!(history.is_repeated(1, 401, SAME) && history.is_repeated(2, 200, SAME));
        assert!(!history.is_repeated(2, 400, SAME) && !history.is_repeated(3, 200, SAME));
        assert!(
            !history.is_repeated(2, 200, Content(2)),
            "it says something else"
        );
        assert!(!history.on_repeated(), "one is an accident");
        assert!(history.on_repeated());
    }

    #[test]
    fn only_so_many_answers_are_remembered() {
        let mut history = AnswerHistory::default();
        for cseq in 0..1000 {
            history.on_right(cseq, 200, SAME);
        }
        assert_eq!(history.answered.len(), REMEMBERED);
        assert!(history.is_repeated(999, 200, SAME) && !history.is_repeated(0, 200, SAME));
    }

    #[test]
    fn numbers_are_believed_after_two_right_ones_and_never_after_a_wrong_one() {
        let mut history = AnswerHistory::default();
        history.on_right(1, 200, SAME);
        assert_eq!(history.numbering(), Numbering::Unproven);
        let mut constant = AnswerHistory::default();
        constant.on_right(1, 200, SAME);
        constant.on_wrong();
        constant.on_right(1, 200, SAME);
        assert_eq!(constant.numbering(), Numbering::Wrong);
        history.on_right(2, 200, SAME);
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
