//! What the waits come to, in computed time.

use super::*;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const BOUNDS: RetryBounds = RetryBounds {
    min: Duration::ZERO,
    max: Duration::from_secs(30),
};

fn id(number: u64) -> ConnectionId {
    ConnectionId(number)
}

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
fn who_does_not_answer_is_asked_less_often() {
    assert_eq!(
        waits(Setback::Absent, 20 * S, 0.0)[..3],
        [Duration::ZERO, 2 * S, 2 * S]
    );
    assert_eq!(
        waits(Setback::Absent, 20 * S, 1.0)[..3],
        [500 * MS, 5 * S, 5 * S]
    );
}

/// Dials whenever it may; the times of the tries.
fn dials(bounds: RetryBounds, over: Duration, chance: f64) -> Vec<Instant> {
    let mut backoff = Backoff::new();
    let start = Instant::now();
    let (mut now, mut connection) = (start, 1);
    backoff.on_failed(now, id(connection), chance);
    let mut tries = vec![now];
    while now < start + over {
        match backoff.admit(now, bounds) {
            Admission::Scout(_) => {
                tries.push(now);
                connection += 1;
                backoff.on_failed(now, id(connection), chance);
            }
            Admission::NotBefore(due) => now = due,
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
        // The first failure was nobody's try: an ordinary start.
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
fn f03_one_dials_for_all_and_then_everybody_may() {
    let mut backoff = Backoff::new();
    let now = Instant::now();
    for _ in 0..16 {
        backoff.on_lost(now, id(1), 0.5);
    }
    assert_eq!(
        backoff.admit(now, BOUNDS),
        Admission::NotBefore(now + 250 * MS)
    );
    let due = now + 250 * MS;
    assert_eq!(backoff.admit(due, BOUNDS), Admission::Scout(1));
    assert_eq!(backoff.admit(due, BOUNDS), Admission::Behind);
    backoff.on_reached(due + MS, id(2));
    assert_eq!(backoff.admit(due + MS, BOUNDS), Admission::Free);
}

#[test]
fn a_scout_that_goes_away_is_followed_by_the_next() {
    let mut backoff = Backoff::new();
    let now = Instant::now();
    backoff.on_failed(now, id(1), 0.0);
    assert_eq!(backoff.admit(now, BOUNDS), Admission::Scout(1));
    backoff.on_scout_gone(1);
    assert_eq!(backoff.admit(now, BOUNDS), Admission::Scout(2));
    backoff.on_scout_gone(1);
    assert_eq!(backoff.admit(now, BOUNDS), Admission::Behind);
}

#[test]
fn a_scout_that_finds_a_connection_that_survived_lets_all_others_go() {
    let mut backoff = Backoff::new();
    let now = Instant::now();
    backoff.on_lost(now, id(2), 0.0);
    backoff.on_reached(now, id(1));
    assert_eq!(backoff.admit(now, BOUNDS), Admission::Scout(1));
    backoff.on_reached(now, id(1));
    assert_eq!(backoff.admit(now, BOUNDS), Admission::Free);
}

#[test]
fn a_late_report_of_an_old_loss_closes_nothing() {
    let mut backoff = Backoff::new();
    let now = Instant::now();
    backoff.on_lost(now, id(1), 0.0);
    backoff.on_reached(now, id(2));
    backoff.on_lost(now + S, id(1), 0.0);
    assert_eq!(backoff.admit(now + S, BOUNDS), Admission::Free);
    backoff.on_lost(now + 2 * S, id(2), 0.0);
    assert_ne!(backoff.admit(now + 2 * S, BOUNDS), Admission::Free);
}

#[test]
fn half_a_minute_on_a_connection_makes_the_next_loss_the_first() {
    for (lived, wait) in [(29 * S, SECOND), (30 * S, Duration::ZERO)] {
        let mut backoff = Backoff::new();
        let now = Instant::now();
        backoff.on_lost(now, id(1), 0.0);
        backoff.on_reached(now, id(2));
        let lost = now + lived;
        backoff.on_lost(lost, id(2), 0.0);
        let due = match backoff.admit(lost, BOUNDS) {
            Admission::NotBefore(due) => due,
            _ => lost,
        };
        assert_eq!(due - lost, wait);
    }
}

#[test]
fn a_slow_failure_means_that_nobody_is_there() {
    let mut backoff = Backoff::new();
    let now = Instant::now();
    backoff.on_failed(now, id(1), 0.0);
    assert_eq!(backoff.admit(now, BOUNDS), Admission::Scout(1));
    let later = now + 5 * S;
    backoff.on_failed(later, id(2), 1.0);
    assert_eq!(
        backoff.admit(later, BOUNDS),
        Admission::NotBefore(later + 5 * S)
    );
}

#[test]
fn a_session_s_own_bounds_hold_for_it_alone() {
    let mut backoff = Backoff::new();
    let now = Instant::now();
    backoff.on_failed(now, id(1), 1.0);
    let patient = RetryBounds {
        min: 10 * S,
        ..BOUNDS
    };
    assert_eq!(
        backoff.admit(now + 500 * MS, patient),
        Admission::NotBefore(now + 10 * S)
    );
    assert_eq!(backoff.admit(now + 500 * MS, BOUNDS), Admission::Scout(1));
}

#[test]
fn what_is_over_is_forgotten() {
    let mut backoff = Backoff::new();
    let now = Instant::now();
    assert!(backoff.is_forgettable(now));
    backoff.on_lost(now, id(1), 0.0);
    assert!(!backoff.is_forgettable(now));
    backoff.on_reached(now, id(2));
    assert!(!backoff.is_forgettable(now + 29 * S));
    assert!(backoff.is_forgettable(now + 30 * S));
}
