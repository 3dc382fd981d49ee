//! Connections that were idle: used again, checked before, replaced when stale.

use std::time::Duration;

use gstrtspmux::mux::{Credentials, ErrorKind, Mux, Pooling, Timeouts};

use crate::{
    player::{
        PATIENCE, assert_clean, assert_own_media, camera_url, mux, next_of_mock, options, play,
        play_all, play_camera, server,
    },
    support::mock_server::{Algorithm, Auth, Behaviour, Family, MockServer, Reaction, Rule},
};

#[cfg(feature = "plugin")]
#[path = "pool_reuse/real_server.rs"]
mod real_server;
#[path = "pool_reuse/unasked.rs"]
pub(crate) mod unasked;

#[tokio::test]
async fn ten_sessions_one_after_the_other_use_one_connection() {
    let (mux, server) = (mux(), server(10));
    for camera in 1..=10 {
        play_camera(&mux, &server, camera)
            .await
            .teardown()
            .await
            .unwrap();
    }
    assert_eq!((server.accepted(), server.open_connections()), (1, 1));
    assert_eq!(server.sessions_alive(), 0);
    assert_clean(&server);
}

#[tokio::test]
async fn a_session_that_is_merely_dropped_frees_its_place_too() {
    let (mux, server) = (mux(), server(1));
    for _ in 0..10 {
        drop(play_camera(&mux, &server, 1).await);
    }
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    assert_eq!(server.accepted(), 1);
    assert_eq!(server.view().count("TEARDOWN"), 10);
}

#[tokio::test]
async fn f39_an_idle_connection_the_server_closed_is_replaced_unseen() {
    let server = MockServer::builder()
        .cameras(2)
        .behaviour(Behaviour::CloseAfterLastTeardown)
        .start();
    let mux = mux();
    for round in 0..20 {
        play_camera(&mux, &server, 1 + round % 2)
            .await
            .teardown()
            .await
            .unwrap();
    }
    assert!(server.accepted() <= 20);
    assert_clean(&server);
}

/// A pool that pings before every reuse.
fn cautious_mux() -> Mux {
    let timeouts = Timeouts {
        health_check_after: Duration::ZERO,
        keep_alive: Duration::from_millis(100),
        ..Timeouts::default()
    };
    Mux::builder().timeouts(timeouts).build()
}

#[tokio::test]
async fn a_healthy_idle_connection_is_pinged_and_used_again() {
    let (mux, server) = (cautious_mux(), server(2));
    play_camera(&mux, &server, 1)
        .await
        .teardown()
        .await
        .unwrap();
    let mut second = play_camera(&mux, &server, 2).await;
    assert_eq!(server.accepted(), 1);
    assert_eq!(server.view().count("OPTIONS"), 1);
    server.send_packets("/cam/2", 1);
    assert_eq!(next_of_mock(&mut second).await.0, 2);
}

#[tokio::test]
async fn a_stale_connection_that_does_not_answer_is_replaced_unseen() {
    let (mux, server) = (cautious_mux(), server(2));
    play_camera(&mux, &server, 1)
        .await
        .teardown()
        .await
        .unwrap();
    server.add_rule(Rule::new("OPTIONS", Reaction::Unanswered));
    let mut second = play_camera(&mux, &server, 2).await;
    assert_eq!(server.accepted(), 2);
    server.send_packets("/cam/2", 1);
    assert_eq!(next_of_mock(&mut second).await.0, 2);
}

#[tokio::test]
async fn a_connection_closed_under_the_first_request_of_its_reuse_is_retried_once() {
    let (mux, server) = (mux(), server(2));
    play_camera(&mux, &server, 1)
        .await
        .teardown()
        .await
        .unwrap();
    server.add_rule(Rule::new("DESCRIBE", Reaction::Close).times(1));
    let mut sessions = vec![play_camera(&mux, &server, 1).await];
    assert_eq!(server.accepted(), 2);
    assert_own_media(&server, &mut sessions).await;
}

#[tokio::test]
async fn a_fresh_connection_that_is_closed_is_an_error_and_no_loop() {
    let server = MockServer::builder()
        .cameras(1)
        .rule(Rule::new("DESCRIBE", Reaction::Close))
        .start();
    let error = play(&mux(), options(&camera_url(&server, 1)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert_eq!(error.request(), Some("DESCRIBE"));
    assert!(server.accepted() <= 2);
}

#[tokio::test]
async fn a_connection_whose_teardown_went_unanswered_is_not_used_again() {
    let timeouts = Timeouts {
        teardown: Duration::from_millis(50),
        ..Timeouts::default()
    };
    let mux = Mux::builder().timeouts(timeouts).build();
    let server = MockServer::builder()
        .cameras(2)
        .rule(Rule::new("TEARDOWN", Reaction::Unanswered).times(1))
        .start();
    let first = play_camera(&mux, &server, 1).await;
    let _ = first.teardown().await;
    let _second = play_camera(&mux, &server, 2).await;
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn the_nonce_is_kept_with_the_connection() {
    let auth = Auth::Digest {
        algorithm: Algorithm::Sha256,
        user: "admin".to_owned(),
        password: "p:w @d".to_owned(),
    };
    let server = MockServer::builder()
        .cameras(4)
        .family(Family::Gst)
        .credentials(auth)
        .start();
    let mux = mux();
    for camera in 1..=4 {
        let mut options = options(&camera_url(&server, camera));
        options.credentials = Some(Credentials::new("admin", "p:w @d").unwrap());
        play(&mux, options).await.unwrap().teardown().await.unwrap();
    }
    assert_eq!(server.accepted(), 1);
    let unauthorized = server
        .requests()
        .iter()
        .filter(|request| request.headers.value("Authorization").is_none())
        .count();
    assert_eq!(unauthorized, 2, "two show that the realm is the server's");
    let describes = server.view().count("DESCRIBE");
    assert_eq!(describes, 2 + 4, "no other request was repeated");
    assert_clean(&server);
}

#[tokio::test]
async fn f39_replaces_a_connection_the_server_gave_up() {
    let (mux, server) = (mux(), server(8));
    drop(play_camera(&mux, &server, 1).await);
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    server.add_rule(Rule::new("DESCRIBE", Reaction::Close).times(1));
    let sessions = play_all(&mux, &server, 8, &Pooling::default()).await;
    assert_eq!(
        (sessions.len(), server.accepted()),
        (8, 2),
        "one fresh connection for all"
    );
    assert_eq!(mux.stats().servers[0].cannot_share, None);
}

#[tokio::test]
async fn never_of_a_connection_the_server_closed() {
    let (mux, server) = (mux(), server(1));
    drop(play_camera(&mux, &server, 1).await);
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    server.close_connections();
    assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
    let _session = play_camera(&mux, &server, 1).await;
    assert_eq!(server.accepted(), 2);
}
