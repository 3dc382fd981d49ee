//! Which realm the presentations of a server are in (fault F46).
//!
//! Most servers have one realm. Recorders have one for each channel, that of the camera behind it
//! (`Login to <serial number>`, Dahua), and a careless one counts an answer to another channel's realm
//! as a wrong password. So a request about a presentation whose realm is unknown goes without
//! credentials first, as every client's first request does, until two presentations were challenged in
//! one realm. From then on the server is taken to have one realm, also by the connections that come
//! later. Two neighbours may be the main and the sub stream of one channel: so of those that wait the
//! last one is asked for.
//!
//! That one goes alone, and the others wait for its answer: at first contact with a server of one realm
//! that is one request and one round trip. gst-rtsp-server 1.22 over TLS answers the second of two
//! such requests in one record only when it is sent something more.

use super::auth::permit::Tag;

/// Presentations of one realm that show that it is the server's.
const ENOUGH: usize = 2;
/// After so many requests that were answered without a challenge none waits for another's answer.
const MOST_UNCHALLENGED: usize = 2;

/// What the challenges of a server have shown of its realms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Realms {
    /// Presentations and their realms; none of the second realm and the later ones.
    examples: Vec<(Tag, Tag)>,
    /// Two presentations were in different realms.
    has_several: bool,
    /// Requests without credentials that were answered with something else than 401.
    unchallenged: usize,
}

impl Realms {
    /// A request about a presentation was answered with a challenge of this realm.
    pub fn on_challenged(&mut self, presentation: Tag, realm: Tag) {
        let known = self.examples.iter().find(|(of, _)| *of == presentation);
        match (known, self.examples.first()) {
            // The server is another one than before, or has got another name.
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

    /// A request without credentials was answered, and not with a challenge.
    pub(super) fn on_unchallenged(&mut self) {
        self.unchallenged = self.unchallenged.saturating_add(1);
    }

    /// Whether the server has one realm for all presentations, as far as is known.
    pub(super) fn is_one(&self) -> bool {
        self.examples.len() >= ENOUGH && !self.has_several
    }

    /// Whether one request without credentials at a time is to find out.
    pub(super) fn is_open(&self) -> bool {
        !self.has_several && self.unchallenged < MOST_UNCHALLENGED && !self.is_one()
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
