//! One try at a time with credentials nobody has proven yet (fault F22).
//!
//! Cameras lock an account after a few wrong passwords. So for one server and one set of
//! credentials, over all connections together, one request at a time carries them until a server
//! did not refuse it. One refusal may be about one camera of a recorder that this user may not see;
//! with the second in a row nobody tries again for a while. 64 sessions with a wrong password cost
//! the camera two tries a minute, not 64.
//!
//! Pure: time is passed in. Each call returns what to tell which connection.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{connection_pool::ConnectionId, proto::CredentialStatus};

/// How long refused credentials are not tried again, and how long a first refusal counts: at most two
/// tries in any minute.
const REFUSAL_MEMORY: Duration = Duration::from_secs(60);

/// What is known of the credentials.
#[derive(Debug)]
enum Knowledge {
    /// Nothing yet. `holder` has the permit to try them; those in `queue` want it.
    Unproven {
        holder: Option<ConnectionId>,
        queue: VecDeque<ConnectionId>,
        /// The last try, if it failed.
        failed: Option<FailedTry>,
    },
    /// They were accepted.
    Proven,
    /// They were refused.
    Refused { until: Instant },
}

/// A try that was refused, or not answered, or whose connection was lost - some cameras close instead
/// of answering 401.
#[derive(Clone, Copy, Debug)]
struct FailedTry {
    at: Instant,
    was_answered: bool,
}

impl FailedTry {
    fn is_recent(self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < REFUSAL_MEMORY
    }
}

impl Knowledge {
    fn nothing() -> Self {
        Self::Unproven {
            holder: None,
            queue: VecDeque::new(),
            failed: None,
        }
    }
}

/// A connection and what it is to be told.
pub(super) type Notice = (ConnectionId, CredentialStatus);

/// The gate of one server and one set of credentials.
#[derive(Debug)]
pub(super) struct CredentialGate {
    knowledge: Knowledge,
    members: Vec<ConnectionId>,
}

impl CredentialGate {
    pub(super) fn new() -> Self {
        Self {
            knowledge: Knowledge::nothing(),
            members: Vec::new(),
        }
    }

    /// A connection that may need the credentials comes; tells what it starts with.
    pub(super) fn join(&mut self, now: Instant, connection: ConnectionId) -> CredentialStatus {
        self.members.push(connection);
        self.forget_old_refusal(now);
        self.status_of(connection)
    }

    /// A connection is over. If it was trying, the next one may.
    pub(super) fn leave(&mut self, now: Instant, connection: ConnectionId) -> Vec<Notice> {
        self.members.retain(|member| *member != connection);
        let Knowledge::Unproven { holder, queue, .. } = &mut self.knowledge else {
            return Vec::new();
        };
        queue.retain(|waiting| *waiting != connection);
        match *holder == Some(connection) {
            true => self.on_refused(now),
            false => Vec::new(),
        }
    }

    /// A connection has a request that needs the credentials: it gets the permit, or waits for it.
    pub(super) fn on_wanted(&mut self, now: Instant, connection: ConnectionId) -> Vec<Notice> {
        self.forget_old_refusal(now);
        match &mut self.knowledge {
            Knowledge::Unproven { holder: None, .. } => self.permit(connection),
            Knowledge::Unproven {
                holder: Some(holder),
                ..
            } if *holder == connection => {
                vec![(connection, CredentialStatus::Permitted)]
            }
            Knowledge::Unproven { queue, .. } => {
                if !queue.contains(&connection) {
                    queue.push_back(connection);
                }
                Vec::new()
            }
            Knowledge::Proven | Knowledge::Refused { .. } => {
                vec![(connection, self.status_of(connection))]
            }
        }
    }

    /// A connection whose permit is idle gives it back, so that others need not wait for it.
    pub(super) fn on_given_back(&mut self, connection: ConnectionId) -> Vec<Notice> {
        match &self.knowledge {
            Knowledge::Unproven {
                holder: Some(holder),
                ..
            } if *holder == connection => {
                let mut notices = vec![(connection, CredentialStatus::Unproven)];
                notices.extend(self.pass_on());
                notices
            }
            _ => Vec::new(),
        }
    }

    /// The request that tried was not answered. It may have been refused, and counts as the first
    /// refusal, or as the second where there was one. By themselves such requests refuse nothing.
    pub(super) fn on_unanswered(&mut self, now: Instant, connection: ConnectionId) -> Vec<Notice> {
        let is_trying = self.status_of(connection) == CredentialStatus::Permitted;
        if is_trying
            && self
                .note_failed(now, false)
                .is_some_and(|first| first.was_answered)
        {
            return self.on_refused(now);
        }
        self.on_given_back(connection)
    }

