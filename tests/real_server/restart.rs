//! A server that starts again on its port while connections to it are idle (faults F01, F39).

use crate::PATIENCE;
use crate::gst_server::GstServer;
use crate::viewer::{mux, open, play_together, start, wait_for_frames, within};

fn server(port: u16) -> GstServer {
    GstServer::builder().mounts(4).port(port).start().unwrap()
}

fn cameras(server: &GstServer) -> Vec<(String, usize)> {
    (0..4).map(|camera| (server.url(camera), camera)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn f39_an_idle_connection_to_a_server_that_started_again_is_replaced() {
    let before = server(0);
    let mux = mux();
    let port = before.port();
    let mut viewers = Vec::new();
    for played in play_together(&mux, &cameras(&before)).await {
        viewers.push(played.unwrap());
    }
    wait_for_frames(&mut viewers, 5).await;
    for viewer in viewers {
        viewer.tear_down().await;
    }
    assert_eq!(before.counts().open, 1, "idle, and kept");
    before.stop();
    let after = server(port);
    // At once: whether the end of the old connection was seen by then is chance.
    let mut viewers = Vec::new();
    for played in play_together(&mux, &cameras(&after)).await {
        viewers.push(played.unwrap());
    }
    wait_for_frames(&mut viewers, 5).await;
    assert_eq!(after.counts().accepted, 1);
    mux.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f01_while_it_is_down_there_is_an_error_and_afterwards_none() {
    let before = server(0);
    let mux = mux();
    let port = before.port();
    let url = before.url(0);
    let mut viewer = within(PATIENCE, start(open(&mux, &url), 0)).await.unwrap();
    wait_for_frames(std::slice::from_mut(&mut viewer), 5).await;
    viewer.tear_down().await;
    before.stop();
    let refused = within(PATIENCE, start(open(&mux, &url), 0)).await;
    let error = refused.err().unwrap();
    assert!(error.is_retryable(), "{error}");
    let after = server(port);
    let mut viewer = within(PATIENCE, start(open(&mux, &url), 0)).await.unwrap();
    wait_for_frames(std::slice::from_mut(&mut viewer), 5).await;
    assert_eq!(after.counts().accepted, 1);
    mux.shutdown(PATIENCE).await;
}
