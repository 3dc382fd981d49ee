//! A wall of cameras, for weeks: nothing expires, nothing reconnects, nothing grows.
//!
//! `RTSPMUX_DAYS=30 cargo test --release --test sim f26`.

use std::sync::Arc;
use std::time::Duration;

use gstrtspmux::mux::network::Network;
use gstrtspmux::mux::{Mux, Session, SessionOptions};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::executor::Executor;
use crate::memory::in_use;
use crate::network::{Millis, Net, Weather};
use crate::run::{number, simulate, wait};
use crate::schedule::stamp;
use crate::server::Server;
use crate::support::mock_server::{Behaviour, Family, MockServer};
use crate::support::random::Random;

/// Cameras of a server with the usual timeout, and of one with a short one.
const USUAL: u32 = 60;
const SHORT: u32 = 4;
/// What both may need more of from one day to the next: buffers that grow once more.
const SLACK: isize = 256 * 1024;
const HOUR: Millis = 3_600_000;

#[test]
fn f26_days_of_64_sessions_at_a_packet_a_second_each() {
    let hours = number("RTSPMUX_DAYS").map_or(2, |days| 24 * days);
    simulate(watch(hours));
}

fn server(host: &str, cameras: u32, timeout: u64) -> Server {
    let suffix = format!(";timeout={timeout}");
    let builder = MockServer::builder()
        .cameras(cameras)
        .family(Family::Gst)
        .behaviour(Behaviour::SessionSuffix(suffix));
    let mut server = Server::new(host, builder.engine(host), Family::Gst, 1);
    server.session_timeout = timeout * 1_000;
    server.media_every = 1_000;
    server
}

async fn watch(hours: u64) {
    let net = Net::new(Random::new(1), Weather::Calm, false);
    {
        let mut world = net.world();
        world.trace.be_silent();
        world.servers = vec![server("usual", USUAL, 60), server("short", SHORT, 15)];
    }
    let network: Arc<dyn Network> = Arc::clone(&net) as Arc<dyn Network>;
    let mux = Mux::builder()
        .runtime(Handle::current())
        .network(network)
        .build();
    let cameras = (1..=USUAL).map(|camera| ("usual", camera));
    let cameras = cameras.chain((1..=SHORT).map(|camera| ("short", camera)));
    let cameras: Vec<(&str, u32)> = cameras.collect();
    let options = cameras.iter().map(|(host, camera)| {
        SessionOptions::new(&format!("rtsp://{host}/cam/{camera}")).expect("a URL")
    });
    let openings = mux.open_many(options.collect());
    let mut executor = Executor::new(cameras.len());
    let seconds = hours * 3_600;
    for (number, (opening, (_, camera))) in openings.into_iter().zip(&cameras).enumerate() {
        let camera = *camera;
        executor.spawn(number, async move {
            let ready = opening.describe().await.unwrap().setup_all().await.unwrap();
            let mut session = ready.play().await.unwrap();
            let taken = take(&mut session, camera, seconds).await;
            // From the last packet back to the first: all of them, and no other.
            assert_eq!(u64::from(taken), seconds, "camera {camera}");
        });
    }
    let begin = Instant::now();
    let mut after_an_hour = None;
    let mut looked = 0;
    while !executor.is_empty() {
        net.world().proceed();
        executor.poll_woken();
        let now = net.world().now;
        if now >= looked + HOUR {
            looked = now;
            look(&mux, &net);
            let before = *after_an_hour.get_or_insert(in_use());
            let growth = in_use() - before;
            assert!(growth < SLACK, "{growth} bytes more after {now} ms");
        }
        if !executor.is_empty() {
            wait(&net, &executor, None).await;
        }
    }
    assert!(begin.elapsed() >= Duration::from_secs(seconds));
    let world = net.world();
    println!("{hours} hours:\n{}", world.coverage);
    assert!(world.violations.is_empty(), "{:?}", world.violations);
    assert!(!world.coverage.has("session expired"));
    assert!(world.coverage.has("keep-alive"));
}

async fn take(session: &mut Session, camera: u32, packets: u64) -> u32 {
    let mut batch = Vec::new();
    let mut next = 0;
    while u64::from(next) < packets {
        assert!(
            session.next_batch(&mut batch).await,
            "{:?}",
            session.end_reason()
        );
        for packet in batch.drain(..) {
            assert_eq!(stamp(&packet.payload), Some((camera, next)));
            next += 1;
        }
    }
    next
}

/// Five connections, the same ones as ever, and nothing that waits.
fn look(mux: &Mux, net: &Net) {
    let connections: Vec<_> = mux
        .stats()
        .servers
        .into_iter()
        .flat_map(|server| server.connections)
        .collect();
    let references: u64 = connections.iter().map(|c| c.references).sum();
    assert_eq!(references, u64::from(USUAL + SHORT));
    let world = net.world();
    assert_eq!(world.wires.len(), connections.len(), "a reconnect");
    for wire in &world.wires {
        assert!(wire.is_open() && wire.inbox.is_empty() && wire.unread < 16 * 1024);
    }
    assert!(world.violations.is_empty(), "{:?}", world.violations);
}
