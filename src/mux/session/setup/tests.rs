use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep_until},
};

use super::*;
use crate::mux::{
    connection_pool::PoolConfig,
    network::{Connecting, Network, Wire},
    policy::{
        failover::Tried,
        sharing::{SharingMode, play_gate::patience},
    },
    session::{Session, stages::Opening},
};

const SLOW: Duration = Duration::from_millis(200);

/// True once TEARDOWNs of `/held` may be answered.
type Gate = Arc<(Mutex<bool>, Condvar)>;

/// A server that shares and works on requests in order.
fn server() -> String {
    server_with(&Gate::default())
}

/// The same, which answers a TEARDOWN of `/held` once that is allowed.
fn server_with(gate: &Gate) -> String {
    let gate = Arc::clone(gate);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}", listener.local_addr().unwrap());
    let sessions = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (sessions, gate) = (Arc::clone(&sessions), Arc::clone(&gate));
            thread::spawn(move || serve(stream.unwrap(), &sessions, &gate));
        }
    });
    url
}

fn serve(stream: TcpStream, sessions: &AtomicUsize, gate: &Gate) {
    let mut writer = stream.try_clone().unwrap();
    let mut request: Vec<String> = Vec::new();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        if !line.is_empty() {
            request.push(line);
            continue;
        }
        let answer = answer(&std::mem::take(&mut request), sessions, gate);
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(request: &[String], sessions: &AtomicUsize, gate: &Gate) -> String {
    let header = |name: &str| {
        let mut values = request.iter().filter_map(|line| line.strip_prefix(name));
        values.next().unwrap_or_default().trim().to_owned()
    };
    let mut words = request[0].split(' ');
    let (method, uri) = (words.next().unwrap(), words.next().unwrap());
    if method == "TEARDOWN" && uri.contains("/held") {
        let (is_open, has_changed) = &**gate;
        let closed = is_open.lock().unwrap();
        drop(has_changed.wait_while(closed, |is_open| !*is_open).unwrap());
    }
    let mut body = String::new();
    let more = match method {
        "DESCRIBE" => {
            body = format!(
                "v=0\r\ns={uri}\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
                 a=fmtp:96 sprop-parameter-sets={}\r\na=control:stream=0\r\n",
                uri.len()
            );
            format!("Content-Base: {uri}/\r\nContent-Type: application/sdp\r\n")
        }
        "SETUP" => {
            let session = sessions.fetch_add(1, Ordering::Relaxed) + 1;
            let transport = header("Transport:");
            format!("Session: {session}0000000;timeout=60\r\nTransport: {transport}\r\n")
        }
        _ => format!("Session: {}\r\n", header("Session:")),
    };
    let (cseq, length) = (header("CSeq:"), body.len());
    format!(
        "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nServer: GStreamer RTSP server\r\n{more}\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn pool() -> ConnectionPool {
    pool_over(None)
}

fn pool_over(network: Option<Arc<dyn Network>>) -> ConnectionPool {
    ConnectionPool::new(PoolConfig {
        runtime: Some(Handle::current()),
        network,
        ..PoolConfig::default()
    })
}

/// The same server in simulated time; it describes `/slow` after [`SLOW`].
#[derive(Debug)]
struct SlowNetwork;

impl Network for SlowNetwork {
    fn connect(&self, _: &str, _: u16) -> Connecting {
        Box::pin(async {
            let wire: Box<dyn Wire> = Box::new(SlowWire {
                request: Vec::new(),
                answers: VecDeque::new(),
                sessions: AtomicUsize::new(0),
                timer: Box::pin(sleep_until(Instant::now())),
            });
            Ok(wire)
        })
    }

    fn seed(&self) -> u128 {
        7
    }

    fn time_suspended(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Debug)]
struct SlowWire {
    request: Vec<u8>,
    /// And when each arrives.
    answers: VecDeque<(Instant, String)>,
    sessions: AtomicUsize,
    timer: Pin<Box<Sleep>>,
}

impl Wire for SlowWire {
    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let has_arrived = |(due, _): &&(Instant, String)| *due <= Instant::now();
        let Some((_, answer)) = self.answers.front().filter(has_arrived) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        buffer.extend_from_slice(answer.as_bytes());
        let read = answer.len();
        self.answers.pop_front();
        Ok(read)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.request.extend_from_slice(bytes);
        while let Some(end) = self.request.windows(4).position(|end| end == b"\r\n\r\n") {
            let request: Vec<u8> = self.request.drain(..end + 4).collect();
            let request = String::from_utf8(request).unwrap();
            let lines: Vec<String> = request.lines().map(str::to_owned).collect();
            let is_slow = lines[0].starts_with("DESCRIBE") && lines[0].contains("/slow");
            let due = Instant::now() + if is_slow { SLOW } else { Duration::ZERO };
            let answer = answer(&lines, &self.sessions, &Gate::default());
            self.answers.push_back((due, answer));
        }
        Ok(bytes.len())
    }

    fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        wants_to_read: bool,
        wants_to_write: bool,
    ) -> Poll<io::Result<bool>> {
        if let Some((due, _)) = self.answers.front()
            && wants_to_read
        {
            self.timer.as_mut().reset(*due);
            if self.timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(true));
            }
        }
        match wants_to_write {
            true => Poll::Ready(Ok(false)),
            false => Poll::Pending,
        }
    }
}

