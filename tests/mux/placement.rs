//! How many connections sessions get that start together, by what was measured before.

use std::{
    env, fs,
    path::Path,
    process, thread,
    time::{Duration, Instant},
};

use gstrtspmux::mux::{Limits, Mux, Pooling, Session};

use crate::{
    player::{PATIENCE, assert_clean, assert_own_media, mux, play_all, play_camera},
    support::mock_server::{Behaviour, Family, MockServer},
};

/// As gst-rtsp-server, but taking so long for each request of a connection.
fn server(service: Duration) -> MockServer {
    server_of(Family::Gst, service)
}

fn server_of(family: Family, service: Duration) -> MockServer {
    MockServer::builder()
        .cameras(16)
        .family(family)
        .behaviour(Behaviour::ServiceTime(service))
        .start()
}

async fn play_sixteen(mux: &Mux, server: &MockServer) -> Vec<Session> {
    play_all(mux, server, 16, &Pooling::default()).await
}

/// All are torn down, and their connections closed.
async fn stop(mux: &Mux, server: &MockServer, sessions: Vec<Session>) {
    drop(sessions);
    mux.shutdown(PATIENCE).await;
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
}

#[tokio::test]
async fn a_slow_server_gets_the_connections_it_may_have_once_that_is_known() {
    let server = server(Duration::from_millis(20));
    let mux = mux();
    let first = play_sixteen(&mux, &server).await;
    assert_eq!(server.accepted(), 1, "nothing was known");
    // Playing sessions are no load: only those that come up queue behind each other.
    let second = play_sixteen(&mux, &server).await;
    assert_eq!(server.accepted(), 4, "max-connections-per-server");
    drop(first);
    stop(&mux, &server, second).await;
    assert_clean(&server);
}

#[tokio::test]
async fn what_was_measured_is_remembered_with_the_verdict() {
    let server = server(Duration::from_millis(20));
    let path = env::temp_dir().join(format!("rtspmux-pace-{}", process::id()));
    let known = || Mux::builder().state(&path).build();
    let mux = known();
    // As when the process is killed: nothing is shut down.
    let killed = play_sixteen(&mux, &server).await;
    wait_until_measured(&path);
    let mux = known();
    let sessions = play_sixteen(&mux, &server).await;
    assert_eq!(server.accepted(), 1 + 4);
    drop(killed);
    stop(&mux, &server, sessions).await;
    fs::remove_file(path).unwrap();
}

/// Both times are in the file; a thread of its own writes it.
fn wait_until_measured(path: &Path) {
    let until = Instant::now() + PATIENCE;
    let is_measured = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        words[0] == "yes" && words[6..8].iter().all(|word| *word != "-")
    };
    while !fs::read_to_string(path).is_ok_and(|text| text.lines().skip(1).any(is_measured)) {
        assert!(Instant::now() < until, "what was measured is written");
        thread::yield_now();
    }
}

#[tokio::test]
async fn sessions_that_come_one_by_one_stay_on_one_connection() {
    let server = server(Duration::from_millis(20));
    let mux = mux();
    let sixteen = play_sixteen(&mux, &server).await;
    drop(sixteen);
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    let mut sessions = Vec::new();
    for camera in 1..=8 {
        sessions.push(play_camera(&mux, &server, camera).await);
    }
    assert_eq!(server.accepted(), 1);
    stop(&mux, &server, sessions).await;
}

#[tokio::test]
async fn a_quick_server_close_by_keeps_one_connection_for_sixteen() {
    let server = server(Duration::ZERO);
    let mux = mux();
    for _ in 0..3 {
        let sessions = play_sixteen(&mux, &server).await;
        assert_eq!(server.accepted(), 1);
        drop(sessions);
        assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    }
}

/// Of a server that might close its connection behind a DESCRIBE nothing plays while any is unanswered. All of
/// them are asked for again with the SETUPs, which takes this one a second, and there is no other
/// connection to go to.
#[tokio::test]
async fn no_session_leaves_a_slow_server_where_there_is_no_other_place() {
    let server = server_of(Family::Hikvision, Duration::from_millis(35));
    let mux = mux();
    let one_connection = Pooling {
        max_connections_per_server: 1,
        ..Pooling::default()
    };
    for _ in 0..2 {
        let sessions = play_all(&mux, &server, 16, &one_connection).await;
        assert_eq!(server.accepted(), 1);
        drop(sessions);
        assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    }
}

/// All that 256 channels are enough for. By default eight pairs are kept for sessions that are half set
/// up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_carries_128_sessions_where_no_channels_are_spared() {
    let server = MockServer::builder()
        .cameras(128)
        .family(Family::Gst)
        .start();
    let limits = Limits {
        spare_pairs: 0,
        ..Limits::default()
    };
    let mux = Mux::builder().limits(limits).build();
    let one_connection = Pooling {
        max_connections_per_server: 1,
        max_sessions_per_connection: 128,
        ..Pooling::default()
    };
    let mut sessions = play_all(&mux, &server, 128, &one_connection).await;
    assert_own_media(&server, &mut sessions).await;
    let view = server.view();
    let connection = view.sessions[0].connection;
    assert!(view.sessions.iter().all(|s| s.connection == connection));
}
