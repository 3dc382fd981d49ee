//! Which connection may try the credentials of one server and user, over all connections together
//! (fault F22).
//!
//! Cameras lock an account after a few wrong passwords. So until the server has accepted the user, one
//! connection at a time has the permit to try, and a budget bounds the tries: no second one before the
//! first is answered or a second old, and that one only for another presentation or with the next
//! weaker algorithm of the same answer; two in the first minute, then one after a minute, after two,
//! after four, up to a quarter of an hour, and never more than four in half an hour. 64 sessions with
//! a wrong password cost the camera as many tries as two.
//!
//! Each request that carries the credentials counts, however it is answered: a server may look for the
//! camera before the password (404), or count a failed login and answer 503. A recorder with dead
//! channels and the right password must play its good ones all the same. So the second try is spent
//! on the presentation that is most likely to tell: after a 404 or 503 the gate waits 300 ms for the
//! sessions that start together, and takes one that is far from the first in their order, as dead
//! channels are often neighbours; a later try takes one from between. Where both are dead, the
//! third try is due after a minute: a locked account costs half an hour, for all clients.
//!
//! A refusal after the server had accepted the user may be about one camera of a recorder that this
//! user may not see. It counts, and the user is unproven again until the next request is accepted.
//!
//! Two connections may invalidate each other's challenges, where a nonce is the server's and good for
//! one request. Such a refusal is excused, and from then on they take turns.
//!
//! Pure: time is passed in. Each call returns what to tell which connection.

mod budget;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

pub(crate) use self::budget::CredentialBudget;
use self::budget::{Decision, TryOutcome};
use crate::mux::proto::{
    CredentialStatus, CredentialWant, Permit, PermitReturn, Refusal, RefusalVerdict, Strength, Tag,
};

/// How long connections take turns after they invalidated each other's challenges.
const TURNS: Duration = Duration::from_secs(60);
/// A connection with a permit asks once more after a second; before that, its question and the permit
/// have crossed.
const PERMIT_CROSSES: Duration = Duration::from_millis(900);
/// Connections that wait longer for the second try ask so long before it.
const HALFWAY: Duration = Duration::from_millis(150);
/// Challenges that are remembered.
const MOST_CHALLENGES: usize = 256;

/// What to tell a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Status(CredentialStatus),
    Verdict(RefusalVerdict),
}

/// Notices, in order, and to which connection.
pub(crate) type Notices<C> = Vec<(C, Notice)>;

/// A challenge that a connection got.
#[derive(Clone, Copy, Debug)]
struct SeenChallenge<C> {
    at: Instant,
    connection: C,
    realm: Tag,
    nonce: Tag,
}

/// The gate of one server and one set of credentials. `C` names a connection.
#[derive(Debug, Default)]
pub(crate) struct CredentialGate<C> {
    members: Vec<C>,
    /// The server has accepted the credentials.
    pub(crate) is_proven: bool,
    /// The server has answered a request without asking for credentials.
    is_open: bool,
    /// The connection that has the permit, and since when.
    holder: Option<(C, Instant)>,
    queue: VecDeque<(C, Vec<CredentialWant>)>,
    /// That which the process has for this server and user, lent to the gate while a call lasts.
    pub(crate) budget: CredentialBudget<C>,
    /// The next try uses a weaker algorithm than this one, which was refused.
    below: Option<Strength>,
    /// Accepted where a stronger one had been refused.
    ceiling: Option<Strength>,
    challenges: VecDeque<SeenChallenge<C>>,
    turns_until: Option<Instant>,
    closes_behind_401: bool,
}

impl<C: Copy + Default + Eq> CredentialGate<C> {
    /// A connection that may need the credentials comes; tells what it starts with.
    pub(crate) fn join(&mut self, now: Instant, connection: C) -> CredentialStatus {
        self.members.push(connection);
        self.status(now)
    }

    /// A connection is over. If it was trying, the server may have closed it in place of an answer.
    pub(crate) fn leave(&mut self, now: Instant, connection: C) -> Notices<C> {
        self.members.retain(|member| *member != connection);
        self.queue.retain(|(waiting, _)| *waiting != connection);
        self.budget.settle(connection, None, TryOutcome::Lost);
        if self.members.is_empty() {
            // The server may be another one by the next time.
            self.is_proven = false;
            self.is_open = false;
            self.turns_until = None;
            self.challenges.clear();
        }
        self.release(now, connection)
    }

