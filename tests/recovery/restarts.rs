//! F45: a real server that is killed and started again, once or often, under many sessions of the
//! library: it costs no sharing, and the next process knows that.

use std::path::Path;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::time::{Duration, Instant};

use gstrtspmux::mux::{Error, Mux, PacketKind, RetryBounds, SessionOptions, SharingVerdict};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::process::ServerProcess;

/// How long the server is away, and how long from one kill to the next.
const AWAY: Duration = Duration::from_secs(3);
const EACH: Duration = Duration::from_secs(9);
/// For all to be back. The rule is 3 s; this machine may be loaded as it likes.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// Sessions whose users bring them back.
struct Viewers {
    runtime: Runtime,
    mux: Mux,
    packets: Arc<Vec<AtomicUsize>>,
    users: Vec<JoinHandle<()>>,
}

impl Viewers {
    fn start(port: u16, cameras: usize, state: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let mux = Mux::builder()
            .runtime(runtime.handle().clone())
            .state(state)
            .build();
        let packets: Arc<Vec<AtomicUsize>> =
            Arc::new((0..cameras).map(|_| AtomicUsize::new(0)).collect());
        let url = |camera| format!("rtsp://127.0.0.1:{port}/cam/{camera}");
        let options: Vec<SessionOptions> = (0..cameras)
            .map(|camera| SessionOptions::new(&url(camera)).unwrap())
            .collect();
        let intents: Vec<_> = options
            .iter()
            .map(|options| mux.intend(options).ok())
            .collect();
        let mut users = Vec::new();
        for (camera, (options, intent)) in options.into_iter().zip(intents).enumerate() {
            let (mux, packets) = (mux.clone(), Arc::clone(&packets));
            users.push(runtime.spawn(async move {
                let (mut after, mut intent) = (None, intent);
                loop {
                    let seen = &packets[camera];
                    let error = live(&mux, &options, after.as_ref(), intent.take(), seen).await;
                    after = Some(error);
                }
            }));
        }
        Self {
            runtime,
            mux,
            packets,
            users,
        }
    }

    /// Until each has so many packets more than now; how long that took.
    fn wait_for_more(&self, packets: usize) -> Duration {
        let count = |seen: &AtomicUsize| seen.load(Ordering::Relaxed);
        let before: Vec<usize> = self.packets.iter().map(count).collect();
        let began = Instant::now();
        loop {
            let mut seen = self.packets.iter().zip(&before);
            if seen.all(|(seen, before)| count(seen) >= before + packets) {
                return began.elapsed();
            }
            let missing = self.packets.iter().zip(&before);
            let missing = missing.filter(|(seen, before)| count(seen) < *before + packets);
            assert!(
                began.elapsed() < BACK_WITHIN,
                "{} of {} without media: {:#?}",
                missing.count(),
                before.len(),
                self.mux.stats()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn connections(&self) -> usize {
        self.mux.stats().servers[0].connections.len()
    }

    fn verdict(&self) -> SharingVerdict {
        self.mux.stats().servers[0].sharing
    }

    fn end(self) {
        self.users.iter().for_each(JoinHandle::abort);
        self.runtime
            .block_on(self.mux.shutdown(Duration::from_secs(3)));
    }
}

/// One session, until it ends; why it did.
async fn live(
    mux: &Mux,
    options: &SessionOptions,
    after: Option<&Error>,
    intent: Option<gstrtspmux::mux::Intent>,
    seen: &AtomicUsize,
) -> Error {
    let play = async {
        let turn = mux.turn(options, after, RetryBounds::default()).await?;
        let described = mux.open(options.clone()).intended(intent).describe().await;
        drop(turn);
        described?.setup_all().await?.play().await
    };
    let mut session = match play.await {
        Ok(session) => session,
        Err(error) => return error,
    };
    let mut batch = Vec::new();
    while session.next_batch(&mut batch).await {
        let media = batch.iter().filter(|packet| packet.kind == PacketKind::Rtp);
        seen.fetch_add(media.count(), Ordering::Relaxed);
        batch.clear();
    }
    session.end_reason().unwrap()
}

/// So many restarts under so many cameras, which share so many connections before and after.
fn restarts(cameras: usize, connections: usize, restarts: usize) {
    let file = std::env::temp_dir().join(format!(
        "rtspmux-restarts-{cameras}-{restarts}-{}",
        std::process::id()
    ));
    let mut server = ServerProcess::start(0, cameras);
    let port = server.port();
    let viewers = Viewers::start(port, cameras, &file);
    viewers.wait_for_more(50);
    assert_eq!(viewers.connections(), connections);
    for restart in 1..=restarts {
        let killed = Instant::now();
        server.kill();
        std::thread::park_timeout(AWAY);
        server = ServerProcess::start(port, cameras);
        let took = viewers.wait_for_more(10);
        println!("{cameras} cameras, restart {restart}: all back after {took:?}");
        assert_eq!(
            viewers.verdict(),
            SharingVerdict::Yes,
            "after restart {restart}"
        );
        assert_eq!(
            viewers.connections(),
            connections,
            "after restart {restart}"
        );
        if restart < restarts {
            while killed.elapsed() < EACH {
                std::thread::park_timeout(EACH.saturating_sub(killed.elapsed()));
            }
        }
    }
    viewers.end();
    // The next process knows that the server shares, and does so at once.
    let next = Viewers::start(port, cameras, &file);
    next.wait_for_more(10);
    assert_eq!(next.verdict(), SharingVerdict::Yes);
    assert_eq!(next.connections(), connections);
    next.end();
    std::fs::remove_file(file).unwrap();
}

#[test]
fn f45_a_restart_under_64_cameras_costs_no_sharing() {
    restarts(64, 4, 1);
}

#[test]
fn f45_four_restarts_nine_seconds_apart_cost_no_sharing() {
    restarts(64, 4, 4);
}

#[test]
fn f45_a_restart_under_100_cameras_costs_no_sharing() {
    restarts(100, 4, 1);
}
