//! What a 401 means, and what may be done with the credentials on this connection.
//!
//! A 401 is a *refusal* of the credentials if the request had answered the newest challenge of its
//! realm with a nonce that was not used before, no other challenge of that realm came in between,
//! and this one is of the same realm and not stale. After any other 401 the core answers the newest
//! challenge of the request's own realm: recorders have a realm for each camera, and some nonces
//! are good for one request. This connection cannot know whether another one was challenged in
//! between: it reports the refusal, and the request waits for the verdict.

use std::time::{Duration, Instant};

use super::{
    CloseReason, Connection, FailureKind,
    answers::printable,
    authorizer::Accused,
    requests::{Draft, Outstanding, Purpose, take_where},
};
use crate::mux::proto::{
    auth::{
        Answered, Authenticator, CredentialReport, Unauthorized, challenge,
        credentials::{CredentialStatus, Refusal, RefusalVerdict, Tag},
    },
    event::Event,
    wire::message::Message,
};

/// How often one request is repeated after a 401. A nonce of another connection, of another realm,
/// a used one and a stale one make four; a server that refuses more will never accept.
const MOST_REFUSALS: u8 = 8;

const REFUSED: &str = "the server refused the user or password (401)";

/// Commands.
impl Connection {
    /// The new status of the credentials: the answer to [`CredentialReport::Wanted`], or news. A
    /// permit that no request needs any more is returned at once.
    pub fn handle_credential_status(&mut self, now: Instant, status: CredentialStatus) {
        let denied = self.authorizer.set_status(now, status);
        if let CredentialStatus::Refused { until, was_refused } = status {
            self.deny(&denied, until.saturating_duration_since(now), was_refused);
        }
        self.flush(now);
    }

    /// The verdict on the oldest [`CredentialReport::Refused`] without one.
    pub fn handle_refusal_verdict(&mut self, now: Instant, verdict: RefusalVerdict) {
        if let (RefusalVerdict::Excused, Some(authenticator)) =
            (verdict, &mut self.authorizer.authenticator)
        {
            authenticator.doubt_challenges();
        }
        if let Some(accused) = self.authorizer.accused.pop_front().flatten() {
            let answered = accused.answered;
            match verdict {
                RefusalVerdict::Refused { try_weaker: true } => {
                    let mut draft = answered.draft;
                    draft.auth.below = answered.authorization.map(|refused| refused.strength);
                    self.repeat_authorized(draft);
                }
                RefusalVerdict::Excused if answered.draft.auth.refusals < MOST_REFUSALS => {
                    self.repeat_authorized(answered.draft);
                }
                RefusalVerdict::Refused { .. } | RefusalVerdict::Excused => {
                    let kind = unauthorized(true, accused.explanation, accused.reason);
                    self.on_failure(now, answered, kind);
                }
            }
            self.settle_teardowns(now);
        }
        self.flush(now);
    }
}

/// Sending.
impl Connection {
    /// True if the present permit, if one is needed, is for this request.
    pub(super) fn is_admitted(&self, draft: &Draft) -> bool {
        let asked = self.sessions.asked(draft);
        self.authorizer.admits(asked) && self.authorizer.is_in_turn(draft, asked, &self.requests)
    }

    /// True if this request would find out whether the server has several realms.
    pub(super) fn seeks_realm(&self, draft: &Draft) -> bool {
        self.authorizer.seeks_realm(self.sessions.asked(draft))
    }

    pub(super) fn ask_for_permit(&mut self, now: Instant) {
        if self.authorizer.question.is_some() {
            return;
        }
        let waiting = self.waiting.iter();
        let waiting = waiting.filter(|draft| self.may_send(now, draft));
        let drafts = self.authorizer.retries.iter().chain(waiting);
        let home = |draft: &Draft| self.sessions.asked(draft).home();
        let requests = drafts.map(|draft| (home(draft), draft.auth.below.is_some()));
        let requests: Vec<(Tag, bool)> = requests.collect();
        self.authorizer.ask(now, requests);
    }

    /// Returns the permit if no request uses it any more.
    pub(super) fn give_back_permit(&mut self) {
        let is_of_use = |draft: &Draft| self.is_admitted(draft);
        let has_use = !self.is_closed()
            && (self.authorizer.retries.iter().any(is_of_use)
                || self.waiting.iter().any(is_of_use));
        self.authorizer.give_back(has_use);
    }

