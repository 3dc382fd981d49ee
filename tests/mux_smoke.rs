//! The multiplexer over TCP against the mock server: the main paths, once each.

mod support;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use gstrtspmux::mux::{
    Error, ErrorKind, Multiplex, Mux, Packet, PacketKind, Session, SessionOptions,
};
use support::mock_server::{Auth, Behaviour, Camera, Excess, Family, MockServer, Reaction, Rule};

const SOON: Duration = Duration::from_secs(5);

fn mux() -> Mux {
    Mux::builder()
        .runtime(tokio::runtime::Handle::current())
        .build()
}

fn options(server: &MockServer, path: &str) -> SessionOptions {
    SessionOptions::new(&server.url(path)).expect("a URL of the mock server")
}

async fn play(mux: &Mux, options: SessionOptions) -> Result<Session, Error> {
    mux.open(options)
        .describe()
        .await?
        .setup_all()
        .await?
        .play()
        .await
}

/// Brings up cameras 1 to `count` at the same time, each with its own change of the options.
async fn play_all(
    mux: &Mux,
    server: &MockServer,
    count: u32,
    change: fn(&mut SessionOptions),
) -> Vec<Session> {
    let starting: Vec<_> = (1..=count)
        .map(|camera| {
            let mut options = options(server, &format!("/cam/{camera}"));
            change(&mut options);
            let mux = mux.clone();
            tokio::spawn(async move { play(&mux, options).await })
        })
        .collect();
    let mut sessions = Vec::new();
    for session in starting {
        sessions.push(session.await.expect("no panic").expect("a session"));
    }
    sessions
}

