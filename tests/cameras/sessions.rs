//! Sessions of the library with a real gst-rtsp-server: who plays loses no packet, whatever is tried meanwhile.

use std::sync::Arc;
use std::time::Duration;

use gstrtspmux::mux::{Error, Mux, PacketKind, Session, SessionOptions};

use crate::gst_server::{Gate, GstServer, clip::Stamp};
use crate::{PATIENCE, wall};

/// A session, and what was received on it so far.
struct Camera {
    number: usize,
    session: Session,
    last: Option<u16>,
}

impl Camera {
    async fn play(mux: &Mux, server: &GstServer, number: usize) -> Result<Self, Error> {
        let options = SessionOptions::new(&server.url(number))?;
        let described = mux.open(options).describe().await?;
        let session = described.setup_all().await?.play().await?;
        Ok(Self {
            number,
            session,
            last: None,
        })
    }

    /// So many frames more, each of this camera, without a gap between any two packets.
    async fn take_frames(&mut self, count: usize) {
        let mut frames = 0;
        while frames < count {
            let next = tokio::time::timeout(PATIENCE, self.session.next());
            let packet = next.await.expect("a packet in time");
            let packet = packet.unwrap_or_else(|| panic!("{:?}", self.session.end_reason()));
            if packet.kind != PacketKind::Rtp {
                continue;
            }
            let sequence = u16::from_be_bytes([packet.payload[2], packet.payload[3]]);
            if let Some(last) = self.last.replace(sequence) {
                let lost = sequence.wrapping_sub(last).wrapping_sub(1);
                assert_eq!(lost, 0, "camera {}: packets lost", self.number);
            }
            if let Some(stamp) = Stamp::find(&packet.payload[12..]) {
                assert_eq!(stamp.camera, self.number);
                frames += 1;
            }
        }
    }
}

fn mux() -> Mux {
    Mux::builder()
        .runtime(tokio::runtime::Handle::current())
        .build()
}

async fn play_all(mux: &Mux, server: &GstServer, cameras: &[usize]) -> Vec<Camera> {
    let mut playing = Vec::new();
    for camera in cameras {
        playing.push(Camera::play(mux, server, *camera).await.unwrap());
    }
    playing
}

async fn take_frames(cameras: &mut [Camera], count: usize) {
    for camera in cameras {
        camera.take_frames(count).await;
    }
}

/// Two sessions of one mount: with a shared one both carry the same SSRC.
async fn sessions_of_one_mount(is_shared: bool) {
    wall::init();
    let server = GstServer::builder().mounts(2).shared(is_shared);
    let server = server.start().unwrap();
    let mux = mux();
    let mut cameras = play_all(&mux, &server, &[0, 1, 0, 1]).await;
    take_frames(&mut cameras, 10).await;
    let counts = server.counts();
    let media = if is_shared { 2 } else { 4 };
    assert_eq!(
        (counts.sessions_now, counts.media_now),
        (4, media),
        "{counts:?}"
    );
    assert!(counts.accepted <= 2, "{counts:?}");
    mux.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_shared_mounts_get_all_of_their_own() {
    sessions_of_one_mount(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_unshared_mounts_get_all_of_their_own() {
    sessions_of_one_mount(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_a_full_session_pool_is_the_error_of_the_one_too_many() {
    wall::init();
    let server = GstServer::builder().mounts(4).max_sessions(3);
    let server = server.start().unwrap();
    let mux = mux();
    let mut cameras = play_all(&mux, &server, &[0, 1, 2]).await;
    take_frames(&mut cameras, 2).await;
    let refused = Camera::play(&mux, &server, 3).await.map(|_| ());
    assert_eq!(refused.unwrap_err().status(), Some(503));
    take_frames(&mut cameras, 10).await;
    let left = cameras.remove(0);
    left.session.teardown().await.unwrap();
    let has_room = server.wait_until(PATIENCE, |counts| counts.sessions_now == 2);
    has_room.unwrap();
    cameras.push(Camera::play(&mux, &server, 3).await.unwrap());
    take_frames(&mut cameras, 10).await;
    mux.shutdown(PATIENCE).await;
}

/// The DESCRIBE is held until the others have had enough, standing for the 20 s of a camera that
/// has no picture yet.
#[tokio::test(flavor = "multi_thread")]
async fn f09_a_describe_that_blocks_the_server_costs_the_others_no_packet() {
    wall::init();
    let gate = Arc::<Gate>::default();
    let server = GstServer::builder().mounts(4).held(3, &gate);
    let server = Arc::new(server.start().unwrap());
    let mux = mux();
    let mut cameras = play_all(&mux, &server, &[0, 1, 2]).await;
    take_frames(&mut cameras, 2).await;
    let slow = tokio::spawn({
        let (mux, server) = (mux.clone(), Arc::clone(&server));
        async move { Camera::play(&mux, &server, 3).await }
    });
    let reached = Arc::clone(&gate);
    let reached = tokio::task::spawn_blocking(move || reached.wait_until_reached(PATIENCE));
    assert!(reached.await.unwrap());
    take_frames(&mut cameras, 30).await;
    assert!(!slow.is_finished());
    gate.open();
    let slow = tokio::time::timeout(Duration::from_secs(30), slow).await;
    cameras.push(slow.unwrap().unwrap().unwrap());
    take_frames(&mut cameras, 10).await;
    assert_eq!(
        mux.stats().servers[0].cannot_share,
        None,
        "blocked is no verdict"
    );
    mux.shutdown(PATIENCE).await;
}
