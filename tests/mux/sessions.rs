//! One session, from its beginning to each of its ends.

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use gstrtspmux::mux::{PacketKind, Pooling};

use crate::{
    player::{
        PATIENCE, assert_clean, camera_url, mux, next_rtp, options, play, play_all, server, set_up,
        within_patience,
    },
    support::mock_server::{Camera, MockServer, Reaction, Rule},
};

#[tokio::test]
async fn one_camera_from_describe_to_teardown() {
    let (mux, server) = (mux(), server(1));
    let described = mux
        .open(options(&camera_url(&server, 1)))
        .describe()
        .await
        .unwrap();
    assert_eq!(described.presentation().streams.len(), 1);
    let ready = described.setup_all().await.unwrap();
    assert_eq!(ready.streams()[0].rtp_channel, 0);
    let mut session = ready.play().await.unwrap();
    assert_eq!(server.send_packets("/cam/1", 3), 3);
    for _ in 0..3 {
        let packet = next_rtp(&mut session).await.unwrap();
        assert_eq!(
            (packet.stream, packet.kind, packet.discontinuity),
            (0, PacketKind::Rtp, false)
        );
    }
    let stats = session.monitor().stats();
    assert_eq!(
        (
            stats.streams[0].count.packets,
            stats.references_on_connection
        ),
        (3, 1)
    );
    let monitor = session.monitor();
    session.teardown().await.unwrap();
    assert!(monitor.wait_released(PATIENCE));
    assert_eq!(server.sessions_alive(), 0);
    assert_clean(&server);
}

#[tokio::test]
async fn a_later_stream_that_is_refused_is_left_out() {
    let server = MockServer::builder().camera("/av", Camera::av()).start();
    server.add_rule(Rule::new("SETUP", Reaction::status(415)).skip(1));
    let mux = mux();
    let ready = set_up(&mux, options(&server.url("/av"))).await.unwrap();
    assert_eq!(ready.streams().len(), 1);
    let (stream, error) = &ready.failed_streams()[0];
    assert_eq!((*stream, error.status()), (1, Some(415)));
    let _session = ready.play().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f30_a_session_dropped_during_its_setup_is_torn_down_once() {
    let server = MockServer::builder().cameras(1).start();
    server.add_rule(Rule::new("SETUP", Reaction::Defer));
    let mux = mux();
    let opening = mux.open(options(&camera_url(&server, 1)));
    let monitor = opening.monitor();
    let described = opening.describe().await.unwrap();
    let setup = tokio::spawn(described.setup_all());
    assert!(server.wait_until(|view| view.count("SETUP") == 1, PATIENCE));
    setup.abort();
    assert!(setup.await.is_err());
    assert!(
        !monitor.wait_released(Duration::ZERO),
        "a TEARDOWN may be owed"
    );
    server.release();
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    assert!(monitor.wait_released(PATIENCE));
    assert_eq!(server.view().count("TEARDOWN"), 1);
}

#[tokio::test]
async fn f03_a_reset_ends_all_sessions_of_the_connection_with_a_reason() {
    let (mux, server) = (mux(), server(3));
    let sessions = play_all(&mux, &server, 3, &Pooling::default()).await;
    server.reset_connections();
    for mut session in sessions {
        assert_eq!(within_patience(session.next()).await, None);
        let error = session.end_reason().unwrap();
        assert!(error.is_retryable() && error.camera().is_some(), "{error}");
    }
}

#[test]
fn without_a_runtime_the_futures_run_anywhere() {
    let (mux, server) = (mux(), server(1));
    let session = block_on(play(&mux, options(&camera_url(&server, 1)))).unwrap();
    drop(session);
    mux.shutdown_blocking(PATIENCE);
    assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
}

/// The smallest executor: parks the thread until woken.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
