//! Whether a connection carries more than its way or its server can bear.
//!
//! All sessions of a connection share one TCP window, and one worker of the server. Where that is too
//! little, media queues up at the server: answers to keep-alives come late, for they queue up behind
//! it, and packets are left out, of several sessions at once. One camera that loses packets, or
//! whose scene has become calm, says nothing. Nor does what happens while this side does not keep up.
//!
//! Looked at once in [`PERIOD`]; what lasts for three looks is a strain, and it is over after as many
//! good ones. Pure: time is passed in.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// How often a connection is looked at.
pub(crate) const PERIOD: Duration = Duration::from_secs(2);

/// Bad looks, less the good ones, that make a strain.
const ENOUGH: u32 = 3;
/// Bad looks that count at most: so soon a strain is over when nothing is wrong any more.
const MOST: u32 = 6;

/// A late answer takes so much longer than the quickest one, and so many times as long.
const LATE: Duration = Duration::from_millis(500);
const LATE_FACTOR: u32 = 4;

/// Segments that came out of order in a period from which on the way loses some.
const OUT_OF_ORDER: u32 = 3;

/// A rate has fallen below so many hundredths of what it was.
const FALLEN: u64 = 70;

/// What one connection has shown in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// How long the period was.
    pub(crate) time: Duration,
    /// Octets received.
    pub(crate) octets: u64,
    /// Sessions that sent something.
    pub(crate) sessions: u32,
    /// Of these, sessions that left out RTP packets.
    pub(crate) lossy: u32,
    /// RTP packets that they left out.
    pub(crate) lost: u64,
    /// How long a keep-alive took that was alone on the connection, if one was answered.
    pub(crate) answer: Option<Duration>,
    /// The quickest such answer so far.
    pub(crate) round_trip: Option<Duration>,
    /// What the system says of the way.
    pub(crate) way: Option<Way>,
    /// More waits for our consumers than is usual: what comes late, comes late for us.
    pub(crate) is_behind: bool,
}

/// What the system says of the way (`TCP_INFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// The receiver's round trip, its own queue at the sender included; zero while unknown.
    pub(crate) round_trip: Duration,
    /// Segments that came out of order: since the connection was made, in [`Reading`] in this period.
    pub(crate) out_of_order: u32,
}

/// Why a connection is strained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strain {
    /// The way to the server loses segments, and one TCP window is too small for what is sent over it.
    Path,
    /// The server leaves out packets of several sessions at once.
    Losses,
    /// The server answers late: its answers wait behind the media.
    LateAnswers,
}

impl fmt::Display for Strain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "the way to the server loses segments",
            Self::Losses => "the server leaves out packets of several sessions",
            Self::LateAnswers => "the server answers late",
        })
    }
}

impl Reading {
    fn is_late(&self) -> bool {
        let (Some(answer), Some(best)) = (self.answer, self.round_trip) else {
            return false;
        };
        answer > best.saturating_mul(LATE_FACTOR) && answer > best + LATE
    }

    /// Whether packets of several sessions are missing: of a quarter of them, and of two.
    fn is_lossy(&self) -> bool {
        self.lossy >= 2.max(self.sessions.div_ceil(4))
    }

    fn is_way_lossy(&self) -> bool {
        self.way.is_some_and(|way| way.out_of_order >= OUT_OF_ORDER)
    }

    /// Whether it is worth asking the server, for how long its answer takes: on a way that loses
    /// something the next keep-alive may be most of a minute off.
    pub(crate) fn calls_for_answer(&self) -> bool {
        self.is_way_lossy() && self.sessions >= 2 && !self.is_behind
    }

    /// Octets a second.
    pub(crate) fn rate(&self) -> u64 {
        let millis = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        self.octets.saturating_mul(1000) / millis.max(1)
    }
}

/// Watches one connection.
#[derive(Debug, Default)]
pub(crate) struct StrainWatch {
    score: u32,
    strain: Option<Strain>,
    was_bad: bool,
    /// Octets a second, while so many sessions sent something and nothing was wrong.
    usual: Option<(u32, u64)>,
    next_look: Option<Instant>,
}

