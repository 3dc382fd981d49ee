//! Many cameras of one gst-rtsp-server on one connection.

use crate::PATIENCE;
use crate::gst_server::{self, GstServer};
use crate::viewer::{Played, Seen, Viewer, mux, play_one_by_one, play_together, wait_for_frames};

fn cameras(server: &GstServer, numbers: impl IntoIterator<Item = usize>) -> Vec<(String, usize)> {
    let numbers = numbers.into_iter();
    numbers.map(|number| (server.url(number), number)).collect()
}

fn all(played: Vec<Played>) -> Vec<Viewer> {
    played.into_iter().map(Result::unwrap).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Together,
    OneByOne,
}

async fn sixteen(is_shared: bool, order: Order) {
    let server = GstServer::builder().mounts(16).shared(is_shared);
    let server = server.start().unwrap();
    let mux = mux();
    let cameras = cameras(&server, 0..16);
    let played = match order {
        Order::Together => play_together(&mux, &cameras).await,
        Order::OneByOne => play_one_by_one(&mux, &cameras).await,
    };
    let mut viewers = all(played);
    wait_for_frames(&mut viewers, 30).await;
    for viewer in &viewers {
        assert_eq!(viewer.seen().ssrc, gst_server::ssrc(viewer.camera, 0));
    }
    let counts = server.counts();
    let requests = (counts.describes, counts.setups, counts.plays);
    assert_eq!(requests, (16, 16, 16), "{counts:?}");
    assert_eq!(
        (counts.accepted, counts.sessions_now),
        (1, 16),
        "{counts:?}"
    );
    mux.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_cameras_together_on_one_connection() {
    sixteen(true, Order::Together).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_cameras_one_after_another_on_one_connection() {
    sixteen(true, Order::OneByOne).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_unshared_cameras_together_on_one_connection() {
    sixteen(false, Order::Together).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_unshared_cameras_one_after_another_on_one_connection() {
    sixteen(false, Order::OneByOne).await;
}

/// Two sessions of one camera, which have the same SSRC.
async fn twice_the_same(order: Order) -> Vec<Seen> {
    let server = GstServer::builder().mounts(1).start().unwrap();
    let mux = mux();
    let cameras = cameras(&server, [0, 0]);
    let played = match order {
        Order::Together => play_together(&mux, &cameras).await,
        Order::OneByOne => play_one_by_one(&mux, &cameras).await,
    };
    let mut viewers = all(played);
    wait_for_frames(&mut viewers, 30).await;
    let counts = server.counts();
    assert_eq!((counts.accepted, counts.sessions_now), (1, 2), "{counts:?}");
    let seen: Vec<_> = viewers.iter().map(Viewer::seen).collect();
    assert_eq!(seen[0].ssrc, seen[1].ssrc);
    mux.shutdown(PATIENCE).await;
    seen
}

/// The server keeps the medium it made for a DESCRIBE for the next SETUP only, and makes another one
/// for the second SETUP of two that both come after both DESCRIBEs.
#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_of_one_shared_camera_together_both_get_every_packet() {
    twice_the_same(Order::Together).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_of_one_shared_camera_one_after_another_both_get_every_packet() {
    let seen = twice_the_same(Order::OneByOne).await;
    // Each has its frames without a gap: from the first to the last that both have, they are the same.
    let first = seen.iter().map(|seen| seen.frames[0]).max().unwrap();
    let last = seen.iter().map(|seen| *seen.frames.last().unwrap()).min();
    assert!(last.unwrap() >= first + 20, "{seen:?}");
}

/// The server says `Connection: close` in every answer to TEARDOWN, and does not close.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_said_to_close_and_does_not_goes_on() {
    let server = GstServer::builder().mounts(4).start().unwrap();
    let mux = mux();
    let cameras = cameras(&server, 0..4);
    let mut viewers = all(play_together(&mux, &cameras).await);
    wait_for_frames(&mut viewers, 5).await;
    for again in 0..4 {
        viewers.remove(0).tear_down().await;
        wait_for_frames(&mut viewers, 5).await;
        let played = play_one_by_one(&mux, &cameras[again..=again]).await;
        viewers.extend(all(played));
        wait_for_frames(&mut viewers, 5).await;
    }
    let counts = server.counts();
    let made = (counts.accepted, counts.open, counts.teardowns);
    assert_eq!(made, (1, 1, 4), "{counts:?}");
    // The last one leaves, and the next one comes.
    for viewer in viewers {
        viewer.tear_down().await;
    }
    let mut viewers = all(play_together(&mux, &cameras).await);
    wait_for_frames(&mut viewers, 5).await;
    assert_eq!(server.counts().accepted, 1);
    mux.shutdown(PATIENCE).await;
}
