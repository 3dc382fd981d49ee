//! Sixteen sessions of one server whose users bring them back, whatever they were lost by.

use gstrtspmux::mux::{MuxStats, SessionOptions, SharingVerdict};

use crate::network::{AfterSuspend, Event, Fault, Millis, Net, Weather};
use crate::run::{simulate, wait};
use crate::server::Server;
use crate::support::mock_server::{Family, MockServer};
use crate::support::random::Random;
use crate::viewers::Viewers;

const CAMERAS: u32 = 16;
const SECOND: Millis = 1_000;
/// When it happens: long after everything plays.
const FAULT: Millis = 90 * SECOND;
/// How long an hour is.
const HOUR: Millis = 3_600 * SECOND;

/// What came of it.
pub(crate) struct Outcome {
    /// When each camera's picture was there again, after the fault.
    pub(crate) back: Vec<Millis>,
    /// Connections that were dialled after the fault.
    pub(crate) dials: usize,
    /// At the end.
    stats: MuxStats,
    violations: Vec<String>,
}

/// All of them play, then `fault` happens, and they have `time` to come back.
pub(crate) fn after(fault: Fault, time: Millis) -> Outcome {
    after_a_late_addition(fault, time, 0)
}

/// The same, where the last camera comes when the others play.
fn after_a_late_addition(fault: Fault, time: Millis, last_begins: Millis) -> Outcome {
    simulate(run(fault, time, last_begins))
}

async fn run(fault: Fault, time: Millis, last_begins: Millis) -> Outcome {
    let net = Net::new(Random::new(1), Weather::Calm, false);
    {
        let mut world = net.world();
        world.trace.be_silent();
        let builder = MockServer::builder().cameras(CAMERAS).family(Family::Gst);
        let mut server = Server::new("nvr", builder.engine("nvr"), Family::Gst, 1);
        server.media_every = 100;
        world.servers = vec![server];
        world.at(FAULT, Event::Fault(fault));
    }
    let mut viewers = Viewers::new(&net, CAMERAS, FAULT + time);
    for camera in 1..=CAMERAS {
        let begins = if camera == CAMERAS { last_begins } else { 0 };
        let options = SessionOptions::new(&format!("rtsp://nvr/cam/{camera}"));
        viewers.enter(begins, options.expect("a URL"));
    }
    let mut before = None;
    loop {
        net.world().proceed();
        viewers.executor.poll_woken();
        let now = net.world().now;
        if now >= FAULT && before.is_none() {
            before = Some(net.world().dialled);
        }
        if viewers.executor.is_empty() {
            break;
        }
        wait(&net, &viewers.executor, None).await;
    }
    let is_after = |at: &&Millis| **at > FAULT + 100;
    let back = viewers.all_seen().map(|seen| {
        assert!(seen.iter().any(|at| *at < FAULT), "it has played before");
        *seen.iter().find(is_after).expect("it plays again") - FAULT
    });
    let back = back.collect();
    let world = net.world();
    Outcome {
        back,
        dials: world.dialled - before.expect("a fault"),
        stats: viewers.mux.stats(),
        violations: world.violations.clone(),
    }
}

impl Outcome {
    pub(crate) fn first(&self) -> Millis {
        self.back.iter().min().copied().unwrap_or_default()
    }

    pub(crate) fn last(&self) -> Millis {
        self.back.iter().max().copied().unwrap_or_default()
    }

    /// What it was is not held against the server, and all share a connection again.
    pub(crate) fn assert_nothing_was_learned(&self) {
        let of_server = &self.stats.servers[0];
        assert_eq!(of_server.sharing, SharingVerdict::Yes);
        assert_eq!(of_server.connections.len(), 1, "{of_server:?}");
        assert!(self.violations.is_empty(), "{:?}", self.violations);
    }
}

#[test]
fn after_an_hour_asleep_sessions_that_expired_are_set_up_again_where_they_were() {
    let outcome = after(Fault::Sleep(HOUR, AfterSuspend::Expired), 60 * SECOND);
    assert!(outcome.last() <= 4 * SECOND, "{:?}", outcome.back);
    assert_eq!(outcome.dials, 0, "the connection was good");
    outcome.assert_nothing_was_learned();
}

#[test]
fn after_an_hour_asleep_a_connection_that_is_gone_is_noticed_at_once() {
    for (after_suspend, limit) in [
        (AfterSuspend::Reset, 4 * SECOND),
        // Two seconds to look at the clock, five to answer a ping.
        (AfterSuspend::Silence, 10 * SECOND),
    ] {
        let outcome = after(Fault::Sleep(HOUR, after_suspend), 60 * SECOND);
        assert!(
            outcome.last() <= limit,
            "{after_suspend:?}: {:?}",
            outcome.back
        );
        assert_eq!(outcome.dials, 1, "{after_suspend:?}: one dials for all");
        outcome.assert_nothing_was_learned();
    }
}

#[test]
fn f03_the_one_that_was_added_last_comes_back_last() {
    let kill = Fault::Kill(0, 0, true);
    let outcome = after_a_late_addition(kill, 60 * SECOND, FAULT - 10 * SECOND);
    let mut back = outcome.back.clone();
    let last = back.pop().expect("the last camera");
    assert!(
        back.iter().all(|other| other + SECOND < last),
        "{back:?}, {last}"
    );
    assert!(last <= 3 * SECOND, "{last}");
    outcome.assert_nothing_was_learned();
}

#[test]
fn f06_a_server_that_was_away_for_45_s_is_found_again() {
    const AWAY: Millis = 45 * SECOND;
    // Where it does not answer, a dial that began just before its return takes 5 s to fail, and up to 5 s
    // later the next one begins; then there are a few round trips to the first packet.
    for (is_refusing, limit) in [(true, 3 * SECOND), (false, 10 * SECOND + SECOND / 2)] {
        let outcome = after(Fault::Kill(0, AWAY, is_refusing), 120 * SECOND);
        let late = outcome.last().saturating_sub(AWAY);
        assert!(
            late <= limit,
            "refusing {is_refusing}: {late} ms after it was back"
        );
        assert!(outcome.dials <= 45, "{} dials", outcome.dials);
        outcome.assert_nothing_was_learned();
    }
}