    /// An authorised request was not refused: everybody may use the credentials freely.
    pub(super) fn on_proven(&mut self) -> Vec<Notice> {
        self.knowledge = Knowledge::Proven;
        self.tell_all(CredentialStatus::Proven)
    }

    /// An authorised request was refused: the next one may try, or nobody does for a while.
    pub(super) fn on_refused(&mut self, now: Instant) -> Vec<Notice> {
        let is_unproven = matches!(self.knowledge, Knowledge::Unproven { .. });
        if is_unproven && self.note_failed(now, true).is_none() {
            return self.pass_on();
        }
        self.knowledge = Knowledge::Refused {
            until: now + REFUSAL_MEMORY,
        };
        self.tell_all(CredentialStatus::Refused)
    }

    /// A try has failed. Gives the one before it, if that has, too, and not long ago.
    fn note_failed(&mut self, now: Instant, was_answered: bool) -> Option<FailedTry> {
        let Knowledge::Unproven { failed, .. } = &mut self.knowledge else {
            return None;
        };
        let this_one = FailedTry {
            at: now,
            was_answered,
        };
        failed
            .replace(this_one)
            .filter(|before| before.is_recent(now))
    }

    /// Before a connection starts something new: a refusal that has expired is forgotten by all.
    pub(super) fn refresh(&mut self, now: Instant) -> Vec<Notice> {
        if self.forget_old_refusal(now) {
            self.tell_all(CredentialStatus::Unproven)
        } else {
            Vec::new()
        }
    }

