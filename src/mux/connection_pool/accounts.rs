//! The accounts at servers: which user was accepted, and what is known of the server's challenges.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{ConnectionId, state::State};
use crate::mux::{
    driver::Command,
    policy::credential_gate::{CredentialGate, Notice, Notices},
    proto::{CredentialReport, CredentialStatus, Credentials, LeftChallenge},
    server_key::ServerId,
};

/// How long a challenge that was left unanswered is worth an answer.
const CHALLENGE_LIVES: Duration = Duration::from_secs(60);
/// Challenges that are kept.
const MOST_CHALLENGES: usize = 256;

/// A user at a server.
pub(super) type AccountId = (ServerId, Credentials);

/// One account.
#[derive(Debug)]
struct Account {
    gate: CredentialGate<ConnectionId>,
    /// From connections that the server closed behind a 401; the newest is the last.
    challenges: Vec<(Instant, LeftChallenge)>,
    closes_behind_401: bool,
}

/// What a connection starts with.
#[derive(Debug, Default)]
pub(super) struct AccountView {
    pub(super) status: CredentialStatus,
    pub(super) challenges: Vec<LeftChallenge>,
    pub(super) closes_behind_401: bool,
}

/// The accounts at all servers.
#[derive(Debug, Default)]
pub(super) struct Accounts(HashMap<AccountId, Account>);

impl Accounts {
    /// A connection is made that may need the credentials.
    pub(super) fn join(
        &mut self,
        now: Instant,
        account: &AccountId,
        connection: ConnectionId,
    ) -> AccountView {
        let account = self.0.entry(account.clone()).or_insert_with(|| Account {
            gate: CredentialGate::new(),
            challenges: Vec::new(),
            closes_behind_401: false,
        });
        let is_alive = |left: &(Instant, LeftChallenge)| {
            now.saturating_duration_since(left.0) < CHALLENGE_LIVES
        };
        account.challenges.retain(is_alive);
        let challenges = account.challenges.iter();
        AccountView {
            status: account.gate.join(now, connection),
            challenges: challenges.map(|(_, challenge)| challenge.clone()).collect(),
            closes_behind_401: account.closes_behind_401,
        }
    }

    /// A connection is over.
    fn leave(
        &mut self,
        now: Instant,
        id: &AccountId,
        connection: ConnectionId,
    ) -> Notices<ConnectionId> {
        let Some(account) = self.0.get_mut(id) else {
            return Vec::new();
        };
        let notices = account.gate.leave(now, connection);
        if account.gate.is_forgettable(now) && account.challenges.is_empty() {
            self.0.remove(id);
        }
        notices
    }

    /// A connection asks or tells something.
    fn on_report(
        &mut self,
        now: Instant,
        id: &AccountId,
        connection: ConnectionId,
        report: CredentialReport,
    ) -> Notices<ConnectionId> {
        let Some(account) = self.0.get_mut(id) else {
            return Vec::new();
        };
        let gate = &mut account.gate;
        match report {
            CredentialReport::Wanted(wants) => return gate.on_wanted(now, connection, wants),
            CredentialReport::Tried(uri) => gate.on_tried(now, connection, uri),
            CredentialReport::Proven(strength) => {
                return gate.on_proven(now, connection, strength);
            }
            CredentialReport::NotAsked => return gate.on_not_asked(now),
            CredentialReport::Returned(reason) => {
                return gate.on_returned(now, connection, reason);
            }
            CredentialReport::Refused(refusal) => {
                return gate.on_refused(now, connection, &refusal);
            }
            CredentialReport::Challenged(realm, nonce) => {
                gate.on_challenged(now, connection, realm, nonce);
            }
            CredentialReport::Left(challenges) => {
                account.closes_behind_401 = true;
                let left = challenges.into_iter().map(|challenge| (now, challenge));
                account.challenges.extend(left);
                let surplus = account.challenges.len().saturating_sub(MOST_CHALLENGES);
                account.challenges.drain(..surplus);
            }
        }
        Vec::new()
    }
}

impl State {
    /// Whether a report is to be made once more in a moment.
    pub(super) fn is_premature(&self, id: ConnectionId, report: &CredentialReport) -> bool {
        let CredentialReport::Refused(refusal) = report else {
            return false;
        };
        let account = self.account_of(id);
        let account = account.and_then(|account| self.accounts.0.get(&account));
        account.is_some_and(|account| account.gate.is_premature(id, refusal))
    }

    /// A connection asks or tells something of its credentials.
    pub(super) fn on_credentials(
        &mut self,
        now: Instant,
        id: ConnectionId,
        report: CredentialReport,
    ) {
        if let Some(account) = self.account_of(id) {
            let notices = self.accounts.on_report(now, &account, id, report);
            self.notify_credentials(notices);
        }
    }

    /// A connection uses its credentials no more.
    pub(super) fn leave_account(&mut self, now: Instant, id: ConnectionId) {
        if let Some(account) = self.account_of(id) {
            let notices = self.accounts.leave(now, &account, id);
            self.notify_credentials(notices);
        }
    }

    fn account_of(&self, id: ConnectionId) -> Option<AccountId> {
        self.registered.get(&id)?.account.clone()
    }

    fn notify_credentials(&self, notices: Notices<ConnectionId>) {
        for (connection, notice) in notices {
            if let Some(told) = self.registered.get(&connection) {
                told.link.send(match notice {
                    Notice::Status(status) => Command::Credentials(status),
                    Notice::Verdict(verdict) => Command::RefusalVerdict(verdict),
                });
            }
        }
    }
}
