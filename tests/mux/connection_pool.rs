//! Who shares a connection with whom, how many there are, and when they go.

use std::time::Duration;

use gstrtspmux::mux::{ErrorKind, Multiplex, Pooling};

use crate::{
    PATIENCE, assert_clean, assert_own_media, eventually, mux, options, play, play_all,
    play_camera, server,
    support::mock_server::{Behaviour, ChannelPolicy, Excess, MockServer, Reaction, Rule},
};

#[tokio::test]
async fn sixteen_cameras_share_one_connection() {
    let (mux, server) = (mux(), server(16));
    let mut sessions = play_all(&mux, &server, 16, &Pooling::default()).await;
    assert_eq!(server.accepted(), 1);
    assert_eq!(server.sessions_alive(), 16);
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

#[tokio::test]
async fn another_user_agent_or_group_does_not_share() {
    let (mux, server) = (mux(), server(3));
    let _plain = play_camera(&mux, &server, 1).await;
    let mut other_agent = options(&server.url("/cam/2"), Pooling::default());
    other_agent.user_agent = Some("NVR/2.0".to_owned());
    let _other_agent = play(&mux, other_agent).await.unwrap();
    let mut other_group = options(&server.url("/cam/3"), Pooling::default());
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

#[tokio::test]
async fn a_full_server_under_always_is_an_error_that_names_property_and_limit() {
    let server = MockServer::builder()
        .cameras(2)
        .behaviour(Behaviour::SessionsPerConnection(1, Excess::Status(461)))
        .start();
    let mux = mux();
    let pooling = Pooling {
        multiplex: Multiplex::Always,
        max_connections_per_server: 1,
        ..Pooling::default()
    };
    let _first = play(&mux, options(&server.url("/cam/1"), pooling.clone()))
        .await
        .unwrap();
    let error = play(&mux, options(&server.url("/cam/2"), pooling))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("/cam/2"), "{text}");
    assert!(
        text.contains("max-connections-per-server") || text.contains("461"),
        "{text}"
    );
}

#[tokio::test]
async fn a_461_moves_the_session_to_the_next_connection() {
    let server = MockServer::builder()
        .cameras(4)
        .behaviour(Behaviour::SessionsPerConnection(2, Excess::Status(461)))
        .start();
    let mux = mux();
    let mut sessions = play_all(&mux, &server, 4, &Pooling::default()).await;
    assert!(server.open_connections() <= 4);
    assert_own_media(&server, &mut sessions).await;
}

/// A server that shows it cannot share: both cameras play all the same, each on its own.
async fn assert_falls_back(behaviour: Behaviour) {
    let server = MockServer::builder()
        .cameras(2)
        .behaviour(behaviour)
        .start();
    let mux = mux();
    let mut sessions = play_all(&mux, &server, 2, &Pooling::default()).await;
    let view = server.view();
    let mut connections: Vec<_> = view
        .sessions
        .iter()
        .map(|session| session.connection)
        .collect();
    connections.dedup();
    assert_eq!(connections.len(), 2, "a connection each: {view:?}");
    assert_own_media(&server, &mut sessions).await;
}

#[tokio::test]
async fn f11_the_same_channels_twice_gives_the_new_session_its_own_connection() {
    assert_falls_back(Behaviour::Channels(ChannelPolicy::PerTrack)).await;
}

#[tokio::test]
async fn the_same_session_id_twice_gives_the_new_session_its_own_connection() {
    assert_falls_back(Behaviour::SessionId("12345678".to_owned())).await;
}

#[tokio::test]
async fn f07_a_refusal_and_close_gives_both_sessions_their_own_connection() {
    assert_falls_back(Behaviour::SessionsPerConnection(
        1,
        Excess::BadRequestAndClose,
    ))
    .await;
}

#[tokio::test]
async fn an_error_status_gives_the_new_session_its_own_connection() {
    assert_falls_back(Behaviour::SessionsPerConnection(1, Excess::Status(455))).await;
}

#[tokio::test]
async fn what_fails_alone_too_is_the_cameras_own_error() {
    let server = MockServer::builder()
        .cameras(2)
        .rule(Rule::new("SETUP", Reaction::status(455)).camera("/cam/2"))
        .start();
    let mux = mux();
    let mut first = play_camera(&mux, &server, 1).await;
    let error = play(&mux, options(&server.url("/cam/2"), Pooling::default()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Status(455));
    assert_eq!(error.request(), Some("SETUP"));
    assert!(
        mux.stats().servers[0].cannot_share.is_none(),
        "no verdict from a broken camera"
    );
    assert_own_media(&server, std::slice::from_mut(&mut first)).await;
}

#[tokio::test]
async fn shutdown_tears_everything_down_and_refuses_more() {
    let (mux, server) = (mux(), server(8));
    let sessions = play_all(&mux, &server, 8, &Pooling::default()).await;
    mux.shutdown(Duration::from_secs(3)).await;
    assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
    assert_eq!(server.view().count("TEARDOWN"), 8);
    let refused = play(&mux, options(&server.url("/cam/1"), Pooling::default())).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ShutDown);
    drop(sessions);
    assert_eq!(server.view().count("TEARDOWN"), 8);
}
