//! Whether servers share connections: learned without harm to anything that plays. What is counted
//! is what the *server* accepted and was asked, never our own word.
#![allow(clippy::unwrap_used, reason = "a test binary")]

mod support;

#[path = "sharing/combine.rs"]
mod combine;
#[path = "sharing/families.rs"]
mod families;
#[path = "sharing/pictures.rs"]
mod pictures;

use std::time::Duration;

use gstrtspmux::mux::{
    Error, Mux, MuxEvent, MuxEvents, Opening, PacketKind, Pooling, Session, SessionOptions,
    SharingVerdict,
};
use support::mock_server::{Camera, MockServer};

/// Far more than anything here takes; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn options(server: &MockServer, camera: u32, pooling: &Pooling) -> SessionOptions {
    let mut options = SessionOptions::new(&server.url(&format!("/cam/{camera}"))).unwrap();
    options.pooling = pooling.clone();
    options
}

pub(crate) async fn play(opening: Opening) -> Result<Session, Error> {
    opening.describe().await?.setup_all().await?.play().await
}

/// A camera that comes when others play already.
pub(crate) async fn join(mux: &Mux, server: &MockServer, camera: u32) -> Session {
    let options = options(server, camera, &Pooling::default());
    play(mux.open(options)).await.unwrap()
}

/// Cameras `1..=n`, announced and opened at the same time.
pub(crate) async fn gather(
    mux: &Mux,
    server: &MockServer,
    cameras: u32,
    pooling: &Pooling,
) -> Vec<Result<Session, Error>> {
    let all = (1..=cameras).map(|camera| options(server, camera, pooling));
    let opened: Vec<_> = mux
        .open_many(all.collect())
        .into_iter()
        .map(|opening| tokio::spawn(play(opening)))
        .collect();
    let mut sessions = Vec::new();
    for session in opened {
        sessions.push(session.await.unwrap());
    }
    sessions
}

/// The cameras that play send a packet a second until `done`.
pub(crate) async fn while_sending<T>(server: &MockServer, done: impl Future<Output = T>) -> T {
    let mut pictures = tokio::time::interval(Duration::from_secs(1));
    let mut done = std::pin::pin!(done);
    loop {
        tokio::select! {
            biased;
            result = &mut done => return result,
            _ = pictures.tick() => {
                server.send_packets_to_all(1);
            }
        }
    }
}

/// Every session gets the packets of the camera named beside it, and of no other.
pub(crate) async fn assert_media(server: &MockServer, sessions: &mut [(u32, Session)]) {
    for (camera, _) in sessions.iter() {
        server.send_packets(&format!("/cam/{camera}"), 3);
    }
    for (camera, session) in sessions {
        for _ in 0..3 {
            assert_eq!(next_camera(session).await, Some(*camera));
        }
    }
}

async fn next_camera(session: &mut Session) -> Option<u32> {
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

/// The verdicts told so far, in order.
pub(crate) fn verdicts(events: &mut MuxEvents) -> Vec<SharingVerdict> {
    std::iter::from_fn(|| support::polling::ready(events.next()).flatten())
        .map(|event| match event {
            MuxEvent::Sharing(change) => change.verdict,
            other => panic!("{other:?}"),
        })
        .collect()
}
