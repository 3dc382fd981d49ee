//! Which authentication realm each presentation of a server belongs to (fault F46).
//!
//! Most servers have one realm. Recorders have one for each channel, which is the realm of the
//! camera behind it (`Login to <serial number>`, Dahua); a careless recorder takes an answer to the
//! realm of another channel for a wrong password. So a request for a presentation whose realm is
//! unknown is sent without credentials first, as every client's first request is, until two
//! presentations were challenged with the same realm. From then on the core takes the server to
//! have one realm, on later connections too. Two neighbouring presentations may be the main and the
//! sub stream of one channel, so of the waiting presentations the last one is asked for.
//!
//! That request goes alone, and the others wait for its answer: at first contact with a server of
//! one realm this costs one request and one round trip. gst-rtsp-server 1.22 over TLS answers the
//! second of two such requests in one TLS record only when it receives more data.

use std::{collections::VecDeque, time::Instant};

use super::{
    challenge::Offer,
    credentials::{Strength, Tag},
};

/// The number of presentations with the same realm that show that the server has only one.
const ENOUGH: usize = 2;
/// After so many requests that were answered without a challenge, no request waits for another's
/// answer.
const MOST_UNCHALLENGED: usize = 2;

/// What is known of the realms of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Realms {
    /// Presentations with their realm; none once a second realm is known.
    examples: Vec<(Tag, Tag)>,
    /// Two presentations were in different realms.
    has_several: bool,
    /// Requests without credentials that were answered, and not with 401.
    unchallenged: usize,
}

impl Realms {
    /// A request for a presentation was answered with a challenge of this realm.
    pub fn on_challenged(&mut self, presentation: Tag, realm: Tag) {
        let known = self.examples.iter().find(|(of, _)| *of == presentation);
        match (known, self.examples.first()) {
            // The server has been replaced by another one, or its realm was renamed.
            (Some((_, known)), _) if *known != realm => {
                *self = Self {
                    examples: vec![(presentation, realm)],
                    ..Self::default()
                };
            }
            (Some(_), _) => {}
            (None, Some((_, first))) if *first != realm => self.has_several = true,
            (None, _) if self.examples.len() < ENOUGH => self.examples.push((presentation, realm)),
            (None, _) => {}
        }
    }

    /// A request without credentials was answered, and not with 401.
    pub(super) fn on_unchallenged(&mut self) {
        self.unchallenged = self.unchallenged.saturating_add(1);
    }

    /// The realm of a presentation, as far as is known: that of another one where the server has not
    /// shown two realms.
    pub(crate) fn of(&self, presentation: Tag) -> Option<Tag> {
        let known = self.examples.iter().find(|(of, _)| *of == presentation);
        let other = self.examples.first().filter(|_| !self.has_several);
        known.or(other).map(|(_, realm)| *realm)
    }

    /// True if the server has one realm for all presentations, as far as is known.
    pub(super) fn is_one(&self) -> bool {
        self.examples.len() >= ENOUGH && !self.has_several
    }

    /// True if one request without credentials at a time is to find out.
    pub(crate) fn is_open(&self) -> bool {
        !self.has_several && self.unchallenged < MOST_UNCHALLENGED && !self.is_one()
    }
}

/// The most nonces of a realm that are remembered, so that the count goes on if one comes back.
const REMEMBERED_NONCES: usize = 8;

/// Whether a nonce of a realm is good for more than one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    Unknown,
    Works,
    /// A nonce was stale at its second use, perhaps because of its age.
    Expires,
    /// This nonce was refused at its second use, perhaps because of its age.
    Doubtful(Tag),
    Never,
}

/// The offers of one nonce, the strongest first.
#[derive(Debug)]
pub(super) struct Nonce {
    pub(super) tag: Tag,
    pub(super) offers: Vec<Offer>,
    /// One cnonce per challenge, not per request. RFC 2617, 3.2.2.2 makes the session key of
    /// `-sess` with the cnonce of the first request; others make a key for each request. With a
    /// constant cnonce both give the same.
    pub(super) cnonce: String,
    pub(super) uses: u32,
}

/// One realm and its newest challenge.
#[derive(Debug)]
pub(super) struct Realm {
    pub(super) tag: Tag,
    pub(super) current: Nonce,
    pub(super) came: Instant,
    /// No request has answered the challenge yet.
    pub(super) is_unanswered: bool,
    /// The nonces before it, oldest first.
    earlier: VecDeque<Nonce>,
    pub(super) challenges: u64,
    pub(super) reuse: Reuse,
}