    /// Requests of a connection need a permit: the connection gets it, or waits, or is told that
    /// there is none.
    pub(crate) fn on_wanted(
        &mut self,
        now: Instant,
        connection: C,
        wants: Vec<CredentialWant>,
    ) -> Notices<C> {
        // The question and the permit have crossed. A connection that lost its permit asks once more.
        let has_just_got = |since| now.saturating_duration_since(since) < PERMIT_CROSSES;
        match self.holder {
            Some((holder, since)) if holder == connection && has_just_got(since) => {
                return Vec::new();
            }
            _ => self.take_permit(connection),
        }
        // A connection that asks once more keeps its place.
        let is_it = |place: &&mut (C, Vec<CredentialWant>)| place.0 == connection;
        match self.queue.iter_mut().find(is_it) {
            Some(place) => place.1 = wants,
            None => self.queue.push_back((connection, wants)),
        }
        self.pass_on(now)
    }

    /// A request with the credentials went out.
    pub(crate) fn on_tried(&mut self, now: Instant, connection: C, uri: Tag) {
        if !self.is_proven {
            self.budget.add(now, connection, uri, TryOutcome::Pending);
        }
    }

    /// The server has accepted the credentials.
    pub(crate) fn on_proven(
        &mut self,
        now: Instant,
        connection: C,
        strength: Strength,
    ) -> Notices<C> {
        if self.below.take().is_some_and(|refused| strength < refused) {
            self.ceiling = Some(strength);
        }
        self.budget = CredentialBudget::default();
        let was_proven = std::mem::replace(&mut self.is_proven, true);
        let status = self.status(now);
        let mut notices = match was_proven {
            true => vec![(connection, Notice::Status(status))],
            false => self.tell_all(status),
        };
        notices.extend(self.release(now, connection));
        notices
    }

    /// The server has answered a request without asking for credentials: others may go without, too.
    pub(crate) fn on_not_asked(&mut self, now: Instant) -> Notices<C> {
        if std::mem::replace(&mut self.is_open, true) || self.is_proven {
            return Vec::new();
        }
        let mut notices = self.tell_all(self.status(now));
        let holder = self.holder.map(|(holder, _)| holder);
        notices.retain(|(connection, _)| Some(*connection) != holder);
        notices
    }

    /// A permit comes back, or a question is taken back.
    pub(crate) fn on_returned(
        &mut self,
        now: Instant,
        connection: C,
        reason: PermitReturn,
    ) -> Notices<C> {
        let outcome = match reason {
            // What is not answered yet may be a refusal.
            PermitReturn::Unused | PermitReturn::Unanswered => None,
            PermitReturn::Undecided => Some(TryOutcome::Undecided),
            // A server that closes in place of a refusal looks the same. So it counts.
            PermitReturn::Excused | PermitReturn::Unseen => Some(TryOutcome::Excused),
        };
        self.closes_behind_401 |= reason == PermitReturn::Unseen;
        if let Some(outcome) = outcome {
            self.budget.settle(connection, None, outcome);
        }
        self.queue.retain(|(waiting, _)| *waiting != connection);
        self.release(now, connection)
    }

    /// A connection has got a challenge.
    pub(crate) fn on_challenged(&mut self, now: Instant, connection: C, realm: Tag, nonce: Tag) {
        if self.challenges.len() == MOST_CHALLENGES {
            self.challenges.pop_front();
        }
        self.challenges.push_back(SeenChallenge {
            at: now,
            connection,
            realm,
            nonce,
        });
    }

    /// Whether a refusal is to be reported once more in a moment: another connection may have been
    /// challenged meanwhile and not told yet.
    pub(crate) fn is_premature(&self, connection: C, refusal: &Refusal) -> bool {
        let has_others = self.members.iter().any(|member| *member != connection);
        let may_be_excused = self.is_proven && has_others && !refusal.is_same_nonce;
        may_be_excused && !self.is_disturbed(connection, refusal)
    }

