//! When the breaker lets sessions through, in computed time.

use super::{
    super::order::{RedialBudget, TRIES_WITHIN},
    *,
};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const BOUNDS: RetryBounds = RetryBounds {
    min: Duration::ZERO,
    max: Duration::from_secs(30),
};

fn id(number: u64) -> ConnectionId {
    ConnectionId(number)
}

/// Without a bound by the budget.
fn ask(breaker: &mut Breaker, now: Instant, bounds: RetryBounds) -> DialAdmission {
    breaker.admit(now, bounds, None, Duration::ZERO)
}

/// Dials whenever it may; the times of the tries.
fn dials(bounds: RetryBounds, over: Duration, chance: f64) -> Vec<Instant> {
    let mut breaker = Breaker::default();
    let start = Instant::now();
    let (mut now, mut connection) = (start, 1);
    breaker.on_dial_failed(now, id(connection), chance);
    let mut tries = vec![now];
    let mut budget = RedialBudget::default();
    while now < start + over {
        match breaker.admit(now, bounds, budget.due(1), Duration::ZERO) {
            Ok(Some(_)) => {
                budget.on_try(now);
                tries.push(now);
                connection += 1;
                breaker.on_dial_failed(now, id(connection), chance);
            }
            Err(due) => now = due,
            other => panic!("{other:?}"),
        }
    }
    tries
}

fn most_in_a_minute(tries: &[Instant]) -> usize {
    let within = |first: &Instant| {
        tries
            .iter()
            .filter(|at| *at >= first && **at < *first + TRIES_WITHIN)
            .count()
    };
    tries.iter().map(within).max().unwrap_or_default()
}

#[test]
fn f01_thirty_tries_a_minute_at_most_whatever_chance_and_bounds() {
    let hasty = RetryBounds {
        min: Duration::ZERO,
        max: 10 * MS,
    };
    for chance in [0.0, 0.3, 1.0] {
        // The first failure was an ordinary start, no try of the policy.
        for bounds in [BOUNDS, hasty] {
            let tries = dials(bounds, 300 * S, chance);
            assert!(most_in_a_minute(&tries[1..]) <= 30, "{chance} {bounds:?}");
            assert!(tries.len() > 60, "{}", tries.len());
        }
    }
}

#[test]
fn f06_a_server_that_is_back_is_tried_within_three_seconds() {
    for chance in [0.0, 0.5, 1.0] {
        let tries = dials(BOUNDS, 100 * S, chance);
        // 2.4 s; 3 s once a minute where chance made every wait the shortest.
        assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= 3 * S));
    }
}

#[test]
fn f03_one_dials_for_all_and_then_all_may() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    for _ in 0..16 {
        breaker.on_lost(now, id(1), 0.5);
    }
    assert_eq!(ask(&mut breaker, now, BOUNDS), Err(now + 250 * MS));
    let due = now + 250 * MS;
    assert_eq!(ask(&mut breaker, due, BOUNDS), Ok(Some(1)));
    assert_eq!(ask(&mut breaker, due, BOUNDS), Err(due + LONGEST_PROBE));
    breaker.on_reached(due + MS, id(2));
    assert_eq!(ask(&mut breaker, due + MS, BOUNDS), Ok(None));
}

#[test]
fn a_probe_that_goes_away_is_followed_by_the_next() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    breaker.on_dial_failed(now, id(1), 0.0);
    assert_eq!(ask(&mut breaker, now, BOUNDS), Ok(Some(1)));
    breaker.on_probe_gone(1);
    assert_eq!(ask(&mut breaker, now, BOUNDS), Ok(Some(2)));
    breaker.on_probe_gone(1);
    assert_eq!(ask(&mut breaker, now, BOUNDS), Err(now + LONGEST_PROBE));
}

#[test]
fn a_probe_that_finds_a_connection_that_survived_lets_all_others_go() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    breaker.on_lost(now, id(2), 0.0);
    breaker.on_reached(now, id(1));
    assert_eq!(ask(&mut breaker, now, BOUNDS), Ok(Some(1)));
    breaker.on_reached(now, id(1));
    assert_eq!(ask(&mut breaker, now, BOUNDS), Ok(None));
}

#[test]
fn a_late_report_of_an_old_loss_closes_nothing() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    breaker.on_lost(now, id(1), 0.0);
    breaker.on_reached(now, id(2));
    breaker.on_lost(now + S, id(1), 0.0);
    assert_eq!(ask(&mut breaker, now + S, BOUNDS), Ok(None));
    breaker.on_lost(now + 2 * S, id(2), 0.0);
    assert_ne!(ask(&mut breaker, now + 2 * S, BOUNDS), Ok(None));
}

#[test]
fn half_a_minute_on_a_connection_makes_the_next_loss_the_first() {
    for (lived, wait) in [(29 * S, SECOND), (30 * S, Duration::ZERO)] {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        breaker.on_lost(now, id(1), 0.0);
        breaker.on_reached(now, id(2));
        let lost = now + lived;
        breaker.on_lost(lost, id(2), 0.0);
        let due = match ask(&mut breaker, lost, BOUNDS) {
            Err(due) => due,
            _ => lost,
        };
        assert_eq!(due - lost, wait);
    }
}

#[test]
fn a_slow_failure_means_that_no_server_is_there() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    breaker.on_dial_failed(now, id(1), 0.0);
    assert_eq!(ask(&mut breaker, now, BOUNDS), Ok(Some(1)));
    let later = now + 5 * S;
    breaker.on_dial_failed(later, id(2), 1.0);
    assert_eq!(ask(&mut breaker, later, BOUNDS), Err(later + 5 * S));
}

