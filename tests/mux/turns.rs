//! Sessions of a server that was lost: one dials, all come back.

use gstrtspmux::mux::{Error, ErrorKind, Mux, Pooling, RetryBounds, Session, SessionOptions};

use crate::{
    player::{
        PATIENCE, assert_clean, assert_own_media, camera_url, mux, options, play, play_all,
        play_camera, server, within_patience,
    },
    support::mock_server::{Family, MockServer},
};

/// Tries until it plays; how often that was.
async fn recover(mux: Mux, options: SessionOptions, mut after: Error) -> (Session, u32) {
    for tries in 1.. {
        let turn = mux.turn(&options, Some(&after), RetryBounds::default());
        let turn = match turn.await {
            Ok(turn) => turn,
            Err(error) => {
                after = error;
                continue;
            }
        };
        let described = mux.open(options.clone()).describe().await;
        drop(turn);
        let played = match described {
            Ok(described) => described.setup_all().await.unwrap().play().await,
            Err(error) => Err(error),
        };
        match played {
            Ok(session) => return (session, tries),
            Err(error) => after = error,
        }
    }
    unreachable!()
}

/// Ends all sessions and starts their recovery.
async fn recover_all(
    mux: &Mux,
    server: &MockServer,
    sessions: Vec<Session>,
) -> Vec<tokio::task::JoinHandle<(Session, u32)>> {
    let mut recovering = Vec::new();
    for (at, mut session) in sessions.into_iter().enumerate() {
        while within_patience(session.next()).await.is_some() {}
        let error = session.end_reason().unwrap();
        assert_eq!(error.kind(), ErrorKind::ConnectionLost);
        drop(session);
        let options = options(&camera_url(server, at as u32 + 1));
        recovering.push(tokio::spawn(recover(mux.clone(), options, error)));
    }
    recovering
}

#[tokio::test]
async fn f03_after_a_reset_one_dials_and_all_sixteen_come_back() {
    let (mux, server) = (mux(), server(16));
    let sessions = play_all(&mux, &server, 16, &Pooling::default()).await;
    assert_eq!(server.accepted(), 1);
    server.reset_connections();
    let mut back = Vec::new();
    for task in recover_all(&mux, &server, sessions).await {
        let (session, tries) = within_patience(task).await.unwrap();
        assert_eq!(tries, 1);
        back.push(session);
    }
    assert_eq!(server.accepted(), 2, "one dial for all");
    assert_own_media(&server, &mut back).await;
    assert_clean(&server);
}

#[tokio::test]
async fn f06_a_server_that_is_away_is_dialled_by_one_and_joined_by_all_when_it_is_back() {
    let (mux, server) = (mux(), server(16));
    let sessions = play_all(&mux, &server, 16, &Pooling::default()).await;
    let port = server.address().port();
    let monitor = sessions[0].monitor();
    server.stop();
    let again = MockServer::builder().cameras(16).family(Family::Gst);
    // Its URLs are those of the one that is to come.
    let urls: Vec<String> = (1..=16)
        .map(|camera| format!("rtsp://127.0.0.1:{port}/cam/{camera}"))
        .collect();
    let mut recovering = Vec::new();
    for (mut session, url) in sessions.into_iter().zip(&urls) {
        while within_patience(session.next()).await.is_some() {}
        let error = session.end_reason().unwrap();
        drop(session);
        recovering.push(tokio::spawn(recover(mux.clone(), options(url), error)));
    }
    // The server refused one of them.
    let refused = play(&mux, options(&urls[0])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Connect);
    assert!(monitor.wait_released(std::time::Duration::ZERO));
    let server = again.start_at(port);
    for task in recovering {
        within_patience(task).await.unwrap();
    }
    assert_eq!(server.accepted(), 1);
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
}

#[tokio::test]
async fn a_session_that_gives_up_its_turn_holds_up_no_other() {
    let (mux, server) = (mux(), server(2));
    let mut session = play_camera(&mux, &server, 1).await;
    server.close_connections();
    while within_patience(session.next()).await.is_some() {}
    let error = session.end_reason().unwrap();
    let options = options(&camera_url(&server, 1));
    let bounds = RetryBounds::default();
    let scout = mux.turn(&options, Some(&error), bounds).await.unwrap();
    let mut next = std::pin::pin!(mux.turn(&options, Some(&error), bounds));
    assert!(is_pending(next.as_mut()).await);
    drop(scout);
    let _turn = within_patience(next).await.unwrap();
}

/// Polled once, it is not ready.
async fn is_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(future.as_mut().poll(context).is_pending())
    })
    .await
}

#[tokio::test]
async fn a_server_that_is_there_keeps_no_session_waiting() {
    let (mux, server) = (mux(), server(1));
    let options = options(&camera_url(&server, 1));
    for _ in 0..3 {
        let turn = mux.turn(&options, None, RetryBounds::default()).await;
        drop(turn.unwrap());
    }
    let _session = play(&mux, options).await.unwrap();
}
