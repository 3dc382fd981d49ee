//! Authentication of the requests of one connection: Digest (RFC 7616, 2617, 2069) and Basic.
//!
//! A server may have several realms: recorders pass on the realm and the nonce of each camera
//! behind them. So the authenticator keeps the newest challenge of each realm, and the realm of
//! each presentation. A request for a presentation whose realm is unknown is sent without
//! credentials, unless the server is known to have one realm (see `realms`).
//!
//! Most nonces are good for many requests; some only for one, or only until the server sends the
//! next one. After a nonce was refused at its second use, or after a newer one was sent, requests
//! go one at a time. Once that has happened to two nonces, each request gets a nonce of its own.
//!
//! `Authenticator::authorize` is called in the order in which requests are written, so that the
//! nonce count rises in wire order (RFC 7616, 3.4). A 401 is passed to
//! `Authenticator::handle_unauthorized` with what its request had answered: only an answer to the
//! newest challenge of a realm, with a nonce that was not used before, can be refused because of
//! the credentials. The caller counts how often a request is tried.
//!
//! Of several challenges the strongest is answered, never simply the first (see `challenge`). No random
//! numbers are drawn here; the seed is passed in.

pub(crate) mod challenge;
pub(crate) mod credentials;
pub(crate) mod realms;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::Instant,
};

use self::{
    challenge::Offer,
    credentials::{CredentialWant, Credentials, PermitReturn, Refusal, Strength, Tag},
    realms::{Nonce, Realm, Realms, Reuse},
};

use crate::mux::proto::wire::uri;

/// The most realms of one connection; a recorder has as many as it has cameras.
const MOST_REALMS: usize = 256;
/// The most presentations and requests that are remembered.
const MOST_REMEMBERED: usize = 4096;

/// The challenge that an authorised request has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) realm: Tag,
    pub(crate) nonce: Tag,
    /// The server made the challenge after this time.
    pub(crate) challenged: Instant,
    pub(crate) strength: Strength,
    /// The number of challenges of the realm by then: if it is higher later, a newer challenge has
    /// come.
    challenges: u64,
    /// The nonce had not been used before.
    is_fresh: bool,
}

/// The 401s that a request got, and what follows from them for its next try.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AuthTrail {
    /// The number of 401s.
    pub(crate) refusals: u8,
    /// One of them was for the request without credentials.
    pub(crate) is_challenged: bool,
    /// A stale nonce was accepted as the reason once.
    pub(crate) is_stale_excused: bool,
    /// This algorithm was refused; a weaker one is to be used.
    pub(crate) below: Option<Strength>,
}

/// The value of an `Authorization` header, and what it answers.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Authorization {
    /// The header's value. For Basic it *is* the password: never log it.
    pub(crate) value: String,
    /// To be passed back with a 401.
    pub(crate) answered: Answered,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("value", &"***")
            .field("answered", &self.answered)
            .finish()
    }
}

/// What to do about a 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    /// Send the request again, with a new authorisation.
    Retry,
    /// The same; the server says that only the nonce was too old.
    RetryStale,
    /// As far as this connection knows, the server does not accept the user or the password.
    Refused {
        /// The 401 offers a weaker algorithm than the one that was refused.
        offers_weaker: bool,
    },
    /// None of the challenges can be answered; the text says why.
    Unsupported(String),
}

/// A request, with what authentication needs to know of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    /// The URL of the request.
    pub(crate) uri: &'a str,
    /// The presentation that the request is about.
    pub(crate) home: &'a str,
    /// A session sent the request, not the connection itself.
    pub(crate) is_of_session: bool,
}

impl Asked<'_> {
    pub(crate) fn tag(&self) -> Tag {
        Tag::of(&format!("{} {}", self.method, self.uri))
    }

    /// The presentation that the request is about.
    pub(crate) fn home(&self) -> Tag {
        Tag::of(self.home)
    }

    /// The presentation whose realm a challenge shows; `None` for a request about the server
    /// itself.
    pub(crate) fn presentation(&self) -> Option<Tag> {
        let is_about_one = self.is_of_session && self.method != "OPTIONS";
        is_about_one.then(|| self.home())
    }
}

