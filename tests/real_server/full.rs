//! A gst-rtsp-server whose session pool is full (fault F23).

use gstrtspmux::mux::Error;

use crate::PATIENCE;
use crate::gst_server::GstServer;
use crate::viewer::{Viewer, mux, play_one_by_one, play_together, wait_for_frames};

fn server(mounts: usize, max_sessions: u32) -> GstServer {
    let server = GstServer::builder().mounts(mounts);
    server.max_sessions(max_sessions).start().unwrap()
}

fn assert_is_of_camera(error: &Error, camera: usize) {
    assert_eq!(error.status(), Some(503), "{error}");
    let named = error.camera().unwrap();
    assert!(named.ends_with(&format!("/cam/{camera}")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_of_sixteen_together_four_play_and_twelve_are_told_503() {
    let server = server(16, 4);
    let mux = mux();
    let cameras: Vec<_> = (0..16).map(|camera| (server.url(camera), camera)).collect();
    let played = play_together(&mux, &cameras).await;
    let mut viewers = Vec::new();
    for (camera, played) in played.into_iter().enumerate() {
        match played {
            Ok(viewer) => viewers.push(viewer),
            Err(error) => assert_is_of_camera(&error, camera),
        }
    }
    assert_eq!(viewers.len(), 4);
    wait_for_frames(&mut viewers, 25).await;
    assert_eq!(server.counts().sessions_now, 4);
    mux.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_each_that_leaves_makes_room_for_the_next() {
    let server = server(12, 4);
    let mux = mux();
    let camera = |camera: usize| [(server.url(camera), camera)];
    let mut viewers: Vec<Viewer> = Vec::new();
    for first in 0..4 {
        let played = play_one_by_one(&mux, &camera(first)).await;
        viewers.extend(played.into_iter().map(Result::unwrap));
    }
    wait_for_frames(&mut viewers, 5).await;
    for next in 4..12 {
        let refused = play_one_by_one(&mux, &camera(next)).await.remove(0);
        assert_is_of_camera(&refused.err().unwrap(), next);
        wait_for_frames(&mut viewers, 5).await;
        viewers.remove(0).tear_down().await;
        let has_room = server.wait_until(PATIENCE, |counts| counts.sessions_now == 3);
        has_room.unwrap();
        let played = play_one_by_one(&mux, &camera(next)).await;
        viewers.extend(played.into_iter().map(Result::unwrap));
        wait_for_frames(&mut viewers, 5).await;
    }
    mux.shutdown(PATIENCE).await;
}
