//! Ten thousand sessions, dropped at random moments, and what is left of them: nothing.
//!
//! Alone in its binary: descriptors, tasks and memory are counted for the whole process. The seed is
//! printed; `RTSPMUX_SEED=n` runs with it again, `RTSPMUX_SESSIONS=n` so many.
#![allow(clippy::unwrap_used, reason = "a test binary")]

#[path = "soak/memory.rs"]
mod memory;
mod support;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use gstrtspmux::mux::{Mux, SessionOptions};

use support::{
    mock_server::{Family, MockServer},
    random::Random,
};
use tokio::{runtime::Handle, task::JoinSet, time::timeout};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const CAMERAS: u32 = 64;
/// Who open and drop at the same time: more than one connection takes.
const USERS: u64 = 24;
/// The servers, all of which share. Each has a port of its own, for the multiplexer goes by what it has
/// learned of an address from the first request on.
const FAMILIES: [Family; 4] = [
    Family::Gst,
    Family::OwnChannels,
    Family::Live555,
    Family::NoInterleaved,
];
/// How often each server is there. What is left is compared after the first lap, in which the
/// multiplexer learns what it remembers of each server, and after each later one.
const LAPS: u64 = 3;
/// What the allocator's books may differ by: maps and queues keep room for the most they had.
const SLACK: isize = 256 * 1024;

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Says when something is over, however it ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens sessions one after another and drops each at a random moment: while it is brought up, as
/// soon as it plays, or after some packets.
async fn open_and_drop(mux: Mux, urls: Vec<String>, sessions: u64, mut random: Random) {
    for _ in 0..sessions {
        let url = &urls[random.below(urls.len() as u64) as usize];
        let options = SessionOptions::new(url).unwrap();
        let (mux, packets) = (mux.clone(), random.below(4));
        let life = async move {
            let described = mux.open(options).describe().await.unwrap();
            let ready = described.setup_all().await.unwrap();
            let mut session = ready.play().await.unwrap();
            for _ in 0..packets {
                session.next().await.unwrap();
            }
        };
        // Most before they play; live555 works 100 ms on each DESCRIBE.
        let longest = [2_000, 6_000, 60_000, 400_000][random.below(4) as usize];
        let moment = Duration::from_micros(random.below(longest));
        // Either way the session is dropped.
        let _ = timeout(moment, life).await;
    }
}

/// Until no session is left on any connection: all TEARDOWNs are answered.
async fn wait_until_unused(mux: &Mux) {
    let is_unused = || {
        let servers = mux.stats().servers;
        let mut connections = servers.iter().flat_map(|server| &server.connections);
        connections.all(|connection| (connection.references, connection.sessions) == (0, 0))
    };
    let unused = async {
        while !is_unused() {
            tokio::task::yield_now().await;
        }
    };
    let is_unused = timeout(PATIENCE, unused).await;
    assert!(is_unused.is_ok(), "{:?}", mux.stats());
}

/// Every session the server made got one TEARDOWN, and no session two.
fn assert_each_torn_down_once(server: &MockServer) {
    let view = server.view();
    let mut teardowns = BTreeMap::new();
    for request in view.requests.iter().filter(|r| r.method == "TEARDOWN") {
        let id = request.headers.value("Session").unwrap();
        *teardowns.entry(id.to_owned()).or_insert(0) += 1;
    }
    let twice: Vec<_> = teardowns.iter().filter(|(_, count)| **count != 1).collect();
    assert_eq!(view.sessions, []);
    assert_eq!(twice, [], "exactly one each");
    assert_eq!(teardowns.len(), server.sessions_made(), "each was owed one");
    let played = view.count("PLAY");
    println!(
        "{} sessions were set up, {played} of them played",
        teardowns.len()
    );
    assert_eq!(view.violations, Vec::<String>::new());
}

/// One part of the run, against a server of its own.
async fn round(mux: &Mux, family: Family, port: u16, sessions: u64, random: &mut Random) {
    let builder = (1..=CAMERAS).fold(MockServer::builder().family(family), |builder, camera| {
        builder.camera_of(family, camera)
    });
    let server = builder.start_at(port);
    let urls: Vec<String> = (1..=CAMERAS)
        .map(|camera| server.url(&family.path(camera)))
        .collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if server.send_packets_to_all(2) == 0 {
                    thread::yield_now();
                }
            }
        });
        let over = Over(&is_over);
        tokio::task::block_in_place(|| {
            Handle::current().block_on(async {
                let mut users = JoinSet::new();
                for user in 0..USERS {
                    let share = sessions / USERS + u64::from(user < sessions % USERS);
                    let random = Random::new(random.next());
                    users.spawn(open_and_drop(mux.clone(), urls.clone(), share, random));
                }
                users.join_all().await;
            })
        });
        drop(over);
    });
    wait_until_unused(mux).await;
    assert_each_torn_down_once(&server);
    server.close_connections();
    assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
    server.stop();
}

/// What a process has.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    tasks: usize,
    bytes: isize,
}

impl Holdings {
    /// Once nothing changes any more; what is over goes away in tasks of its own.
    async fn settled(is_enough: impl Fn(&Self) -> bool) -> Self {
        let now = || Self {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            tasks: Handle::current().metrics().num_alive_tasks(),
            bytes: memory::in_use(),
        };
        let settling = async {
            while !is_enough(&now()) {
                tokio::task::yield_now().await;
            }
        };
        let _ = timeout(PATIENCE, settling).await;
        now()
    }
}

#[test]
fn ten_thousand_sessions_dropped_at_random_moments_leave_nothing() {
    let seed = number_from("RTSPMUX_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let sessions = number_from("RTSPMUX_SESSIONS").unwrap_or(10_000);
    println!("RTSPMUX_SEED={seed} RTSPMUX_SESSIONS={sessions}");
    let mut random = Random::new(seed);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mux = Mux::builder().runtime(Handle::current()).build();
        let mut before: Option<Holdings> = None;
        let ports = FAMILIES.map(|_| MockServer::builder().start().address().port());
        let share = sessions / (LAPS * FAMILIES.len() as u64);
        for lap in 1..=LAPS {
            for (family, port) in FAMILIES.into_iter().zip(ports) {
                round(&mux, family, port, share, &mut random).await;
            }
            let Some(before) = &before else {
                before = Some(Holdings::settled(|now| now.tasks == 0).await);
                continue;
            };
            let is_back = |now: &Holdings| {
                now.descriptors <= before.descriptors
                    && now.tasks <= before.tasks
                    && now.bytes <= before.bytes + SLACK
            };
            let now = Holdings::settled(is_back).await;
            println!("after lap {lap}: {now:?}, before {before:?}");
            assert!(is_back(&now), "{now:?}, before {before:?}");
        }
        mux.shutdown(PATIENCE).await;
        assert_eq!(mux.stats().servers, []);
    });
}
