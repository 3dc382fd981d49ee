//! The same against a real gst-rtsp-server.

use gstrtspmux::mux::Pooling;

use crate::{
    gst_server::GstServer,
    player::{PATIENCE, assert_own_frames, mux, options, play, play_real},
};

#[tokio::test]
async fn ten_sessions_one_after_the_other_use_one_connection() {
    let server = GstServer::builder().mounts(2).start().unwrap();
    let mux = mux();
    for round in 0..10 {
        let camera = round % 2;
        let session = play(&mux, options(&server.url(camera))).await.unwrap();
        let mut sessions = assert_own_frames(vec![(camera, session)], 1).await;
        let (_, session) = sessions.remove(0);
        if round < 5 {
            session.teardown().await.unwrap();
        }
    }
    let counts = server
        .wait_until(PATIENCE, |counts| counts.teardowns == 10)
        .unwrap();
    assert_eq!((counts.accepted, counts.open), (1, 1), "{counts:?}");
}

#[tokio::test]
async fn a_connection_the_server_closed_is_replaced_unseen() {
    let server = GstServer::builder().mounts(4).start().unwrap();
    let mux = mux();
    drop(play_real(&mux, &server, 4, &Pooling::default()).await);
    server
        .wait_until(PATIENCE, |counts| counts.sessions_now == 0)
        .unwrap();
    server.close_connections();
    server
        .wait_until(PATIENCE, |counts| counts.open == 0)
        .unwrap();
    let sessions = play_real(&mux, &server, 4, &Pooling::default()).await;
    assert_own_frames(sessions, 2).await;
    assert_eq!(server.counts().accepted, 2, "one fresh connection for all");
}
