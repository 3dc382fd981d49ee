//! Which URIs of a server were not described although it was asked.
//!
//! A recorder answers no DESCRIBE of a channel whose camera is off, or after 20 s; and behind an
//! unanswered DESCRIBE a connection carries no SETUP of another session. So the next DESCRIBE of such a
//! URI goes where nothing plays, whether the URI was played before or not. Ten such channels of a
//! recorder with 64 kept each new camera from starting for 22 s, or for good.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::mux::ids::PresentationUri;

/// Asked for again only after so long, a URI is like any other.
const FORGOTTEN: Duration = Duration::from_secs(10 * 60);
/// More channels than any recorder has; what comes beyond is not remembered.
const MOST: usize = 1024;

/// Those of one server, and when each was last asked for in vain.
#[derive(Debug, Default)]
pub(crate) struct Unanswered(HashMap<PresentationUri, Instant>);

impl Unanswered {
    /// The server did not answer a DESCRIBE in time.
    pub(crate) fn on_unanswered(&mut self, now: Instant, uri: &PresentationUri) {
        self.0.retain(|_, at| is_recent(*at, now));
        if self.0.len() < MOST || self.0.contains_key(uri) {
            self.0.insert(uri.clone(), now);
        }
    }

    /// The server answered one, with a description or a status.
    pub(crate) fn on_answered(&mut self, uri: &PresentationUri) {
        self.0.remove(uri);
    }

    /// Whether a DESCRIBE of it may stay unanswered.
    pub(crate) fn is_doubtful(&self, now: Instant, uri: &PresentationUri) -> bool {
        self.0.get(uri).is_some_and(|at| is_recent(*at, now))
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < FORGOTTEN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(number: usize) -> PresentationUri {
        PresentationUri(format!("/{number}"))
    }

    #[test]
    fn a_uri_is_doubtful_until_it_is_answered_or_forgotten() {
        let (now, mut unanswered) = (Instant::now(), Unanswered::default());
        assert!(!unanswered.is_doubtful(now, &uri(1)));
        unanswered.on_unanswered(now, &uri(1));
        unanswered.on_unanswered(now, &uri(2));
        unanswered.on_answered(&uri(2));
        assert!(unanswered.is_doubtful(now, &uri(1)));
        assert!(!unanswered.is_doubtful(now, &uri(2)));
        assert!(!unanswered.is_doubtful(now + FORGOTTEN, &uri(1)));
    }

    #[test]
    fn it_remembers_a_limited_number() {
        let (now, mut unanswered) = (Instant::now(), Unanswered::default());
        for number in 0..=MOST {
            unanswered.on_unanswered(now, &uri(number));
        }
        assert_eq!(unanswered.0.len(), MOST);
        assert!(!unanswered.is_doubtful(now, &uri(MOST)));
        unanswered.on_unanswered(now + FORGOTTEN, &uri(MOST));
        assert_eq!(unanswered.0.len(), 1);
    }
}
