//! What a server says on an idle connection (fault F47): the next camera starts on a fresh one.

use std::time::{Duration, Instant};

use gstrtspmux::mux::Mux;

use crate::{
    player::{PATIENCE, camera_url, eventually, mux, next_of_mock, options, play_camera, server},
    support::mock_server::{MockServer, Reaction, Rule, ServerView},
    support::rtsp::{Request, Response},
};

/// A frame on that channel; the session that has left had 0.
fn frame(channel: u8) -> Vec<u8> {
    [&[b'$', channel, 0, 16, 0x80, 96][..], &[0; 14]].concat()
}

fn answer() -> Vec<u8> {
    let answer = Response::new(200).header("CSeq", "900");
    answer.content("application/sdp", "v=0\r\n").to_bytes()
}

fn request() -> Vec<u8> {
    let request = Request::new("OPTIONS", "rtsp://nvr/1").header("CSeq", "5");
    request.to_bytes()
}

/// A mux whose only connection is idle, and its server.
pub(crate) async fn idle() -> (Mux, MockServer) {
    let (mux, server) = (mux(), server(2));
    let session = play_camera(&mux, &server, 1).await;
    session.teardown().await.unwrap();
    assert_eq!(server.accepted(), 1);
    (mux, server)
}

/// What was sent has been read.
async fn until_read(mux: &Mux, before: u64) {
    eventually(|| received(mux) != before).await;
}

/// Bytes that came on its first connection; 0 if that is gone.
fn received(mux: &Mux) -> u64 {
    let stats = mux.stats();
    let connections = stats.servers.first().map(|server| &server.connections);
    let first = connections.and_then(|all| all.first());
    first.map_or(0, |first| first.bytes_received)
}

/// Plays the second camera; gives how long that took.
async fn play_next(mux: &Mux, server: &MockServer) -> Duration {
    let begun = Instant::now();
    let mut session = play_camera(mux, server, 2).await;
    let took = begun.elapsed();
    server.send_packets("/cam/2", 1);
    assert_eq!(next_of_mock(&mut session).await.0, 2);
    took
}

/// Far less than any deadline.
const AT_ONCE: Duration = Duration::from_secs(3);

/// What costs an idle connection its life.
pub(crate) fn unasked() -> impl Iterator<Item = Vec<u8>> {
    let garbage = || b"\xfe\xfe\xfe\xfe".to_vec();
    let whole = [frame(0), frame(100), answer(), request(), garbage()];
    let halves = whole.map(|whole| whole[..whole.len() / 2].to_vec());
    let less = [b"$".to_vec(), b"$\0\0".to_vec(), b"RTSP".to_vec()];
    let whole = [frame(100), answer(), garbage()];
    halves.into_iter().chain(less).chain(whole)
}

/// What may come there.
pub(crate) fn may_come() -> [Vec<u8>; 4] {
    let many = [frame(0), frame(1), request(), frame(0), b"\r\n".to_vec()];
    [frame(0), request(), b"\r\n".to_vec(), many.concat()]
}

#[tokio::test]
async fn f47_a_connection_that_has_said_something_unasked_is_not_used_again() {
    for (bytes, is_read) in unasked().flat_map(|bytes| [(bytes.clone(), true), (bytes, false)]) {
        let (mux, server) = idle().await;
        let before = received(&mux);
        server.send_raw(0, &bytes);
        if is_read {
            until_read(&mux, before).await;
        }
        let took = play_next(&mux, &server).await;
        assert!(took < AT_ONCE, "{bytes:?}: {took:?}");
        assert_eq!(server.accepted(), 2, "{bytes:?}, read before: {is_read}");
        let of_second = server.requests().into_iter().filter(|r| r.connection == 1);
        assert!(
            of_second
                .into_iter()
                .any(|request| request.method == "PLAY")
        );
    }
}

#[tokio::test]
async fn f47_what_may_come_does_not_cost_the_connection() {
    for bytes in may_come() {
        let (mux, server) = idle().await;
        server.send_raw(0, &bytes);
        play_next(&mux, &server).await;
        assert_eq!(server.accepted(), 1, "{bytes:?}");
    }
}

/// Its caller has gone before the server answers.
#[tokio::test]
async fn f47_an_answer_to_a_tombstone_does_not_cost_the_connection() {
    let (mux, server) = idle().await;
    server.add_rule(Rule::new("DESCRIBE", Reaction::Defer).times(1));
    let opening = mux.open(options(&camera_url(&server, 2)));
    let described = tokio::spawn(opening.describe());
    let is_asked = |view: &ServerView| view.count("DESCRIBE") == 2;
    eventually(|| is_asked(&server.view())).await;
    described.abort();
    assert!(described.await.is_err_and(|error| error.is_cancelled()));
    let before = received(&mux);
    server.release();
    until_read(&mux, before).await;
    play_next(&mux, &server).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn f47_garbage_ends_the_idle_connection_before_anyone_comes() {
    let (mux, server) = idle().await;
    server.send_raw(0, b"\xfe\xfe\xfe\xfe");
    assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
    play_next(&mux, &server).await;
    assert_eq!(server.accepted(), 2);
}
