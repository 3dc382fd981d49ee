//! Many sessions at once: one dial, exact limits; the cancellation of one session ends no other.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use gstrtspmux::mux::{Mux, Pooling};

use crate::{
    player::{
        PATIENCE, assert_clean, assert_own_media, camera_url, eventually, mux, mux_of_this_runtime,
        options, pass, play, play_all, server,
    },
    support::mock_server::{MockServer, Reaction, Rule},
};

#[cfg(feature = "plugin")]
#[path = "pool_concurrent/real_server.rs"]
mod real_server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_at_once_make_one_connection() {
    let (mux, server) = (mux(), server(16));
    let mut sessions = play_all(&mux, &server, 16, &Pooling::default()).await;
    assert_eq!(server.accepted(), 1);
    assert_own_media(&server, &mut sessions).await;
    assert_clean(&server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_at_once_make_four_connections_of_sixteen() {
    let (mux, server) = (mux(), server(64));
    let mut sessions = play_all(&mux, &server, 64, &Pooling::default()).await;
    assert_eq!(server.accepted(), 4);
    let view = server.view();
    for connection in 0..4 {
        let of_connection = view
            .sessions
            .iter()
            .filter(|session| session.connection == connection);
        assert_eq!(of_connection.count(), 16);
    }
    assert_own_media(&server, &mut sessions).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_and_thirty_with_a_maximum_of_128_make_two_connections() {
    let (mux, server) = (mux(), server(130));
    let pooling = Pooling {
        max_sessions_per_connection: 128,
        ..Pooling::default()
    };
    let mut sessions = play_all(&mux, &server, 130, &pooling).await;
    assert_eq!(server.accepted(), 2);
    assert_own_media(&server, &mut sessions).await;
}

#[test]
fn threads_of_any_kind_share_one_connection() {
    let (mux, server) = (mux(), server(8));
    let play_on_a_thread = |camera: u32| {
        let (mux, url) = (mux.clone(), server.url(&format!("/cam/{camera}")));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(play(&mux, options(&url))).unwrap()
        })
    };
    let threads: Vec<_> = (1..=8).map(play_on_a_thread).collect();
    let sessions: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!((server.accepted(), server.sessions_alive()), (1, 8));
    drop(sessions);
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_gives_up_does_not_take_the_others_along() {
    let server = MockServer::builder()
        .cameras(3)
        .rule(Rule::new("DESCRIBE", Reaction::Hold).times(1))
        .start();
    let mux = mux();
    let start = |camera: u32| {
        let options = options(&camera_url(&server, camera));
        let mux = mux.clone();
        tokio::spawn(async move { play(&mux, options).await })
    };
    let given_up = start(1);
    let staying = [start(2), start(3)];
    assert!(server.wait_until(|view| view.count("DESCRIBE") >= 1, PATIENCE));
    given_up.abort();
    server.release();
    for session in staying {
        drop(session.await.unwrap().unwrap());
    }
    assert_eq!(server.accepted(), 1);
}

async fn open_and_drop_at(mux: &Mux, server: &MockServer, camera: u32, polls: usize) {
    let mut playing = Box::pin(play(mux, options(&camera_url(server, camera))));
    for _ in 0..polls {
        let polled = tokio::select! {
            biased;
            done = &mut playing => Some(done.unwrap()),
            () = tokio::task::yield_now() => None,
        };
        if let Some(session) = polled {
            drop(session);
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f30_dropped_at_any_moment_nothing_is_left_at_the_server() {
    let (mux, server) = (mux(), server(4));
    for round in 0..200 {
        open_and_drop_at(&mux, &server, 1 + round % 4, 1 + (round as usize * 7) % 400).await;
    }
    assert!(
        server.wait_until(|view| view.sessions.is_empty(), PATIENCE),
        "{:?}",
        server.view().sessions
    );
    mux.shutdown(PATIENCE).await;
    assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
    let view = server.view();
    let ids: Vec<_> = view
        .requests
        .iter()
        .filter(|request| request.method == "TEARDOWN")
        .collect();
    let mut distinct: Vec<_> = ids
        .iter()
        .map(|request| request.headers.value("Session"))
        .collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), ids.len(), "no session was torn down twice");
    assert_clean(&server);
}

fn sessions_on(mux: &Mux) -> u64 {
    let servers = mux.stats().servers;
    let connections = servers.iter().flat_map(|server| &server.connections);
    connections.map(|connection| connection.sessions).sum()
}

/// On one thread, so that the clock can be moved past the quarantine.
#[tokio::test]
async fn f30_dropped_at_any_moment_channels_come_back() {
    let (mux, server) = (mux_of_this_runtime(), server(16));
    drop(play_all(&mux, &server, 1, &Pooling::default()).await);
    for polls in 1..300 {
        open_and_drop_at(&mux, &server, 1 + polls % 16, polls as usize).await;
        // Answers come in order: behind those of one more session nothing is on its way, and no
        // request misses its answer because the clock is moved.
        drop(play_all(&mux, &server, 1, &Pooling::default()).await);
        eventually(|| server.sessions_alive() == 0 && sessions_on(&mux) == 0).await;
        pass(Duration::from_secs(3)).await;
    }
    let sessions = play_all(&mux, &server, 16, &Pooling::default()).await;
    let view = server.view();
    let tracks = view.sessions.iter().flat_map(|session| &session.tracks);
    let mut channels: Vec<_> = tracks.map(|(_, (rtp, _))| *rtp).collect();
    channels.sort_unstable();
    assert!(channels.into_iter().eq((0..32).step_by(2)));
    assert_eq!(view.accepted, 1);
    drop(sessions);
}

#[tokio::test]
async fn f30_dropped_while_its_session_is_handed_over_nothing_is_left() {
    let (mux, server) = (mux(), server(1));
    let options = options(&camera_url(&server, 1));
    let handle = mux.pool().checkout(&options).await.unwrap();
    let mut describing = Box::pin(mux.open(options).describe());
    assert!(poll_once(&mut describing).is_pending());
    // The connection's own thread has made the session, and the test has not looked yet.
    eventually(|| sessions_on(&mux) == 1).await;
    drop(describing);
    eventually(|| sessions_on(&mux) == 0).await;
    mux.pool().checkin(handle);
}

/// On one thread: the attempt is under way exactly while nothing is awaited.
#[tokio::test]
async fn a_caller_that_goes_away_does_not_disturb_the_others() {
    let (mux, server) = (mux_of_this_runtime(), server(2));
    let (first, second) = (
        options(&camera_url(&server, 1)),
        options(&camera_url(&server, 2)),
    );
    let mut cancelled = Box::pin(mux.pool().checkout(&first));
    let mut kept = Box::pin(mux.pool().checkout(&second));
    assert!(poll_once(&mut cancelled).is_pending());
    assert!(poll_once(&mut kept).is_pending());
    assert_eq!(
        mux.stats().servers[0].connections[0].references,
        2,
        "both wait for one attempt"
    );
    drop(cancelled);
    let handle = kept.await.unwrap();
    assert_eq!(handle.references(), 1);
    eventually(|| server.accepted() == 1).await;
    mux.pool().checkin(handle);
}

#[tokio::test]
async fn an_attempt_that_everybody_left_is_given_up() {
    let (mux, server) = (mux_of_this_runtime(), server(1));
    let options = options(&camera_url(&server, 1));
    let mut cancelled = Box::pin(mux.pool().checkout(&options));
    assert!(poll_once(&mut cancelled).is_pending());
    drop(cancelled);
    mux.shutdown(PATIENCE).await;
    assert_eq!(mux.stats().servers, []);
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
