//! The credentials on one connection: which requests may carry them, and which are repeated after a
//! 401.
//!
//! Before the first answer it is unknown whether the server wants credentials. So if the session
//! has some, the first request goes alone; otherwise all requests would have to be sent again after
//! its 401.
//!
//! Until the server has accepted the credentials, a request needs a permit. There is one permit for
//! all connections to the server. It is good for one *exchange*: the request is sent without
//! credentials, and again with them if the server answered with a challenge. So each try answers a
//! new challenge, and a 401 to it can only mean the credentials.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use rtsp_types::Method;

use super::{
    ConnectionConfig,
    requests::{Draft, Outstanding, Purpose, RequestTable, take_where},
};
use crate::mux::proto::{
    auth::{
        Answered, Asked, AuthTrail, Authenticator, Authorization, CredentialReport, LeftChallenge,
        credentials::{CredentialStatus, CredentialWant, PermitReturn, Tag},
    },
    command::SessionKey,
};

/// After so long without an answer another request may try the credentials; and requests that wait
/// for a permit ask for it again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the core waits for the close that a 401 has announced.
const CLOSE_MAY_FOLLOW: Duration = Duration::from_millis(300);
/// The same for a server that is not known to close, but offers two algorithms: each may need one
/// of the two tries, so neither may be lost to a close.
const CLOSE_IS_POSSIBLE: Duration = Duration::from_millis(30);
/// If a connection ends so soon after a 401, without another byte, the server closed it because of
/// that 401.
const CLOSED_BEHIND: Duration = Duration::from_millis(500);
/// A request that got so many 401s goes alone: concurrent requests have used up its nonces.
const CONTENDED: u8 = 4;
/// The most presentations in one question for a permit: all that fit on a connection, so that the
/// credential gate can choose among them.
const MOST_WANTS: usize = 128;
/// The most accepted presentations that are remembered.
const MOST_ACCEPTED: usize = 4096;

/// Whether a request may be sent now, as far as the credentials are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthorizationGate {
    Open,
    /// The request waits for an answer.
    Wait,
    /// The request waits for a permit.
    WantsPermit,
}

/// A question for a permit that is not answered.
#[derive(Debug)]
pub(super) struct Question {
    /// When to ask again.
    again: Instant,
    uris: Vec<Tag>,
}

/// One use of a permit.
#[derive(Debug)]
struct Exchange {
    since: Instant,
    /// The CSeq of the request, once it is sent.
    cseq: Option<u32>,
    /// The challenge that the request has answered, if it carries the credentials.
    tried: Option<Answered>,
}

/// Whether requests are held back because the server may close the connection after a 401.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChallengeHold {
    /// No 401 gave a reason to.
    #[default]
    NotYet,
    Until(Instant),
    /// The server has not closed the connection.
    Over,
}

/// A 401 that waits for the credential gate's verdict.
#[derive(Debug)]
pub(super) struct Accused {
    pub(super) answered: Outstanding,
    pub(super) offers_weaker: bool,
    pub(super) explanation: String,
    pub(super) reason: String,
}

#[derive(Debug, Default)]
pub(super) struct Authorizer {
    pub(super) authenticator: Option<Authenticator>,
    status: CredentialStatus,
    /// As the credential gate said last.
    is_exclusive: bool,
    pub(super) question: Option<Question>,
    exchange: Option<Exchange>,
    /// The server has answered a request.
    pub(super) has_answer: bool,
    /// Requests that got a 401 and are sent again, before all others.
    pub(super) retries: VecDeque<Draft>,
    /// In the order of the verdicts; `None` for a session that was released.
    pub(super) accused: VecDeque<Option<Accused>>,
    /// Presentations for which the server has accepted the credentials.
    accepted: HashSet<Tag>,
    /// When the last 401 was received.
    challenged: Option<Instant>,
    hold: ChallengeHold,
    /// The server is known to close connections after a 401.
    closes_behind_401: bool,
    pub(super) reports: VecDeque<CredentialReport>,
}

impl Authorizer {
    pub(super) fn new(config: &ConnectionConfig) -> Self {
        let authenticator = config.credentials.as_ref().map(|credentials| {
            let mut authenticator = Authenticator::new(credentials.clone(), config.seed);
            authenticator.basic_forbidden = config.refuse_basic;
            authenticator.is_bare_costly = config.closes_behind_401;
            authenticator.known.clone_from(&config.realms);
            let challenges = config.challenges.iter();
            challenges.for_each(|challenge| authenticator.adopt(challenge));
            authenticator
        });
        let status = config.credential_status;
        Self {
            authenticator,
            status,
            is_exclusive: matches!(status, CredentialStatus::Unproven { is_exclusive: true }),
            closes_behind_401: config.closes_behind_401,
            ..Self::default()
        }
    }