/// A challenge that was not answered when its connection ended. The next connection can answer it.
#[derive(Clone)]
pub struct LeftChallenge {
    offers: Vec<Offer>,
    came: Instant,
    /// The presentations that got it, and their requests.
    spaces: Vec<Tag>,
    requests: Vec<Tag>,
}

/// Leaves out the challenge: its nonce is half of a digest.
impl fmt::Debug for LeftChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeftChallenge")
            .field("came", &self.came)
            .finish_non_exhaustive()
    }
}

/// What a connection reports of the credentials.
#[derive(Debug)]
pub enum CredentialReport {
    /// Requests wait for a permit.
    Wanted(Vec<CredentialWant>),
    /// A request with the credentials was sent under the permit.
    Tried(Tag),
    /// The server has accepted them.
    Proven(Strength),
    /// The server has answered a request without credentials, and not with 401.
    NotAsked,
    /// The connection does not need the permit any more.
    Returned(PermitReturn),
    /// Answered by
    /// [`handle_refusal_verdict`](crate::mux::proto::Connection::handle_refusal_verdict).
    Refused(Refusal),
    /// The server sent a challenge.
    Challenged {
        /// To a request about this presentation.
        presentation: Option<Tag>,
        /// Its realm.
        realm: Tag,
        /// Its nonce.
        nonce: Tag,
    },
    /// The connection ends with challenges that the next one can answer.
    Left(Vec<LeftChallenge>),
}

/// Answers the challenges of one connection with one user's credentials.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credentials: Credentials,
    cnonce_seed: u128,
    cnonces: u64,
    /// The realm that was challenged last is the last one.
    realms: Vec<Realm>,
    /// The realm of each presentation and URI.
    spaces: HashMap<Tag, Tag>,
    /// The server's realms, as far as this and other connections know.
    pub(crate) known: Realms,
    /// The server closes the connection after a 401, so a request without credentials is to be
    /// avoided, and the only known realm is taken to be the realm of all presentations.
    pub(crate) is_bare_costly: bool,
    /// Requests that got a 401 without credentials, on this connection or on the one that has left
    /// the challenge.
    pub(crate) challenged: HashSet<Tag>,
    /// A Digest challenge was seen, here or on an earlier connection: Basic is never used.
    pub(crate) basic_forbidden: bool,
}

impl Authenticator {
    /// `cnonce_seed` should be random and differ between connections.
    pub(crate) fn new(credentials: Credentials, cnonce_seed: u128) -> Self {
        Self {
            credentials,
            cnonce_seed,
            cnonces: 0,
            realms: Vec::new(),
            spaces: HashMap::new(),
            known: Realms::default(),
            is_bare_costly: false,
            challenged: HashSet::new(),
            basic_forbidden: false,
        }
    }

    /// True if the server has asked for credentials.
    pub(crate) fn has_challenge(&self) -> bool {
        !self.realms.is_empty()
    }

    /// Realm and nonce of the newest challenge.
    pub(crate) fn newest(&self) -> Option<(Tag, Tag)> {
        self.realms
            .last()
            .map(|realm| (realm.tag, realm.current.tag))
    }

    /// True if the newest challenge offers more than one algorithm.
    pub(crate) fn has_choice(&self) -> bool {
        let newest = self.realms.last();
        newest.is_some_and(|realm| realm.current.offers.len() > 1)
    }

    /// True if requests go one at a time, because a nonce may be good for one request only.
    pub(crate) fn is_serial(&self) -> bool {
        let may_reuse = |realm: &Realm| matches!(realm.reuse, Reuse::Unknown | Reuse::Works);
        !self.realms.iter().all(may_reuse)
    }