    /// Reports news about the credentials.
    pub(super) fn report_credentials(&mut self) {
        let is_over = self.is_closed();
        while let Some(report) = self.authorizer.reports.pop_front() {
            // `Closed` must be the last event.
            if !is_over {
                self.events.push_back(Event::Credentials(report));
            }
        }
    }

    /// Fails the requests whose permit was denied.
    fn deny(&mut self, uris: &[Tag], retry_after: Duration, was_refused: bool) {
        let is_denied = |draft: &Draft| uris.contains(&self.sessions.asked(draft).home());
        let mut denied = take_where(&mut self.authorizer.retries, is_denied);
        denied.extend(take_where(&mut self.waiting, is_denied));
        for draft in denied {
            let tried = draft.auth.below.is_some();
            let explanation = match tried {
                true => REFUSED.to_owned(),
                false => on_hold(retry_after, was_refused),
            };
            let kind = match tried || was_refused {
                true => FailureKind::Unauthorized {
                    tried,
                    explanation,
                    reason: String::new(),
                    retry_after: Some(retry_after),
                },
                false => FailureKind::CredentialsOnHold {
                    explanation,
                    retry_after,
                },
            };
            self.withdraw(draft, kind);
        }
    }
}

/// Answers.
impl Connection {
    /// What an answer other than 401 says about the credentials.
    pub(super) fn note_credentials(
        &mut self,
        answered: &Outstanding,
        code: u16,
        response: &Message,
    ) {
        if let Some(authorization) = answered.authorization
            && let Some(authenticator) = &mut self.authorizer.authenticator
            && code != 401
        {
            let info = response.headers.joined("Authentication-Info");
            let next = info.and_then(|info| challenge::parameter(&info, "nextnonce"));
            authenticator.handle_accepted(answered.sent, authorization, next.as_deref());
        }
        let asked = self.sessions.asked(&answered.draft);
        let is_acceptance = (200..400).contains(&code);
        self.authorizer.on_answer(answered, asked, is_acceptance);
    }

    /// A 401: the request is repeated, reported as refused, or fails.
    pub(super) fn on_unauthorized(
        &mut self,
        now: Instant,
        mut answered: Outstanding,
        response: &Message,
    ) {
        let challenges = response.headers.joined("WWW-Authenticate");
        let reason = response
            .status()
            .map_or_else(String::new, |(_, reason)| printable(reason));
        let Some(authenticator) = &mut self.authorizer.authenticator else {
            let explanation = "the server asks for a user and password (401)".to_owned();
            return self.on_failure(now, answered, unauthorized(false, explanation, reason));
        };
        let asked = self.sessions.asked(&answered.draft);
        let authorization = answered.authorization;
        let verdict = authenticator.handle_unauthorized(
            answered.sent,
            &challenges.unwrap_or_default(),
            asked,
            authorization,
            answered.draft.auth,
        );
        if let Some((realm, nonce)) = authenticator.newest() {
            let report = CredentialReport::Challenged {
                presentation: asked.presentation(),
                realm,
                nonce,
            };
            self.authorizer.reports.push_back(report);
        }
        let connection = response.headers.first("Connection");
        let says_close = connection.is_some_and(|it| it.eq_ignore_ascii_case("close"));
        self.authorizer.on_challenged(now, says_close);
        answered.draft.auth.refusals = answered.draft.auth.refusals.saturating_add(1);
        let (offers_weaker, explanation) = match verdict {
            Unauthorized::Retry | Unauthorized::RetryStale => {
                if answered.draft.auth.refusals <= MOST_REFUSALS {
                    return self.on_retry(now, answered, verdict == Unauthorized::RetryStale);
                }
                self.authorizer.on_retry(now, &answered, true);
                let explanation = "the server asks for the user and password again and again (401)";
                let kind = unauthorized(authorization.is_some(), explanation.to_owned(), reason);
                return self.on_failure(now, answered, kind);
            }
            Unauthorized::Refused { offers_weaker } => (offers_weaker, REFUSED.to_owned()),
            Unauthorized::Unsupported(why) => (false, format!("cannot authenticate (401): {why}")),
        };
        if let Some(tried) = authorization {
            return self.accuse(answered, tried, offers_weaker, (explanation, reason));
        }
        // The request carried no credentials: its exchange is over.
        let asked = self.sessions.asked(&answered.draft);
        self.authorizer.on_answer(&answered, asked, false);
        self.on_failure(now, answered, unauthorized(false, explanation, reason));
    }

