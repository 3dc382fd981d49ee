//! Whether a connection carries more than its path or its server can bear.
//!
//! All sessions of a connection share one TCP window, and one worker of the server. Where that is too
//! little, media queues up at the server: answers to keep-alives come late, since they queue up
//! behind the media, and the server drops packets of several sessions at once. One camera that loses
//! packets, or whose scene has become calm, says nothing. Nor does what happens while this side does
//! not keep up.
//!
//! Each connection gives one sample in a period. It is congested after three bad samples, and no longer
//! after three good ones. Pure: time is passed in.

use std::time::{Duration, Instant};

use crate::mux::{event::Congestion, stats::HealthSample};

/// Bad samples, less the good ones, that make a congestion.
const ENOUGH: u32 = 3;
/// Bad samples that count at most: so soon a congestion is over when nothing is wrong any more.
const MOST: u32 = 6;

/// How long a connection is congested before the first session is moved: it may be enough that new
/// sessions go elsewhere.
const FIRST_MOVE: Duration = Duration::from_secs(10);
/// How long after a move the next one comes: two samples, and the time that setting up takes.
const NEXT_MOVE: Duration = Duration::from_secs(5);

/// A late answer takes so much longer than the quickest one, and so many times as long.
const LATE: Duration = Duration::from_millis(500);
const LATE_FACTOR: u32 = 4;

/// A rate has fallen below so many hundredths of what it was.
const FALLEN: u64 = 70;

/// Whether an answer took much longer than the quickest one.
fn is_late(sample: &HealthSample) -> bool {
    let (Some(answer), Some(best)) = (sample.answer, sample.round_trip) else {
        return false;
    };
    answer > best.saturating_mul(LATE_FACTOR) && answer > best + LATE
}

/// Whether packets of several sessions are missing: of a quarter of them, and of two.
fn is_lossy(sample: &HealthSample) -> bool {
    sample.lossy >= 2.max(sample.sessions.div_ceil(4))
}

/// Watches one connection.
#[derive(Debug, Default)]
pub(crate) struct CongestionWatch {
    score: u32,
    congestion: Option<Congestion>,
    /// The last sample was bad, whether or not the connection is congested.
    pub(crate) was_bad: bool,
    /// Bytes a second, while so many sessions sent something and nothing was wrong.
    usual: Option<(u32, u64)>,
}

impl CongestionWatch {
    /// Judges the sample of a period; gives whether the connection is congested from now on.
    pub(crate) fn on_sample(&mut self, sample: &HealthSample) -> Option<Congestion> {
        self.was_bad = false;
        // A session that is alone shares its connection with no other session.
        if sample.is_behind || sample.sessions < 2 {
            self.score = self.score.saturating_sub(u32::from(sample.sessions < 2));
        } else if let Some(sign) = self.sign(sample) {
            self.was_bad = true;
            self.score = (self.score + 1).min(MOST);
            if self.score >= ENOUGH {
                self.congestion.get_or_insert(sign);
            }
        } else if !sample.calls_for_answer() || sample.answer.is_some() {
            self.on_good(sample);
        }
        if self.score == 0 {
            self.congestion = None;
        }
        self.congestion
    }

    fn sign(&self, sample: &HealthSample) -> Option<Congestion> {
        let has_fallen = self.has_fallen(sample);
        let is_bad = is_late(sample) || is_lossy(sample);
        match (sample.is_path_lossy(), is_bad) {
            (true, _) if is_bad || has_fallen => Some(Congestion::Path),
            (_, true) if is_lossy(sample) => Some(Congestion::Losses),
            (_, true) => Some(Congestion::LateAnswers),
            _ => None,
        }
    }

    fn has_fallen(&self, sample: &HealthSample) -> bool {
        self.usual.is_some_and(|(sessions, usual)| {
            sample.sessions <= sessions
                && sample.rate().saturating_mul(100)
                    < usual.saturating_mul(FALLEN) * u64::from(sample.sessions)
                        / u64::from(sessions.max(1))
        })
    }

    fn on_good(&mut self, sample: &HealthSample) {
        // Without an answer, what was late before may be so still.
        let says_something =
            self.congestion != Some(Congestion::LateAnswers) || sample.answer.is_some();
        self.score = self.score.saturating_sub(u32::from(says_something));
        let rate = sample.rate();
        self.usual = Some(match self.usual {
            Some((sessions, usual)) if sessions == sample.sessions => {
                (sessions, (3 * usual + rate) / 4)
            }
            _ => (sample.sessions, rate),
        });
    }
}

/// The moves from one congested connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rebalance {
    /// Sessions that may move.
    left: u32,
    next: Instant,
}

impl Rebalance {
    pub(crate) fn new(now: Instant, sessions: u32) -> Self {
        Self {
            left: sessions / 2,
            next: now + FIRST_MOVE,
        }
    }