    /// True if the challenge that this request would answer is newer than the last answer.
    pub(crate) fn is_unanswered(&self, asked: Asked<'_>) -> bool {
        let realm = self.realm_of(asked).and_then(|at| self.realms.get(at));
        realm.is_some_and(|realm| realm.is_unanswered)
    }

    /// True if this request would be sent without credentials because its realm is unknown,
    /// although the server has asked for credentials before.
    pub(crate) fn lacks_realm(&self, asked: Asked<'_>) -> bool {
        self.has_challenge() && asked.is_of_session && self.realm_of(asked).is_none()
    }

    /// A session's request without credentials was answered, and not with 401.
    pub(crate) fn handle_unchallenged(&mut self) {
        if self.has_challenge() {
            self.known.on_unchallenged();
        }
    }

    /// The authorisation of the next request to be written, which must have no body; with an
    /// algorithm weaker than `below` and none stronger than `ceiling`, if there is one.
    ///
    /// `None` while the server has not asked for one, and for a request that has to get a challenge
    /// of its own first.
    pub(crate) fn authorize(
        &mut self,
        asked: Asked<'_>,
        below: Option<Strength>,
        ceiling: Option<Strength>,
    ) -> Option<Authorization> {
        let at = self.realm_of(asked)?;
        let realm = self.realms.get_mut(at)?;
        // A presumed realm; it is kept when another realm becomes known.
        if asked.is_of_session && self.known.is_one() && self.spaces.len() < MOST_REMEMBERED {
            let space = self.spaces.entry(asked.home());
            space.or_insert(realm.tag);
        }
        let is_basic = realm.is_basic();
        let is_fresh = realm.current.uses == 0 || is_basic;
        if realm.reuse == Reuse::Never && !is_fresh && !realm.is_unanswered {
            return None;
        }
        realm.current.uses = realm.current.uses.saturating_add(1);
        let Nonce { cnonce, uses, .. } = &realm.current;
        let offer = realm.current.choose(below, ceiling)?;
        let request = (asked.method, &*uri::wire_of(asked.uri));
        let value = offer.answer(&self.credentials, request, cnonce, *uses);
        let strength = offer.strength;
        realm.is_unanswered = false;
        Some(Authorization {
            value,
            answered: Answered {
                realm: realm.tag,
                nonce: realm.current.tag,
                challenged: realm.came,
                strength,
                challenges: realm.challenges,
                is_fresh,
            },
        })
    }

    /// Judges a 401 to a request that was sent at `sent`, so the server made the challenge after
    /// that. `challenges` are all its `WWW-Authenticate` values, joined by ", "; `answered` is that
    /// of the request's [`Authorization`], `None` if it had none.
    pub(crate) fn handle_unauthorized(
        &mut self,
        sent: Instant,
        challenges: &str,
        asked: Asked<'_>,
        answered: Option<Answered>,
        trail: AuthTrail,
    ) -> Unauthorized {
        let mut offers = match challenge::offers(challenges) {
            Ok(offers) => offers,
            Err(offered) => return self.on_nothing_usable(offered, answered),
        };
        self.basic_forbidden |= offers.iter().any(Offer::is_digest);
        let forbidden = self.objection();
        offers.retain(|offer| self.may_answer(offer, forbidden.is_some()));
        let Some(first) = offers.first() else {
            return Unauthorized::Unsupported(forbidden.unwrap_or_default().to_owned());
        };
        let (realm, nonce) = (Tag::of(&first.realm), Tag::of(&first.nonce));
        let is_stale = first.is_stale;
        let weakest = offers.last().map(|offer| offer.strength);
        let others_before = self.challenges_of(realm);
        self.accept(sent, offers);
        self.remember(asked, realm, answered.is_none());
        let Some(answered) = answered.filter(|answered| answered.realm == realm) else {
            return Unauthorized::Retry;
        };
        if answered.challenges != others_before {
            // Perhaps only the newest nonce is good: then concurrent requests would make each
            // other's nonces invalid again and again.
            if answered.is_fresh {
                self.on_reuse_refused(answered);
            }
            return Unauthorized::Retry;
        }
        let is_used_up = !answered.is_fresh && answered.nonce != nonce;
        if is_stale && !trail.is_stale_excused {
            let realm = self.realms.last_mut().filter(|_| is_used_up);
            realm.into_iter().for_each(Realm::on_stale);
            return Unauthorized::RetryStale;
        }
        if is_used_up {
            self.on_reuse_refused(answered);
            return Unauthorized::Retry;
        }
        Unauthorized::Refused {
            offers_weaker: weakest.is_some_and(|weakest| weakest < answered.strength),
        }
    }