    /// Whether forgetting the gate changes nothing.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        let matters = match self.knowledge {
            Knowledge::Unproven { failed, .. } => failed.is_some_and(|it| it.is_recent(now)),
            Knowledge::Proven => false,
            Knowledge::Refused { until } => now < until,
        };
        self.members.is_empty() && !matters
    }

    fn forget_old_refusal(&mut self, now: Instant) -> bool {
        let is_old = matches!(self.knowledge, Knowledge::Refused { until } if now >= until);
        if is_old {
            self.knowledge = Knowledge::nothing();
        }
        is_old
    }

    fn status_of(&self, connection: ConnectionId) -> CredentialStatus {
        match self.knowledge {
            Knowledge::Unproven { holder, .. } if holder == Some(connection) => {
                CredentialStatus::Permitted
            }
            Knowledge::Unproven { .. } => CredentialStatus::Unproven,
            Knowledge::Proven => CredentialStatus::Proven,
            Knowledge::Refused { .. } => CredentialStatus::Refused,
        }
    }

    fn permit(&mut self, connection: ConnectionId) -> Vec<Notice> {
        if let Knowledge::Unproven { holder, .. } = &mut self.knowledge {
            *holder = Some(connection);
        }
        vec![(connection, CredentialStatus::Permitted)]
    }

    fn pass_on(&mut self) -> Vec<Notice> {
        let Knowledge::Unproven { holder, queue, .. } = &mut self.knowledge else {
            return Vec::new();
        };
        *holder = None;
        match queue.pop_front() {
            Some(next) => self.permit(next),
            None => Vec::new(),
        }
    }

    fn tell_all(&self, status: CredentialStatus) -> Vec<Notice> {
        self.members
            .iter()
            .map(|member| (*member, status))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);
    const C: ConnectionId = ConnectionId(3);

    fn gate(now: Instant, members: &[ConnectionId]) -> CredentialGate {
        let mut gate = CredentialGate::new();
        for member in members {
            assert_eq!(gate.join(now, *member), CredentialStatus::Unproven);
        }
        gate
    }

    #[test]
    fn f22_one_connection_at_a_time_tries() {
        let now = Instant::now();
        let mut gate = gate(now, &[A, B, C]);
        assert_eq!(gate.on_wanted(now, B), [(B, CredentialStatus::Permitted)]);
        assert_eq!(gate.on_wanted(now, A), []);
        assert_eq!(gate.on_wanted(now, C), []);
        assert_eq!(
            gate.on_wanted(now, B),
            [(B, CredentialStatus::Permitted)],
            "asking twice is no try more"
        );
        assert_eq!(gate.leave(now, B), [(A, CredentialStatus::Permitted)]);
    }

    #[test]
    fn proven_credentials_are_free_for_all_who_come_too() {
        let now = Instant::now();
        let mut gate = gate(now, &[A, B]);
        gate.on_wanted(now, A);
        let told = gate.on_proven();
        assert_eq!(
            told,
            [(A, CredentialStatus::Proven), (B, CredentialStatus::Proven)]
        );
        assert_eq!(gate.join(now, C), CredentialStatus::Proven);
    }

    #[test]
    fn one_camera_that_this_user_may_not_see_keeps_nobody_from_the_others() {
        let now = Instant::now();
        let mut gate = gate(now, &[A, B]);
        gate.on_wanted(now, A);
        gate.on_wanted(now, B);
        assert_eq!(gate.on_refused(now), [(B, CredentialStatus::Permitted)]);
        assert_eq!(gate.on_proven().len(), 2);
    }

    #[test]
    fn f22_refused_credentials_are_tried_twice_a_minute() {
        let start = Instant::now();
        let mut gate = gate(start, &[A, B]);
        let mut tries = 0;
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            for connection in [A, B] {
                gate.refresh(now);
                if gate
                    .on_wanted(now, connection)
                    .contains(&(connection, CredentialStatus::Permitted))
                {
                    tries += 1;
                    gate.on_refused(now);
                }
            }
        }
        assert_eq!(tries, 20);
    }

    #[test]
    fn f22_a_server_that_closes_instead_of_refusing_is_not_tried_for_ever() {
        let now = Instant::now();
        let mut gate = gate(now, &[A, B, C]);
        for connection in [A, B, C] {
            gate.on_wanted(now, connection);
        }
        assert_eq!(gate.leave(now, A), [(B, CredentialStatus::Permitted)]);
        assert_eq!(gate.leave(now, B), [(C, CredentialStatus::Refused)]);
    }

    #[test]
    fn f22_a_try_without_an_answer_counts_as_a_first_refusal() {
        let now = Instant::now();
        let mut gate = gate(now, &[A, B]);
        gate.on_wanted(now, A);
        gate.on_wanted(now, B);
        let told = gate.on_unanswered(now, A);
        assert!(told.contains(&(B, CredentialStatus::Permitted)));
        assert_eq!(gate.on_unanswered(now, A), [], "it has no permit any more");
        let told = gate.on_refused(now);
        assert!(told.contains(&(A, CredentialStatus::Refused)));
    }

    #[test]
    fn f22_after_a_refusal_a_try_without_an_answer_is_the_second() {
        let now = Instant::now();
        let mut gate = gate(now, &[A, B]);
        gate.on_wanted(now, A);
        gate.on_refused(now);
        gate.on_wanted(now, A);
        let told = gate.on_unanswered(now, A);
        assert!(told.contains(&(B, CredentialStatus::Refused)));
    }

    #[test]
    fn f22_answers_that_do_not_come_are_no_refusal() {
        let now = Instant::now();
        let mut gate = gate(now, &[A, B, C]);
        for connection in [A, B, C] {
            gate.on_wanted(now, connection);
        }
        gate.on_unanswered(now, A);
        let told = gate.on_unanswered(now, B);
        assert!(told.contains(&(C, CredentialStatus::Permitted)));
    }

    #[test]
    fn an_idle_permit_goes_to_the_next_who_wants_it() {
        let now = Instant::now();
        let mut gate = gate(now, &[A, B]);
        gate.on_wanted(now, A);
        gate.on_wanted(now, B);
        let notices = gate.on_given_back(A);
        assert_eq!(
            notices,
            [
                (A, CredentialStatus::Unproven),
                (B, CredentialStatus::Permitted)
            ]
        );
        assert_eq!(gate.on_given_back(A), []);
    }

    #[test]
    fn an_expired_refusal_is_forgotten_by_all() {
        let start = Instant::now();
        let mut gate = gate(start, &[A, B]);
        gate.on_refused(start);
        gate.on_refused(start);
        let before = start + REFUSAL_MEMORY - Duration::from_millis(1);
        assert_eq!(gate.refresh(before), []);
        assert_eq!(gate.join(before, C), CredentialStatus::Refused);
        assert_eq!(gate.refresh(start + REFUSAL_MEMORY).len(), 3);
        assert_eq!(gate.status_of(A), CredentialStatus::Unproven);
    }

    #[test]
    fn a_gate_without_members_is_kept_while_a_refusal_counts() {
        let start = Instant::now();
        let mut gate = gate(start, &[A]);
        gate.on_refused(start);
        gate.leave(start, A);
        assert!(!gate.is_forgettable(start));
        assert!(gate.is_forgettable(start + REFUSAL_MEMORY));
    }
}
