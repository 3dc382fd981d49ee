//! A server that says BYE and then plays the same again: a file that is played from the beginning for each
//! session, though its description announces no end.
//!
//! The first payloads of each session are remembered. After a BYE the packets of the next session are held back
//! as long as they are the same, octet for octet. If so much is the same, it is no camera: no two pictures of a
//! sensor are alike. Mostly the first packet or the second one differs, and nothing waits.
//!
//! Pure.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

/// So many octets of a stream that are the same prove that the content is. Less than a second of a small
/// picture, and more than parameter sets and a black picture.
const PROOF: usize = 8 * 1024;

/// More packets are not compared.
const MOST: usize = 256;

/// The beginning of one stream: the hashes of its payloads, and how long those are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Beginning {
    hashes: Vec<u64>,
    octets: usize,
    /// Packets, also those that prove nothing.
    packets: usize,
}

impl Beginning {
    fn is_complete(&self) -> bool {
        self.octets >= PROOF || self.packets >= MOST
    }

    fn add(&mut self, payload: &[u8]) {
        if self.is_complete() {
            return;
        }
        self.packets += 1;
        // Silence is the same everywhere.
        if payload.iter().any(|octet| Some(octet) != payload.first()) {
            let mut hasher = DefaultHasher::new();
            payload.hash(&mut hasher);
            self.hashes.push(hasher.finish());
            self.octets += payload.len();
        }
    }
}

/// What the comparison has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repetition {
    /// Nothing is compared, or it is other content.
    No,
    /// The same so far.
    Undecided,
    /// It is what the session before began with.
    Yes,
}

/// The beginnings of the sessions of one element, by stream.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// That of the session that has ended by BYE.
    before: BTreeMap<usize, Beginning>,
    now: BTreeMap<usize, Beginning>,
    is_comparing: bool,
}

impl Repeats {
    /// Another session begins to play. `after_bye`: the one before has ended by BYE, and a server that begins
    /// anew was not asked to begin elsewhere.
    pub(crate) fn on_playing(&mut self, after_bye: bool) {
        let now = std::mem::take(&mut self.now);
        let is_proof = |beginning: &Beginning| beginning.octets >= PROOF;
        self.is_comparing = after_bye && now.values().any(is_proof);
        self.before = now;
    }

    /// Whether nothing more is to be learned of the packets of the session.
    pub(crate) fn is_done(&self) -> bool {
        let mut now = self.now.values();
        !self.is_comparing && !self.now.is_empty() && now.all(Beginning::is_complete)
    }

    /// Whether packets are held back.
    pub(crate) fn is_comparing(&self) -> bool {
        self.is_comparing
    }

    /// The payload of the next packet of a stream.
    pub(crate) fn on_payload(&mut self, stream: usize, payload: &[u8]) -> Repetition {
        let now = self.now.entry(stream).or_default();
        now.add(payload);
        if !self.is_comparing {
            return Repetition::No;
        }
        let Some(before) = self.before.get(&stream) else {
            return Repetition::Undecided;
        };
        let mut both = now.hashes.iter().zip(&before.hashes);
        if both.any(|(now, before)| now != before) {
            self.is_comparing = false;
            return Repetition::No;
        }
        match before.octets >= PROOF && now.is_complete() {
            true => Repetition::Yes,
            false => Repetition::Undecided,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session with these packets of a kilobyte; what the comparison has come to behind each.
    fn play(repeats: &mut Repeats, after_bye: bool, packets: &[u8]) -> Vec<Repetition> {
        repeats.on_playing(after_bye);
        let payload = |first: u8| -> Vec<u8> { (0..1024).map(|at| first ^ at as u8).collect() };
        let packets = packets.iter();
        packets
            .map(|first| repeats.on_payload(0, &payload(*first)))
            .collect()
    }

    const CLIP: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

    #[test]
    fn the_same_content_after_a_bye_is_a_repetition() {
        let mut repeats = Repeats::default();
        let first = play(&mut repeats, false, &CLIP);
        assert!(first.iter().all(|it| *it == Repetition::No));
        let again = play(&mut repeats, true, &CLIP);
        assert_eq!(again[6..8], [Repetition::Undecided, Repetition::Yes]);
    }

    #[test]
    fn other_content_is_found_out_at_its_first_packet_that_differs() {
        let mut repeats = Repeats::default();
        play(&mut repeats, false, &CLIP);
        let other = play(&mut repeats, true, &[1, 99, 3]);
        let (undecided, no) = (Repetition::Undecided, Repetition::No);
        assert_eq!(other, [undecided, no, no]);
        assert!(!repeats.is_comparing());
    }

    #[test]
    fn without_a_bye_or_with_too_little_nothing_is_compared() {
        let mut repeats = Repeats::default();
        play(&mut repeats, false, &CLIP);
        play(&mut repeats, false, &CLIP);
        assert!(!repeats.is_comparing());
        play(&mut repeats, false, &CLIP[..3]);
        play(&mut repeats, true, &CLIP);
        assert!(!repeats.is_comparing());
    }

    #[test]
    fn silence_proves_nothing() {
        let mut repeats = Repeats::default();
        for after_bye in [false, true] {
            repeats.on_playing(after_bye);
            for _ in 0..100 {
                assert_eq!(repeats.on_payload(0, &[0xd5; 160]), Repetition::No);
            }
        }
    }
}
