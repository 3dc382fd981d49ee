//! Authentication of the requests of one connection: Digest (RFC 7616, 2617, 2069) and Basic.
//!
//! Nonces and their counters belong to the connection, so there is one `Authenticator` each.
//! `Authenticator::authorize` is called in the order in which requests go on the wire, which is
//! what makes the nonce count rise in wire order (RFC 7616, 3.4). A 401 comes back through
//! `Authenticator::handle_unauthorized` with the `ChallengeGeneration` that its request had
//! answered: with pipelining, a 401 may belong to a challenge that has been replaced meanwhile,
//! and such a request deserves another try, while a fresh answer refused is a wrong password.
//! How often a request is tried is counted by the caller.
//!
//! The hashing is that of the crate `http-auth`. The choice of a challenge is ours: by strength,
//! never the first one (see `challenge`). No randomness is drawn here; the seed comes in.

use std::collections::VecDeque;
use std::fmt;

use super::challenge::{self, Scheme};
use super::credentials::Credentials;
use super::digest;

/// Challenges that are remembered, so that a late 401 finds the one it answered and a nonce that
/// comes back is counted on. More than two only if the server changes its nonce with every 401.
const REMEMBERED_CHALLENGES: usize = 8;

/// Which of the challenges of a connection an authorisation answers; rises with each new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChallengeGeneration(u64);

/// The value of an `Authorization` header, and what it answers.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Authorization {
    /// The header's value. For Basic it *is* the password: never log it.
    pub(crate) value: String,
    /// To be handed back with a 401.
    pub(crate) challenge: ChallengeGeneration,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("value", &"***")
            .field("challenge", &self.challenge)
            .finish()
    }
}

/// What to do about a 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    /// Send the request again, authorised anew.
    Retry,
    /// The server knows the answer and does not accept it: wrong user or password.
    Refused,
    /// No challenge can be answered; the text says why.
    Unsupported(String),
}

/// Answers the challenges of one connection with one user's credentials.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credentials: Credentials,
    cnonce_seed: u128,
    /// Oldest first; the last one is answered by new requests.
    accepted: VecDeque<Accepted>,
    generations: u64,
    basic_forbidden: bool,
}

#[derive(Debug)]
struct Accepted {
    scheme: Scheme,
    generation: ChallengeGeneration,
    /// One per challenge, not per request: the session key of `-sess` is made with the cnonce of
    /// the first request (RFC 2617, 3.2.2.2), and with a constant one that reading and the other
    /// one, a key per request, agree.
    cnonce: String,
}

impl Authenticator {
    /// `cnonce_seed` should be random and differ between connections.
    pub(crate) fn new(credentials: Credentials, cnonce_seed: u128) -> Self {
        Self {
            credentials,
            cnonce_seed,
            accepted: VecDeque::new(),
            generations: 0,
            basic_forbidden: false,
        }
    }

    /// Whether a Digest challenge was seen: from then on Basic is never taken.
    pub(crate) fn is_basic_forbidden(&self) -> bool {
        self.basic_forbidden
    }

    /// Never take Basic: an earlier connection to this server has seen a Digest challenge.
    pub(crate) fn forbid_basic(&mut self) {
        self.basic_forbidden = true;
    }

    /// Whether the server has asked for credentials.
    pub(crate) fn has_challenge(&self) -> bool {
        !self.accepted.is_empty()
    }

    /// The authorisation of the next request on the wire, which must have no body.
    ///
    /// `uri` is the Request-URI as sent. None as long as the server has not asked for one.
    pub(crate) fn authorize(&mut self, method: &str, uri: &str) -> Option<Authorization> {
        let current = self.accepted.back_mut()?;
        let value = match &mut current.scheme {
            Scheme::Digest(client) => {
                digest::answer(client, &self.credentials, method, uri, &current.cnonce)?
            }
            Scheme::Basic { .. } => http_auth::basic::encode_credentials(
                self.credentials.user(),
                self.credentials.password(),
            ),
        };
        Some(Authorization {
            value,
            challenge: current.generation,
        })
    }

    /// Judges a 401. `challenges` are all its `WWW-Authenticate` values, joined by ", ";
    /// `answered` is what the request's [`Authorization`] said, None if it carried none.
    pub(crate) fn handle_unauthorized(
        &mut self,
        challenges: &str,
        answered: Option<ChallengeGeneration>,
    ) -> Unauthorized {
        let offer = match challenge::choose(challenges) {
            Ok(scheme) => scheme,
            Err(none) => return self.on_nothing_usable(&none, answered),
        };
        if let Some(why) = self.objection(&offer) {
            return Unauthorized::Unsupported(why);
        }
        if self.is_answer_to(answered, &offer) {
            return if is_stale(&offer) {
                Unauthorized::Retry
            } else {
                Unauthorized::Refused
            };
        }
        // Unanswered or newly answered: the server's latest nonce is the one to use. An answer to
        // an older challenge says nothing about the current one, so that one stays.
        if !self.is_outdated(answered) && !self.is_current(&offer) {
            self.accept(offer);
        }
        Unauthorized::Retry
    }

