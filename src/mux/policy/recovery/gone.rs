//! Pads without a stream: the server describes it no more, or refuses it after a reconnect.
//!
//! A camera that starts may describe its sound a moment after its picture. So the pad gets GAP events for
//! a minute, and the server is asked once more. If the stream is there again, the session is set up again, and
//! the stream goes on on its pad. Else the pad gets EOS.
//!
//! Pure: time is passed in.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How often a pad without a stream gets a GAP event.
const FILL_EVERY: Duration = Duration::from_secs(1);

/// How long it gets them, before the server is asked once more.
const PATIENCE: Duration = Duration::from_secs(60);

/// If it gives no answer, it is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GonePad {
    since: Instant,
    /// The server described it when it was asked once more.
    is_last_try: bool,
}

/// The pads of an element that have no stream at present.
#[derive(Debug, Default)]
pub(crate) struct GonePads {
    pads: BTreeMap<usize, GonePad>,
    /// When the server was asked last.
    asked: Option<Instant>,
    is_asking: bool,
}

/// What the server says when it is asked once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AskedAgain {
    /// A stream is there again: the session is to be set up again.
    IsBack,
    /// These pads end.
    Ended(Vec<usize>),
}

impl GonePads {
    /// A session is set up, and has no stream for these pads. Returns those that end: their stream was
    /// described when the server was asked once more, and cannot be had all the same.
    pub(crate) fn on_set_up(&mut self, now: Instant, gone: &[usize]) -> Vec<usize> {
        (self.asked, self.is_asking) = (None, false);
        self.pads.retain(|pad, _| gone.contains(pad));
        for pad in gone {
            self.pads.entry(*pad).or_insert(GonePad {
                since: now,
                is_last_try: false,
            });
        }
        self.end(|_, pad| pad.is_last_try)
    }

    fn end(&mut self, ends: impl Fn(&usize, &GonePad) -> bool) -> Vec<usize> {
        let ended = self.pads.extract_if(.., |number, pad| ends(number, pad));
        ended.map(|(number, _)| number).collect()
    }

    /// The pads that have no stream.
    pub(crate) fn pads(&self) -> impl Iterator<Item = usize> {
        self.pads.keys().copied()
    }

    /// When they are to be looked at again.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        (!self.pads.is_empty()).then(|| now + FILL_EVERY)
    }

    /// Whether the server is to be asked once more now.
    pub(crate) fn asks(&mut self, now: Instant) -> bool {
        let age = |since| now.saturating_duration_since(since);
        let is_due = self.pads.values().any(|pad| age(pad.since) >= PATIENCE)
            && !self.is_asking
            && self.asked.is_none_or(|asked| age(asked) >= ASK_AGAIN);
        if is_due {
            (self.asked, self.is_asking) = (Some(now), true);
        }
        is_due
    }

    /// The server was asked once more. `gone` are the pads whose stream it does not describe; `None` if it
    /// has given no answer.
    pub(crate) fn on_asked(&mut self, now: Instant, gone: Option<&[usize]>) -> AskedAgain {
        self.is_asking = false;
        let Some(gone) = gone else {
            return AskedAgain::Ended(Vec::new());
        };
        let is_due = |pad: &GonePad| now.saturating_duration_since(pad.since) >= PATIENCE;
        if self.pads.keys().all(|number| gone.contains(number)) {
            return AskedAgain::Ended(self.end(|_, pad| is_due(pad)));
        }
        for (number, pad) in &mut self.pads {
            pad.is_last_try |= is_due(pad) && !gone.contains(number);
        }
        AskedAgain::IsBack
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any time will do")]

    use super::*;

    const S: Duration = Duration::from_secs(1);
    const SOUND: usize = 1;
    const OTHER: usize = 2;

    fn gone_at(now: Instant) -> GonePads {
        let mut gone = GonePads::default();
        assert!(gone.on_set_up(now, &[SOUND]).is_empty());
        gone
    }

    #[test]
    fn a_pad_ends_when_its_stream_is_not_described_after_a_minute_either() {
        let begin = Instant::now();
        let mut gone = gone_at(begin);
        assert_eq!(gone.deadline(begin), Some(begin + S));
        assert!(!gone.asks(begin + 59 * S));
        assert!(gone.asks(begin + 60 * S));
        assert!(!gone.asks(begin + 61 * S), "it was asked");
        let ended = gone.on_asked(begin + 61 * S, Some(&[SOUND]));
        assert_eq!(ended, AskedAgain::Ended(vec![SOUND]));
        assert_eq!(gone.deadline(begin + 62 * S), None);
        assert!(!gone.asks(begin + 600 * S));
    }

    #[test]
    fn a_server_that_gives_no_answer_is_asked_again() {
        let begin = Instant::now();
        let mut gone = gone_at(begin);
        for ask in [60, 80, 100] {
            assert!(gone.asks(begin + ask * S));
            assert!(!gone.asks(begin + (ask + 30) * S), "it is being asked");
            let nothing = AskedAgain::Ended(Vec::new());
            assert_eq!(gone.on_asked(begin + (ask + 1) * S, None), nothing);
            assert!(!gone.asks(begin + (ask + 19) * S));
        }
    }

    #[test]
    fn a_stream_that_is_described_again_is_set_up_again_once() {
        let begin = Instant::now();
        let mut gone = gone_at(begin);
        assert!(gone.asks(begin + 60 * S));
        assert_eq!(gone.on_asked(begin + 60 * S, Some(&[])), AskedAgain::IsBack);
        // It is there.
        let later = begin + 61 * S;
        assert!(gone.on_set_up(later, &[]).is_empty());
        assert_eq!(gone.pads().count(), 0);
        // It is described, and refused.
        let mut gone = gone_at(begin);
        assert!(gone.asks(begin + 60 * S));
        assert_eq!(gone.on_asked(begin + 60 * S, Some(&[])), AskedAgain::IsBack);
        assert_eq!(gone.on_set_up(later, &[SOUND]), [SOUND]);
        assert_eq!(gone.pads().count(), 0);
    }

    #[test]
    fn each_pad_has_its_own_minute() {
        let begin = Instant::now();
        let mut gone = gone_at(begin);
        let both = [SOUND, OTHER];
        assert!(gone.on_set_up(begin + 30 * S, &both).is_empty());
        assert!(gone.asks(begin + 60 * S));
        let asked = gone.on_asked(begin + 60 * S, Some(&both));
        assert_eq!(asked, AskedAgain::Ended(vec![SOUND]));
        assert_eq!(gone.pads().collect::<Vec<_>>(), [OTHER]);
        assert!(!gone.asks(begin + 89 * S));
        assert!(gone.asks(begin + 90 * S));
    }
}
