//! One realm on a connection: its newest challenge, the nonces before it, and how often a nonce of
//! the realm can be used.

use std::{collections::VecDeque, time::Instant};

use super::{
    challenge::Scheme,
    permit::{Strength, Tag},
};

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

/// One algorithm that a challenge offers.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) scheme: Scheme,
    /// One cnonce per challenge, not per request. RFC 2617, 3.2.2.2 makes the session key of
    /// `-sess` with the cnonce of the first request; others make a key for each request. With a
    /// constant cnonce both give the same.
    pub(super) cnonce: String,
}

/// The offers of one nonce, the strongest first.
#[derive(Debug)]
pub(super) struct Nonce {
    pub(super) tag: Tag,
    pub(super) offers: Vec<Offer>,
    pub(super) uses: u32,
}

/// One realm and its newest challenge.
#[derive(Debug)]
pub(super) struct Realm {
    pub(super) tag: Tag,
    pub(super) current: Nonce,
    /// The header as it was received.
    pub(super) header: String,
    pub(super) came: Instant,
    /// No request has answered the challenge yet.
    pub(super) is_unanswered: bool,
    /// The nonces before it, oldest first.
    earlier: VecDeque<Nonce>,
    pub(super) challenges: u64,
    pub(super) reuse: Reuse,
}

impl Realm {
    /// A realm whose first challenge `came` at this time; its header is set by the caller.
    pub(super) fn new(tag: Tag, nonce: Nonce, came: Instant) -> Self {
        Self {
            tag,
            current: nonce,
            header: String::new(),
            came,
            is_unanswered: true,
            earlier: VecDeque::new(),
            challenges: 1,
            reuse: Reuse::Unknown,
        }
    }

    /// The offer to answer: the strongest that is allowed, or the strongest of all.
    pub(super) fn choose(
        &mut self,
        below: Option<Strength>,
        ceiling: Option<Strength>,
    ) -> Option<&mut Offer> {
        let is_allowed = |offer: &Offer| {
            let strength = offer.scheme.strength();
            below.is_none_or(|below| strength < below)
                && ceiling.is_none_or(|ceiling| strength <= ceiling)
        };
        let offers = &mut self.current.offers;
        let at = offers.iter().position(is_allowed).unwrap_or(0);
        offers.get_mut(at)
    }

    /// Takes a newer nonce. If it is one that was used before, its count goes on.
    pub(super) fn renew(&mut self, fresh: Nonce) {
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
        let first = self.current.offers.first();
        first.is_some_and(|offer| matches!(offer.scheme, Scheme::Basic { .. }))
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
