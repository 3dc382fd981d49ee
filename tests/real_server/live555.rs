//! A real live555: `live555MediaServer` of the package `livemedia-utils`, where that is installed.
//!
//! It serves the files of its directory, to each session from the beginning, and listens on all
//! interfaces, on port 554 if it may. So test and server run in a network namespace of their own,
//! which has but its loopback: the test starts itself there once more.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use gstrtspmux::mux::Pooling;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::PATIENCE;
use crate::process::{Clips, ServerProcess};
use crate::viewer::{mux, play_one_by_one, play_together, wait_for_frames};

const SERVER: &str = "live555MediaServer";
/// Set where the test runs in its namespace.
const INSIDE: &str = "RTSPMUX_TEST_NAMESPACE";
const SCRIPT: &str = "ip link set lo up && exec \"$0\" \"$@\"";
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", SCRIPT]);
    command
}

/// Why the server cannot be run here, if so.
fn obstacle() -> Option<&'static str> {
    if !is_installed(SERVER) {
        return Some("live555MediaServer is not installed");
    }
    let may_unshare = namespace().arg("true").stderr(Stdio::null()).status();
    match may_unshare {
        Ok(status) if status.success() => None,
        _ => Some("no network namespace can be made"),
    }
}

/// Runs the test of this name in a namespace, where it comes here again and then runs `body`.
fn in_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if let Some(obstacle) = obstacle() {
        println!("skipped: {obstacle}");
        return;
    }
    let mut command = namespace();
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", &format!("live555::{test}")]);
    let status = command.env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "{status}");
}

/// Starts the server. It is killed, and its files are removed, when the results are dropped.
fn start_server(cameras: usize) -> (ServerProcess, Clips) {
    let clips = Clips::write("live555", cameras);
    let mut process = Command::new(SERVER)
        .current_dir(&clips.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let process = ServerProcess(process);
    // It listens when it says so.
    let is_ready = lines.any(|line| line.unwrap().starts_with("Play streams"));
    assert!(is_ready, "{SERVER} did not start");
    std::thread::spawn(move || lines.for_each(drop));
    (process, clips)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Together,
    OneByOne,
}

/// 1, 2, 4 and 16 cameras, each number with a multiplexer that knows nothing of the server.
fn play(order: Order) {
    let _server = start_server(16);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for count in [1, 2, 4, 16] {
        runtime.block_on(play_cameras(order, count));
    }
}

async fn play_cameras(order: Order, count: usize) {
    let mux = mux();
    let url = |camera| format!("rtsp://127.0.0.1/cam{camera}.264");
    let cameras: Vec<_> = (0..count).map(|camera| (url(camera), camera)).collect();
    let played = match order {
        Order::Together => play_together(&mux, &cameras).await,
        Order::OneByOne => play_one_by_one(&mux, &cameras).await,
    };
    let mut viewers: Vec<_> = played.into_iter().map(Result::unwrap).collect();
    wait_for_frames(&mut viewers, 50).await;
    for viewer in &viewers {
        assert_eq!(viewer.seen().frames[0], 0, "from the first frame on");
    }
    let server = &mux.stats().servers[0];
    let connections = server.connections.len();
    let foreign: u64 = server
        .connections
        .iter()
        .map(|c| c.counts.foreign_frames)
        .sum();
    let unknown: u64 = server
        .connections
        .iter()
        .map(|c| c.counts.unknown_frames)
        .sum();
    println!(
        "{count} cameras: {connections} connections, {foreign} foreign and {unknown} unknown frames"
    );
    assert_eq!(server.cannot_share, None);
    // What is described over more of them plays on as many as the user allows.
    let most = Pooling::default().max_connections_per_server;
    assert!(connections <= most as usize, "{connections} connections");
    viewers.remove(0).tear_down().await;
    wait_for_frames(&mut viewers, 10).await;
    mux.shutdown(PATIENCE).await;
}

/// A client that plays a camera, sees media, and goes without a word. live555 before 2017.06.04 feeds
/// the next session.
async fn die_playing(camera: usize) {
    let mut stream = TcpStream::connect("127.0.0.1:554").await.unwrap();
    let url = format!("rtsp://127.0.0.1/cam{camera}.264");
    let setup = format!(
        "SETUP {url}/track1 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
    );
    stream.write_all(setup.as_bytes()).await.unwrap();
    let mut chunk = vec![0; 64 * 1024];
    let count = stream.read(&mut chunk).await.unwrap();
    let answer = String::from_utf8_lossy(&chunk[..count]).into_owned();
    let id = answer
        .lines()
        .find_map(|line| line.strip_prefix("Session: "));
    let id = id.unwrap().split(';').next().unwrap();
    let play = format!("PLAY {url}/ RTSP/1.0\r\nCSeq: 2\r\nSession: {id}\r\n\r\n");
    stream.write_all(play.as_bytes()).await.unwrap();
    let mut received = 0;
    while received < 2_000 {
        received += stream.read(&mut chunk).await.unwrap();
    }
}

async fn play_after_death(count: usize) {
    die_playing(15).await;
    play_cameras(Order::Together, count).await;
}

#[test]
fn f15_packets_of_a_dead_session_reach_no_session() {
    in_namespace("f15_packets_of_a_dead_session_reach_no_session", || {
        let _server = start_server(16);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for count in [1, 2, 4] {
            runtime.block_on(play_after_death(count));
        }
    });
}

#[test]
fn cameras_together() {
    in_namespace("cameras_together", || play(Order::Together));
}

#[test]
fn cameras_one_after_another() {
    in_namespace("cameras_one_after_another", || play(Order::OneByOne));
}
