//! What was played before is known: its session need not wait for a description.
//!
//! Only of servers that share, where a SETUP does not depend on what was described on its connection
//! before. The description is asked for all the same, together with the SETUP: it may have changed.

use std::collections::HashMap;

use super::table::PresentationUri;
use crate::mux::{proto::Presentation, server_key::ConnectionKey};

/// More cameras than one process plays.
const MOST: usize = 1024;
/// Octets of SDP, so that a few huge ones cannot fill the memory.
const MOST_OCTETS: usize = 8 * 1024 * 1024;

#[derive(Debug)]
struct Remembered {
    presentation: Presentation,
    /// When it was last used, in uses.
    used: u64,
}

/// Descriptions by who may see them and what they are of; the least recently used go first.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    known: HashMap<(ConnectionKey, PresentationUri), Remembered>,
    octets: usize,
    uses: u64,
}

impl Descriptions {
    /// A presentation was played.
    pub(super) fn remember(
        &mut self,
        key: &ConnectionKey,
        uri: &PresentationUri,
        presentation: &Presentation,
    ) {
        self.forget(key, uri);
        self.uses += 1;
        self.octets += presentation.sdp.len();
        let remembered = Remembered {
            presentation: presentation.clone(),
            used: self.uses,
        };
        self.known.insert((key.clone(), uri.clone()), remembered);
        while self.known.len() > MOST || self.octets > MOST_OCTETS {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            let Some((oldest, _)) = oldest else { return };
            let (key, uri) = oldest.clone();
            self.forget(&key, &uri);
        }
    }

    /// What was said of it last.
    pub(super) fn recall(
        &mut self,
        key: &ConnectionKey,
        uri: &PresentationUri,
    ) -> Option<Presentation> {
        let remembered = self.known.get_mut(&(key.clone(), uri.clone()))?;
        self.uses += 1;
        remembered.used = self.uses;
        Some(remembered.presentation.clone())
    }

    /// It does not hold any more.
    pub(super) fn forget(&mut self, key: &ConnectionKey, uri: &PresentationUri) {
        if let Some(gone) = self.known.remove(&(key.clone(), uri.clone())) {
            self.octets -= gone.presentation.sdp.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::{SessionOptions, proto::sdp::parse_presentation};

    fn key(url: &str) -> ConnectionKey {
        SessionOptions::new(url).unwrap().connection_key().unwrap()
    }

    fn uri(number: usize) -> PresentationUri {
        PresentationUri(format!("rtsp://nvr/{number}"))
    }

    fn presentation(octets: usize) -> Presentation {
        let mut sdp = "v=0\r\ns=x\r\nm=video 0 RTP/AVP 96\r\na=control:1\r\n".to_owned();
        sdp.push_str(&format!("i={}\r\n", "x".repeat(octets)));
        parse_presentation(sdp.into(), "rtsp://nvr/1".parse().unwrap()).unwrap()
    }

    #[test]
    fn it_is_for_those_who_may_share_a_connection_only() {
        let mut known = Descriptions::default();
        let (admin, guest) = (key("rtsp://admin:a@nvr/1"), key("rtsp://guest:b@nvr/1"));
        known.remember(&admin, &uri(1), &presentation(1));
        assert!(known.recall(&guest, &uri(1)).is_none());
        assert!(known.recall(&admin, &uri(2)).is_none());
        assert!(known.recall(&admin, &uri(1)).is_some());
        known.forget(&admin, &uri(1));
        assert!(known.recall(&admin, &uri(1)).is_none());
        assert_eq!(known.octets, 0);
    }

    #[test]
    fn the_least_recently_used_go_when_it_is_too_much() {
        let mut known = Descriptions::default();
        let (key, small) = (key("rtsp://nvr/1"), presentation(1));
        (0..MOST).for_each(|number| known.remember(&key, &uri(number), &small));
        assert!(known.recall(&key, &uri(0)).is_some());
        known.remember(&key, &uri(MOST), &small);
        assert!(known.recall(&key, &uri(1)).is_none());
        assert!(known.recall(&key, &uri(0)).is_some());
        let large = presentation(200_000);
        (0..100).for_each(|number| known.remember(&key, &uri(number), &large));
        assert!(known.octets <= MOST_OCTETS);
        assert!(known.recall(&key, &uri(99)).is_some());
    }
}