async fn play(pool: &ConnectionPool, url: &str) -> Session {
    let opening = Opening::new(pool.clone(), SessionOptions::new(url).unwrap());
    let described = opening.describe().await.unwrap();
    described.setup_all().await.unwrap().play().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plainest_session_takes_the_lock_of_the_pool_at_most_8_times() {
    let (pool, url) = (pool(), server());
    let before = [
        play(&pool, &format!("{url}/1")).await,
        play(&pool, &format!("{url}/2")).await,
    ];
    let mut counts = Vec::new();
    for camera in 3..10 {
        let taken = pool.locks_taken();
        drop(play(&pool, &format!("{url}/{camera}")).await);
        counts.push(pool.locks_taken() - taken);
    }
    drop(before);
    // The driver takes it, too, when it has measured something.
    let fewest = counts.iter().min().copied().unwrap();
    assert!((1..=8).contains(&fewest), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn one_slow_camera_does_not_set_the_patience_of_all() {
    let (pool, url) = (pool_over(Some(Arc::new(SlowNetwork))), "rtsp://nvr");
    let usual = play(&pool, &format!("{url}/1")).await;
    let slow = play(&pool, &format!("{url}/slow")).await;
    let options = SessionOptions::new(url).unwrap();
    let mut setup = Setup::new(pool, options, SessionMonitor::new()).unwrap();
    let mut looked = None;
    setup.next(SetupStage::Described, &Work::none(), &mut looked);
    let view = looked.unwrap().view;
    assert_ne!(view.mode, SharingMode::Try, "both were described");
    assert!(
        view.patience < patience(SLOW),
        "counted once: {:?}",
        view.patience
    );
    drop((usual, slow));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_the_pool_tells_when_the_last_teardown_is_answered() {
    let (pool, gate) = (pool(), Gate::default());
    let url = server_with(&gate);
    let stays = play(&pool, &format!("{url}/1")).await;
    let leaves = play(&pool, &format!("{url}/held")).await;
    let options = SessionOptions::new(&url).unwrap();
    let mut setup = Setup::new(pool.clone(), options, SessionMonitor::new()).unwrap();
    let server = setup.checkout.key.server().clone();
    let mut looked = None;
    setup.next(SetupStage::Described, &Work::none(), &mut looked);
    let mut changes = looked.unwrap().changes;
    drop(leaves);
    assert!(pool.has_pending_teardowns(&server));
    changes.mark_unchanged();
    let (is_open, has_changed) = &*gate;
    *is_open.lock().unwrap() = true;
    has_changed.notify_all();
    let told = async {
        while pool.has_pending_teardowns(&server) {
            changes.changed().await.unwrap();
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(10), told).await;
    assert!(told.is_ok(), "no session waits until it looks again");
    drop(stays);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f40_a_redirect_begins_anew_at_the_other_server() {
    let options = SessionOptions::new("rtsp://127.0.0.1:1/1").unwrap();
    let mut setup = Setup::new(pool(), options, SessionMonitor::new()).unwrap();
    let here = &mut setup.here;
    here.attempt.tried = Tried {
        connections: 3,
        younger: true,
        challenged: 2,
        played_elsewhere: true,
    };
    here.full_with = Some(1);
    here.attempt.pending_teardowns = PendingTeardowns::Awaited;
    setup.checkout.leave(ConnectionId(1), true);
    setup.checkout.isolation = Isolation::Dedicated;
    setup
        .follow("rtsp://127.0.0.1:2/1".parse().unwrap(), None)
        .unwrap();
    let here = &setup.here;
    assert_eq!(
        (here.attempt.tried, here.full_with),
        (Tried::default(), None)
    );
    assert_eq!(here.attempt.pending_teardowns, PendingTeardowns::Unseen);
    assert_eq!(setup.checkout.isolation, Isolation::Shared);
    assert!(setup.checkout.avoid.is_empty());
    assert_eq!(setup.target.redirected.len(), 1);
}