    /// Sets the new status. Returns the presentations whose requests must not be tried, if there
    /// are any.
    pub(super) fn set_status(&mut self, now: Instant, status: CredentialStatus) -> Vec<Tag> {
        if let CredentialStatus::AskAgain { at } = status {
            if let Some(question) = &mut self.question {
                question.again = at;
            }
            return Vec::new();
        }
        self.status = status;
        self.exchange = None;
        let question = self.question.take();
        match status {
            CredentialStatus::Unproven { is_exclusive } => self.is_exclusive = is_exclusive,
            CredentialStatus::Permitted(permit) => {
                self.closes_behind_401 |= permit.closes_behind_401;
                if let Some(authenticator) = &mut self.authenticator {
                    authenticator.is_bare_costly |= permit.closes_behind_401;
                }
                self.exchange = Some(Exchange {
                    since: now,
                    cseq: None,
                    tried: None,
                });
            }
            CredentialStatus::Proven(_) | CredentialStatus::AskAgain { .. } => {}
            CredentialStatus::Refused { .. } => {
                self.withdraw_permit();
                return question.map_or_else(Vec::new, |question| question.uris);
            }
        }
        Vec::new()
    }

    fn withdraw_permit(&mut self) {
        self.exchange = None;
        self.status = CredentialStatus::Unproven {
            is_exclusive: self.is_exclusive,
        };
    }

