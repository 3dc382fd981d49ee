//! Which realm the presentations of a server are in (fault F46).
//!
//! Most servers have one realm. Recorders have one for each channel, that of the camera behind it
//! (`Login to <serial number>`, Dahua), and a careless one counts an answer to another channel's realm
//! as a wrong password. So a request about a presentation whose realm is unknown goes without
//! credentials first, as every client's first request does, until three presentations were challenged
//! in one realm: two may be the main and the sub stream of one channel. From then on the server is
//! taken to have one realm, also by the connections that come later.
//!
//! Only those that are still needed are sent without credentials, and the others wait for their
//! answers: at first contact with a server of one realm that is two requests and one round trip.

use super::auth::permit::Tag;

/// Presentations of one realm that show that it is the server's.
const ENOUGH: usize = 3;
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

    /// How many requests without credentials may be under way to find out; none: any number.
    pub(super) fn most_bare(&self) -> Option<usize> {
        let is_open = !self.has_several && self.unchallenged < MOST_UNCHALLENGED;
        is_open.then(|| ENOUGH.saturating_sub(self.examples.len()).max(1))
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
    fn f46_two_presentations_may_be_of_one_camera_and_three_are_not() {
        let mut realms = realms(&[("1/main", "A"), ("1/main", "A"), ("1/sub", "A")]);
        assert!(!realms.is_one());
        assert_eq!(realms.most_bare(), Some(1));
        realms.on_challenged(Tag::of("2/main"), Tag::of("A"));
        assert!(realms.is_one());
    }

    #[test]
    fn f46_a_second_realm_shows_that_there_are_several_however_late_it_comes() {
        let mut early = realms(&[("1", "A"), ("2", "B")]);
        let late = realms(&[("1", "A"), ("2", "A"), ("3", "A"), ("4", "B")]);
        assert!(!early.is_one() && !late.is_one());
        assert_eq!(early.most_bare(), None, "each gets a challenge of its own");
        early.on_challenged(Tag::of("3"), Tag::of("A"));
        early.on_challenged(Tag::of("4"), Tag::of("A"));
        assert!(!early.is_one());
    }

    #[test]
    fn another_realm_of_a_known_presentation_makes_all_that_was_known_void() {
        let mut realms = realms(&[("1", "A"), ("2", "A"), ("3", "A"), ("4", "B")]);
        realms.on_challenged(Tag::of("1"), Tag::of("B"));
        assert_eq!(realms, self::realms(&[("1", "B")]));
    }

    #[test]
    fn where_answers_come_without_a_challenge_no_request_waits_for_another_one() {
        let mut realms = realms(&[("1", "A")]);
        assert_eq!(realms.most_bare(), Some(2));
        realms.on_unchallenged();
        realms.on_unchallenged();
        assert_eq!(realms.most_bare(), None);
        assert!(!realms.is_one());
    }
}
