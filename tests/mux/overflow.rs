//! A consumer that takes nothing, on a connection of its own that is to wait for it.

use std::sync::Arc;

use gstrtspmux::mux::{
    ErrorKind, Multiplex, OverflowPolicy, Packet, Pooling, Session, SessionOptions,
};

use crate::{
    player::{PATIENCE, camera_url, mux, play_all, pooled, server, set_up},
    support::mock_server::{Camera, MockServer},
};

/// More than a queue takes.
const PACKETS: u32 = 60_000;
/// What a queue takes, and what is read at once beyond that: buffers grow to twice a chunk of 64 KiB,
/// and packets are 25 bytes long.
const QUEUE: usize = 8_192 + 2 * 64 * 1024 / 25;

fn blocking(server: &MockServer, multiplex: Multiplex) -> SessionOptions {
    let pooling = Pooling {
        multiplex,
        ..Pooling::default()
    };
    let mut options = pooled(&camera_url(server, 1), &pooling);
    options.overflow = OverflowPolicy::Block;
    options
}

/// Sends from a thread of its own, since it has to wait for us.
fn flood(server: &Arc<MockServer>) -> std::thread::JoinHandle<usize> {
    let server = Arc::clone(server);
    std::thread::spawn(move || server.send_packets("/cam/1", PACKETS))
}

async fn wait_until_full(session: &Session) {
    let monitor = session.monitor();
    let filling = async {
        while monitor.stats().streams[0].count.packets < 8_192 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, filling).await.unwrap();
}

async fn next_batch(session: &mut Session) -> Vec<Packet> {
    let mut batch = Vec::new();
    let next = tokio::time::timeout(PATIENCE, session.next_batch(&mut batch));
    assert!(next.await.unwrap(), "{:?}", session.end_reason());
    batch
}

#[tokio::test]
async fn block_makes_the_server_wait_and_loses_nothing() {
    let (mux, server) = (mux(), Arc::new(server(1)));
    let ready = set_up(&mux, blocking(&server, Multiplex::Never)).await;
    let mut session = ready.unwrap().play().await.unwrap();
    let flood = flood(&server);
    wait_until_full(&session).await;
    let first = next_batch(&mut session).await;
    assert!(first.len() <= QUEUE, "{} packets", first.len());
    let mut next = 0;
    let mut batch = first;
    loop {
        for packet in batch {
            assert_eq!(Camera::index_of(&packet.payload), Some(next));
            next += 1;
        }
        if next == PACKETS {
            break;
        }
        batch = next_batch(&mut session).await;
    }
    assert_eq!(session.monitor().stats().streams[0].count.dropped, 0);
    flood.join().unwrap();
}

#[tokio::test]
async fn who_asks_for_something_gets_an_answer_though_the_queue_is_full() {
    let (mux, server) = (mux(), Arc::new(server(1)));
    let ready = set_up(&mux, blocking(&server, Multiplex::Never)).await;
    let session = ready.unwrap().play().await.unwrap();
    let flood = flood(&server);
    wait_until_full(&session).await;
    session.teardown().await.unwrap();
    flood.join().unwrap();
}

#[tokio::test]
async fn block_is_refused_where_others_would_wait_too() {
    let (mux, server) = (mux(), server(1));
    for multiplex in [Multiplex::Auto, Multiplex::Always] {
        let refused = set_up(&mux, blocking(&server, multiplex)).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Options);
        assert!(
            error.to_string().contains("overflow-policy=block"),
            "{error}"
        );
    }
    assert_eq!(server.view().accepted, 0);
}

/// Far more than the sockets hold.
const FLOOD: u32 = 100_000;

#[tokio::test]
async fn f33_who_takes_nothing_is_read_on_and_bounded() {
    let (mux, server) = (mux(), Arc::new(server(4)));
    let mut sessions = play_all(&mux, &server, 4, &Pooling::default()).await;
    let sender = Arc::clone(&server);
    let flood = tokio::task::spawn_blocking(move || sender.send_packets_to_all(FLOOD));
    let sent = tokio::time::timeout(PATIENCE, flood).await.unwrap();
    assert_eq!(sent.unwrap(), 4 * FLOOD as usize);
    for (camera, session) in (1..).zip(&mut sessions) {
        let monitor = session.monitor();
        let reading = async {
            while monitor.stats().streams[0].count.packets < u64::from(FLOOD) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap();
        let waiting = next_batch(session).await.len();
        let stats = &monitor.stats().streams[0];
        assert!(waiting <= 8_192, "{waiting}");
        assert_eq!(stats.count.dropped + waiting as u64, u64::from(FLOOD));
        assert_eq!(stats.count.overflows, 1);
        server.send_packets(&format!("/cam/{camera}"), 1);
        let next = next_batch(session).await;
        assert!(next[0].discontinuity);
        assert_eq!(Camera::index_of(&next[0].payload), Some(FLOOD));
    }
    assert_eq!(server.view().accepted, 1);
}
