//! Sessions that play, each read all the time and watched as a whole.

use std::time::Duration;

use gstrtspmux::mux::{Error, Mux, Opening, Packet, PacketKind, Session, SessionOptions};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::PATIENCE;
use crate::gst_server::clip::Stamp;

/// What came of a session so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    last: Option<u16>,
    /// The source of the last packet.
    pub(crate) ssrc: u32,
    /// The numbers of the frames.
    pub(crate) frames: Vec<u64>,
    /// The first thing that was wrong.
    fault: Option<String>,
}

impl Seen {
    fn take(&mut self, camera: usize, packet: &Packet) {
        if packet.kind != PacketKind::Rtp {
            return;
        }
        let header = &packet.payload[..12];
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        self.ssrc = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        if let Some(last) = self.last.replace(sequence)
            && sequence != last.wrapping_add(1)
        {
            self.fail(format!("packet {sequence} came after {last}"));
        }
        let Some(stamp) = Stamp::find(&packet.payload[12..]) else {
            return;
        };
        if stamp.camera != camera {
            self.fail(format!("a frame of camera {}", stamp.camera));
        }
        if let Some(last) = self.frames.last()
            && stamp.frame != last + 1
        {
            self.fail(format!("frame {} came after {last}", stamp.frame));
        }
        self.frames.push(stamp.frame);
    }

    fn fail(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }
}

/// A session that plays, and a task that reads it.
pub(crate) struct Viewer {
    pub(crate) camera: usize,
    /// Of its RTP packets.
    pub(crate) channel: u8,
    seen: watch::Receiver<Seen>,
    leave: oneshot::Sender<()>,
    task: JoinHandle<Session>,
}

impl Viewer {
    /// Plays what `opening` opens, which is the camera of that number.
    pub(crate) async fn play(opening: Opening, camera: usize) -> Result<Self, Error> {
        let ready = opening.describe().await?.setup_all().await?;
        let mut session = ready.play().await?;
        let channel = session.streams()[0].rtp_channel;
        let (sender, seen) = watch::channel(Seen::default());
        let (leave, mut is_told) = oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    _ = &mut is_told => return session,
                    next = session.next() => next,
                };
                let Some(packet) = next else {
                    let reason = session.end_reason();
                    sender.send_modify(|seen| seen.fail(format!("it ended: {reason:?}")));
                    return session;
                };
                sender.send_modify(|seen| seen.take(camera, &packet));
            }
        });
        Ok(Self {
            camera,
            channel,
            seen,
            leave,
            task,
        })
    }

    async fn wait_for_total(&mut self, wanted: usize) {
        let is_enough = |seen: &Seen| seen.fault.is_some() || seen.frames.len() >= wanted;
        let waited = tokio::time::timeout(PATIENCE, self.seen.wait_for(is_enough)).await;
        let is_in_time = waited.map(drop).is_ok();
        let frames = self.seen().frames.len();
        assert!(is_in_time, "camera {}: {frames} frames", self.camera);
    }

    /// What came so far. Nothing was wrong.
    pub(crate) fn seen(&self) -> Seen {
        let seen = self.seen.borrow().clone();
        assert_eq!(seen.fault, None, "camera {}", self.camera);
        seen
    }

    /// Ends it, and waits for the server's answer.
    pub(crate) async fn tear_down(self) {
        self.seen();
        let _ = self.leave.send(());
        let session = self.task.await.unwrap();
        session.teardown().await.unwrap();
    }
}

pub(crate) fn mux() -> Mux {
    gstreamer::init().unwrap();
    Mux::builder()
        .runtime(tokio::runtime::Handle::current())
        .build()
}

pub(crate) fn open(mux: &Mux, url: &str) -> Opening {
    mux.open(SessionOptions::new(url).unwrap())
}

/// What became of an attempt to play.
pub(crate) type Played = Result<Viewer, Error>;

/// An attempt to play that goes on by itself.
pub(crate) fn start(opening: Opening, camera: usize) -> JoinHandle<Played> {
    tokio::spawn(Viewer::play(opening, camera))
}

/// What becomes of it, within this time.
pub(crate) async fn within(limit: Duration, starting: JoinHandle<Played>) -> Played {
    let played = tokio::time::timeout(limit, starting).await;
    played.expect("it plays or fails in time").unwrap()
}

/// Starts cameras together: the URL and the number of each.
pub(crate) async fn play_together(mux: &Mux, cameras: &[(String, usize)]) -> Vec<Played> {
    let options = cameras.iter().map(|(url, _)| SessionOptions::new(url));
    let openings = mux.open_many(options.map(Result::unwrap).collect());
    let camera = cameras.iter().map(|(_, camera)| *camera);
    let starting: Vec<_> = openings.into_iter().zip(camera).collect();
    let starting = starting.into_iter().map(|(o, camera)| start(o, camera));
    let starting: Vec<_> = starting.collect();
    let mut played = Vec::new();
    for starting in starting {
        played.push(within(PATIENCE, starting).await);
    }
    played
}

/// Starts each camera when the one before it plays or has failed.
pub(crate) async fn play_one_by_one(mux: &Mux, cameras: &[(String, usize)]) -> Vec<Played> {
    let mut played = Vec::new();
    for (url, camera) in cameras {
        played.push(within(PATIENCE, start(open(mux, url), *camera)).await);
    }
    played
}

/// All of them get so many frames more than they have now.
pub(crate) async fn wait_for_frames(viewers: &mut [Viewer], count: usize) {
    let total = |viewer: &Viewer| viewer.seen().frames.len() + count;
    let totals: Vec<_> = viewers.iter().map(total).collect();
    for (viewer, total) in viewers.iter_mut().zip(totals) {
        viewer.wait_for_total(total).await;
    }
}
