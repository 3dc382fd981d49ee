//! Sixteen sessions of one server whose users bring them back, whatever they were lost by.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use gstrtspmux::mux::network::Network;
use gstrtspmux::mux::{
    Error, Mux, MuxStats, PacketKind, RetryBounds, SessionOptions, SharingVerdict,
};
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep_until};

use crate::network::{AfterSuspend, Event, Fault, Millis, Net, Weather};
use crate::run::wait;
use crate::schedule::stamp;
use crate::server::Server;
use crate::support::mock_server::{Family, MockServer};
use crate::support::random::Random;
use crate::troupe::Troupe;

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

/// One user of one camera, from now until `until`.
pub(crate) struct User {
    pub(crate) mux: Mux,
    pub(crate) options: SessionOptions,
    pub(crate) net: Arc<Net>,
    pub(crate) camera: u32,
    pub(crate) begins: Instant,
    pub(crate) until: Instant,
    /// When its packets came.
    pub(crate) seen: Rc<RefCell<Vec<Millis>>>,
}

impl User {
    pub(crate) async fn watch(self) {
        sleep_until(self.begins).await;
        let mut failure: Option<Error> = None;
        while Instant::now() < self.until {
            let Err(error) = self.live(failure.as_ref()).await else {
                return;
            };
            failure = Some(error);
        }
    }

    /// One session, until the end.
    async fn live(&self, failure: Option<&Error>) -> Result<(), Error> {
        let options = &self.options;
        let turn = self.mux.turn(options, failure, RetryBounds::default());
        let turn = turn.await?;
        let described = self.mux.open(options.clone()).describe().await;
        drop(turn);
        let mut session = described?.setup_all().await?.play().await?;
        let mut batch = Vec::new();
        loop {
            let is_on = tokio::select! {
                biased;
                is_on = session.next_batch(&mut batch) => is_on,
                () = sleep_until(self.until) => return Ok(()),
            };
            for packet in batch.drain(..) {
                if packet.kind != PacketKind::Rtp {
                    match is_goodbye(&packet.payload) {
                        true => return Err(given_up()),
                        false => continue,
                    }
                }
                let camera = stamp(&packet.payload).map(|(camera, _)| camera);
                assert_eq!(camera, Some(self.camera), "a packet of another camera");
                self.seen.borrow_mut().push(self.net.world().now);
            }
            if !is_on {
                return Err(session.end_reason().expect("a reason"));
            }
        }
    }
}

/// Whether one of the packets of a report is a BYE of one source (RFC 3550 6.6).
fn is_goodbye(report: &[u8]) -> bool {
    report.chunks(4).any(|word| word.starts_with(&[0x81, 203]))
}

/// Why a user ends a session that goes on. The policy sees that it is no loss of a connection.
fn given_up() -> Error {
    SessionOptions::new("").expect_err("no URL")
}

/// All of them play, then `fault` happens, and they have `time` to come back.
pub(crate) fn after(fault: Fault, time: Millis) -> Outcome {
    after_a_late_addition(fault, time, 0)
}

/// The same, where the last camera comes when the others play.
fn after_a_late_addition(fault: Fault, time: Millis, last_begins: Millis) -> Outcome {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(run(fault, time, last_begins))
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
    let network: Arc<dyn Network> = Arc::clone(&net) as Arc<dyn Network>;
    let mux = Mux::builder()
        .runtime(Handle::current())
        .network(network)
        .build();
    let until = net.instant(FAULT + time);
    let mut troupe = Troupe::new(CAMERAS as usize);
    let mut seen = Vec::new();
    for (number, camera) in (1..=CAMERAS).enumerate() {
        seen.push(Rc::new(RefCell::new(Vec::new())));
        let user = User {
            mux: mux.clone(),
            options: SessionOptions::new(&format!("rtsp://nvr/cam/{camera}")).expect("a URL"),
            net: Arc::clone(&net),
            camera,
            begins: net.instant(if camera == CAMERAS { last_begins } else { 0 }),
            until,
            seen: Rc::clone(&seen[number]),
        };
        troupe.enter(number, user.watch());
    }
    let mut before = None;
    loop {
        net.world().proceed();
        troupe.poll_woken();
        let now = net.world().now;
        if now >= FAULT && before.is_none() {
            before = Some(net.world().dialled);
        }
        if troupe.is_empty() {
            break;
        }
        wait(&net, &troupe, None).await;
    }
    let is_after = |at: &&Millis| **at > FAULT + 100;
    let back = seen.iter().map(|seen| {
        let seen = seen.borrow();
        assert!(seen.iter().any(|at| *at < FAULT), "it has played before");
        *seen.iter().find(is_after).expect("it plays again") - FAULT
    });
    let back = back.collect();
    let world = net.world();
    Outcome {
        back,
        dials: world.dialled - before.expect("a fault"),
        stats: mux.stats(),
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
