//! The accounts at servers: which user the server accepted, and which challenges it sent.
//!
//! A camera counts the failed logins of a process, not of a multiplexer. So all multiplexers of the
//! process share one budget of tries; each keeps everything else for itself. The pool takes the lock of
//! the budget while it holds its own, for one decision at a time: when a driver reports on credentials,
//! and when a connection begins or ends; never for a packet. A hash identifies the account, so that no
//! password outlives its sessions there.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::ConnectionPool;
use crate::mux::{
    ids::ConnectionId,
    policy::credential_gate::{CredentialBudget, CredentialGate, Notices},
    proto::{ConnectionConfig, CredentialReport, Credentials, LeftChallenge},
    release::lock,
    server_key::{ConnectionKey, ServerId},
};

/// How long a challenge that was left unanswered is worth an answer.
const CHALLENGE_LIVES: Duration = Duration::from_secs(60);
/// Challenges that are kept.
const MOST_CHALLENGES: usize = 256;

/// A user at a server.
pub(super) type AccountId = (ServerId, Credentials);

/// A connection of one of the process's multiplexers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    pool: u64,
    pub(super) connection: ConnectionId,
}

/// The budgets of all accounts, by a hash of server, user and password.
#[derive(Debug, Default)]
struct Budgets {
    hasher: RandomState,
    of_accounts: Mutex<HashMap<u64, CredentialBudget<Member>>>,
}

/// One account.
#[derive(Debug, Default)]
struct AccountRecord {
    gate: CredentialGate<Member>,
    /// From connections that the server closed behind a 401; the newest is the last.
    challenges: Vec<(Instant, LeftChallenge)>,
    closes_behind_401: bool,
}

/// The accounts at all servers.
#[derive(Debug)]
pub(super) struct Accounts {
    pool: u64,
    budgets: Arc<Budgets>,
    known: HashMap<AccountId, AccountRecord>,
}

impl Accounts {
    /// The accounts of a multiplexer that connects through the system, or through a network of its
    /// own, whose addresses mean nothing to other multiplexers.
    pub(super) fn new(has_own_network: bool) -> Self {
        static PROCESS: LazyLock<Arc<Budgets>> = LazyLock::new(Arc::default);
        static POOLS: AtomicU64 = AtomicU64::new(0);

        Self {
            pool: POOLS.fetch_add(1, Ordering::Relaxed),
            budgets: match has_own_network {
                true => Arc::default(),
                false => Arc::clone(&PROCESS),
            },
            known: HashMap::new(),
        }
    }

    fn member(&self, connection: ConnectionId) -> Member {
        let pool = self.pool;
        Member { pool, connection }
    }

    /// Calls `ask` with an account, and with the budget that the process has for it.
    fn with<R>(&mut self, id: &AccountId, ask: impl FnOnce(&mut AccountRecord) -> R) -> R {
        let account = self.known.entry(id.clone()).or_default();
        let key = self.budgets.hasher.hash_one(id);
        let mut budgets = lock(&self.budgets.of_accounts);
        let budget = budgets.entry(key).or_default();
        std::mem::swap(&mut account.gate.budget, budget);
        let answer = ask(account);
        std::mem::swap(&mut account.gate.budget, budget);
        answer
    }

    /// A connection is made that may need the credentials.
    pub(super) fn join(
        &mut self,
        now: Instant,
        account: &AccountId,
        connection: ConnectionId,
        config: &mut ConnectionConfig,
    ) {
        let member = self.member(connection);
        // Those that allow no less than new ones do.
        let mut budgets = lock(&self.budgets.of_accounts);
        budgets.retain(|_, budget| !budget.is_forgettable(now));
        drop(budgets);
        let is_alive = |left: &(Instant, LeftChallenge)| {
            now.saturating_duration_since(left.0) < CHALLENGE_LIVES
        };
        self.with(account, |account| {
            account.challenges.retain(is_alive);
            let challenges = account.challenges.iter();
            config.challenges = challenges.map(|(_, challenge)| challenge.clone()).collect();
            config.credential_status = account.gate.join(now, member);
            config.closes_behind_401 = account.closes_behind_401;
        });
    }

    /// A connection reports something of its credentials.
    ///
    /// # Errors
    ///
    /// The report `may_wait`, and is to be made once more in a moment.
    pub(super) fn on_report(
        &mut self,
        now: Instant,
        id: &AccountId,
        connection: ConnectionId,
        report: CredentialReport,
        may_wait: bool,
    ) -> Result<Notices<Member>, CredentialReport> {
        let member = self.member(connection);
        if may_wait
            && let (CredentialReport::Refused(refusal), Some(account)) =
                (&report, self.known.get(id))
            && account.gate.is_premature(member, refusal)
        {
            return Err(report);
        }
        Ok(self.with(id, |account| account.on_report(now, member, report)))
    }

    /// A connection is over.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        id: &AccountId,
        connection: ConnectionId,
    ) -> Notices<Member> {
        let member = self.member(connection);
        let (notices, is_over) = self.with(id, |account| {
            let notices = account.gate.leave(now, member);
            let is_over = account.gate.is_forgettable(now) && account.challenges.is_empty();
            (notices, is_over)
        });
        if is_over {
            self.known.remove(id);
        }
        notices
    }
}

impl ConnectionPool {
    /// Waits until the server has accepted the credentials of `key`.
    pub(crate) async fn credentials_accepted(&self, key: &ConnectionKey) {
        let Some(credentials) = key.credentials.clone() else {
            return std::future::pending().await;
        };
        let id = (key.server().clone(), credentials);
        let mut changes = self.watch(key.server());
        let is_accepted = |account: &AccountRecord| account.gate.is_proven;
        while !self.lock().accounts.known.get(&id).is_some_and(is_accepted) {
            // The pool forgot the server meanwhile.
            if changes.changed().await.is_err() {
                changes = self.watch(key.server());
            }
        }
    }
}

impl AccountRecord {
    fn on_report(
        &mut self,
        now: Instant,
        connection: Member,
        report: CredentialReport,
    ) -> Notices<Member> {
        let gate = &mut self.gate;
        match report {
            CredentialReport::Wanted(wants) => gate.on_wanted(now, connection, wants),
            CredentialReport::Proven(strength) => gate.on_proven(now, connection, strength),
            CredentialReport::NotAsked => gate.on_not_asked(now),
            CredentialReport::Returned(reason) => gate.on_returned(now, connection, reason),
            CredentialReport::Refused(refusal) => gate.on_refused(now, connection, &refusal),
            CredentialReport::Tried(uri) => {
                gate.on_tried(now, connection, uri);
                Vec::new()
            }
            CredentialReport::Challenged { realm, nonce, .. } => {
                gate.on_challenged(now, connection, realm, nonce);
                Vec::new()
            }
            CredentialReport::Left(challenges) => {
                self.closes_behind_401 = true;
                let left = challenges.into_iter().map(|challenge| (now, challenge));
                self.challenges.extend(left);
                let surplus = self.challenges.len().saturating_sub(MOST_CHALLENGES);
                self.challenges.drain(..surplus);
                Vec::new()
            }
        }
    }
}
