//! The end of everything.

use std::time::Duration;

use gstrtspmux::mux::{ErrorKind, Pooling};

use crate::{
    player::{PATIENCE, camera_url, mux, options, play, play_all, server},
    support::mock_server::{Reaction, Rule},
};

#[tokio::test]
async fn shutdown_tears_everything_down_and_refuses_what_comes_later() {
    let (mux, server) = (mux(), server(20));
    let mut sessions = play_all(&mux, &server, 20, &Pooling::default()).await;
    mux.shutdown(PATIENCE).await;
    assert!(server.wait_until(
        |view| view.open_connections == 0 && view.sessions.is_empty(),
        PATIENCE
    ));
    assert_eq!(server.view().count("TEARDOWN"), 20);
    assert_eq!(sessions[0].next().await, None);
    assert_eq!(
        sessions[0].end_reason().unwrap().kind(),
        ErrorKind::ConnectionLost
    );
    assert_eq!(mux.stats().servers, []);
    let refused = play(&mux, options(&camera_url(&server, 1))).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ShutDown);
    drop(sessions);
    assert_eq!(server.view().count("TEARDOWN"), 20, "each once");
}

#[tokio::test]
async fn f29_shutdown_does_not_wait_beyond_its_deadline() {
    let (mux, server) = (mux(), server(2));
    server.add_rule(Rule::new("TEARDOWN", Reaction::Ignore));
    let mut sessions = play_all(&mux, &server, 2, &Pooling::default()).await;
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
