//! What a server has answered, and whether its answers can be told apart by their CSeq.
//!
//! An answer names its request by CSeq. Servers are seen to break that in three ways: an answer comes
//! more than once (live555 2012 to 2026 answers a DESCRIBE once more for each byte that follows it,
//! 134 times for one SETUP); every answer names the same number (Foscam C1, IP Webcam: 0); every
//! answer names the request before (one behind). A repeated answer is dropped. Where the numbers say
//! nothing, an answer belongs to the one request that is out, and no other goes out beside it.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::mux::proto::wire::message::Message;

/// Answers remembered. A repeated answer comes right behind the first one; a connection with 128
/// sessions has as many answers in a row.
const REMEMBERED: usize = 256;

/// Repeated answers from which on one request is sent at a time: a single one may be an accident.
const REPEATS_OF_A_HABIT: u32 = 2;

/// Rightly numbered answers after which a number is believed. A server that always says 1 is right
/// once.
const ENOUGH_RIGHT: u32 = 2;

/// What the CSeq of an answer is worth on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// Too few answers to tell.
    Unproven,
    /// Answers name their requests.
    Right,
    /// They do not.
    Wrong,
}

/// One answer that named its request.
#[derive(Debug)]
struct Answered {
    cseq: u32,
    status: u16,
    content: Content,
}

/// Tells answers apart that have the same number: what they describe or set up, not their date.
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
    /// The answers that named an outstanding request, the latest one last.
    answered: VecDeque<Answered>,
    right: u32,
    is_wrong: bool,
    repeats: u32,
    /// Answers that named nothing outstanding while several requests waited.
    unnumbered: usize,
}

impl AnswerHistory {
    /// An answer named the outstanding request it belongs to.
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

    /// An answer named another request than the only one that was out, and was taken for its answer.
    pub(crate) fn on_wrong(&mut self) {
        self.is_wrong |= self.numbering() == Numbering::Unproven;
    }

    /// Whether this answer was given before. The status has to be the same: Tapo C520WS refuses a
    /// keep-alive with the CSeq of the request before it, which it had answered with 200.
    pub(crate) fn is_repeated(&self, cseq: u32, status: u16, content: Content) -> bool {
        let mut answered = self.answered.iter();
        answered.any(|it| it.cseq == cseq && it.status == status && it.content == content)
    }

    /// An answer was given once more. True if the server does so by habit.
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

    /// Whether too few answers have named their requests for the numbers to be believed.
    pub(crate) fn is_unproven(&self) -> bool {
        self.numbering() == Numbering::Unproven
    }

    /// Whether answers are being counted, since nothing tells which is whose.
    pub(crate) fn is_counting(&self) -> bool {
        self.unnumbered > 0
    }

    /// An answer named nothing outstanding, and `waiting` requests wait. True if so many
    /// have come by now: all are answered, and nothing tells which answer is whose.
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
