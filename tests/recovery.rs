//! A real server that is killed under recorders, and comes back.
//!
//! The server is a process of its own, so that it can go as it does when it crashes: without a
//! goodbye, its connections reset by the system. The recorders are one pipeline that goes on all the
//! time. The outage is a wait of the test's own: it is what is tested, and nothing that happens ends
//! it. In an ordinary run it is one second; `RTSPMUX_RUNS=20 cargo test --test recovery many_runs --
//! --ignored --nocapture` makes it five and prints what the runs came to.
#![allow(clippy::unwrap_used, reason = "a test binary")]
#![allow(
    clippy::disallowed_methods,
    reason = "outages are timed by the wall clock"
)]

#[path = "support/gst_server.rs"]
mod gst_server;

#[path = "recovery/lip_sync.rs"]
mod lip_sync;
#[path = "recovery/process.rs"]
mod process;
#[path = "recovery/recorders.rs"]
mod recorders;
#[path = "recovery/restarts.rs"]
mod restarts;
#[path = "cameras/wall.rs"]
#[allow(dead_code, reason = "a part of it will do here")]
mod wall;

use std::time::{Duration, Instant};

use process::ServerProcess;
use recorders::{Kind, Recorders};

/// Far more than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(40);

const CAMERAS: usize = 16;

/// All have to be back this long after the server is.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// How much longer than on the wall a gap in a recording may be: the last buffer before it may have
/// come out late, by the latency of the jitterbuffer, 200 ms, and by what else a busy machine does.
/// How much shorter has another bound: never less than the server was away.
const LATE: Duration = Duration::from_millis(500);

/// What an outage came to.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// How long after the server's return the last recorder went on.
    took: Duration,
    /// The largest difference between a gap in a recording and on the wall.
    off: Duration,
}

/// One outage under recorders that play.
fn outage(
    recorders: &Recorders,
    server: ServerProcess,
    away: Duration,
) -> (ServerProcess, Outcome) {
    let port = server.port();
    recorders.wait_for(&vec![[0, 0]; CAMERAS], 25);
    server.kill();
    let before = recorders.counts();
    recorders.pass(away);
    let server = ServerProcess::start(port, CAMERAS);
    let back = Instant::now();
    recorders.wait_for(&before, 50);
    recorders.assert_in_order();
    let gaps = recorders.gaps(&before).concat();
    let off = gaps.iter().map(|gap| gap.recorded.abs_diff(gap.lived));
    let off = off.max().unwrap();
    for gap in &gaps {
        let is_as_long = gap.recorded >= away && gap.recorded <= gap.lived + LATE;
        assert!(is_as_long, "{gap:?}");
    }
    let last = gaps.iter().map(|gap| gap.back).max().unwrap();
    let took = last.saturating_duration_since(back);
    (server, Outcome { took, off })
}

/// One recording with one outage.
fn record(kind: Kind, away: Duration) -> Outcome {
    recorders::init();
    let server = ServerProcess::start(0, CAMERAS);
    let recorders = Recorders::start(kind, server.port(), CAMERAS);
    let (_server, outcome) = outage(&recorders, server, away);
    recorders.finish();
    outcome
}

fn goes_on(kind: Kind) {
    let outcome = record(kind, Duration::from_secs(1));
    println!("{kind:?}: {outcome:?}");
    // Loaded as a machine may be that runs all tests at a time.
    assert!(outcome.took < 2 * BACK_WITHIN, "{outcome:?}");
}

#[test]
fn f06_sixteen_recordings_go_on_in_matroskamux() {
    goes_on(Kind::Matroska);
}

#[test]
fn f06_sixteen_recordings_go_on_in_splitmuxsink() {
    goes_on(Kind::SplitMux);
}

#[test]
fn f06_sixteen_recordings_go_on_through_x264enc() {
    goes_on(Kind::X264);
}

#[test]
#[ignore = "takes minutes; for its figures"]
fn f06_many_runs() {
    let runs: usize = std::env::var("RTSPMUX_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(20);
    for kind in [Kind::Matroska, Kind::SplitMux, Kind::X264] {
        let outcomes: Vec<Outcome> = (0..runs)
            .map(|_| record(kind, Duration::from_secs(5)))
            .collect();
        let mut took: Vec<Duration> = outcomes.iter().map(|outcome| outcome.took).collect();
        took.sort();
        let in_time = took.iter().filter(|took| **took <= BACK_WITHIN).count();
        println!(
            "{kind:?}: {in_time} of {runs} within {BACK_WITHIN:?}; {:?} to {:?}, median {:?}; gaps off by {:?} at most",
            took[0],
            took[runs - 1],
            took[runs / 2],
            outcomes.iter().map(|outcome| outcome.off).max()
        );
        assert!(in_time * 20 >= runs * 19, "{took:?}");
    }
}
