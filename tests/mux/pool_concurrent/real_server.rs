//! The same against a real gst-rtsp-server.

use gstrtspmux::mux::Pooling;

use crate::{
    gst_server::GstServer,
    player::{assert_own_frames, mux, play_real},
};

async fn assert_makes(cameras: usize, pooling: &Pooling, connections: usize) {
    let server = GstServer::builder().mounts(cameras).start().unwrap();
    let mux = mux();
    let sessions = play_real(&mux, &server, cameras, pooling).await;
    let _sessions = assert_own_frames(sessions, 2).await;
    let counts = server.counts();
    assert_eq!(
        (counts.accepted, counts.open, counts.sessions_now),
        (connections, connections, cameras),
        "{counts:?}"
    );
}

#[tokio::test]
async fn sixty_four_at_once_make_four_connections() {
    assert_makes(64, &Pooling::default(), 4).await;
}

#[tokio::test]
async fn a_hundred_and_thirty_with_a_maximum_of_128_make_two_connections() {
    let pooling = Pooling {
        max_sessions_per_connection: 128,
        // No more than that even where a busy machine makes the server look slow.
        max_connections_per_server: 2,
        ..Pooling::default()
    };
    assert_makes(130, &pooling, 2).await;
}