impl Nonce {
    /// The offer to answer: the strongest that is allowed, or the strongest of all.
    pub(super) fn choose(
        &self,
        below: Option<Strength>,
        ceiling: Option<Strength>,
    ) -> Option<&Offer> {
        let is_allowed = |offer: &&Offer| {
            below.is_none_or(|below| offer.strength < below)
                && ceiling.is_none_or(|ceiling| offer.strength <= ceiling)
        };
        let mut offers = self.offers.iter();
        offers.find(is_allowed).or(self.offers.first())
    }
}

impl Realm {
    /// A realm whose first challenge `came` at this time.
    pub(super) fn new(tag: Tag, nonce: Nonce, came: Instant) -> Self {
        Self {
            tag,
            current: nonce,
            came,
            is_unanswered: true,
            earlier: VecDeque::new(),
            challenges: 1,
            reuse: Reuse::Unknown,
        }
    }

    /// Takes a newer nonce, unless it is the present one. If it is one that was used before, its count
    /// goes on.
    pub(super) fn renew(&mut self, fresh: Nonce) {
        if self.current.tag == fresh.tag {
            return;
        }
        let known = self.earlier.iter().position(|old| old.tag == fresh.tag);
        let next = known
            .and_then(|at| self.earlier.remove(at))
            .unwrap_or(fresh);
        if self.earlier.len() == REMEMBERED_NONCES {
            self.earlier.pop_front();
        }
        let old = std::mem::replace(&mut self.current, next);
        self.earlier.push_back(old);
        self.challenges += 1;
    }

    pub(super) fn is_basic(&self) -> bool {
        !self.current.offers.iter().any(Offer::is_digest)
    }

    /// A nonce that had been used before was stale.
    pub(super) fn on_stale(&mut self) {
        self.reuse = match self.reuse {
            Reuse::Works => Reuse::Unknown,
            Reuse::Unknown => Reuse::Expires,
            known => known,
        };
    }

    /// A nonce was refused that had been used before, or that was no longer the newest.
    pub(super) fn on_reuse_refused(&mut self, nonce: Tag) {
        self.reuse = match self.reuse {
            Reuse::Works => Reuse::Unknown,
            Reuse::Unknown | Reuse::Expires => Reuse::Doubtful(nonce),
            Reuse::Doubtful(other) if other != nonce => Reuse::Never,
            known => known,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realms(challenges: &[(&str, &str)]) -> Realms {
        let mut realms = Realms::default();
        for (presentation, realm) in challenges {
            realms.on_challenged(Tag::of(presentation), Tag::of(realm));
        }
        realms
    }

    #[test]
    fn f46_two_presentations_of_one_realm_show_that_it_is_the_servers() {
        let mut realms = realms(&[("1", "A"), ("1", "A")]);
        assert!(!realms.is_one() && realms.is_open());
        realms.on_challenged(Tag::of("2"), Tag::of("A"));
        assert!(realms.is_one() && !realms.is_open());
    }

    #[test]
    fn f46_a_second_realm_shows_that_there_are_several_however_late_it_comes() {
        let mut early = realms(&[("1", "A"), ("2", "B")]);
        let late = realms(&[("1", "A"), ("2", "A"), ("4", "B")]);
        assert!(!early.is_one() && !late.is_one());
        assert!(!early.is_open(), "each gets a challenge of its own");
        early.on_challenged(Tag::of("3"), Tag::of("A"));
        early.on_challenged(Tag::of("4"), Tag::of("A"));
        assert!(!early.is_one());
    }

    #[test]
    fn another_realm_of_a_known_presentation_makes_all_that_was_known_void() {
        let mut realms = realms(&[("1", "A"), ("2", "A"), ("4", "B")]);
        realms.on_challenged(Tag::of("1"), Tag::of("B"));
        assert_eq!(realms, self::realms(&[("1", "B")]));
    }

    #[test]
    fn where_answers_come_without_a_challenge_no_request_waits_for_another_one() {
        let mut realms = realms(&[("1", "A")]);
        realms.on_unchallenged();
        assert!(realms.is_open());
        realms.on_unchallenged();
        assert!(!realms.is_open());
        assert!(!realms.is_one());
    }
}
