//! Who shares a connection with whom, how many there are, and when they go.

use std::time::Duration;

use gstrtspmux::mux::{Multiplex, Pooling};

use crate::player::{
    PATIENCE, assert_clean, assert_own_media, camera_url, eventually, mux, mux_of_this_runtime,
    options, pass_while_stopped, play, play_all, play_camera, server,
};

#[cfg(feature = "plugin")]
#[path = "connection_pool/real_server.rs"]
mod real_server;

#[tokio::test]
async fn sixteen_cameras_share_one_connection() {
    let (mux, server) = (mux(), server(16));
    let mut sessions = play_all(&mux, &server, 16, &Pooling::default()).await;
    assert_eq!(server.accepted(), 1);
    assert_eq!(server.sessions_alive(), 16);
    let stats = sessions[0].monitor().stats();
    assert_eq!(
        (stats.sessions_on_connection, stats.references_on_connection),
        (16, 16)
    );
    assert_own_media(&server, &mut sessions).await;
    assert_clean(&server);
}

#[tokio::test]
async fn teardown_of_one_leaves_the_others_playing() {
    let (mux, server) = (mux(), server(16));
    let mut sessions = play_all(&mux, &server, 16, &Pooling::default()).await;
    sessions.pop().unwrap().teardown().await.unwrap();
    assert_eq!(server.sessions_alive(), 15);
    assert_own_media(&server, &mut sessions).await;
    assert_eq!((server.accepted(), server.open_connections()), (1, 1));
}

#[tokio::test]
async fn sessions_beyond_the_preference_get_another_connection() {
    let (mux, server) = (mux(), server(6));
    let pooling = Pooling {
        max_sessions_per_connection: 2,
        ..Pooling::default()
    };
    let mut sessions = play_all(&mux, &server, 6, &pooling).await;
    assert_eq!(server.accepted(), 3);
    assert_own_media(&server, &mut sessions).await;
}

#[tokio::test]
async fn at_the_connection_limit_sessions_are_added_to_the_least_loaded() {
    let (mux, server) = (mux(), server(8));
    let pooling = Pooling {
        max_sessions_per_connection: 2,
        max_connections_per_server: 2,
        ..Pooling::default()
    };
    let _sessions = play_all(&mux, &server, 8, &pooling).await;
    assert_eq!(server.accepted(), 2);
    let view = server.view();
    for connection in 0..2 {
        let of_connection = view
            .sessions
            .iter()
            .filter(|session| session.connection == connection);
        assert_eq!(of_connection.count(), 4);
    }
}

#[tokio::test]
async fn the_connection_is_closed_when_it_was_idle_for_long_enough() {
    let (mux, server) = (mux(), server(2));
    let idle = Duration::from_millis(50);
    let pooling = Pooling {
        idle_connection_timeout: idle,
        ..Pooling::default()
    };
    let sessions = play_all(&mux, &server, 2, &pooling).await;
    drop(sessions);
    assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
    assert_eq!(server.view().count("TEARDOWN"), 2);
    // The server sees the end of the connection a moment before the pool has forgotten it.
    eventually(|| {
        mux.stats()
            .servers
            .iter()
            .all(|server| server.connections.is_empty())
    })
    .await;
}

#[tokio::test]
async fn without_idle_time_it_is_closed_once_the_teardowns_are_answered() {
    let (mux, server) = (mux(), server(2));
    let pooling = Pooling {
        idle_connection_timeout: Duration::ZERO,
        ..Pooling::default()
    };
    drop(play_all(&mux, &server, 2, &pooling).await);
    assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
    assert_eq!(server.view().count("TEARDOWN"), 2);
}

/// The clock stands still but for what is said here; the server is real.
#[tokio::test]
async fn f38_reuses_until_the_idle_timeout_and_not_after() {
    let (mux, server) = (mux_of_this_runtime(), server(1));
    let options = options(&camera_url(&server, 1));
    let first = mux.pool().checkout(&options).await.unwrap();
    let id = first.id();
    tokio::time::pause();
    drop(first);
    pass_while_stopped(Duration::from_secs(60) - Duration::from_millis(1)).await;
    let again = mux.pool().checkout(&options).await.unwrap();
    assert_eq!(again.id(), id, "1 ms before the deadline");
    pass_while_stopped(Duration::from_secs(3600)).await;
    assert_eq!(
        mux.stats().servers[0].connections.len(),
        1,
        "never while it is referenced"
    );
    drop(again);
    pass_while_stopped(Duration::from_millis(60_001)).await;
    assert_eq!(mux.stats().servers, [], "1 ms after the deadline");
    tokio::time::resume();
    let fresh = mux.pool().checkout(&options).await.unwrap();
    assert_ne!(fresh.id(), id);
}

#[tokio::test]
async fn another_user_agent_or_group_does_not_share() {
    let (mux, server) = (mux(), server(3));
    let _plain = play_camera(&mux, &server, 1).await;
    let mut other_agent = options(&camera_url(&server, 2));
    other_agent.user_agent = Some("NVR/2.0".to_owned());
    let _other_agent = play(&mux, other_agent).await.unwrap();
    let mut other_group = options(&camera_url(&server, 3));
    other_group.group = Some("tenant".to_owned());
    let _other_group = play(&mux, other_group).await.unwrap();
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn without_pooling_every_session_has_a_connection_that_ends_with_it() {
    let (mux, server) = (mux(), server(6));
    let pooling = Pooling {
        enable_connection_pooling: false,
        ..Pooling::default()
    };
    let mut sessions = play_all(&mux, &server, 6, &pooling).await;
    assert_eq!(server.accepted(), 6, "more than the limit of pooled ones");
    assert_own_media(&server, &mut sessions).await;
    drop(sessions);
    assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
    assert_eq!(server.view().count("TEARDOWN"), 6);
}

#[tokio::test]
async fn multiplex_never_is_a_connection_each_and_listed() {
    let (mux, server) = (mux(), server(5));
    let pooling = Pooling {
        multiplex: Multiplex::Never,
        ..Pooling::default()
    };
    let _sessions = play_all(&mux, &server, 5, &pooling).await;
    assert_eq!(server.accepted(), 5);
    let stats = mux.stats();
    assert_eq!(stats.servers.len(), 1);
    assert_eq!(stats.servers[0].connections.len(), 5);
}