    /// An answer that is met with a 401 and no challenge at all is a wrong password.
    fn on_nothing_usable(
        &self,
        why: &challenge::NoneUsable,
        answered: Option<ChallengeGeneration>,
    ) -> Unauthorized {
        match answered {
            Some(_) if self.is_outdated(answered) => Unauthorized::Retry,
            Some(_) if why.is_empty() => Unauthorized::Refused,
            _ => Unauthorized::Unsupported(why.to_string()),
        }
    }

    fn objection(&self, offer: &Scheme) -> Option<String> {
        match offer {
            Scheme::Basic { .. } if self.basic_forbidden => Some(
                "the server asked for Digest authentication before and now only for Basic, \
                 which would send the password in clear text (downgrade)"
                    .to_owned(),
            ),
            // RFC 7617, section 2: the first colon ends the user name.
            Scheme::Basic { .. } if self.credentials.user().contains(':') => Some(
                "the server only offers Basic authentication, \
                 which cannot carry a user name with a colon"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn accept(&mut self, offer: Scheme) {
        self.basic_forbidden |= matches!(offer, Scheme::Digest(_));
        let generation = ChallengeGeneration(self.generations);
        self.generations += 1;
        let known = self.accepted.iter().position(|a| a.scheme.is_same(&offer));
        let accepted = match known.and_then(|index| self.accepted.remove(index)) {
            // A nonce that comes back: its count goes on.
            Some(known) => Accepted {
                generation,
                ..known
            },
            None => Accepted {
                scheme: offer,
                generation,
                cnonce: digest::cnonce(self.cnonce_seed, generation.0),
            },
        };
        if self.accepted.len() == REMEMBERED_CHALLENGES {
            self.accepted.pop_front();
        }
        self.accepted.push_back(accepted);
    }

    fn is_answer_to(&self, answered: Option<ChallengeGeneration>, offer: &Scheme) -> bool {
        self.accepted
            .iter()
            .any(|a| Some(a.generation) == answered && a.scheme.is_same(offer))
    }

    fn is_current(&self, offer: &Scheme) -> bool {
        self.accepted
            .back()
            .is_some_and(|a| a.scheme.is_same(offer))
    }

    fn is_outdated(&self, answered: Option<ChallengeGeneration>) -> bool {
        match (answered, self.accepted.back()) {
            (Some(answered), Some(current)) => answered < current.generation,
            _ => false,
        }
    }
}

fn is_stale(scheme: &Scheme) -> bool {
    matches!(scheme, Scheme::Digest(client) if client.stale())
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "rtsp://nvr/ch/1";

    fn authenticator() -> Authenticator {
        Authenticator::new(Credentials::new("admin", "secret").unwrap(), 7)
    }

    fn digest(nonce: &str, more: &str) -> String {
        format!(r#"Digest realm="NVR", nonce="{nonce}", qop="auth"{more}"#)
    }

    fn authorize(auth: &mut Authenticator) -> Authorization {
        auth.authorize("DESCRIBE", URI).unwrap()
    }

    #[test]
    fn nothing_is_authorised_before_a_challenge() {
        assert_eq!(authenticator().authorize("OPTIONS", URI), None);
    }

    #[test]
    fn nonce_count_rises_by_one_per_nonce_in_call_order() {
        let mut auth = authenticator();
        auth.handle_unauthorized(&digest("a", ""), None);
        for count in ["nc=00000001", "nc=00000002", "nc=00000003"] {
            assert!(authorize(&mut auth).value.contains(count));
        }
        let last = authorize(&mut auth).challenge;
        auth.handle_unauthorized(&digest("b", ""), Some(last));
        assert!(authorize(&mut auth).value.contains("nc=00000001"));
    }

    #[test]
    fn the_same_nonce_and_realm_once_answered_is_a_refusal() {
        let mut auth = authenticator();
        assert_eq!(
            auth.handle_unauthorized(&digest("a", ""), None),
            Unauthorized::Retry
        );
        let answered = authorize(&mut auth).challenge;
        assert_eq!(
            auth.handle_unauthorized(&digest("a", ""), Some(answered)),
            Unauthorized::Refused
        );
        let other_realm = digest("a", "").replace("NVR", "camera 2");
        assert_eq!(
            auth.handle_unauthorized(&other_realm, Some(answered)),
            Unauthorized::Retry
        );
    }

    #[test]
    fn stale_is_no_refusal_even_with_the_same_nonce() {
        let mut auth = authenticator();
        auth.handle_unauthorized(&digest("a", ""), None);
        let answered = authorize(&mut auth).challenge;
        assert_eq!(
            auth.handle_unauthorized(&digest("a", ", stale=true"), Some(answered)),
            Unauthorized::Retry
        );
        assert!(authorize(&mut auth).value.contains("nc=00000002"));
        assert_eq!(
            auth.handle_unauthorized(&digest("b", ", stale=TRUE"), Some(answered)),
            Unauthorized::Retry
        );
        assert!(authorize(&mut auth).value.contains(r#"nonce="b""#));
    }

    #[test]
    fn f21_a_new_nonce_in_mid_stream_is_answered() {
        let mut auth = authenticator();
        auth.handle_unauthorized(&digest("a", ""), None);
        let first = authorize(&mut auth).challenge;
        assert_eq!(
            auth.handle_unauthorized(&digest("b", ""), Some(first)),
            Unauthorized::Retry
        );
        let second = authorize(&mut auth);
        assert!(second.challenge > first);
        assert!(second.value.contains(r#"nonce="b""#));
    }

    #[test]
    fn an_answer_to_a_replaced_challenge_is_sent_again_with_the_newest() {
        let mut auth = authenticator();
        auth.handle_unauthorized(&digest("a", ""), None);
        let old = authorize(&mut auth).challenge;
        auth.handle_unauthorized(&digest("b", ""), Some(old));
        assert_eq!(
            auth.handle_unauthorized(&digest("c", ""), Some(old)),
            Unauthorized::Retry
        );
        assert!(authorize(&mut auth).value.contains(r#"nonce="b""#));
        assert_eq!(auth.handle_unauthorized("", Some(old)), Unauthorized::Retry);
        assert_eq!(
            auth.handle_unauthorized(&digest("a", ""), Some(old)),
            Unauthorized::Refused
        );
    }

    #[test]
    fn pipelined_requests_without_authorisation_share_one_challenge() {
        let mut auth = authenticator();
        auth.handle_unauthorized(&digest("a", ""), None);
        let first = authorize(&mut auth);
        auth.handle_unauthorized(&digest("a", ""), None);
        let second = authorize(&mut auth);
        assert_eq!(first.challenge, second.challenge);
        assert!(second.value.contains("nc=00000002"));
    }

    #[test]
    fn the_latest_of_several_nonces_is_used() {
        let mut auth = authenticator();
        for nonce in ["a", "b", "c"] {
            auth.handle_unauthorized(&digest(nonce, ""), None);
        }
        assert!(authorize(&mut auth).value.contains(r#"nonce="c""#));
    }

    #[test]
    fn a_nonce_that_comes_back_is_counted_on() {
        let mut auth = authenticator();
        for nonce in ["a", "b", "a"] {
            auth.handle_unauthorized(&digest(nonce, ""), None);
            authorize(&mut auth);
        }
        let value = authorize(&mut auth).value;
        assert!(
            value.contains(r#"nonce="a""#) && value.contains("nc=00000003"),
            "{value}"
        );
    }

    #[test]
    fn basic_is_never_taken_once_digest_was_seen() {
        let mut auth = authenticator();
        auth.handle_unauthorized(&digest("a", ""), None);
        let answered = authorize(&mut auth).challenge;
        let verdict = auth.handle_unauthorized(r#"Basic realm="NVR""#, Some(answered));
        assert!(matches!(verdict, Unauthorized::Unsupported(why) if why.contains("downgrade")));
        assert!(auth.is_basic_forbidden());

        let mut next_connection = authenticator();
        next_connection.forbid_basic();
        let verdict = next_connection.handle_unauthorized(r#"Basic realm="NVR""#, None);
        assert!(matches!(verdict, Unauthorized::Unsupported(_)));
        assert_eq!(next_connection.authorize("DESCRIBE", URI), None);
    }

    #[test]
    fn basic_alone_is_taken_and_refused_the_second_time() {
        let mut auth = authenticator();
        let basic = r#"Basic realm="NVR""#;
        assert_eq!(auth.handle_unauthorized(basic, None), Unauthorized::Retry);
        let authorization = authorize(&mut auth);
        assert_eq!(authorization.value, "Basic YWRtaW46c2VjcmV0");
        assert_eq!(
            auth.handle_unauthorized(basic, Some(authorization.challenge)),
            Unauthorized::Refused
        );
    }

    #[test]
    fn basic_cannot_carry_a_user_with_a_colon() {
        let mut auth = Authenticator::new(Credentials::new("a:b", "c").unwrap(), 0);
        let verdict = auth.handle_unauthorized("Basic realm=x", None);
        assert!(matches!(verdict, Unauthorized::Unsupported(why) if why.contains("colon")));
        assert_eq!(
            auth.handle_unauthorized(&digest("a", ""), None),
            Unauthorized::Retry
        );
    }

    #[test]
    fn a_401_without_a_challenge_refuses_what_was_answered() {
        let mut auth = authenticator();
        assert!(matches!(
            auth.handle_unauthorized("", None),
            Unauthorized::Unsupported(_)
        ));
        auth.handle_unauthorized(&digest("a", ""), None);
        let answered = authorize(&mut auth).challenge;
        assert_eq!(
            auth.handle_unauthorized("", Some(answered)),
            Unauthorized::Refused
        );
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let mut auth = authenticator();
        auth.handle_unauthorized("Basic realm=x", None);
        let text = format!("{:?} {auth:?}", authorize(&mut auth));
        assert!(
            !text.contains("secret") && !text.contains("YWRtaW46"),
            "{text}"
        );
    }
}