    /// A connection reports a refusal.
    pub(crate) fn on_refused(
        &mut self,
        now: Instant,
        connection: C,
        refusal: &Refusal,
    ) -> Notices<C> {
        let is_excused = self.is_disturbed(connection, refusal);
        let was_proven = self.is_proven;
        // Where they take turns they have no other status, and one of them is at work.
        let is_change = was_proven && !self.takes_turns(now);
        let verdict = if is_excused {
            self.turns_until = Some(now + TURNS);
            self.budget.settle(connection, None, TryOutcome::Excused);
            RefusalVerdict::Excused
        } else {
            self.is_proven = false;
            self.budget.on_refused(now, connection, refusal.uri);
            let may_weaken = refusal.offers_weaker && !was_proven;
            self.below = may_weaken.then_some(refusal.strength);
            RefusalVerdict::Refused {
                try_weaker: may_weaken,
            }
        };
        let mut notices = match is_change {
            true => self.tell_all(self.status(now)),
            false => Vec::new(),
        };
        notices.push((connection, Notice::Verdict(verdict)));
        notices.extend(self.release(now, connection));
        notices
    }

    /// Whether forgetting the gate changes nothing.
    pub(crate) fn is_forgettable(&self, now: Instant) -> bool {
        self.members.is_empty() && self.budget.is_forgettable(now) && self.ceiling.is_none()
    }

    /// Whether another connection may have made the challenge invalid that was answered: it got one of
    /// the realm since, or the same nonce.
    fn is_disturbed(&self, connection: C, refusal: &Refusal) -> bool {
        let is_void = !refusal.is_same_nonce;
        let mut challenges = self.challenges.iter().filter(|_| is_void);
        challenges.any(|other| {
            let is_others = other.connection != connection && other.realm == refusal.realm;
            is_others && (other.at >= refusal.challenged || other.nonce == refusal.nonce)
        })
    }

    fn takes_turns(&self, now: Instant) -> bool {
        self.turns_until.is_some_and(|until| now < until)
    }

    fn status(&self, now: Instant) -> CredentialStatus {
        match self.is_proven {
            true if !self.takes_turns(now) => CredentialStatus::Proven(self.ceiling),
            is_proven => CredentialStatus::Unproven {
                is_exclusive: is_proven || !self.is_open,
            },
        }
    }

    fn tell_all(&self, status: CredentialStatus) -> Notices<C> {
        let members = self.members.iter();
        members
            .map(|member| (*member, Notice::Status(status)))
            .collect()
    }

    fn take_permit(&mut self, connection: C) {
        let is_its = |(holder, _): &mut (C, Instant)| *holder == connection;
        if self.holder.take_if(is_its).is_some() {
            self.budget.permit.take_if(is_its);
        }
    }

    /// A connection has the permit no more.
    fn release(&mut self, now: Instant, connection: C) -> Notices<C> {
        self.take_permit(connection);
        self.pass_on(now)
    }

    /// Answers the connections that wait, as far as there is an answer.
    fn pass_on(&mut self, now: Instant) -> Notices<C> {
        let mut notices = Vec::new();
        if self.is_proven && !self.takes_turns(now) {
            let status = Notice::Status(self.status(now));
            notices.extend(self.queue.drain(..).map(|(waiting, _)| (waiting, status)));
            return notices;
        }
        if self.holder.is_none()
            && let Some((at, permit)) = self.next_in_line(now)
            && let Some((connection, _)) = self.queue.remove(at)
        {
            self.holder = Some((connection, now));
            if !self.is_proven {
                self.budget.permit = Some((connection, now));
            }
            let status = CredentialStatus::Permitted(permit);
            notices.push((connection, Notice::Status(status)));
        }
        // The connection that tries may have its request accepted.
        if !self.is_proven && self.holder.is_none() {
            self.turn_away(now, &mut notices);
        }
        notices
    }

