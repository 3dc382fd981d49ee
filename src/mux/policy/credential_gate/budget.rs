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
/// The second try of the first minute is the last one. After an answer that says nothing of the
/// credentials (404, 503) it waits so long for the other sessions that start together, so that the gate
/// can choose among them.
const COMPANY: Duration = Duration::from_millis(300);
/// Tries that are remembered.
const REMEMBERED: usize = 64;

/// A permit is awaited so long from a multiplexer that may be gone, and looked for so often.
const PERMIT_LASTS: Duration = Duration::from_secs(5);
const PERMIT_IS_AWAITED: Duration = Duration::from_millis(20);

/// The outcome of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TryOutcome {
    /// There is no answer yet.
    Pending,
    /// The server refused it.
    Refused,
    /// The connection ended without an answer: the server may have closed it in place of a refusal.
    Lost,
    /// The server refused it for its nonce, or closed the connection before it could see it.
    Excused,
    /// The answer says nothing of the credentials (404, 503).
    Undecided,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Try<C> {
    at: Instant,
    pub(super) connection: C,
    uri: Tag,
    outcome: TryOutcome,
}

/// Whether a try may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Decision {
    Go,
    /// An answer that is awaited decides.
    Wait,
    /// In a moment, when there are more requests to choose from.
    Soon(Instant),
    NotBefore(Instant),
}

/// The tries since the server last accepted the credentials, of all multiplexers of a process.
#[derive(Debug, Default)]
pub(crate) struct CredentialBudget<C> {
    /// Of the present row, oldest first.
    pub(super) tries: Vec<Try<C>>,
    /// When the first was made, and how many were made after the first minute.
    row: Option<(Instant, u32)>,
    /// The connection that has the permit, and since when.
    pub(super) permit: Option<(C, Instant)>,
}

impl<C: Copy + Eq> CredentialBudget<C> {
    /// A refusal. What was sent before the credentials became unproven is no try of its own.
    pub(super) fn on_refused(&mut self, now: Instant, connection: C, uri: Tag) {
        let is_bad = |it: &Try<C>| matches!(it.outcome, TryOutcome::Refused | TryOutcome::Lost);
        let is_known = self.tries.iter().any(is_bad);
        if !self.settle(connection, Some(uri), TryOutcome::Refused) && !is_known {
            self.add(now, connection, uri, TryOutcome::Refused);
        }
    }

    /// Whether the server has refused a try.
    pub(super) fn has_refusal(&self) -> bool {
        self.tries
            .iter()
            .any(|it| it.outcome == TryOutcome::Refused)
    }

    /// Whether a try for `uri` was made of late.
    pub(super) fn has_tried(&self, uri: Tag) -> bool {
        self.tries.iter().any(|it| it.uri == uri)
    }

    /// The answer to the connection's try, for `uri` if that is named, has come, or none will. False if
    /// there is no such try.
    pub(super) fn settle(&mut self, connection: C, uri: Option<Tag>, outcome: TryOutcome) -> bool {
        let is_it = |it: &&mut Try<C>| {
            let is_its = it.connection == connection && uri.is_none_or(|uri| it.uri == uri);
            is_its && it.outcome == TryOutcome::Pending
        };
        let pending = self.tries.iter_mut().rev().find(is_it);
        pending.map(|pending| pending.outcome = outcome).is_some()
    }

    pub(super) fn add(&mut self, now: Instant, connection: C, uri: Tag, outcome: TryOutcome) {
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
        let lasts = |since: Instant| now.saturating_duration_since(since) < PERMIT_LASTS;
        // Of another multiplexer: within one, the gate asks only while no connection has the permit.
        if self.permit.is_some_and(|(_, since)| lasts(since)) {
            return Decision::Soon(now + PERMIT_IS_AWAITED);
        }
        let is_recent = |it: &&Try<C>| now.saturating_duration_since(it.at) < MOST_TRIES_WITHIN;
        let recent: Vec<&Try<C>> = self.tries.iter().filter(is_recent).collect();
        let Some((last, (began, later))) = recent.last().zip(self.row) else {
            return Decision::Go;
        };
        let age = |it: &Try<C>| now.saturating_duration_since(it.at);
        let is_pending = |it: &&Try<C>| it.outcome == TryOutcome::Pending;
        let mut pending = recent.iter().copied().filter(is_pending);
        if pending.clone().any(|it| age(it) < PATIENCE) {
            return Decision::Wait;
        }
        let is_second = recent.len() == 1 && now.saturating_duration_since(began) < MINUTE;
        let is_other = is_weaker || last.uri != uri || last.outcome == TryOutcome::Excused;
        let says_nothing = last.outcome == TryOutcome::Undecided;
        // Also for the same presentation: another one may prove the credentials meanwhile.
        if is_second && says_nothing && age(last) < COMPANY {
            return Decision::Soon(last.at + COMPANY);
        }
        let mut earliest = match is_second && is_other {
            true => last.at,
            false => last.at + wait(later),
        };
        let fourth = recent.len().checked_sub(MOST_TRIES);
        if let Some(fourth) = fourth.and_then(|at| recent.get(at)) {
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

    /// Whether forgetting it allows nothing more.
    pub(crate) fn is_forgettable(&self, now: Instant) -> bool {
        let last = self.tries.last();
        last.is_none_or(|last| now.saturating_duration_since(last.at) >= MOST_TRIES_WITHIN)
    }
}

fn wait(later: u32) -> Duration {
    MINUTE.saturating_mul(1 << later.min(8)).min(LONGEST_WAIT)
}
