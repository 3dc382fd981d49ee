//! The pool of connections, against a mock server and a real gst-rtsp-server. What is counted is
//! what the *server* accepted, never our own word.
#![allow(clippy::unwrap_used, reason = "a test binary")]

mod support;

#[path = "pool/connection_pool.rs"]
mod connection_pool;
#[path = "pool/pool_concurrent.rs"]
mod pool_concurrent;
#[path = "pool/pool_reuse.rs"]
mod pool_reuse;

use std::time::Duration;

use gstrtspmux::mux::{Error, Mux, PacketKind, Pooling, Session, SessionOptions};
use support::mock_server::{Camera, MockServer};

/// Far more than anything here takes; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn mux() -> Mux {
    Mux::builder().build()
}

/// The cameras `/cam/1` to `/cam/n` of a server that shares connections, as gst-rtsp-server does.
pub(crate) fn server(cameras: u32) -> MockServer {
    MockServer::builder().cameras(cameras).start()
}

pub(crate) fn options(url: &str, pooling: Pooling) -> SessionOptions {
    let mut options = SessionOptions::new(url).unwrap();
    options.pooling = pooling;
    options
}

pub(crate) async fn play(mux: &Mux, options: SessionOptions) -> Result<Session, Error> {
    mux.open(options)
        .describe()
        .await?
        .setup_all()
        .await?
        .play()
        .await
}

pub(crate) async fn play_camera(mux: &Mux, server: &MockServer, camera: u32) -> Session {
    let url = server.url(&format!("/cam/{camera}"));
    play(mux, options(&url, Pooling::default())).await.unwrap()
}

/// Cameras `1..=n`, all opened at the same time.
pub(crate) async fn play_all(
    mux: &Mux,
    server: &MockServer,
    cameras: u32,
    pooling: &Pooling,
) -> Vec<Session> {
    let opened: Vec<_> = (1..=cameras)
        .map(|camera| {
            let options = options(&server.url(&format!("/cam/{camera}")), pooling.clone());
            let mux = mux.clone();
            tokio::spawn(async move { play(&mux, options).await })
        })
        .collect();
    let mut sessions = Vec::new();
    for session in opened {
        sessions.push(session.await.unwrap().unwrap());
    }
    sessions
}

/// The next RTP packet, with the number of the camera it says it comes from.
pub(crate) async fn next_camera(session: &mut Session) -> Option<u32> {
    let next = async {
        loop {
            let packet = session.next().await?;
            if packet.kind == PacketKind::Rtp {
                return Camera::number_of(&packet.payload);
            }
        }
    };
    tokio::time::timeout(PATIENCE, next)
        .await
        .expect("a packet in time")
}

/// Every session gets the packets of its own camera, in the order of `sessions`.
pub(crate) async fn assert_own_media(server: &MockServer, sessions: &mut [Session]) {
    for camera in 1..=sessions.len() {
        server.send_packets(&format!("/cam/{camera}"), 3);
    }
    for (at, session) in sessions.iter_mut().enumerate() {
        for _ in 0..3 {
            assert_eq!(next_camera(session).await, Some(at as u32 + 1));
        }
    }
}

#[track_caller]
pub(crate) fn assert_clean(server: &MockServer) {
    assert_eq!(server.violations(), Vec::<String>::new());
}

/// Waits, without sleeping, until something is so.
pub(crate) async fn eventually(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it never came to be so");
}