async fn next(session: &mut Session) -> Packet {
    tokio::time::timeout(SOON, session.next())
        .await
        .expect("a packet in time")
        .expect("a packet")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_camera_from_describe_to_teardown() {
    let server = MockServer::builder().cameras(1).start();
    let mux = mux();
    let described = mux
        .open(options(&server, "/cam/1"))
        .describe()
        .await
        .unwrap();
    assert_eq!(described.presentation().streams.len(), 1);
    let ready = described.setup_all().await.unwrap();
    assert_eq!(ready.streams()[0].rtp_channel, 0);
    let mut session = ready.play().await.unwrap();
    assert_eq!(server.send_packets("/cam/1", 3), 3);
    for _ in 0..3 {
        let packet = next(&mut session).await;
        assert_eq!(
            (packet.stream, packet.kind, packet.discontinuity),
            (0, PacketKind::Rtp, false)
        );
    }
    let stats = session.monitor().stats();
    assert_eq!(
        (stats.streams[0].packets, stats.references_on_connection),
        (3, 1)
    );
    let monitor = session.monitor();
    session.teardown().await.unwrap();
    assert!(
        tokio::task::spawn_blocking(move || monitor.wait_released(SOON))
            .await
            .unwrap()
    );
    assert_eq!(server.sessions_alive(), 0);
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_pool_two_cameras_share_one_connection() {
    let server = MockServer::builder().cameras(2).start();
    let mux = mux();
    let mut sessions = play_all(&mux, &server, 2, |_| {}).await;
    assert_eq!(server.accepted(), 1);
    assert_eq!(sessions[0].monitor().stats().sessions_on_connection, 2);
    // Each gets its own packets, and the end of one leaves the other alone.
    drop(sessions.pop());
    assert!(server.wait_until(|view| view.sessions.len() == 1, SOON));
    server.send_packets("/cam/1", 1);
    next(&mut sessions[0]).await;
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_concurrent_sixty_four_cameras_make_four_connections() {
    let server = MockServer::builder().cameras(64).start();
    let mux = mux();
    let sessions = play_all(&mux, &server, 64, |_| {}).await;
    assert_eq!((sessions.len(), server.accepted()), (64, 4));
    let stats = mux.stats();
    assert!(
        stats.servers[0]
            .connections
            .iter()
            .all(|connection| connection.references == 16),
        "{stats:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_concurrent_a_hundred_and_thirty_sessions_fit_two_connections() {
    let server = MockServer::builder().cameras(130).start();
    let mux = mux();
    let wide = |options: &mut SessionOptions| options.pooling.max_sessions_per_connection = 128;
    let sessions = play_all(&mux, &server, 130, wide).await;
    assert_eq!((sessions.len(), server.accepted()), (130, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_pool_closes_an_idle_connection() {
    let server = MockServer::builder().cameras(1).start();
    let mux = mux();
    let mut options = options(&server, "/cam/1");
    options.pooling.idle_connection_timeout = Duration::ZERO;
    drop(play(&mux, options).await.unwrap());
    assert!(server.wait_until(|view| view.open_connections == 0, SOON));
    assert_eq!(server.view().count("TEARDOWN"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_reuse_of_an_idle_connection() {
    let server = MockServer::builder().cameras(2).family(Family::Gst).start();
    let mux = mux();
    drop(play(&mux, options(&server, "/cam/1")).await.unwrap());
    assert!(server.wait_until(|view| view.sessions.is_empty(), SOON));
    let _session = play(&mux, options(&server, "/cam/2")).await.unwrap();
    assert_eq!(server.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn f39_pool_reuse_replaces_a_connection_the_server_gave_up() {
    let server = MockServer::builder().cameras(8).family(Family::Gst).start();
    let mux = mux();
    drop(play(&mux, options(&server, "/cam/1")).await.unwrap());
    assert!(server.wait_until(|view| view.sessions.is_empty(), SOON));
    server.add_rule(Rule::new("DESCRIBE", Reaction::Close).times(1));
    let sessions = play_all(&mux, &server, 8, |_| {}).await;
    assert_eq!(
        (sessions.len(), server.accepted()),
        (8, 2),
        "one fresh connection for all"
    );
    assert_eq!(mux.stats().servers[0].cannot_share, None);
}

/// All are set up before the first one plays: what a pipeline with many cameras does.
#[tokio::test(flavor = "multi_thread")]
async fn f07_cameras_of_a_server_that_cannot_share_get_a_connection_each() {
    let server = MockServer::builder()
        .cameras(6)
        .family(Family::MediaMtx)
        .start();
    let mux = mux();
    let mut ready = Vec::new();
    for camera in 1..=6 {
        let options = options(&server, &format!("/cam/{camera}"));
        ready.push(
            mux.open(options)
                .describe()
                .await
                .unwrap()
                .setup_all()
                .await
                .unwrap(),
        );
    }
    let mut sessions = Vec::new();
    for ready in ready {
        sessions.push(ready.play().await.unwrap());
    }
    assert!(mux.stats().servers[0].cannot_share.is_some());
    assert!(server.wait_until(
        |view| view.playing() == 6 && view.open_connections == 6,
        SOON
    ));
    for (index, session) in sessions.iter_mut().enumerate() {
        server.send_packets(&format!("/cam/{}", index + 1), 1);
        next(session).await;
    }
    drop(sessions);
    assert!(
        server.wait_until(|view| view.open_connections == 0, SOON),
        "closed after their TEARDOWNs"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn f07_with_multiplex_always_the_server_s_refusal_is_the_error() {
    let excess = Behaviour::SessionsPerConnection(1, Excess::Status(455));
    let server = MockServer::builder().cameras(2).behaviour(excess).start();
    let mux = mux();
    let always = |path| {
        let mut options = options(&server, path);
        options.pooling.multiplex = Multiplex::Always;
        options
    };
    let _first = play(&mux, always("/cam/1")).await.unwrap();
    let error = play(&mux, always("/cam/2")).await.unwrap_err();
    assert_eq!(
        (error.status(), error.request()),
        (Some(455), Some("SETUP"))
    );
    assert_eq!(server.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_a_full_server_is_asked_once_on_a_fresh_connection() {
    let server = MockServer::builder()
        .cameras(2)
        .behaviour(Behaviour::Sessions(1))
        .start();
    let mux = mux();
    let _first = play(&mux, options(&server, "/cam/1")).await.unwrap();
    let error = play(&mux, options(&server, "/cam/2")).await.unwrap_err();
    assert_eq!(
        (error.status(), error.retry_after()),
        (Some(503), Some(Duration::from_secs(5)))
    );
    assert_eq!((server.accepted(), server.view().count("SETUP")), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_a_server_that_repeats_session_ids_gets_a_connection_each() {
    let constant = Behaviour::SessionId("12345678".to_owned());
    let server = MockServer::builder().cameras(2).behaviour(constant).start();
    let mux = mux();
    let _sessions = play_all(&mux, &server, 2, |_| {}).await;
    assert_eq!(server.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn multiplex_never_gives_everybody_a_connection() {
    let server = MockServer::builder().cameras(6).start();
    let mux = mux();
    let _sessions = play_all(&mux, &server, 6, |options| {
        options.pooling.multiplex = Multiplex::Never
    })
    .await;
    assert_eq!(
        (server.accepted(), mux.stats().servers[0].connections.len()),
        (6, 6)
    );
}

/// On one thread: the attempt is under way exactly while nothing is awaited.
#[tokio::test]
async fn pool_concurrent_a_caller_that_goes_away_does_not_disturb_the_others() {
    let server = MockServer::builder().cameras(2).start();
    let mux = mux();
    let (first, second) = (options(&server, "/cam/1"), options(&server, "/cam/2"));
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
    assert!(server.wait_until(|view| view.accepted == 1, SOON));
    mux.pool().checkin(handle);
}

#[tokio::test]
async fn pool_concurrent_an_attempt_that_everybody_left_is_given_up() {
    let server = MockServer::builder().start();
    let mux = mux();
    let options = options(&server, "/cam/1");
    let mut cancelled = Box::pin(mux.pool().checkout(&options));
    assert!(poll_once(&mut cancelled).is_pending());
    drop(cancelled);
    mux.shutdown(SOON).await;
    assert_eq!(mux.stats().servers, []);
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_a_wrong_password_is_tried_once_for_all_sessions() {
    let auth = Auth::Basic {
        user: "u".to_owned(),
        password: "right".to_owned(),
    };
    let server = MockServer::builder().cameras(20).credentials(auth).start();
    let mux = mux();
    let url = |camera| {
        server
            .url(&format!("/cam/{camera}"))
            .replace("rtsp://", "rtsp://u:wrong@")
    };
    let tries: Vec<_> = (1..=20)
        .map(|camera| {
            let options = SessionOptions::new(&url(camera)).unwrap();
            let mux = mux.clone();
            tokio::spawn(async move { play(&mux, options).await })
        })
        .collect();
    for result in tries {
        let error = result.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    }
    let tried = server
        .requests()
        .iter()
        .filter(|request| request.headers.value("Authorization").is_some())
        .count();
    assert!(tried <= 2, "{tried} tries");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_camera_request_and_status() {
    let server = MockServer::builder().cameras(1).start();
    let mux = mux();
    let error = mux
        .open(options(&server, "/none?password=x"))
        .describe()
        .await
        .unwrap_err();
    assert_eq!(
        (error.status(), error.request()),
        (Some(404), Some("DESCRIBE"))
    );
    let text = error.to_string();
    assert!(
        text.contains("/none") && text.contains("404") && !text.contains("password=x"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_port_and_an_unknown_host_are_told_apart() {
    let mux = mux();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let refused = SessionOptions::new(&format!("rtsp://127.0.0.1:{port}/")).unwrap();
    assert_eq!(
        mux.open(refused).describe().await.unwrap_err().kind(),
        ErrorKind::Connect
    );
    let unknown = SessionOptions::new("rtsp://no-such-host.invalid/").unwrap();
    assert_eq!(
        mux.open(unknown).describe().await.unwrap_err().kind(),
        ErrorKind::Resolve
    );
    assert_eq!(mux.stats().servers, [], "failed attempts are forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn f40_a_loop_of_redirects_ends() {
    let server = MockServer::builder().cameras(2).start();
    let to = |path: &str| Reaction::redirect(&server.url(path));
    server.add_rule(Rule::new("DESCRIBE", to("/cam/2")).camera("/cam/1"));
    let mux = mux();
    let described = mux
        .open(options(&server, "/cam/1"))
        .describe()
        .await
        .unwrap();
    assert!(described.presentation().base.path().starts_with("/cam/2"));
    server.add_rule(Rule::new("DESCRIBE", to("/cam/1")).camera("/cam/2"));
    let error = mux
        .open(options(&server, "/cam/1"))
        .describe()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirects);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_tears_everything_down_and_refuses_what_comes_later() {
    let server = MockServer::builder().cameras(20).start();
    let mux = mux();
    let mut sessions = play_all(&mux, &server, 20, |_| {}).await;
    mux.shutdown(SOON).await;
    assert!(server.wait_until(
        |view| view.open_connections == 0 && view.sessions.is_empty(),
        SOON
    ));
    assert_eq!(server.view().count("TEARDOWN"), 20);
    assert_eq!(sessions[0].next().await, None);
    assert_eq!(
        sessions[0].end_reason().unwrap().kind(),
        ErrorKind::ConnectionLost
    );
    assert_eq!(mux.stats().servers, []);
    let error = mux
        .open(options(&server, "/cam/1"))
        .describe()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

#[tokio::test(flavor = "multi_thread")]
async fn f29_shutdown_does_not_wait_beyond_its_deadline() {
    let server = MockServer::builder().cameras(2).start();
    server.add_rule(Rule::new("TEARDOWN", Reaction::Ignore));
    let mux = mux();
    let mut sessions = play_all(&mux, &server, 2, |_| {}).await;
    mux.shutdown(Duration::from_millis(50)).await;
    assert_eq!(mux.stats().servers, []);
    for session in &mut sessions {
        assert_eq!(session.next().await, None);
        assert!(
            session.end_reason().is_some(),
            "an aborted task is no silence"
        );
    }
    let monitor = sessions[0].monitor();
    drop(sessions);
    assert!(monitor.wait_released(Duration::ZERO));
}

/// The clock stands still but for what is said here; the server is real.
#[tokio::test]
async fn f38_connection_pool_reuses_until_the_idle_timeout_and_not_after() {
    let server = MockServer::builder().cameras(1).start();
    let mux = mux();
    let options = options(&server, "/cam/1");
    let first = mux.pool().checkout(&options).await.unwrap();
    let id = first.id();
    drop(first);
    pass(Duration::from_secs(60) - Duration::from_millis(1)).await;
    let again = mux.pool().checkout(&options).await.unwrap();
    assert_eq!(again.id(), id, "1 ms before the deadline");
    pass(Duration::from_secs(3600)).await;
    assert_eq!(
        mux.stats().servers[0].connections.len(),
        1,
        "never while it is referenced"
    );
    drop(again);
    pass(Duration::from_millis(60_001)).await;
    assert_eq!(mux.stats().servers, [], "1 ms after the deadline");
    let fresh = mux.pool().checkout(&options).await.unwrap();
    assert_ne!(fresh.id(), id);
}

/// Lets time pass, and all tasks see it.
async fn pass(time: Duration) {
    let let_others_run = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    let_others_run().await;
    tokio::time::pause();
    tokio::time::advance(time).await;
    let_others_run().await;
    tokio::time::resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn f30_a_session_dropped_during_its_setup_is_torn_down_once() {
    let server = MockServer::builder().cameras(1).start();
    server.add_rule(Rule::new("SETUP", Reaction::Defer));
    let mux = mux();
    let opening = mux.open(options(&server, "/cam/1"));
    let monitor = opening.monitor();
    let described = opening.describe().await.unwrap();
    let setup = tokio::spawn(described.setup_all());
    assert!(server.wait_until(|view| view.count("SETUP") == 1, SOON));
    setup.abort();
    assert!(setup.await.is_err());
    assert!(
        !monitor.wait_released(Duration::ZERO),
        "a TEARDOWN may be owed"
    );
    server.release();
    assert!(server.wait_until(|view| view.sessions.is_empty(), SOON));
    assert!(
        tokio::task::spawn_blocking(move || monitor.wait_released(SOON))
            .await
            .unwrap()
    );
    assert_eq!(server.view().count("TEARDOWN"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_stream_that_is_refused_is_left_out() {
    let server = MockServer::builder().camera("/av", Camera::av()).start();
    server.add_rule(Rule::new("SETUP", Reaction::status(415)).skip(1));
    let mux = mux();
    let ready = mux
        .open(options(&server, "/av"))
        .describe()
        .await
        .unwrap()
        .setup_all()
        .await
        .unwrap();
    assert_eq!(ready.streams().len(), 1);
    let (stream, error) = &ready.failed_streams()[0];
    assert_eq!((*stream, error.status()), (1, Some(415)));
    let _session = ready.play().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_reuse_never_of_a_connection_the_server_closed() {
    let server = MockServer::builder().cameras(1).start();
    let mux = mux();
    drop(play(&mux, options(&server, "/cam/1")).await.unwrap());
    assert!(server.wait_until(|view| view.sessions.is_empty(), SOON));
    server.close_connections();
    assert!(server.wait_until(|view| view.open_connections == 0, SOON));
    let _session = play(&mux, options(&server, "/cam/1")).await.unwrap();
    assert_eq!(server.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn f03_a_reset_ends_all_sessions_of_the_connection_with_a_reason() {
    let server = MockServer::builder().cameras(3).start();
    let mux = mux();
    let sessions = play_all(&mux, &server, 3, |_| {}).await;
    server.reset_connections();
    for mut session in sessions {
        assert_eq!(
            tokio::time::timeout(SOON, session.next()).await.unwrap(),
            None
        );
        let error = session.end_reason().unwrap();
        assert!(error.is_retryable() && error.camera().is_some(), "{error}");
    }
}

#[test]
fn without_a_runtime_the_futures_run_anywhere() {
    let server = MockServer::builder().cameras(1).start();
    let mux = Mux::builder().build();
    let session = block_on(play(&mux, options(&server, "/cam/1"))).unwrap();
    drop(session);
    mux.shutdown_blocking(SOON);
    assert!(server.wait_until(|view| view.open_connections == 0, SOON));
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