    fn on_retry(&mut self, now: Instant, mut answered: Outstanding, is_stale: bool) {
        self.authorizer.on_retry(now, &answered, is_stale);
        answered.draft.auth.is_stale_excused |= is_stale;
        answered.draft.auth.is_challenged |= answered.authorization.is_none();
        if self.is_wanted(&answered.draft) {
            return self.repeat_authorized(answered.draft);
        }
        self.on_failure(now, answered, FailureKind::Cancelled);
    }

    fn repeat_authorized(&mut self, draft: Draft) {
        match self.is_wanted(&draft) {
            true => self.authorizer.retries.push_back(draft),
            false => self.withdraw(draft, FailureKind::Cancelled),
        }
    }

    fn accuse(
        &mut self,
        answered: Outstanding,
        tried: Answered,
        offers_weaker: bool,
        (explanation, reason): (String, String),
    ) {
        let authenticator = self.authorizer.authenticator.as_ref();
        let newest = authenticator.and_then(Authenticator::newest);
        let refusal = Refusal {
            uri: self.sessions.asked(&answered.draft).home(),
            realm: tried.realm,
            nonce: tried.nonce,
            is_same_nonce: newest == Some((tried.realm, tried.nonce)),
            challenged: tried.challenged,
            strength: tried.strength,
            offers_weaker,
        };
        self.authorizer.accuse(Accused {
            answered,
            offers_weaker,
            explanation,
            reason,
        });
        let report = CredentialReport::Refused(refusal);
        self.authorizer.reports.push_back(report);
    }
}

/// The end of the connection.
impl Connection {
    /// The peer has closed the connection; perhaps because of a 401, which the next connection can
    /// then answer.
    pub(super) fn on_closed_by_peer(&mut self, now: Instant, reason: CloseReason) {
        let reason = self.reason_for_loss(reason);
        if !matches!(reason, CloseReason::PeerClosed | CloseReason::Io(_)) {
            return self.lose(reason);
        }
        self.on_closed_by_server(now);
        let (last_byte, requests) = (self.last_byte, &self.requests);
        let Some(left) = self.authorizer.challenges_left(now, last_byte, requests) else {
            return self.lose(reason);
        };
        let report = CredentialReport::Left(left);
        self.authorizer.reports.push_back(report);
        self.report_credentials();
        self.lose(CloseReason::Challenged);
    }

    /// The connection ends before the verdict on a refusal has come.
    pub(super) fn condemn_accused(&mut self) {
        let is_challenged = self.close_reason() == Some(CloseReason::Challenged);
        let accused = std::mem::take(&mut self.authorizer.accused);
        for accused in accused.into_iter().flatten() {
            let cseq = Some(accused.answered.cseq);
            let kind = match accused.answered.draft.purpose {
                Purpose::Teardown => FailureKind::ConnectionLost(CloseReason::PeerClosed),
                _ if accused.offers_weaker && is_challenged => {
                    FailureKind::ConnectionLost(CloseReason::Challenged)
                }
                _ => unauthorized(true, accused.explanation, accused.reason),
            };
            // Requests of the connection itself have no caller.
            self.fail_draft(accused.answered.draft, cseq, kind);
        }
    }
}

/// Why user and password are not tried for some time.
fn on_hold(retry_after: Duration, was_refused: bool) -> String {
    let reason = match was_refused {
        true => "the server has refused the user or password",
        false => "no answer of the server has told yet whether user and password are right",
    };
    let seconds = retry_after.as_secs().max(1);
    format!("{reason}; they are not tried again for {seconds} s, because cameras lock accounts")
}

fn unauthorized(tried: bool, explanation: String, reason: String) -> FailureKind {
    FailureKind::Unauthorized {
        tried,
        explanation,
        reason,
        retry_after: None,
    }
}