#[test]
fn a_session_s_own_bounds_hold_for_it_alone() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    breaker.on_dial_failed(now, id(1), 1.0);
    let patient = RetryBounds {
        min: 10 * S,
        ..BOUNDS
    };
    assert_eq!(
        ask(&mut breaker, now + 500 * MS, patient),
        Err(now + 10 * S)
    );
    assert_eq!(ask(&mut breaker, now + 500 * MS, BOUNDS), Ok(Some(1)));
}

#[test]
fn what_is_over_is_forgotten() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    assert!(breaker.is_forgettable(now));
    breaker.on_lost(now, id(1), 0.0);
    assert!(!breaker.is_forgettable(now));
    breaker.on_reached(now, id(2));
    assert!(!breaker.is_forgettable(now + 29 * S));
    assert!(breaker.is_forgettable(now + 30 * S));
}

#[test]
fn f44_a_server_that_drops_each_session_opens_only_when_media_has_lasted() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    breaker.on_session_failed(now, (now - S, now), Some(id(1)), RedialStep::Media, 0.0);
    assert_eq!(ask(&mut breaker, now, BOUNDS), Ok(Some(1)));
    breaker.on_reached(now, id(2));
    assert!(!breaker.on_progress(now, RedialStep::SetUp));
    assert_eq!(breaker.needs(), Some(RedialStep::Media));
    breaker.on_probe_failed(now, 1, RedialStep::SetUp, 0.0);
    assert_eq!(ask(&mut breaker, now, BOUNDS), Err(now + SECOND));
    assert!(breaker.on_progress(now, RedialStep::Media));
    assert!(!breaker.is_flapping(), "the first time");
    breaker.on_session_failed(
        now + S,
        (now + S, now + S),
        Some(id(3)),
        RedialStep::Media,
        0.0,
    );
    assert!(breaker.on_progress(now + 2 * S, RedialStep::Media));
    assert!(breaker.is_flapping());
}

#[test]
fn f44_sessions_that_failed_together_are_one_failure() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    for _ in 0..16 {
        breaker.on_session_failed(now, (now - S, now), None, RedialStep::SetUp, 0.5);
    }
    assert_eq!(ask(&mut breaker, now, BOUNDS), Err(now + 250 * MS));
    assert!(breaker.on_progress(now + S, RedialStep::SetUp));
    breaker.on_session_failed(now + S, (now - S, now), None, RedialStep::SetUp, 0.5);
    assert_eq!(ask(&mut breaker, now + S, BOUNDS), Ok(None));
}

#[test]
fn f45_what_a_newcomer_says_of_a_lost_connection_gives_way_to_those_that_played_there() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    breaker.on_session_failed(now, (now - S, now), Some(id(1)), RedialStep::Media, 0.0);
    breaker.on_lost(now, id(1), 0.0);
    assert_eq!(breaker.needs(), Some(RedialStep::Dial));
    assert_eq!(ask(&mut breaker, now, BOUNDS), Ok(Some(1)));
}

#[test]
fn a_session_that_gets_no_media_does_not_hold_the_others_up_for_ever() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    breaker.on_session_failed(now, (now, now), None, RedialStep::Media, 0.0);
    assert_eq!(ask(&mut breaker, now, BOUNDS), Ok(Some(1)));
    let later = now + LONGEST_PROBE;
    assert_eq!(ask(&mut breaker, later, BOUNDS), Ok(Some(2)));
    breaker.on_probe_failed(later, 1, RedialStep::Media, 0.0);
    assert_eq!(ask(&mut breaker, later, BOUNDS), Err(later + LONGEST_PROBE));
}

#[test]
fn f44_a_session_that_fails_after_its_own_dial_is_no_old_news() {
    let mut breaker = Breaker::default();
    let now = Instant::now();
    breaker.on_lost(now, id(1), 0.0);
    assert_eq!(ask(&mut breaker, now, BOUNDS), Ok(Some(1)));
    breaker.on_reached(now + S, id(2));
    let over = now + 2 * S;
    breaker.on_session_failed(over, (now, over), None, RedialStep::SetUp, 0.0);
    assert_eq!(breaker.needs(), Some(RedialStep::SetUp));
    assert_eq!(ask(&mut breaker, over, BOUNDS), Err(over + SECOND));
}

mod schedule {
    use super::*;

    /// The waits of a server that refuses for so long.
    fn waits(setback: Setback, away: Duration, chance: f64) -> Vec<Duration> {
        let mut schedule = RetrySchedule::default();
        let start = Instant::now();
        let mut now = start;
        let mut waits = Vec::new();
        while now < start + away {
            let wait = schedule.next(now, setback, chance);
            waits.push(wait);
            now += wait.max(MS);
        }
        waits
    }

    #[test]
    fn a_refusal_is_tried_at_once_after_a_second_and_every_two() {
        let waits = waits(Setback::Refused, 10 * S, 0.5);
        assert_eq!(waits[..4], [250 * MS, S, 2200 * MS, 2200 * MS]);
    }

    #[test]
    fn waits_grow_with_the_outage_up_to_half_a_minute() {
        for chance in [0.0, 0.5, 1.0] {
            let waits = waits(Setback::Refused, 3600 * S, chance);
            assert!(waits.iter().all(|wait| *wait <= 30 * S));
            assert!(waits.contains(&LONG.mul_f64(1.0 + SPREAD * chance)));
            assert_eq!(waits.last(), Some(&(30 * S)));
            assert!(waits[2..].is_sorted());
        }
    }

    #[test]
    fn a_server_that_does_not_answer_is_asked_less_often() {
        assert_eq!(
            waits(Setback::Absent, 20 * S, 0.0)[..3],
            [Duration::ZERO, 2 * S, 2 * S]
        );
        assert_eq!(
            waits(Setback::Absent, 20 * S, 1.0)[..3],
            [500 * MS, 5 * S, 5 * S]
        );
    }
}
