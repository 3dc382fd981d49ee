//! The same against a real gst-rtsp-server.

use std::time::Duration;

use gstrtspmux::mux::Pooling;

use crate::{
    gst_server::{Auth, GstServer},
    player::{PATIENCE, assert_own_frames, mux, play_real, try_all},
};

#[tokio::test]
async fn sixteen_cameras_share_one_connection_and_one_teardown_leaves_fifteen() {
    let server = GstServer::builder().mounts(16).start().unwrap();
    let mux = mux();
    let sessions = play_real(&mux, &server, 16, &Pooling::default()).await;
    let mut sessions = assert_own_frames(sessions, 5).await;
    let counts = server.counts();
    assert_eq!(
        (counts.accepted, counts.sessions_now, counts.plays),
        (1, 16, 16),
        "{counts:?}"
    );
    let (_, leaving) = sessions.remove(7);
    leaving.teardown().await.unwrap();
    // The server has answered a moment before the session is gone.
    let counts = server.wait_until(PATIENCE, |counts| counts.sessions_now == 15);
    let counts = counts.unwrap();
    assert_eq!(
        (counts.open, counts.teardowns),
        (1, 1),
        "its answer says `Connection: close`: {counts:?}"
    );
    let sessions = assert_own_frames(sessions, 10).await;
    assert_eq!((sessions.len(), server.counts().accepted), (15, 1));
}

#[tokio::test]
async fn the_server_sees_an_idle_connection_close() {
    let server = GstServer::builder().mounts(2).start().unwrap();
    let mux = mux();
    let pooling = Pooling {
        idle_connection_timeout: Duration::from_millis(50),
        ..Pooling::default()
    };
    drop(play_real(&mux, &server, 2, &pooling).await);
    let counts = server
        .wait_until(PATIENCE, |counts| counts.open == 0)
        .unwrap();
    assert_eq!(
        (counts.accepted, counts.teardowns, counts.sessions_now),
        (1, 2, 0),
        "{counts:?}"
    );
}

#[tokio::test]
async fn f23_a_full_server_refuses_the_sessions_it_has_no_room_for_and_no_other() {
    let server = GstServer::builder()
        .mounts(6)
        .max_sessions(4)
        .start()
        .unwrap();
    let mux = mux();
    let playing = play_real(&mux, &server, 4, &Pooling::default()).await;
    let playing = assert_own_frames(playing, 2).await;
    let excess = (4..6).map(|camera| server.url(camera));
    for (camera, result) in try_all(&mux, excess, &Pooling::default())
        .await
        .into_iter()
        .enumerate()
    {
        let error = result.unwrap_err();
        assert_eq!(
            (error.status(), error.request()),
            (Some(503), Some("SETUP")),
            "{error}"
        );
        assert_eq!(error.camera(), Some(server.url(4 + camera).as_str()));
    }
    assert_own_frames(playing, 10).await;
    assert!(server.counts().accepted <= 4);
}

#[tokio::test]
async fn sixteen_sessions_with_digest_share_one_connection() {
    let server = GstServer::builder()
        .mounts(16)
        .auth(Auth::Digest, "viewer", "secret")
        .start()
        .unwrap();
    let mux = mux();
    let sessions = play_real(&mux, &server, 16, &Pooling::default()).await;
    let sessions = assert_own_frames(sessions, 3).await;
    let counts = server.counts();
    assert_eq!(
        (counts.accepted, counts.sessions_now),
        (1, 16),
        "{counts:?}"
    );
    for (_, session) in sessions {
        session.teardown().await.unwrap();
    }
    assert_eq!(server.counts().teardowns, 16);
}
