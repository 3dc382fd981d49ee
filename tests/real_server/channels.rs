//! Channels that gst-rtsp-server chooses itself: it does where those asked for are taken (fault F10).

use crate::PATIENCE;
use crate::gst_server::GstServer;
use crate::proxy::proxy;
use crate::viewer::{mux, open, play_together, start, wait_for_frames, within};

/// The client never asks for a pair twice; so what it asks for is changed on the way.
/// Gives the channels of the first four, in order.
async fn with_changed_channels(changes: Vec<(&'static str, &'static str)>) -> Vec<u8> {
    let server = GstServer::builder().mounts(5).start().unwrap();
    let port = proxy(server.port(), changes).await;
    let mux = mux();
    let url = |camera: usize| format!("rtsp://127.0.0.1:{port}/cam/{camera}");
    let cameras: Vec<_> = (0..4).map(|camera| (url(camera), camera)).collect();
    let played = play_together(&mux, &cameras).await;
    let mut viewers: Vec<_> = played.into_iter().map(Result::unwrap).collect();
    wait_for_frames(&mut viewers, 10).await;
    let mut channels: Vec<u8> = viewers.iter().map(|viewer| viewer.channel).collect();
    channels.sort_unstable();
    let starting = start(open(&mux, &url(4)), 4);
    viewers.push(within(PATIENCE, starting).await.unwrap());
    wait_for_frames(&mut viewers, 10).await;
    let counts = server.counts();
    assert_eq!((counts.accepted, counts.sessions_now), (1, 5), "{counts:?}");
    mux.shutdown(PATIENCE).await;
    channels
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_all_ask_for_the_same_channels_and_each_gets_its_own() {
    let same = [
        ("interleaved=0-1", "interleaved=4-5"),
        ("interleaved=2-3", "interleaved=4-5"),
        ("interleaved=6-7", "interleaved=4-5"),
    ];
    assert_eq!(with_changed_channels(same.into()).await, [0, 2, 4, 6]);
}

/// The second one gets what the third one asks for, and so on.
#[tokio::test(flavor = "multi_thread")]
async fn f10_a_pair_merely_asked_for_gives_way_to_a_pair_answered() {
    let shifted = [
        ("interleaved=6-7", "interleaved=8-9"),
        ("interleaved=4-5", "interleaved=6-7"),
        ("interleaved=2-3", "interleaved=4-5"),
    ];
    assert_eq!(with_changed_channels(shifted.into()).await, [0, 4, 6, 8]);
}
