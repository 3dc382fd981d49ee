//! Random schedules of the whole multiplexer.
//!
//! A schedule follows from its seed alone. Play one again, with all that happened written out:
//! `RTSPMUX_SEED=123 cargo test --test sim random_schedules -- --nocapture`. More of them:
//! `RTSPMUX_SCHEDULES=20000`; others: `RTSPMUX_FIRST=1000000`, the seed to begin with.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::coverage::Coverage;
use crate::memory::in_use;
use crate::run::{Report, number, run};

const SCHEDULES: u64 = 500;

/// From how many schedules on all paths are expected to have been taken.
const ENOUGH: u64 = 1_000;

/// Ways to go wrong and back that a batch has to have taken.
const PATHS: [&str; 50] = [
    // The network.
    "black hole",
    "bytes corrupted",
    "cut in mid-frame",
    "deaf server",
    "dial refused",
    "dial unreachable",
    "garbage",
    "reset",
    "server killed",
    "slept",
    "stall",
    "trickle",
    // Sharing, and doing without.
    "canary",
    "canary failed",
    "second session",
    "second session beside one that plays",
    "verdict Yes",
    "verdict No: CheapCamera",
    "verdict No: EvoStream",
    "verdict No: Go2Rtc",
    "verdict No: MediaMtx",
    "verdict No: Rockchip",
    "verdict No: Vlc",
    "verdict No: ZlMediaKit",
    "another connection",
    "gathering lapsed",
    "regrouped",
    "stepped aside",
    "no more sessions",
    // Refusals.
    "credentials refused",
    "setup: Status(453)",
    "setup: Status(503)",
    "describe: ServerLimit",
    "describe: Unauthorized",
    "stale nonce",
    "status 401",
    "status 404",
    "status 454",
    // Lives and ends.
    "all connections went",
    "idle timeout",
    "keep-alive",
    "packets dropped: DropOldest",
    "packets dropped: DropToKeyframe",
    "paused and played",
    "server request answered",
    "session expired",
    "session lost in play",
    "shutdown in mid-run",
    "vanished",
    "wrong password",
];

/// A panic is a violation like any other.
fn attempt(seed: u64) -> Result<Report, String> {
    let report = catch_unwind(AssertUnwindSafe(|| run(seed, false)))
        .map_err(|_| "a panic, see above".to_owned())?;
    match report.violations.as_slice() {
        [] => Ok(report),
        violations => Err(violations.join("\n  ")),
    }
}

#[test]
fn random_schedules() {
    if let Some(seed) = number("RTSPMUX_SEED") {
        return tell(seed);
    }
    let schedules = number("RTSPMUX_SCHEDULES").unwrap_or(SCHEDULES);
    let first = number("RTSPMUX_FIRST").unwrap_or_default();
    let seeds = first..first + schedules;
    let coverage = Mutex::new(Coverage::default());
    let failures = Mutex::new(Vec::new());
    let (next, steps) = (AtomicU64::new(first), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return;
            }
            match attempt(seed) {
                Ok(report) => {
                    steps.fetch_add(report.steps, Ordering::Relaxed);
                    coverage.lock().unwrap().add(&report.coverage);
                }
                Err(what) => failures.lock().unwrap().push((seed, what)),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (coverage, failures) = (
        coverage.into_inner().unwrap(),
        failures.into_inner().unwrap(),
    );
    println!(
        "schedules {seeds:?}, {} steps\n{coverage}",
        steps.into_inner()
    );
    for (seed, what) in failures.iter().take(20) {
        println!("RTSPMUX_SEED={seed}:\n  {what}");
    }
    assert!(
        failures.is_empty(),
        "{} of {schedules} failed",
        failures.len()
    );
    if schedules >= ENOUGH {
        let missing = coverage.missing(&PATHS);
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

fn tell(seed: u64) {
    let report = run(seed, true);
    for line in &report.story {
        println!("{line}");
    }
    println!("{}", report.coverage);
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
}

/// Nothing of a run is left: no task, no connection, no handle that keeps another one.
#[test]
fn i13_nothing_is_left_in_memory() {
    // What is allocated once in a process, such as places in the code that log.
    for seed in 0..10 {
        drop(run(seed, false));
    }
    for seed in 0..40 {
        let before = in_use();
        drop(run(seed, false));
        let left = in_use() - before;
        assert!(left.abs() < 8 * 1024, "RTSPMUX_SEED={seed}: {left} bytes");
    }
}

#[test]
fn i13_the_same_seed_gives_the_same_trace() {
    for seed in 0..40 {
        let (first, second) = (run(seed, false), run(seed, false));
        assert_eq!(first.hash, second.hash, "RTSPMUX_SEED={seed}");
        assert_eq!(first.steps, second.steps, "RTSPMUX_SEED={seed}");
    }
}
