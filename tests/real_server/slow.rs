//! Cameras whose DESCRIBE takes long, or fails, between others.
//!
//! gst-rtsp-server holds a DESCRIBE until the camera has a picture, for up to 20 s, and answers
//! nothing else on that connection meanwhile; media flows. Here the test says how long that is.

use std::sync::Arc;
use std::time::Duration;

use gstrtspmux::mux::SessionOptions;
use tokio::task::JoinHandle;

use crate::PATIENCE;
use crate::gst_server::{Gate, GstServer};
use crate::viewer::{
    Played, Viewer, mux, open, play_one_by_one, play_together, start, wait_for_frames, within,
};

/// In which the others have to play while one is slow.
const SOON: Duration = Duration::from_secs(8);

/// With a thread for each connection: what a client can do about it is use another one.
fn server(mounts: usize, slow: usize, gate: &Arc<Gate>) -> GstServer {
    let server = GstServer::builder().mounts(mounts).threads(true);
    server.held(slow, gate).start().unwrap()
}

async fn wait_until_held(gate: &Arc<Gate>) {
    let gate = Arc::clone(gate);
    let held = tokio::task::spawn_blocking(move || gate.wait_until_reached(PATIENCE));
    assert!(held.await.unwrap());
}

/// It has waited all the time; let go, it plays beside the others.
async fn play_slow_one(gate: &Gate, slow: JoinHandle<Played>, viewers: &mut Vec<Viewer>) {
    assert!(!slow.is_finished());
    gate.open();
    viewers.push(within(PATIENCE, slow).await.unwrap());
    wait_for_frames(viewers, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f09_who_starts_after_a_slow_one_does_not_wait_for_it() {
    let gate = Arc::<Gate>::default();
    let server = server(6, 2, &gate);
    let mux = mux();
    let first: Vec<_> = (0..2).map(|camera| (server.url(camera), camera)).collect();
    let played = play_one_by_one(&mux, &first).await;
    let mut viewers: Vec<_> = played.into_iter().map(Result::unwrap).collect();
    wait_for_frames(&mut viewers, 5).await;
    let slow = start(open(&mux, &server.url(2)), 2);
    wait_until_held(&gate).await;
    for camera in 3..6 {
        let starting = start(open(&mux, &server.url(camera)), camera);
        viewers.push(within(SOON, starting).await.unwrap());
        wait_for_frames(&mut viewers, 10).await;
    }
    play_slow_one(&gate, slow, &mut viewers).await;
    mux.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f09_who_starts_together_with_a_slow_one_does_not_wait_for_it() {
    let gate = Arc::<Gate>::default();
    let server = server(8, 2, &gate);
    let mux = mux();
    let options = (0..8).map(|camera| SessionOptions::new(&server.url(camera)).unwrap());
    let openings = mux.open_many(options.collect());
    let starting = openings.into_iter().enumerate();
    let mut starting: Vec<_> = starting.map(|(camera, o)| start(o, camera)).collect();
    let slow = starting.remove(2);
    let mut viewers = Vec::new();
    for starting in starting {
        viewers.push(within(SOON, starting).await.unwrap());
    }
    wait_for_frames(&mut viewers, 10).await;
    wait_until_held(&gate).await;
    play_slow_one(&gate, slow, &mut viewers).await;
    mux.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f25_one_of_sixteen_that_is_not_there_fails_alone() {
    let server = GstServer::builder().mounts(15).start().unwrap();
    let mux = mux();
    let cameras: Vec<_> = (0..16).map(|camera| (server.url(camera), camera)).collect();
    let mut played = play_together(&mux, &cameras).await;
    let error = played.pop().unwrap().err().unwrap();
    assert_eq!(error.status(), Some(404), "{error}");
    assert!(error.camera().unwrap().ends_with("/cam/15"), "{error}");
    let mut viewers: Vec<_> = played.into_iter().map(Result::unwrap).collect();
    wait_for_frames(&mut viewers, 25).await;
    // And once more, while they play.
    let played = play_one_by_one(&mux, &cameras[15..]).await.remove(0);
    assert_eq!(played.err().unwrap().status(), Some(404));
    wait_for_frames(&mut viewers, 10).await;
    mux.shutdown(PATIENCE).await;
}