    /// Ends the use of a permit.
    pub(super) fn end_exchange(&mut self, reason: PermitReturn) {
        if self.exchange.take().is_some() {
            self.withdraw_permit();
            self.reports.push_back(CredentialReport::Returned(reason));
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        matches!(self.status, CredentialStatus::Proven(_))
    }

    pub(super) fn has_seen_digest(&self) -> bool {
        let authenticator = self.authenticator.as_ref();
        authenticator.is_some_and(|authenticator| authenticator.basic_forbidden)
    }

    pub(super) fn gate(&self, requests: &RequestTable) -> AuthorizationGate {
        let Some(authenticator) = &self.authenticator else {
            return AuthorizationGate::Open;
        };
        let is_alone = requests.waiting().next().is_none();
        let has_challenge = authenticator.has_challenge();
        let is_first = !has_challenge && !self.has_answer;
        let is_held = matches!(self.hold, ChallengeHold::Until(_));
        let retries = self.retries.iter();
        let drafts = retries.chain(requests.waiting().map(|entry| &entry.draft));
        let is_contended = || drafts.map(|draft| draft.auth.refusals).max() >= Some(CONTENDED);
        if is_held || (!is_alone && (is_first || authenticator.is_serial() || is_contended())) {
            return AuthorizationGate::Wait;
        }
        match self.status {
            CredentialStatus::Proven(_) => AuthorizationGate::Open,
            CredentialStatus::Permitted(_) => match &self.exchange {
                Some(exchange) if exchange.cseq.is_none() => AuthorizationGate::Open,
                _ => AuthorizationGate::Wait,
            },
            CredentialStatus::Unproven { is_exclusive } if !is_exclusive && !has_challenge => {
                AuthorizationGate::Open
            }
            _ => AuthorizationGate::WantsPermit,
        }
    }

    /// True if a request may be sent as far as permits go: under a permit it must belong to its
    /// presentation.
    pub(super) fn admits(&self, asked: Asked<'_>) -> bool {
        match self.status {
            CredentialStatus::Permitted(permit) => asked.home() == permit.uri,
            _ => true,
        }
    }

    /// True if a request may be sent now as far as realms go. A request whose realm is unknown is
    /// sent without credentials, and waits for earlier ones that may show the realm. All others
    /// wait for the answers to these: live555 keeps one nonce for each connection, and makes a new
    /// one with each 401. A TEARDOWN waits for none of them.
    pub(super) fn is_in_turn(
        &self,
        draft: &Draft,
        asked: Asked<'_>,
        requests: &RequestTable,
    ) -> bool {
        let authenticator = self.authenticator.as_ref();
        let Some(authenticator) = authenticator.filter(|it| self.is_proven() && it.has_challenge())
        else {
            return true;
        };
        let is_bare = |entry: &&Outstanding| {
            entry.authorization.is_none()
                && entry.draft.session.is_some()
                && entry.draft.method != Method::Options
        };
        let bare = || requests.waiting().filter(is_bare);
        if draft.purpose == Purpose::Teardown || bare().next().is_none() {
            return true;
        }
        authenticator.lacks_realm(asked)
            && !authenticator.known.is_open()
            && bare().all(|entry| entry.draft.session != draft.session)
    }

    /// True if a request would be sent without credentials to find out whether the server has
    /// several realms.
    pub(super) fn seeks_realm(&self, asked: Asked<'_>) -> bool {
        let authenticator = self.authenticator.as_ref();
        let authenticator = authenticator.filter(|it| self.is_proven() && it.known.is_open());
        authenticator.is_some_and(|it| it.lacks_realm(asked))
    }

    /// The authorisation of a request that is being written, if it is to carry one.
    pub(super) fn authorize(
        &mut self,
        trail: &mut AuthTrail,
        asked: Asked<'_>,
    ) -> Option<Authorization> {
        let authenticator = self.authenticator.as_mut()?;
        let below = trail.below;
        match self.status {
            CredentialStatus::Proven(ceiling) => authenticator.authorize(asked, below, ceiling),
            CredentialStatus::Permitted(permit) => {
                // A server that closes after each 401 has challenged requests like it before, and
                // would close again.
                let is_challenged = trail.is_challenged
                    || authenticator.challenged.contains(&asked.tag())
                    || (self.closes_behind_401 && authenticator.is_unanswered(asked));
                let may_try = is_challenged && authenticator.is_unanswered(asked);
                let authorization = may_try
                    .then(|| authenticator.authorize(asked, below.or(permit.below), permit.ceiling))
                    .flatten();
                trail.is_challenged = is_challenged;
                authorization
            }
            _ => None,
        }
    }

    /// A request was written.
    pub(super) fn on_written(&mut self, now: Instant, cseq: u32, answered: Option<Answered>) {
        let CredentialStatus::Permitted(permit) = self.status else {
            return;
        };
        if let Some(exchange) = &mut self.exchange {
            (exchange.since, exchange.cseq, exchange.tried) = (now, Some(cseq), answered);
        }
        if answered.is_some() {
            self.reports.push_back(CredentialReport::Tried(permit.uri));
        }
    }

    /// A request was answered, and not with 401; or its answer is not needed any more.
    pub(super) fn on_answer(&mut self, entry: &Outstanding, asked: Asked<'_>, is_acceptance: bool) {
        // Many servers answer OPTIONS whether or not the credentials are right.
        let says_something = entry.draft.method != Method::Options;
        let exchange = self.exchange.as_ref();
        let is_exchange = exchange.is_some_and(|exchange| exchange.cseq == Some(entry.cseq));
        let Some(answered) = entry.authorization else {
            let is_news = !self.is_proven() && self.is_exclusive && says_something;
            if is_news && self.authenticator.is_some() {
                self.reports.push_back(CredentialReport::NotAsked);
            }
            if let Some(authenticator) = &mut self.authenticator
                && asked.is_of_session
                && says_something
            {
                authenticator.handle_unchallenged();
            }
            if is_exchange {
                self.end_exchange(PermitReturn::Unused);
            }
            return;
        };
        if is_acceptance && says_something {
            if self.accepted.len() >= MOST_ACCEPTED {
                self.accepted.clear();
            }
            self.accepted.insert(asked.home());
            if entry.draft.auth.is_challenged && !self.is_proven() {
                // The credential gate decides for all connections whether this is enough.
                self.withdraw_permit();
                let report = CredentialReport::Proven(answered.strength);
                return self.reports.push_back(report);
            }
        }
        if is_exchange {
            self.end_exchange(PermitReturn::Undecided);
        }
    }

    /// A request got a 401, and will be sent again.
    pub(super) fn on_retry(&mut self, now: Instant, entry: &Outstanding, is_stale: bool) {
        let is_it = |exchange: &&mut Exchange| exchange.cseq == Some(entry.cseq);
        let Some(exchange) = self.exchange.as_mut().filter(is_it) else {
            return;
        };
        match (entry.authorization, is_stale) {
            (None, _) => {
                exchange.cseq = None;
                exchange.since = now;
            }
            (Some(_), true) => self.end_exchange(PermitReturn::Excused),
            (Some(_), false) => self.end_exchange(PermitReturn::Undecided),
        }
    }

    /// A 401 was received; the server may close the connection after it.
    pub(super) fn on_challenged(&mut self, now: Instant, says_close: bool) {
        let authenticator = self.authenticator.as_ref();
        let has_choice = authenticator.is_some_and(Authenticator::has_choice);
        let wait = match says_close || self.closes_behind_401 {
            true => Some(CLOSE_MAY_FOLLOW),
            false if has_choice && !self.is_proven() => Some(CLOSE_IS_POSSIBLE),
            false => None,
        };
        if let (Some(wait), ChallengeHold::NotYet) = (wait, self.hold) {
            self.hold = ChallengeHold::Until(now + wait);
        }
        self.challenged = Some(now);
    }

    /// The peer has closed the connection. If it closed because of a 401, returns the challenges
    /// for the next connection to answer.
    pub(super) fn challenges_left(
        &mut self,
        now: Instant,
        last_byte: Instant,
        requests: &RequestTable,
    ) -> Option<Vec<LeftChallenge>> {
        let challenged = self.challenged?;
        let is_behind = last_byte <= challenged
            && now.saturating_duration_since(challenged) <= CLOSED_BEHIND.max(CLOSE_MAY_FOLLOW);
        let authenticator = self.authenticator.as_mut().filter(|_| is_behind)?;
        let mut is_wanted = !self.retries.is_empty();
        for entry in requests.waiting() {
            if let Some(answered) = entry.authorization {
                authenticator.take_back(answered);
                is_wanted |= entry.draft.auth.refusals > 0;
            }
        }
        let mut accused = self.accused.iter().flatten();
        is_wanted |= accused.any(|accused| accused.offers_weaker);
        let left = authenticator.leave();
        if !is_wanted || left.is_empty() {
            return None;
        }
        self.end_exchange(PermitReturn::Unseen);
        Some(left)
    }

    /// The number of DESCRIBEs that may be repeated.
    pub(super) fn describes(&self) -> usize {
        let accused = self.accused.iter().flatten();
        let accused = accused.map(|accused| &accused.answered.draft);
        let drafts = self.retries.iter().chain(accused);
        drafts
            .filter(|draft| draft.purpose == Purpose::Describe)
            .count()
    }

    /// Takes out the requests of one session that wait to be repeated.
    pub(super) fn take_retries_of(&mut self, key: SessionKey) -> VecDeque<Draft> {
        let mut mine = take_where(&mut self.retries, |draft| draft.session == Some(key));
        for place in &mut self.accused {
            let accused = place.take_if(|accused| accused.answered.draft.session == Some(key));
            mine.extend(accused.map(|accused| accused.answered.draft));
        }
        mine
    }

    /// A 401 that, as far as this connection knows, refuses the credentials.
    pub(super) fn accuse(&mut self, accused: Accused) {
        self.accused.push_back(Some(accused));
        if self.exchange.is_some() {
            self.withdraw_permit();
        }
    }

    /// Asks for a permit for requests of these presentations; the flag says whether a request would
    /// use a weaker algorithm than before.
    pub(super) fn ask(&mut self, now: Instant, requests: Vec<(Tag, bool)>) {
        let mut wants: Vec<CredentialWant> = Vec::new();
        for (uri, is_weaker) in requests {
            let is_full = wants.len() >= MOST_WANTS;
            match wants.iter_mut().find(|want| want.uri == uri) {
                Some(want) => want.is_weaker |= is_weaker,
                None if is_full => break,
                None => wants.push(CredentialWant {
                    uri,
                    is_weaker,
                    was_accepted: self.accepted.contains(&uri),
                }),
            }
        }
        if wants.is_empty() {
            return;
        }
        self.question = Some(Question {
            again: now + PATIENCE,
            uris: wants.iter().map(|want| want.uri).collect(),
        });
        self.reports.push_back(CredentialReport::Wanted(wants));
    }

    /// Returns the permit unless `has_use`, that is, unless a request waits for it.
    pub(super) fn give_back(&mut self, has_use: bool) {
        if has_use {
            return;
        }
        let is_idle = |exchange: &Exchange| exchange.cseq.is_none();
        if self.exchange.as_ref().is_some_and(is_idle) {
            self.end_exchange(PermitReturn::Unused);
        }
        if self.question.take().is_some() {
            let report = CredentialReport::Returned(PermitReturn::Unused);
            self.reports.push_back(report);
        }
    }

    /// When `on_timeout` has something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let asked = self.question.as_ref().map(|question| question.again);
        let exchange = self.exchange.as_ref();
        let tried = exchange.map(|exchange| exchange.since + PATIENCE);
        let held = match self.hold {
            ChallengeHold::Until(until) => Some(until),
            ChallengeHold::NotYet | ChallengeHold::Over => None,
        };
        [asked, tried, held].into_iter().flatten().min()
    }

    /// Called when the time of `next_timeout` has come.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        if matches!(self.hold, ChallengeHold::Until(until) if now >= until) {
            self.hold = ChallengeHold::Over;
        }
        // If requests still wait then, the core asks again.
        self.question.take_if(|question| now >= question.again);
        let is_due = |exchange: &&Exchange| now >= exchange.since + PATIENCE;
        if let Some(exchange) = self.exchange.as_ref().filter(is_due) {
            let reason = match exchange.tried {
                Some(_) => PermitReturn::Unanswered,
                None => PermitReturn::Unused,
            };
            self.end_exchange(reason);
        }
    }
}
