//! Connections that break off when a session is added to them.

use gstrtspmux::mux::{ErrorKind, SharingVerdict};

use crate::{
    player::{PATIENCE, camera_url, eventually, mux, options, play_camera},
    support::mock_server::{Family, MockServer, Reaction, Rule},
};

#[tokio::test]
async fn a_session_with_which_connections_break_off_twice_gets_one_of_its_own() {
    let server = MockServer::builder().cameras(4).family(Family::Gst).start();
    let mux = mux();
    for round in 1..=2 {
        let mut sessions = Vec::new();
        for camera in [1, 2, 3] {
            sessions.push(play_camera(&mux, &server, camera).await);
        }
        assert_eq!(server.accepted(), round, "one connection for all three");
        server.close_connections();
        for session in &mut sessions {
            assert!(session.next().await.is_none());
            let reason = session.end_reason().unwrap();
            assert_eq!(reason.kind(), ErrorKind::ConnectionLost);
        }
        assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
        eventually(|| mux.stats().servers.iter().all(|s| s.connections.is_empty())).await;
    }
    let third = play_camera(&mux, &server, 3).await;
    let first = play_camera(&mux, &server, 1).await;
    let second = play_camera(&mux, &server, 2).await;
    let connection = |session: &gstrtspmux::mux::Session| session.monitor().stats().connection;
    assert_ne!(connection(&third), connection(&first));
    assert_eq!(connection(&first), connection(&second));
    let sharing = mux.stats().servers[0].sharing;
    assert_eq!(sharing, SharingVerdict::Yes, "the others still share");
}

#[tokio::test]
async fn f45_sessions_that_the_server_ends_behind_their_play_do_not_show_that_it_cannot_share() {
    let ended = 2..=5;
    let mut server = MockServer::builder().cameras(5).family(Family::Gst);
    for camera in ended.clone() {
        let rule = Rule::new("PLAY", Reaction::Teardown).camera(&format!("/cam/{camera}"));
        server = server.rule(rule);
    }
    let server = server.start();
    let mux = mux();
    let first = play_camera(&mux, &server, 1).await;
    for _round in 1..=2 {
        for camera in ended.clone() {
            let session = mux.open(options(&camera_url(&server, camera)));
            let ready = session.describe().await.unwrap().setup_all().await;
            if let Ok(mut session) = ready.unwrap().play().await {
                assert!(session.next().await.is_none());
            }
        }
    }
    assert_eq!(mux.stats().servers[0].sharing, SharingVerdict::Yes);
    assert!(first.end_reason().is_none());
}
