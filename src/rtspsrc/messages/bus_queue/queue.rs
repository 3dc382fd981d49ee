//! Which messages wait for a bus, and which are dropped when there are too many. Pure.

use std::collections::VecDeque;

/// How many messages wait before some are dropped: more than all elements of a large pipeline post at a
/// start.
const CAPACITY: usize = 1024;

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// ERROR with this text.
    Error(String),
    /// WARNING with this text.
    Warning(String),
    /// What happens to a session.
    Session,
    /// What is known of a server.
    Server,
    /// PROGRESS.
    Progress,
    /// QOS.
    Overflow,
    /// No message, but a mark: its owner learns when those before it are posted.
    Mark,
}

impl Topic {
    /// Whether it must reach the bus, and soon.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Self::Error(_) | Self::Warning(_) | Self::Mark)
    }
}

struct QueuedMessage<S, M> {
    source: S,
    topic: Topic,
    message: M,
}

/// The messages of one bus, in order.
pub(super) struct MessageQueue<S, M>(VecDeque<QueuedMessage<S, M>>);

impl<S, M> Default for MessageQueue<S, M> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<S: PartialEq, M> MessageQueue<S, M> {
    /// Puts a message behind all others. Returns the message that is dropped for it, which may be itself.
    ///
    /// An error or warning that waits already is not queued twice. In a full queue an older message of
    /// the same source and topic is dropped: the later one has its counts. If there is none, the oldest
    /// message that is neither error nor warning is dropped.
    pub(super) fn push(&mut self, source: S, topic: Topic, message: M) -> Option<M> {
        let is_same = |entry: &QueuedMessage<S, M>| entry.source == source && entry.topic == topic;
        let mut dropped = None;
        if matches!(topic, Topic::Error(_) | Topic::Warning(_)) {
            if self.0.iter().any(is_same) {
                return Some(message);
            }
        } else if self.0.len() >= CAPACITY && topic != Topic::Mark {
            let can_go = |entry: &QueuedMessage<S, M>| !entry.topic.is_kept();
            let at = self.0.iter().position(is_same);
            let Some(at) = at.or_else(|| self.0.iter().position(can_go)) else {
                return Some(message);
            };
            dropped = self.0.remove(at).map(|entry| entry.message);
        }
        self.0.push_back(QueuedMessage {
            source,
            topic,
            message,
        });
        dropped
    }

    /// Takes out the next message to post.
    pub(super) fn pop(&mut self) -> Option<(S, M)> {
        self.0
            .pop_front()
            .map(|entry| (entry.source, entry.message))
    }

    /// Takes out all messages of `source`.
    pub(super) fn take_of(&mut self, source: &S) -> Vec<M> {
        let (its, others) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|entry| entry.source == *source);
        self.0 = others;
        let its: VecDeque<QueuedMessage<S, M>> = its;
        its.into_iter().map(|entry| entry.message).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut MessageQueue<u32, u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop().map(|(_, message)| message)).collect()
    }

    fn error(text: &str) -> Topic {
        Topic::Error(text.to_owned())
    }

    /// Which message a full queue drops when another one comes. The new one is number 0, those before it
    /// 1 to CAPACITY.
    #[test]
    fn which_message_a_full_queue_drops() {
        let cases = [
            // Filled with, comes, dropped.
            ((1, Topic::Progress), (1, Topic::Progress), Some(1)),
            ((1, Topic::Progress), (2, Topic::Progress), Some(1)),
            ((1, Topic::Overflow), (2, Topic::Session), Some(1)),
            ((1, Topic::Session), (1, error("e")), None),
            (
                (1, Topic::Session),
                (1, Topic::Warning("w".to_owned())),
                None,
            ),
            ((1, Topic::Session), (1, Topic::Mark), None),
            ((1, Topic::Mark), (1, Topic::Session), Some(0)),
        ];
        for ((source, topic), (next_source, next), dropped) in cases {
            let mut queue = MessageQueue::default();
            for number in 1..=CAPACITY as u32 {
                assert_eq!(queue.push(source, topic.clone(), number), None);
            }
            assert_eq!(
                queue.push(next_source, next.clone(), 0),
                dropped,
                "{next:?}"
            );
        }
    }

    #[test]
    fn of_two_messages_of_one_source_and_topic_the_later_one_stays() {
        let mut queue = MessageQueue::default();
        queue.push(1, Topic::Progress, 1);
        queue.push(7, Topic::Overflow, 2);
        for number in 3..=CAPACITY as u32 {
            queue.push(1, Topic::Progress, number);
        }
        assert_eq!(queue.push(7, Topic::Overflow, 0), Some(2));
        let left = drain(&mut queue);
        assert_eq!((left.len(), left[0], left[CAPACITY - 1]), (CAPACITY, 1, 0));
    }

    #[test]
    fn errors_are_never_lost_and_told_once() {
        let mut queue = MessageQueue::default();
        for number in 0..2 * CAPACITY as u32 {
            assert_eq!(queue.push(number, error("e"), number), None);
        }
        assert_eq!(queue.push(1, error("e"), 7777), Some(7777));
        assert_eq!(queue.push(1, error("other"), 8888), None);
        assert_eq!(drain(&mut queue).len(), 2 * CAPACITY + 1);
    }

    #[test]
    fn the_messages_of_a_source_that_leaves_are_taken_out() {
        let mut queue = MessageQueue::default();
        for number in 0..6 {
            queue.push(number % 2, Topic::Session, number);
        }
        assert_eq!(queue.take_of(&1), [1, 3, 5]);
        assert_eq!(drain(&mut queue), [0, 2, 4]);
    }
}