    /// Whether one more is to move now.
    pub(crate) fn step(&mut self, now: Instant) -> NextMove {
        if now < self.next {
            return NextMove::Wait;
        }
        if self.left == 0 {
            return NextMove::GiveUp;
        }
        self.left -= 1;
        self.next = now + NEXT_MOVE;
        NextMove::Move
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextMove {
    Wait,
    Move,
    /// Half of the sessions have gone, and the congestion remains.
    GiveUp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::stats::OUT_OF_ORDER;

    const MS: Duration = Duration::from_millis(1);

    fn fine() -> HealthSample {
        HealthSample {
            time: Duration::from_secs(2),
            bytes: 2_000_000,
            sessions: 16,
            round_trip: Some(20 * MS),
            answer: Some(25 * MS),
            ..HealthSample::default()
        }
    }

    fn looks(watch: &mut CongestionWatch, sample: HealthSample, count: u32) -> Option<Congestion> {
        (0..count).fold(None, |_, _| watch.on_sample(&sample))
    }

    #[test]
    fn what_happens_once_or_twice_is_no_strain() {
        let mut watch = CongestionWatch::default();
        let late = HealthSample {
            answer: Some(800 * MS),
            ..fine()
        };
        assert_eq!(looks(&mut watch, late, 2), None);
        assert_eq!(looks(&mut watch, fine(), 2), None);
        assert_eq!(looks(&mut watch, late, 2), None);
        assert_eq!(looks(&mut watch, late, 1), Some(Congestion::LateAnswers));
    }

    #[test]
    fn a_path_that_loses_and_was_never_better_is_found_by_asking() {
        let mut watch = CongestionWatch::default();
        let unanswered = HealthSample {
            answer: None,
            out_of_order: OUT_OF_ORDER,
            ..fine()
        };
        let late = HealthSample {
            answer: Some(2100 * MS),
            ..unanswered
        };
        assert!(unanswered.calls_for_answer() && !fine().calls_for_answer());
        for _ in 0..2 {
            assert_eq!(looks(&mut watch, unanswered, 5), None);
            assert_eq!(looks(&mut watch, late, 1), None);
        }
        assert_eq!(looks(&mut watch, late, 1), Some(Congestion::Path));
        let prompt = HealthSample {
            answer: Some(25 * MS),
            ..unanswered
        };
        assert_eq!(looks(&mut watch, prompt, ENOUGH), None, "it bears that");
    }

    #[test]
    fn it_is_over_after_as_many_good_looks_as_there_were_bad_ones() {
        let mut watch = CongestionWatch::default();
        let lossy = HealthSample {
            lossy: 4,
            lost: 90,
            ..fine()
        };
        assert_eq!(looks(&mut watch, lossy, 100), Some(Congestion::Losses));
        assert_eq!(
            looks(&mut watch, fine(), MOST - 1),
            Some(Congestion::Losses)
        );
        assert_eq!(looks(&mut watch, fine(), 1), None);
    }

    #[test]
    fn one_camera_that_loses_packets_is_its_own_affair() {
        let mut watch = CongestionWatch::default();
        let one = HealthSample {
            lossy: 1,
            lost: 5000,
            ..fine()
        };
        let few = HealthSample {
            lossy: 3,
            lost: 5000,
            ..fine()
        };
        assert_eq!(looks(&mut watch, one, 100), None);
        assert_eq!(looks(&mut watch, few, 100), None, "less than a quarter");
        let alone = HealthSample {
            sessions: 1,
            lossy: 1,
            answer: Some(9000 * MS),
            ..fine()
        };
        assert_eq!(
            looks(&mut watch, alone, 100),
            None,
            "it has no other session to leave"
        );
    }

    #[test]
    fn what_comes_late_because_we_are_behind_does_not_count() {
        let mut watch = CongestionWatch::default();
        let behind = HealthSample {
            lossy: 16,
            answer: Some(9000 * MS),
            is_behind: true,
            ..fine()
        };
        assert_eq!(looks(&mut watch, behind, 100), None);
    }

    #[test]
    fn a_path_that_loses_segments_is_a_strain_only_if_that_hurts() {
        let mut watch = CongestionWatch::default();
        let out_of_order = 40;
        let lossy_path = HealthSample {
            out_of_order,
            ..fine()
        };
        assert_eq!(looks(&mut watch, lossy_path, 100), None);
        let slower = HealthSample {
            bytes: 1_000_000,
            ..lossy_path
        };
        assert_eq!(looks(&mut watch, slower, 3), Some(Congestion::Path));
        let mut watch = CongestionWatch::default();
        let late = HealthSample {
            answer: Some(700 * MS),
            ..lossy_path
        };
        assert_eq!(looks(&mut watch, late, 3), Some(Congestion::Path));
    }

    #[test]
    fn scenes_that_become_calm_are_none() {
        let mut watch = CongestionWatch::default();
        looks(&mut watch, fine(), 10);
        let calm = HealthSample {
            bytes: 100_000,
            ..fine()
        };
        assert_eq!(looks(&mut watch, calm, 100), None);
    }

    #[test]
    fn fewer_sessions_are_no_fall() {
        let mut watch = CongestionWatch::default();
        let out_of_order = 40;
        looks(
            &mut watch,
            HealthSample {
                out_of_order,
                ..fine()
            },
            10,
        );
        let half = HealthSample {
            sessions: 8,
            bytes: 1_000_000,
            out_of_order,
            ..fine()
        };
        assert_eq!(looks(&mut watch, half, 100), None);
    }

    #[test]
    fn late_answers_are_over_with_answers_in_time() {
        let mut watch = CongestionWatch::default();
        let late = HealthSample {
            answer: Some(800 * MS),
            ..fine()
        };
        looks(&mut watch, late, 3);
        let silent = HealthSample {
            answer: None,
            ..fine()
        };
        assert_eq!(
            looks(&mut watch, silent, 100),
            Some(Congestion::LateAnswers)
        );
        assert_eq!(looks(&mut watch, fine(), 3), None);
    }

    #[test]
    fn half_of_the_sessions_move_one_by_one_and_then_it_is_given_up() {
        let start = Instant::now();
        let mut rebalance = Rebalance::new(start, 5);
        assert_eq!(rebalance.step(start), NextMove::Wait);
        let mut at = start + FIRST_MOVE;
        for _ in 0..2 {
            assert_eq!(rebalance.step(at), NextMove::Move);
            assert_eq!(rebalance.step(at), NextMove::Wait);
            at += NEXT_MOVE;
        }
        assert_eq!(rebalance.step(at), NextMove::GiveUp);
    }
}