impl StrainWatch {
    /// Whether it is time for the next look, which begins the period after it.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next_look.is_some_and(|at| now >= at);
        if is_due || self.next_look.is_none() {
            self.next_look = Some(now + PERIOD);
        }
        is_due
    }

    /// Whether the last look was bad, whatever holds.
    pub(crate) fn was_bad(&self) -> bool {
        self.was_bad
    }

    /// Looks at a period; gives what holds from now on.
    pub(crate) fn on_reading(&mut self, reading: &Reading) -> Option<Strain> {
        self.was_bad = false;
        // One session has nobody to go away from.
        if reading.is_behind || reading.sessions < 2 {
            self.score = self.score.saturating_sub(u32::from(reading.sessions < 2));
        } else if let Some(sign) = self.sign(reading) {
            self.was_bad = true;
            self.score = (self.score + 1).min(MOST);
            if self.score >= ENOUGH {
                self.strain.get_or_insert(sign);
            }
        } else if !reading.calls_for_answer() || reading.answer.is_some() {
            self.on_good(reading);
        }
        if self.score == 0 {
            self.strain = None;
        }
        self.strain
    }

    fn sign(&self, reading: &Reading) -> Option<Strain> {
        let has_fallen = self.has_fallen(reading);
        let is_bad = reading.is_late() || reading.is_lossy();
        match (reading.is_way_lossy(), is_bad) {
            (true, _) if is_bad || has_fallen => Some(Strain::Path),
            (_, true) if reading.is_lossy() => Some(Strain::Losses),
            (_, true) => Some(Strain::LateAnswers),
            _ => None,
        }
    }

    fn has_fallen(&self, reading: &Reading) -> bool {
        self.usual.is_some_and(|(sessions, usual)| {
            reading.sessions <= sessions
                && reading.rate().saturating_mul(100)
                    < usual.saturating_mul(FALLEN) * u64::from(reading.sessions)
                        / u64::from(sessions.max(1))
        })
    }

    fn on_good(&mut self, reading: &Reading) {
        // Without an answer, what was late before may be so still.
        let says_something = self.strain != Some(Strain::LateAnswers) || reading.answer.is_some();
        self.score = self.score.saturating_sub(u32::from(says_something));
        let rate = reading.rate();
        self.usual = Some(match self.usual {
            Some((sessions, usual)) if sessions == reading.sessions => {
                (sessions, (3 * usual + rate) / 4)
            }
            _ => (reading.sessions, rate),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn fine() -> Reading {
        Reading {
            time: PERIOD,
            octets: 2_000_000,
            sessions: 16,
            round_trip: Some(20 * MS),
            answer: Some(25 * MS),
            way: Some(Way::default()),
            ..Reading::default()
        }
    }

    fn looks(watch: &mut StrainWatch, reading: Reading, count: u32) -> Option<Strain> {
        (0..count).fold(None, |_, _| watch.on_reading(&reading))
    }

    #[test]
    fn what_happens_once_or_twice_is_no_strain() {
        let mut watch = StrainWatch::default();
        let late = Reading {
            answer: Some(800 * MS),
            ..fine()
        };
        assert_eq!(looks(&mut watch, late, 2), None);
        assert_eq!(looks(&mut watch, fine(), 2), None);
        assert_eq!(looks(&mut watch, late, 2), None);
        assert_eq!(looks(&mut watch, late, 1), Some(Strain::LateAnswers));
    }

    #[test]
    fn a_way_that_loses_and_was_never_better_is_found_by_asking() {
        let mut watch = StrainWatch::default();
        let unanswered = Reading {
            answer: None,
            way: Some(Way {
                out_of_order: OUT_OF_ORDER,
                ..Way::default()
            }),
            ..fine()
        };
        let late = Reading {
            answer: Some(2100 * MS),
            ..unanswered
        };
        assert!(unanswered.calls_for_answer() && !fine().calls_for_answer());
        for _ in 0..2 {
            assert_eq!(looks(&mut watch, unanswered, 5), None);
            assert_eq!(looks(&mut watch, late, 1), None);
        }
        assert_eq!(looks(&mut watch, late, 1), Some(Strain::Path));
        let prompt = Reading {
            answer: Some(25 * MS),
            ..unanswered
        };
        assert_eq!(looks(&mut watch, prompt, ENOUGH), None, "it bears that");
    }

    #[test]
    fn it_is_over_after_as_many_good_looks_as_there_were_bad_ones() {
        let mut watch = StrainWatch::default();
        let lossy = Reading {
            lossy: 4,
            lost: 90,
            ..fine()
        };
        assert_eq!(looks(&mut watch, lossy, 100), Some(Strain::Losses));
        assert_eq!(looks(&mut watch, fine(), MOST - 1), Some(Strain::Losses));
        assert_eq!(looks(&mut watch, fine(), 1), None);
    }

    #[test]
    fn one_camera_that_loses_packets_is_its_own_affair() {
        let mut watch = StrainWatch::default();
        let one = Reading {
            lossy: 1,
            lost: 5000,
            ..fine()
        };
        let few = Reading {
            lossy: 3,
            lost: 5000,
            ..fine()
        };
        assert_eq!(looks(&mut watch, one, 100), None);
        assert_eq!(looks(&mut watch, few, 100), None, "less than a quarter");
        let alone = Reading {
            sessions: 1,
            lossy: 1,
            answer: Some(9000 * MS),
            ..fine()
        };
        assert_eq!(
            looks(&mut watch, alone, 100),
            None,
            "it has nobody to leave"
        );
    }

    #[test]
    fn what_comes_late_because_we_are_behind_does_not_count() {
        let mut watch = StrainWatch::default();
        let behind = Reading {
            lossy: 16,
            answer: Some(9000 * MS),
            is_behind: true,
            ..fine()
        };
        assert_eq!(looks(&mut watch, behind, 100), None);
    }

    #[test]
    fn a_way_that_loses_segments_is_a_strain_only_if_that_hurts() {
        let mut watch = StrainWatch::default();
        let way = Some(Way {
            out_of_order: 40,
            ..Way::default()
        });
        let lossy_way = Reading { way, ..fine() };
        assert_eq!(looks(&mut watch, lossy_way, 100), None);
        let slower = Reading {
            octets: 1_000_000,
            ..lossy_way
        };
        assert_eq!(looks(&mut watch, slower, 3), Some(Strain::Path));
        let mut watch = StrainWatch::default();
        let late = Reading {
            answer: Some(700 * MS),
            ..lossy_way
        };
        assert_eq!(looks(&mut watch, late, 3), Some(Strain::Path));
    }

    #[test]
    fn scenes_that_become_calm_are_none() {
        let mut watch = StrainWatch::default();
        looks(&mut watch, fine(), 10);
        let calm = Reading {
            octets: 100_000,
            ..fine()
        };
        assert_eq!(looks(&mut watch, calm, 100), None);
    }

    #[test]
    fn fewer_sessions_are_no_fall() {
        let mut watch = StrainWatch::default();
        let way = Some(Way {
            out_of_order: 40,
            ..Way::default()
        });
        looks(&mut watch, Reading { way, ..fine() }, 10);
        let half = Reading {
            sessions: 8,
            octets: 1_000_000,
            way,
            ..fine()
        };
        assert_eq!(looks(&mut watch, half, 100), None);
    }

    #[test]
    fn late_answers_are_over_with_answers_in_time() {
        let mut watch = StrainWatch::default();
        let late = Reading {
            answer: Some(800 * MS),
            ..fine()
        };
        looks(&mut watch, late, 3);
        let silent = Reading {
            answer: None,
            ..fine()
        };
        assert_eq!(looks(&mut watch, silent, 100), Some(Strain::LateAnswers));
        assert_eq!(looks(&mut watch, fine(), 3), None);
    }

    #[test]
    fn a_look_is_due_once_in_a_period() {
        let (start, mut watch) = (Instant::now(), StrainWatch::default());
        assert!(!watch.is_due(start));
        assert!(!watch.is_due(start + PERIOD / 2));
        assert!(watch.is_due(start + PERIOD));
        assert!(!watch.is_due(start + PERIOD));
    }
}