    /// The connection that is next, and for which presentation: first the presentations that the
    /// server has accepted before.
    fn next_in_line(&self, now: Instant) -> Option<(usize, Permit)> {
        let may_go =
            |want: &CredentialWant| self.is_proven || self.decide(now, want) == Decision::Go;
        let candidates = self.queue.iter().enumerate().flat_map(|(at, (_, wants))| {
            let wants = wants.iter().filter(|want| may_go(want));
            wants.map(move |want| (at, want))
        });
        let (at, want) = self.most_telling(&candidates.collect::<Vec<_>>())?;
        let permit = Permit {
            uri: want.uri,
            below: self.below,
            ceiling: self.ceiling,
            closes_behind_401: self.closes_behind_401,
        };
        Some((at, permit))
    }

    /// The request whose answer is most likely to tell whether the credentials are right: one of a
    /// presentation that was accepted before, or else one that was not tried, far from those that were.
    fn most_telling<'a>(
        &self,
        candidates: &[(usize, &'a CredentialWant)],
    ) -> Option<(usize, &'a CredentialWant)> {
        let mut accepted = candidates.iter().filter(|(_, want)| want.was_accepted);
        if let Some(accepted) = accepted.next().copied() {
            return Some(accepted);
        }
        let is_weaker = |want: &CredentialWant| want.is_weaker || self.below.is_some();
        let is_new = |want: &CredentialWant| is_weaker(want) || !self.budget.has_tried(want.uri);
        let new = candidates.iter().filter(|(_, want)| is_new(want)).copied();
        let new: Vec<_> = new.collect();
        let candidates = if new.is_empty() { candidates } else { &new };
        // Those that wait on the connection that tried last began with it, and are its neighbours.
        let is_elsewhere = |at: usize| {
            let connection = self.queue.get(at).map(|(connection, _)| *connection);
            connection != self.budget.tries.last().map(|last| last.connection)
        };
        let elsewhere = candidates.iter().filter(|(at, _)| is_elsewhere(*at));
        let elsewhere: Vec<_> = elsewhere.copied().collect();
        let is_first = self.is_proven || self.below.is_some() || self.budget.tries.is_empty();
        let candidates = match is_first || elsewhere.is_empty() {
            true => candidates,
            false => &elsewhere,
        };
        let tries = if is_first { 0 } else { self.budget.tries.len() };
        let last = candidates.len().checked_sub(1)?;
        candidates.get(spread(tries, last)).copied()
    }

    fn decide(&self, now: Instant, want: &CredentialWant) -> Decision {
        let is_weaker = want.is_weaker || self.below.is_some();
        self.budget.decide(now, want.uri, is_weaker)
    }

    /// Tells the connections that may not try for a while, or may try in a moment.
    fn turn_away(&mut self, now: Instant, notices: &mut Notices<C>) {
        let was_refused = self.budget.has_refusal();
        let queue = std::mem::take(&mut self.queue);
        for (connection, wants) in queue {
            let decisions = wants.iter().map(|want| self.decide(now, want));
            let status = match decisions.min() {
                Some(Decision::NotBefore(until)) => {
                    CredentialStatus::Refused { until, was_refused }
                }
                Some(Decision::Soon(at)) => CredentialStatus::AskAgain {
                    at: ask_again(now, at),
                },
                Some(Decision::Go | Decision::Wait) | None => {
                    self.queue.push_back((connection, wants));
                    continue;
                }
            };
            notices.push((connection, Notice::Status(status)));
            if matches!(status, CredentialStatus::AskAgain { .. }) {
                self.queue.push_back((connection, wants));
            }
        }
    }
}

/// When a connection asks once more that may try at `then`: by then all connections should have told of
/// all the sessions that wait on them, so they ask halfway as well.
fn ask_again(now: Instant, then: Instant) -> Instant {
    let wait = then.saturating_duration_since(now);
    match wait > HALFWAY {
        true => then - HALFWAY,
        false => then,
    }
}

/// Which of the candidates `0..=last` to try after so many tries. The second is from the middle: of a
/// recorder with more channels than cameras the last ones are dead.
fn spread(tries: usize, last: usize) -> usize {
    match tries {
        0 => 0,
        1 => (last * 4).div_ceil(7),
        2 => last - last / 5,
        3 => last / 4,
        _ => last,
    }
}

#[cfg(test)]
mod tests;
