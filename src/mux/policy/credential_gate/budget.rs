//! How often credentials may be tried that the server has not accepted.

use std::time::{Duration, Instant};

use crate::mux::proto::Tag;

/// A second try may go out when the first is answered, or so old.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first minute, in which there are two tries; and the first wait after it.
const MINUTE: Duration = Duration::from_secs(60);
/// Each wait is twice the one before it, up to this one.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// At most so many tries within so long.
const MOST_TRIES: usize = 4;
const MOST_TRIES_WITHIN: Duration = Duration::from_secs(30 * 60);
/// Tries in a minute whose answers say nothing of the credentials (a recorder with dead channels).
const MOST_UNDECIDED: usize = 16;
/// Tries that are remembered.
const REMEMBERED: usize = 64;

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is no answer yet.
    Pending,
    /// The server refused it, or closed the connection.
    Refused,
    /// The server refused it for its nonce.
    Excused,
    /// The answer says nothing of the credentials.
    Undecided,
}

#[derive(Clone, Copy, Debug)]
struct Try<C> {
    at: Instant,
    connection: C,
    uri: Tag,
    outcome: Outcome,
}

/// Whether a try may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Decision {
    Go,
    /// An answer that is awaited decides.
    Wait,
    NotBefore(Instant),
}

/// The tries since the server last accepted the credentials.
#[derive(Debug)]
pub(super) struct Budget<C> {
    /// Oldest first.
    tries: Vec<Try<C>>,
    /// When the first was made, and how many were made after the first minute.
    row: Option<(Instant, u32)>,
    /// A connection was closed once behind a 401: no try is taken for unseen again.
    was_unseen: bool,
}

impl<C> Default for Budget<C> {
    fn default() -> Self {
        Self {
            tries: Vec::new(),
            row: None,
            was_unseen: false,
        }
    }
}

impl<C: Copy + Eq> Budget<C> {
    pub(super) fn on_tried(&mut self, now: Instant, connection: C, uri: Tag) {
        self.add(now, connection, uri, Outcome::Pending);
    }

    /// A refusal. What was sent before the credentials became unproven is no try of its own.
    pub(super) fn on_refused(&mut self, now: Instant, connection: C, uri: Tag) {
        let is_known = self.tries.iter().any(|it| it.outcome == Outcome::Refused);
        if !self.settle_one(connection, Some(uri), Outcome::Refused) && !is_known {
            self.add(now, connection, uri, Outcome::Refused);
        }
    }

    /// The answer to the connection's try has come, or none will.
    pub(super) fn settle(&mut self, connection: C, outcome: Outcome) {
        self.settle_one(connection, None, outcome);
    }

    /// The server closed the connection behind its 401 and has not seen the try. A server that closes
    /// in place of a refusal looks the same, so that is believed once.
    pub(super) fn on_unseen(&mut self, connection: C) {
        let is_it = |it: &Try<C>| it.connection == connection && it.outcome == Outcome::Pending;
        if let Some(at) = self.tries.iter().rposition(is_it) {
            match std::mem::replace(&mut self.was_unseen, true) {
                true => self.settle(connection, Outcome::Refused),
                false => drop(self.tries.remove(at)),
            }
        }
    }

    fn settle_one(&mut self, connection: C, uri: Option<Tag>, outcome: Outcome) -> bool {
        let is_it = |it: &&mut Try<C>| {
            let is_its = it.connection == connection && uri.is_none_or(|uri| it.uri == uri);
            is_its && it.outcome == Outcome::Pending
        };
        let pending = self.tries.iter_mut().rev().find(is_it);
        let is_found = pending.is_some();
        if let Some(pending) = pending {
            pending.outcome = outcome;
        }
        is_found
    }

    fn add(&mut self, now: Instant, connection: C, uri: Tag, outcome: Outcome) {
        self.tries
            .retain(|it| now.saturating_duration_since(it.at) < MOST_TRIES_WITHIN);
        if self.tries.is_empty() {
            self.row = None;
        }
        let (began, later) = self.row.unwrap_or((now, 0));
        let is_later = now.saturating_duration_since(began) >= MINUTE;
        self.row = Some((began, later + u32::from(is_later)));
        if self.tries.len() == REMEMBERED {
            self.tries.remove(0);
        }
        self.tries.push(Try {
            at: now,
            connection,
            uri,
            outcome,
        });
    }

    /// Whether a try for `uri` may go out; `is_weaker`: with the next weaker algorithm than the one
    /// that was refused.
    pub(super) fn decide(&self, now: Instant, uri: Tag, is_weaker: bool) -> Decision {
        let is_recent = |it: &&Try<C>| now.saturating_duration_since(it.at) < MOST_TRIES_WITHIN;
        let recent: Vec<&Try<C>> = self.tries.iter().filter(is_recent).collect();
        // Of these an answer says nothing; so only the pace of the first minute counts them.
        let is_undecided = |it: &&Try<C>| it.outcome == Outcome::Undecided;
        let (undecided, counted): (Vec<&Try<C>>, Vec<&Try<C>>) =
            recent.into_iter().partition(|it| is_undecided(it));
        let Some((last, (began, later))) = counted.last().zip(self.row) else {
            return Self::among_undecided(now, &undecided);
        };
        let age = |it: &Try<C>| now.saturating_duration_since(it.at);
        let is_pending = |it: &&Try<C>| it.outcome == Outcome::Pending;
        let mut pending = counted.iter().copied().filter(is_pending);
        if pending.clone().any(|it| age(it) < PATIENCE) {
            return Decision::Wait;
        }
        let was_slow = undecided.iter().all(|it| age(it) >= MINUTE);
        let is_second =
            counted.len() == 1 && was_slow && now.saturating_duration_since(began) < MINUTE;
        let is_other = is_weaker || last.uri != uri || last.outcome == Outcome::Excused;
        let mut earliest = match is_second && is_other {
            true => last.at,
            false => last.at + wait(later),
        };
        let fourth = counted.len().checked_sub(MOST_TRIES);
        if let Some(fourth) = fourth.and_then(|at| counted.get(at)) {
            earliest = earliest.max(fourth.at + MOST_TRIES_WITHIN);
        }
        if now >= earliest {
            return Decision::Go;
        }
        // Its answer may be good news.
        match pending.any(|it| age(it) < MINUTE) {
            true => Decision::Wait,
            false => Decision::NotBefore(earliest),
        }
    }

    fn among_undecided(now: Instant, undecided: &[&Try<C>]) -> Decision {
        let in_minute = |it: &&&Try<C>| now.saturating_duration_since(it.at) < MINUTE;
        let mut last_minute = undecided.iter().filter(in_minute);
        let oldest = last_minute.clone().next();
        match oldest.filter(|_| last_minute.by_ref().count() >= MOST_UNDECIDED) {
            Some(oldest) => Decision::NotBefore(oldest.at + MINUTE),
            None => Decision::Go,
        }
    }

    /// Whether forgetting it allows nothing more.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        let last = self.tries.last();
        last.is_none_or(|last| now.saturating_duration_since(last.at) >= MOST_TRIES_WITHIN)
    }
}

fn wait(later: u32) -> Duration {
    MINUTE.saturating_mul(1 << later.min(8)).min(LONGEST_WAIT)
}
