//! Opening sessions, and looking at what they get.

use std::time::Duration;

use gstrtspmux::mux::{Error, Mux, Packet, PacketKind, Pooling, Ready, Session, SessionOptions};
use tokio::task::JoinHandle;

#[cfg(feature = "plugin")]
use crate::gst_server::{GstServer, clip::Stamp};
use crate::support::{
    mock_server::{Camera, Family, MockServer},
    rtsp::RtpPacket,
};

/// Far more than anything here takes; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Its connections are worked by a thread of the library: a test may block.
pub(crate) fn mux() -> Mux {
    Mux::builder().build()
}

/// Its connections are worked by the runtime of the test, and on a runtime of one thread exactly
/// while the test awaits something. No such test may block.
pub(crate) fn mux_of_this_runtime() -> Mux {
    Mux::builder()
        .runtime(tokio::runtime::Handle::current())
        .build()
}

/// The cameras `/cam/1` to `/cam/n` of a server that shares connections, as gst-rtsp-server does.
pub(crate) fn server(cameras: u32) -> MockServer {
    MockServer::builder()
        .cameras(cameras)
        .family(Family::Gst)
        .start()
}

pub(crate) fn options(url: &str) -> SessionOptions {
    SessionOptions::new(url).unwrap()
}

pub(crate) fn pooled(url: &str, pooling: &Pooling) -> SessionOptions {
    let mut options = options(url);
    options.pooling = pooling.clone();
    options
}

pub(crate) fn camera_url(server: &MockServer, camera: u32) -> String {
    server.url(&format!("/cam/{camera}"))
}

pub(crate) fn with_credentials(url: &str, user: &str, password: &str) -> String {
    url.replacen("rtsp://", &format!("rtsp://{user}:{password}@"), 1)
}

pub(crate) async fn set_up(mux: &Mux, options: SessionOptions) -> Result<Ready, Error> {
    mux.open(options).describe().await?.setup_all().await
}

pub(crate) async fn play(mux: &Mux, options: SessionOptions) -> Result<Session, Error> {
    set_up(mux, options).await?.play().await
}

pub(crate) fn start(mux: &Mux, options: SessionOptions) -> JoinHandle<Result<Session, Error>> {
    let mux = mux.clone();
    tokio::spawn(async move { play(&mux, options).await })
}

pub(crate) async fn play_camera(mux: &Mux, server: &MockServer, camera: u32) -> Session {
    play(mux, options(&camera_url(server, camera)))
        .await
        .unwrap()
}

/// All opened at the same time; the results in the order of the URLs.
pub(crate) async fn try_all(
    mux: &Mux,
    urls: impl IntoIterator<Item = String>,
    pooling: &Pooling,
) -> Vec<Result<Session, Error>> {
    let urls = urls.into_iter();
    let started: Vec<_> = urls.map(|url| start(mux, pooled(&url, pooling))).collect();
    let mut results = Vec::new();
    for result in started {
        results.push(result.await.unwrap());
    }
    results
}

/// Cameras `1..=n` of a mock server.
pub(crate) async fn play_all(
    mux: &Mux,
    server: &MockServer,
    cameras: u32,
    pooling: &Pooling,
) -> Vec<Session> {
    let urls = (1..=cameras).map(|camera| camera_url(server, camera));
    let results = try_all(mux, urls, pooling).await;
    results.into_iter().map(Result::unwrap).collect()
}

pub(crate) async fn within_patience<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

/// The next RTP packet; none at the end of the session.
pub(crate) async fn next_rtp(session: &mut Session) -> Option<Packet> {
    let next = async {
        loop {
            let packet = session.next().await?;
            if packet.kind == PacketKind::Rtp {
                return Some(packet);
            }
        }
    };
    within_patience(next).await
}

/// The number of the camera that the next packet says it comes from, and its sequence number.
pub(crate) async fn next_of_mock(session: &mut Session) -> (u32, u16) {
    let packet = next_rtp(session).await.expect("a packet");
    let sequence = RtpPacket::parse(&packet.payload).unwrap().sequence;
    (Camera::number_of(&packet.payload).unwrap(), sequence)
}

/// Every session gets the packets of its own camera, in the order of `sessions`.
pub(crate) async fn assert_own_media(server: &MockServer, sessions: &mut [Session]) {
    for camera in 1..=sessions.len() {
        server.send_packets(&format!("/cam/{camera}"), 3);
    }
    for (at, session) in sessions.iter_mut().enumerate() {
        for _ in 0..3 {
            assert_eq!(next_of_mock(session).await.0, at as u32 + 1);
        }
    }
}

#[track_caller]
pub(crate) fn assert_clean(server: &MockServer) {
    assert_eq!(server.violations(), Vec::<String>::new());
}

/// Waits, without sleeping, until something is so.
pub(crate) async fn eventually(is_so: impl Fn() -> bool) {
    within_patience(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Lets time pass, and all tasks see it. For a runtime of one thread; the clock goes on afterwards.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    pass_while_stopped(time).await;
    tokio::time::resume();
}

/// The same for a clock that stands still before and after. Nothing may be waited for meanwhile:
/// tokio moves a stopped clock to the next timer when there is nothing to do.
pub(crate) async fn pass_while_stopped(time: Duration) {
    let let_others_run = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    let_others_run().await;
    tokio::time::advance(time).await;
    let_others_run().await;
}

/// Cameras `0..n` of a real server, numbered.
#[cfg(feature = "plugin")]
pub(crate) async fn play_real(
    mux: &Mux,
    server: &GstServer,
    cameras: usize,
    pooling: &Pooling,
) -> Vec<(usize, Session)> {
    let urls = (0..cameras).map(|camera| server.url_with_credentials(camera));
    let results = try_all(mux, urls, pooling).await;
    results
        .into_iter()
        .map(Result::unwrap)
        .enumerate()
        .collect()
}

/// Every session gets `count` frames of its own camera, and none is missing between them. All at the same time: packets that are not taken for long are dropped.
#[cfg(feature = "plugin")]
pub(crate) async fn assert_own_frames(
    sessions: Vec<(usize, Session)>,
    count: usize,
) -> Vec<(usize, Session)> {
    let watch = |(camera, mut session): (usize, Session)| {
        tokio::spawn(async move {
            let mut last: Option<Stamp> = None;
            let mut seen = 0;
            while seen < count {
                let packet = next_rtp(&mut session).await.expect("a packet");
                if packet.discontinuity {
                    last = None;
                }
                let Some(stamp) = Stamp::find(&packet.payload) else {
                    continue;
                };
                assert_eq!(stamp.camera, camera);
                if let Some(last) = last {
                    assert_eq!(stamp.frame, last.frame + 1, "camera {camera}");
                }
                last = Some(stamp);
                seen += 1;
            }
            (camera, session)
        })
    };
    let watching: Vec<_> = sessions.into_iter().map(watch).collect();
    let mut sessions = Vec::new();
    for session in watching {
        sessions.push(session.await.unwrap());
    }
    sessions
}