    /// A request that was sent at `sent` was answered, and not with 401. `next_nonce` is from
    /// `Authentication-Info`.
    pub(crate) fn handle_accepted(
        &mut self,
        sent: Instant,
        answered: Answered,
        next_nonce: Option<&str>,
    ) {
        let Some(realm) = self.realm(answered.realm) else {
            return;
        };
        if !answered.is_fresh && !realm.is_basic() {
            realm.reuse = Reuse::Works;
        }
        let current = &realm.current;
        if let Some(next) = next_nonce.filter(|next| Tag::of(next) != current.tag) {
            let mut offers = current.offers.clone();
            offers.retain(Offer::is_digest);
            for offer in &mut offers {
                next.clone_into(&mut offer.nonce);
            }
            self.accept(sent, offers);
        }
    }

    /// Another connection may have made the newest challenges invalid, so a request under a permit
    /// gets a challenge of its own.
    pub(crate) fn doubt_challenges(&mut self) {
        for realm in &mut self.realms {
            realm.is_unanswered = false;
        }
    }

    /// The challenges that no request has answered, for another connection to answer.
    pub(crate) fn leave(&self) -> Vec<LeftChallenge> {
        let unanswered = self.realms.iter().filter(|realm| realm.is_unanswered);
        let of_realm = |realm: &Realm| {
            let spaces = self.spaces.iter().filter(|(_, tag)| **tag == realm.tag);
            spaces.map(|(space, _)| *space).collect()
        };
        unanswered
            .map(|realm| LeftChallenge {
                offers: realm.current.offers.clone(),
                came: realm.came,
                spaces: of_realm(realm),
                requests: self.challenged.iter().copied().collect(),
            })
            .collect()
    }

    /// The peer closed the connection before it read the answer to the newest challenge of a realm.
    pub(crate) fn take_back(&mut self, answered: Answered) {
        if let Some(realm) = self.realm(answered.realm) {
            realm.is_unanswered |= realm.current.tag == answered.nonce;
        }
    }

    /// Takes over a challenge that an earlier connection has left.
    pub(crate) fn adopt(&mut self, left: &LeftChallenge) {
        let mut offers = left.offers.clone();
        self.basic_forbidden |= offers.iter().any(Offer::is_digest);
        let is_basic_out = self.objection().is_some();
        offers.retain(|offer| self.may_answer(offer, is_basic_out));
        let Some(realm) = offers.first().map(|offer| Tag::of(&offer.realm)) else {
            return;
        };
        self.accept(left.came, offers);
        let spaces = left.spaces.iter().map(|space| (*space, realm));
        self.spaces.extend(spaces);
        self.challenged.extend(&left.requests);
    }

    /// The realm of a request: that of its URI, of a prefix of its URI, or of its presentation; or
    /// the only realm, if that is taken to be the server's.
    fn realm_of(&self, asked: Asked<'_>) -> Option<usize> {
        let parts = std::iter::successors(Some(asked.uri), |uri| {
            let (rest, _) = uri.rsplit_once('/')?;
            // `rtsp://host` alone names no presentation.
            (rest.matches('/').count() > 2).then_some(rest)
        });
        let known = parts
            .chain([asked.home])
            .find_map(|part| self.spaces.get(&Tag::of(part)));
        match known {
            Some(tag) => self.realms.iter().position(|realm| realm.tag == *tag),
            None => {
                let is_servers = self.known.is_one() || self.is_bare_costly || !asked.is_of_session;
                (is_servers && self.realms.len() == 1).then_some(0)
            }
        }
    }

    fn realm(&mut self, tag: Tag) -> Option<&mut Realm> {
        self.realms.iter_mut().find(|realm| realm.tag == tag)
    }

    fn on_reuse_refused(&mut self, answered: Answered) {
        if let Some(realm) = self.realm(answered.realm) {
            realm.on_reuse_refused(answered.nonce);
        }
    }

    fn challenges_of(&self, realm: Tag) -> u64 {
        let known = self.realms.iter().find(|known| known.tag == realm);
        known.map_or(0, |realm| realm.challenges)
    }

    fn remember(&mut self, asked: Asked<'_>, realm: Tag, is_bare: bool) {
        if self.spaces.len() >= MOST_REMEMBERED {
            self.spaces.clear();
        }
        self.spaces.insert(Tag::of(asked.uri), realm);
        self.spaces.insert(asked.home(), realm);
        if let Some(presentation) = asked.presentation() {
            self.known.on_challenged(presentation, realm);
        }
        if is_bare {
            if self.challenged.len() >= MOST_REMEMBERED {
                self.challenged.clear();
            }
            self.challenged.insert(asked.tag());
        }
    }

    /// A 401 without any challenge, to a request with credentials, means a wrong password.
    fn on_nothing_usable(
        &self,
        offered: Option<String>,
        answered: Option<Answered>,
    ) -> Unauthorized {
        let is_newer = |it: Answered| self.challenges_of(it.realm) > it.challenges;
        match (answered, offered) {
            (Some(answered), _) if is_newer(answered) => Unauthorized::Retry,
            (_, Some(offered)) => Unauthorized::Unsupported(format!(
                "no supported authentication among those the server offers: {offered}"
            )),
            (Some(_), None) => Unauthorized::Refused {
                offers_weaker: false,
            },
            (None, None) => {
                Unauthorized::Unsupported("the server answered 401 without a challenge".to_owned())
            }
        }
    }

    fn may_answer(&self, offer: &Offer, is_basic_out: bool) -> bool {
        let is_its = |only| only == Tag::of(&offer.realm);
        (offer.is_digest() || !is_basic_out) && self.credentials.realm.is_none_or(is_its)
    }

    /// Why Basic cannot be used, if it cannot.
    fn objection(&self) -> Option<&'static str> {
        if self.credentials.realm.is_some() {
            let confined = "the server has redirected to another port, where its user and password \
                            are used by Digest for its own realm only";
            return Some(confined);
        }
        if self.basic_forbidden {
            let downgrade = "the server asked for Digest authentication before and now only for \
                             Basic, which would send the password in clear text (downgrade)";
            return Some(downgrade);
        }
        // RFC 7617, section 2: the first colon ends the user name.
        let has_colon = self.credentials.user().contains(':');
        has_colon.then_some(
            "the server only offers Basic authentication, \
             which cannot carry a user name with a colon",
        )
    }

    /// Takes a challenge as the newest of its realm.
    fn accept(&mut self, came: Instant, offers: Vec<Offer>) {
        let Some(first) = offers.first() else {
            return;
        };
        let (tag, nonce) = (Tag::of(&first.realm), Tag::of(&first.nonce));
        let known = self.realms.iter().position(|realm| realm.tag == tag);
        let fresh = Nonce {
            tag: nonce,
            offers,
            cnonce: challenge::cnonce(self.cnonce_seed, self.cnonces),
            uses: 0,
        };
        self.cnonces += 1;
        let mut realm = match known.map(|at| self.realms.remove(at)) {
            None => Realm::new(tag, fresh, came),
            Some(mut realm) => {
                realm.renew(fresh);
                realm
            }
        };
        (realm.is_unanswered, realm.came) = (true, came);
        if self.realms.len() == MOST_REALMS {
            self.realms.remove(0);
        }
        self.realms.push(realm);
    }
}

#[cfg(test)]
mod tests;
